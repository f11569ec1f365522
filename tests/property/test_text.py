"""Offsets, ids and limits, for whatever texts there are."""

from __future__ import annotations

import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from graft.text import Frame, Tokenizer

BERT = Frame(start=("[CLS]",), between=("[SEP]",), end=("[SEP]",), types=True)
SENTENCES = ["the cat sat on the mat", "Über den Wolken, naïve café déjà vu", "кот сидит на коврике", "12 + 345!"] * 3

# Letters with accents, composed and not, marks that stack, scripts without case, emoji of one and several characters,
# every kind of space, and what must be cleaned away.
LETTERS = "abcdeéÉüÜñßşŞjČčxZ\u0301\u0308\u0323кКйё中文字أبกํा"
OTHERS = " \t\n\u00a0\u3000,.!?'-12🦙🚀\ufe0f\u200d👩🏽\u0000\u200b\ufffd"
texts = st.text(st.sampled_from(LETTERS + OTHERS), max_size=60)


@pytest.fixture(scope="module")
def byte_pairs() -> Tokenizer:
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    return Tokenizer(library, Frame())


@pytest.fixture(scope="module")
def word_pieces() -> Tokenizer:
    library = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer(lowercase=True)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = sorted(set(lowered(LETTERS + OTHERS)))
    trainer = trainers.WordPieceTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    library.train_from_iterator([*SENTENCES, *(letter * 2 for letter in LETTERS)], trainer)
    return Tokenizer(library, BERT)


def piece_file(folder: Path, **options: Any) -> Tokenizer:
    """A tokenizer from a SentencePiece file trained here."""
    written = io.BytesIO()
    letters = {"required_chars": "abcdeéxZкй中", "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 9), model_writer=written, **(letters | options)
    )
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    (folder / "tokenizer_config.json").write_text('{"add_bos_token": false}', encoding="utf-8")
    return Tokenizer.from_folder(folder, Frame())


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """As T5, XLNet and XLM-R have it: normalized, spaces joined."""
    return piece_file(tmp_path_factory.mktemp("pieces"), vocab_size=300)


@pytest.fixture(scope="module")
def piece_pairs(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """As Llama has it: every character kept, what has no piece in bytes."""
    as_it_stands = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    options = {"model_type": "bpe", "byte_fallback": True, "vocab_size": 400, **as_it_stands}
    return piece_file(tmp_path_factory.mktemp("pairs"), **options)


@pytest.fixture(scope="module")
def gpt1(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Pairs of lower-cased characters, a word's last one ending in "</w>"."""
    letters = sorted({letter for letter in lowered(LETTERS + OTHERS) if not letter.isspace()} | set("thr"))
    vocab = ["<unk>", *letters, *(letter + "</w>" for letter in letters), "ca", "cat</w>", "th", "the</w>"]
    folder = tmp_path_factory.mktemp("gpt1")
    (folder / "vocab.json").write_text(json.dumps({name: n for n, name in enumerate(vocab)}), encoding="utf-8")
    (folder / "merges.txt").write_text("c a\nca t</w>\nt h\nth e</w>\n", encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "openai-gpt"}', encoding="utf-8")
    return Tokenizer.from_folder(folder, Frame())


def lowered(text: str) -> str:
    """What an uncased BERT makes of a piece of text."""
    plain = (c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) not in ("Mn", "Cc", "Cf"))
    return "".join(plain).lower().replace("\ufffd", "")


@given(text=st.one_of(texts, st.text(max_size=60)))
def test_byte_level_slices_cover_the_text(byte_pairs: Tokenizer, text: str) -> None:
    encoding = byte_pairs.encode([text], offsets=True)[0]
    reached = 0
    for first, last in encoding.offsets or []:
        assert first <= reached <= last
        assert first < last
        reached = last
    assert reached == len(text)
    assert byte_pairs.decode(encoding.ids) == text


@given(text=texts)
def test_a_word_piece_is_its_slice_lowered(word_pieces: Tokenizer, text: str) -> None:
    encoding = word_pieces.encode([text], offsets=True)[0]
    unknown = word_pieces.token_id("[UNK]")
    reached = 0
    for token, (first, last), segment in zip(
        encoding.ids, encoding.offsets or [], encoding.segments or [], strict=True
    ):
        if segment == -1:
            assert (first, last) == (0, 0)
            continue
        assert reached <= first < last <= len(text)
        reached = last
        if token != unknown:
            assert lowered(text[first:last]) == word_pieces.decode([token]).removeprefix("##")


WITH_WORDS = st.lists(st.sampled_from(["the", "cat", "Über", "naïve", " ", "  "]) | texts, max_size=6).map("".join)


@given(text=WITH_WORDS)
def test_a_gpt1_token_is_its_slice_lowered(gpt1: Tokenizer, text: str) -> None:
    encoding = gpt1.encode([text], offsets=True)[0]
    reached = 0
    for token, (first, last) in zip(encoding.ids, encoding.offsets or [], strict=True):
        assert reached <= first < last <= len(text)
        reached = last
        if token != gpt1.token_id("<unk>"):
            assert lowered(text[first:last]) == gpt1.decode([token])


@given(text=st.one_of(WITH_WORDS, st.text(max_size=60)))
def test_slices_of_piece_pairs_cover_the_text_and_are_their_pieces(piece_pairs: Tokenizer, text: str) -> None:
    encoding = piece_pairs.encode([text], offsets=True)[0]
    reached = 0
    for token, (first, last) in zip(encoding.ids, encoding.offsets or [], strict=True):
        assert first <= reached <= last
        assert first < last
        reached = last
        name = piece_pairs.decode([token], special=True).strip(" ")
        alone = first == 0 and not name  # the space that goes before every text shares its first character
        if not alone and "\ufffd" not in name:  # a byte of a character
            assert text[first:last].replace("▁", " ").strip(" ") == name
    assert reached == len(text)
    assert piece_pairs.decode(encoding.ids) == text.replace("▁", " ")


@given(text=WITH_WORDS)
def test_a_piece_is_its_slice_normalized(pieces: Tokenizer, text: str) -> None:
    encoding = pieces.encode([text], offsets=True)[0]
    before = (0, 0)
    for token, (first, last) in zip(encoding.ids, encoding.offsets or [], strict=True):
        assert 0 <= first < last <= len(text)
        assert before[0] <= first
        assert before[1] <= last
        before = (first, last)
        if token != pieces.token_id("<unk>") and text[first:last].isalnum():
            name = pieces.decode([token])
            found = unicodedata.normalize("NFKC", text[first:last])
            assert name == found or name == "" or unicodedata.normalize("NFD", name).startswith(found)


@given(pairs=st.lists(st.one_of(texts, st.tuples(texts, texts)), max_size=5), limit=st.integers(5, 40))
def test_a_limit_cuts_the_ends_of_the_longer_text(
    word_pieces: Tokenizer, pairs: list[str | tuple[str, str]], limit: int
) -> None:
    whole = word_pieces.encode(pairs, offsets=True)
    cut = word_pieces.encode(pairs, limit=limit, offsets=True)
    for text, before, after in zip(pairs, whole, cut, strict=True):
        assert len(after.ids) == min(limit, len(before.ids))
        assert after.truncated_tokens == len(before.ids) - len(after.ids)
        kept = [tokens_of(after, segment) for segment in (0, 1)]
        for segment, mine in enumerate(kept):
            every = tokens_of(before, segment)
            assert mine == every[: len(mine)]
            if isinstance(text, tuple) and len(mine) < len(every):
                assert len(mine) >= len(kept[1 - segment]) - 1


def tokens_of(encoding: object, segment: int) -> list[tuple[int, tuple[int, int]]]:
    ids, offsets, segments = (getattr(encoding, name) for name in ("ids", "offsets", "segments"))
    return [(token, place) for token, place, of in zip(ids, offsets, segments, strict=True) if of == segment]


@given(batch=st.lists(st.one_of(texts, st.tuples(texts, texts)), max_size=8))
def test_a_batch_is_each_alone(word_pieces: Tokenizer, batch: list[str | tuple[str, str]]) -> None:
    assert word_pieces.encode(batch) == [word_pieces.encode([text])[0] for text in batch]
