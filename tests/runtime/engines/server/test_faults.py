"""A server that misbehaves: every fault is a typed error or a clean retry; nothing hangs, no text comes twice."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading

import pytest

from hermes_runtime.checkpoint.vocabulary import load_vocabulary
from hermes_runtime.engines.base import GenerationRequest, Usage
from hermes_runtime.engines.retries import RetriedGeneration
from hermes_runtime.engines.server.engine import ServerEngine
from hermes_runtime.errors import (
    ContextWindowExceededError,
    EngineError,
    GenerationTimeoutError,
    InvalidRequestError,
    ModelNotFoundError,
)
from hermes_runtime.grammar import build_grammar
from hermes_runtime.messages import ToolSpec, User
from hermes_runtime.options.generation import SamplingParams
from hermes_runtime.turn import Turn, TurnRequest
from tests.support.faulty_server import FaultyServer, event
from tests.support.requests import generation_request
from tests.support.server_turns import doctor_on

HELLO, WORLD = "Hello", " world."
TOOL = ToolSpec("f", "", {"type": "object", "properties": {"n": {"type": "integer", "minimum": 5}}, "required": ["n"]})


@pytest.fixture(scope="module")
def vocabulary():
    """The small files, read once."""
    return load_vocabulary("tiny-hermes")


@pytest.fixture(scope="module")
def words(vocabulary):
    """The ids of two pieces of text."""
    return [vocabulary.tokenizer.encode(text, add_special_tokens=False) for text in (HELLO, WORLD)]


@pytest.fixture
def open_engine(vocabulary, monkeypatch):
    """Makes engines over faulty servers and takes all of it down again."""
    monkeypatch.setattr("hermes_runtime.engines.server.engine.load_vocabulary", lambda model: vocabulary)
    opened = []

    def make(*acts, max_retries=2, engine_options=None, **server_options):
        server = FaultyServer(acts, **server_options)
        opened.append(server)
        engine = ServerEngine(
            "tiny-hermes",
            base_url=server.url,
            max_retries=max_retries,
            **{"retry_delay": 0.001, **(engine_options or {})},
        )
        opened.append(engine)
        return engine, server

    yield make
    for resource in reversed(opened):
        resource.close()


@pytest.fixture
def answer_well(words):
    """An act: the whole answer."""

    def act(reply):
        reply.head()
        reply.text(HELLO, words[0])
        reply.text(WORLD, words[1], "stop")
        reply.end()

    return act


def ask(**options):
    return generation_request((1, 2, 3), max_tokens=50, **options)


def asked(engine, max_retries=None, **options):
    """A generation as turns begin it."""
    return RetriedGeneration(engine, ask(**options), max_retries)


def text_of(generation):
    return "".join(delta.text for delta in generation)


def status(code, *headers, said='{"error": {"message": "too much"}}'):
    def act(reply):
        reply.head("application/json", code, *headers)
        reply.send(said.encode())

    return act


def hang_up(reply): ...


@pytest.mark.parametrize(
    "fault",
    [
        hang_up,
        status("429 Too Many Requests", "Retry-After: 0"),
        status("503 Service Unavailable", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"),
        status("500 Internal Server Error", "Retry-After: soon"),
        status("502 Bad Gateway", said="<html>bad gateway</html>"),
        lambda reply: reply.send(b"HTTP/1.1 200 OK\r\nContent-Ty"),
        lambda reply: (reply.head(), reply.send(b'data: {"error": {"message": "overloaded", "code": 503}}\n\n')),
        lambda reply: reply.head(),
        lambda reply: (reply.head(), reply.send(b"data: [DONE]\n\n")),
        lambda reply: reply.send(b"\x16\x03\x01 this is no HTTP\r\n\r\n"),
    ],
)
def test_a_fault_before_the_first_text_is_retried(open_engine, answer_well, fault):
    engine, server = open_engine(fault, fault, answer_well)
    generation = asked(engine)
    assert text_of(generation) == HELLO + WORLD
    assert generation.usage == Usage(3, 2, cached_tokens=2)
    assert len(server.bodies) == 3
    assert server.bodies[0] == server.bodies[2]


@pytest.mark.parametrize("fault", [hang_up, status("500 Internal Server Error")])
def test_retries_end(open_engine, fault):
    engine, server = open_engine(fault)
    with pytest.raises(EngineError):
        text_of(asked(engine, max_retries=1))
    assert len(server.bodies) == 2


def test_a_stream_that_breaks_after_text_is_an_error_and_no_text_comes_twice(open_engine, words, answer_well):
    engine, server = open_engine(lambda reply: (reply.chunked_head(), reply.chunk(event(HELLO, words[0]))), answer_well)
    deltas = iter(asked(engine))
    assert next(deltas).text == HELLO
    with pytest.raises(EngineError, match="broke"):
        next(deltas)
    assert len(server.bodies) == 1
    assert text_of(asked(engine)) == HELLO + WORLD


def test_a_stream_that_ends_politely_in_the_middle_is_an_error(open_engine, words):
    engine, _ = open_engine(lambda reply: (reply.head(), reply.text(HELLO, words[0])))
    with pytest.raises(EngineError, match="middle"):
        text_of(asked(engine))


def test_an_answer_that_is_complete_but_for_its_last_line_counts(open_engine, words):
    def act(reply):
        reply.chunked_head()
        reply.chunk(event(HELLO, words[0], "stop"))

    engine, _ = open_engine(act)
    assert text_of(asked(engine)) == HELLO


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: {not json}\n\n",
        b"data: [1, 2]\n\n",
        b'data: {"choices": 7}\n\n',
        b'data: {"no": "choices"}\n\n',
        b'data: {"choices": [{"text": "x", "token_ids": ["a"]}]}\n\n',
        b'data: {"choices": [{"text": "caf\xc3"}]}\n\n',
        b'data: {"choices": [{"text": "", "finish_reason": "abort"}]}\n\n',
        b"data: \xff\xfe\x00\n\n",
    ],
)
def test_garbage_is_an_error(open_engine, words, garbage):
    def act(reply):
        reply.head()
        reply.text(HELLO, words[0])
        reply.send(garbage)
        reply.text(WORLD, words[1], "stop")

    engine, _ = open_engine(act)
    with pytest.raises(EngineError):
        text_of(asked(engine))


def test_a_page_instead_of_a_stream_is_an_error_at_once(open_engine):
    def act(reply):
        reply.head("text/html; charset=utf-8")
        reply.send(b"<html>log in</html>")

    engine, server = open_engine(act)
    with pytest.raises(EngineError, match=r"text/html.*base_url"):
        text_of(asked(engine))
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("400 Bad Request", InvalidRequestError),
        ("422 Unprocessable Entity", InvalidRequestError),
        ("404 Not Found", ModelNotFoundError),
        ("401 Unauthorized", EngineError),
        ("307 Temporary Redirect", EngineError),
    ],
)
def test_refusals_are_typed_and_not_repeated(open_engine, code, error):
    engine, server = open_engine(status(code, "Location: http://elsewhere/"))
    with pytest.raises(error):
        text_of(asked(engine))
    assert len(server.bodies) == 1


def test_a_slow_first_byte_runs_into_the_requests_timeout(open_engine):
    engine, server = open_engine(lambda reply: reply.wait_released())
    with pytest.raises(GenerationTimeoutError, match=r"0\.2 seconds"):
        text_of(asked(engine, timeout=0.2))
    assert len(server.bodies) == 1


def test_a_server_that_falls_silent_runs_into_the_idle_timeout(open_engine, words):
    def act(reply):
        reply.head()
        reply.text(HELLO, words[0])
        reply.wait_released()

    engine, _ = open_engine(act, engine_options={"idle_timeout": 0.2})
    with pytest.raises(GenerationTimeoutError, match="sent nothing"):
        text_of(asked(engine))


def test_waiting_for_a_retry_counts_against_the_timeout(open_engine):
    engine, _ = open_engine(status("429 Too Many Requests", "Retry-After: 30"))
    with pytest.raises(GenerationTimeoutError):
        text_of(asked(engine, timeout=0.2))


def test_characters_split_over_packets_come_whole(open_engine):
    pieces = event("Zürich 🦊 ok", reason="stop")

    def act(reply):
        reply.head()
        for byte in pieces:
            reply.send(bytes([byte]))
        reply.end()

    engine, _ = open_engine(act, tells_ids=False)
    deltas = list(engine.submit(ask()))
    assert "".join(delta.text for delta in deltas) == "Zürich 🦊 ok"


def begin(reply, words, hung_up):
    reply.head()
    for ids in words:
        reply.text(HELLO, ids)
    if reply.wait_hung_up():
        hung_up.set()


def test_cancelling_closes_the_connection(open_engine, words):
    hung_up = threading.Event()
    engine, _ = open_engine(lambda reply: begin(reply, words[:1], hung_up))
    deltas = iter(engine.submit(ask()))
    assert next(deltas).text == HELLO
    deltas.close()
    assert hung_up.wait(30)

    generation = engine.submit(ask())
    deltas = iter(generation)
    next(deltas)
    generation.cancel()
    assert [delta.finish_reason for delta in deltas] == ["cancelled"]


async def test_cancelling_a_task_closes_the_connection(open_engine, words):
    hung_up, started = threading.Event(), asyncio.Event()
    engine, _ = open_engine(lambda reply: begin(reply, words[:1], hung_up))

    async def read():
        async for _ in engine.submit(ask()):
            started.set()

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(hung_up.wait, 30)


def test_a_generation_that_is_cancelled_before_it_began_ends(open_engine, answer_well):
    engine, _ = open_engine(answer_well)
    generation = engine.submit(ask())
    generation.cancel()
    assert list(generation)[-1].finish_reason in ("cancelled", "stop")
    assert generation.usage is not None


def test_closing_the_engine_ends_what_runs(open_engine):
    engine, _ = open_engine(lambda reply: reply.wait_released())
    generation = engine.submit(ask())
    threading.Thread(target=engine.close).start()
    assert [delta.finish_reason for delta in generation] == ["cancelled"]
    with pytest.raises(EngineError, match="closed"):
        engine.submit(ask())


async def test_a_hundred_clients_at_once_each_get_their_own_answer(open_engine):
    gate = threading.Barrier(100, timeout=60)

    def act(reply):
        gate.wait()  # nobody is answered before everybody has asked
        reply.head()
        reply.text(f"{HELLO}{WORLD} {reply.body['seed']}", reason="stop")
        reply.end(completion_tokens=reply.body["seed"])

    engine, server = open_engine(act, tells_ids=False)

    async def one(seed):
        generation = engine.submit(ask(seed=seed))
        text = "".join([delta.text async for delta in generation])
        return text, generation.usage.completion_tokens

    answers = await asyncio.gather(*(one(seed) for seed in range(100)))
    assert answers == [(f"{HELLO}{WORLD} {seed}", seed) for seed in range(100)]
    assert len(server.bodies) == 100


def test_a_server_that_is_still_loading_is_waited_for(open_engine, answer_well):
    engine, _ = open_engine(answer_well, failures=range(2))
    assert text_of(engine.submit(ask())) == HELLO + WORLD


@pytest.mark.parametrize("number", range(5))
def test_a_server_that_fails_once_while_it_is_tried_is_no_worse_for_it(open_engine, answer_well, number):
    options = {"owner": "sglang", "grammars": ("ebnf",), "refuses_grammars": True}
    well, server = open_engine(answer_well, **options)
    assert len(server.heads) == 5
    engine, _ = open_engine(answer_well, failures=(number,), **options)
    assert engine.profile == well.profile


@pytest.mark.parametrize("elsewhere", ["403 Forbidden", "302 Found", "500 Internal Server Error"])
def test_a_gateway_that_lets_nothing_else_through_will_do(open_engine, answer_well, elsewhere):
    engine, _ = open_engine(answer_well, elsewhere=elsewhere)
    assert engine.profile.grammar == "structured_outputs"
    assert text_of(engine.submit(ask())) == HELLO + WORLD


def test_a_router_without_a_list_of_models_is_told_the_name(open_engine, answer_well):
    engine, server = open_engine(answer_well, lists_models=False, engine_options={"served_model": "mine"})
    text_of(engine.submit(ask()))
    assert server.bodies[0]["model"] == "mine"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"api_key": "s3cret\n"}, "api_key"),
        ({"api_key": "s3crét"}, "api_key"),
        ({"headers": {"X-Key": " s3cret"}}, "X-Key"),
    ],
)
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(open_engine, options, named):
    with pytest.raises(InvalidRequestError, match=named) as refused:
        open_engine(engine_options=options)
    assert "s3cr" not in str(refused.value)


def test_an_address_with_a_bad_port_is_refused():
    with pytest.raises(InvalidRequestError, match="80OO"):
        ServerEngine("tiny-hermes", base_url="http://localhost:80OO/v1")


def test_no_server_is_an_error_that_names_the_address():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(EngineError, match=r"no server answers at http://127.0.0.1:\d+ .*running"):
        ServerEngine("tiny-hermes", base_url=url, max_retries=0)


def test_a_prompt_without_room_never_leaves(open_engine, answer_well):
    engine, server = open_engine(answer_well, window=64)
    assert engine.context_window == 64
    with pytest.raises(ContextWindowExceededError):
        engine.submit(GenerationRequest(prompt_ids=tuple(range(64))))
    assert not server.bodies


def test_secrets_stay_in_their_header(open_engine, answer_well):
    engine, server = open_engine(answer_well, engine_options={"api_key": "s3cret", "headers": {"X-Team": "one"}})
    text_of(engine.submit(ask()))
    assert all(
        "authorization: bearer s3cret" in head.lower() and "x-team: one" in head.lower() for head in server.heads
    )
    assert "s3cret" not in repr(engine) + repr(vars(engine))


@pytest.mark.parametrize("alternatives", [0, 1])
def test_log_probabilities_come_without_ids_where_a_server_tells_them_so(open_engine, words, vocabulary, alternatives):
    one, other = words[0][0], words[1][0]
    # The text that llama.cpp tells is what it sends with a token, which may be nothing yet.
    top = [{"id": other, "token": "", "logprob": -0.1}, {"id": one, "token": "", "logprob": -0.2}]
    said = {"content": [{"id": one, "token": "", "logprob": -0.2, "top_logprobs": top}]}

    def act(reply):
        reply.head()
        choice = {"index": 0, "text": "", "logprobs": said, "finish_reason": "stop"}
        reply.send(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
        reply.end()

    engine, server = open_engine(act, owner="llamacpp", tells_ids=False)
    assert (engine.profile.kind, engine.profile.tells_logprobs, engine.profile.tells_ids) == ("llama.cpp", True, False)
    deltas = list(engine.submit(ask(logprobs=alternatives)))
    found = deltas[0].logprobs[0]
    assert (found.id, found.text, found.logprob) == (one, vocabulary.tokenizer.decode([one]), -0.2)
    assert [best.id for best in found.top] == [other][:alternatives]
    assert deltas[0].ids == ()
    assert server.bodies[0]["logprobs"] == 1


def test_llama_cpp_penalizes_whatever_came_before(open_engine, answer_well):
    """Its own word for that, -1, was valid for years and is refused now."""
    engine, server = open_engine(answer_well, owner="llamacpp")
    request = ask(sampling=SamplingParams(repetition_penalty=1.2))
    text_of(engine.submit(request))
    assert server.bodies[0]["repeat_penalty"] == 1.2
    assert server.bodies[0]["repeat_last_n"] == len(request.prompt_ids) + 50


@pytest.mark.parametrize(
    ("owner", "biases", "least"),
    [
        ("vllm", {"5": 1.5}, 3),
        ("sglang", {"5": 1.5}, 3),
        ("llamacpp", [[5, 1.5]], None),
        ("me", {"5": 1.5}, None),
        ("nobody", {"5": 1.5}, None),
    ],
)
def test_each_server_is_told_biases_and_a_least_length_in_its_own_form(open_engine, answer_well, owner, biases, least):
    engine, server = open_engine(answer_well, owner=owner)
    text_of(engine.submit(ask(sampling=SamplingParams(logit_bias={5: 1.5}), min_tokens=least)))
    assert server.bodies[0]["logit_bias"] == biases
    assert server.bodies[0].get("min_tokens") == least
    if least is None:
        with pytest.raises(InvalidRequestError, match=r"\) has no min_tokens; leave it out, got 3"):
            engine.submit(ask(min_tokens=3))


@pytest.mark.parametrize("owner", ["llamacpp", "me"])
@pytest.mark.parametrize("penalty", ["frequency_penalty", "presence_penalty"])
def test_penalties_that_count_the_prompt_too_are_others(open_engine, answer_well, owner, penalty):
    engine, server = open_engine(answer_well, owner=owner)
    with pytest.raises(InvalidRequestError, match=f"has no {penalty} of what was generated alone"):
        engine.submit(ask(sampling=SamplingParams(**{penalty: 0.5})))
    assert not server.bodies


def test_stop_strings_beside_a_least_length_need_ids(open_engine, answer_well):
    engine, server = open_engine(answer_well, owner="sglang", tells_ids=False)
    with pytest.raises(InvalidRequestError, match="tells no token ids, so min_tokens cannot be kept"):
        engine.submit(ask(min_tokens=3, stop=("x",)))
    assert not server.bodies


def test_a_forked_child_loses_its_streams_and_may_open_an_engine_of_its_own(open_engine, answer_well):
    engine, server = open_engine(lambda reply: reply.wait_released(), answer_well)
    generation = engine.submit(ask())
    assert server.asked.wait(30)
    child = os.fork()
    if not child:
        status = 1
        try:
            with pytest.raises(EngineError, match="forked"):
                text_of(generation)
            with pytest.raises(EngineError, match="closed"):
                engine.submit(ask())
            own = ServerEngine("tiny-hermes", base_url=server.url)
            status = 0 if text_of(own.submit(ask())) == HELLO + WORLD else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not engine.is_closed


def test_a_server_that_goes_on_past_a_stop_string_is_left(open_engine, words):
    hung_up = threading.Event()

    engine, _ = open_engine(lambda reply: begin(reply, [words[0], words[0]], hung_up))
    deltas = list(engine.submit(ask(stop=("lo",))))
    assert ("".join(delta.text for delta in deltas), deltas[-1].finish_reason) == ("Hel", "stop")
    assert hung_up.wait(30)


LARK_FORMS = ("structured_outputs", "ebnf %llguidance", "grammar %llguidance")


@pytest.mark.parametrize("refuses", [True, False])
@pytest.mark.parametrize(
    ("owner", "keeps", "found", "tried"),
    [
        ("vllm", ("structured_outputs",), "structured_outputs", ["structured_outputs"]),
        ("sglang", ("ebnf %llguidance",), "ebnf %llguidance", ["ebnf %llguidance"]),
        ("sglang", ("ebnf",), "ebnf", ["ebnf %llguidance", "ebnf"]),
        ("llamacpp", ("grammar %llguidance", "grammar"), "grammar %llguidance", ["grammar %llguidance"]),
        # Without llguidance, a Lark grammar ends llama.cpp's process.
        ("llamacpp", ("grammar",), "grammar", ["grammar"]),
        ("me", ("grammar",), "grammar", ["grammar"]),
        ("organization_owner", ("grammar",), None, []),
        ("vllm", (), None, ["structured_outputs"]),
        ("sglang", (), None, ["ebnf %llguidance", "ebnf"]),
        ("llamacpp", (), None, ["grammar"]),
        ("somebody", ("grammar",), "grammar", ["structured_outputs", "ebnf %llguidance", "ebnf", "grammar"]),
        (
            "somebody",
            ("grammar %llguidance",),
            "grammar %llguidance",
            [*LARK_FORMS[:2], "ebnf", "grammar", LARK_FORMS[2]],
        ),
    ],
)
def test_the_best_form_of_a_grammar_that_is_kept_is_found(
    open_engine, answer_well, owner, keeps, found, tried, refuses
):
    engine, server = open_engine(answer_well, owner=owner, grammars=keeps, refuses_grammars=refuses)
    assert engine.profile.grammar == found
    assert server.tried == tried
    assert engine.grammar_language == (None if found is None else "lark" if found in LARK_FORMS else "gbnf")
    # llguidance reads the vocabulary by itself in vLLM and SGLang, and llama.cpp reads it for it.
    assert engine.profile.names_tokens is (found in ("structured_outputs", "ebnf %llguidance"))


@pytest.mark.parametrize(
    ("owner", "form", "field"),
    [("llamacpp", "grammar", "grammar"), ("me", "grammar", "grammar"), ("sglang", "ebnf", "ebnf")],
)
def test_a_turn_sends_gbnf_to_a_server_that_reads_it(open_engine, answer_well, owner, form, field):
    engine, server = open_engine(answer_well, owner=owner, grammars=(form,))
    turn = Turn(engine, TurnRequest([User("Hello.")], tools=[TOOL]))
    list(turn)
    assert server.bodies[0][field] == build_grammar([TOOL], language="gbnf").text
    with pytest.raises(InvalidRequestError, match="GBNF"):
        Turn(engine, TurnRequest([User("Hello.")], regex="a+"))
    Turn(engine, TurnRequest([User("Hello.")], tools=[TOOL], tool_choice="required"))
    assert len(server.bodies) == 1


def test_what_gbnf_leaves_out_is_checked_and_asked_for_again(open_engine, vocabulary):
    def say(text):
        def act(reply):
            reply.head()
            reply.text(text, vocabulary.tokenizer.encode(text, add_special_tokens=False), "stop")
            reply.end()

        return act

    low, high = (f'<tool_call>\n{{"arguments": {{"n": {n}}}, "name": "f"}}\n</tool_call>' for n in (1, 7))
    engine, server = open_engine(
        say(low), say(high), say('{"n": 1}'), say('{"n": 7}'), owner="sglang", grammars=("ebnf",)
    )
    turn = Turn(engine, TurnRequest([User("Hello.")], tools=[TOOL], max_repairs=1))
    list(turn)
    assert (turn.result.repairs, turn.result.tool_calls[0].arguments) == (1, {"n": 7})
    turn = Turn(engine, TurnRequest([User("Hello.")], schema=TOOL.parameters, max_repairs=1))
    list(turn)
    assert (turn.result.repairs, turn.result.content) == (1, '{"n": 7}')
    assert all("ebnf" in body for body in server.bodies)


@pytest.mark.parametrize(
    ("owner", "grammars", "said"),
    [("llamacpp", ("grammar",), "GBNF"), ("vllm", ("structured_outputs",), "Lark"), ("vllm", (), "max_repairs")],
)
def test_doctor_tells_the_language_of_grammars(answer_well, owner, grammars, said):
    assert said in doctor_on(FaultyServer([answer_well], owner=owner, grammars=grammars))
