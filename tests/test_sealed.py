"""graft.json: there and back, damage named, and golden inputs that notice every drift."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from graft import sealed
from graft.errors import ModelError
from graft.sealed import FORMAT, NAME, TOLERANCE, Golden, Settings
from graft.version import __version__

SETTINGS = Settings(
    task="classify",
    limit=64,
    overflow="error",
    made={"strategy": "probe", "seed": 3, "rows": [1, 2]},
    golden=Golden(inputs=("one", ("two", "three")), outputs=((0.5, -1.0), (2.0, 3.5))),
)


@pytest.mark.parametrize("settings", [Settings(), SETTINGS], ids=["plain", "full"])
def test_there_and_back(tmp_path: Path, settings: Settings):
    (tmp_path / "model.safetensors").touch()
    sealed.write(tmp_path, settings)
    assert sealed.read(tmp_path) == settings
    content = json.loads((tmp_path / NAME).read_text())
    assert (content["graft"], content["version"]) == (FORMAT, __version__)
    assert sealed.files(tmp_path) == [NAME, "model.safetensors"]


def test_no_file_means_the_defaults(tmp_path: Path):
    assert sealed.read(tmp_path) == Settings()
    assert sealed.files(tmp_path) == []


@pytest.mark.parametrize("content", ["", "[]", '{"files": "all"}', '{"files": null}', "{}"])
def test_files_of_a_damaged_record_are_none(tmp_path: Path, content: str):
    (tmp_path / NAME).write_text(content)
    assert sealed.files(tmp_path) == []


def golden(inputs: Any = ("a",), outputs: Any = ((1.0,),)) -> dict[str, Any]:
    return {"golden": {"inputs": inputs, "outputs": outputs}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"graft": 2}, f"format 2, this version of Graft reads {FORMAT}"),
        ({"graft": None}, "format None, this version"),
        ({"limit": "64"}, "damaged: .*limit is '64', expected a number of tokens"),
        ({"limit": 0}, "limit is 0"),
        ({"limit": -5}, "limit is -5"),
        ({"limit": True}, "limit is True"),
        ({"limit": 1.5}, "limit is 1.5"),
        ({"overflow": "cut"}, "overflow is 'cut', expected 'truncate' or 'head_tail' or 'window' or 'error'"),
        ({"overflow": ["error"]}, "overflow is"),
        ({"task": 5}, "task is 5, expected a name"),
        ({"made": 5}, "damaged: "),
        ({"made": ["x"]}, "damaged: "),
        ({"golden": 5}, "damaged: "),
        ({"golden": ["x"]}, "damaged: "),
        ({"golden": {"inputs": ["a"]}}, "damaged: KeyError: 'outputs'"),
        (golden(outputs=()), "1 golden inputs with 0 outputs"),
        (golden(inputs=([],)), "damaged: "),
        (golden(inputs=(["a"],)), "damaged: "),
        (golden(inputs=(5,)), "damaged: "),
        (golden(inputs=None), "damaged: "),
        (golden(outputs=(("x",),)), "damaged: "),
        (golden(outputs=(5,)), "damaged: "),
        (golden(outputs=((None,),)), "damaged: "),
        (golden(outputs=((10**400,),)), "damaged: OverflowError"),
        (golden(outputs=((float("nan"),),)), "NaN is no number in JSON"),
        (golden(outputs=((float("inf"),),)), "Infinity is no number in JSON"),
    ],
)
def test_damage(tmp_path: Path, changes: dict[str, Any], message: str):
    (tmp_path / NAME).write_text(json.dumps({"graft": FORMAT, **changes}))
    with pytest.raises(ModelError, match=message) as caught:
        sealed.read(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / NAME))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_drift_beyond_the_tolerance_of_its_dtype(tmp_path: Path, dtype: torch.dtype):
    outputs = [torch.tensor([0.5, -1.0]), torch.tensor([2.0, 3.5])]
    share = TOLERANCE[dtype]
    for number, scale in enumerate((1.0, 3.5)):  # the tolerance is a share of the largest value, of 1 at least
        for place, sign in ((0, 1), (1, -1)):
            near, far = ([one.clone() for one in outputs] for _ in range(2))
            near[number][place] += sign * 0.99 * share * scale
            far[number][place] += sign * 1.01 * share * scale
            sealed.compare(tmp_path, SETTINGS.golden, near, dtype)
            with pytest.raises(ModelError, match="1 of 2 golden inputs give another output"):
                sealed.compare(tmp_path, SETTINGS.golden, far, dtype)


@pytest.mark.parametrize(
    "found",
    [[float("nan"), -1.0], [float("inf"), -1.0], [0.5, float("-inf")], [0.5], [0.5, -1.0, 0.0], []],
)
def test_what_is_no_number_or_of_another_length_has_drifted(tmp_path: Path, found: list[float]):
    with pytest.raises(ModelError, match=r"First: 'one' gave \[0\.5, -1\], now \["):
        sealed.compare(tmp_path, SETTINGS.golden, [torch.tensor(found), torch.tensor([2.0, 3.5])], torch.bfloat16)


def test_the_first_drift_is_shown_short(tmp_path: Path):
    wide = Golden(inputs=("x", ("y", "z")), outputs=((0.0,) * 384, (1.0,) * 384))
    with pytest.raises(ModelError) as caught:
        sealed.compare(tmp_path, wide, [torch.zeros(384), torch.zeros(384)], torch.float32)
    assert "1 of 2 golden inputs" in str(caught.value)
    assert "('y', 'z') gave [1, 1, 1, 1, ...], now [0, 0, 0, 0, ...]" in str(caught.value)
