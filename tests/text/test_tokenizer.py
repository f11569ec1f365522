from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from graft.errors import DataError, ModelError, UsageError
from graft.text import TEXT_CHARACTERS, Frame, Tokenizer

Folder = Callable[..., Path]
Library = Callable[..., tokenizers.Tokenizer]
BERT = Frame(start=("cls_token",), between=("sep_token",), end=("sep_token",), types=True)
PAD, UNK, CLS, SEP, MASK, A, B, C = range(8)


def word_level(*words: str) -> tokenizers.Tokenizer:
    library = tokenizers.Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0])
    )
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return library


def test_a_limit_counts_special_tokens_and_reports_what_was_cut(bert: Tokenizer) -> None:
    exact, cut = bert.encode(["a b c", "a b c d"], limit=5)
    assert (exact.ids, exact.truncated_tokens) == ([CLS, A, B, C, SEP], 0)
    assert (cut.ids, cut.types, cut.truncated_tokens) == ([CLS, A, B, C, SEP], [0] * 5, 1)


@pytest.mark.parametrize(
    ("first", "second", "limit", "kept"),
    [(5, 1, 7, (3, 1)), (1, 5, 7, (1, 3)), (5, 5, 8, (2, 3)), (5, 4, 8, (3, 2)), (4, 5, 9, (3, 3)), (9, 9, 5, (1, 1))],
)
def test_the_longer_of_a_pair_is_cut_first(
    bert: Tokenizer, first: int, second: int, limit: int, kept: tuple[int, int]
) -> None:
    encoding = bert.encode([("a " * first, "b " * second)], limit=limit)[0]
    assert (encoding.ids.count(A), encoding.ids.count(B)) == kept
    assert len(encoding.ids) == limit == len(encoding.types or [])
    assert encoding.truncated_tokens == first + second - sum(kept)


def test_offsets_are_cut_with_the_ids(bert: Tokenizer) -> None:
    encoding = bert.encode([("a b c d", "b c d")], limit=6, offsets=True)[0]
    assert encoding.ids == [CLS, A, B, SEP, B, SEP]
    assert encoding.offsets == [(0, 0), (0, 1), (2, 3), (0, 0), (0, 1), (0, 0)]
    assert encoding.segments == [-1, 0, 0, -1, 1, -1]


def test_overflow_error_names_text_tokens_and_limit(bert: Tokenizer) -> None:
    with pytest.raises(
        DataError, match=r"text 2 \(counting from 0\) has 6 tokens .* limit is 5\. Shorten .*overflow=truncate"
    ):
        bert.encode(["a", "a b c", "a b c d"], limit=5, overflow="error")


def test_a_limit_without_room_is_wrong_use(bert: Tokenizer) -> None:
    with pytest.raises(UsageError, match="leaves room for 0 tokens beside the special tokens.* at least 1: raise"):
        bert.encode(["a"], limit=2)
    with pytest.raises(UsageError, match="leaves room for 1 tokens .* at least 2"):
        bert.encode([("a", "b")], limit=4)


def test_overflow_is_checked(bert: Tokenizer) -> None:
    with pytest.raises(UsageError, match="overflow='truncat': did you mean 'truncate'"):
        bert.encode(["a"], overflow="truncat")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, "is NoneType None"),
        (float("nan"), "is float nan: expected a str, or a tuple of two"),
        (b"a", "is bytes b'a'"),
        (["a", "b"], "is list"),
        (("a", "b", "c"), "is tuple"),
        (("a", 3), "is int 3"),
        ("a\ud800", "holds half a surrogate pair"),
        (("a", "\udfff"), "holds half a surrogate pair"),
    ],
    ids=repr,
)
def test_what_is_no_text_is_refused_with_its_place(bert: Tokenizer, text: Any, found: str) -> None:
    with pytest.raises(DataError, match=r"^text 1500 \(counting from 0\) " + found):
        bert.encode(["a"] * 1500 + [text, "b"])


def test_a_single_str_is_refused(bert: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"found a single str: write encode\(\[text\]\)"):
        bert.encode("abc")


def test_texts_are_capped(bert: Tokenizer) -> None:
    with pytest.raises(
        DataError, match=f"text 1 .* has {TEXT_CHARACTERS + 1} characters, at most {TEXT_CHARACTERS} .*split it"
    ):
        bert.encode(["a", "a" * (TEXT_CHARACTERS + 1)])


def test_order_is_kept_over_many_texts(bert: Tokenizer) -> None:
    texts: list[Any] = [("a " * (n % 7), "b " * (n % 5)) if n % 3 else "c " * (n % 11) for n in range(2500)]
    assert bert.encode(texts) == [bert.encode([text])[0] for text in texts]


def test_a_special_token_in_a_text_becomes_that_token(bert: Tokenizer) -> None:
    assert bert.encode(["a [MASK] b[SEP]"])[0].ids == [CLS, A, MASK, B, SEP, SEP]


def test_decode(bert: Tokenizer) -> None:
    ids = bert.encode(["unables café"])[0].ids
    assert bert.decode(ids) == "unables cafe"
    assert bert.decode(ids, special=True) == "[CLS] unables cafe [SEP]"


@pytest.mark.parametrize("token", [-1, 16, 10**12])
def test_decode_refuses_ids_the_vocabulary_has_not(bert: Tokenizer, token: int) -> None:
    with pytest.raises(DataError, match=f"token id {token} is not in the vocabulary: expected 0 to {16 - 1}"):
        bert.decode([A, token])


def test_vocab_size_counts_rows_and_holes(json_folder: Folder) -> None:
    library = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "x": 9}, unk_token="[UNK]"))
    tokenizer = Tokenizer.from_folder(json_folder(library), Frame())
    assert tokenizer.vocab_size == 10
    with pytest.raises(DataError, match="token id 5"):
        tokenizer.decode([5])


def test_vocab_size_counts_added_tokens(bert: Tokenizer) -> None:
    library = word_level("[UNK]", "x")
    library.add_tokens(["<new>"])
    assert Tokenizer(library, Frame()).vocab_size == 3
    assert bert.vocab_size == 16


def test_token_id_by_name_and_by_role(bert: Tokenizer) -> None:
    assert bert.token_id("[MASK]") == bert.token_id("mask_token") == MASK
    assert bert.token_id("cafe") == 11
    with pytest.raises(ModelError, match=r"no token '\[MSK\]'.*did you mean '\[MASK\]'"):
        bert.token_id("[MSK]")


def test_word_piece_offsets_are_characters(bert: Tokenizer) -> None:
    text = "  CAFÉ  unables 🦙中!  u\u0308ber"
    encoding = bert.encode([text], offsets=True)[0]
    slices = [text[first:last] for first, last in encoding.offsets or []]
    assert (
        slices == ["", "CAFÉ", "un", "able", "s", "🦙", "中", "!", "u\u0308ber", ""][: len(slices)]
        or slices[1] == "CAFÉ"
    )


def test_byte_level_offsets_are_characters_and_keep_spaces(byte_level: Library) -> None:
    tokenizer = Tokenizer(byte_level(), Frame(start=("eos_token",)))
    text = " the  🦙é"
    encoding = tokenizer.encode([text], offsets=True)[0]
    assert (encoding.offsets or [])[:2] == [(0, 0), (0, 4)]
    assert {(6, 7), (7, 8)} <= set(encoding.offsets or [])
    assert (encoding.segments or [])[:2] == [-1, 0]


def test_offsets_do_not_change_the_ids(bert: Tokenizer) -> None:
    texts = ["a CAFÉ zz", ("a", "unables")]
    plain, placed = bert.encode(texts), bert.encode(texts, offsets=True)
    assert [encoding.ids for encoding in plain] == [encoding.ids for encoding in placed]
    assert plain[0].offsets is None
    assert plain[0].segments is None


def test_save_and_load_give_the_same_encodings(tmp_path: Path, bert: Tokenizer) -> None:
    texts = ["a CAFÉ [MASK] unables zz", ("a b", "c 中"), ""]
    bert.save(tmp_path / "new" / "folder")
    loaded = Tokenizer.from_folder(tmp_path / "new" / "folder", BERT)
    assert loaded.encode(texts, limit=6, offsets=True) == bert.encode(texts, limit=6, offsets=True)
    assert loaded.frame == bert.frame
    assert loaded.special_tokens == bert.special_tokens
    loaded.save(tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        first = json.loads((tmp_path / "new" / "folder" / name).read_text(encoding="utf-8"))
        assert json.loads((tmp_path / "again" / name).read_text(encoding="utf-8")) == first


def test_a_frame_of_ones_own_survives_saving(tmp_path: Path) -> None:
    frame = Frame(between=("<sep>",), end=("<sep>", "<cls>"), types=True, last_type=2)
    Tokenizer(word_level("<unk>", "<sep>", "<cls>", "x"), frame).save(tmp_path)
    assert Tokenizer.from_folder(tmp_path, Frame(types=True)).frame == frame


def test_save_keeps_what_matters_and_leaves_code_and_paths_out(word_folder: Folder, tmp_path: Path) -> None:
    config = {
        "model_max_length": 77,
        "tokenizer_class": "OddTokenizer",
        "auto_map": {"AutoTokenizer": ["odd.OddTokenizer", None]},
        "name_or_path": "/home/somebody/model",
        "vocab_file": "/home/somebody/vocab.txt",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    folder = word_folder(tokenizer_config=config)
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    Tokenizer.from_folder(folder, BERT).save(tmp_path / "new")
    saved = json.loads((tmp_path / "new" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert saved == {
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "model_max_length": 77,
        "chat_template": "{{ messages }}",
        "do_lower_case": True,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    }


def test_saving_does_not_change_the_tokenizer(tmp_path: Path, bert: Tokenizer) -> None:
    before = bert.encode(["a b"])
    bert.save(tmp_path / "new")
    assert bert.encode(["a b"]) == before
