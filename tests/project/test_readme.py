"""What the README says is so: its code runs, its commands and options exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex

import pytest
import typer

from hermes_adapters.app import HERMES_2_PRO, app
from hermes_runtime.dialects import DIALECTS
from tests.support.places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
# What each block prints with the embedded model in place of the one that it names.
PRINTED = [["21 degrees"], ["21 degrees"], [], ["Anna", "31"], ["Anna", "31"]]


@pytest.mark.parametrize(("code", "printed"), [*zip(PYTHON, PRINTED, strict=True)])
def test_the_code_runs_with_the_embedded_model(code, printed, capsys):
    named = re.compile(rf'"({re.escape(HERMES_2_PRO)}|\./my-hermes-3-awq)"')
    assert named.search(code), "every block shows the one argument to change"
    exec(compile(named.sub('"tiny-hermes"', code), "README.md", "exec", dont_inherit=True), {"__name__": "readme"})
    output = capsys.readouterr().out
    assert all(part in output for part in printed), output


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_exist(command):
    program, *arguments = shlex.split(command)
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert arguments[0] in targets
    elif program == "pip":
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        extra = re.fullmatch(r"\.\[(.+)\]", arguments[1])
        assert extra is not None
        assert re.search(rf"^{extra[1]} = \[", project, re.MULTILINE)
    else:
        assert program == "hermes-adapters"
        known = typer.main.get_command(app).commands[arguments[0]].params
        options = {option for parameter in known for option in parameter.opts}
        assert {argument for argument in arguments if argument.startswith("-")} <= options


def test_both_adapters_take_every_option_of_the_table():
    from langchain_hermes import ChatHermes
    from llama_index_hermes import HermesLLM

    table = README.partition("## Options")[2].partition("## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    options = {option for row in rows for option in re.findall(r"`(\w+)`", row)}
    assert len(options) > 10
    assert options <= set(ChatHermes.model_fields)
    assert options <= set(HermesLLM.model_fields)


def test_the_dialects_are_those_that_exist():
    table = README.partition("| dialect |")[2].partition("```")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(DIALECTS)


@pytest.mark.parametrize("page", ["README.md", "docs/README.md"])
def test_links_within_the_repository_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    assert targets
    for target in targets:
        assert ((ROOT / page).parent / target.partition("#")[0]).exists(), target


def test_every_page_of_the_docs_is_listed():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name
