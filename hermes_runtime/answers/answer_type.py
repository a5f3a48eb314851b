"""What an answer, or the arguments of a call, must be: a JSON Schema, and the Python value that its JSON stands for.

Both adapters bring every form of a schema into this one, and read every answer by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from reprlib import Repr
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError
from typing_extensions import is_typeddict

from hermes_runtime.answers.json_answer import parse_json
from hermes_runtime.answers.python_types import adapter_of
from hermes_runtime.errors import HermesError, SchemaError
from hermes_runtime.literals.scanner import NOTHING
from hermes_runtime.messages import ToolSpec
from hermes_runtime.problems import joined
from hermes_runtime.schema.edits import in_object, with_plain_root, without_null_keywords, without_titles
from hermes_runtime.schema.validation import check_schema, value_problems

_ACCEPTED = (
    "a pydantic class, a TypedDict, a dataclass, an Enum or another type that pydantic knows (list[A], A | B, Literal, "
    "dict[str, int]), a JSON Schema, an OpenAI function, or a response_format of the type 'json_schema' or "
    "'json_object'"
)
# None of these stands at the top of an OpenAI function dict, and one of them at the top of every schema worth the name.
_KEYWORDS = frozenset((
    "type", "properties", "required", "additionalProperties", "patternProperties", "items", "prefixItems", "$ref",
    "anyOf", "oneOf", "allOf", "enum", "const",
))  # fmt: skip
_MEMBER = "value"
_SHORT = Repr()  # bears a broken __repr__ too
_SHORT.maxother = _SHORT.maxstring = 200


class UnreadableAnswerError(Exception):
    """An answer holds no value, or none of the type; adapters raise their framework's own error for it."""


@dataclass(frozen=True, slots=True, eq=False)
class AnswerType:
    """What a value must be.

    Attributes:
        described: What `of` made this from; None for any JSON value.
        schema: The JSON Schema of the value, null keywords left out; an empty one means any JSON object, None any JSON
            value.
        adapter: Makes the Python value of JSON; None leaves JSON values as they are.
        name: What a response format calls it, else the schema's title, else `answer`.
    """

    described: Any = None
    schema: Mapping[str, Any] | None = None
    adapter: TypeAdapter[Any] | None = None
    name: str = "answer"

    @classmethod
    def of(cls, described: Any) -> Self:
        """Read a schema of any form.

        Args:
            described: A type (a class of pydantic 1 or 2, a TypedDict, dataclass or Enum, or a form of `typing` such as
                `list[A]`, `A | B`, `Literal`, `Annotated`), a JSON Schema, an OpenAI function dict with or without its
                frame, OpenAI's `json_schema` or `json_object` response format, in the Responses API's flat form too;
                None for any JSON value.

        Raises:
            SchemaError: None of these, or no usable schema.
        """
        if described is None:
            return cls()
        adapter, name = None, None
        if isinstance(described, Mapping):
            schema, name = _schema_in(described)
        else:
            try:
                adapter = adapter_of(described)
                schema = with_plain_root(adapter.json_schema())
            except Exception as error:  # a type may run any code of its own while it is read
                raise refused(described, error) from error
        try:
            schema = without_null_keywords(schema)
            check_schema(schema, where="its schema")
        except SchemaError as error:
            raise refused(described, error) from error
        names = (text for text in (name, schema.get("title"), "answer") if isinstance(text, str) and text.strip())
        return cls(described, schema, adapter, next(names))

    def __reduce__(self) -> tuple[Callable[[Any], Self], tuple[Any]]:
        """Pickle by what it was made of: validators do not travel."""
        return type(self).of, (self.described,)

    def __str__(self) -> str:
        return self.described.__name__ if isinstance(self.described, type) else _SHORT.repr(self.described)

    @property
    def tool(self) -> ToolSpec:
        """The tool whose arguments are the value. Arguments are an object: any other value is their one member."""
        schema = self._plain_schema
        description = schema.pop("description", "")
        parameters = in_object(schema, _MEMBER) if self._is_member else {**schema, "type": "object"}
        return ToolSpec(self.name, description if isinstance(description, str) else "", without_titles(parameters))

    def in_arguments(self, arguments: Any) -> Any:
        """Return the JSON value in the arguments of `tool`, whole or partial; `NOTHING` where they hold none."""
        if not self._is_member:
            return arguments
        return arguments.get(_MEMBER, NOTHING) if isinstance(arguments, Mapping) else NOTHING

    @property
    def _is_member(self) -> bool:
        schema = self._plain_schema
        return bool(schema) and schema.get("type", "object" if "properties" in schema else None) != "object"

    @property
    def _plain_schema(self) -> dict[str, Any]:
        return with_plain_root(dict(self.schema or {}))

    def read(self, text: str) -> Any:
        """Return the value in an answer; see `parse_json` for where it may stand.

        Raises:
            UnreadableAnswerError: The answer holds no value, or none of the type.
        """
        answer = parse_json(text, self._rule)
        if any(problem.leaves_no_value for problem in answer.problems):
            raise UnreadableAnswerError(joined(answer.problems))
        return self.value_of(answer.value)

    def value_of(self, value: Any) -> Any:
        """Return what a JSON value stands for.

        Raises:
            UnreadableAnswerError: The value breaks the schema, or the type refuses it.
        """
        if value is NOTHING:
            raise UnreadableAnswerError(f"the arguments have no {_MEMBER!r}")
        if self.adapter is None:
            problems = () if self._rule is None else value_problems(value, self._rule)
            if problems:
                raise UnreadableAnswerError(joined(problems))
            return value
        try:
            # As JSON: strict classes take a date from its text there.
            return self.adapter.validate_json(json.dumps(value))
        except ValidationError as error:
            raise UnreadableAnswerError(str(error)) from error

    def part_of(self, value: Any) -> Any:
        """Return what a JSON value that is still being written stands for so far; `NOTHING` where that is unknown.

        JSON and TypedDicts show at once, other objects as soon as the type accepts them, lists without an item that it
        does not accept yet. Values that are no containers come as a whole, at the end.
        """
        if not isinstance(value, dict | list):
            return NOTHING
        if self.adapter is None or (is_typeddict(self.described) and isinstance(value, dict)):
            return value
        for shown in (value, value[:-1]) if isinstance(value, list) and value else (value,):
            try:
                return self.value_of(shown)
            except UnreadableAnswerError:
                continue
        return NOTHING

    @property
    def _rule(self) -> Mapping[str, Any] | None:
        return {"type": "object"} if self.schema == {} else self.schema


def response_schema(
    response_format: Any, read: Callable[[Any], AnswerType] = AnswerType.of
) -> Mapping[str, Any] | None:
    """Return the JSON Schema that an answer must follow: an empty one means any JSON object, None plain text.

    Args:
        response_format: OpenAI's `{"type": "text"}`, None, or whatever `read` takes.
        read: Reads a schema of any form; a framework may know more of them.

    Raises:
        SchemaError: None of these.
    """
    is_text = isinstance(response_format, Mapping) and response_format.get("type") == "text"
    return None if is_text else read(response_format).schema


def refused(described: Any, why: Exception | str) -> SchemaError:
    """Return the error of what is no schema."""
    reason = " ".join(str(getattr(why, "message", why)).split())  # pydantic's without the address of its pages
    return SchemaError(f"{_SHORT.repr(described)} is no schema: {reason}; give {_ACCEPTED}")


def _schema_in(given: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
    """Return the schema that a dict is or holds, and the name beside it."""
    kind = given.get("type")
    if kind == "json_object" or not given:
        return {}, None
    if kind == "json_schema":
        # The Responses API has no inner dict.
        inner = given.get("json_schema", given)
        if not isinstance(inner, Mapping) or not isinstance(inner.get("schema"), Mapping):
            raise refused(given, "a response_format of the type 'json_schema' needs a schema")
        return inner["schema"], inner.get("name")
    if "function" in given or kind == "function" or ("name" in given and "parameters" in given):
        try:
            tool = ToolSpec.coerce(given)
        except HermesError as error:
            raise refused(given, error) from error
        told = {"title": tool.name, "description": tool.description} if tool.description else {"title": tool.name}
        return {**told, **tool.parameters}, tool.name
    if kind == "text" or not given.keys() & _KEYWORDS:
        raise refused(given, "it has no keyword of JSON Schema")
    return given, None
