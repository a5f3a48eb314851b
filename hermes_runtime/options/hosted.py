"""Options of hosted models' classes, and what each of them means to a local model.

LangChain's ChatOpenAI, ChatAnthropic and ChatOllama and LlamaIndex's OpenAI, Anthropic and Ollama classes name one
thing in many ways, and have options that ask nothing of a model in this process. `HOSTED_OPTIONS` is the one table of
them, for both adapters: an option means the same as an own one, or it is harmless, or it is refused with what to do
instead. `own_options` brings whatever a call site gives into own options, so that nothing behind it knows other names.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from hermes_runtime.errors import InvalidRequestError
from hermes_runtime.options.values import (
    address,
    asks_nothing,
    call_choice,
    is_one,
    listed,
    no_bound,
    seconds,
    stop_strings,
    without_vendor_headers,
)

Meaning = Callable[[Any], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class HostedOption:
    """What an option means here; one of the first three is how.

    Attributes:
        means: Returns the own options that a value stands for. An explicit None among them unsets what was set before.
        is_harmless: Whether a value asks for nothing that changes an answer; it is dropped then, and else refused.
        instead: What to do in place of it.
        of_connection: It is about the way to a server; without one it asks for nothing.
        is_secret: Its values are never shown.
    """

    means: Meaning | None = None
    is_harmless: Callable[[Any], bool] = asks_nothing
    instead: str = ""
    of_connection: bool = False
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where options are given.

    Attributes:
        name: What errors call it.
        takes: The options that it takes, by their own names.
        elsewhere: Own options that only the other place takes.
        hint: What to do with those.
    """

    name: str
    takes: frozenset[str]
    elsewhere: frozenset[str]
    hint: str

    @classmethod
    def constructor(cls, takes: Collection[str], of_calls: Collection[str]) -> Self:
        """Return the place where an object is made."""
        takes = frozenset(takes)
        return cls("the constructor", takes, frozenset(of_calls) - takes, "is an option of a call: give it there")

    @classmethod
    def call(cls, takes: Collection[str], of_constructor: Collection[str]) -> Self:
        """Return the place where a call is made, or bound."""
        takes = frozenset(takes)
        return cls("a call", takes, frozenset(of_constructor) - takes, "is set when the model is made: give it there")


def own_options(given: Mapping[str, Any], place: Place, *, is_remote: bool) -> dict[str, Any]:
    """Return options by their own names. None counts as absent, under any name that is known.

    Args:
        given: Own and hosted options.
        place: Where they are given.
        is_remote: Whether a server computes; see `names_server`.

    Raises:
        InvalidRequestError: Names every option that is unknown, cannot be honored, or contradicts another.
    """
    options: dict[str, Any] = {}
    source: dict[str, str] = {}
    problems = []
    for name, value in _unfolded(given):
        try:
            meant = _meaning(name, value, place, is_remote=is_remote)
        except InvalidRequestError as error:
            problems.append(str(error))
            continue
        for own, own_value in meant.items():
            if own not in options:
                options[own], source[own] = own_value, name
            elif isinstance(options[own], Mapping) and isinstance(own_value, Mapping):
                options[own] = {**own_value, **options[own]}
            elif options[own] != own_value:
                problems.append(f"{name} and {source[own]} ask for different values of {own}; give one of them")
    if problems:
        raise InvalidRequestError("\n".join(problems))
    return options


def names_server(given: Mapping[str, Any]) -> bool:
    """Whether the options of a model that is to be made name a server."""
    return given.get("engine") == "server" or any(given.get(name) for name in _ADDRESSES)


def _unfolded(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the options, those within a dict of further options too."""
    for name, value in given.items():
        if name in _FOLDERS and isinstance(value, Mapping):
            yield from _unfolded(value)
        else:
            yield name, value


def _meaning(name: str, value: Any, place: Place, *, is_remote: bool) -> Mapping[str, Any]:
    option = HOSTED_OPTIONS.get(name)
    if name in place.takes or name in place.elsewhere:
        meant = {} if value is None else _OWN_FORMS.get(name, lambda value: {name: value})(value)
    elif option is None:
        raise InvalidRequestError(_unknown(name, place))
    elif value is None or (option.of_connection and not is_remote):
        meant = {}
    elif option.means is not None:
        meant = option.means(value)
    elif option.is_harmless(value):
        meant = {}
    else:
        raise InvalidRequestError(f"{_shown(name, value, option)} cannot be honored: {option.instead}")
    for own in meant.keys() - place.takes:
        what = name if name == own else f"{name} means {own}, which"
        raise InvalidRequestError(f"{what} {place.hint}" if own in place.elsewhere else _unknown(name, place))
    return meant


def _unknown(name: str, place: Place) -> str:
    close = difflib.get_close_matches(name, sorted(place.takes | place.elsewhere), n=1, cutoff=0.75)
    guess = f", did you mean {close[0]!r}?" if close else ";"
    return f"unknown option {name!r}{guess} {place.name} takes {', '.join(sorted(place.takes))}"


def _shown(name: str, value: Any, option: HostedOption) -> str:
    return f"{name}={value!r}" if isinstance(value, bool | int | float | str) and not option.is_secret else name


def _same(own: str, read: Callable[[Any], Any] = lambda value: value) -> HostedOption:
    return HostedOption(means=lambda value: {own: read(value)})


def _only(*values: Any, instead: str) -> HostedOption:
    return HostedOption(is_harmless=lambda value: asks_nothing(value) or value in values, instead=instead)


def _refused(instead: str, *, is_secret: bool = False) -> HostedOption:
    return HostedOption(instead=instead, is_secret=is_secret)


def _connection(instead: str) -> HostedOption:
    return HostedOption(instead=instead, of_connection=True, is_secret=True)


def _rows(option: HostedOption, *names: str) -> dict[str, HostedOption]:
    return dict.fromkeys(names, option)


def _headers(value: Any) -> Mapping[str, Any]:
    headers = without_vendor_headers(value)
    return {"engine_options": {"headers": headers}} if headers else {}


_HARMLESS = HostedOption(is_harmless=lambda _: True)
_REASONING = "the model reasons before it calls a tool with dialect='scratch_pad'; leave it out"
_CLOUD = "the model runs in this process or at the base_url of a completion server, not in a cloud; leave it out"
_OF_VENDOR = "it runs on the vendor's servers; give functions as tools"
_MEMORY = "no conversation is kept on a server; give all of its messages"
_OWN_CLIENT = "the engine makes its own connections; engine_options takes headers, connect_timeout and idle_timeout"
_ONE_ANSWER = "a call gives one answer; call batch with the prompt as often as you want answers"
_TEXT_ONLY = "the model writes text only; leave it out"
_FURTHER = (
    "give its entries as options of their own; what a server's own requests take beside them is set when the model is "
    "made, in engine_options={'extra_body': {...}}"
)

_JSON = {"type": "json_object"}
_FOLDERS = frozenset(("model_kwargs", "additional_kwargs", "options"))
_ADDRESSES = ("base_url", "openai_api_base", "api_base", "anthropic_api_url")

# Own options that take forms of the hosted classes beside their own.
_OWN_FORMS: dict[str, Meaning] = {
    "base_url": lambda value: {"base_url": address(value)},
    "context_window": lambda value: {"context_window": no_bound(value)},
    "max_tokens": lambda value: {"max_tokens": no_bound(value)},
    "stop": lambda value: {"stop": stop_strings(value)},
    "timeout": lambda value: {"timeout": seconds(value)},
    "tool_choice": call_choice,
    "tools": lambda value: {"tools": listed("tools", value)},
}

HOSTED_OPTIONS: dict[str, HostedOption] = {
    # The same under another name.
    **_rows(_same("model"), "model_name"),
    **_rows(
        _same("max_tokens", no_bound),
        *("max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "max_new_tokens", "num_predict"),
    ),
    **_rows(_same("stop", stop_strings), "stop_sequences"),
    **_rows(_same("timeout", seconds), "request_timeout", "default_request_timeout"),
    **_rows(_same("context_window", no_bound), "num_ctx"),
    **_rows(_same("repetition_penalty"), "repeat_penalty"),
    **_rows(_same("api_key"), "openai_api_key", "anthropic_api_key"),
    **_rows(_same("base_url", address), *_ADDRESSES[1:]),
    **_rows(_same("parallel_tool_calls"), "allow_parallel_tool_calls"),
    **_rows(HostedOption(means=lambda value: {"constrained": True} if value else {}), "strict"),
    **_rows(
        HostedOption(means=lambda value: {"response_format": _JSON if value == "json" else value} if value else {}),
        "format",
    ),
    **_rows(HostedOption(means=lambda value: {"response_format": _JSON} if value else {}), "json_mode"),
    # The interface before tools: one call at most in an answer.
    **_rows(
        HostedOption(
            means=lambda value: {"tools": listed("functions", value), "parallel_tool_calls": False} if value else {}
        ),
        "functions",
    ),
    **_rows(HostedOption(means=call_choice), "function_call"),
    # Whoever asks for these asks nothing of an answer: how it is counted, filed, paid for, cached or kept in memory.
    **_rows(
        _HARMLESS,
        *("user", "metadata", "call_metadata", "store", "safety_identifier", "service_tier", "speed", "inference_geo"),
        *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "cache_control", "cache_idx"),
        *("stream_usage", "stream_options", "streaming", "verbose", "prediction", "disabled_params", "betas"),
        *("tiktoken_model_name", "tokenizer", "validate_model_on_init", "reuse_client", "reuse_last_container"),
        *("openai_organization", "organization", "workspace_id", "user_profile_id", "billing_policy", "diagnostics"),
        *("fallback_credit_token", "api_version", "prompt_key", "should_use_structured_outputs"),
        *("mirostat_eta", "mirostat_tau", "keep_alive", "num_batch", "num_keep", "numa", "low_vram", "f16_kv"),
        *("use_mmap", "use_mlock"),
    ),
    # Harmless as long as they are left at what happens anyway.
    **_rows(HostedOption(is_harmless=is_one, instead=_ONE_ANSWER), "n"),
    **_rows(_only("medium", instead="say in the prompt how long an answer is to be"), "verbosity"),
    **_rows(_only("disabled", instead="shorten the conversation before the call"), "truncation"),
    **_rows(_only(["text"], instead=_TEXT_ONLY), "modalities"),
    **_rows(_only(instead="the method that is called decides; call the streaming one"), "stream"),
    **_rows(_only(1, instead="use top_p, top_k or min_p"), "tfs_z", "typical_p"),
    **_rows(_only(-1, instead="the penalty is of all tokens, prompt included; leave it out"), "repeat_last_n"),
    **_rows(
        HostedOption(is_harmless=bool, instead="the penalty is of line ends too; leave it out"), "penalize_newline"
    ),
    **_rows(HostedOption(is_harmless=bool, instead="it is always one; leave it out"), "is_chat_model"),
    **_rows(HostedOption(is_harmless=bool, instead="it is always one; give no tools"), "is_function_calling_model"),
    **_rows(
        _only("none", {"type": "disabled"}, {"effort": "none"}, instead=_REASONING),
        *("reasoning_effort", "effort", "reasoning", "reasoning_options", "thinking", "thinking_dict", "think"),
    ),
    **_rows(_refused("output_version='v1' gives answers of standard content blocks"), "use_responses_api"),
    # What an own option, or the framework, does in another way.
    **_rows(_refused("use temperature, top_p, top_k or min_p"), "mirostat"),
    **_rows(_refused("use device to say where the weights live"), "num_gpu", "main_gpu"),
    **_rows(_refused("set the environment variable OMP_NUM_THREADS"), "num_thread"),
    **_rows(_refused("use response_format in a call"), "text", "output_config"),
    **_rows(_refused("use max_calls in a call, which bounds the calls of one turn"), "max_tool_calls"),
    **_rows(_refused("write it as a system message"), "instructions", "system"),
    **_rows(_refused("give the conversation as the first argument"), "input", "messages", "prompt"),
    **_rows(_refused(_FURTHER, is_secret=True), "extra_body", *_FOLDERS),
    **_rows(_refused("use the framework's own fallbacks to another model"), "fallbacks"),
    # What only a vendor has.
    **_rows(
        _refused(_OF_VENDOR),
        "built_in_tools",
        "mcp_servers",
        "web_search_options",
        "container",
        "background",
        "include",
    ),
    **_rows(
        _refused(_MEMORY),
        *("previous_response_id", "use_previous_response_id", "track_previous_responses", "conversation", "thread"),
    ),
    **_rows(_refused("shorten the conversation before the call"), "context_management", "compaction"),
    **_rows(_refused("check prompts and answers before and after the call"), "moderation"),
    **_rows(_refused(_TEXT_ONLY), "audio", "audio_config"),
    **_rows(_refused("no response has headers here; leave it out"), "include_response_headers"),
    **_rows(
        _refused("the engine decides what it computes; leave it out"), "logits_all", "vocab_only", "embedding_only"
    ),
    **_rows(_refused(_CLOUD, is_secret=True), "aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
    **_rows(_refused(_CLOUD), "aws_region", "project_id", "region"),
    # The way to a server.
    **_rows(
        HostedOption(means=_headers, of_connection=True, is_secret=True), "default_headers", "headers", "extra_headers"
    ),
    **_rows(_connection("no address of a completion server takes it; leave it out"), "default_query", "extra_query"),
    **_rows(_connection("set the environment variable HTTPS_PROXY"), "openai_proxy", "anthropic_proxy"),
    **_rows(_connection("use idle_timeout in engine_options"), "stream_chunk_timeout"),
    **_rows(
        _connection(_OWN_CLIENT),
        *("client", "async_client", "root_client", "root_async_client", "openai_client", "async_openai_client"),
        *("http_client", "http_async_client", "async_http_client", "http_socket_options"),
        *("client_kwargs", "async_client_kwargs", "sync_client_kwargs"),
    ),
}
