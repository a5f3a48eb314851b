"""How a command ends, whatever happens: a line that says why, and a status. Imports nothing that is slow."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from hermes_runtime.errors import HermesError, chained

DEBUG = "HERMES_DEBUG"
FAILED = 1
INTERRUPTED = 128 + 2  # as shells count a death by SIGINT
BROKEN_PIPE = 128 + 13  # and by SIGPIPE
_LONGEST_DETAIL = 300


def run_to_end(command: Callable[[], Any]) -> NoReturn:
    """Run a command and end the process with its status, never with a traceback."""
    _mend_streams()
    sys.unraisablehook = _heed_interrupt
    try:
        command()
        status = 0
    except BaseException as error:  # noqa: BLE001 - the last place that can turn it into a sentence
        status = ended_by(error)
    # From here on, a second Ctrl-C ends the process at once and without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        sys.stdout.flush()
    except OSError as error:
        status = ended_by(error)
        _write_nowhere()
    if status == INTERRUPTED:
        _leave_at_once()
    sys.exit(status)


def ended_by(error: BaseException) -> int:
    """Say in a line on stderr what ended a command, unless it was said; return the exit status.

    With `HERMES_DEBUG` in the environment, the traceback of an error is shown above it.
    """
    if _is_reader_gone(error):
        _write_nowhere()
        return BROKEN_PIPE
    if any(isinstance(link, KeyboardInterrupt) for link in chained(error)):
        _say("Interrupted.")
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED if error.code else 0
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    from rich.console import Console  # noqa: PLC0415 - slow, as above
    from rich.text import Text  # noqa: PLC0415

    from hermes_adapters.transcript import printable  # noqa: PLC0415

    message = str(error)
    if not isinstance(error, HermesError):
        words = " ".join(message.split())
        message = f"{words[:_LONGEST_DETAIL]} (unexpected; {DEBUG}=1 shows where)"
    line = Text.assemble((type(error).__name__, "bold red"), (f": {printable(message)}", "red"))
    with suppress(OSError, SystemExit):
        Console(stderr=True).print(line, soft_wrap=True)
    return FAILED


def _is_reader_gone(error: BaseException) -> bool:
    # Rich and typer make a SystemExit of it. Another error may have met a broken pipe elsewhere, such as to a server.
    links = chained(error) if isinstance(error, SystemExit) else (error,)
    return any(isinstance(link, BrokenPipeError) for link in links)


def _mend_streams() -> None:
    """Give the process all three streams, if some were closed, and let no character be too much for them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - for good
        getattr(sys, name).reconfigure(errors="replace")


def _write_nowhere() -> None:
    """Let what is still buffered go nowhere, instead of failing once more when Python ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _heed_interrupt(ignored: sys.UnraisableHookArgs) -> None:
    """End at a Ctrl-C that came where Python cannot raise, such as in a finalizer."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        _say("Interrupted.")
        _leave_at_once()
    sys.__unraisablehook__(ignored)


def _leave_at_once() -> NoReturn:
    """End without waiting for threads: some may still download or compute."""
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(INTERRUPTED)


def _say(line: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
