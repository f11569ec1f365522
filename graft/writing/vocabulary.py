"""A vocabulary to write with, for readers with fewer words."""

from __future__ import annotations

from graft.errors import UsageError
from graft.grafted import Model


class Vocabulary:
    """Words that a model keeps to, as far as single tokens can hold it to them (`graft.text.vocabulary`)."""

    def __init__(self, name: str) -> None:
        """Take the N most frequent English words, or those of a file.

        Raises:
            UsageError: it names neither.
            DataError: a file that is no list of words.
        """
        from graft.text import word_list  # the list is read only where it is asked for

        try:
            self.words = word_list.find(name)
        except UsageError as error:
            raise UsageError(str(error).replace("words is", "vocabulary is", 1)) from error

    def allowed(self, model: Model) -> frozenset[int]:
        """The tokens the model may write."""
        from graft.text import vocabulary

        return vocabulary.allowed_tokens(model.tokenizer, self.words)

    def outside(self, text: str) -> tuple[str, ...]:
        """The words of a text that are not among them, each once."""
        from graft.text import vocabulary

        return tuple(dict.fromkeys(one.word for one in vocabulary.outside(text, self.words)))
