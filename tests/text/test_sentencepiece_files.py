"""SentencePiece files made by hand: the smallest, the odd, the damaged and the hostile."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece as theirs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from graft.errors import ModelError
from graft.text import Frame, Tokenizer

Folder = Callable[..., Path]
Train = Callable[..., bytes]


def message(*fields: tuple[int, int | float | bytes]) -> bytes:
    """A protobuf message: ints as varints, floats in four bytes, the rest with its length."""
    written = b""
    for number, value in fields:
        if isinstance(value, int):
            written += bytes([number << 3 & 127 | 128, number >> 4]) + varint(value)
        elif isinstance(value, float):
            written += bytes([number << 3 & 127 | 5 | 128, number >> 4]) + struct.pack("<f", value)
        else:
            written += bytes([number << 3 & 127 | 2 | 128, number >> 4]) + varint(len(value)) + value
    return written


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


UNK = (1, message((1, b"<unk>"), (3, 2)))
A = (1, message((1, b"a"), (2, -1.0)))


def pieces(*names: str) -> list[tuple[int, bytes]]:
    """Normal pieces, the first with the highest score."""
    return [(1, message((1, name.encode()), (2, -1.0 - place / 8))) for place, name in enumerate(names)]


def test_xlnet_takes_numbers_and_commas_apart(piece_folder: Folder) -> None:
    content = message(UNK, *pieces("▁", "1", "2", ",", "▁12", "2,", "▁12,", "a,", "▁a,", "a"))
    for model_type, wanted in (("mt5", [7, 9]), ("xlnet", [5, 4, 9])):
        folder = piece_folder(content, config={"model_type": model_type})
        assert Tokenizer.from_folder(folder, Frame()).encode(["12, a,"])[0].ids == wanted


def test_spaces_may_stand_for_themselves(piece_folder: Folder) -> None:
    content = message(UNK, *pieces(" ", "a", " a", "b"), (2, message((3, 1))), (3, message((5, 0))))
    tokenizer = Tokenizer.from_folder(piece_folder(content), Frame())
    model = theirs.SentencePieceProcessor(model_proto=content)
    texts = ["a b", "  a   b ", "▁a", "ba a", ""]
    assert [encoding.ids for encoding in tokenizer.encode(texts)] == model.encode(texts)
    assert tokenizer.decode(tokenizer.encode(["a b"])[0].ids) == model.decode(model.encode("a b")) == " a b"


def test_the_smallest_file(piece_folder: Folder) -> None:
    tokenizer = Tokenizer.from_folder(piece_folder(message(UNK, A, *pieces("▁"))), Frame())
    assert tokenizer.encode(["a ab"])[0].ids == [2, 1, 2, 1, 0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "0 unknown and 0 normal pieces"),
        (message(A), "0 unknown and 1 normal pieces, expected 1 and some"),
        (message(UNK), "1 unknown and 0 normal"),
        (message(UNK, A, A), "3 pieces, of which only 2 differ"),
        (message(UNK, A, (1, message((1, b"b"), (3, 5)))), "pieces of type 5, expected normal, unknown"),
        (message(UNK, A, (1, message((1, b"b"), (3, b"x")))), "a string where a number belongs"),
        (message(UNK, A, (1, 7)), "a number where a string or a message belongs"),
        (message(UNK, A, (1, message((1, b"\xff")))), "codec can't decode"),
        (message(UNK, A, (1, b"")), "piece 2 has 0 characters, expected 1 to 256"),
        (message(UNK, A, (1, message((1, b"b" * 257)))), "piece 2 has 257 characters"),
        (message(UNK, A, (1, message((1, b"b"), (2, float("nan"))))), "the score of piece 2 is nan"),
        (message(UNK, A, (1, message((1, b"b"), (2, b"12345")))), "requires a buffer of 4 bytes"),
        (message(UNK, A, (2, message((3, 3)))), r"model type 3, expected 1 \(unigram\) or 2 \(BPE\)"),
        (message(UNK, A, (2, message((24, 1)))), "marks spaces at the end of words"),
        (message(UNK, A, (2, message((35, 1)))), "falls back to bytes but lacks pieces"),
        (message(UNK, A, (3, message((2, b"\xff\xff\xff\x7f")))), "table of replacements has 4 bytes and says"),
        (
            message(UNK, A, (3, message((2, b"\x04\0\0\0\0\0\0\0" + b"a" * 65 + b"\0")))),
            "more than 64 times longer",
        ),
        (message(UNK, A)[:-1], "a field of 10 bytes where 9 are left"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "a field of 9223372036854775807 bytes where 0 are left"),
        (b"\x0a" + b"\xff" * 11, "a number of more than ten bytes"),
        (b"\x0b", "a field of wire type 3"),
        (b"\x0d\0", "a field of 4 bytes where 1 are left"),
        (b"\xff", "ends within a number"),
        (b"IQ== 0\nIg== 1\n", "0 unknown and 0 normal pieces"),  # the first bytes of Llama 3's tokenizer.model
    ],
)
def test_damaged_files_are_refused_in_one_line(content: bytes, expected: str, piece_folder: Folder) -> None:
    with pytest.raises(ModelError, match=rf"tokenizer\.model: not a SentencePiece model .*{expected}") as caught:
        Tokenizer.from_folder(piece_folder(content, "tokenizer.model"), Frame())
    assert "\n" not in str(caught.value)


def test_files_and_counts_beyond_all_reason_are_refused(little_memory: None, piece_folder: Folder) -> None:
    folder = piece_folder(b"", "tokenizer.model")
    with (folder / "tokenizer.model").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ModelError, match=f"{2**40} bytes, expected at most {2**24}"):
        Tokenizer.from_folder(folder, Frame())
    (folder / "tokenizer.model").write_bytes(b"\x0a\x03\x0a\x01a" * (2**19 + 1))
    with pytest.raises(ModelError, match=f"more than {2**19} pieces"):
        Tokenizer.from_folder(folder, Frame())


def test_pairs_beyond_all_reason_are_refused(little_memory: None, piece_folder: Folder) -> None:
    """Every prefix and suffix of these is a piece, so that each can be made up in as many ways as it has letters."""
    names = [first * "a" + second * "b" for first in range(128) for second in range(128) if first + second]
    folder = piece_folder(message(UNK, *pieces(*names), (2, message((3, 2)))), "tokenizer.model")
    with pytest.raises(ModelError, match=r"tokenizer\.model: .*made up of more than 1048576 pairs"):
        Tokenizer.from_folder(folder, Frame())


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that fails when it is read: Linux's /proc")
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").symlink_to("/proc/self/mem")
    with pytest.raises(ModelError, match=r"spiece\.model: cannot be read: Input/output error"):
        Tokenizer.from_folder(tmp_path, Frame())


def test_a_folder_in_place_of_the_file_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").mkdir()
    with pytest.raises(ModelError, match="no tokenizer"):
        Tokenizer.from_folder(tmp_path, Frame())


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_ends_in_a_tokenizer_or_a_model_error(
    kind: str, data: st.DataObject, piece_model: Train, piece_folder: Folder
) -> None:
    content = bytearray(piece_model(model_type=kind, byte_fallback=True))
    table = sentencepiece_model_pb2.ModelProto.FromString(bytes(content)).normalizer_spec.ByteSize()
    places = st.integers(0, len(content) - 1) | st.integers(0, len(content) - table)  # the table is nearly all of it
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    folder = piece_folder(bytes(content[: data.draw(st.none() | places)]))
    try:
        tokenizer = Tokenizer.from_folder(folder, Frame())
        ids = tokenizer.encode(["the cat ﬁ 🦙\t zq"], offsets=True)[0].ids
    except ModelError as error:
        found = str(error)
    else:
        found = ""
        assert max(ids, default=0) < tokenizer.vocab_size
    assert "\n" not in found
