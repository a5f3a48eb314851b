"""Where tests are: rooms that mirror the packages, modules that share nothing but what is in a module of its own."""

from __future__ import annotations

import ast

import pytest

from tests.support.places import ROOT

TESTS = ROOT / "tests"
RUNTIME_TESTS = TESTS / "runtime"
MODULES = sorted(TESTS.rglob("test_*.py"))
# What is tested together with others, or has no code of its own: the folders beside those of the packages.
ROOMS = {
    "adapters": "hermes_adapters",
    "benchmarks": "benchmarks",
    "command": "hermes_adapters",
    "langchain": "langchain_hermes",
    "llama_index": "llama_index_hermes",
    "llama_index_contract": "llama_index_hermes",
    "project": ".",
    "runtime": "hermes_runtime",
    "side_by_side": ".",
    "tiny_hermes": "tiny_hermes",
}


def name_of(path):
    return str(path.relative_to(ROOT))


def imported(path):
    """Return the full names of all that a module imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=name_of)
def test_no_module_imports_a_test_module(path):
    names = [name for name in imported(path) if name.startswith("tests.")]
    assert not [name for name in names if any(part.startswith("test_") for part in name.split("."))]


def test_every_test_module_stands_in_a_room():
    rooms = {path.relative_to(TESTS).parts[0] for path in MODULES}
    assert rooms == set(ROOMS)
    assert all((ROOT / package).is_dir() for package in ROOMS.values())


@pytest.mark.parametrize("path", sorted(RUNTIME_TESTS.rglob("test_*.py")), ids=name_of)
def test_tests_of_the_runtime_mirror_its_packages(path):
    """One that has the name of a module, or of a package, stands where that stands."""
    runtime, place, name = ROOT / "hermes_runtime", path.parent.relative_to(RUNTIME_TESTS), path.stem[len("test_") :]
    mirrored = runtime / place
    assert mirrored.is_dir() or mirrored.with_suffix(".py").is_file(), mirrored
    named = {found.relative_to(runtime).parent for found in (*runtime.rglob(f"{name}.py"), *runtime.rglob(f"{name}/"))}
    assert not named or place in named or place.name == name


@pytest.mark.parametrize("folder", sorted({path.parent for path in TESTS.rglob("*.py")}), ids=name_of)
def test_every_folder_is_a_package(folder):
    """Modules of one name in two rooms are two modules only so."""
    assert (folder / "__init__.py").is_file()
