"""Sections about tagged sentences: types one by one, what is taken for what, and the sentences with most mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from graft.evaluate.blocks import Cell, Paragraph, Piece, Quote, Quotes, Said, Section, Table, Tone
from graft.evaluate.intervals import Interval
from graft.evaluate.tagging import Labels
from graft.evaluate.wording import counted, number
from graft.text.tag_schemes import Scheme, Span

SHOWN = 20
"""Sentences shown."""

OTHER, MISSED, NONE = "other words", "not found", "nothing there"


def tagged_sections(
    sentences: Sequence[Sequence[str]], target: Labels, given: Labels, scheme: Scheme, scores: Mapping[str, Interval]
) -> list[Section]:
    """All there is to see of tagged sentences.

    Args:
        sentences: their words.
        target: the right label numbers.
        given: the answers.
        scheme: how labels spell entities.
        scores: as ``tagging`` gives them.
    """
    spans = [(scheme.spans(true), scheme.spans(found)) for true, found in zip(target, given, strict=True)]
    sections = [_worst(sentences, spans)]
    return [_types(spans, scheme, scores), _confusions(spans, scheme), *sections]


Pairs = Sequence[tuple[list[Span], list[Span]]]


def _types(spans: Pairs, scheme: Scheme, scores: Mapping[str, Interval]) -> Section:
    """Precision, recall and F1 of each type, the weakest first."""
    counts = {kind: Counter[str]() for kind in ("right", "answered", "labelled")}
    for true, found in spans:
        for kind, some in (("right", set(true) & set(found)), ("answered", found), ("labelled", true)):
            counts[kind].update(one.label for one in some)
    rows = []
    for label in scheme.types:
        right, answered, labelled = (counts[kind][label] for kind in ("right", "answered", "labelled"))
        if answered + labelled:
            f1, interval = 2 * right / (answered + labelled), scores.get(f"f1_{label}")
            note = f"{number(interval.low)} – {number(interval.high)}" if interval else ""
            cells = [Cell(text=label), Cell(text=number(f1), note=note, share=f1)]
            cells += [Cell(text=number(right / max(answered, 1))), Cell(text=number(right / max(labelled, 1)))]
            rows.append((f1, label, [*cells, Cell(text=f"{labelled:,}"), Cell(text=f"{answered:,}")]))
    columns = ["Type" if scheme.entities else "Tag", "F1", "Precision", "Recall", "Labelled", "Answered"]
    table = Table(columns=columns, rows=[row for _, _, row in sorted(rows, key=lambda row: row[:2])])
    what = "An answer is right if words and type are. " if scheme.entities else ""
    return Section(
        title="Type by type" if scheme.entities else "Tag by tag", intro=f"{what}The weakest first.", blocks=[table]
    )


def _confusions(spans: Pairs, scheme: Scheme) -> Section:
    """What became of the labelled entities, and where the answers that are none of them come from."""
    cells: Counter[tuple[str, str]] = Counter()
    for true, found in spans:
        cells.update(_compared(true, found))
    wrong = sum(count for (row, column), count in cells.items() if row != column)
    beyond = [OTHER, MISSED] if scheme.entities else []
    names = [*scheme.types, *([NONE] if scheme.entities else [])]
    columns = [*scheme.types, *beyond]
    totals = {row: sum(cells[row, column] for column in columns) for row in names}
    rows = [
        [
            Cell(text=row),
            *(_cell(cells[row, column], totals[row], "good" if row == column else "bad") for column in columns),
        ]
        for row in names
        if totals[row]
    ]
    caption = "Down: the label. Across: the answer. Shade: share of the row."
    if scheme.entities:
        caption += f" “{OTHER}”: an answer overlaps, with other words. “{NONE}”: answers that overlap no label."
    what = "entity" if scheme.entities else "word"
    intro = f"{counted(wrong, 'mistake')} among {sum(totals[row] for row in scheme.types):,} labelled, by {what}."
    return Section(
        title="Confusions", intro=intro, blocks=[Table(columns=["", *columns], rows=rows, matrix=True, caption=caption)]
    )


def _cell(count: int, total: int, tone: Tone) -> Cell:
    return Cell(text=f"{count:,}" if count else "·", share=count / max(total, 1), tone=tone)


def _compared(true: Sequence[Span], found: Sequence[Span]) -> list[tuple[str, str]]:
    """For each labelled entity what is answered in its place, and for each answer in no one's place its type."""
    exact = {(one.first, one.end): one.label for one in found}
    pairs = []
    for one in true:
        label = exact.get((one.first, one.end))
        overlapped = any(other.first < one.end and one.first < other.end for other in found)
        pairs.append((one.label, label if label is not None else OTHER if overlapped else MISSED))
    for other in found:
        if not any(other.first < one.end and one.first < other.end for one in true):
            pairs.append((NONE, other.label))
    return pairs


def _worst(sentences: Sequence[Sequence[str]], spans: Pairs) -> Section:
    """The sentences with most mistakes, labels and answers marked."""
    faults = [len(set(true) ^ set(found)) for true, found in spans]
    wrong = [number for number, count in enumerate(faults) if count]
    if not wrong:
        return Section(title="Mistakes", blocks=[Paragraph(text="Every sentence was tagged rightly.")])
    order = sorted(wrong, key=lambda number: (-faults[number], len(sentences[number]), number))[:SHOWN]
    quotes = [_quote(sentences[number], *spans[number]) for number in order]
    intro = (
        f"{len(order)} of {counted(len(wrong), 'sentence')} with mistakes: those with most. Marked are the answers, "
        "green where they are right. Look here first for labels that are wrong themselves."
    )
    return Section(title="Mistakes", intro=intro, blocks=[Quotes(items=quotes)])


def _quote(words: Sequence[str], true: Sequence[Span], found: Sequence[Span]) -> Quote:
    pieces, place = [], 0
    for span in found:
        pieces.append(Piece(text=" ".join(words[place : span.first])))
        tone: Tone = "good" if span in true else "bad"
        pieces.append(Piece(text=" ".join(words[span.first : span.end]), label=span.label, tone=tone))
        place = span.end
    pieces.append(Piece(text=" ".join(words[place:])))
    missing = [span for span in true if span not in found]
    said = [
        Said(name="labelled", value=" ".join(words[one.first : one.end]), note=one.label, tone="good")
        for one in missing
    ]
    if not missing:
        said = [Said(name="labelled", value="none of what is marked red")]
    return Quote(text=" ".join(words), said=said, pieces=[one for one in pieces if one.text])
