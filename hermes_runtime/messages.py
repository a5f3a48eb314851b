"""The framework-neutral vocabulary: messages, tools, tool calls."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from hermes_runtime.errors import InvalidRequestError, ToolChoiceError
from hermes_runtime.problems import Problem
from hermes_runtime.schema.edits import without_null_keywords

EMPTY_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def new_call_id() -> str:
    """Return a tool-call id that never repeats."""
    return f"call_{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model is shown it.

    Attributes:
        name: Non-empty name, exactly as the model must write it.
        description: Free text; may be empty.
        parameters: JSON Schema of the arguments object; keywords that are null are left out.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: dict(EMPTY_PARAMETERS))

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise InvalidRequestError(f"a tool needs a non-empty name, got {self.name!r}")
        if not isinstance(self.parameters, Mapping):
            raise InvalidRequestError(
                f"tool {self.name!r}: parameters must be a JSON Schema object, got {type(self.parameters).__name__}"
            )
        object.__setattr__(self, "parameters", without_null_keywords(self.parameters))

    @classmethod
    def coerce(cls, tool: ToolLike) -> ToolSpec:
        """Accept a `ToolSpec`, an OpenAI-style tool dict or a bare `{"name", "description", "parameters"}` dict.

        Raises:
            InvalidRequestError: The value is none of these, or has no name.
        """
        if isinstance(tool, ToolSpec):
            return tool
        if not isinstance(tool, Mapping):
            raise InvalidRequestError(f"a tool must be a ToolSpec or a dict, got {type(tool).__name__}")
        function = tool.get("function", tool)
        if not isinstance(function, Mapping) or "name" not in function:
            raise InvalidRequestError(
                f"a tool dict needs a name, or a 'function' with one; got keys {sorted(map(str, tool))}"
            )
        parameters = function.get("parameters")
        return cls(
            name=function["name"],
            description=function.get("description") or "",
            parameters=dict(EMPTY_PARAMETERS) if parameters is None else parameters,
        )

    def as_openai(self) -> dict[str, Any]:
        """Return the OpenAI-style dict, which is also the form the Hermes prompt shows."""
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": dict(self.parameters)},
        }


ToolLike = ToolSpec | Mapping[str, Any]


def coerce_tools(tools: Sequence[ToolLike]) -> tuple[ToolSpec, ...]:
    """Coerce every tool and refuse two of one name.

    Raises:
        InvalidRequestError: A tool is unusable, or a name occurs twice.
    """
    specs = tuple(ToolSpec.coerce(tool) for tool in tools)
    seen: set[str] = set()
    for spec in specs:
        if spec.name in seen:
            raise InvalidRequestError(f"two tools are called {spec.name!r}; a model could not tell them apart")
        seen.add(spec.name)
    return specs


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A well-formed call.

    Attributes:
        id: The id that the tool's result names.
        name: The tool's name.
        arguments: The arguments.
        problems: What the call breaks in the tool's schema.
    """

    id: str
    name: str
    arguments: dict[str, Any]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class InvalidToolCall:
    """A call that must never run: malformed, truncated or without a name.

    Attributes:
        id: A fresh id, so that frameworks can answer the call with its error.
        name: The tool's name where the text still shows one.
        arguments: The raw text of the call.
        problem: What is wrong with the call; the reason is malformed, truncated, missing_name or bad_arguments, or
            foreign in a message that other software made.
    """

    id: str
    name: str | None
    arguments: str
    problem: Problem

    @property
    def error(self) -> str:
        """The text of the problem, `reason: detail`, as frameworks' messages tell it."""
        return str(self.problem)


Outcome = ToolCall | InvalidToolCall
"""What was read of a call."""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which calls a turn may or must make.

    Attributes:
        mode: `auto` (free), `none` (no call), `required` (at least one call).
        names: With `auto` or `required`, restrict the calls to these tools; empty means all of them.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    names: tuple[str, ...] = ()

    @classmethod
    def coerce(cls, choice: ToolChoiceLike, tools: Sequence[ToolSpec] = ()) -> ToolChoice:
        """Accept every spelling in use: None, bool, auto/none/any/required, a tool's name, names, either vendor's dict.

        OpenAI's `allowed_tools` restricts the calls to some of the tools, whether a call is required or not.

        Raises:
            ToolChoiceError: An unknown name or form, or a call is required and no tool was given.
        """
        known = {tool.name for tool in tools}
        if isinstance(choice, ToolChoice):
            resolved = choice
        elif choice is None or choice is False or choice == "" or (choice == "auto" and "auto" not in known):
            resolved = cls()
        elif choice is True or (choice in ("any", "required") and choice not in known):
            resolved = cls("required")
        elif choice == "none" and "none" not in known:
            resolved = cls("none")
        elif isinstance(choice, str):
            resolved = cls("required", (choice,))
        elif isinstance(choice, Mapping):
            resolved = cls._from_mapping(choice)
        elif isinstance(choice, Sequence) and choice and all(isinstance(name, str) for name in choice):
            resolved = cls("required", tuple(choice))
        else:
            raise ToolChoiceError(f"tool_choice has no known form: {choice!r}")
        unknown = [name for name in resolved.names if name not in known]
        if unknown:
            raise ToolChoiceError(f"tool_choice names {unknown[0]!r}, but the tools are {sorted(known)}")
        if resolved.mode == "required" and not known:
            raise ToolChoiceError("tool_choice requires a call, but no tools were given")
        return resolved

    @classmethod
    def _from_mapping(cls, choice: Mapping[str, Any]) -> Self:
        kind = choice.get("type")
        function = choice.get("function")
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            return cls("required", (function["name"],))
        if kind in ("tool", "function") and isinstance(choice.get("name"), str):
            return cls("required", (choice["name"],))
        if kind == "auto":
            return cls()
        if kind == "none":
            return cls("none")
        if kind in ("any", "required"):
            return cls("required")
        if kind == "allowed_tools":
            return cls._from_allowed(choice.get("allowed_tools", choice))
        raise ToolChoiceError(f"tool_choice has no known form: {dict(choice)!r}")

    @classmethod
    def _from_allowed(cls, allowed: Any) -> Self:
        match allowed:
            case {"mode": "auto" | "required" as mode, "tools": [*tools]} if tools:
                functions = [tool.get("function", tool) if isinstance(tool, Mapping) else {} for tool in tools]
                names = [function["name"] for function in functions if isinstance(function.get("name"), str)]
                if len(names) == len(tools):
                    return cls(mode, tuple(names))
        raise ToolChoiceError(f"allowed_tools needs a mode, 'auto' or 'required', and functions, got {allowed!r}")


ToolChoiceLike = ToolChoice | str | bool | Mapping[str, Any] | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """The tools of a turn and what is to be done with them, brought into form once.

    Attributes:
        tools: All that were given.
        choice: Which of them may or must be called.
    """

    tools: tuple[ToolSpec, ...] = ()
    choice: ToolChoice = field(default_factory=ToolChoice)

    @classmethod
    def of(cls, tools: Sequence[ToolLike], choice: ToolChoiceLike) -> Self:
        """Bring tools and a choice among them into form.

        Raises:
            InvalidRequestError: See `coerce_tools`.
            ToolChoiceError: See `ToolChoice.coerce`.
        """
        specs = coerce_tools(tools)
        return cls(specs, ToolChoice.coerce(choice, specs))

    @property
    def shown(self) -> tuple[ToolSpec, ...]:
        """The tools that the model is told of: all, unless it may call none."""
        return () if self.choice.mode == "none" else self.tools

    @property
    def callable(self) -> tuple[ToolSpec, ...]:
        """The tools that the model may call."""
        names = self.choice.names
        return tuple(tool for tool in self.shown if not names or tool.name in names)


@dataclass(frozen=True, slots=True)
class System:
    """Instructions.

    Those at the beginning of a conversation become one turn, together with the tools; a later one is a turn of its own
    where it stands, or after the results of the calls before it.
    """

    text: str


@dataclass(frozen=True, slots=True)
class User:
    """What the user said."""

    text: str


@dataclass(frozen=True, slots=True)
class Assistant:
    """What the model said.

    Attributes:
        text: Free text, before the calls.
        calls: Well-formed calls, in order.
        invalid_calls: Calls that never ran; rendered as the raw text the model wrote.
        token_ids: The ids the model generated for this turn, replayed verbatim where given.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    invalid_calls: tuple[InvalidToolCall, ...] = ()
    token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned.

    Attributes:
        call_id: Id of the call it answers.
        content: Text, or any JSON value.
        name: The tool's name; looked up by `call_id` where absent.
        is_error: The tool failed and `content` says how.
    """

    call_id: str
    content: Any
    name: str | None = None
    is_error: bool = False


Message = System | User | Assistant | ToolResult
MessageLike = Message | Mapping[str, Any]
