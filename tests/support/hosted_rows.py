"""Values of hosted models' options and what they are to mean, for the tests of both adapters. One line is one rule."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.options.hosted import HOSTED_OPTIONS
from tests.support.places import DATA

NAMES = json.loads((DATA / "hosted_options.json").read_text())
CONSTRUCTOR_NAMES = sorted({name for names in NAMES["constructors"].values() for name in names})
CALL_NAMES = sorted({name for names in NAMES["calls"].values() for name in names})

FUNCTION = {"name": "add", "description": "Add.", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
JSON = {"type": "json_object"}
LOOSE = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}

# Hosted options -> own options, where both may be given to a call.
MEANT = [
    ({"max_completion_tokens": 7}, {"max_tokens": 7}),
    ({"max_output_tokens": 7}, {"max_tokens": 7}),
    ({"max_tokens_to_sample": 7}, {"max_tokens": 7}),
    ({"max_new_tokens": 7}, {"max_tokens": 7}),
    ({"num_predict": 7}, {"max_tokens": 7}),
    ({"stop_sequences": ["END"]}, {"stop": ["END"]}),
    ({"stop_sequences": ("END",)}, {"stop": ["END"]}),
    ({"request_timeout": 5}, {"timeout": 5}),
    ({"default_request_timeout": 5.0}, {"timeout": 5.0}),
    ({"timeout": (1.0, 5.0)}, {"timeout": 5.0}),
    ({"timeout": httpx.Timeout(5.0, read=9.0)}, {"timeout": 9.0}),
    ({"request_timeout": httpx.Timeout(4.0)}, {"timeout": 4.0}),
    ({"repeat_penalty": 1.2}, {"repetition_penalty": 1.2}),
    ({"model_kwargs": {"seed": 3, "max_completion_tokens": 7}}, {"seed": 3, "max_tokens": 7}),
    ({"additional_kwargs": {"top_k": 4}}, {"top_k": 4}),
    ({"options": {"num_predict": 7, "repeat_penalty": 1.2}}, {"max_tokens": 7, "repetition_penalty": 1.2}),
]
# The same, for calls alone.
MEANT_BY_CALLS = [
    ({"tools": [TOOL], "allow_parallel_tool_calls": False}, {"tools": [TOOL], "parallel_tool_calls": False}),
    ({"tools": [TOOL], "parallel_tool_calls": None}, {"tools": [TOOL]}),
    ({"tools": [TOOL], "strict": True}, {"tools": [TOOL]}),
    ({"tools": [TOOL], "tool_choice": ""}, {"tools": [TOOL]}),
    (
        {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        {"tools": [TOOL], "tool_choice": "any", "parallel_tool_calls": False},
    ),
    (
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [TOOL]}},
        {"tools": [TOOL], "tool_choice": "add"},
    ),
    (
        {
            "tools": [TOOL],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [TOOL]}},
        },
        {"tools": [TOOL], "tool_choice": "add"},
    ),
    ({"functions": [FUNCTION]}, {"tools": [FUNCTION], "parallel_tool_calls": False}),
    (
        {"functions": [FUNCTION], "function_call": {"name": "add"}},
        {"tools": [FUNCTION], "tool_choice": "add", "parallel_tool_calls": False},
    ),
    (
        {"functions": [FUNCTION], "function_call": "none"},
        {"tools": [FUNCTION], "tool_choice": "none", "parallel_tool_calls": False},
    ),
    ({"format": "json"}, {"response_format": JSON}),
    ({"format": LOOSE}, {"response_format": LOOSE}),
    ({"json_mode": True}, {"response_format": JSON}),
]
# Hosted options -> own fields of the object that is made.
MEANT_BY_CONSTRUCTORS = [
    ({"num_ctx": 2048}, {"context_window": 2048}),
    ({"openai_api_base": "http://localhost:1/v1"}, {"base_url": "http://localhost:1/v1"}),
    ({"api_base": "http://localhost:1/v1"}, {"base_url": "http://localhost:1/v1"}),
    ({"anthropic_api_url": "http://localhost:1/v1"}, {"base_url": "http://localhost:1/v1"}),
    (
        {"base_url": "http://localhost:1/v1", "default_headers": {"X-Team": "a"}},
        {"base_url": "http://localhost:1/v1", "engine_options": {"headers": {"X-Team": "a"}}},
    ),
    (
        {"base_url": "http://localhost:1/v1", "headers": {"X": "a"}, "engine_options": {"retry_delay": 1.0}},
        {"base_url": "http://localhost:1/v1", "engine_options": {"headers": {"X": "a"}, "retry_delay": 1.0}},
    ),
    ({"strict": True}, {"constrained": True}),
    ({"max_tokens": -1}, {}),
    ({"num_predict": -2}, {}),
    ({"context_window": -1}, {}),
    ({"timeout": httpx.Timeout(None)}, {}),
]

# Whatever their value is, no answer changes.
ALWAYS_HARMLESS = sorted(
    name for name, option in HOSTED_OPTIONS.items() if option.means is None and option.is_harmless(object())
)
HARMLESS = [
    *((name, {"a": "b"}) for name in ALWAYS_HARMLESS),
    ("n", 1),
    ("verbosity", "medium"),
    ("truncation", "disabled"),
    ("modalities", ["text"]),
    ("stream", False),
    ("tfs_z", 1),
    ("typical_p", 1.0),
    ("repeat_last_n", -1),
    ("penalize_newline", True),
    ("is_chat_model", True),
    ("is_function_calling_model", True),
    ("reasoning_effort", "none"),
    ("effort", "none"),
    ("reasoning", {"effort": "none"}),
    ("reasoning_options", {}),
    ("thinking", {"type": "disabled"}),
    ("thinking_dict", {"type": "disabled"}),
    ("think", False),
    ("use_responses_api", False),
    ("mirostat", 0),
    ("num_gpu", 0),
    ("main_gpu", 0),
    ("num_thread", 0),
    ("text", {}),
    ("output_config", {}),
    ("max_tool_calls", 0),
    ("instructions", ""),
    ("system", ""),
    ("prompt", {}),
    ("extra_body", {}),
    ("model_kwargs", {}),
    ("additional_kwargs", {}),
    ("options", {}),
    ("fallbacks", []),
    ("built_in_tools", []),
    ("mcp_servers", []),
    ("web_search_options", {}),
    ("container", {}),
    ("background", False),
    ("include", []),
    ("previous_response_id", ""),
    ("use_previous_response_id", False),
    ("track_previous_responses", False),
    ("conversation", ""),
    ("thread", ""),
    ("context_management", []),
    ("compaction", {}),
    ("moderation", {}),
    ("audio", {}),
    ("audio_config", {}),
    ("include_response_headers", False),
    ("logits_all", False),
    ("vocab_only", False),
    ("embedding_only", False),
    ("aws_access_key_id", ""),
    ("aws_secret_access_key", ""),
    ("aws_session_token", ""),
    ("aws_region", ""),
    ("project_id", ""),
    ("region", ""),
    ("strict", False),
    ("format", ""),
    ("json_mode", False),
    ("functions", []),
    # About the way to a server, and there is none.
    ("openai_api_key", "sk-none"),
    ("anthropic_api_key", "sk-none"),
    *((name, {"a": "b"}) for name, option in sorted(HOSTED_OPTIONS.items()) if option.of_connection),
]
# Constructors alone have them.
NO_CALLS = {"openai_api_key", "anthropic_api_key", "engine_options", "num_ctx"}

REFUSED = [
    ("n", 2, "batch"),
    ("verbosity", "low", "prompt"),
    ("truncation", "auto", "shorten"),
    ("modalities", ["text", "audio"], "text only"),
    ("stream", True, "streaming"),
    ("tfs_z", 0.5, "min_p"),
    ("typical_p", 0.5, "min_p"),
    ("repeat_last_n", 64, "all tokens"),
    ("penalize_newline", False, "line ends"),
    ("is_chat_model", False, "always"),
    ("is_function_calling_model", False, "no tools"),
    ("reasoning_effort", "high", "scratch_pad"),
    ("effort", "high", "scratch_pad"),
    ("reasoning", True, "scratch_pad"),
    ("reasoning_options", {"effort": "low"}, "scratch_pad"),
    ("thinking", {"type": "enabled", "budget_tokens": 1024}, "scratch_pad"),
    ("thinking_dict", {"type": "enabled"}, "scratch_pad"),
    ("think", "high", "scratch_pad"),
    ("use_responses_api", True, "output_version"),
    ("mirostat", 2, "top_p"),
    ("num_gpu", 1, "device"),
    ("main_gpu", 1, "device"),
    ("num_thread", 4, "OMP_NUM_THREADS"),
    ("text", {"format": {"type": "json_object"}}, "response_format"),
    ("output_config", {"effort": "low"}, "response_format"),
    ("max_tool_calls", 2, "max_calls"),
    ("instructions", "Be brief.", "system message"),
    ("system", "Be brief.", "system message"),
    ("prompt", {"id": "x"}, "first argument"),
    ("extra_body", {"top_k": 3}, "options of their own"),
    ("model_kwargs", 3, "options of their own"),
    ("additional_kwargs", "x", "options of their own"),
    ("options", 3, "options of their own"),
    ("fallbacks", ["other"], "fallbacks"),
    ("built_in_tools", [{"type": "web_search"}], "functions"),
    ("mcp_servers", [{"url": "x"}], "functions"),
    ("web_search_options", {"a": 1}, "functions"),
    ("container", "x", "functions"),
    ("background", True, "functions"),
    ("include", ["x"], "functions"),
    ("previous_response_id", "x", "all of its messages"),
    ("use_previous_response_id", True, "all of its messages"),
    ("track_previous_responses", True, "all of its messages"),
    ("conversation", "x", "all of its messages"),
    ("thread", "x", "all of its messages"),
    ("context_management", [{"type": "compaction"}], "shorten"),
    ("compaction", {"a": 1}, "shorten"),
    ("moderation", {"a": 1}, "before and after"),
    ("audio", {"voice": "x"}, "text only"),
    ("audio_config", {"voice": "x"}, "text only"),
    ("include_response_headers", True, "leave it out"),
    ("logits_all", True, "leave it out"),
    ("vocab_only", True, "leave it out"),
    ("embedding_only", True, "leave it out"),
    ("aws_access_key_id", "secret", "not in a cloud"),
    ("aws_secret_access_key", "secret", "not in a cloud"),
    ("aws_session_token", "secret", "not in a cloud"),
    ("aws_region", "us-east-1", "not in a cloud"),
    ("project_id", "p", "not in a cloud"),
    ("region", "r", "not in a cloud"),
]
# In Python's way: they are names of the methods' own arguments, or of the framework's.
NAMES_OF_ARGUMENTS = {"messages", "input", "prompt", "metadata", "stream", "streaming", "verbose"}

# To a server they would have to reach it, and cannot.
REFUSED_TO_A_SERVER = [
    ("default_query", {"a": "b"}, "leave it out"),
    ("extra_query", {"a": "b"}, "leave it out"),
    ("openai_proxy", "http://proxy:1", "HTTPS_PROXY"),
    ("anthropic_proxy", "http://proxy:1", "HTTPS_PROXY"),
    ("stream_chunk_timeout", 3, "idle_timeout"),
    *(
        (name, {"a": "b"}, "makes its own connections")
        for name, option in sorted(HOSTED_OPTIONS.items())
        if "own connections" in option.instead
    ),
]
VENDOR_ADDRESSES = [
    "https://api.openai.com/v1",
    "https://mine.openai.azure.com/",
    "https://api.anthropic.com",
    "https://ollama.com",
]


def refusal_of(attempt: Callable[[], object]) -> str:
    """What an attempt is refused with; nothing where it is not."""
    try:
        attempt()
    except InvalidRequestError as error:
        return str(error)
    return ""
