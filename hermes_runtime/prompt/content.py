"""What the content of a message says to a model that reads text only: one rule for every vendor's blocks.

Text, refusals, transcripts and documents in text are shown as text, results of searches with their title and source.
Media of a user or of the instructions are refused: whoever sends them is there to hear of it. Media in a tool's result
or in an earlier answer stand in a thread already, where an error would come back at every turn; they become a note that
says what the model does not see, followed by what the block says of it. Thoughts, cache marks, and what another vendor
puts beside the text of an answer for itself (signatures, runs of its own tools) are left out. Everything else is shown
as the JSON that it is.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from hermes_runtime.errors import InvalidRequestError

logger = logging.getLogger(__name__)

Speaker = Literal["system", "user", "assistant", "tool"]

_TEXT_KEYS = {
    "text": "text",
    "text_plain": "text",
    "input_text": "text",
    "output_text": "text",
    "guard_content": "text",
    "refusal": "refusal",
    "compaction": "content",
    "custom_tool_call_output": "output",
}
_MEDIA = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "image_generation_call": "image",
    "computer_screenshot": "image",
    "audio": "audio",
    "audio_url": "audio",
    "input_audio": "audio",
    "output_audio": "audio",
    "video": "video",
    "video_url": "video",
    "text_plain": "file",
    "file": "file",
    "input_file": "file",
    "media": "file",
    "inline_data": "file",
    "file_data": "file",
    "document": "document",
}
_CACHE_MARK = "cache_point"
_THOUGHTS = frozenset(("thinking", "redacted_thinking", "reasoning", "reasoning_content"))
_CALL_KEYS = {"tool_use": ("id", "input"), "tool_call": ("id", "args"), "function_call": ("call_id", "arguments")}
_SEARCH_RESULT_KEYS = frozenset(("type", "title", "source", "content", "citations", "cache_control"))

_ENCODED_KEYS = frozenset(("base64", "data", "bytes", "file_data", "blob"))
_REFERENCE_KEYS = frozenset(("url", "file_id", "file_uri", "uri", "image_url", "audio_url", "video_url", "file_url"))
_NAME_KEYS = frozenset(("id", "title", "name", "filename"))
_HOLDER_KEYS = frozenset(("source", "image", "audio", "video", "file", "document", "input_audio", "inline_data"))
# Says how a medium is carried, which means nothing once it is not.
_CARRIAGE_KEYS = frozenset(
    ("type", "mime_type", "media_type", "format", "source_type", "detail", "index", "extras", "cache_control")
)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/_-]{4})*+(?:[A-Za-z0-9+/_-]{2,3}={0,2})?")
_LONG = 512
_DATA_URL = re.compile(r"data:(?P<mime>[^;,]*)[^,]{0,200}?(?P<encoded>;base64)?,", re.IGNORECASE)
_TEXT_MIME = re.compile(r"text/.*|application/(?:json|xml|yaml|x-yaml|javascript|.*\+(?:json|xml))", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|-")


@dataclass(frozen=True, slots=True)
class _Part:
    """What one block says.

    Attributes:
        text: Its text.
        is_prose: It is part of a running text; other parts stand on lines of their own.
        is_row: It is the JSON of the block itself.
    """

    text: str
    is_prose: bool = False
    is_row: bool = False


def text_of(content: Any, speaker: Speaker = "user", *, between: str = "", omit_media: bool = False) -> str:
    """Return what a message's content says.

    Args:
        content: A string, None, or a list of strings and blocks.
        speaker: Who says it.
        between: What stands between two pieces of running text.
        omit_media: Put the note in the place of a user's media too, as where tokens are counted.

    Raises:
        InvalidRequestError: A user or the instructions show an image, audio, video or a file.
    """
    if isinstance(content, str):
        return content
    return _joined(_parts(_blocks(content), speaker, omit_media=omit_media), between)


def result_text(content: Any) -> str:
    """Return what a tool gave: its parts are values of their own, and rows of data stay one list."""
    if isinstance(content, str):
        return content
    blocks = _blocks(content)
    parts = list(_parts(blocks, "tool", omit_media=True))
    if parts and len(parts) == len(blocks) and all(part.is_row for part in parts):
        return _dumps(content if isinstance(content, Mapping) else blocks)
    return _joined(parts, "\n")


def said_beside(fields: Mapping[str, Any]) -> str:
    """Return what an answer without content says in other fields of its message: a refusal, a transcript of speech."""
    audio = fields.get("audio")
    said = (fields.get("refusal"), audio.get("transcript") if isinstance(audio, Mapping) else None)
    return next((text for text in said if isinstance(text, str)), "")


def calls_within(content: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield id, name and arguments of the calls that stand among the blocks of an answer."""
    for block in _blocks(content):
        if not isinstance(block, Mapping):
            continue
        kind, body = _kind_and_body(block)
        if kind in _CALL_KEYS and "name" in body:
            id_key, arguments_key = _CALL_KEYS[kind]
            yield body.get(id_key) or body.get("toolUseId"), body["name"], body.get(arguments_key)


def _blocks(content: Any) -> list[Any]:
    if content is None:
        return []
    is_list = isinstance(content, Iterable) and not isinstance(content, str | bytes | Mapping)
    return list(content) if is_list else [content]


def _parts(blocks: Iterable[Any], speaker: Speaker, *, omit_media: bool) -> Iterator[_Part]:
    for block in blocks:
        part = _part(block, speaker, omit_media=omit_media)
        if part is not None:
            yield part


def _joined(parts: Iterable[_Part], between: str) -> str:
    joined, last_is_prose, is_first = "", True, True
    for part in parts:
        if is_first:
            separator = ""
        elif last_is_prose and part.is_prose:
            separator = between
        else:
            separator = "\n" if joined and not joined.endswith("\n") else ""
        joined += separator + part.text
        last_is_prose, is_first = part.is_prose, False
    return joined


def _part(block: Any, speaker: Speaker, *, omit_media: bool) -> _Part | None:
    """Return what a block says, or None where it is left out."""
    if isinstance(block, str):
        return _Part(block, is_prose=True)
    if not isinstance(block, Mapping):
        return _Part(_dumps(block), is_row=True)
    kind, body = _kind_and_body(block)
    if kind == "non_standard" and "value" in body:
        said = _part(body["value"], speaker, omit_media=omit_media)
        return None if said is None or (said.is_row and speaker == "assistant") else said
    if (text := _text(kind, body)) is not None:
        return _Part(text, is_prose=True)
    if (text := _document_text(kind, body, speaker, omit_media=omit_media)) is not None:
        return _Part(text)
    return _no_text(kind, block, speaker, omit_media=omit_media)


def _no_text(kind: str, block: Mapping[str, Any], speaker: Speaker, *, omit_media: bool) -> _Part | None:
    is_medium = kind in _MEDIA
    if kind == _CACHE_MARK or (kind in _THOUGHTS and speaker != "tool"):
        return None
    # An answer's other blocks are its vendor's own; calls among them are read as calls.
    if speaker == "assistant" and not is_medium and ("type" in block or kind in _CALL_KEYS):
        return None
    described, has_bytes = _without_bytes(block, is_medium=is_medium)
    # A tool's rows may look like blocks: `{"type": "file", "name": "a.txt", "size": 3}` is what a folder holds.
    may_be_row = speaker in ("assistant", "tool") and not _is_reference(described)
    if has_bytes or (is_medium and not may_be_row):
        return _note(kind, described, speaker, omit_media=omit_media)
    return _Part(_dumps(block), is_row=True)


def _kind_and_body(block: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the kind of a block in snake case, and its fields; Bedrock and Gemini name the kind by the only key."""
    kind, body = block.get("type"), block
    if kind is None and isinstance(block.get("text"), str):
        return "text", block
    if kind is None and len(block) == 1:
        ((kind, fields),) = block.items()
        body = fields if isinstance(fields, Mapping) and kind != "json" else block
    return _CAMEL.sub("_", str(kind)).lower(), body


def _text(kind: str, body: Mapping[str, Any]) -> str | None:
    if kind == "json" and "json" in body:
        return _dumps(body["json"])
    said = body.get(_TEXT_KEYS.get(kind, ""))
    if kind == "guard_content":
        said = body.get(kind, said)
        while isinstance(said, Mapping):
            said = said.get("text")
    if isinstance(said, str):
        return said
    transcript = body.get("transcript")
    return transcript if _MEDIA.get(kind) == "audio" and isinstance(transcript, str) else None


def _document_text(kind: str, body: Mapping[str, Any], speaker: Speaker, *, omit_media: bool) -> str | None:
    """Return the text of a document or search result, with its title and source; None where it is no text."""
    if kind == "search_result":
        if "content" not in body or body.keys() - _SEARCH_RESULT_KEYS:
            return None
        found = text_of(body["content"], speaker, between="\n", omit_media=omit_media)
        return _lines(body.get("title"), body.get("source"), found)
    if _MEDIA.get(kind) not in ("file", "document"):
        return None
    source = body.get("source")
    carried = source if isinstance(source, Mapping) else body
    if carried.get("type") == "content":
        text: Any = text_of(carried.get("content"), speaker, between="\n", omit_media=omit_media)
    elif carried is source and ("text" in carried or carried.get("type") == "text"):
        text = carried.get("text", carried.get("data"))
    elif body.get("source_type") == "text":
        text = body.get("text")
    else:
        carried = carried["file"] if isinstance(carried.get("file"), Mapping) else carried
        text = _decoded(carried, "text/plain" if kind == "text_plain" else "")
    names = (place.get(key) for place in (body, carried) for key in ("title", "name", "filename"))
    return _lines(next(filter(None, names), None), body.get("context"), text) if isinstance(text, str) else None


def _lines(*texts: Any) -> str:
    return "\n".join(str(text) for text in texts if text)


def _decoded(carrier: Mapping[str, Any], mime: str) -> str | None:
    """Return the text that a block carries as bytes and calls text; None where it is anything else."""
    mime = next((carrier[key] for key in ("mime_type", "media_type") if carrier.get(key)), mime)
    data = next((carrier[key] for key in ("base64", "data", "file_data") if carrier.get(key)), None)
    url = _DATA_URL.match(data) if isinstance(data, str) else None
    if url is not None and isinstance(data, str):
        mime, data = url["mime"] or mime, data[url.end() :]
    if not isinstance(data, str | bytes) or not _TEXT_MIME.fullmatch(str(mime)):
        return None
    try:
        return base64.b64decode(data, validate=True).decode()
    except ValueError:
        return None


def _note(kind: str, described: Any, speaker: Speaker, *, omit_media: bool) -> _Part:
    medium = _MEDIA.get(kind, "data")
    if speaker in ("assistant", "tool"):
        _warn_of_omission(medium)
    elif not omit_media:
        raise InvalidRequestError(
            f"a {speaker} message holds content of type {kind!r}, and this model reads text only; "
            "send a description of it, or take the block out"
        )
    said = f" {_dumps(described)}" if described else ""
    return _Part(f"[{medium} omitted: this model reads text only]{said}")


@cache
def _warn_of_omission(medium: str) -> None:
    logger.warning(
        "a tool result or an earlier answer holds %s content, which this model cannot read; it is shown a note instead "
        "(said once per kind)",
        medium,
    )


def _without_bytes(value: Any, *, is_medium: bool) -> tuple[Any, bool]:
    """Return what a block says beside the bytes that it carries, and whether it carries any."""
    if isinstance(value, Mapping):
        kept, has_bytes = {}, False
        for key, item in value.items():
            if key in _CARRIAGE_KEYS:
                continue
            if _is_encoded(item, at_least=0 if is_medium and key in _ENCODED_KEYS else _LONG):
                has_bytes = True
                continue
            said, found = _without_bytes(item, is_medium=is_medium)
            has_bytes |= found
            if said or said in (0, False):
                kept[key] = said
        return kept, has_bytes
    if isinstance(value, list | tuple):
        items = [_without_bytes(item, is_medium=is_medium) for item in value if not _is_encoded(item, at_least=_LONG)]
        return [said for said, _ in items], len(items) < len(value) or any(found for _, found in items)
    return value, False


def _is_encoded(value: Any, *, at_least: int) -> bool:
    if isinstance(value, str):
        if _DATA_URL.match(value, 0, 300) is not None:
            return True
        written = value if at_least else "".join(value.split())
        return len(written) >= max(at_least, 1) and _BASE64.fullmatch(written) is not None
    return isinstance(value, bytes | bytearray | memoryview)


def _is_reference(described: Mapping[str, Any]) -> bool:
    """Whether a block does nothing but name a medium that is kept elsewhere."""
    if described.keys() - _REFERENCE_KEYS - _NAME_KEYS - _HOLDER_KEYS:
        return False
    held = [item for item in described.values() if isinstance(item, Mapping)]
    return any(map(_is_reference, held)) or any(described.get(key) for key in _REFERENCE_KEYS)


def _dumps(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):  # keys that are no strings, or a list that holds itself
        return str(value)
