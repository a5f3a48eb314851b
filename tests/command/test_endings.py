"""However a command of `hermes` ends: a line that says why on stderr, a status that a script can read, no traceback."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from hermes_adapters import app as app_module
from hermes_adapters.app import app
from hermes_runtime.weights.kernels import vnni
from tests.support.fake_hub import GOOD, FakeHub, HubModel, use_hub
from tests.support.places import ROOT

PATIENCE = 120  # seconds until a process that should have ended fails the test
COMMANDS = {
    "chat": ["chat"],
    "demo": ["demo", "--framework", "langchain"],
    "doctor": ["doctor", "--device", "cpu"],
    "doctor of a server": ["doctor", "--base-url", "http://127.0.0.1:9/v1"],
}


# Every command and everything that stands between it and its model


def not_offered(hub: FakeHub, monkeypatch: Any, cache: Path) -> str:
    return "bad/none"


def gated(hub: FakeHub, monkeypatch: Any, cache: Path) -> str:
    return "bad/gated"


def down(hub: FakeHub, monkeypatch: Any, cache: Path) -> str:
    return "bad/down"


def silent(hub: FakeHub, monkeypatch: Any, cache: Path) -> str:
    return "bad/silent"


def unreachable(hub: FakeHub, monkeypatch: Any, cache: Path) -> str:
    use_hub(monkeypatch, "http://127.0.0.1:9", cache)
    return GOOD


def offline(hub: FakeHub, monkeypatch: Any, cache: Path) -> str:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return GOOD


def no_right_to_write(hub: FakeHub, monkeypatch: Any, cache: Path) -> str:
    cache.write_text("a file, which not even root can write folders to")
    return GOOD


def no_home(hub: FakeHub, monkeypatch: Any, cache: Path) -> str:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "~/.cache/huggingface/hub")
    return GOOD


def folder_of_nothing(hub: FakeHub, monkeypatch: Any, cache: Path) -> str:
    cache.mkdir()
    return str(cache)


def folder_cut_off(hub: FakeHub, monkeypatch: Any, cache: Path) -> str:
    cache.mkdir()
    (cache / "config.json").write_text('{"model_type": "mis')
    return str(cache)


WAYS = [
    (not_offered, "no such model on the hub"),
    (gated, "accept its licence"),
    (down, "fails with status 503"),
    (silent, "no answer within 1 s"),
    (unreachable, "check the network"),
    (offline, "HF_HUB_OFFLINE is set"),
    (no_right_to_write, "cannot be written"),
    (no_home, "set HF_HOME"),
    (folder_of_nothing, "has no config.json"),
    (folder_cut_off, "config.json cannot be read"),
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("break_it", "says"), WAYS)
def test_what_stands_in_the_way_is_one_line_and_status_1(command, break_it, says, fake_hub, monkeypatch, tmp_path):
    monkeypatch.setattr(app_module, "load_agent", lambda name: name)
    model = break_it(fake_hub, monkeypatch, tmp_path / "cache")
    result = CliRunner().invoke(app, [*COMMANDS[command], "--model", model])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(("ModelNotFoundError: ", "CheckpointError: "))
    assert says in line


def test_doctor_downloads_nothing(fake_hub):
    result = CliRunner().invoke(app, ["doctor", "--device", "cpu", "--model", GOOD])
    assert result.exit_code == 0, result.output
    assert "not on this disk yet; the first use downloads 0.00 GB" in result.output
    assert fake_hub.files_sent() == []


def test_an_error_that_nobody_foresaw_is_a_line_too_and_shown_whole_on_request(monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        error = KeyError("of a library\nfar below")
        raise error from error  # a loop, which must not be followed for ever

    monkeypatch.setattr(app_module, "load_engine", fail)
    result = CliRunner().invoke(app, ["chat"])
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "KeyError: 'of a library\\nfar below' (unexpected; HERMES_DEBUG=1 shows where)"
    ]
    monkeypatch.setenv("HERMES_DEBUG", "1")
    result = CliRunner().invoke(app, ["chat"])
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "in fail" in result.stderr


def test_the_demo_names_a_framework_that_cannot_be_imported(monkeypatch):
    def fail(_: str) -> None:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("importlib.import_module", fail)
    result = CliRunner().invoke(app, ["demo", "--framework", "llama-index"])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "llama-index cannot be imported here: could not determine the home directory" in line
    assert "--framework langchain" in line


# As processes

DOUBLES = """
    import asyncio, sys, time
    from types import SimpleNamespace
    from hermes_adapters import app, main
    from hermes_adapters.scenarios import Said

    class Agent:
        NAME, TITLE = "Slow", "slow"

        async def ask(self, *_):
            yield Said("Once upon a time")
            await asyncio.sleep(600)

    app.load_engine = lambda *_, **__: SimpleNamespace(context_window=100)
    app.load_agent = lambda _: Agent()
"""
SLOW_IMPORT = """
    import sys, time

    class SlowImport:
        def find_spec(self, name, *_):
            if name == {module!r}:
                print("importing", flush=True)
                time.sleep(600)

    sys.meta_path.insert(0, SlowImport())
    from hermes_adapters import main
"""
PLAIN = "from hermes_adapters import main"
DOWNLOAD = """
    from hermes_adapters.ending import run_to_end
    from hermes_runtime.checkpoint.hub import find_folder

    def main():
        run_to_end(lambda: find_folder("stalls/model"))
"""


def python(code: str, *arguments: str) -> list[str]:
    hears = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # in the background of a shell too
    )
    return [sys.executable, "-c", f"{hears}\n{textwrap.dedent(code)}\nmain()\n", *arguments]


def environment(**changes: str) -> dict[str, str]:
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    kept = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "0", **changes}


def finished(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    options.setdefault("env", environment())
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, **options)


class Running:
    """A process that is talked to and interrupted."""

    def __init__(self, command: list[str], **options: Any) -> None:
        options.setdefault("env", environment())
        options.setdefault("stdin", subprocess.PIPE)
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def wait_for(self, text: str) -> None:
        """Read on until the text was written, be it a prompt without a line's end."""
        assert self.process.stdout is not None
        seen = b""
        while text.encode() not in seen:
            part = os.read(self.process.stdout.fileno(), 1000)
            if not part:
                pytest.fail(f"ended without {text!r}: {seen!r} {self.end()}")
            seen += part

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Return the status and what was said on stderr."""
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


@pytest.fixture
def running() -> Iterator[Any]:
    started: list[Running] = []

    def start(command: list[str], **options: Any) -> Running:
        started.append(Running(command, **options))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


def test_the_readmes_doctor_without_a_network_is_one_line():
    model = app_module.HERMES_2_PRO
    closed = environment(HF_ENDPOINT="http://127.0.0.1:9", HF_HOME="/none/cache")
    done = finished(python(PLAIN, "doctor", "--device", "cpu", "--model", model), env=closed)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ModelNotFoundError: there is no folder {model!r} here, it is not in the cache /none")
    assert "the hub http://127.0.0.1:9 cannot be reached" in line


@pytest.mark.parametrize("module", ["hermes_adapters.app", "typer", "hermes_runtime.turn", "torch"])
def test_ctrl_c_while_it_is_imported(module, running):
    hermes = running(python(SLOW_IMPORT.format(module=module), "chat"))
    hermes.wait_for("importing")
    hermes.interrupt()
    assert hermes.end() == (130, "Interrupted.\n")


def test_ctrl_c_during_a_download_ends_it_at_once_and_leaves_no_half_file(served_hub, running, tmp_path):
    served_hub.models["stalls/model"] = HubModel(act="stall")
    served_hub.stalled.clear()
    env = environment(HF_ENDPOINT=served_hub.address, HF_HOME=str(tmp_path))
    download = running(python(DOWNLOAD), env=env)
    assert served_hub.stalled.wait(PATIENCE)
    download.interrupt()
    status, said = download.end()
    assert status == 130
    assert said.splitlines()[-1].endswith("Interrupted.")
    assert "Traceback" not in said
    assert not [path for path in tmp_path.rglob("*") if "incomplete" in path.name]


def test_ctrl_c_during_the_demo(running):
    demo = running(python(DOUBLES, "demo", "--framework", "langchain"))
    demo.wait_for("you")
    demo.interrupt()
    assert demo.end() == (130, "Interrupted.\n")


def test_ctrl_c_while_a_chat_waits_for_a_pipe_ends_it(running):
    chat = running(python(DOUBLES, "chat"))
    chat.wait_for("real model")
    chat.interrupt()
    assert chat.end() == (130, "Interrupted.\n")


def test_ctrl_c_at_the_prompt_of_a_terminal_says_how_to_leave(running):
    terminal, other_end = pty.openpty()
    chat = running(python(DOUBLES, "chat"), stdin=other_end)
    os.close(other_end)
    chat.wait_for("you     ")
    output = chat.process.stdout
    chat.interrupt()
    while not select.select([output], [], [], 1)[0]:
        chat.interrupt()  # Python misses one that comes between the prompt and the reading
    chat.wait_for("/quit or Ctrl-D ends the chat.")
    os.write(terminal, b"/quit\n")
    assert chat.end() == (0, "")
    os.close(terminal)


@pytest.mark.parametrize("arguments", [["--help"], ["chat"]])
def test_a_reader_that_left_ends_it_without_a_word(arguments):
    read, write = os.pipe()
    os.close(read)
    command = python(DOUBLES, *arguments)
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=subprocess.PIPE,
        env=environment(),
        timeout=PATIENCE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


FULL = pytest.param(">/dev/full", 1, marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it"))


@pytest.mark.parametrize(("closed", "status"), [("<&-", 0), (">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), FULL])
def test_streams_that_are_closed_or_full(closed, status):
    done = finished(["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *python(DOUBLES, "chat")])
    assert done.returncode == status
    assert len(done.stderr.splitlines()) == (1 if status else 0), done.stderr


def test_characters_that_a_stream_does_not_know_are_replaced():
    env = environment(PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    done = finished(python(DOUBLES, "chat", "--system", "ä"), env=env)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wrong_option_is_status_2():
    done = finished(python(PLAIN, "chat", "--colour", "blue"))
    assert done.returncode == 2
    assert "No such option" in done.stderr
    assert "Traceback" not in done.stderr


# A container that runs as a number: no HOME, no entry in /etc/passwd, nothing to write to


def as_nobody(command: list[str]) -> list[str]:
    """Run under an id that no user has; it may read everything, and write what everybody may."""
    setpriv = shutil.which("setpriv")
    if os.getuid() != 0 or setpriv is None:
        pytest.skip("only root, with setpriv, can become an id without a passwd entry")
    reads_all = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return [setpriv, "--reuid=54321", "--regid=54321", "--clear-groups", *reads_all, *command]


def bare(**settings: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **settings}


def test_without_a_home_or_a_name_the_embedded_model_answers_and_ctrl_c_ends_it(running):
    chat = running(as_nobody(python(PLAIN, "chat")), env=bare(), cwd="/")
    chat.say("Hello")
    chat.wait_for("hermes ")
    chat.say("/what")
    chat.wait_for("/quit ends it")  # the answer is over; Ctrl-C would only have stopped it
    chat.interrupt()
    assert chat.end() == (130, "Interrupted.\n")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "there is no home folder to download to; set HF_HOME"),
        ({"HF_HOME": "/etc/hermes"}, "the cache /etc/hermes/hub cannot be written (/etc); set HF_HOME"),
        ({"HOME": "/etc"}, "the cache /etc/.cache/huggingface/hub cannot be written (/etc"),
    ],
)
def test_without_a_home_or_rights_a_download_says_what_to_set(settings, says, served_hub):
    served_hub.models[GOOD] = HubModel()
    find = f"""
        from hermes_adapters.ending import run_to_end
        from hermes_runtime.checkpoint.hub import find_folder

        def main():
            run_to_end(lambda: find_folder({GOOD!r}))
    """
    done = finished(as_nobody(python(find)), env=bare(HF_ENDPOINT=served_hub.address, **settings), cwd="/")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert says in line


COMPILES = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64" or not (shutil.which("gcc") or shutil.which("cc")),
    reason="the kernel is compiled on x86-64 Linux with a C compiler",
)


@COMPILES
def test_without_a_home_the_kernel_is_compiled_for_this_process_alone():
    code = """
        import json, os, tempfile
        from hermes_runtime.weights.kernels import vnni

        def main():
            before = set(os.listdir(tempfile.gettempdir()))
            library = vnni._load_compiled()
            left = [name for name in set(os.listdir(tempfile.gettempdir())) - before if name.startswith("hermes-")]
            print(json.dumps([hasattr(library, "hermes_int4_product"), left]))
    """
    done = finished(as_nobody(python(code)), env=bare(), cwd="/")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, []]


@COMPILES
@pytest.mark.parametrize("cache", ["", "/dev/null/x", "kept"])
def test_the_kernel_loads_whatever_the_cache_is_like(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache) if cache == "kept" else cache)
    monkeypatch.chdir(tmp_path)
    assert hasattr(vnni._load_compiled(), "hermes_int4_pack")
    kept = [path.name for path in tmp_path.rglob("*.so")]
    assert len(kept) == (cache == "kept")
    assert not (tmp_path / "~").exists()
