"""Words outside a list, and the tokens that keep a model inside it, with the kinds of vocabulary there are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from graft.loading import load
from graft.text import Frame, Tokenizer
from graft.text.vocabulary import POSSESSIVE, allowed_tokens, outside, unwritable
from graft.text.word_list import WordList, find

WORDS = WordList({"the": 9, "cat": 5, "was": 4, "in": 3, "house": 2, "I": 2}, "six words")


def test_words_outside_a_list_with_their_places():
    text = "The cat’s tail, I fear, was\nin the house (in 2026)."
    found = outside(text, WORDS)
    assert [one.word for one in found] == ["tail", "fear"]
    assert [text[one.start : one.end] for one in found] == ["tail", "fear"]
    assert outside("The CAT was.", WORDS) == []


def folder_of(name: str, source: Path, folder: Path) -> Path:
    """Published vocabularies under the names that model folders have them by."""
    names = {
        "gpt2": {"gpt2_bpe_encoder.json": "vocab.json", "gpt2_bpe_vocab.bpe": "merges.txt"},
        "t5": {"t5_tokenizer_base.model": "spiece.model"},
    }[name]
    for theirs, ours in names.items():
        shutil.copy(source / "models" / f"{name}_vocab" / theirs, folder / ours)
    return folder


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_published_vocabularies_write_only_words_of_the_list(shared_data: Path, tmp_path: Path, name: str):
    tokenizer = Tokenizer.from_folder(folder_of(name, shared_data, tmp_path), Frame())
    allowed = allowed_tokens(tokenizer, WORDS)
    ids = tokenizer.encode(["the cat was in the house. The house, 12!"])[0].ids
    inside = ids if name == "t5" else ids[1:]  # GPT-2's first word has no space before it
    assert allowed.issuperset(inside)
    for text in ("the tail", "a way", "the cathouse"):
        assert not allowed.issuperset(tokenizer.encode([text])[0].ids)
    for token in allowed:
        if tokenizer.decode([token]) in POSSESSIVE:
            continue
        written = tokenizer.decode([*ids, token])
        assert outside(written, WORDS) == outside(tokenizer.decode(ids), WORDS), repr(written)
    assert unwritable(tokenizer, WORDS, allowed) == []
    longer = WordList({"the": 2, "antidisestablishment": 1}, "two words")
    assert unwritable(tokenizer, longer, allowed_tokens(tokenizer, longer)) == ["antidisestablishment"]


def test_word_pieces_that_continue_a_word_are_not_allowed():
    tokenizer = load("sentence-transformers/all-MiniLM-L6-v2").tokenizer
    words = find("1000")
    allowed = allowed_tokens(tokenizer, words)
    names = {tokenizer.token_id(name) for name in ("the", "house", ",", "?")}
    assert names <= allowed
    assert tokenizer.token_id("##s") not in allowed
    assert not allowed & {tokenizer.token_id(name) for name in ("[CLS]", "[SEP]", "[MASK]", "[UNK]")}
    missing = unwritable(tokenizer, words, allowed)
    assert len(missing) < 50
    assert all("'" in word or len(tokenizer.encode([word])[0].ids) > 3 for word in missing)


def test_more_tokens_may_be_allowed():
    tokenizer = load("sentence-transformers/all-MiniLM-L6-v2").tokenizer
    name = tokenizer.token_id("warsaw")
    assert name not in allowed_tokens(tokenizer, WORDS)
    assert name in allowed_tokens(tokenizer, WORDS, more=[name])
