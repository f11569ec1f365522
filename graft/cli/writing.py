"""How written texts are shown, as they come or when they are done, and put into cells; labelled texts as a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from graft.cli.output import one_line, shortened, write, write_json
from graft.errors import UsageError

if TYPE_CHECKING:
    from graft.heads import Answer
    from graft.recipes.watch import Watch

NONE = "[no answer]"
"""What a question without an answer is answered with; no text of an answer is this by itself."""

LONG = ("alternatives", "logprobs", "prompt_logprobs", "usage", "notes", "spans", "seed")
"""Parts of an answer that have no cell."""


def lines(text: str) -> str:
    r"""Text for a terminal with its line breaks, and without characters that could steer the terminal.

    >>> lines("two\nlines, \x1b[31mred")
    'two\nlines, \\x1b[31mred'
    """
    return "".join(sign if sign.isprintable() or sign in "\n\t" else repr(sign)[1:-1] for sign in text)


def show(text: str, answer: Answer, *, single: bool, streamed: bool = False) -> None:
    """Print what was written from one text; several texts of it are numbered."""
    every = (answer, *(answer.alternatives or ()))
    numbers = [f"{number}. " for number in range(1, len(every) + 1)] if len(every) > 1 else [""]
    for number, one in zip(numbers, every, strict=True):
        sure = "" if one.score is None or one.spans is not None else f"  {one.score:.3f}"
        said = one.text or (NONE if sure else "")
        if single:
            write("" if streamed else f"{number}{lines(said)}{sure}")
        else:
            line = f"{number}{one_line(said)}{sure}"
            write(f"{line}  {shortened(text, len(line) + 2)}")
        if one.finish_reason == "no_allowed_token":
            write("(stopped: the settings leave no token that may be written here)")
        if single and answer.unlisted:
            write(f"(words outside the vocabulary: {', '.join(map(one_line, answer.unlisted))})")


def stream(task: str, options: dict[str, Any]) -> bool:
    """Let a text appear as it is written, where there is only one; whether it will."""
    if task != "generate" or options.get("n", 1) != 1:
        return False
    options["on_text"] = _print()
    return True


def _print() -> Callable[[int, str], None]:
    begun = False

    def told(index: int, text: str) -> None:
        nonlocal begun
        new = text if begun else text.lstrip()
        begun = begun or bool(new)
        sys.stdout.write(lines(new))
        sys.stdout.flush()

    return told


def cells(row: Mapping[str, Any], answer: Answer) -> Iterator[dict[str, Any]]:
    """A written answer as cells, the same columns for each: a row for the text and for each of its alternatives."""
    own = {name: value for name, value in row.items() if name not in (*LONG, "unlisted", "finish_reason", "score")}
    for number, one in enumerate((answer, *(answer.alternatives or ())), 1):
        yield {
            **own,
            "text": one.text,
            "number": number,
            "score": one.score,
            "finish_reason": one.finish_reason,
            "seed": answer.seed,
            "unlisted": "|".join(one.unlisted or ()),
            "notes": "; ".join(one.notes or ()),
        }


def dataset(
    text: str | None, reference: str, options: dict[str, Any], *, dtype: str, as_json: bool, watch: Watch
) -> None:
    """Write labelled texts, and say how many of each label.

    Raises:
        UsageError: a text as well, no prefixes, or a file of a kind that is not written.
    """
    if text is not None:
        raise UsageError(f"--dataset writes from --prefix, --positive and --negative; leave {text!r:.40} out")
    from graft.recipes.corpus import corpus

    out, n = options.pop("dataset"), options.pop("n", 10)
    made = corpus(out, prefixes(options), model=reference, n=n, dtype=dtype, watch=watch, **_writing(options))
    if as_json:
        write_json({"out": out, **made.as_dict()})
        return
    for label, count in made.texts.items():
        write(f"{label}: {count:,} texts")
    write(f"{sum(made.texts.values()):,} labelled texts written to {out}, the first with seed {made.seed}")


def prefixes(options: dict[str, Any]) -> dict[str, list[str]]:
    """What the texts of each label go on from; the options lose what says so.

    Raises:
        UsageError: a prefix without a label, or no label at all.
    """
    pairs = [(name, prefix) for name in ("positive", "negative") for prefix in options.pop(name, ())]
    for given in options.pop("prefix", ()):
        label, sign, prefix = given.partition("=")
        if not sign or not label.strip():
            raise UsageError(f'--prefix {given!r:.40}: expected label="what its texts go on from"')
        pairs.append((label.strip(), prefix))
    found: dict[str, list[str]] = {}
    for label, prefix in pairs:
        found.setdefault(label, []).append(prefix)
    return found


def _writing(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "overflow"}
