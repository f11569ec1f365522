"""Bad options.json and bad HDF5: refused in one line that names the file and the dataset, at once, in little memory."""

from __future__ import annotations

import builtins
import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from elmo_files import OPTIONS, arrays, changed, write
from refusals import SECONDS

from graft import hdf5
from graft.errors import GraftError, ModelError, StorageError
from graft.loading import load
from graft.shards import Shards

CELL = "RNN_1/RNN/MultiRNNCell/Cell0/LSTMCell"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "elmo", OPTIONS, arrays(OPTIONS))


def refused(folder: Path) -> str:
    start = time.process_time()
    with pytest.raises(ModelError) as caught:
        load(folder, "float32")
    assert time.process_time() - start < SECONDS
    message = str(caught.value)
    assert message.isprintable(), message
    assert message.startswith(str(folder))
    assert len(message) < 1500
    return message


def test_there_is_nothing_wrong_with_it(folder: Path, little_memory: None):
    assert load(folder, "float32").hidden_states([["a"]])[0].shape == (1, 12)


# options.json


def without(part: str, *names: str) -> dict[str, Any]:
    options = changed()
    for name in names:
        del options[part][name]
    return options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "options.json lacks char_cnn.embedding.dim, char_cnn.filters, lstm.projection_dim, lstm.dim, lstm.n_l"),
        ({"lstm": OPTIONS["lstm"]}, "options.json lacks char_cnn.embedding.dim, char_cnn.filters"),
        ({"lstm": 5, "char_cnn": []}, "options.json lacks"),
        (without("lstm", "dim", "n_layers"), "options.json lacks lstm.dim, lstm.n_layers"),
        (changed(n_characters=261), "char_cnn.n_characters is 261, only 262 is supported"),
        (changed(max_characters_per_token=40), "char_cnn.max_characters_per_token is 40, only 50 is supported"),
        (OPTIONS | {"bidirectional": False}, "bidirectional is False, only True is supported"),
        (changed(embedding={"dim": 0}), "character_size is 0, expected a whole number from 1"),
        (changed(embedding={"dim": 10**9}), "character_size is 1000000000"),
        (changed(filters=[]), r"filters is \(\), expected pairs"),
        (changed(filters="abc"), r"filters is \(\), expected pairs"),
        (changed(filters=[[1, 2, 3]]), r"filters is \(\(1, 2, 3\),\), expected pairs"),
        (changed(filters=[[51, 4]]), "expected pairs of a width up to 50 and a number"),
        (changed(filters=[[1, 0]]), "expected pairs of a width up to 50"),
        (changed(filters=[[1, "4"]]), "expected pairs of a width up to 50"),
        (changed(filters=[[1, 2**40]]), "expected pairs of a width up to 50"),
        (changed(filters=[4]), "a value has the wrong type"),
        (changed(filters=[[1, 4]] * 10**5), "expected pairs"),
        (changed(activation="gelu"), "character_activation is 'gelu', expected relu or tanh"),
        (changed(activation=["relu"]), "character_activation is"),
        (changed(n_highway=-1), "highways is -1"),
        (changed(n_highway=10**6), "highways is 1000000"),
        (
            changed(n_highway=3),
            r"tensors missing \(4\): CNN_high_2/W_carry, CNN_high_2/W_transform, CNN_high_2/b_carry",
        ),
        (changed(use_skip_connections="yes"), "skip is 'yes', expected true or false"),
        (changed(cell_clip=-3), "cell_clip is -3, expected a number above 0, or null"),
        (changed(cell_clip="3"), "cell_clip is '3'"),
        (changed(proj_clip=0), "projection_clip is 0"),
        (changed(proj_clip=True), "projection_clip is True"),
        (changed(dim=0), "feed_forward_size is 0"),
        (changed(dim=1.5), "feed_forward_size is 1.5"),
        (changed(dim=10**7), "the configuration describes .* the weights hold"),
        (changed(dim=2**31), "the weights hold|no model|more than any model"),
        (changed(projection_dim=20), "hidden_size is 40, expected 2 to twice the 10 cells"),
        (changed(projection_dim="6"), "hidden_size is '6'"),
        (changed(n_layers=10**6), "layers is 1000000"),
        (changed(n_layers=1000), "in 1000 layers, the weights hold"),
        (changed(n_layers=0), "layers is 0"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_options_that_make_no_sense(folder: Path, little_memory: None, options: dict[str, Any], message: str):
    (folder / "options.json").write_text(json.dumps(options))
    found = refused(folder)
    assert re.search(message, found), found
    assert found.startswith((f"{folder / 'options.json'}: ", f"{folder}: the "))


def test_options_nested_without_end(folder: Path):
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"a": deep}
    (folder / "options.json").write_text(json.dumps(OPTIONS | deep))
    assert load(folder, "float32").hidden_states([["a"]])
    (folder / "options.json").write_text('{"a":' * 10**5)
    assert "options.json" in refused(folder)


# The weights against the options


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    weights: dict[str, Any] = arrays(OPTIONS)
    change(weights)
    write(folder, OPTIONS, weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(f"{CELL}/B"), f"tensors missing (1): {CELL}/B"),
        (lambda w: w.pop("char_embed"), "tensors missing (1): char_embed"),
        (lambda w: w.pop("CNN/W_cnn_2"), "tensors missing (1): CNN/W_cnn_2"),
        (lambda w: w.pop("CNN_high_1/b_carry"), "tensors missing (1): CNN_high_1/b_carry"),
        (lambda w: w.pop(f"{CELL}/W_P_0"), f"tensors missing (1): {CELL}/W_P_0"),
        (lambda w: w.clear(), "the configuration describes"),
        (lambda w: w.update(embedding=np.ones((9, 4), "f4")), "without a place in this model (1): embedding"),
        (lambda w: w.update({"CNN/W_cnn_3": np.ones((1, 4, 4, 2), "f4")}), "without a place in this model (1): CNN/W"),
        (lambda w: w.update({"x\ny": np.ones(1, "f4")}), "without a place in this model (1): 'x\\ny'"),
        (lambda w: w.update(char_embed=np.ones((262, 4), "f4")), "char_embed has shape [262, 4], the configuration"),
        (lambda w: w.update(char_embed=np.ones((), "f4")), "char_embed has shape [], the configuration"),
        (lambda w: w.update({"CNN/b_cnn_0": np.ones((0,), "f4")}), "'CNN/b_cnn_0' of shape [0] has no values"),
        (lambda w: w.update({"CNN/W_cnn_0": np.ones((1, 4, 3), "f4")}), "CNN/W_cnn_0 has shape [1, 4, 3], the"),
        (lambda w: w.update({f"{CELL}/W_0": np.ones((13, 40), "f4")}), f"{CELL}/W_0 has shape [13, 40]"),
        (lambda w: w.update({f"{CELL}/W_0": np.ones((40, 12), "f4")}), f"{CELL}/W_0 has shape [40, 12]"),
        (lambda w: w.update({"CNN_high_0/W_carry": np.ones((11, 12), "f4")}), "W_carry has shape [11, 12]"),
        (lambda w: w.update(char_embed=np.ones((261, 4), "i4")), "dataset 'char_embed' holds int32, expected little"),
        (lambda w: w.update(char_embed=np.ones((261, 4), ">f4")), "dataset 'char_embed' holds >f4, expected little"),
        (lambda w: w.update(char_embed=np.ones((261, 4), "c8")), "dataset 'char_embed' holds"),
        (lambda w: w.update(char_embed="text"), "dataset 'char_embed' holds object, expected little"),
        (lambda w: w.update({"/".join("abcdefghijk"): np.ones(1, "f4")}), "groups deeper than 8"),
    ],
)
def test_weights_that_do_not_fit(folder: Path, change: Callable[[dict[str, Any]], Any], message: str):
    rewrite(folder, change)
    assert message in refused(folder)


@pytest.mark.parametrize("kind", ["f2", "f8"])
def test_other_floating_point_numbers_are_converted(folder: Path, kind: str):
    weights = arrays(OPTIONS)
    write(folder, OPTIONS, {name: values.astype(kind) for name, values in weights.items()})
    assert load(folder, "float32").hidden_states([["a"]])[0].isfinite().all()


# HDF5


def damaged(folder: Path, name: str = "char_embed") -> Any:
    opened = h5py.File(folder / "lm_weights.hdf5", "a")
    del opened[name]
    return opened


def external_storage(opened: Any, folder: Path) -> None:
    opened.create_dataset("char_embed", (261, 4), "f4", external=[(str(folder / "options.json"), 0, 4176)])


def from_elsewhere(opened: Any, folder: Path) -> None:
    layout = h5py.VirtualLayout((261, 4), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.hdf5"), "x", (261, 4))
    opened.create_virtual_dataset("char_embed", layout)


def circle(opened: Any, folder: Path) -> None:
    for name in "abcdef":
        opened[f"CNN/{name}"] = opened["CNN"]


def shared_place(opened: Any, folder: Path) -> None:
    opened.create_dataset("char_embed", data=np.ones((261, 4), "f4"))
    for number in range(9):
        opened[f"copy{number}"] = opened["char_embed"]


SPOILED: list[tuple[Callable[[Any, Path], Any], str]] = [
    (lambda f, _: f.__setitem__("char_embed", h5py.ExternalLink("other.hdf5", "/x")), "is a link to another place"),
    (lambda f, _: f.__setitem__("char_embed", h5py.SoftLink("/CNN/b_cnn_0")), "'char_embed' is a link to another"),
    (external_storage, "'char_embed' is not stored in one piece in this file; `h5repack"),
    (from_elsewhere, "'char_embed' is not stored in one piece in this file"),
    (lambda f, _: f.create_dataset("char_embed", (261, 4), "f4", chunks=(9, 4)), "'char_embed' is not stored in one"),
    (
        lambda f, _: f.create_dataset("char_embed", (2**31, 2**20), "f4", chunks=(2**10, 2**10), compression="gzip"),
        "'char_embed' is not stored in one piece",
    ),
    (lambda f, _: f.create_dataset("char_embed", (2**31, 2**20), "f4"), "'char_embed' of shape [2147483648, 1048576]"),
    (lambda f, _: f.create_dataset("char_embed", (261, 4), "f4"), "'char_embed' of shape [261, 4] has no values"),
    (lambda f, _: f.create_dataset("char_embed", data=h5py.Empty("f4")), "'char_embed' is not stored in one piece"),
    (lambda f, _: f.create_dataset("char_embed", (4,), h5py.string_dtype()), "'char_embed' holds object"),
    (lambda f, _: f.create_dataset("char_embed", (4,), h5py.vlen_dtype("f4")), "'char_embed' holds object"),
    (lambda f, _: f.create_dataset("char_embed", (4,), h5py.ref_dtype), "'char_embed' holds object"),
    (lambda f, _: f.create_dataset("char_embed", (4,), [("a", "f4")]), "'char_embed' holds"),
    (lambda f, _: f.__setitem__("char_embed", np.dtype("f4")), "'char_embed' is neither a group nor a dataset"),
    (circle, "more than 4096 links, or groups deeper than 8"),
    (lambda f, _: [f.create_group(f"g{n}") for n in range(5000)], "more than 4096 links"),
    (shared_place, "its datasets claim"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILED, ids=[message[:40] for _, message in SPOILED])
def test_a_file_of_something_else(folder: Path, request: Any, spoil: Callable[[Any, Path], Any], message: str):
    with damaged(folder) as opened:
        spoil(opened, folder)
    request.getfixturevalue("little_memory")
    found = refused(folder)
    assert message in found, found
    assert str(folder / "lm_weights.hdf5") in found


def test_a_dataset_that_claims_more_than_the_file_has(folder: Path, little_memory: None):
    """The bytes of its shape changed in the file: no library stands in the way of that."""
    file = folder / "lm_weights.hdf5"
    shape = np.array([261, 4], "<u8").tobytes()
    raw = file.read_bytes()
    assert raw.count(shape) >= 1
    file.write_bytes(raw.replace(shape, np.array([2**40, 4], "<u8").tobytes()))
    assert "lm_weights.hdf5: " in refused(folder)


def test_a_dataset_that_lies_beyond_the_end_of_the_file(folder: Path, little_memory: None):
    """The bytes of its place changed in the file; what all datasets claim together is still what it has."""
    file = folder / "lm_weights.hdf5"
    with h5py.File(file) as opened:
        begin, size = opened["char_embed"].id.get_offset(), opened["char_embed"].id.get_storage_size()
    raw, place = file.read_bytes(), np.array([begin, size], "<u8").tobytes()
    assert raw.count(place) == 1
    file.write_bytes(raw.replace(place, np.array([len(raw) - size // 2, size], "<u8").tobytes()))
    assert re.search(r"invalid dataset size|'char_embed' of shape \[261, 4\] does not fit its place", refused(folder))


def test_no_damaged_byte_raises_anything_else(folder: Path, little_memory: None):
    file = folder / "lm_weights.hdf5"
    whole, chance = file.read_bytes(), random.Random(8)
    for _ in range(150):
        raw = bytearray(whole)
        for _ in range(chance.choice((1, 3, 12))):
            raw[chance.randrange(4096 if chance.random() < 0.7 else len(raw))] = chance.choice((0, 255, 1, 64))
        file.write_bytes(raw)
        start = time.process_time()
        try:
            load(folder, "float32").hidden_states([["a"]])
        except GraftError as error:
            assert str(error).isprintable()  # noqa: PT017
        assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_cut_short(folder: Path, little_memory: None, share: float):
    file = folder / "lm_weights.hdf5"
    raw = file.read_bytes()
    file.write_bytes(raw[: int(len(raw) * share)])
    assert f"{file}: not a valid HDF5 file (damaged or cut short?)" in refused(folder)


def test_weights_that_are_missing(folder: Path):
    (folder / "lm_weights.hdf5").unlink()
    with pytest.raises(GraftError, match="no weights"):
        load(folder)
    with pytest.raises(ModelError, match=r"options.json wants weights in lm_weights.hdf5, .*; found: none"):
        Shards(folder)


# The library


def test_without_h5py(folder: Path, monkeypatch: pytest.MonkeyPatch):
    whole = builtins.__import__

    def without_it(name: str, *args: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return whole(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_it)
    with pytest.raises(ModelError, match=r"need the library h5py: pip install 'graft-nlp\[elmo\]'"):
        load(folder, "float32")


def test_a_place_that_cannot_be_written(tmp_path: Path):
    with pytest.raises(StorageError, match="absent/x.hdf5: the weights could not be written"):
        hdf5.write(tmp_path / "absent" / "x.hdf5", {})
