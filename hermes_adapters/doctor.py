"""Says whether this machine can run a model, and what to install where it cannot."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from importlib.metadata import version as installed_version

import psutil
import torch
from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hermes_runtime.checkpoint.folder import read_checkpoint
from hermes_runtime.checkpoint.hub import find_local_folder, weigh_download
from hermes_runtime.engines.server.engine import ServerEngine
from hermes_runtime.errors import HermesError
from hermes_runtime.weights.kernels.table import KERNELS, choose_kernel
from hermes_runtime.weights.loader import choose_device
from hermes_runtime.weights.memory import free_bytes, needed_bytes

DISTRIBUTION = "hermes-adapters"
_GB = 1e9
_PEAK_SHARE = 1.3  # memory at the peak of loading, by the size of the files; measured: 1.26 with kernel vnni
_GRAMMAR_REMARKS = {
    "lark": "Lark: all that is asked of calls and answers is kept",
    "gbnf": "GBNF: patterns, formats and bounds of numbers are checked afterwards; regex is refused",
    None: "answers are checked afterwards, and asked for again within max_repairs; regex is refused",
}
_EXTRAS = ("langchain", "llama-index", "autoawq", "gptqmodel", "vllm")


def diagnose(model: str, device: str | None, kernel: str | None, console: Console) -> bool:
    """Print what was found; return whether the model can be run.

    Raises:
        InvalidRequestError: The device or the kernel is unknown.
        ModelNotFoundError: There is no such model, or it could not be downloaded.
        CheckpointError: Its files are damaged, or of a kind that is not read.
    """
    where = choose_device(device)
    packages_fit = _print_packages(console)
    _print_machine(console, where)
    _print_kernels(console, where)
    console.print()
    fits = _print_fit(console, model, where, kernel)
    return packages_fit and fits


def diagnose_server(model: str, base_url: str, api_key: str | None, served_model: str | None, console: Console) -> None:
    """Print what a completion server can do, found out by trying, and what that means for a user.

    Raises:
        HermesError: The address, the model or the server cannot be used.
    """
    engine = ServerEngine(model, base_url=base_url, api_key=api_key, max_retries=0, served_model=served_model)
    try:
        profile = engine.profile
        version = f" {profile.version}" if profile.version else ""
        console.print(f"{base_url}: {profile.kind}{version}, model {profile.model!r}", soft_wrap=True)
        table = _table("ability", "", "what that means")
        in_text = "" if profile.takes_ids else "sent as text; control tokens in content are broken up"
        out_text = "" if profile.tells_ids else "text is read; the next prompt may reuse less of the cache"
        for ability, has_it, meaning in (
            ("prompts as token ids", profile.takes_ids, in_text),
            ("generated token ids", profile.tells_ids, out_text),
            ("grammar", profile.grammar is not None, _GRAMMAR_REMARKS[profile.grammar_language]),
            ("log-probabilities", profile.tells_logprobs, "" if profile.tells_logprobs else "logprobs are refused"),
        ):
            table.add_row(ability, _mark(is_good=has_it), Text(meaning, style="dim"))
        console.print(table)
        stated = "" if profile.context_window else " (the server does not say; this is the checkpoint's)"
        console.print(f"The context window holds {engine.context_window} tokens{stated}.", soft_wrap=True)
    finally:
        engine.close()


def _print_packages(console: Console) -> bool:
    table = _table("package", "installed", "supported", "")
    table.add_row("python", platform.python_version(), ">=3.11", _mark(is_good=True))
    try:
        requirements = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError as error:
        raise HermesError(f"{DISTRIBUTION} itself is not installed; in its checkout, run: pip install .") from error
    needed = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    all_fit = True
    for requirement in needed:
        all_fit = _add_package(table, requirement, None) and all_fit
    for extra in _EXTRAS:
        for requirement in requirements:
            if requirement not in needed and requirement.marker and requirement.marker.evaluate({"extra": extra}):
                _add_package(table, requirement, extra)
    console.print(table)
    return all_fit


def _add_package(table: Table, requirement: Requirement, extra: str | None) -> bool:
    """Add a row; return whether the installed version is a supported one."""
    try:
        version = installed_version(requirement.name)
    except metadata.PackageNotFoundError:
        wanted = f"{DISTRIBUTION}[{extra}]" if extra else f"{requirement.name}{requirement.specifier}"
        advice = f"pip install '{wanted}'"
        missing = Text(f"optional: {advice}", style="dim") if extra else Text(f"missing: {advice}", style="red")
        table.add_row(requirement.name, "-", str(requirement.specifier), missing)
        return False
    fits = requirement.specifier.contains(version, prereleases=True)
    advice = f"pip install '{requirement.name}{requirement.specifier}'"
    table.add_row(requirement.name, version, str(requirement.specifier), _mark(is_good=fits, otherwise=advice))
    return fits


def _print_machine(console: Console, chosen: torch.device) -> None:
    table = _table("device", "what it is", "free memory", "")
    cores = psutil.cpu_count(logical=False) or os.cpu_count()
    name = platform.processor() or platform.machine()
    devices: list[tuple[torch.device, str]] = [(torch.device("cpu"), f"{name}, {cores} cores")]
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        about = f"{torch.cuda.get_device_name(index)}, compute capability {major}.{minor}"
        devices.append((torch.device("cuda", index), about))
    if torch.backends.mps.is_available():
        devices.append((torch.device("mps"), "Apple GPU"))
    for device, about in devices:
        chosen_mark = Text("used" if device == chosen else "", style="green")
        table.add_row(str(device), about, _gigabytes(free_bytes(device)), chosen_mark)
    console.print(table)
    if torch.version.cuda is None and torch.version.hip is None and not torch.backends.mps.is_available():
        console.print("This build of torch is for the CPU alone.", style="dim")


def _print_kernels(console: Console, device: torch.device) -> None:
    default = choose_kernel(None, device)
    table = _table("kernel", f"here, on {device}", "what it does")
    for name, kernel in KERNELS.items():
        if reason := kernel.reason_against(device):
            found = Text(reason.rpartition(": ")[2], style="dim")
        else:
            found = Text("✓ the default" if name == default else "✓", style="green")
        table.add_row(name, found, kernel.about)
    console.print(table)


def _print_fit(console: Console, model: str, device: torch.device, kernel: str | None) -> bool:
    free = free_bytes(device)
    folder = find_local_folder(model)
    if folder is None:
        download = weigh_download(model)
        needed = int(_PEAK_SHARE * download)
        fits = needed < free
        console.print(
            f"{model} is not on this disk yet; the first use downloads {_gigabytes(download)}. Loading it takes about "
            f"{_gigabytes(needed)} of memory; {_gigabytes(free)} are free on {device}.",
            style="" if fits else "red",
        )
        return fits
    checkpoint = read_checkpoint(model, folder)
    quantized = checkpoint.quantization is not None
    chosen = choose_kernel(kernel, device) if quantized else "dense"
    dtype = torch.bfloat16 if device.type != "mps" else torch.float16
    needed = needed_bytes(checkpoint, dtype, chosen)
    fits = needed < free
    stored = "4-bit AWQ" if quantized else "unquantized"
    console.print(
        Text.assemble(
            (f"{model}: {stored}, {_gigabytes(checkpoint.nbytes)} in {checkpoint.folder}\n", ""),
            (f"needs {_gigabytes(needed)} to load with kernel {chosen}, {_gigabytes(free)} are free on {device} ", ""),
            _mark(is_good=fits, otherwise="too little; free some memory or use a smaller checkpoint"),
        ),
        soft_wrap=True,
    )
    return fits


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left", show_edge=False)
    for column in columns:
        table.add_column(column, header_style="bold", overflow="fold")
    return table


def _mark(*, is_good: bool, otherwise: str = "") -> Text:
    return Text("✓", style="green") if is_good else Text(f"✗ {otherwise}", style="red")


def _gigabytes(count: int) -> str:
    return f"{count / _GB:.2f} GB"
