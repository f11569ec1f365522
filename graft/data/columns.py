"""Which column of a table plays which role in a task."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.data.table import Table
from graft.errors import DataError, UsageError, nearest

COLUMNS_SHOWN = 20
NAME_SHOWN = 60
_INDEX_NAMES = {"", "#", "id", "ids", "idx", "index", "guid", "uuid", "key", "row", "nr", "no", "number", "unnamed: 0"}


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a task needs from a column.

    Attributes:
        name: the role's name, and the column name it goes by first.
        aliases: other column names that play this role.
        required: whether the task can do without.
    """

    name: str
    aliases: tuple[str, ...] = ()
    required: bool = True


def choose(table: Table, roles: Sequence[Role], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Find the column for each role: as given, else by the role's name, else by its aliases; case does not matter.

    A table of exactly two columns, of which one is recognised, leaves only one choice for the other of two required
    roles; it is taken unless it looks like a row number. ``described`` says what was chosen.

    Args:
        table: the table.
        roles: what the task needs.
        given: role -> column, from the user.

    Returns:
        Role -> column, in the order of the roles; optional roles without a column are left out.

    Raises:
        UsageError: ``given`` names a role that the task does not have, or one column for two roles.
        DataError: a column is missing, or several could be meant.
    """
    chosen = _as_given(table, roles, given or {})
    for names_of in (_own_name, _all_names):
        for role in roles:
            if role.name not in chosen and (column := _named(table, role, names_of(role), chosen)) is not None:
                chosen[role.name] = column
    missing = [role for role in roles if role.required and role.name not in chosen]
    if len(missing) == 1 and (left := _only_one_left(table, roles, chosen)) is not None:
        chosen[missing[0].name] = left
    elif missing:
        raise DataError(_missing(table, missing, chosen))
    return {role.name: chosen[role.name] for role in roles if role.name in chosen}


def described(chosen: Mapping[str, str]) -> str:
    """Say which column plays which role, in the notation that overrides it.

    >>> described({"text": "body", "label": "label"})
    'text=body, label=label'
    """
    return ", ".join(f"{role}={column}" for role, column in chosen.items())


def text_fault(row: Mapping[str, Any], columns: Mapping[str, str], roles: Iterable[str]) -> str:
    """Why the texts that play these roles in a row cannot be read; "" where they can.

    >>> text_fault({"body": " "}, {"text": "body"}, ["text"])
    "'body' is empty"
    """
    for column in (columns[role] for role in roles):
        text = row.get(column)
        if not isinstance(text, str):
            return f"{column!r} is {'missing' if text is None else 'not text'}"
        if not text.strip():
            return f"{column!r} is empty"
    return ""


def _as_given(table: Table, roles: Sequence[Role], given: Mapping[str, str]) -> dict[str, str]:
    names = [role.name for role in roles]
    chosen: dict[str, str] = {}
    for role, column in given.items():
        if role not in names:
            raise UsageError(f"--columns {role}={column}: this task has no {role!r}; {nearest(role, names)}")
        found = [column] if column in table.names else _matching(table.names, [column])
        if len(found) != 1:
            what = f"matches {_listed(found)}" if found else "is not a column"
            raise DataError(
                f"{table.path}: --columns {role}={column}: {column!r} {what}. {_columns_found(table, column)}"
            )
        chosen[role] = found[0]
    for role, column in chosen.items():
        others = [other for other, same in chosen.items() if same == column and other != role]
        if others:
            raise UsageError(f"--columns: the column {column!r} is given for both {role!r} and {others[0]!r}")
    return chosen


def _own_name(role: Role) -> list[str]:
    return [role.name]


def _all_names(role: Role) -> list[str]:
    return [role.name, *role.aliases]


def _named(table: Table, role: Role, names: list[str], chosen: Mapping[str, str]) -> str | None:
    free = [column for column in table.names if column not in chosen.values()]
    found = _matching(free, names)
    exact = [column for column in found if column == role.name]
    if len(found) > 1 and not exact:
        raise DataError(
            f"{table.path}: several columns could be {role.name!r}: {_listed(found)}. "
            f"Say which, as in --columns {_given(role, found[0])}"
        )
    return next(iter(exact or found), None)


def _matching(columns: Iterable[str], names: Sequence[str]) -> list[str]:
    wanted = {_folded(name) for name in names}
    return [column for column in columns if _folded(column) in wanted]


def _folded(name: str) -> str:
    return name.strip().casefold()


def _only_one_left(table: Table, roles: Sequence[Role], chosen: Mapping[str, str]) -> str | None:
    required = [role for role in roles if role.required]
    left = [column for column in table.names if column not in chosen.values()]
    if len(table.names) != 2 or len(required) != 2 or len(left) != 1:
        return None
    return None if _folded(left[0]) in _INDEX_NAMES or _counts_rows(table, left[0]) else left[0]


def _counts_rows(table: Table, column: str) -> bool:
    """Tell whether a column of more than two rows holds nothing but whole numbers, all different."""
    values = [str(row.get(column)).strip() for row in table.rows]
    return len(values) > 2 and all(value.isdecimal() for value in values) and len(set(values)) == len(values)


def _missing(table: Table, missing: Sequence[Role], chosen: Mapping[str, str]) -> str:
    role = missing[0]
    looked = f" (nor {_listed(role.aliases)})" if role.aliases else ""
    free = [column for column in table.names if column not in chosen.values()]
    names = {_folded(column): column for column in free}
    near = [names[close] for name in _all_names(role) for close in difflib.get_close_matches(_folded(name), names, n=1)]
    meant = f" Did you mean {near[0]!r}?" if near else ""
    example = (near or [column for column in free if _folded(column) not in _INDEX_NAMES] or ["NAME"])[0]
    hint = "" if chosen else " If these are values, not names, add a first line with the column names."
    return (
        f"{table.path}: no column {role.name!r}{looked}. {_columns_found(table)}{meant} "
        f"Say which it is, as in --columns {_given(role, example)}.{hint}"
    )


def _given(role: Role, column: str) -> str:
    return shlex.quote(f"{role.name}={column if len(column) <= NAME_SHOWN else 'NAME'}")


def _columns_found(table: Table, wanted: str | None = None) -> str:
    close = difflib.get_close_matches(wanted, table.names, n=1) if wanted else []
    return f"Found: {_listed(table.names)}." + (f" Did you mean {close[0]!r}?" if close else "")


def _listed(names: Sequence[str]) -> str:
    shown = [repr(name if len(name) <= NAME_SHOWN else name[:NAME_SHOWN] + "…") for name in names[:COLUMNS_SHOWN]]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "")
