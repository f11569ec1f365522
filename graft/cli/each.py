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

LINEWISE = ("score", "complete")
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
            DataError: the only text cannot be.
        """
        self.texts += len(items)
        try:
            return items, self.answer(items)
        except DataError as error:
            if self.task not in LINEWISE:
                raise
            if self.single:
                raise DataError(str(error).replace(_FIRST, "the text")) from error
        good = [item for item in items if self._answers(item)]
        return good, self.answer(good) if good else []

    def _answers(self, item: Item) -> bool:
        try:
            self.answer([item])
        except DataError as error:
            where = "a text" if item.line is None else f"line {item.line}"
            self.faults.append(f"{where}: {str(error).replace(_FIRST, 'the text')}")
            self.watch.note(f"{self.faults[-1]}; left out")
            return False
        return True

    def close(self) -> None:
        """Tell of what was left out.

        Raises:
            DataError: there was something.
        """
        if self.faults:
            told = "; ".join(self.faults[:SHOWN]) + ("; ..." if len(self.faults) > SHOWN else "")
            raise DataError(f"{len(self.faults):,} of {self.texts:,} texts were left out, the others are done: {told}")
