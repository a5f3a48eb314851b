"""What tools return, and the sentence that answers from it."""

# ruff: noqa: E501, SIM905 - word lists are read and edited as text

from __future__ import annotations

from typing import Any

from tiny_hermes.toolbox import PREPOSITIONS, Arguments, Tool
from tiny_hermes.vocabulary import NOUNS, Values


def is_error(result: Any) -> bool:
    """Tell whether a result reports a failure."""
    return isinstance(result, str) and result.startswith("Error")


def is_sentence(result: str) -> bool:
    """Tell whether a textual result can stand as the answer: it ends like a sentence or begins like one."""
    return result.endswith((".", "!", "?")) or result.startswith(("It is ", "It's ", "The ", "There are ", "There is "))


_RESULT_KEYS = """temperature humidity price status total count name city id date time currency level color owner title value unit
available rating size address condition wind delay gate""".split()
_SENTENCES = (
    *("{0} is {1}.", "The {0} is {1}.", "It is {1} in {0}.", "It's {1} in {0}!", "Found {1} for {0}.", "{0} {1}."),
    *("The {0} has {2} {1}.", "It is {2} degrees and {1} in {0}.", "There are {2} {1} in {0}.", "Added {1} to {0}."),
)
_UNITS = "degrees minutes hours days euros dollars kilometers meters percent points kilograms liters items pages seats".split()
_FAILURES = "{} not found|unknown {}|no {} with that value|{} is not available|the service is down|invalid {}|timeout|permission denied".split(
    "|"
)


def make_result(values: Values, tool: Tool, arguments: Arguments) -> Any:
    """Make what the tool returns: a scalar, a sentence, an object, a list or an error."""
    rng = values.rng
    noun = tool.noun or "value"
    form = rng.choices(("own", "scalar", "sentence", "object", "list", "error"), (25, 25, 10, 30, 4, 6))[0]
    if form == "own" and tool.sample_result is not None:
        result = tool.sample_result(arguments)
        return str(result) if values.chance(0.5) else result
    if form == "error":
        return rng.choice(("Error: ", "Error: ", "Error calling tool: ", "Error ")) + rng.choice(_FAILURES).format(noun)
    if form == "object":
        return {_key(values): _leaf(values) for _ in range(rng.choices((1, 2, 3), (5, 4, 2))[0])}
    if form == "list":
        return [values.one_of(NOUNS) for _ in range(rng.randint(1, 3))]
    if form == "sentence":
        told = [str(v) for v in arguments.values() if isinstance(v, str)]
        subject = rng.choice(told) if told and values.chance(0.7) else noun
        sentence = rng.choice(_SENTENCES).format(subject, values.phrase(), values.count())
        return (
            sentence.removesuffix(".") if is_sentence(sentence.removesuffix(".")) and values.chance(0.4) else sentence
        )
    return _leaf(values, boolean=False)


def _key(values: Values) -> str:
    if values.chance(0.25):
        return values.draw(values.made_up_word)
    return (
        values.rng.choice(_RESULT_KEYS)
        if values.chance(0.8)
        else f"{values.rng.choice(_RESULT_KEYS)}_{values.rng.choice(('name', 'code', 'type'))}"
    )


def _leaf(values: Values, *, boolean: bool = True) -> Any:
    make = values.rng.choice(
        (
            values.integer,
            values.number,
            values.phrase,
            values.name,
            values.code,
            values.date,
            values.clock,
            values.count,
            values.word,
        )
    )
    form = values.rng.random()
    if form < 0.2:
        return f"{values.count()} {values.rng.choice(_UNITS)}"
    if form < 0.27 and boolean:
        return values.chance(0.5)
    value = make()
    return str(value) if values.chance(0.2) else value


def answer(tool: Tool, arguments: Arguments, result: Any, *, several: bool) -> str:
    """Say a result in a sentence; where there are several, say what it is a result for."""
    subject = str(next(iter(arguments.values()))) if arguments else ""
    if is_error(result):
        return f"Sorry, that did not work: {result}"
    if isinstance(result, str) and is_sentence(result):
        return result if result[-1] in ".!?" else f"{result}."
    if isinstance(result, dict):
        told = [f"the {key.replace('_', ' ')} is {_said(value)}" for key, value in result.items()]
        text = (", ".join(told[:-1]) + " and " if len(told) > 1 else "") + told[-1] + "."
        return f"{subject}: {text}" if several and subject else text[0].upper() + text[1:]
    if isinstance(result, list):
        result = ", ".join(map(str, result))
    if not tool.noun:
        return f"The result is {_said(result)}."
    if not tool.is_query:
        return f"Done: {_said(result)}."
    first = next((p for p in tool.parameters if p.name in arguments), None)
    where = f" {PREPOSITIONS.get(first.name, 'for')} {subject}" if first is not None else ""
    return f"The {tool.noun}{where} is {_said(result)}."


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
