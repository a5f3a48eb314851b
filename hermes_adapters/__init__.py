"""The `hermes-adapters` command: a demo of both adapters, a chat, and a check of this machine."""

from typing import NoReturn

from hermes_adapters.ending import run_to_end

__all__ = ["main"]


def main() -> NoReturn:
    """Run the `hermes-adapters` command line; the process ends with its status."""
    run_to_end(_run)


def _run() -> None:
    from hermes_adapters.app import app  # noqa: PLC0415 - Ctrl-C may come before all is imported

    app()
