"""Streamed text: stop strings split over tokens, spaces where a text goes on from a prompt."""

from __future__ import annotations

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from graft.generate.stream import TextStream
from graft.text import Frame, Tokenizer

SIGNS = sorted(pre_tokenizers.ByteLevel.alphabet())
FALLBACK = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁a", "b", "ab", "▁▁", "é", "aé"]
SPELLED = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
KINDS = {
    "bytes": ([*SIGNS, "ab", "ba", "Ġa", "aab", "Ã©a", "ðŁ"], decoders.ByteLevel()),
    "fallback": (FALLBACK, decoders.Sequence(SPELLED)),
    "words": (["a", "##b", "##a", "b", "ab", "##ab", ".", "é", "##é"], decoders.WordPiece()),
    "suffixes": (["a</w>", "b", "ab</w>", "ba", "é</w>"], decoders.BPEDecoder()),
}


def made(kind: str) -> Tokenizer:
    words, decoder = KINDS[kind]
    library = tokenizers.Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}))
    library.decoder = decoder
    return Tokenizer(library, Frame())


TOKENIZERS = {kind: made(kind) for kind in KINDS}
LIKELY = {
    "bytes": [SIGNS.index("a"), SIGNS.index("b"), *range(256, 262), SIGNS.index("Ã"), SIGNS.index("©")],
    "fallback": [*range(256, len(FALLBACK)), 0x61, 0xC3, 0xA9],
}


def ids(kind: str) -> st.SearchStrategy[list[int]]:
    every = range(TOKENIZERS[kind].vocab_size)
    return st.lists(st.sampled_from(LIKELY.get(kind, list(every))) | st.sampled_from(every), max_size=24)


STOPS = st.lists(st.text("ab é.", min_size=1, max_size=5), max_size=4)


def cut(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The text before the stop string that ends first, the longest of those; by looking everywhere."""
    for end in range(1, len(text) + 1):
        met = [stop for stop in stops if text[:end].endswith(stop)]
        if met:
            longest = max(met, key=len)
            return text[: end - len(longest)], longest
    return text, None


@pytest.mark.parametrize("kind", KINDS)
def test_stop_strings_are_met_however_tokens_split_them(kind: str):
    tokenizer = TOKENIZERS[kind]

    @settings(max_examples=1250, deadline=None, database=None)
    @given(ids(kind), STOPS)
    def check(tokens: list[int], stops: list[str]) -> None:
        stream = TextStream(tokenizer, stops)
        shown, given = "", []
        for token in tokens:
            shown += stream.add(token)
            given.append(token)
            assert cut(tokenizer.decode(tokens), stops)[0].startswith(shown)
            if stream.stopped is not None:
                break
        shown += stream.finish()
        assert (shown, stream.stopped) == cut(tokenizer.decode(tokens), stops)
        # It stops at the first token that completes the stop string, unless bytes still waited for their end.
        if stream.stopped is not None and len(given) > 1:
            before = TextStream(tokenizer, stops)
            assert all(before.add(token) is not None and before.stopped is None for token in given[:-1])

    check()


def test_nothing_of_what_may_become_a_stop_string_is_shown():
    tokenizer = TOKENIZERS["bytes"]
    stream = TextStream(tokenizer, ["aab"])
    spelled = [SIGNS.index(sign) for sign in "baaab"]
    assert [stream.add(token) for token in spelled] == ["b", "", "", "a", ""]
    assert stream.stopped == "aab"
    assert (stream.add(spelled[0]), stream.finish()) == ("", "")
    open_end = TextStream(tokenizer, ["aab"])
    assert [open_end.add(token) for token in spelled[1:3]] == ["", ""]
    assert open_end.finish() == "aa"
    assert open_end.stopped is None


def test_the_stop_string_that_is_complete_first_counts():
    tokenizer = TOKENIZERS["bytes"]
    for stops, wanted in ((["baab", "a"], ("b", "a")), (["ab", "aab"], ("b", "aab")), (["é", "b"], ("", "b"))):
        stream = TextStream(tokenizer, stops)
        shown = "".join(stream.add(SIGNS.index(sign)) for sign in "baab")
        assert (shown, stream.stopped) == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_goes_on_from_a_prompt_as_one_text(kind: str):
    tokenizer = TOKENIZERS[kind]

    @settings(max_examples=300, deadline=None, database=None)
    @given(ids(kind).filter(bool), ids(kind))
    def check(prompt: list[int], tokens: list[int]) -> None:
        stream = TextStream(tokenizer, before=prompt)
        shown = "".join(stream.add(token) for token in tokens) + stream.finish()
        before, whole = tokenizer.decode(prompt), tokenizer.decode([*prompt, *tokens])
        if whole.startswith(before) and "\ufffd" not in before:  # a character may begin in the prompt
            assert shown == whole[len(before) :]

    check()


def test_spaces_at_the_beginning():
    words = {"words": ([0, 3], "a", " b"), "suffixes": ([0, 4], "a", " é"), "fallback": ([257, 257], "a", " a")}
    for kind, ((first, second), alone, after) in words.items():
        stream = TextStream(TOKENIZERS[kind])
        assert stream.add(first) + stream.finish() == alone, kind
        stream = TextStream(TOKENIZERS[kind], before=[first])
        assert stream.add(second) + stream.finish() == after, kind
