"""The page on architecture and the pages beside it: what they name exists, and they leave nothing out."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.support.places import DOCS, ROOT

PAGE = (DOCS / "architecture.md").read_text(encoding="utf-8")
RUNTIME = ROOT / "hermes_runtime"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LAYERS = [contract for contract in PROJECT["tool"]["importlinter"]["contracts"] if contract["type"] == "layers"]
TOPS = r"(?:hermes_adapters|hermes_runtime|langchain_hermes|llama_index_hermes|tiny_hermes|tests|docs|constraints)"
PATH = re.compile(rf"\b{TOPS}(?:/[\w.]+)+")


def blocks(page):
    return re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", sorted({*PATH.findall(PAGE), *re.findall(rf"`({TOPS})`", PAGE)}))
def test_every_path_exists(path):
    assert (ROOT / path).exists()


def test_the_layers_are_those_that_are_checked():
    drawn = [block.splitlines() for block in blocks(PAGE)[: len(LAYERS)]]
    assert drawn == [contract["layers"] for contract in LAYERS]


def test_every_module_of_a_call_is_named_in_full_or_beside_its_package():
    drawn = blocks(PAGE)[len(LAYERS)]
    modules = re.findall(r"(?<![\w/])_\w+\.py", drawn)
    assert modules
    for module in modules:
        assert all((ROOT / package / module).is_file() for package in ("langchain_hermes", "llama_index_hermes"))


def test_every_package_and_module_of_the_runtime_has_its_line():
    told = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
    assert len(told) == len(set(told))
    packages = {str(path.parent.relative_to(ROOT)) for path in RUNTIME.rglob("__init__.py")} - {"hermes_runtime"}
    modules = {str(path.relative_to(ROOT)) for path in RUNTIME.glob("*.py") if not path.name.startswith("_")}
    assert {path for path in told if path.startswith("hermes_runtime")} == packages | modules
    assert set(PROJECT["tool"]["importlinter"]["root_packages"]) - {"hermes_runtime"} <= set(told)


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" not in target:
            path, _, heading = target.partition("#")
            linked = (ROOT / page).parent / path
            assert linked.exists(), target
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE) if heading else [""]
            assert heading in [title.lower().replace(" ", "-") for title in headings]


def test_every_target_that_contributors_are_told_of_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    told = re.findall(r"`make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(told) > 5
    assert set(told) <= set(targets)


def test_one_version_of_ruff():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (hooked,) = re.findall(r"ruff-pre-commit\n\s+rev: v(\S+)", hooks)
    assert f"ruff=={hooked}\n" in (ROOT / "constraints" / "ci.txt").read_text(encoding="utf-8")


def test_continuous_integration_runs_the_same_commands_on_every_version():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert re.findall(r"- run: (.*)", workflow) == ["make lint", "make test"]
    versions = [line.rpartition(" ")[2] for line in PROJECT["project"]["classifiers"] if ":: 3." in line]
    assert str(versions).replace("'", '"') in workflow
    assert all(re.search(r"@v\d+\.\d+\.\d+$", action) for action in re.findall(r"uses: (.*)", workflow))


def test_the_changelog_has_this_version():
    from hermes_runtime import __version__

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)[:2] == ["Unreleased", __version__]
