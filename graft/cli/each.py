"""Many texts of which some cannot be answered: those are reported with their lines, the others are answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graft.errors import DataError

if TYPE_CHECKING:
    from graft.cli.texts import Item
    from graft.heads import Answer
    from graft.recipes.watch import Watch

LINEWISE = ("score", "complete", "generate", "summarize", "translate", "ask")
"""Tasks that go on after a text they cannot answer."""

SHOWN = 3
"""Faults told again at the end."""

_FIRST = "text 0 (counting from 0)"


@dataclass
class Each:
    """Answers chunks of texts.

    Attributes:
        answer: answers a list of texts.
        task: what is done with them.
        single: the user gave one text, whose fault is the whole command's.
        watch: told of every fault.
        faults: what was found, with the line.
        texts: how many there were.
    """

    answer: Callable[[list[Item]], list[Answer]]
    task: str
    single: bool
    watch: Watch
    faults: list[str] = field(default_factory=list)
    texts: int = 0

    def __call__(self, items: list[Item]) -> tuple[list[Item], list[Answer]]:
        """The texts that could be answered, with their answers.

        Raises:
            DataError: the only text cannot be, or one cannot be of a task whose texts are rows that belong together.
        """
        self.texts += len(items)
        return self._done(items)

    def _done(self, items: list[Item]) -> tuple[list[Item], list[Answer]]:
        """All at once; where that fails one half and then the other, down to the text that it fails for."""
        try:
            return items, self.answer(items)
        except DataError as error:
            if self.task not in LINEWISE:
                raise
            if self.single:
                raise DataError(str(error).replace(_FIRST, "the text")) from error
            if len(items) == 1:
                self._tell(items[0], error)
                return [], []
        middle = len(items) // 2
        (first, answers), (second, others) = self._done(items[:middle]), self._done(items[middle:])
        return [*first, *second], [*answers, *others]

    def _tell(self, item: Item, error: DataError) -> None:
        where = "a text" if item.line is None else f"line {item.line}"
        where = item.file or where
        self.faults.append(f"{where}: {str(error).replace(_FIRST, 'the text')}")
        self.watch.note(f"{self.faults[-1]}; left out")

    def close(self) -> None:
        """Tell of what was left out.

        Raises:
            DataError: there was something.
        """
        if self.faults:
            told = "; ".join(self.faults[:SHOWN]) + ("; ..." if len(self.faults) > SHOWN else "")
            others = ", the others are done" if len(self.faults) < self.texts else ""
            raise DataError(f"{len(self.faults):,} of {self.texts:,} texts were left out{others}: {told}")
