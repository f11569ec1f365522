from __future__ import annotations

import pytest

from graft.data.split import normal, side, split
from graft.errors import UsageError

KEYS = [f"text number {index}" for index in range(20_000)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Good film", " good\t\nFILM "),
        ("café", "cafe\u0301"),
        ("STRASSE", "straße"),
        ("a\u00a0b", "a b"),
        ("ΜΆΪΟΣ", "μάϊος"),
        ("\u03b0", "\u03a5\u0308\u0301"),
        ("\u0345\u0301x", "\u0301\u0345X"),
    ],
)
def test_texts_that_count_as_the_same(one: str, other: str):
    assert normal(one) == normal(other)
    assert all(side(one, seed=seed) == side(other, seed=seed) for seed in range(20))


@pytest.mark.parametrize(("one", "other"), [("a b", "ab"), ("a.", "a"), ("resume", "résumé"), ("", "a"), ("1", "¹")])
def test_texts_that_do_not(one: str, other: str):
    assert normal(one) != normal(other)


def test_sides_do_not_change_between_releases():
    found = [side(key, dev=0.5, test=0.2) for key in ("a", "b", "c", "d", "e", "f", "g", "h")]
    assert found == ["test", "dev", "train", "train", "dev", "dev", "train", "train"]
    assert side("a", dev=0.3, test=0.3, seed=2**70) == side("A", dev=0.3, test=0.3, seed=2**70)


def test_shares_are_met():
    sides = split(KEYS, dev=0.1, test=0.2, seed=3)
    assert sorted(sum(sides.values(), [])) == list(range(len(KEYS)))
    # Four standard deviations of a binomial share of 20,000.
    assert len(sides["dev"]) == pytest.approx(2000, abs=170)
    assert len(sides["test"]) == pytest.approx(4000, abs=230)
    assert all(indices == sorted(indices) for indices in sides.values())


def test_other_rows_move_none():
    before = split(KEYS[:1000])
    after = split(KEYS)
    for name, indices in before.items():
        assert indices == [index for index in after[name] if index < 1000]
    reordered = split(KEYS[999::-1])
    assert {999 - index for index in reordered["dev"]} == set(before["dev"])


def test_duplicates_stay_together():
    sides = split([text for key in KEYS[:500] for text in (key, key.upper(), f" {key}")])
    for indices in sides.values():
        assert {index // 3 for index in indices} == {index // 3 for index in indices[::3]}
        assert len(indices) % 3 == 0


def test_more_dev_takes_from_train_only():
    small, large = split(KEYS, dev=0.1, test=0.1), split(KEYS, dev=0.3, test=0.1)
    assert small["test"] == large["test"]
    assert set(small["dev"]) < set(large["dev"])


def test_another_seed_is_another_split():
    one, other = set(split(KEYS, seed=0)["test"]), set(split(KEYS, seed=1)["test"])
    assert len(one & other) == pytest.approx(200, abs=60)


def test_no_dev_no_test():
    assert split(KEYS[:100], dev=0, test=0) == {"train": list(range(100)), "dev": [], "test": []}
    assert side("half a pair \ud800") in ("train", "dev", "test")


@pytest.mark.parametrize(("dev", "test"), [(0.5, 0.5), (-0.1, 0.1), (0.1, 1.0), (1.5, 0), (float("nan"), 0.1)])
def test_impossible_shares(dev: float, test: float):
    with pytest.raises(UsageError, match="expected each from 0 to below 1, together below 1"):
        split(KEYS, dev=dev, test=test)
    with pytest.raises(UsageError, match="shares dev="):
        side("a", dev=dev, test=test)
