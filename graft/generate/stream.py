"""The text of a growing continuation: what is certain of it, up to a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from graft.text import Tokenizer


class TextStream:
    r"""Token ids in, text out: as much as can no longer change and is no part of what may become a stop string.

    What `add` and `finish` give adds up to what all ids decode to at once, cut off before the stop string that is
    complete first (of those that are complete together, the longest). Each token takes the time of the text it adds,
    and of looking for the stop strings in that.

    Attributes:
        stopped: the stop string that was met; tokens after it are not looked at.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), before: Sequence[int] = ()) -> None:
        """Begin a text.

        Args:
            tokenizer: of the ids.
            stop: strings that end the text.
            before: ids the text goes on from. It then begins with the space that stands between, where one does.

        Raises:
            DataError: an id of those before is not in the vocabulary.
        """
        self.stopped: str | None = None
        self._decoding, self._stop, self._held = tokenizer.incremental(), tuple(stop), ""
        self._theirs = ""
        if before:
            whole = tokenizer.incremental()
            for token in before:
                self._decoding.add(token)
                whole.add(token)
            self._theirs = whole.end()

    def add(self, token: int) -> str:
        """Take a token; give the text that is certain now.

        Raises:
            DataError: the vocabulary has no such token.
        """
        return self._certain(self._decoding.add(token)) if self.stopped is None else ""

    def finish(self) -> str:
        """Give the rest: no token follows."""
        if self.stopped is not None:
            return ""
        text = self._certain(self._decoding.end())
        rest, self._held = self._held, ""
        return text + rest

    def _certain(self, text: str) -> str:
        if text and self._theirs:  # a run of byte tokens that began before
            text, self._theirs = text.removeprefix(self._theirs), ""
        if not text or not self._stop:
            return text
        self._held += text
        met = [(at + len(stop), at, stop) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if met:
            _, keep, self.stopped = min(met)
            certain, self._held = self._held[:keep], ""
            return certain
        keep = len(self._held) - max(_begun(self._held, stop) for stop in self._stop)
        certain, self._held = self._held[:keep], self._held[keep:]
        return certain


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of a text may be the beginning of a stop string."""
    sizes = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
