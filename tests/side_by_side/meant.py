"""The differences that are meant, by the scenario, each with the reason."""

from __future__ import annotations

_CUT = "A call that was cut off never runs; the hosted class' stream completes its arguments and lets the agent run it."
_REPORTED = "With `include_raw` every answer that does not fit is reported; the hosted class raises some."
_NO_CALL = "An answer without the object is an OutputParserException; the hosted class returns None."
_TEXT_ONLY = "The model reads text only, and a user's image is refused before anything is computed."

MEANT: dict[str, str] = {
    "agent_whose_call_was_cut[stream]": _CUT,
    "call_that_was_cut[stream]": _CUT,
    "call_that_was_cut[astream]": _CUT,
    "react_agent_whose_call_was_cut[stream]": _CUT,
    "function_agent_whose_call_was_cut[streamed]": _CUT,
    "function_agent_whose_call_was_cut[at once]": _CUT,
    "structured fault with raw (JSON schema)": _REPORTED,
    "structured fault with raw (JSON schema, cut)": _REPORTED,
    "structured fault (function calling, no call)": _NO_CALL,
    "structured fault with raw (function calling, no call)": _NO_CALL,
    "history with an image": _TEXT_ONLY,
    "history with plain text with a type of its own": "A standard block of text is read; the hosted class refuses it.",
    "history with half of a surrogate pair": "Half a pair is replaced; the hosted class cannot put it on the wire.",
}
