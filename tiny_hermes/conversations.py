"""Synthetic conversations: what tiny-hermes is trained and evaluated on.

Every assistant turn is a function of what stands before it, so that exact match is a fair measure. Needs no torch.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hermes_runtime.messages import Assistant, Message, System, ToolCall, ToolResult, ToolSpec, User
from tiny_hermes.everyday import everyday_tool
from tiny_hermes.json_mode import extraction_tool, json_turn, make_schema
from tiny_hermes.results import answer, is_error, make_result
from tiny_hermes.toolbox import Arguments, Tool, ask, finish, make_tool, related_tool
from tiny_hermes.vocabulary import Values

Kind = Literal["one_call", "two_calls", "answer", "two_answers", "error", "no_tool", "chat", "copy", "json"]

NO_TOOL = "Sorry, I have no tool for that."
_CHAT: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("Hello", "Hello!", "Hi", "Hi!", "hi there", "hello", "Hey", "Good morning", "Good evening", "Hi there!"),
        "Hello! How can I help you?",
    ),
    (("Thanks", "Thank you", "Thanks!", "thanks a lot", "Thank you very much!", "Great, thanks."), "You are welcome!"),
    (
        ("Who are you?", "What are you?", "What is your name?", "who are you", "Introduce yourself."),
        "I am tiny-hermes, a very small assistant.",
    ),
    (("Bye", "Goodbye", "bye bye", "See you later!", "Goodbye!", "Good night"), "Goodbye!"),
    (("How are you?", "how are you", "How are you today?", "Are you well?"), "I am well, thank you!"),
    (
        ("What can you do?", "what can you do", "How can you help me?", "Help", "help me"),
        "I can call tools and answer from their results.",
    ),
)
_GREETINGS = ("Hi! ", "Hello, ", "Hey, ", "Hi, ", "Hello! ", "Thanks! ", "OK, ", "Now ", "And ")
_SYSTEM_TEXTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "Be brief.",
    "You are a friendly assistant. Be concise.",
    "Answer in one sentence.",
    "You are an agent that can use tools.",
    "Use the tools when they help.",
    "Be polite.",
    "You are a helpful assistant that can call tools.",
    "You are a careful assistant. Use tools to answer questions.",
)


@dataclass(frozen=True, slots=True)
class Step:
    """One assistant turn and what kind of skill it shows; `index` is its place in the messages."""

    kind: Kind
    index: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """A whole conversation.

    Attributes:
        messages: Every turn, the assistant's included.
        steps: Which messages the model has to write, and what they show.
        tools: What is offered, possibly nothing.
        schema: JSON mode's schema.
        json_calls: Calls are written with JSON's quotes instead of Python's.
    """

    messages: tuple[Message, ...]
    steps: tuple[Step, ...]
    tools: tuple[ToolSpec, ...] = ()
    schema: dict[str, Any] | None = None
    json_calls: bool = False

    def assistant_text(self, index: int) -> str:
        """Return what the model is to write at a message, without its end marker."""
        message = self.messages[index]
        assert isinstance(message, Assistant)
        return "\n".join(
            ([message.text] if message.text else []) + [call_text(c, as_json=self.json_calls) for c in message.calls]
        )


def call_text(call: ToolCall, *, as_json: bool) -> str:
    """Return a `<tool_call>` block, arguments first, in either notation."""
    body = {"arguments": call.arguments, "name": call.name}
    return f"<tool_call>\n{json.dumps(body, ensure_ascii=False) if as_json else repr(body)}\n</tool_call>"


def make_conversation(
    rng: random.Random,
    *,
    held_out: bool = False,
    everyday: bool | None = None,
    difficulty: float = 1.0,
    number: int = 0,
    pieces: Sequence[str] = (),
    drill: float = 0.0,
    hard: float = 0.0,
) -> Conversation:
    """Make one conversation.

    Args:
        rng: Source of all randomness.
        held_out: Use nouns and values that training never shows.
        everyday: Draw everyday tools too; by default just where `held_out` is False, since training shows them.
        difficulty: 0 (one small tool, much copying) to 1 (everything).
        number: Makes the call ids unique.
        pieces: What made-up words are made of; see `Values`.
        drill: Share of conversations whose tools have opaque names. With telling ones alone a model guesses a parameter
            from the type of its value, and never learns to look for the tool that the question is about.
        hard: Share of conversations that ask for more than the others, once `difficulty` is 1; see `Values`.
    """
    is_opaque = drill > 0 and rng.random() < drill
    is_hard = hard > 0 and rng.random() < hard * difficulty
    values = Values(rng, held_out=held_out, pieces=pieces, opaque=is_opaque, hard=is_hard)
    kinds = ("tools", "json", "extraction", "plain", "copy")
    kind = rng.choices(kinds, (76, 12 * difficulty, 5 * difficulty, 4, 2 + 14 * (1 - difficulty)))[0]
    if kind == "extraction":
        return _extraction_conversation(values, number)
    if kind == "json":
        return _json_conversation(values)
    if kind == "tools":
        return _tool_conversation(values, difficulty, number, everyday=not held_out if everyday is None else everyday)
    return _plain_conversation(values, copying=kind == "copy")


def conversations(seed: int, **options: Any) -> Iterator[Conversation]:
    """Yield conversations without end."""
    rng = random.Random(seed)  # noqa: S311  (reproducible data, no secret)
    number = 0
    while True:
        yield make_conversation(rng, number=number, **options)
        number += 1


def _system(values: Values) -> list[Message]:
    if values.chance(0.45):
        return []
    return [System(values.rng.choice(_SYSTEM_TEXTS) if values.chance(0.9) else "")]


def _plain_conversation(values: Values, *, copying: bool) -> Conversation:
    messages, steps = _system(values), []
    kind: Kind
    for _ in range(values.rng.randint(1, 4) if not copying else values.rng.randint(3, 8)):
        if copying:
            text = values.rng.choice((values.phrase, values.name, values.code, lambda: values.phrase(6), values.path))()
            question = values.rng.choice(("Repeat: {}", "Say {}", "Repeat after me: {}", 'Copy "{}"')).format(text)
            reply, kind = text, "copy"
        elif values.chance(0.25):
            question, reply, kind = _unanswerable(values, []), NO_TOOL, "no_tool"
        else:
            (question, reply), kind = _small_talk(values), "chat"
        messages.append(User(question))
        steps.append(Step(kind, len(messages)))
        messages.append(Assistant(reply))
    return Conversation(tuple(messages), tuple(steps))


def _small_talk(values: Values) -> tuple[str, str]:
    questions, answer = values.rng.choice(_CHAT)
    return values.rng.choice(questions), answer


def _json_conversation(values: Values) -> Conversation:
    schema, fields = make_schema(values)
    messages, steps = _system(values), []
    for _ in range(values.rng.randint(1, 5)):
        question, filled = json_turn(values, fields)
        messages.append(User(question))
        steps.append(Step("json", len(messages)))
        messages.append(Assistant(json.dumps(filled, ensure_ascii=False)))
    return Conversation(tuple(messages), tuple(steps), schema=schema)


def _extraction_conversation(values: Values, number: int) -> Conversation:
    """A single tool named after a class, whose call is the answer: how frameworks ask for structured output."""
    spec, fields = extraction_tool(values)
    messages = _system(values)
    question, filled = json_turn(values, fields)
    messages.append(User(question))
    step = Step("one_call", len(messages))
    messages.append(Assistant(calls=(ToolCall(f"call_{number}", spec.name, dict(filled)),)))
    return Conversation(tuple(messages), (step,), (spec,), json_calls=values.chance(0.5))


def _toolset(values: Values, difficulty: float, *, everyday: bool) -> tuple[list[Tool], bool]:
    """Return the tools of a conversation, and whether only their verbs tell some of them apart."""
    rng = values.rng
    few = 0 if values.opaque and difficulty > 0.3 else 3 + 12 * (1 - difficulty)
    three, four = (3.5, 4.5) if values.hard else (3, 2.5)
    amount = rng.choices((1, 2, 3, 4), (few, 3, three * difficulty + 0.01, four * difficulty + 0.01))[0]
    most = 1 + round(rng.random() * (0.6 + 2.4 * difficulty)) + (rng.random() < 0.2 * difficulty)
    if values.hard:
        most = rng.randint(2, 4)
    related = 0.35 if values.hard else 0.12
    optional = 0.4 if difficulty > 0.6 and values.chance(0.12) else 0.0
    tools: dict[str, Tool] = {}
    by_verb = False
    while len(tools) < amount:
        if everyday and not values.opaque and values.chance(0.28):
            tool = everyday_tool(values)
        elif (
            (named := [t for t in tools.values() if t.noun and not t.asks])
            and difficulty > 0.6
            and values.chance(related)
        ):
            tool = related_tool(values, rng.choice(named), most_parameters=most)
        else:
            tool = make_tool(values, most_parameters=most, optional=optional)
        same_noun = any(tool.noun == other.noun for other in tools.values())
        if same_noun and (not tool.noun or any(t.asks for t in (tool, *tools.values()) if t.noun == tool.noun)):
            continue
        by_verb = by_verb or same_noun
        tools.setdefault(tool.name, tool)
    shuffled = list(tools.values())
    rng.shuffle(shuffled)
    return shuffled, by_verb


def _tool_conversation(values: Values, difficulty: float, number: int, *, everyday: bool) -> Conversation:
    rng = values.rng
    tools, by_verb = _toolset(values, difficulty, everyday=everyday)
    messages = _system(values)
    steps: list[Step] = []
    for turn in range(rng.choices((1, 2, 3, 4, 5, 6, 8), (2, 4, 5, 5, 4, 2, 1))[0]):
        two = (36 if values.hard else 26) * difficulty
        kind = rng.choices(("one", "two", "no_tool", "chat"), (66, two, 9, 5))[0]
        if kind == "chat":
            question, reply = _small_talk(values)
        elif kind == "no_tool":
            question, reply = _unanswerable(values, tools), NO_TOOL
        else:
            _agent_turn(values, tools, kind == "two", by_verb, f"{number}_{turn}", messages, steps)
            continue
        messages.append(User(question))
        steps.append(Step(kind, len(messages)))  # type: ignore[arg-type]  # narrowed by the branches above
        messages.append(Assistant(reply))
    specs = tuple(tool.spec for tool in tools)
    return Conversation(tuple(messages), tuple(steps), specs, json_calls=values.chance(0.5))


_OUT_OF_REACH = (
    *(
        "Tell me a joke.",
        "Tell me a joke about {}.",
        "Write a poem about {}.",
        "Write a story.",
        "What is the meaning of life?",
    ),
    *(
        "Who won the {}?",
        "Why is the sky blue?",
        "How do I cook {}?",
        "What do you think of {}?",
        "Explain {} to me.",
        "Sing a song.",
    ),
)


def _unanswerable(values: Values, tools: list[Tool]) -> str:
    """Ask for something that none of the tools is about."""
    if values.chance(0.2):
        return values.rng.choice(_OUT_OF_REACH).format(values.phrase(2))
    taken = {word for tool in tools for word in tool.noun.split()}
    while set((noun := values.noun()).split()) & taken:
        pass
    other = make_tool(values, most_parameters=2, noun=noun)
    return finish(values, ask(values, other, other.arguments(values), by_name=False))


def _agent_turn(
    values: Values, tools: list[Tool], two: bool, by_verb: bool, number: str, messages: list[Message], steps: list[Step]
) -> None:
    """Append a question, one or two calls, their results and the answer."""
    rng = values.rng
    tool = rng.choice(tools)
    made: list[tuple[Tool, Arguments]] = [(tool, tool.arguments(values))]
    question = ask(values, tool, made[0][1], by_verb=by_verb)
    if two:
        other = tool if values.chance(0.55) or len(tools) == 1 else rng.choice(tools)
        made.append((other, other.arguments(values)))
        if made[0] == made[1] or (not made[0][1] and other is tool):
            made.pop()
        elif other is tool and list(made[0][1]) == list(made[1][1]) and len(made[0][1]) == 1 and values.chance(0.7):
            first, second = (str(next(iter(arguments.values()))) for _, arguments in made)
            marked = ask(values, tool, {next(iter(made[0][1])): "\0"}, by_verb=by_verb)
            joint = rng.choice(
                (
                    f"{first} and {second}",
                    f"{first} and {second}",
                    f"{first} and in {second}",
                    f"{first} and for {second}",
                )
            )
            question = (
                marked.replace("\0", joint)
                if marked.count("\0") == 1
                else f"{question} and {ask(values, tool, made[1][1])}"
            )
        else:
            joint = rng.choice((" and ", " and ", " and then ", ", and ", " and also "))
            question += joint + ask(values, other, made[1][1], by_verb=by_verb).removeprefix("*").removeprefix(
                "please "
            )
    calls = tuple(ToolCall(f"call_{number}_{i}", t.name, dict(args)) for i, (t, args) in enumerate(made))
    greeting = rng.choice(_GREETINGS) if values.chance(0.06) else ""
    messages.append(User(greeting + finish(values, question)))
    steps.append(Step("two_calls" if len(calls) > 1 else "one_call", len(messages)))
    messages.append(Assistant(calls=calls))
    results = [make_result(values, t, args) for t, args in made]
    failed = any(is_error(r) for r in results)
    messages.extend(ToolResult(call.id, result, call.name) for call, result in zip(calls, results, strict=True))
    sentences = [answer(t, args, r, several=len(made) > 1) for (t, args), r in zip(made, results, strict=True)]
    steps.append(Step("error" if failed else "two_answers" if len(made) > 1 else "answer", len(messages)))
    messages.append(Assistant(" ".join(sentences)))
