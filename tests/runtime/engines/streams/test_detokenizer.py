"""From ids to text that may be shown: whole characters, and nothing of a stop string."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hermes_runtime.engines.streams.detokenizer import Detokenizer, StopScanner
from hermes_runtime.options.generation import GenerationOptions

FIRST_PIECE = 259  # below are control tokens and single bytes


def detokenize(tokenizer, ids):
    detokenizer = Detokenizer(lambda part: tokenizer.decode(part, skip_special_tokens=False))
    return [detokenizer.feed(token_id) for token_id in ids] + [detokenizer.flush()]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_pieces_join_to_the_whole_text(mistral_tokenizer, text):
    ids = mistral_tokenizer(text, add_special_tokens=False).input_ids
    assert "".join(detokenize(mistral_tokenizer, ids)) == mistral_tokenizer.decode(ids, skip_special_tokens=False)


@given(st.lists(st.integers(FIRST_PIECE, 31999), max_size=40))
def test_any_pieces_join_to_their_own_decoding(mistral_tokenizer, ids):
    assert "".join(detokenize(mistral_tokenizer, ids)) == mistral_tokenizer.decode(ids, skip_special_tokens=False)


def test_half_a_character_is_held_back(mistral_tokenizer):
    ids = mistral_tokenizer("a潮", add_special_tokens=False).input_ids
    assert len(ids) == 4  # one for the letter, three bytes
    assert detokenize(mistral_tokenizer, ids) == ["a", "", "", "潮", ""]


def test_cut_character_reads_as_replacement(mistral_tokenizer):
    ids = mistral_tokenizer("a潮", add_special_tokens=False).input_ids[:-1]
    shown = detokenize(mistral_tokenizer, ids)
    assert shown[:-1] == ["a", "", ""]
    assert set(shown[-1]) == {"\ufffd"}


STOPS = st.lists(st.text("ab<|", min_size=1, max_size=4), min_size=1, max_size=3)


@given(text=st.text("ab<|", max_size=30), stops=STOPS, cuts=st.lists(st.integers(0, 30)))
def test_any_chunking_cuts_at_the_first_stop_string(text, stops, cuts):
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    scanner = StopScanner(GenerationOptions(stop=tuple(stops)))
    shown = "".join(scanner.feed(text[start:end]) for start, end in pairwise(edges))
    shown += scanner.flush()
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    if not ends:
        assert (shown, scanner.is_stopped) == (text, False)
        return
    assert scanner.is_stopped
    assert text.startswith(shown)
    assert any(text[len(shown) :].startswith(stop) for stop in stops)
    assert not any(stop in shown for stop in stops)


@given(pieces=st.lists(st.text("ab<|", max_size=3), max_size=12), stops=STOPS, least=st.integers(0, 8))
def test_a_stop_string_that_ends_too_soon_stops_nothing(pieces, stops, least):
    """Beside a search of the whole text for the first one that ends past the first tokens."""
    scanner = StopScanner(GenerationOptions(stop=tuple(stops), min_tokens=least))
    shown = "".join(scanner.feed(piece) for piece in pieces) + scanner.flush()
    text, past = "".join(pieces), len("".join(pieces[:least]))
    for end in range(len(text) + 1):  # the text as it grows
        starts = [at for stop in stops if (at := text[:end].rfind(stop)) + len(stop) == end > past and at >= 0]
        if starts:
            assert scanner.is_stopped
            assert text.startswith(shown)
            assert any(text[len(shown) :].startswith(stop) for stop in stops)
            assert len(shown) <= min(starts)
            return
    assert (shown, scanner.is_stopped) == (text, False)


def test_text_that_cannot_begin_a_stop_string_is_shown_at_once():
    scanner = StopScanner(GenerationOptions(stop=("<|end|>",)))
    assert [scanner.feed("hello "), scanner.feed("<|"), scanner.feed("em")] == ["hello ", "", "<|em"]
