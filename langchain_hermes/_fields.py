"""The options of ChatHermes, and what follows from them alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.model_profile import ModelProfile
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, model_validator

from hermes_runtime._version import __version__
from hermes_runtime.engines.base import Engine
from hermes_runtime.engines.registry import load_engine, loaded_engine
from hermes_runtime.options.fields import GenerationFields
from hermes_runtime.options.generation import OPTION_NAMES
from hermes_runtime.options.hosted import names_server
from hermes_runtime.turn.request import checked_options
from langchain_hermes._errors import made
from langchain_hermes._options import BESIDE_OPTIONS, OF_CALLS, OF_MODELS
from langchain_hermes._profile import profile_of
from langchain_hermes._provider import PROVIDER


class HermesOptions(GenerationFields, BaseChatModel):
    """A chat model's options: checked when it is made and when they are assigned, without loading anything.

    Options of hosted models' classes are taken too; an object has none but its own.
    """

    _framework: ClassVar[type[BaseModel]] = BaseChatModel
    _of_calls: ClassVar[frozenset[str]] = OF_CALLS

    model: str
    """A hub id, a local folder, or `"tiny-hermes"`, the embedded toy checkpoint."""
    engine: str = "local"
    """What computes: `"local"` or `"vllm"`, both in this process; or `"server"`, which `base_url` chooses by itself."""
    base_url: str | None = None
    """Address of a completion server, such as `"http://localhost:8000/v1"`."""
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    """Sent to the server at `base_url`. Without one it has no effect, so that a hosted model can be swapped by its name
    alone: nothing leaves the machine."""
    engine_options: dict[str, Any] | None = Field(default=None, repr=False)
    """What the engine takes beside the options here; see `hermes_runtime.load_engine`."""
    dialect: str = "card"
    """How the model is told of tools: `card`, `json_args_first`, `name_first` or `scratch_pad`."""
    max_retries: int | None = None
    """How often a request is submitted again when the engine failed before its first output; None is 0 in this process
    and 2 for a server. Bad input, timeouts and answers that have begun are never retried."""
    device: str | None = None
    """Where the weights live; None is the engine's choice."""
    kernel: str | None = None
    """Which int4 kernel multiplies; None is the engine's choice."""
    context_window: int | None = None
    """Prompt and answer together, in tokens; None is what the checkpoint allows."""
    constrained: bool = True
    """Whether a grammar makes malformed calls and answers off the schema impossible."""
    max_repairs: int = 0
    """How often the model is shown a call that is malformed or breaks its schema, and asked again."""
    streaming: bool = False
    """`True` streams under `invoke` too; an explicit `False` makes `stream` yield one whole message."""

    _own_profile: ModelProfile | None = PrivateAttr(default=None)

    model_config = ConfigDict(extra="forbid")

    if not TYPE_CHECKING:  # type checkers read the arguments off the fields

        def __init__(self, **options: Any) -> None:
            with made():
                super().__init__(**self._own_options(options))

        def __setattr__(self, name: str, value: Any) -> None:
            with made():
                super().__setattr__(name, value)

    def _call_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        beside = {name: value for name, value in given.items() if name in BESIDE_OPTIONS}
        options = {name: value for name, value in given.items() if name not in BESIDE_OPTIONS}
        return {**super()._call_options(options), **beside}

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        checked_options(self._own)
        loaded_engine(**self._engine_options(self.model, self.max_retries))
        return self

    @model_validator(mode="after")
    def _set_hermes_version(self) -> Self:
        self._add_version("langchain-hermes", __version__)
        return self

    def _resolve_model_profile(self) -> ModelProfile:
        engine_options = self._engine_options(self.model, self.max_retries)
        self._own_profile = profile_of(engine_options, constrained=self.constrained, dialect=self.dialect)
        return self._own_profile

    def _refresh_profile(self) -> None:
        """Correct the profile by the engine, now that it is loaded; one that the user gave stays."""
        if self.profile == self._own_profile:
            self.profile = self._resolve_model_profile()

    @property
    def model_name(self) -> str:
        """The model, under the name that some middleware reads."""
        return self.model

    @property
    def _own(self) -> dict[str, Any]:
        """The options that a call may give otherwise."""
        return {name: getattr(self, name) for name in OF_MODELS}

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        """Everything that changes an answer: the key of LangChain's cache."""
        params = {name: getattr(self, name) for name in _IDENTIFYING}
        if self.engine_options and "headers" in self.engine_options:  # keys stand there; tracers and caches see this
            params["engine_options"] = {k: v for k, v in self.engine_options.items() if k != "headers"}
        return params

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """Return what LangChain's cache tells models apart by; it knows nothing of what None means here."""
        given = {name: value for name, value in kwargs.items() if value is not None}
        own = [self.stop] if isinstance(self.stop, str) else self.stop
        return super()._get_llm_string(own if stop is None else stop, **given)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = PROVIDER
        if stop is None and self.stop:
            params["ls_stop"] = [self.stop] if isinstance(self.stop, str) else self.stop
        return params

    @property
    def _is_remote(self) -> bool:
        return names_server(vars(self))

    def _engine_options(self, model: str, max_retries: int | None) -> dict[str, Any]:
        options = {"model": model, **{name: getattr(self, name) for name in _OF_ENGINE}}
        if not self._is_remote:
            return options
        return {**options, "api_key": self.api_key and self.api_key.get_secret_value(), "max_retries": max_retries}

    def _load_engine(self) -> Engine:
        engine = load_engine(**self._engine_options(self.model, self.max_retries))
        self._refresh_profile()
        return engine


_OF_ENGINE = ("engine", "base_url", "device", "kernel", "context_window", "engine_options")
_IDENTIFYING = (
    "model",
    *_OF_ENGINE,
    "dialect",
    *(name for name in OPTION_NAMES if name != "timeout"),
    "constrained",
    "max_repairs",
    "output_version",
)
