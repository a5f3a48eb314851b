"""What hypothesis draws from in several places: literals, names, tags, and completions that go wrong."""

from __future__ import annotations

from hypothesis import strategies as st

# --- literals

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
# Text that often comes close to a literal.
NEAR_LITERALS = st.lists(
    st.sampled_from(
        [*"{}[](),:'\"\\ \n-+.eux19", "true", "None", "NaN", '"a"', "'b'", "\\u00e9", "\\ud83d", "\\d", "🚢"]
    ),
    max_size=30,
).map("".join)

# --- names, and what may be read as a tag

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
_GAPS = st.text(" \t", max_size=3)
OPENINGS = st.builds(
    "<{}{}{}{}".format,
    _GAPS,
    st.sampled_from(["tool_call", "Tool_Call", "TOOL_CALLS", "tool_call\u017f", "tool-call", "tool_callss"]),
    st.one_of(_GAPS, st.text(" \n\r\x1c\u3000", max_size=5)),
    st.sampled_from([">", "{", "[", "", "x"]),
)

# --- completions

OBJECT = '{"name": "get_tide", "arguments": {"port": "Brest"}}'
CALL = f"<tool_call>\n{OBJECT}\n</tool_call>"
EXPLAINED = "Use the <tool_call> tag, then write JSON. Close it afterwards."
_FRAGMENTS = [
    *("<tool_call>", "</tool_call>", "<tool_call", "</tool_calls>", "< tool_call >", "<tool_call>\n", "<", ">", "</"),
    *(
        "<think>",
        "</think>",
        "<scratch_pad>",
        "</scratch_pad>",
        "<tool_response>",
        "</s>",
        "<|im_end|>",
        "<|im_start|>",
    ),
    *("assistant", "<tool>", "</tool>", "<json>\n", "<function=get_tide>", "</function>", '<function name="get_tide">'),
    *(
        "<function><name>get_tide</name><arguments>",
        "</arguments>",
        "```",
        "```json\n",
        "```xml\n",
        "`",
        "\n",
        " ",
        "\t",
    ),
    *(
        OBJECT,
        "{'arguments': {'port': 'x'}, 'name': 'get_tide'}",
        '{"name": "list_ports"}',
        '{"port": "Brest"}',
        '{"a": ',
    ),
    *(
        '{"name": "zz", ',
        '"name":',
        '"arguments":',
        "}}\n</tool_call>",
        *"{}[](),:'\"\\;/",
        "\\\\",
        "\\d",
        "\\n",
        "\\u00e9",
    ),
    *("\\ud83d", "\\udea2", "12", "None", "true", "NaN", "hello", "world. ", "é🚢"),
]
COMPLETIONS = st.lists(st.sampled_from(_FRAGMENTS), max_size=24).map("".join)
