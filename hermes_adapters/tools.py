"""Plain Python functions as tools, without any framework."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.messages import ToolCall, ToolResult, ToolSpec


class _WithoutTitles(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class LocalTool:
    """A function that a model may call.

    Attributes:
        spec: What the model is shown.
        function: What is called; its type hints are enforced.
    """

    spec: ToolSpec
    function: Callable[..., Any]
    _arguments: type[BaseModel]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> LocalTool:
        """Read a tool from a function's name, docstring and type hints.

        Raises:
            InvalidRequestError: The signature cannot be put into a JSON schema.
        """
        name = function.__name__
        try:
            hints = get_type_hints(function, include_extras=True)
            fields: dict[str, Any] = {}
            for parameter in inspect.signature(function).parameters.values():
                if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                    raise InvalidRequestError(f"tool {name!r}: parameter {parameter.name!r} has no name to call it by")
                default = ... if parameter.default is parameter.empty else parameter.default
                # Behind an alias, a parameter may have a name that pydantic keeps for itself.
                fields[f"argument_{len(fields)}"] = (
                    hints.get(parameter.name, Any),
                    Field(default, alias=parameter.name),
                )
            model: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
            schema = model.model_json_schema(schema_generator=_WithoutTitles)
        except (NameError, TypeError, PydanticUserError) as error:
            raise InvalidRequestError(f"tool {name!r}: its signature cannot be described: {error}") from error
        schema.pop("title", None)
        schema.pop("additionalProperties", None)
        return cls(ToolSpec(name, inspect.getdoc(function) or "", schema), function, model)

    def run(self, call: ToolCall) -> ToolResult:
        """Call the function; whatever it raises becomes the result that the model is shown."""
        try:
            returned = self.function(**self._checked(call.arguments))
        except ValidationError as error:
            reasons = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors())
            return ToolResult(call.id, f"Error: {reasons}", call.name, is_error=True)
        except Exception as error:  # noqa: BLE001 - a tool may raise anything; the model is told and may try again
            return ToolResult(call.id, f"Error: {type(error).__name__}: {error}", call.name, is_error=True)
        return ToolResult(call.id, returned, call.name)

    def _checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        checked = self._arguments.model_validate(dict(arguments))
        return {
            str(field.alias): getattr(checked, name)
            for name, field in self._arguments.model_fields.items()
            if name in checked.model_fields_set
        }


def load_tool(reference: str) -> LocalTool:
    """Import the function that `module:function` names, from the working directory too.

    Raises:
        InvalidRequestError: There is no such module or function.
    """
    module_name, separator, function_name = reference.partition(":")
    if not separator or not module_name or not function_name:
        raise InvalidRequestError(f"a tool is given as module:function, got {reference!r}")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except ImportError as error:
        raise InvalidRequestError(f"tool {reference!r}: {error}") from error
    except AttributeError as error:
        raise InvalidRequestError(f"tool {reference!r}: {module_name} has no {function_name!r}") from error
    if not inspect.isfunction(function):
        raise InvalidRequestError(f"tool {reference!r} is no function but a {type(function).__name__}")
    return LocalTool.of(function)
