"""Every error Graft raises on purpose.

    GraftError                  anything a user can mend; one line, no traceback on the command line
    ├── UsageError              the request itself is wrong (exit code 2)
    ├── DataError               the user's rows, columns, labels or files of rows
    ├── ModelError              a model folder: configuration, weights, tokenizer
    ├── HubError                a model reference that cannot be turned into a folder
    ├── TrainingError           training cannot go on (a loss that is not finite, nothing to learn)
    └── StorageError            a file cannot be written (disk full, no permission)

A message says what was found, what was expected, the valid choices and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GraftError(Exception):
    """Base of every error a user can mend."""

    exit_code = 1


class UsageError(GraftError):
    """The request itself is wrong: an unknown option, task or strategy, or values that exclude each other."""

    exit_code = 2


class DataError(GraftError):
    """The user's data cannot be read or does not fit the task."""


class ModelError(GraftError):
    """A model folder is damaged, unsupported, or at odds with itself."""


class HubError(GraftError):
    """A model reference could not be resolved to a folder of files."""


class TrainingError(GraftError):
    """Training cannot go on."""


class StorageError(GraftError):
    """A file or folder could not be written; what was there before is unharmed."""


def nearest(found: str, choices: Iterable[str]) -> str:
    """Say which valid choice was probably meant, and list them all.

    Args:
        found: what the user wrote.
        choices: the valid names.

    Returns:
        ``"did you mean 'label'? Valid: 'label', 'text'."``, without the question where nothing is near.

    >>> nearest("labl", ["text", "label"])
    "did you mean 'label'? Valid: 'label', 'text'."
    """
    names = sorted(choices)
    listed = "Valid: " + (", ".join(repr(name) for name in names) or "none") + "."
    close = difflib.get_close_matches(found.lower(), [name.lower() for name in names], n=1, cutoff=0.6)
    if not close:
        return listed
    meant = next(name for name in names if name.lower() == close[0])
    return f"did you mean {meant!r}? {listed}"


def listed(names: Iterable[str]) -> str:
    r"""Names for a message, sorted, on one line whatever they hold.

    >>> listed(["b", "a", "two\nlines"])
    "a, b, 'two\\nlines'"
    """
    return ", ".join(name if name.isprintable() and name else repr(name) for name in sorted(names))


def plain(error: object) -> str:
    r"""What a library says of a file, on one line whatever the file put into it.

    >>> plain("no\n  such\ufeff dtype")
    "'no such\\ufeff dtype'"
    """
    said = " ".join(str(error).split())[:300]
    return said if said.isprintable() else repr(said)
