"""What is shipped: one distribution, four typed packages, the embedded model, one command."""

from __future__ import annotations

import re
import tomllib
import zipfile
from importlib import import_module, metadata
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.support.places import ROOT

PACKAGES = ("hermes_adapters", "hermes_runtime", "langchain_hermes", "llama_index_hermes")
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_every_package_is_shipped_and_typed(wheel):
    names = set(wheel.namelist())
    for package in PACKAGES:
        assert {f"{package}/__init__.py", f"{package}/py.typed"} <= names


def test_the_source_of_the_kernel_is_shipped(wheel):
    assert "hermes_runtime/weights/kernels/vnni.c" in wheel.namelist()


def test_nothing_else_is_shipped(wheel):
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert tops == {*PACKAGES, f"hermes_adapters-{metadata.version('hermes-adapters')}.dist-info"}
    assert not [name for name in wheel.namelist() if name.endswith((".pyc", ".log"))]


def test_the_embedded_model_is_shipped_and_small(wheel):
    files = [entry for entry in wheel.infolist() if entry.filename.startswith("hermes_runtime/tiny/checkpoint/")]
    names = {Path(entry.filename).name for entry in files}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert sum(entry.file_size for entry in files) <= 8 * MEGABYTE


def test_the_license_is_shipped(wheel):
    (path,) = [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]
    assert "Apache License" in wheel.read(path).decode()


def test_the_command_is_installed():
    (command,) = metadata.entry_points(group="console_scripts", name="hermes-adapters")
    assert command.value == "hermes_adapters:main"
    assert callable(command.load())


def test_the_version_is_written_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert "version" not in project["project"]
    version = metadata.version("hermes-adapters")
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert project["tool"]["hatch"]["version"]["path"] == "hermes_runtime/_version.py"
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    written = [path for path in files if re.search(r"^__version__ = ", path.read_text(encoding="utf-8"), re.MULTILINE)]
    assert written == [ROOT / "hermes_runtime" / "_version.py"]
    for package in ("hermes_runtime", "langchain_hermes", "llama_index_hermes"):
        assert import_module(package).__version__ == version


def test_the_extras_exist():
    extras = set(metadata.metadata("hermes-adapters").get_all("Provides-Extra") or ())
    assert extras == {"langchain", "llama-index", "autoawq", "gptqmodel", "vllm", "all"}


def test_the_pinned_versions_are_supported_ones():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    texts = [
        *project["project"]["dependencies"],
        *(text for extra in project["project"]["optional-dependencies"].values() for text in extra),
        *project["dependency-groups"]["dev"],
    ]
    supported = {requirement.name: requirement.specifier for requirement in map(Requirement, texts)}
    pins = (ROOT / "constraints" / "ci.txt").read_text(encoding="utf-8").splitlines()
    for pin in map(Requirement, (line for line in pins if not line.startswith("#"))):
        (version,) = (specifier.version for specifier in pin.specifier)
        assert pin.name not in supported or supported[pin.name].contains(version), str(pin)
