"""Random tools, calls of them, and the words in which a user asks for such a call."""

# ruff: noqa: E501, SIM905 - word lists are read and edited as text

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hermes_runtime.messages import ToolSpec
from tiny_hermes.vocabulary import ACTION_VERBS, CITIES, COLORS, COUNTRIES, PEOPLE, QUERY_VERBS, Scalar, Values

Arguments = dict[str, Scalar]

PREPOSITIONS = {"city": "in", "country": "in", "location": "in", "place": "in", "town": "in"}

# Parameter names by kind of value. The first item of each tuple is the method of `Values`, or a list of names.
_STRING_PARAMETERS: tuple[tuple[str, str], ...] = (
    ("name", "city country location place town"),
    (
        "name",
        "name person user owner author guest customer artist team brand origin destination start end source target",
    ),
    ("phrase", "query title text topic subject message label note keyword description comment item product category"),
    ("phrase", "genre style reason event task question content"),
    ("code", "id code reference order_id ticket_id flight_number serial_number room_number"),
    ("ticker", "symbol ticker"),
    ("date", "date start_date end_date day birthday"),
    ("clock", "time start_time"),
    ("email", "email recipient address to"),
    ("path", "file path filename"),
)
_INTEGER_PARAMETERS = "count days limit quantity hours minutes year age size level page guests nights seats hour floor points port".split()
_NUMBER_PARAMETERS = "amount price distance weight height speed temperature rate score budget length latitude".split()
_BOOLEAN_PARAMETERS = (
    "urgent breakfast return_trip verbose private recursive express notify insurance gift repeat silent".split()
)
_ENUM_PARAMETERS: dict[str, tuple[str, ...]] = {
    "unit": ("celsius", "fahrenheit", "kelvin"),
    "units": ("metric", "imperial"),
    "size": ("small", "medium", "large"),
    "priority": ("low", "normal", "high", "critical"),
    "mode": ("fast", "slow", "eco", "sport"),
    "sort": ("asc", "desc"),
    "class": ("economy", "business", "first"),
    "format": ("json", "csv", "xml", "text"),
    "color": COLORS[:6],
    "status": ("open", "closed", "pending"),
    "period": ("day", "week", "month", "year"),
}
_ALL_NAMES = [
    *(name for _, names in _STRING_PARAMETERS for name in names.split()),
    *(*_INTEGER_PARAMETERS, *_NUMBER_PARAMETERS, *_BOOLEAN_PARAMETERS),
]
_NAME_LISTS = {
    "city": CITIES, "town": CITIES, "location": CITIES, "place": CITIES, "origin": CITIES, "destination": CITIES,
    "country": COUNTRIES, "name": PEOPLE, "person": PEOPLE, "user": PEOPLE, "owner": PEOPLE, "author": PEOPLE,
    "guest": PEOPLE, "customer": PEOPLE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a tool. `kind` is a JSON Schema type; `choices` makes it an enum."""

    name: str
    kind: str
    make: Callable[[], Scalar]
    choices: tuple[str, ...] = ()
    required: bool = True

    @property
    def words(self) -> str:
        """The name as it is said in a sentence."""
        return self.name.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool and what is known of it in plain words.

    Attributes:
        spec: What the model is shown.
        verb: What it does.
        noun: What it does it to; empty for tools that are asked for by `asks` alone.
        parameters: Its arguments, in schema order.
        asks: Own sentences with `{parameter}` slots; where given, they are used beside the general ones.
        sample_result: Own results; where absent, results are made up.
    """

    spec: ToolSpec
    verb: str
    noun: str
    parameters: tuple[Parameter, ...]
    asks: tuple[str, ...] = ()
    sample_result: Callable[[Arguments], Any] | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The name that a call must write."""
        return self.spec.name

    @property
    def is_query(self) -> bool:
        """Whether it looks something up rather than changing something."""
        return self.verb in QUERY_VERBS

    def arguments(self, values: Values) -> Arguments:
        """Draw arguments; an optional parameter is left out half of the time."""
        return {p.name: p.make() for p in self.parameters if p.required or values.chance(0.5)}


def _parameter(values: Values, *, required: bool) -> Parameter:
    rng = values.rng
    kind = rng.choices(("string", "integer", "number", "boolean", "enum"), (52, 20, 10, 8, 10))[0]
    if kind == "integer":
        name = _word_or(values, _INTEGER_PARAMETERS)
        return Parameter(name, kind, values.count if values.chance(0.5) else values.integer, required=required)
    if kind == "number":
        return Parameter(_word_or(values, _NUMBER_PARAMETERS), kind, values.number, required=required)
    if kind == "boolean":
        return Parameter(_word_or(values, _BOOLEAN_PARAMETERS), kind, lambda: values.chance(0.5), required=required)
    if kind == "enum":
        if values.chance(0.6 if values.opaque else 0.1):
            name, choices = (
                values.draw(values.made_up_word),
                tuple({values.word(): None for _ in range(rng.randint(2, 4))}),
            )
        else:
            name, choices = rng.choice(tuple(_ENUM_PARAMETERS.items()))
        return Parameter(name, "string", lambda: rng.choice(choices), choices, required=required)
    maker, names = rng.choice(_STRING_PARAMETERS)
    name = _word_or(values, names.split())
    make: Callable[[], Scalar] = getattr(values, maker)
    if maker == "name":
        pool = _NAME_LISTS.get(name, CITIES + PEOPLE)
        make = lambda: values.one_of(pool)  # noqa: E731  (a closure over this parameter's own list)
    return Parameter(name, "string", make, required=required)


def _word_or(values: Values, names: list[str]) -> str:
    """Return one of the usual parameter names, or now and then a made-up one."""
    if values.chance(0.6 if values.opaque else 0.06):
        return values.draw(values.made_up_word)
    return values.rng.choice(_ALL_NAMES if values.opaque else names)


_DEFAULTS = {"string": "", "integer": 1, "number": 1.0, "boolean": False}


def _property(values: Values, parameter: Parameter, form: str) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    if form in ("described", "openai") and values.chance(0.6):
        entry["description"] = values.rng.choice(("The {}", "the {}", "The {}.", "{}")).format(parameter.words)
    if parameter.choices:
        entry["enum"] = list(parameter.choices)
    if not parameter.required:
        entry["default"] = _DEFAULTS[parameter.kind]
    if form == "titled":
        entry["title"] = parameter.words.title()
    return {"type": parameter.kind, **entry} if form == "openai" else {**entry, "type": parameter.kind}


def _schema(values: Values, parameters: tuple[Parameter, ...], form: str) -> dict[str, Any]:
    """Return a schema with the keys in the order of hand-written tools (`openai`) or of the frameworks' converters."""
    properties = {parameter.name: _property(values, parameter, form) for parameter in parameters}
    required = [p.name for p in parameters if p.required]
    if form == "openai":
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        return {**schema, "required": required} if required or values.chance(0.5) else schema
    schema = {"properties": properties}
    if required:
        schema["required"] = required
    schema["type"] = "object"
    if values.chance(0.05):
        schema["additionalProperties"] = False
    return schema


_PYTHON_TYPES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}


def make_spec(values: Values, name: str, summary: str, parameters: tuple[Parameter, ...]) -> ToolSpec:
    """Describe a tool the way one of the frameworks, or a person writing by hand, would."""
    form = values.rng.choices(("plain", "described", "titled", "openai"), (45, 10, 30, 15))[0]
    description = summary
    if parameters and values.chance(0.08):
        lines = "".join(f"\n        {p.name}: the {p.words}" for p in parameters)
        description += f"\n\n    Args:{lines}"
    if form == "titled":
        signature = ", ".join(
            f"{p.name}: {_PYTHON_TYPES[p.kind]}"
            if not p.choices
            else f"{p.name}: Literal[{', '.join(map(repr, p.choices))}]"
            for p in parameters
        )
        description = (
            f"{name}({signature}) -> {values.rng.choice(('str', 'str', 'str', 'dict', 'int', 'float'))}\n{description}"
        )
    return ToolSpec(name, description, _schema(values, parameters, form))


def make_tool(
    values: Values, *, most_parameters: int, optional: float = 0.0, noun: str | None = None, verb: str | None = None
) -> Tool:
    """Make a tool of a random verb, noun and parameters."""
    rng = values.rng
    noun = values.noun() if noun is None else noun
    verb = rng.choice(QUERY_VERBS + ACTION_VERBS[:12] if values.chance(0.8) else ACTION_VERBS) if verb is None else verb
    if values.opaque and values.chance(0.6):
        most_parameters = 1
    parameters: dict[str, Parameter] = {}
    for _ in range(rng.choices(range(5), (3, 20, 27, 30, 20) if values.hard else (5, 50, 30, 12, 3))[0]):
        if len(parameters) < most_parameters:
            parameter = _parameter(values, required=not values.chance(optional))
            parameters.setdefault(parameter.name, parameter)
    ordered = tuple(sorted(parameters.values(), key=lambda p: not p.required))
    words = noun.split()
    prefix = values.made_up_word() if values.opaque and values.chance(0.5) else verb
    style = rng.uniform(0.6, 1) if values.hard else rng.random()
    if style < 0.82:
        name = "_".join((prefix, *words))
    elif style < 0.9:
        name = prefix + "".join(word.capitalize() for word in words)
    elif style < 0.96:
        name = "_".join((*words, prefix))
    else:
        name = "_".join(words)
    third = f"{verb.capitalize()}s" if not verb.endswith(("ch", "s")) else f"{verb.capitalize()}es"
    some = values.made_up_word() if values.chance(0.1) else rng.choice(("a given", "the given", "one", "any"))
    first = f" for {some} {ordered[0].words}" if ordered and values.chance(0.3) else ""
    summary = rng.choice(
        (
            f"{verb.capitalize()} the {noun}{first}.",
            f"{verb.capitalize()} a {noun}{first}.",
            f"{verb.capitalize()} {noun}{first}.",
            f"{third} the {noun}{first}.",
            f"{verb.capitalize()} the {noun}{first}",
        )
    )
    if values.chance(0.04):
        summary = ""
    return Tool(make_spec(values, name, summary, ordered), verb, noun, ordered)


def related_tool(values: Values, tool: Tool, *, most_parameters: int) -> Tool:
    """Make a tool about the same thing that does something else."""
    verb = values.rng.choice([v for v in ("get", "create", "delete", "update", "send") if v != tool.verb])
    return make_tool(values, most_parameters=most_parameters, noun=tool.noun, verb=verb)


def _spoken(values: Values, value: Scalar) -> str:
    if isinstance(value, str) and values.chance(0.1):
        return values.rng.choice(('"{}"', "'{}'")).format(value)
    return str(value)


def _listed(values: Values, tool: Tool, arguments: Arguments) -> str:
    """Name every argument: ` with city Paris and days 3` and the like."""
    rng = values.rng
    opening, item, joint, last, closing = rng.choice(
        (
            (" with ", "{} {}", ", ", " and ", ""),
            (" with ", "{} {}", " and ", " and ", ""),
            (" for ", "{} {}", ", ", " and ", ""),
            (" for ", "{} {}", " and ", " and ", ""),
            (" where ", "{} is {}", " and ", " and ", ""),
            (", ", "{} {}", ", ", ", ", ""),
            (": ", "{} {}", ", ", ", ", ""),
            (" with ", "{} = {}", ", ", " and ", ""),
            (" (", "{}: {}", ", ", ", ", ")"),
            (" with ", "{}={}", ", ", ", ", ""),
        )
    )
    boolean = rng.choice((("yes", "no"), ("true", "false"), ("on", "off"), ("True", "False")))
    items = []
    for parameter in tool.parameters:
        if parameter.name in arguments:
            value = arguments[parameter.name]
            said = boolean[not value] if isinstance(value, bool) else _spoken(values, value)
            items.append(item.format(parameter.name if values.chance(0.15) else parameter.words, said))
    if values.chance(0.15):
        rng.shuffle(items)
    return opening + joint.join(items[:-1]) + (last if len(items) > 1 else "") + items[-1] + closing


def spoken_arguments(values: Values, tool: Tool, arguments: Arguments) -> str:
    """Say the arguments, named wherever their types do not tell them apart."""
    rng = values.rng
    if not arguments:
        return ""
    present = [p for p in tool.parameters if p.name in arguments]
    said = [_spoken(values, arguments[p.name]) for p in present]
    kinds = [p.kind if not p.choices else "enum" for p in present]
    complete = all(p.required for p in tool.parameters)
    if present[-1].kind == "boolean" and present[-1].required and complete and values.chance(0.5):
        ending = f" {'with' if arguments[present[-1].name] else 'without'} {present[-1].words}"
        return spoken_arguments(values, tool, dict(list(arguments.items())[:-1])) + ending
    if complete and "boolean" not in kinds and len(present) == len(tool.parameters):
        if len(present) == 1 and values.chance(0.7):
            return f" {rng.choice(_PREPOSITIONS)} {said[0]}"
        if set(kinds) in ({"string", "integer"}, {"string", "number"}) and len(kinds) == 2 and values.chance(0.4):
            if values.chance(0.2):
                said.reverse()
            return rng.choice(_TWO_OF_DIFFERENT_TYPES).format(*said)
    return _listed(values, tool, arguments)


_PREPOSITIONS = ("in", "for", "for", "of", "at", "from", "on", "to", "about")
_TWO_OF_DIFFERENT_TYPES = (" for {} with {}", " for {} and {}", " in {} with {}", " with {} and {}", " of {} for {}")


def _clauses(tool: Tool, *, by_verb: bool, by_name: bool) -> tuple[str, ...]:
    """Openings that point at the tool; `*` marks those that end in a question mark."""
    verb, noun, name = tool.verb, tool.noun, tool.name
    spoken_verb = "look up" if verb == "lookup" else verb
    plain = (f"{spoken_verb} the {noun}", f"please {spoken_verb} the {noun}", f"*can you {spoken_verb} the {noun}")
    general: tuple[str, ...]
    if tool.is_query and not by_verb:
        general = (
            *(f"*what is the {noun}", f"*what is the {noun}", f"*what's the {noun}", f"show me the {noun}"),
            *(f"tell me the {noun}", f"give me the {noun}", f"I need the {noun}", noun, f"*do you know the {noun}"),
        )
    else:
        general = (
            *(f"{spoken_verb} a {noun}", f"please {spoken_verb} a {noun}", f"*could you {spoken_verb} a {noun}"),
            *(
                f"I want to {spoken_verb} a {noun}",
                f"I would like to {spoken_verb} the {noun}",
                f"{spoken_verb} {noun}",
            ),
        )
    generic = (f"call {name}", f"use {name}", f"please call {name}", f"use the {name} tool")
    return plain * 2 + general * 2 + (generic if by_name else ())


def ask(values: Values, tool: Tool, arguments: Arguments, *, by_verb: bool = False, by_name: bool = True) -> str:
    """Put a call into words.

    Args:
        values: Source of randomness.
        tool: What is to be called.
        arguments: All of its required arguments, and those optional ones that are to be named.
        by_verb: Always say the verb, because another tool shares the noun.
        by_name: Now and then spell the tool's name.

    Returns:
        The words without the capital letter and the mark at their ends; a leading `*` asks for a question mark.
    """
    if tool.asks and values.chance(0.8):
        yes, no = values.rng.choice((("yes", "no"), ("true", "false")))
        said = {
            name: (yes if v else no) if isinstance(v, bool) else _spoken(values, v) for name, v in arguments.items()
        }
        template = values.rng.choice([t for t in tool.asks if t.count("{") == len(arguments)] or list(tool.asks))
        return template.format(**said)
    clause = values.rng.choice(_clauses(tool, by_verb=by_verb, by_name=by_name))
    return clause + spoken_arguments(values, tool, arguments)


def finish(values: Values, clause: str) -> str:
    """Make a sentence of a clause: usually with a capital letter and a mark, sometimes as sloppily as people type."""
    text = clause.removeprefix("*")
    sloppy = values.chance(0.15)
    if not sloppy:
        text = text[0].upper() + text[1:]
    mark = (
        "?"
        if clause.startswith("*")
        else values.rng.choice((".", "", "", "!") if text[-1].isalpha() else ("", " please"))
    )
    return text if sloppy else text + mark
