"""The commands and their options."""

from __future__ import annotations

import asyncio
import sys
import time
from importlib import metadata
from typing import Annotated, Any

import typer
from rich.console import Console

from hermes_adapters.demo import AGENTS, load_agent, run_demo
from hermes_adapters.ending import ended_by
from hermes_runtime.checkpoint.hub import TINY_HERMES
from hermes_runtime.engines.base import Engine
from hermes_runtime.engines.registry import load_engine
from hermes_runtime.options.generation import GenerationOptions, SamplingParams

HERMES_2_PRO = "FoxEngineAi/Hermes-2-Pro-Mistral-7B_AWQ-GEMM_4_128_True"


class _Commands(typer.core.TyperGroup):
    """Ends with a line and a status: the message of an error says what to do, a traceback would not."""

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            return super().main(*args, **options)
        except BaseException as error:  # noqa: BLE001 - Ctrl-C and a reader that left are told too
            status = ended_by(error)
        sys.exit(status)


app = typer.Typer(
    name="hermes-adapters",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[
    str, typer.Option("--model", "-m", help="A hub id, a local folder, or tiny-hermes, the embedded toy model.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; the best one by default.")]
Kernel = Annotated[str | None, typer.Option(help="The int4 kernel; the best one for the device by default.")]
ContextWindow = Annotated[int | None, typer.Option(help="Prompt and answer together, in tokens.")]


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"hermes-adapters {metadata.version('hermes-adapters')}")
        raise typer.Exit


@app.callback()
def hermes(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Local Hermes models for LangChain and LlamaIndex agents."""


@app.command()
def demo(
    model: Model = TINY_HERMES,
    framework: Annotated[
        list[str] | None, typer.Option(help=f"{' or '.join(AGENTS)}; both by default. May be repeated.")
    ] = None,
) -> None:
    """Run a LangChain agent and a LlamaIndex agent and check that both call their tools rightly."""
    console = Console(highlight=False)
    agents = [load_agent(name) for name in framework or AGENTS]
    _load(console, model)
    if not asyncio.run(run_demo(model, agents, console)):
        raise typer.Exit(1)


@app.command()
def chat(
    model: Model = TINY_HERMES,
    tools: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE:FUNCTION", help="A Python function that the model may call; more may follow."),
    ] = None,
    more_tools: Annotated[list[str] | None, typer.Argument(metavar="MODULE:FUNCTION", help="More of them.")] = None,
    system: Annotated[str | None, typer.Option(help="The system prompt.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 always takes the likeliest token.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus mass.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The longest answer, in tokens.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes sampling reproducible.")] = None,
    dialect: Annotated[str, typer.Option(help="How the model is told of tools.")] = "card",
    device: Device = None,
    kernel: Kernel = None,
    context_window: ContextWindow = None,
) -> None:
    """Chat with a model that may call your Python functions. Reads questions from a pipe too."""
    # Imported on first use: parser and constraint take time that `hermes-adapters --help` must not cost.
    from hermes_adapters.chat import HELP, Chat  # noqa: PLC0415
    from hermes_adapters.tools import load_tool  # noqa: PLC0415
    from hermes_runtime.messages import System  # noqa: PLC0415
    from hermes_runtime.turn import TurnRequest  # noqa: PLC0415

    console = Console(highlight=False)
    options = TurnRequest(
        messages=(System(system),) if system else (),
        dialect=dialect,
        options=GenerationOptions(
            SamplingParams(temperature=temperature, top_p=top_p), max_tokens=max_tokens, seed=seed
        ),
    )
    local_tools = [load_tool(reference) for reference in (*(tools or ()), *(more_tools or ()))]
    engine = _load(console, model, device=device, kernel=kernel, context_window=context_window)
    console.print(HELP, style="dim")
    if model == TINY_HERMES:
        console.print(f"{TINY_HERMES} is a toy; a real model is, for example, --model {HERMES_2_PRO}", style="dim")
    all_answered = Chat(engine, tools=local_tools, options=options, console=console).run()
    # At a terminal the person has seen the error; a script sees the exit status alone.
    if not all_answered and not sys.stdin.isatty():
        raise typer.Exit(1)


@app.command()
def doctor(
    model: Model = TINY_HERMES,
    device: Device = None,
    kernel: Kernel = None,
    base_url: Annotated[
        str | None, typer.Option(help="Check this completion server instead, such as http://localhost:8000/v1.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(envvar="HERMES_API_KEY", help="Sent to the server.")] = None,
    served_model: Annotated[
        str | None, typer.Option(help="What the server calls the model, where it has several.")
    ] = None,
) -> None:
    """Check versions, devices, kernels, and whether a model fits into memory; or what a server can do."""
    from hermes_adapters.doctor import diagnose, diagnose_server  # noqa: PLC0415 - so does torch, and more

    console = Console(highlight=False)
    if base_url is not None:
        diagnose_server(model, base_url, api_key, served_model, console)
        return
    if not diagnose(model, device, kernel, console):
        raise typer.Exit(1)
    if model == TINY_HERMES:
        console.print(f"A real model is checked with --model {HERMES_2_PRO}", style="dim")


def _load(console: Console, model: str, **options: Any) -> Engine:
    console.print(f"Loading {model}", style="dim")
    started = time.perf_counter()
    engine = load_engine(model, **options)
    seconds = time.perf_counter() - started
    console.print(f"Loaded in {seconds:.1f} s; the context window holds {engine.context_window} tokens.", style="dim")
    return engine
