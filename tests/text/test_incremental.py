"""Ids decoded as they come, beside the library's own decoding of all at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from graft.errors import DataError, ModelError
from graft.text import Frame, Tokenizer

SIGNS = sorted(pre_tokenizers.ByteLevel.alphabet())
FALLBACK = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = ["▁the", "▁cat", "s", "▁", "▁▁", "é", "🦙", "a▁b", "中", "<0xZZ>", "<0x+1>", " ", "▁ x"]
WORDS = ["the", "##s", "##", ".", "?", "!", ",", "'", "n't", "'m", "do", "not", "s", "'s", "ve", "'", "a##b", "é", "中"]
SPELLED = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
KINDS: dict[str, tuple[list[str], decoders.Decoder | None]] = {
    "bytes": ([*SIGNS, "Ġthe", "ðŁĺ", "▁no", "ÃĠ"], decoders.ByteLevel()),
    "pieces": (PIECES, decoders.Metaspace()),
    "pieces, no prefix": (PIECES, decoders.Metaspace(prepend_scheme="never")),
    "fallback": ([*PIECES, *FALLBACK], decoders.Sequence(SPELLED)),
    "fallback alone": ([*PIECES, *FALLBACK], decoders.ByteFallback()),
    "two spaces": (PIECES, decoders.Sequence([*SPELLED[:3], decoders.Strip(" ", 2, 0)])),
    "each stripped": (PIECES, decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)])),
    "words": (WORDS, decoders.WordPiece()),
    "words as they are": (WORDS, decoders.WordPiece(cleanup=False)),
    "suffixes": (["the</w>", "ca", "t</w>", ".</w>", "</w>", "a</w>b", "</w></w>"], decoders.BPEDecoder()),
    "none": (WORDS, None),
    "another": (["a", "b", "|", "<pad>"], decoders.CTC()),
    "patterns": (WORDS, decoders.Replace(Regex("[st]+"), "z")),
    "stripped at the end": (PIECES, decoders.Sequence([*SPELLED[:3], decoders.Strip(" ", 0, 1)])),
}
AT_ONCE = ("another", "patterns", "stripped at the end")


@cache
def made(kind: str) -> Tokenizer:
    """A tokenizer of these tokens, with a special one and one that is merely added."""
    words, decoder = KINDS[kind]
    library = tokenizers.Tokenizer(models.WordLevel({word: n for n, word in enumerate(dict.fromkeys(words))}))
    if decoder is not None:
        library.decoder = decoder
    library.add_special_tokens(["<end>"])
    library.add_tokens(["added é", " s"])
    return Tokenizer(library, Frame())


def streamed(tokenizer: Tokenizer, ids: list[int]) -> tuple[list[str], str]:
    decoding = tokenizer.incremental()
    parts = [decoding.add(token) for token in ids]
    return parts, decoding.end()


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_is_that_of_all_ids_at_once(kind: str):
    tokenizer = made(kind)

    @settings(max_examples=300, deadline=None, database=None)
    @given(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=20))
    def check(ids: list[int]) -> None:
        try:
            whole = tokenizer.decode(ids)
        except ModelError:  # the library cannot strip what is empty
            with pytest.raises(ModelError):
                streamed(tokenizer, ids)
            return
        parts, rest = streamed(tokenizer, ids)
        assert "".join(parts) + rest == whole
        assert kind not in AT_ONCE or not any(parts)

    check()


def real(folder: Path, shared_data: Path, kind: str) -> Tokenizer:
    """A published vocabulary, or one learned here."""
    sources = {
        "gpt2": {"gpt2_vocab/gpt2_bpe_encoder.json": "vocab.json", "gpt2_vocab/gpt2_bpe_vocab.bpe": "merges.txt"},
        "gpt1": {
            "openai_gpt1_vocab/encoder_bpe_40000.json": "vocab.json",
            "openai_gpt1_vocab/vocab_40000.bpe": "merges.txt",
        },
        "bert": {"bert_vocab/bert_base_cased_vocab.txt": "vocab.txt"},
        "t5": {"t5_vocab/t5_tokenizer_base.model": "spiece.model"},
        "llama": {"llama2c_tokenizer/tokenizer.model": "tokenizer.model"},
    }
    if not all((shared_data / "models" / source).is_file() for source in sources[kind]):
        pytest.skip(f"the vocabulary of {kind} is not here")
    for source, name in sources[kind].items():
        shutil.copyfile(shared_data / "models" / source, folder / name)
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "OpenAIGPTTokenizer"}' if kind == "gpt1" else "{}"
    )
    return Tokenizer.from_folder(folder, Frame())


TEXTS = st.lists(
    st.sampled_from(
        [
            "the cat",
            " ",
            "Über",
            "naïve",
            "中文字",
            "русский",
            "🦙",
            "👩‍👩‍👧",
            "e\u0301",
            "don't",
            ".",
            "\n",
            "  ",
            "12",
        ]
    )
    | st.text(max_size=4),
    max_size=8,
).map("".join)


@pytest.mark.parametrize("kind", ["gpt2", "gpt1", "bert", "t5", "llama"])
def test_published_vocabularies(kind: str, tmp_path: Path, shared_data: Path):
    tokenizer = real(tmp_path, shared_data, kind)

    @settings(max_examples=400, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(TEXTS.filter(lambda text: text.isprintable() or "\n" in text), st.lists(st.integers(0, 500), max_size=3))
    def check(text: str, more: list[int]) -> None:
        ids = [*tokenizer.encode([text])[0].ids, *more]
        parts, rest = streamed(tokenizer, ids)
        whole = tokenizer.decode(ids)
        assert "".join(parts) + rest == whole
        assert sum(part.count("\ufffd") for part in parts) + rest.count("\ufffd") == whole.count("\ufffd")

    check()


def test_bytes_learned_from_emoji_never_give_half_a_character():
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer, library.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    texts = ["🦙🦊 中文字 русский naïve", "🦊🦙 👩‍👩‍👧 über"] * 3
    library.train_from_iterator(texts, trainers.BpeTrainer(initial_alphabet=SIGNS, vocab_size=290, show_progress=False))
    tokenizer = Tokenizer(library, Frame())
    for text in texts:
        parts, rest = streamed(tokenizer, tokenizer.encode([text])[0].ids)
        assert "".join(parts) == text
        assert rest == ""
        assert not any("\ufffd" in part for part in parts)


def test_text_comes_as_soon_as_it_is_certain():
    spelled: list[tuple[str, list[str], list[str]]] = [
        ("bytes", ["Ġthe", "ðŁĺ", "Ģ", "s"], [" the", "", "😀", "s"]),
        ("fallback", ["▁the", "<0xC3>", "<0xA9>", "s"], ["the", "", "", "és"]),
        ("words", ["the", "##s", "."], ["the", "s", "."]),
        ("suffixes", ["the</w>", "ca", "t</w>"], ["the", " ca", "t"]),
        ("pieces", ["▁the", "▁cat"], ["the", " cat"]),
    ]
    for kind, tokens, wanted in spelled:
        names = list(dict.fromkeys(KINDS[kind][0]))
        assert streamed(made(kind), [names.index(token) for token in tokens]) == (wanted, ""), kind


def test_an_unknown_token_is_refused():
    decoding = made("words").incremental()
    for token in (-1, 9999):
        with pytest.raises(DataError, match=f"token id {token} is not in the vocabulary"):
            decoding.add(token)


def test_time_does_not_grow_with_the_text():
    """What a token costs is what it costs at the beginning: the text is never decoded again."""
    taken: list[int] = []
    tokenizer = made("bytes")
    spell: Callable[[int], str | None] = tokenizer._piece
    tokenizer.__dict__["_piece"] = lambda token: (taken.append(token), spell(token))[1]
    decoding = tokenizer.incremental()
    for token in range(200):
        decoding.add(token)
    assert taken == list(range(200))
