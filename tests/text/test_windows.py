"""Windows over a long text: everything covered, framed as one pair is, and the way to characters and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers

from graft.errors import UsageError
from graft.text import Encoding, Frame, Tokenizer
from graft.text.windows import characters_of, starts, tokens_of, windows

BERT = Frame(start=("[CLS]",), between=("[SEP]",), end=("[SEP]",), types=True)
ROBERTA = Frame(start=("[CLS]",), between=("[SEP]", "[SEP]"), end=("[SEP]",))
XLNET = Frame(between=("[SEP]",), end=("[SEP]", "[CLS]"), types=True, last_type=2)
FRAMES = {"bert": BERT, "roberta": ROBERTA, "xlnet": XLNET, "gpt2": Frame()}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def letters(frame: Frame) -> Tokenizer:
    """A BERT tokenizer of single characters."""
    signs = [chr(number) for number in range(33, 127)] + ["雨", "😀", "é"]
    vocabulary = {name: n for n, name in enumerate([*SPECIAL, *signs, *(f"##{sign}" for sign in signs)])}
    library = Library(models.WordPiece(vocabulary, unk_token="[UNK]"))
    library.normalizer, library.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return Tokenizer(library, frame)


def byte_level() -> Tokenizer:
    """A GPT-2 tokenizer without merges: a token for each byte."""
    signs = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = Library(models.BPE({"<|endoftext|>": 0} | {sign: n for n, sign in enumerate(signs, 1)}, []))
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return Tokenizer(library, Frame())


def metaspace() -> Tokenizer:
    """A tokenizer of the SentencePiece kind, whose tokens hold the space before them."""
    signs = {"<unk>": 0, "▁": 1} | {chr(number): number for number in range(33, 127)}
    pairs = {f"▁{chr(number)}": 200 + number for number in range(97, 123)}
    library = Library(models.BPE(signs | pairs, [("▁", name[1]) for name in pairs], unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    return Tokenizer(library, Frame())


def cut(tokenizer: Tokenizer, question: str, context: str, limit: int, **how: Any):
    encoding = tokenizer.encode([(question, context)], offsets=True)[0]
    none = None if "[CLS]" not in tokenizer.frame.start + tokenizer.frame.end else tokenizer.token_id("[CLS]")
    return encoding, windows(encoding, limit, none=none, **how)


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("limit", [16, 19, 30, 200])
@pytest.mark.parametrize("step", [None, 1, 3])
def test_every_token_is_covered_in_the_family_s_frame(name: str, limit: int, step: int | None):
    tokenizer = letters(FRAMES[name])
    context = "one two three four five six seven"
    encoding, read = cut(tokenizer, "who am I", context, limit, step=step)
    assert read.truncated_tokens == 0
    assert len(read.offsets) == 27
    assert {token for part in read.parts for token in range(part.start, part.end)} == set(range(27))
    for part in read.parts:
        assert len(part.ids) <= limit
        chars = read.offsets[part.start][0], read.offsets[part.end - 1][1]
        alone = tokenizer.encode([("who am I", context[slice(*chars)])])[0]
        whole = [encoding.ids[place] for place, segment in enumerate(encoding.segments) if segment == 1]
        assert part.ids[part.first : part.first + part.end - part.start] == whole[part.start : part.end]
        around = [*part.ids[: part.first], *part.ids[part.first + part.end - part.start :]]
        assert around == [*alone.ids[: part.first], *alone.ids[part.first + part.end - part.start :]]
        assert part.types == alone.types
        expected = {"bert": 0, "roberta": 0, "xlnet": len(part.ids) - 1, "gpt2": 0}[name]
        assert part.none == expected


def test_one_window_is_the_pair_as_it_is():
    encoding, read = cut(letters(BERT), "who?", "nobody", 512)
    assert [(part.ids, part.types) for part in read.parts] == [(encoding.ids, encoding.types)]


def test_windows_overlap_by_what_the_step_leaves():
    _, read = cut(letters(BERT), "q", "a" * 20, 14, step=4)
    assert [(part.start, part.end) for part in read.parts] == [(0, 10), (4, 14), (8, 18), (10, 20)]


def test_a_long_question_loses_its_end_only_where_it_must():
    tokenizer = letters(BERT)
    _, read = cut(tokenizer, "q" * 30, "a" * 5, 40)
    assert read.truncated_tokens == 0
    _, read = cut(tokenizer, "q" * 33, "a" * 5, 40)
    assert (read.truncated_tokens, len(read.parts)) == (1, 1)
    encoding, read = cut(tokenizer, "q" * 60, "a" * 50, 40)
    assert read.truncated_tokens == 60 - 18
    assert read.parts[0].ids[:19] == encoding.ids[:19]
    assert {token for part in read.parts for token in range(part.start, part.end)} == set(range(50))
    assert {len(part.ids) for part in read.parts} == {40}


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(UsageError, match="stride is 8 tokens, and a window has room for 6; expected 1 to 6"):
        cut(letters(BERT), "q", "a" * 20, 10, step=8)
    with pytest.raises(UsageError, match="a limit of 4 tokens leaves no room"):
        cut(letters(BERT), "q", "a" * 20, 4)
    assert windows(Encoding([2, 9, 3, 3], None, 0, [(0, 0)] * 4, [-1, 0, -1, -1]), 10).parts == []


@given(st.integers(1, 300), st.integers(1, 40), st.data())
def test_steps_leave_nothing_out(count: int, room: int, data: st.DataObject):
    step = data.draw(st.none() | st.integers(1, room))
    found = starts(count, room, step)
    assert {place for start in found for place in range(start, min(start + room, count))} == set(range(count))
    assert found == sorted(set(found))


SIGNS = [
    "  ",
    "é",
    "e\u0301",
    "雨",
    "が",
    "か\u3099",
    "😀",
    "👩\u200d🚀",
    "👍🏽",
    "🇫🇷",
    "ß",
    "\u00a0",
    "\u0301",
    "\u200d",
    *"abz AB3,.\n\t",
]
TEXT = st.lists(st.sampled_from(SIGNS), min_size=1, max_size=30).map("".join)
TOKENIZERS = {"letters": letters(BERT), "bytes": byte_level(), "metaspace": metaspace()}


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=300, deadline=None)
@given(text=TEXT, data=st.data())
def test_characters_to_tokens_and_back(name: str, text: str, data: st.DataObject):
    """Any stretch of tokens gives characters, without spaces around, whose tokens give the same characters again."""
    offsets = TOKENIZERS[name].encode([text], offsets=True)[0].offsets
    offsets = [pair for pair in offsets if pair != (0, 0)]
    if not offsets:
        return
    first = data.draw(st.integers(0, len(offsets) - 1))
    last = data.draw(st.integers(first, len(offsets) - 1))
    start, end = characters_of(text, offsets, first, last)
    assert 0 <= start <= end <= len(text)
    if start == end:
        assert not text[offsets[first][0] : offsets[last][1]].strip()
        return
    assert not text[start].isspace()
    assert not text[end - 1].isspace()
    held = text[offsets[first][0] : offsets[last][1]].strip()
    assert held in text[start:end]
    again = tokens_of(offsets, start, end)
    assert again is not None
    outer = characters_of(text, offsets, *again)
    if text[start:end] == held:
        assert outer == (start, end)
    else:  # what was added may be a part of a longer token
        assert outer[0] <= start < end <= outer[1]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(
    "answer",
    ["café", "cafe\u0301", "naïve  ghost", "雨", "👩\u200d🚀", "👍🏽", "🇫🇷", "l'été", "3.5%", "か\u3099", "a", "«x»"],
)
def test_answers_come_back_to_the_letter(name: str, answer: str):
    tokenizer = TOKENIZERS[name]
    for before, after in (("", ""), ("It is ", "."), ("雨 ", " 雨"), ("😀😀  ", "  (so)"), ("(", ")"), ("é\n", "\té")):
        text = f"{before}{answer}{after}"
        offsets = tokenizer.encode([("q", text)], offsets=True)[0]
        own = [pair for pair, segment in zip(offsets.offsets, offsets.segments, strict=True) if segment == 1]
        span = tokens_of(own, len(before), len(before) + len(answer))
        start, end = characters_of(text, own, *span)
        assert text[start:end] == answer, (before, after)
