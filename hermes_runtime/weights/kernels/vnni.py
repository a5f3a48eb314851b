"""The products of `vnni.c`: compiled once per machine, loaded, and called on torch's tensors.

A wheel for every CPU would be the alternative. A C compiler is on most machines that run models from Python, since
Triton and `torch.compile` need one too; where it or the instructions are missing, `reason_against` says so and torch's
kernel takes over.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_SOURCE = Path(__file__).with_name("vnni.c")
_INSTRUCTIONS = ("avx512f", "avx512bw", "avx512vl", "avx512_vnni")
_FLAGS = (
    *("-O3", "-std=c11", "-fPIC", "-fopenmp"),
    *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mfma", "-mavx2"),
)
_COMPILE_SECONDS = 120
COLUMNS = 16
"""Columns of a block; outputs must be a multiple."""
STEP = 8
"""Groups must be a multiple of as many rows."""
LARGEST_GROUP = 1 << 16
"""Rows; the sum of a longer group's rounded activations would not fit 32 bits."""


@cache
def reason_against() -> str | None:
    """Why the product cannot run on this machine, as the end of a sentence; None where it can. Compiles it."""
    flags = _cpu_flags()
    missing = [name for name in _INSTRUCTIONS if name not in flags]
    if missing:
        return f"this CPU lacks {', '.join(missing)}"
    try:
        _library()
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        return str(error)
    return None


def pack(qweight: Tensor) -> Tensor:
    """AWQ words int32 [K, N/8] -> bytes [N/16, K/8, 64]; K a multiple of 8, N of 16."""
    rows, columns = qweight.shape[0], qweight.shape[1] * 8
    words = qweight.contiguous()
    packed = torch.empty(columns // COLUMNS, rows // STEP, 64, dtype=torch.uint8)
    _library().hermes_int4_pack(words.data_ptr(), rows, columns, packed.data_ptr())
    return packed


def product(rows: Tensor, packed: Tensor, pairs: Tensor) -> Tensor:
    """Multiply float32 [M, K] with a packed weight -> float32 [M, N]. `pairs` is float32 [N/16, K/g, 2, 16]."""
    count, inputs = rows.shape
    blocks, groups = pairs.shape[:2]
    x = rows.contiguous()
    y = torch.empty(count, blocks * COLUMNS)
    failed = _library().hermes_int4_product(
        *(x.data_ptr(), count, inputs, inputs // groups, packed.data_ptr(), pairs.data_ptr(), y.data_ptr()),
        *(blocks * COLUMNS, torch.get_num_threads()),
    )
    if failed:
        raise MemoryError(f"no memory for the rounded activations of {count} rows")
    return y


def bfloat16_product(rows: Tensor, weight: Tensor) -> Tensor:
    """Multiply float32 [M, K] with a dense bfloat16 [N, K] -> float32 [M, N]; K a multiple of 16, N of 4."""
    x = rows.contiguous()
    y = torch.empty(len(x), len(weight))
    _library().hermes_bfloat16_product(
        x.data_ptr(), *x.shape, weight.data_ptr(), y.data_ptr(), len(weight), torch.get_num_threads()
    )
    return y


@cache
def _library() -> ctypes.CDLL:
    # Torch's threads and this library's must be the same ones: two pools would fight for the cores. The library is
    # linked to no OpenMP of its own and finds the functions in the one that torch brought.
    ctypes.CDLL(_openmp_of_torch(), mode=ctypes.RTLD_GLOBAL)
    library = _load_compiled()
    long, pointer = ctypes.c_long, ctypes.c_void_p
    library.hermes_int4_product.argtypes = [
        *(pointer, long, long, long, pointer, pointer, pointer, long, ctypes.c_int),
    ]
    library.hermes_bfloat16_product.argtypes = [pointer, long, long, pointer, pointer, long, ctypes.c_int]
    library.hermes_bfloat16_product.restype = None
    library.hermes_int4_pack.argtypes = [pointer, long, long, pointer]
    library.hermes_int4_pack.restype = None
    return library


def _cpu_flags() -> frozenset[str]:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return frozenset()
    text = Path("/proc/cpuinfo").read_text()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.split())


def _openmp_of_torch() -> str:
    for line in Path("/proc/self/maps").read_text().splitlines():
        file = line.split(maxsplit=5)[-1]
        if Path(file).name.startswith(("libgomp", "libiomp5")):
            return file
    raise OSError("torch brings no OpenMP that it could share")


def _load_compiled() -> ctypes.CDLL:
    """Return the library, compiled now unless an earlier process did."""
    compiler = next((path for name in (os.environ.get("CC", ""), "gcc", "cc") if (path := shutil.which(name))), None)
    if compiler is None:
        raise OSError("it needs a C compiler, such as gcc")
    source = _SOURCE.read_bytes()
    key = hashlib.sha256(source + repr((compiler, _FLAGS)).encode()).hexdigest()[:16]
    made = _cache_folder() / f"vnni-{key}.so"
    if os.path.exists(made):  # noqa: PTH110 - pathlib's raises where a parent may not be read
        return ctypes.CDLL(str(made))
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=made.parent)
    except OSError:  # no home, or none to write to: this process's own, since others may write to a temporary folder
        with tempfile.TemporaryDirectory(prefix="hermes-adapters-") as private:
            return ctypes.CDLL(str(_compile(compiler, Path(private))))
    logger.info("compiling the int4 kernel for this CPU into %s", made)
    with scratch:
        _compile(compiler, Path(scratch.name)).replace(made)  # at once: another process sees all of it or nothing
    return ctypes.CDLL(str(made))


def _cache_folder() -> Path:
    """Return where the library is kept; a folder that cannot be made, where there is no home."""
    home = os.path.expanduser("~")  # noqa: PTH111 - pathlib's raises where there is none
    nowhere = Path(os.devnull)
    return Path(os.environ.get("XDG_CACHE_HOME") or (nowhere if home == "~" else f"{home}/.cache")) / "hermes-adapters"


def _compile(compiler: str, folder: Path) -> Path:
    compiled, linked = folder / "vnni.o", folder / "vnni.so"
    _run([compiler, *_FLAGS, "-c", str(_SOURCE), "-o", str(compiled)])
    _run([compiler, "-shared", str(compiled), "-o", str(linked), "-lm"])
    return linked


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False)  # noqa: S603  # the compiler of this machine on our own file
    if done.returncode:
        raise OSError(f"{command[0]} cannot compile it: {done.stderr.strip().splitlines()[0][:200]}")
