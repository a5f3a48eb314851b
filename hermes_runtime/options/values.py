"""Values of hosted models' options, brought into the form of the own ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from hermes_runtime.errors import InvalidRequestError

_VENDORS = ("openai.com", "openai.azure.com", "anthropic.com", "ollama.com")
_VENDOR_HEADERS = ("anthropic-", "openai-")


def asks_nothing(value: Any) -> bool:
    """Whether a value is 0, False or empty."""
    return isinstance(value, bool | int | float | str | Mapping | Sequence) and not value


def is_one(value: Any) -> bool:
    """Whether a value is the number 1."""
    return isinstance(value, int) and value == 1


def no_bound(value: Any) -> Any:
    """Return None for -1 and -2, by which a number is said to be as large as it can be."""
    return None if isinstance(value, int) and value in (-1, -2) else value


def listed(name: str, value: Any) -> list[Any]:
    """Return a value that holds several, as a list.

    Raises:
        InvalidRequestError: It holds none.
    """
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise InvalidRequestError(f"{name} must be a list, got {value!r}")
    return list(value)


def stop_strings(value: Any) -> list[Any]:
    """Return the strings that end an answer, of one, of several or of None.

    Raises:
        InvalidRequestError: It is none of these.
    """
    return [value] if isinstance(value, str) else listed("stop", value or ())


def seconds(value: Any) -> Any:
    """Return the seconds that an answer may take, of a number, of httpx's tuple or of its `Timeout`.

    Those two bound the parts of an exchange; the one that the answer has to keep is the second, reading.
    """
    if isinstance(value, tuple | list) and len(value) > 1:
        return value[1]
    if hasattr(value, "connect") and hasattr(value, "read"):
        return value.read
    return value


def address(value: Any) -> Any:
    """Return a server's address.

    Raises:
        InvalidRequestError: It is a vendor's: a leftover of the model before, which would send it the conversations.
    """
    try:
        host = urlsplit(value).hostname or ""
    except (ValueError, AttributeError, TypeError):  # no address at all: the engine says so
        return value
    if any(host == vendor or host.endswith(f".{vendor}") for vendor in _VENDORS):
        raise InvalidRequestError(
            f"base_url={value!r} is the address of a vendor that has no Hermes model, and prompts would leave this "
            "machine; leave it out to compute in this process, or give the address of a completion server of yours"
        )
    return value


def without_vendor_headers(value: Any) -> dict[str, Any]:
    """Return headers without those that switch on what only a vendor's servers have.

    Raises:
        InvalidRequestError: These are no headers.
    """
    if not isinstance(value, Mapping):
        raise InvalidRequestError(f"headers must be a dict, got {type(value).__name__}")
    return {name: text for name, text in value.items() if not str(name).lower().startswith(_VENDOR_HEADERS)}


def call_choice(value: Any) -> dict[str, Any]:
    """Return the options that a tool choice of any vendor stands for: the choice, and whether calls may be parallel."""
    if not isinstance(value, Mapping):
        return {} if value == "" else {"tool_choice": value}
    choice = {key: inner for key, inner in value.items() if key != "disable_parallel_tool_use"}
    name = choice.get("name")
    options: dict[str, Any] = {"tool_choice": name if choice.keys() == {"name"} else choice}
    if value.get("disable_parallel_tool_use"):
        options["parallel_tool_calls"] = False
    return options
