"""Rules that map the names and layouts of a published checkpoint to ours, read in both directions."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graft.errors import ModelError, listed

_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.)|^[0-9]+(?=\.)|(?<=Cell)[0-9]+(?=/)|(?<=_high_)[0-9]+(?=/)|(?<=_cnn_)[0-9]+$")
"""Numbers between dots; in ELMo's files, after these words."""

_PLACES = ("{n}", "{m}")


@dataclass(frozen=True)
class Rule:
    """One tensor of a published checkpoint and where it goes.

    Attributes:
        theirs: name in the file; ``{n}`` stands for the number of a block, ``{m}`` for a second number; a rule may
            spell out the second, or both.
        ours: our name; several names share the tensor in equal parts; None: the tensor is known and not needed.
        transposed: the file stores (inputs, outputs), ours is (outputs, inputs).
        optional: a file without it is complete; where another tensor of the file has its place, it is left aside.
        folded: the file stores the last dimension as several; our tensor of this name has them as its shape.
        axis: the dimension of ours along which parts lie: 0, outputs, or 1, inputs.
        beside: written only where this tensor of ours is there as well.
    """

    theirs: str
    ours: str | tuple[str, ...] | None
    transposed: bool = False
    optional: bool = False
    folded: str = ""
    axis: int = 0
    beside: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Our names, none, one or several."""
        return () if self.ours is None else (self.ours,) if isinstance(self.ours, str) else self.ours


def linear(
    theirs: str, ours: str | tuple[str, ...], *, bias: bool = True, transposed: bool = False, optional: bool = False
) -> list[Rule]:
    """The rules of a linear layer or normalization: its weight and, with it, its bias."""
    names = (ours,) if isinstance(ours, str) else ours
    rules = []
    for part in ("weight", "bias") if bias else ("weight",):
        mine = tuple(f"{name}.{part}" for name in names)
        flip = transposed and part == "weight"
        rules.append(Rule(f"{theirs}.{part}", mine[0] if len(mine) == 1 else mine, flip, optional))
    return rules


def prefixed(rules: Sequence[Rule], prefix: str) -> list[Rule]:
    """The same rules for files that put a prefix before each name."""
    return [replace(rule, theirs=prefix + rule.theirs) for rule in rules]


@dataclass(frozen=True)
class Match:
    """A tensor of a file and the rule that places it; where it is folded, our tensor that says how."""

    theirs: str
    names: tuple[str, ...]
    rule: Rule
    folded: str = ""

    def shapes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of each of our parts, for a tensor of the file's shape."""
        flat = (shape[0], math.prod(shape[1:])) if self.folded and shape else tuple(shape)
        turned, axis = list(reversed(flat)) if self.rule.transposed else list(flat), self.rule.axis
        if len(turned) > axis and turned[axis] % len(self.names) == 0:
            turned[axis] //= len(self.names)
        return tuple(turned)

    def parts(self, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Our names with views of the file's tensor, one for each."""
        flat = tensor.flatten(1) if self.folded else tensor
        turned, count = flat.t() if self.rule.transposed else flat, len(self.names)
        yield from zip(self.names, turned.chunk(count, self.rule.axis) if count > 1 else [turned], strict=True)


def template(name: str, numbered: int = len(_PLACES)) -> tuple[str, dict[str, str]]:
    """Split a name into its pattern and its first numbers: ``h.3.ln_1`` -> ``h.{n}.ln_1``, {n: 3}."""
    numbers = _NUMBER.findall(name)[:numbered]
    places = iter(_PLACES[:numbered])
    pattern = _NUMBER.sub(lambda found: next(places, found.group()), name)
    return pattern, dict(zip("nm", numbers, strict=False))


def match(
    rules: Sequence[Rule], names: Collection[str], expected: Collection[str], prefix: str = ""
) -> tuple[list[Match], list[str]]:
    """Find the rule of every tensor in a file.

    Args:
        rules: the family's table.
        names: the tensors the file holds.
        expected: our names that must be filled.
        prefix: what the file may put before the family's names.

    Returns:
        What was found, and the faults in words: every tensor that has no rule or no place, every one placed twice, and
        every weight that would stay unset.
    """
    table = {rule.theirs: rule for rule in (*rules, *prefixed(rules, prefix))}
    wanted = set(expected)
    found, strangers = [], []
    for name in names:
        rule, numbers = _find(table, name)
        older = name.replace(".gamma", ".weight").replace(".beta", ".bias")  # as TensorFlow named them
        if rule is None and older != name:
            rule, numbers = _find(table, older)
        ours = tuple(one.format(**numbers) for one in rule.names) if rule else ()
        if rule is None or any(one not in wanted and not rule.optional for one in ours):
            strangers.append(name)
        elif ours:
            found.append(Match(name, ours, rule, rule.folded.format(**numbers)))
    placed = Counter(name for one in found for name in one.names)
    for one in [one for one in found if one.rule.optional]:
        if any(placed[name] > 1 for name in one.names):
            found.remove(one)
            placed.subtract(one.names)
    faults = {
        "tensors without a place in this model": strangers,
        "tensors missing": _published(rules, wanted - placed.keys()),
        "tensors given twice": _published(rules, {name for name, count in placed.items() if count > 1}),
    }
    return found, [f"{what} ({len(which)}): {listed(which)}" for what, which in faults.items() if which]


def _find(table: Mapping[str, Rule], name: str) -> tuple[Rule | None, dict[str, str]]:
    """The rule of a tensor, by the pattern of its name, and the name's numbers."""
    if "{" in name:
        return None, {}
    for numbered in (2, 1):
        pattern, numbers = template(name, numbered)
        if pattern in table:
            return table[pattern], numbers
    return table.get(name), {}


def _published(rules: Sequence[Rule], ours: Collection[str]) -> set[str]:
    """What our names are called in files."""
    table = {name: rule for rule in rules for name in rule.names}
    split = {name: template(name) for name in ours}
    return {table[p].theirs.format(**numbers) if p in table else name for name, (p, numbers) in split.items()}


def homes(rules: Sequence[Rule], names: Collection[str]) -> dict[str, Match | None]:
    """The table backwards: where each of our tensors lies in files; None where it has no place there."""
    table: dict[str, list[Rule]] = {}
    for one in reversed(rules):
        for name in one.names:
            table.setdefault(name, []).append(one)
    found: dict[str, Match | None] = dict.fromkeys(names)
    for name in found:
        pattern, numbers = template(name)
        for rule in table.get(pattern, ()):
            if rule.beside.format(**numbers) in ("", *found):
                ours = tuple(one.format(**numbers) for one in rule.names)
                found[name] = Match(rule.theirs.format(**numbers), ours, rule, rule.folded.format(**numbers))
                break
    return found


def write(rules: Sequence[Rule], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The table backwards: our tensors under their published names and layouts, bit for bit.

    Raises:
        ModelError: a tensor of ours has no rule, or a part of a joint tensor is missing.
    """
    published: dict[str, Tensor] = {}
    placed = homes(rules, tensors.keys())
    for name, place in placed.items():
        if place is None:
            continue
        parts, folded, rule = place.names, place.folded, place.rule
        lacking = [part for part in (*parts, folded) if part and part not in tensors]
        if lacking:
            raise ModelError(f"{place.theirs} lacks {listed(lacking)}")
        if name != parts[0]:
            continue
        joined = torch.cat([tensors[part] for part in parts], rule.axis) if len(parts) > 1 else tensors[name]
        turned = joined.t() if rule.transposed else joined
        shaped = turned.unflatten(-1, tensors[folded].shape) if folded else turned  # type: ignore[no-untyped-call]
        published[place.theirs] = shaped.contiguous()
    if homeless := [name for name, place in placed.items() if place is None]:
        raise ModelError(f"no published name for {listed(homeless)}: this family cannot hold them")
    return published
