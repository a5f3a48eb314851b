"""The options of a model as fields of a framework's class: hosted names are read, and assignments are checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import BaseModel, Field, ValidationError

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.options.hosted import Place, names_server, own_options


@contextmanager
def validation_errors() -> Iterator[None]:
    """Raise what a class's fields refuse as this project's error: each argument and what is wrong with it, a line each.

    Raises:
        InvalidRequestError: In place of pydantic's ValidationError.
    """
    try:
        yield
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False):
            where = ".".join(map(str, problem["loc"]))
            lines.append(f"{where}: {problem['msg']}" if where else problem["msg"])
        raise InvalidRequestError("\n".join(lines)) from error


class OptionFields(BaseModel):
    """A base beside a framework's own, for the class whose fields are the options.

    An object knows own names only: what was given under a hosted name stands in the field of the same meaning.
    """

    _framework: ClassVar[type[BaseModel]] = BaseModel  # its fields are no options of the model
    _of_calls: ClassVar[frozenset[str]] = frozenset()  # all options that a call takes

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign to a field, checked as when the object was made; hosted names are read.

        Raises:
            InvalidRequestError: An unknown name, or a value that cannot be honored; the object stays as it was.
        """
        fields = type(self).model_fields
        is_known = name in fields or hasattr(type(self), name) or name.startswith("_")
        if is_known and name not in self._option_names():
            super().__setattr__(name, value)
            return
        is_unset = value is None and name in fields
        options = {name: None} if is_unset else self._own_options({name: value}, is_remote=names_server(vars(self)))
        for own, own_value in options.items():
            twin = self.model_copy()
            with validation_errors():
                twin.__pydantic_validator__.validate_assignment(twin, own, own_value)
            twin._check()  # noqa: SLF001 - an object of this class
            super().__setattr__(own, getattr(twin, own))

    def _check(self) -> None:
        """Refuse what cannot be honored and what no validator of the class refuses."""

    @classmethod
    def _option_names(cls) -> frozenset[str]:
        return frozenset(cls.model_fields) - frozenset(cls._framework.model_fields)

    @classmethod
    def _own_options(cls, given: Mapping[str, Any], *, is_remote: bool | None = None) -> dict[str, Any]:
        """Return what is given to the constructor, by its own names."""
        aliases = {field.alias for field in cls.model_fields.values() if field.alias}
        place = Place.constructor(cls.model_fields.keys() | aliases, cls._of_calls)
        return own_options(given, place, is_remote=names_server(given) if is_remote is None else is_remote)

    def _call_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is given to a call, by its own names."""
        place = Place.call(self._of_calls, self._option_names())
        return own_options(given, place, is_remote=names_server(vars(self)))


class GenerationFields(OptionFields):
    """The options of a generation as fields, for the classes of all frameworks; see `GenerationOptions`."""

    temperature: float | None = Field(default=None, description="0 is greedy; unset is the checkpoint's own.")
    top_p: float | None = Field(default=None, description="Nucleus mass in (0, 1].")
    top_k: int | None = Field(default=None, description="Number of candidates; 0 keeps all.")
    min_p: float | None = Field(
        default=None, description="Least probability relative to the best candidate's, in [0, 1]."
    )
    repetition_penalty: float | None = Field(default=None, description="Above 0; 1 is none.")
    frequency_penalty: float | None = Field(
        default=None, description="-2 to 2; makes a token rarer with each time that it was generated."
    )
    presence_penalty: float | None = Field(
        default=None, description="-2 to 2; makes a token rarer once it was generated."
    )
    logit_bias: dict[int, float] | None = Field(
        default=None, description="Token ids, and what is added to their scores, -100 to 100."
    )
    min_tokens: int | None = Field(
        default=None, description="Least number of tokens before the answer may end; a grammar may end it sooner."
    )
    max_tokens: int | None = Field(
        default=None, description="Upper bound on the tokens of an answer; unset is what is left of the context window."
    )
    stop: list[str] | str | None = Field(
        default=None, description="Strings that end the answer; they are no part of it."
    )
    seed: int | None = Field(default=None, description="Makes sampling reproducible.")
    timeout: float | None = Field(default=None, description="Seconds for one answer, time in the queue included.")
    logprobs: bool | None = Field(default=None, description="Report the log-probability of every token.")
    top_logprobs: int | None = Field(
        default=None, description="Alternatives to report for every token, 0 to 20; turns logprobs on."
    )
