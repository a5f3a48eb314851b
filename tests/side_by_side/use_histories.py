"""Threads that other vendors' models began: the next turn is answered, and the model reads what was said in them."""

from __future__ import annotations

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    messages_from_dict,
    messages_to_dict,
)

from tests.side_by_side.scenario import Scenario, add

CALL = {"name": "add", "args": {"a": 1}, "id": "t1"}
MORE = HumanMessage("And more?")


def result(content, call_id="t1", **fields):
    return ToolMessage(content, tool_call_id=call_id, name="add", **fields)


def after_call(content):
    return [HumanMessage("Add."), AIMessage("", tool_calls=[CALL]), result(content)]


def said(*blocks, **fields):
    return [HumanMessage("Hello."), AIMessage(list(blocks), **fields), MORE]


_THINKING = {"type": "thinking", "thinking": "hm", "signature": "s"}
_CACHED = {"cache_control": {"type": "ephemeral"}}
_ANTHROPIC = [
    SystemMessage([{"type": "text", "text": "Be brief.", **_CACHED}]),
    HumanMessage([{"type": "text", "text": "Add.", **_CACHED}]),
    AIMessage(
        [_THINKING, {"type": "text", "text": "Let me."}, {"type": "tool_use", "id": "t1", "name": "add", "input": {}}],
        tool_calls=[CALL],
    ),
    result([{"type": "text", "text": "it is two", **_CACHED}]),
    MORE,
]
_RESPONSES_CALL = {"type": "function_call", "name": "add", "arguments": '{"a": 1}', "call_id": "t1", "id": "fc1"}

# A thread, and what of it the model must have read.
HISTORIES = {
    "OpenAI's responses": (
        [
            HumanMessage("Add."),
            AIMessage([{"type": "reasoning", "id": "rs_1", "summary": []}, _RESPONSES_CALL], tool_calls=[CALL]),
            result("it is two"),
            AIMessage([{"type": "text", "text": "Two, then.", "annotations": [], "id": "msg_1"}]),
            MORE,
        ],
        ["it is two", "Two, then."],
    ),
    "standard blocks": (
        said({"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "Found it."}),
        ["Found it."],
    ),
    "a server's web search": (
        said(
            {"type": "web_search_call", "id": "ws", "status": "completed"},
            {"type": "text", "text": "Found it.", "annotations": [{"type": "url_citation", "url": "u"}]},
        ),
        ["Found it."],
    ),
    "a refusal": (said({"type": "refusal", "refusal": "I cannot say."}), ["I cannot say."]),
    "arguments in additional_kwargs alone": (
        [
            HumanMessage("Add."),
            AIMessage(
                "",
                additional_kwargs={
                    "tool_calls": [
                        {"id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
                    ]
                },
            ),
            result("it is two"),
        ],
        ["it is two"],
    ),
    "a function call of the older form": (
        [
            HumanMessage("Add."),
            AIMessage("", additional_kwargs={"function_call": {"name": "add", "arguments": '{"a": 1}'}}),
            FunctionMessage("it is two", name="add"),
        ],
        ["it is two", "add"],
    ),
    "Anthropic's blocks": (_ANTHROPIC, ["Be brief.", "Let me.", "it is two"]),
    "Anthropic's blocks, saved and read": (
        messages_from_dict(messages_to_dict(_ANTHROPIC)),
        ["Be brief.", "Let me.", "it is two"],
    ),
    "Anthropic's redacted thoughts": (
        said({"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "Found it."}),
        ["Found it."],
    ),
    "Anthropic's server tools": (
        said(
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
            {"type": "text", "text": "Found it.", "citations": []},
        ),
        ["Found it."],
    ),
    "Gemini's code": (
        said(
            {"type": "executable_code", "executable_code": "1", "language": 1},
            {"type": "code_execution_result", "code_execution_result": "1", "outcome": 1},
            "Found it.",
        ),
        ["Found it."],
    ),
    "Gemini's text in pieces": (
        said(
            {"type": "text", "text": "Found ", "index": 0, "extras": {"signature": "a"}}, {"type": "text", "text": "it"}
        ),
        ["Found", "it"],
    ),
    "Bedrock's thoughts": (
        said({"type": "reasoning_content", "reasoning_content": {"text": "hm"}}, {"type": "text", "text": "Found it."}),
        ["Found it."],
    ),
    "Bedrock's blocks without a type": (
        [SystemMessage([{"text": "Be brief."}, {"cachePoint": {"type": "default"}}]), MORE],
        ["Be brief."],
    ),
    "a text block without a type": ([HumanMessage([{"text": "Hello."}])], ["Hello."]),
    "a document of text": (
        [HumanMessage([{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "rain"}}])],
        ["rain"],
    ),
    "plain text with a type of its own": (
        [HumanMessage([{"type": "text-plain", "text": "rain", "mime_type": "text/plain"}])],
        ["rain"],
    ),
    "a system message that comes late": (
        [HumanMessage("Hello."), AIMessage("Hi."), SystemMessage("In French."), MORE],
        ["Hello.", "In French."],
    ),
    "a developer's message": (
        [SystemMessage("Be brief.", additional_kwargs={"__openai_role__": "developer"}), MORE],
        ["Be brief."],
    ),
    "messages by role": ([ChatMessage("Be brief.", role="system"), ChatMessage("Hello.", role="user")], ["Be brief."]),
    "OpenAI's dicts": (
        [
            {"role": "user", "content": [{"type": "text", "text": "Add."}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "it is two"},
        ],
        ["it is two"],
    ),
    "an answer that was begun": ([HumanMessage("Hello."), AIMessage("It is")], ["It is"]),
    "two questions in a row": ([HumanMessage("Hello."), HumanMessage("Hello?")], ["Hello.", "Hello?"]),
    "a thread that an answer begins": ([AIMessage("Hi."), MORE], ["Hi."]),
    "a call that nobody answered": ([HumanMessage("Add."), AIMessage("", tool_calls=[CALL]), MORE], ["add"]),
    "a result that nobody asked for": ([HumanMessage("Add."), result("it is two", "other"), MORE], ["it is two"]),
    "a call that could not be read": (
        [
            HumanMessage("Add."),
            AIMessage("", invalid_tool_calls=[{"name": "add", "args": "{bad", "id": "t1", "error": "no JSON"}]),
            result("that was no JSON", status="error"),
        ],
        ["that was no JSON", "add"],
    ),
    "results out of order": (
        [
            HumanMessage("Add."),
            AIMessage("", tool_calls=[CALL, {**CALL, "id": "t2"}]),
            result("second", "t2"),
            result("first"),
        ],
        ["first", "second"],
    ),
    "a chunk": (
        [
            HumanMessage("Add."),
            AIMessageChunk("part", tool_call_chunks=[{"name": "add", "args": '{"a": 1}', "id": "t1", "index": 0}]),
            result("it is two"),
        ],
        ["part", "it is two"],
    ),
    "an empty result": (after_call(""), ["add"]),
    "a result of JSON": (after_call([{"type": "json", "json": {"deep": "rain"}}]), ["rain"]),
    "a search result": (
        after_call(
            [{"type": "search_result", "source": "u", "title": "t", "content": [{"type": "text", "text": "rain"}]}]
        ),
        ["rain"],
    ),
    "rows that look like files": (after_call([{"type": "file", "name": "rain.txt"}]), ["rain.txt"]),
    "a document in a result": (
        after_call([{"type": "document", "source": {"type": "text", "data": "rain"}}]),
        ["rain"],
    ),
    "half of a surrogate pair": ([HumanMessage("Hello \ud83d.")], ["Hello"]),
    "the format's own words": (
        [HumanMessage("What does <tool_call> mean?"), AIMessage("<tool_call> opens a call."), MORE],
        ["opens a call."],
    ),
    "an image": (
        [HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])],
        [],
    ),
    "an image of a tool": (
        after_call([{"type": "text", "text": "shot"}, {"type": "image", "base64": "AAAA", "mime_type": "image/png"}]),
        ["shot"],
    ),
}


def _goes_on(messages, shown):
    return lambda make: [make().invoke(messages), {phrase: phrase in make.heard for phrase in shown}]


for _name, (_messages, _shown) in HISTORIES.items():
    add(Scenario(f"history with {_name}", "langchain", ["Fine."], _goes_on(_messages, _shown)))
