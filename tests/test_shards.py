"""Reading safetensors: every layout that is right, and damaged or hostile files, each refused by name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from graft.errors import ModelError
from graft.shards import DTYPES, HEADER_BYTES, INDEX, SINGLE, Shards

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def raw(header: dict[str, Any] | bytes, data: bytes = b"\0" * 8, size: int | None = None) -> bytes:
    """The bytes of a file: the header's size, the header, the data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


def changed(**changes: Any) -> dict[str, Any]:
    """A header of one tensor with some of its entries changed."""
    return {"w": {**F32, **changes}}


def text(header: str) -> bytes:
    return header.encode()


GOOD = raw({"w": F32})
BIG = 2**64 - 1
BAD: dict[str, bytes] = {
    "no bytes at all": b"",
    "seven bytes": b"\0" * 7,
    "no header": b"\0" * 8,
    "header of zero bytes before data": raw(b"", b"\0" * 100),
    "header longer than the file": raw({"w": F32}, size=2000),
    "header shorter than written": raw({"w": F32}, size=20),
    "header of 2**63 bytes": raw({"w": F32}, size=2**63),
    "header of 2**64 - 1 bytes": raw({"w": F32}, size=BIG),
    "header above the cap": raw(b"{" + b" " * HEADER_BYTES + b"}"),
    "header is not JSON": raw(b"weights here"),
    "header is cut JSON": raw(text('{"w": {"dtype": "F32"')),
    "header is an array": raw(b"[1, 2]"),
    "header is null": raw(b"null"),
    "header is UTF-16": raw(json.dumps({"w": F32}).encode("utf-16")),
    "header has a byte order mark": raw(b"\xef\xbb\xbf" + json.dumps({"w": F32}).encode()),
    "header is not UTF-8": raw(b'{"\xff\xfe": ' + json.dumps(F32).encode() + b"}"),
    "header is nested deep": raw(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "header is a pickle": raw(b"\x80\x04\x95cposix\nsystem\n."),
    "a tensor given twice": raw(text(f'{{"w": {json.dumps(F32)}, "w": {json.dumps(F32)}}}')),
    "an entry given twice": raw(text('{"w": {"dtype": "F32", "shape": [2], "shape": [2], "data_offsets": [0, 8]}}')),
    "metadata given twice": raw(
        text(f'{{"__metadata__": {{"a": "b"}}, "__metadata__": {{"a": "c"}}, "w": {json.dumps(F32)}}}')
    ),
    "metadata is a list": raw({"__metadata__": ["pt"], "w": F32}),
    "metadata of numbers": raw({"__metadata__": {"a": 1}, "w": F32}),
    "a tensor is a string": raw({"w": "F32"}),
    "a tensor is null": raw({"w": None}),
    "no dtype": raw({"w": {"shape": [2], "data_offsets": [0, 8]}}),
    "no shape": raw({"w": {"dtype": "F32", "data_offsets": [0, 8]}}),
    "no offsets": raw({"w": {"dtype": "F32", "shape": [2]}}),
    "an unknown dtype": raw(changed(dtype="F31")),
    "a dtype in small letters": raw(changed(dtype="f32")),
    "a dtype that is a number": raw(changed(dtype=32)),
    "a shape that is a number": raw(changed(shape=2)),
    "a negative shape": raw(changed(shape=[-2])),
    "a fraction in the shape": raw(changed(shape=[2.0])),
    "a shape too large": raw(changed(shape=[3])),
    "a shape too small": raw(changed(shape=[1])),
    "a shape that overflows": raw(changed(shape=[2**63, 2**63, 4])),
    "a shape that wraps to the right size": raw(changed(shape=[2**62, 4, 2**62 + 1])),
    "a shape beyond 64 bits": raw(changed(shape=[2**70])),
    "offsets that run backwards": raw(changed(data_offsets=[8, 0])),
    "offsets beyond the file": raw(changed(shape=[200], data_offsets=[0, 800])),
    "offsets that overflow": raw(changed(data_offsets=[BIG - 7, BIG + 1])),
    "negative offsets": raw(changed(data_offsets=[-8, 0])),
    "one offset": raw(changed(data_offsets=[8])),
    "three offsets": raw(changed(data_offsets=[0, 4, 8])),
    "bytes before the first tensor": raw(changed(shape=[1], data_offsets=[4, 8])),
    "bytes after the last tensor": raw({"w": F32}, b"\0" * 9),
    "a hole between tensors": raw({"a": F32, "b": {**F32, "data_offsets": [12, 20]}}, b"\0" * 20),
    "overlapping tensors": raw({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, b"\0" * 12),
    "tensors on one place": raw({"a": F32, "b": F32}),
    "a dtype Graft has none of": raw(changed(dtype="F8_E4M3", shape=[8])),
    "unsigned 64-bit numbers": raw(changed(dtype="U64", shape=[1])),
    "complex numbers": raw(changed(dtype="C64", shape=[1])),
}


def write(folder: Path, content: bytes) -> Path:
    (folder / SINGLE).write_bytes(content)
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        Shards(folder)
    message = str(caught.value)
    assert message.startswith(str(folder))
    assert message.isprintable()
    return message


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
@pytest.mark.usefixtures("little_memory")
def test_damaged_files(tmp_path: Path, content: bytes):
    assert SINGLE in refused(write(tmp_path, content))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("header of 2**63 bytes", f"a header of {2**63} bytes, expected at most {HEADER_BYTES}"),
        ("header above the cap", f"a header of {HEADER_BYTES + 2} bytes, expected at most {HEADER_BYTES}"),
        ("a tensor given twice", "the key 'w' is given twice"),
        ("a dtype Graft has none of", "tensor 'w' has dtype F8_E4M3; valid: F64, F32, F16, BF16,"),
    ],
)
def test_what_damage_is_called(tmp_path: Path, case: str, message: str):
    assert message in refused(write(tmp_path, BAD[case]))


def test_the_good_file_is_good(tmp_path: Path):
    assert Shards(write(tmp_path, GOOD)).tensor("w").tolist() == [0, 0]


@pytest.mark.parametrize("end", range(len(GOOD)))
def test_a_file_cut_anywhere(tmp_path: Path, end: int):
    refused(write(tmp_path, GOOD[:end]))


@given(st.data())
def test_any_change_of_any_bytes_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(
        raw({"__metadata__": {"format": "pt"}, "a": F32, "b": changed(data_offsets=[8, 16])["w"]}, b"\1" * 16)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        new = data.draw(
            st.binary(max_size=3)
            | st.sampled_from([b'"', b"[", b"}", b"9", b"-", b",", b"\0", b"18446744073709551615"])
        )
        content[place : place + data.draw(st.integers(0, 3))] = new
    refusal, found, expected = "", {}, {}
    try:
        shards = Shards(write(folder, bytes(content)))
        expected = {name: entry.shape for name, entry in shards.entries.items()}
        found = {name: tuple(shards.tensor(name).shape) for name in expected}
    except ModelError as error:
        refusal = str(error)
    assert refusal.isprintable()
    assert found == expected


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that fails when it is read: Linux's /proc")
def test_a_file_that_cannot_be_read(tmp_path: Path):
    (tmp_path / SINGLE).symlink_to("/proc/self/mem")
    assert f"{SINGLE}: cannot be read: Input/output error" in refused(tmp_path)


# What is right


def test_every_dtype_and_shape(tmp_path: Path):
    made = {name: torch.arange(6).to(dtype).view(shape) for name, dtype in DTYPES.items() for shape in [(2, 3)]} | {
        "scalar": torch.tensor(3.5),
        "none": torch.empty(0, 4),
        "line": torch.arange(5.0),
    }
    save_file(made, tmp_path / SINGLE)
    shards = Shards(tmp_path)
    assert shards.entries.keys() == made.keys()
    assert shards.not_finite() == []
    for name, tensor in made.items():
        found = shards.tensor(name)
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found, tensor)


def test_a_tensor_at_an_odd_place(tmp_path: Path):
    """The format does not ask for alignment; some writers leave it out."""
    values = torch.arange(1.0, 3000.0)
    data = b"\7" + values.numpy().tobytes()
    byte = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    header = {"w": {"dtype": "F32", "shape": [2999], "data_offsets": [1, len(data)]}, "b": byte}
    text = json.dumps(header).encode()
    for padding in range(4):
        shards = Shards(write(tmp_path, raw(text + b" " * padding, data)))
        assert torch.equal(shards.tensor("w"), values)
        assert shards.tensor("b").tolist() == [7]


def test_changing_a_tensor_leaves_the_file(tmp_path: Path):
    save_file({"w": torch.ones(5000)}, tmp_path / SINGLE)
    before = (tmp_path / SINGLE).read_bytes()
    shards = Shards(tmp_path)
    shards.tensor("w").mul_(2)
    assert shards.tensor("w").sum() == 10_000
    assert (tmp_path / SINGLE).read_bytes() == before
    assert Shards(tmp_path).tensor("w").sum() == 5000


@pytest.mark.parametrize("until", [None, 0, 5, 9000, 20_000])
def test_released_memory_is_read_again_and_neighbours_stay(tmp_path: Path, until: int | None):
    save_file({"a": torch.ones(5000), "b": torch.full((5000,), 2.0), "c": torch.full((5000,), 3.0)}, tmp_path / SINGLE)
    shards = Shards(tmp_path)
    for name in "ac":
        shards.tensor(name).mul_(10)  # private pages: lost if the release went beyond its tensor
    shards.release("b", until)
    assert [float(shards.tensor(name).mean()) for name in "abc"] == [10, 2, 30]


# Shards


def index(folder: Path, weight_map: Any) -> Path:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_tensors_come_from_their_shards(tmp_path: Path):
    save_file({"a": torch.ones(2)}, tmp_path / "x-1.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "x-2.safetensors")
    shards = Shards(index(tmp_path, {"a": "x-1.safetensors", "b": "x-2.safetensors"}))
    assert {name: shards.tensor(name).tolist() for name in "ab"} == {"a": [1, 1], "b": [0, 0, 0]}


def test_a_link_to_a_file_is_followed(tmp_path: Path):
    """The hub's cache keeps a snapshot as links into its store."""
    (tmp_path / "blobs").mkdir()
    save_file({"a": torch.ones(2)}, tmp_path / "blobs" / "0123")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "x.safetensors").symlink_to("../blobs/0123")
    assert Shards(index(tmp_path / "snapshot", {"a": "x.safetensors"})).tensor("a").tolist() == [1, 1]


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "/etc/x.safetensors",
        "inner/x.safetensors",
        "..\\x.safetensors",
        "C:\\x.safetensors",
        "C:x.safetensors",
        "x\0.safetensors",
        "x\n.safetensors",
        "\ud800.safetensors",
        "pytorch_model.bin",
        "x.safetensors.bin",
        "",
        ".",
        "..",
        'x".safetensors',
        "\u202ex.safetensors",
    ],
)
def test_an_index_leads_nowhere_else(tmp_path: Path, name: str):
    (tmp_path / "inside").mkdir()
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    assert f"refuses the file name {name!r}" in refused(index(tmp_path / "inside", {"a": name}))


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "gone.safetensors"}, "the shard 'gone.safetensors' is missing; fetch it again"),
        ({"a": "folder.safetensors"}, "the shard 'folder.safetensors' is missing"),
        ({"a": "pipe.safetensors"}, "the shard 'pipe.safetensors' is missing"),
        ({"a": "loop.safetensors"}, "the shard 'loop.safetensors' is missing"),
        ({"a": "dangling.safetensors"}, "the shard 'dangling.safetensors' is missing"),
        ({"a": "endless.safetensors"}, "the shard 'endless.safetensors' is missing"),
        ({"a": "n" * 5000 + ".safetensors"}, "cannot be read: File name too long"),
        ({"a": "x.safetensors", "b": "x.safetensors", "c\n": "x.safetensors"}, "none of the shards: b, 'c\\n'"),
        ({"a": "x.safetensors", "z": "y.safetensors"}, "y.safetensors: tensor 'a' is also in x.safetensors"),
        ([["a", "x.safetensors"]], "'weight_map' must be an object"),
        ({"a": 1}, "'weight_map' must be an object"),
        (None, "'weight_map' must be an object"),
    ],
)
def test_a_damaged_index(tmp_path: Path, weight_map: Any, message: str):
    for name in "xy":
        save_file({"a": torch.ones(2)}, tmp_path / f"{name}.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    (tmp_path / "dangling.safetensors").symlink_to("nowhere")
    (tmp_path / "endless.safetensors").symlink_to("/dev/zero")
    assert message in refused(index(tmp_path, weight_map))


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ([], "no model.safetensors and no model.safetensors.index.json; is this a model folder?"),
        (["pytorch_model.bin", "model.ckpt"], "found only model.ckpt, pytorch_model.bin; .* `graft convert --help`"),
        (["tf_model.h5"], "found only tf_model.h5"),
    ],
)
def test_a_folder_without_safetensors(tmp_path: Path, present: list[str], message: str):
    for name in present:
        (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=message):
        Shards(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        Shards(tmp_path / "absent")


def test_a_folder_in_place_of_the_file(tmp_path: Path):
    (tmp_path / SINGLE).mkdir()
    assert "is this a model folder?" in refused(tmp_path)
