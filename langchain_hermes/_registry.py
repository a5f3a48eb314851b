"""Makes the model known to `init_chat_model`, which has no public way to add a provider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_hermes._provider import PROVIDER


def register_provider() -> None:
    """Let `init_chat_model("hermes:<model>")` and `create_agent("hermes:<model>", ...)` make a `ChatHermes`.

    Raises:
        ImportError: `langchain` is not installed.
        RuntimeError: The installed `langchain` keeps its providers elsewhere; pass a `ChatHermes` object instead.
    """
    from langchain.chat_models import base  # noqa: PLC0415 - an optional package, and a slow import

    providers = getattr(base, "_BUILTIN_PROVIDERS", None)
    if not isinstance(providers, dict):
        raise RuntimeError(  # noqa: TRY004 - not the caller's argument is wrong
            "this version of langchain cannot be taught a provider; pass ChatHermes(model=...) itself instead of a name"
        )
    providers[PROVIDER] = ("langchain_hermes", "ChatHermes", _make)


def _make(cls: Callable[..., Any], **options: Any) -> Any:
    return cls(**options)
