"""Finding out what a server can do: by what it says of itself, and by trying what matters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any

from hermes_runtime.engines.base import GrammarLanguage
from hermes_runtime.engines.server.client import Client, TransientServerError
from hermes_runtime.engines.server.wire import GRAMMAR_FORMS, Kind, ServerProfile
from hermes_runtime.errors import EngineError, HermesError, InvalidRequestError, ModelNotFoundError

COMPLETIONS = "/v1/completions"
# All that the grammars of turns are made of, for one answer that no model gives by chance.
_PROBES: dict[GrammarLanguage, str] = {
    "lark": 'start: head %json {"const": 7}\nhead[lazy]: HEAD\nHEAD: /<[a-z]+>/ & /<probe>/ & ~/(?s:.)*7/\n',
    "gbnf": 'root ::= ( "<pro" be [>] ) seven{1,1}\nbe ::= [b] "e"\nseven ::= [^\\x00-6\\x38-\\U0010FFFF]\n',
}
_PROBE_ANSWER = "<probe>7"
_PROBE_TOKENS = 24
# What llguidance keeps of a schema, and llama.cpp's own conversion to GBNF leaves out.
_ADDRESS = {"type": "string", "format": "ipv4"}
_OWNERS: dict[str, Kind] = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "llamacpp": "llama.cpp",
    "organization_owner": "LM Studio",
    "me": "llama-cpp-python",
}
_FORMS_OF: dict[Kind, tuple[str, ...]] = {
    "vLLM": ("structured_outputs",),
    "SGLang": ("ebnf %llguidance", "ebnf"),
    "llama.cpp": ("grammar %llguidance", "grammar"),
    "llama-cpp-python": ("grammar",),  # one that it cannot read ends its process
    "LM Studio": (),
    "unknown": ("structured_outputs", "ebnf %llguidance", "ebnf", "grammar", "grammar %llguidance"),
}


async def probe(
    client: Client, model: str, prompt_ids: Sequence[int], prompt: str, served: str | None
) -> ServerProfile:
    """Find out what a server can do.

    Args:
        client: Connections to it.
        model: The user's name of the model.
        prompt_ids: A short prompt, BOS included.
        prompt: Its text, without BOS.
        served: What the server calls the model; None looks it up.

    Raises:
        ModelNotFoundError: The server has several models and none of that name.
        EngineError: It cannot be reached, or completes nothing.
    """
    cards = _cards(await client.get("/v1/models", is_needed=True))
    card = _chosen(cards, model, served)
    kind = await _kind(client, card)
    name = served or str(card.get("id") or model)
    base = {"model": name, "max_tokens": 1, "temperature": 0}
    extras = {"return_token_ids": True, "logprobs": 1, "return_tokens_as_token_ids": True}
    answer, takes_ids, has_extras = await _first_answer(client, base, extras, prompt_ids, prompt)
    choice = _choice(answer)
    counted = (answer.get("usage") or {}).get("prompt_tokens")
    return ServerProfile(
        kind=kind,
        version=await _version(client, kind),
        model=name,
        context_window=await _context_window(client, kind, card),
        takes_ids=takes_ids,
        tells_ids=has_extras and bool(choice.get("token_ids")),
        adds_bos=takes_ids or counted is None or counted >= len(prompt_ids),
        grammar=await _grammar(client, kind, base, list(prompt_ids) if takes_ids else prompt),
        tells_logprobs=has_extras and _labels_ids(choice.get("logprobs")),
    )


def _cards(listed: Any) -> list[Mapping[str, Any]]:
    data = listed.get("data") if isinstance(listed, Mapping) else None
    return [card for card in data if isinstance(card, Mapping)] if isinstance(data, list) else []


def _chosen(cards: Sequence[Mapping[str, Any]], model: str, served: str | None) -> Mapping[str, Any]:
    if not cards:  # not every router has a list
        return {}
    wanted = served or model
    for card in cards:
        if wanted in (card.get("id"), card.get("root")):
            return card
    # With adapters, a server lists the model first and then them, each with its parent.
    whole = [card for card in cards if not card.get("parent")]
    if served is None and len(whole) <= 1:
        return whole[0] if whole else {}
    names = ", ".join(repr(card.get("id")) for card in cards)
    raise ModelNotFoundError(
        f"the server has no model {wanted!r}; it has {names}: name one with engine_options={{'served_model': ...}}"
    )


async def _kind(client: Client, card: Mapping[str, Any]) -> Kind:
    owner = _OWNERS.get(str(card.get("owned_by", "")).lower())
    if owner is not None:
        return owner
    # Routers hide the owner and pass on the rest.
    for path, field, kind in (
        ("/props", "default_generation_settings", "llama.cpp"),
        ("/get_model_info", "model_path", "SGLang"),
        ("/version", "version", "vLLM"),
    ):
        said = await client.get(path)
        if isinstance(said, Mapping) and field in said:
            return kind  # type: ignore[return-value] # spelled above
    return "unknown"


async def _version(client: Client, kind: Kind) -> str | None:
    path, field = {
        "vLLM": ("/version", "version"),
        "SGLang": ("/get_server_info", "version"),
        "llama.cpp": ("/props", "build_info"),
    }.get(kind, (None, None))
    said = None if path is None else await client.get(path)
    return str(said[field]) if isinstance(said, Mapping) and field in said else None


async def _context_window(client: Client, kind: Kind, card: Mapping[str, Any]) -> int | None:
    stated = card.get("max_model_len")
    if kind == "llama.cpp":
        said = await client.get("/props")
        settings = said.get("default_generation_settings") if isinstance(said, Mapping) else None
        stated = settings.get("n_ctx") if isinstance(settings, Mapping) else None
    elif kind == "LM Studio":
        said = await client.get(f"/api/v0/models/{card.get('id')}")
        stated = said.get("loaded_context_length") if isinstance(said, Mapping) else None
    return stated if isinstance(stated, int) and stated > 0 else None


async def _first_answer(
    client: Client, base: Mapping[str, Any], extras: Mapping[str, Any], prompt_ids: Sequence[int], prompt: str
) -> tuple[dict[str, Any], bool, bool]:
    """Return the first request's answer that comes, whether its prompt was ids, and whether it had the extras."""
    refusal: HermesError | None = None
    for sent in (list(prompt_ids), prompt):
        for more in (extras, {}):
            try:
                answer = await client.post(COMPLETIONS, {**base, **more, "prompt": sent})
            except (TransientServerError, InvalidRequestError) as error:
                if not _is_refusal(error):
                    raise
                refusal = error
                continue
            counted = (answer.get("usage") or {}).get("prompt_tokens")
            if sent is not prompt and counted not in (None, len(prompt_ids)):
                break  # it took the list for something else
            return answer, sent is not prompt, bool(more)
    assert refusal is not None
    raise refusal


def _choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        choice = answer["choices"][0]
    except (KeyError, IndexError, TypeError) as error:
        raise EngineError(f"the server sent an answer that is no completion: {str(dict(answer))[:200]}") from error
    return choice if isinstance(choice, Mapping) else {}


def _labels_ids(logprobs: Any) -> bool:
    if not isinstance(logprobs, Mapping):
        return False
    if "content" in logprobs:
        return all("id" in token for token in logprobs["content"])
    return all(str(label).startswith("token_id:") for label in logprobs.get("tokens") or ("",))


async def _grammar(client: Client, kind: Kind, base: Mapping[str, Any], prompt: str | list[int]) -> str | None:
    """Return the first form of a grammar that the server really keeps: one it does not know it may ignore."""
    base = {**base, "prompt": prompt, "max_tokens": _PROBE_TOKENS}
    for name in _FORMS_OF[kind]:
        if name == "grammar %llguidance" and not await _has_llguidance(client, base):
            continue
        form = GRAMMAR_FORMS[name]
        if await _written(client, {**base, **form.fields(_PROBES[form.language])}) == _PROBE_ANSWER:
            return name
    return None


async def _has_llguidance(client: Client, base: Mapping[str, Any]) -> bool:
    """Return whether a llama.cpp was built with llguidance, which then reads its schemas.

    A Lark grammar cannot be tried to find out: another build ends its process over one, at least up to its build 9994
    (https://github.com/ggml-org/llama.cpp/issues/25960).
    """
    try:
        IPv4Address(str(json.loads(await _written(client, {**base, "json_schema": _ADDRESS}))))
    except ValueError:
        return False
    return True


async def _written(client: Client, body: Mapping[str, Any]) -> str:
    """Return the text of a completion; nothing where the server refuses it."""
    try:
        return str(_choice(await client.post(COMPLETIONS, body)).get("text"))
    except (TransientServerError, InvalidRequestError) as error:
        if not _is_refusal(error):
            raise
        return ""


def _is_refusal(error: HermesError) -> bool:
    """Whether a server that was tried did not know what it was sent; one that is busy or gone has to be asked again."""
    return not isinstance(error, TransientServerError) or error.may_be_refusal
