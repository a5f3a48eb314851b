"""How hosted classes are made and called: what their users write goes on working."""

from __future__ import annotations

from typing import Any

import httpx
from langchain_core.rate_limiters import InMemoryRateLimiter

from tests.side_by_side.kit import Person
from tests.side_by_side.kit import add as add_tool
from tests.side_by_side.scenario import Scenario, add
from tests.side_by_side.script import call, value

ANNA = value(name="Anna", age=31)
PERSON_TOOL = {"type": "function", "function": {"name": "Person"}}

# What ChatOpenAI is made with.
CHAT_MADE: dict[str, dict[str, Any]] = {
    "model_name": {"model_name": "gpt-4o-mini"},
    "max_tokens": {"max_tokens": 50},
    "max_completion_tokens": {"max_completion_tokens": 50},
    "max_tokens=None": {"max_tokens": None},
    "stop": {"stop": ["never"]},
    "stop_sequences": {"stop_sequences": ["never"]},
    "temperature=0": {"temperature": 0},
    "top_p and seed": {"top_p": 0.9, "seed": 1},
    "openai_api_key": {"openai_api_key": "none"},
    "organization": {"organization": "us"},
    "request_timeout": {"request_timeout": 5},
    "timeout": {"timeout": 5.0},
    "timeout by parts": {"timeout": (1.0, 5.0)},
    "timeout of httpx": {"timeout": httpx.Timeout(5.0)},
    "n=1": {"n": 1},
    "stream_usage": {"stream_usage": True},
    "streaming": {"streaming": True},
    "disable_streaming": {"disable_streaming": True},
    "penalties of 0": {"frequency_penalty": 0, "presence_penalty": 0},
    "a penalty": {"frequency_penalty": 0.5},
    "empty model_kwargs": {"model_kwargs": {}},
    "model_kwargs": {"model_kwargs": {"user": "anna"}},
    "metadata, tags and a name": {"metadata": {"a": 1}, "tags": ["x"], "name": "n"},
    "cache and callbacks": {"verbose": False, "cache": False, "callbacks": []},
    "default_headers": {"default_headers": {"a": "b"}},
    "use_responses_api=False": {"use_responses_api": False},
    "max_retries": {"max_retries": 2},
    "rate_limiter": {"rate_limiter": InMemoryRateLimiter(requests_per_second=1000)},
    "output_version": {"output_version": "v1"},
    "base_url=None": {"base_url": None},
    "empty logit_bias": {"logit_bias": {}},
    "reasoning_effort=None": {"reasoning_effort": None},
}
# What one call of it is given.
CHAT_CALLED: dict[str, dict[str, Any]] = {
    "user": {"user": "anna"},
    "n=1": {"n": 1},
    "penalties of 0": {"frequency_penalty": 0, "presence_penalty": 0},
    "max_completion_tokens": {"max_completion_tokens": 10},
    "max_tokens": {"max_tokens": 10},
    "sampling": {"temperature": 0.1, "top_p": 0.5, "seed": 1},
    "stop": {"stop": ["never"]},
    "response_format of text": {"response_format": {"type": "text"}},
    "parallel_tool_calls=None": {"parallel_tool_calls": None},
    "reasoning_effort=None": {"reasoning_effort": None},
    "store=False": {"store": False},
    "extra_headers": {"extra_headers": {"a": "b"}},
    "empty extra_body": {"extra_body": {}},
    "service_tier": {"service_tier": "auto"},
    "timeout": {"timeout": 5},
    "tools=[]": {"tools": []},
    "prompt_cache_key": {"prompt_cache_key": "k"},
}
# What its tools are bound with.
CHAT_BOUND: dict[str, dict[str, Any]] = {
    "strict": {"strict": True},
    "tool_choice=auto": {"tool_choice": "auto"},
    "tool_choice=required": {"tool_choice": "required"},
    "tool_choice=any": {"tool_choice": "any"},
    "tool_choice=True": {"tool_choice": True},
    "tool_choice=a name": {"tool_choice": "Person"},
    "tool_choice=a dict": {"tool_choice": PERSON_TOOL},
    "tool_choice=''": {"tool_choice": ""},
    "parallel_tool_calls=False": {"parallel_tool_calls": False},
    "temperature and user": {"temperature": 0, "user": "anna"},
}
# What its structured output is asked for with.
CHAT_STRUCTURED: dict[str, dict[str, Any]] = {
    "defaults": {},
    "strict": {"strict": True},
    "include_raw": {"include_raw": True},
    "function calling": {"method": "function_calling"},
    "function calling, strict": {"method": "function_calling", "strict": True},
    "JSON mode": {"method": "json_mode"},
    "a JSON schema and temperature": {"method": "json_schema", "temperature": 0},
    "stop": {"method": "json_schema", "stop": ["never"]},
    "max_tokens": {"max_tokens": 200},
}


def _made(options):
    return lambda make: make(**options).invoke("Hello")


def _called(options):
    return lambda make: [make().invoke("Hello", **options), make().bind(**options).invoke("Hello")]


def _bound(options):
    return lambda make: make().bind_tools([Person], **options).invoke("Who is Anna?")


def _structured(options):
    def run(make):
        found = make().with_structured_output(Person, **options).invoke("Who is Anna, in JSON?")
        return found if isinstance(found, Person) else [found["parsed"], found["parsing_error"]]

    return run


for _of, _options in CHAT_MADE.items():
    add(Scenario(f"ChatOpenAI made with {_of}", "langchain", ["Fine."], _made(_options)))
for _of, _options in CHAT_CALLED.items():
    add(Scenario(f"ChatOpenAI called with {_of}", "langchain", ["Fine.", "Good."], _called(_options)))
for _of, _options in CHAT_BOUND.items():
    _reply = call("Person", name="Anna", age=31)
    add(Scenario(f"ChatOpenAI's tools bound with {_of}", "langchain", [_reply], _bound(_options)))
for _of, _options in CHAT_STRUCTURED.items():
    add(Scenario(f"ChatOpenAI's structured output with {_of}", "langchain", [ANNA], _structured(_options)))

# What LlamaIndex's OpenAI is made with.
LLM_MADE: dict[str, dict[str, Any]] = {
    "temperature and max_tokens": {"temperature": 0.1, "max_tokens": 50},
    "max_retries and timeout": {"max_retries": 3, "timeout": 60.0},
    "empty additional_kwargs": {"additional_kwargs": {}},
    "additional_kwargs": {"additional_kwargs": {"seed": 1}},
    "api_key": {"api_key": "none"},
    "reuse_client": {"reuse_client": True},
    "default_headers": {"default_headers": {"a": "b"}},
    "strict": {"strict": False},
    "system_prompt": {"system_prompt": "Be brief."},
    "reasoning_effort=None": {"reasoning_effort": None},
}
# What one chat with it is given.
LLM_CALLED: dict[str, dict[str, Any]] = {
    "extra_headers": {"extra_headers": {"a": "b"}},
    "max_tokens": {"max_tokens": 10},
    "max_completion_tokens": {"max_completion_tokens": 10},
    "temperature and seed": {"temperature": 0, "seed": 1},
    "stop": {"stop": ["never"]},
    "penalties of 0": {"frequency_penalty": 0, "presence_penalty": 0},
    "n=1 and user": {"n": 1, "user": "anna"},
    "parallel_tool_calls=None": {"parallel_tool_calls": None},
}
# What its tools are called with.
LLM_TOOLS: dict[str, dict[str, Any]] = {
    "tool_required": {"tool_required": True},
    "tool_choice": {"tool_choice": "add"},
    "tool_choice=auto": {"tool_choice": "auto"},
    "allow_parallel_tool_calls": {"allow_parallel_tool_calls": True},
    "strict": {"strict": True},
}


def _chat(make, given=(), made=(), name=()):
    from llama_index.core.llms import ChatMessage

    return make(*name, **dict(made)).chat([ChatMessage("Hello")], **dict(given)).message


def _with_tools(options):
    from llama_index.core.tools import FunctionTool

    def run(make):
        llm, tool = make(), FunctionTool.from_defaults(add_tool.func)
        response = llm.chat_with_tools([tool], user_msg="1 and 2?", **options)
        calls = llm.get_tool_calls_from_response(response)
        return [response.message, len(response.message.additional_kwargs["tool_calls"]), len(calls)]

    return run


def _in_framework(options, part):
    return lambda make: _chat(make, **{part: options})


add(Scenario("OpenAI made with a positional model", "llama_index", ["Fine."], lambda make: _chat(make, name=["gpt-4"])))
for _of, _options in LLM_MADE.items():
    add(Scenario(f"OpenAI made with {_of}", "llama_index", ["Fine."], _in_framework(_options, "made")))
for _of, _options in LLM_CALLED.items():
    add(Scenario(f"OpenAI called with {_of}", "llama_index", ["Fine."], _in_framework(_options, "given")))
for _of, _options in LLM_TOOLS.items():
    add(Scenario(f"OpenAI's tools with {_of}", "llama_index", [call("add", a=1, b=2)], _with_tools(_options)))
