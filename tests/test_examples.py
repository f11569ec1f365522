"""Facts about the committed example data: what README promises of it must hold."""

from __future__ import annotations

import csv
import re
import runpy
import unicodedata
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TICKETS = EXAMPLES / "tickets.csv"
LABELS = {
    "account",
    "cancel_order",
    "complaint_service",
    "damaged_item",
    "delivery",
    "payment",
    "product_question",
    "refund",
}
NEAR_DUPLICATE = 0.5

Row = dict[str, str]


def normalised(text: str) -> str:
    """Words alone, without case, punctuation or spacing."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def four_grams(text: str) -> frozenset[str]:
    padded = f" {normalised(text)} "
    return frozenset(padded[start : start + 4] for start in range(max(1, len(padded) - 3)))


def similarity(left: frozenset[str], right: frozenset[str]) -> float:
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def message_lines() -> list[str]:
    return (EXAMPLES / "new_messages.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    with TICKETS.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, strict=True))


def test_columns_and_complete_rows(rows: list[Row]) -> None:
    assert len(rows) >= 640
    for row in rows:
        assert list(row) == ["id", "text", "label", "split"]
        assert all(row.values()), row
        assert row["text"] == row["text"].strip(), row


def test_ids_are_unique(rows: list[Row]) -> None:
    assert len({row["id"] for row in rows}) == len(rows)


def test_eight_labels_of_equal_size(rows: list[Row]) -> None:
    counts = Counter(row["label"] for row in rows)
    assert set(counts) == LABELS
    assert min(counts.values()) >= 80
    assert len(set(counts.values())) == 1


def test_a_quarter_of_every_label_is_held_out(rows: list[Row]) -> None:
    assert {row["split"] for row in rows} == {"train", "test"}
    for label in LABELS:
        splits = Counter(row["split"] for row in rows if row["label"] == label)
        assert splits["test"] / splits.total() == pytest.approx(0.25, abs=0.02), label


def test_no_message_twice(rows: list[Row]) -> None:
    counts = Counter(normalised(row["text"]) for row in rows)
    assert [text for text, count in counts.items() if count > 1] == []


def test_no_near_duplicates_and_so_no_leak_into_the_test_part(rows: list[Row]) -> None:
    grams = [(row["id"], four_grams(row["text"])) for row in rows]
    close = [
        (one, other)
        for (one, left), (other, right) in combinations(grams, 2)
        if similarity(left, right) > NEAR_DUPLICATE
    ]
    assert close == []


def test_the_near_duplicate_measure_sees_a_swapped_word() -> None:
    one = four_grams("The zip on my new tent broke on the first evening, please help.")
    other = four_grams("the zip on my new JACKET broke on the first evening please help")
    assert similarity(one, other) > NEAR_DUPLICATE


def test_every_label_has_short_middling_and_long_messages(rows: list[Row]) -> None:
    for label in LABELS:
        words = [len(row["text"].split()) for row in rows if row["label"] == label]
        assert min(words) >= 2
        assert max(words) <= 80
        assert sum(count <= 6 for count in words) >= 3, label
        assert sum(12 <= count <= 25 for count in words) >= 30, label
        assert sum(count >= 45 for count in words) >= 2, label


def test_the_text_exercises_a_csv_reader(rows: list[Row]) -> None:
    texts = [row["text"] for row in rows]
    assert sum("\n" in text for text in texts) >= 8
    assert sum('"' in text for text in texts) >= 20
    assert sum("," in text for text in texts) >= 200
    assert sum(not text.isascii() for text in texts) >= 20
    assert any(max(map(ord, text)) > 0xFFFF for text in texts), "no emoji beyond the basic plane"
    assert sum(text.islower() for text in texts) >= 60
    assert any(text.isupper() for text in texts)


@pytest.mark.parametrize("name", ["tickets.csv", "new_messages.txt", "README.md"])
def test_files_are_plain_utf8_with_unix_line_ends(name: str) -> None:
    content = (EXAMPLES / name).read_bytes()
    assert content.decode("utf-8")
    assert not content.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in content
    assert content.endswith(b"\n")


def test_new_messages_are_new(rows: list[Row]) -> None:
    lines = message_lines()
    assert len(lines) == 5
    assert all(lines)
    known = [four_grams(row["text"]) for row in rows]
    for line in lines:
        assert max(similarity(four_grams(line), grams) for grams in known) < NEAR_DUPLICATE, line


def test_readme_states_the_counts(rows: list[Row]) -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    stated = {
        label: (int(train), int(test))
        for label, train, test in re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \|", readme, flags=re.MULTILINE)
    }
    counts = Counter((row["label"], row["split"]) for row in rows)
    assert stated == {label: (counts[label, "train"], counts[label, "test"]) for label in LABELS}


def test_the_demo_runs_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a fifth of its rows: three strategies measured, new messages answered, a report and two models saved."""
    from graft import hub

    if hub.ENCODER not in {model.name for model in hub.known()}:
        pytest.skip(f"{hub.ENCODER} is not on this machine: scripts/install brings it")
    monkeypatch.chdir(tmp_path)
    demo = runpy.run_path(str(EXAMPLES / "demo.py"))["main"].__globals__
    with TICKETS.open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    with (tmp_path / "some.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *lines[::5]])
    monkeypatch.setitem(demo, "DATA", tmp_path / "some.csv")
    demo["main"]()
    shown = capsys.readouterr().out
    accuracy = {name: float(re.search(rf"{name} +│ (0\.\d+)", shown)[1]) for name in ("zero-shot", "probe", "full")}
    assert accuracy["probe"] > 0.5
    assert accuracy["full"] > 0.5
    assert sum(f" {label} " in shown for label in LABELS) >= 2
    assert (tmp_path / "runs" / "demo" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "runs" / "demo" / "full" / "model.safetensors").is_file()
