"""Real servers as processes of their own, on a free port of this machine."""

from __future__ import annotations

import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress


@contextmanager
def serve(command: Callable[[int], Sequence[object]], ready: str) -> Iterator[str]:
    """Run `command(port)` until the block ends; yield its address once it answers a GET of the path `ready`.

    Raises:
        RuntimeError: It ended before; with the last lines that it wrote.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    words = [str(word) for word in command(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said: list[str] = []
        has_ended = threading.Event()

        def listen() -> None:
            said.extend(process.stdout)
            has_ended.set()

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            while not has_ended.wait(0.5):
                with suppress(OSError), urllib.request.urlopen(address + ready, timeout=30):
                    break
            else:
                raise RuntimeError("the server ended:\n" + "".join(said[-40:]))
            yield address
        finally:
            process.terminate()
            listener.join()
