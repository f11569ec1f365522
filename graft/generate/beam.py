"""Beam search: the continuations of a prompt that are the most probable as a whole, not token by token.

Several prompts are searched at once. Every beam lies in a slot of one cache; where beams go on from others, keys and
values are moved in place, as far as they differ. What an encoder made of a prompt is kept once for all its beams.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from graft.batch import Packed, by_length, pack
from graft.errors import DataError, ModelError, UsageError
from graft.generate.cache import StaticCache, kept_dtype
from graft.generate.choose import highest
from graft.generate.fast import decoder, fits
from graft.generate.feed import remember
from graft.generate.penalties import Ids, Row, Rules
from graft.generate.prompts import check, ends, prompt_ids
from graft.generate.sampling import Sampling
from graft.generate.slots import common
from graft.generate.stream import TextStream
from graft.grafted import Model
from graft.inference import Progress
from graft.model.attention import Memory
from graft.model.linear import laid_out

TOKENS = 8192
"""Tokens of all beams' prompts and continuations searched at once."""

BEFORE = 16
"""Tokens of a prompt that say how the text behind it begins: with a space or without."""

LONG_JOB = 32
"""Tokens to write from which on laying out the weights pays."""

MANY = 4
"""The same in batches of prompts, where tokens are written by the decoding step."""

DRAWN = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "stop",
    "ignore_end",
    "logprobs",
    "prompt_logprobs",
    "lookup",
)
"""Settings that mean nothing to a search."""


@dataclass(frozen=True, kw_only=True)
class Beams:
    """How to search.

    Attributes:
        beams: continuations followed side by side.
        n: how many of the best to return.
        length_penalty: scores are the sum of log-probabilities divided by the length to this power; above 0 longer
            continuations do better, below 0 shorter ones.
        early_stopping: True ends a search as soon as there are as many ended continuations as beams; False where the
            best beam, were it to end now, would be worse than all of those; "never" where no beam can become better.
        groups: beams are searched in so many groups, each kept apart from those before it.
        diversity: taken from the score of a token for each beam of an earlier group that chose it at this place
            (diverse beam search, Vijayakumar et al. 2018, with Hamming diversity).

    Raises:
        UsageError: a setting is of the wrong kind or out of its bounds.
    """

    beams: int = 4
    n: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    groups: int = 1
    diversity: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("beams", 1024), ("n", self.beams), ("groups", self.beams)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise UsageError(f"{name} is {value!r:.60}, expected a whole number from 1 to {most}")
        for name, least in (("length_penalty", -math.inf), ("diversity", 0.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
                raise UsageError(
                    f"{name} is {value!r:.60}, expected a number" + (" of at least 0" if not least else "")
                )
        if self.early_stopping not in (True, False, "never"):
            raise UsageError(f"early_stopping is {self.early_stopping!r:.60}, expected true, false or 'never'")
        if self.beams % self.groups:
            raise UsageError(f"groups is {self.groups}, expected a divisor of beams ({self.beams})")
        if self.diversity and self.groups == 1:
            raise UsageError(f"diversity is {self.diversity:g} with one group; ask for 2 groups or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """One continuation a search has found.

    Attributes:
        ids: its tokens, without the end token.
        score: its log-probability, and what the settings add to that, divided by the length to the power given.
        finish_reason: "stop" (an end token) or "length".
        text: what the tokens say behind the prompt; "" where the model has no tokenizer.
    """

    ids: list[int]
    score: float
    finish_reason: str
    text: str = ""


def search(
    model: Model,
    prompts: Sequence[str | Sequence[int]],
    beams: Beams | None = None,
    sampling: Sampling | None = None,
    *,
    end: Collection[int] | None = None,
    progress: Progress | None = None,
) -> list[list[Hypothesis]]:
    """The best continuations of each prompt, the best first; fewer than asked for where the settings allow fewer.

    Args:
        model: with a head that predicts the next token.
        prompts: texts or token ids of each.
        beams: how to search.
        sampling: `max_tokens` and what changes logits; nothing is drawn.
        end: tokens that end a text; None asks the model's folder.
        progress: told how many prompts are done.

    Raises:
        ModelError: the model's head does not predict the next token.
        UsageError: a setting that only means something where tokens are drawn one by one.
        DataError: a prompt is empty, too long, or has token ids the model does not have.
    """
    if model.head is None or model.head.kind != "next":
        raise ModelError(f"{model.folder}: writing text needs a head that predicts the next token")
    beams, sampling = beams or Beams(), sampling or Sampling()
    _check_settings(sampling)
    given = [prompt_ids(model, prompt) for prompt in prompts]
    two = model.backbone.decoder is not None
    longest = model.backbone.config.positions - (0 if two else sampling.max_tokens)
    for number, ids in enumerate(given):
        try:
            check(model, ids, sampling, longest)
        except DataError as error:
            raise DataError(f"prompt {number} (counting from 0): {error}") from error
    found: list[list[Hypothesis]] = [[] for _ in given]
    stop = frozenset(ends(model) if end is None else end)
    sizes = [(len(ids) + sampling.max_tokens) * beams.beams for ids in given]
    batches = by_length(sizes, TOKENS)
    pays = len(batches) >= MANY if _steps(model) else len(given) * sampling.max_tokens >= LONG_JOB
    with laid_out(model) if pays else contextlib.nullcontext():
        for indices in batches:
            run = _Run(model, [given[index] for index in indices], beams, sampling, stop)
            for index, hypotheses in zip(indices, run.run(), strict=True):
                before = () if two else given[index][-BEFORE:]
                found[index] = [_spelled(model, one, before) for one in hypotheses]
            if progress is not None:
                progress(len(indices))
    return found


def _steps(model: Model) -> bool:
    """Whether the decoding step writes."""
    decoder = model.backbone.decoder
    config = (model.backbone if decoder is None else decoder).config
    cache = StaticCache(config, 1, 1, dtype=kept_dtype(model.dtype, model.device), device=model.device)
    return fits(model, cache, None if decoder is None else cache)


def _spelled(model: Model, found: Hypothesis, before: Sequence[int]) -> Hypothesis:
    if not model.has_tokenizer:
        return found
    known = model.tokenizer.vocab_size
    stream = TextStream(model.tokenizer, before=before if max(before, default=0) < known else ())
    return dataclasses.replace(found, text="".join(map(stream.add, found.ids)) + stream.finish())


def _check_settings(sampling: Sampling) -> None:
    for one in dataclasses.fields(sampling):
        if one.name in DRAWN and getattr(sampling, one.name) != one.default:
            value = getattr(sampling, one.name)
            if one.name == "temperature" and value == 0:
                continue
            raise UsageError(f"{one.name} is {value!r:.60}: a search for the best text has no use for it; leave it out")


@dataclass(slots=True)
class _Beam:
    """A continuation that is followed: what the decoder has read, its score, the row its keys and logits lie in."""

    ids: list[int]
    score: np.float32
    row: int


@dataclass(slots=True)
class _Group:
    """The search of one group of one prompt's beams.

    Attributes:
        source: the prompt's number.
        given: ids the decoder began with.
        live: the beams, the best first.
        ended: the best continuations that have ended, the best first.
        open: whether the search goes on.
    """

    source: int
    given: int
    live: list[_Beam]
    ended: list[Hypothesis] = field(default_factory=list)
    open: bool = True


class _Run:
    """Prompts searched at once. The beams of a prompt lie side by side, in the first slots of the cache."""

    def __init__(
        self, model: Model, prompts: Sequence[list[int]], beams: Beams, sampling: Sampling, end: frozenset[int]
    ) -> None:
        backbone: Any = model.backbone
        self.model, self.beams, self.end, self.most = model, beams, end, sampling.max_tokens
        self.width = beams.beams // beams.groups
        self.wanted = max(2, 1 + len(end)) * self.width
        tokenizer = model.tokenizer if model.has_tokenizer else None
        self.known = min(backbone.config.vocab_size, tokenizer.vocab_size if tokenizer else backbone.config.vocab_size)
        self.rules = Rules(sampling, self.known, end, tokenizer)
        two = backbone.decoder is not None
        self.stack = backbone.decoder if two else backbone
        self.starts = [[backbone.config.start_token]] * len(prompts) if two else list(prompts)
        self.groups = [
            [_Group(row, len(ids), [_Beam(list(ids), np.float32(0), row)]) for _ in range(beams.groups)]
            for row, ids in enumerate(self.starts)
        ]
        dtype, slots = kept_dtype(model.dtype, model.device), len(prompts) * beams.beams
        length = max(map(len, self.starts)) + max(self.most, 1) - 1
        make = partial(StaticCache, self.stack.config, dtype=dtype, device=model.device)
        self.cache = make(slots, length)
        memory = make(len(prompts), max(map(len, prompts))) if two and self.most else None
        self.fast = decoder(model, self.cache, memory) if self.most > 1 else None
        self.owners, self.held = list(range(len(prompts))), [list(ids) for ids in self.starts]
        self.lengths = list(map(len, prompts))
        self.memory = None if memory is None else self._remember(pack(prompts).to(model.device), memory)

    @torch.inference_mode()
    def _remember(self, batch: Packed, memory: StaticCache) -> Memory:
        """What the encoder makes of the prompts, as the decoder's layers will look at it."""
        remember(self.model, batch, memory)
        kept = dict(enumerate(zip(memory.keys, memory.values, strict=True)))
        return Memory(batch, memory.keys.new_empty(0), kept)

    @torch.inference_mode()
    def run(self) -> list[list[Hypothesis]]:
        """Search until every group's search is over."""
        if not self.most:
            return [[Hypothesis(ids=[], score=0.0, finish_reason="length")] for _ in self.groups]
        rows = self._logits(self.starts, [0] * len(self.starts))
        while True:
            for groups in self.groups:
                self._step(groups, rows)
            live = [(group, beam) for groups in self.groups for group in groups if group.open for beam in group.live]
            if not live:
                return [self._best(groups) for groups in self.groups]
            self._move(live)
            rows = self._logits([[beam.ids[-1]] for _, beam in live], [len(beam.ids) - 1 for _, beam in live])

    def _logits(self, ids: Sequence[Sequence[int]], start: Sequence[int]) -> Row:
        """The next token's logits behind each row, (R, V), float32."""
        if self.fast is not None and (start[0] or self.memory is not None):  # else prompts, of one token, too
            numbers = [[one for [one] in ids], list(start), list(range(len(ids)))]
            if self.memory is not None:
                numbers += [self.owners, [self.lengths[owner] for owner in self.owners]]
            return self.fast(*torch.tensor(numbers)).numpy()
        batch = pack(ids, start=start).to(self.model.device)
        hidden_TD = self.stack(batch, memory=self.memory, cache=self.cache)
        assert self.model.head is not None
        logits_RV = self.model.head(hidden_TD if batch.longest == 1 else hidden_TD[batch.last_B], batch)
        return logits_RV.float().cpu().numpy()  # type: ignore[no-any-return]

    def _step(self, groups: list[_Group], rows: Row) -> None:
        """One token more for each beam of a prompt; later groups keep off what earlier ones have chosen."""
        chosen: Counter[int] = Counter()
        for group in groups:
            if group.open:
                tokens = self._advance(group, rows, chosen)
                chosen.update(tokens if self.beams.diversity else ())

    def _advance(self, group: _Group, rows: Row, chosen: Counter[int]) -> list[int]:
        """One token more for each beam of a group; gives the tokens of those that go on, or have got long enough."""
        found = []
        for beam in group.live:
            tokens, logs = self._likely(rows[beam.row], beam, group, chosen)
            scores = (logs + beam.score).tolist()
            found += [(score, beam, token) for score, token in zip(scores, tokens.tolist(), strict=True)]
        found = sorted((one for one in found if one[0] > -math.inf), key=lambda one: -one[0])[: self.wanted]
        length = len(group.live[0].ids) + 1 - group.given
        over, ended = length == self.most, list(group.ended)
        group.live = []
        for rank, (score, beam, token) in enumerate(found):
            if over or token in self.end:
                if rank < self.width:
                    ended.append(self._ended(beam.ids[group.given :], token, score, length))
            elif len(group.live) < self.width:
                group.live.append(_Beam([*beam.ids, token], np.float32(score), beam.row))
        group.ended = sorted(ended, key=lambda one: -one.score)[: self.width]
        group.open = self._goes_on(group, length)
        return [token for _, _, token in found[: self.width]] if over else [beam.ids[-1] for beam in group.live]

    def _likely(self, row: Row, beam: _Beam, group: _Group, chosen: Counter[int]) -> tuple[Ids, Row]:
        """The tokens most likely to follow a beam, and their log-probabilities with what the settings add to those."""
        peak = row.max()
        if not np.isfinite(peak):
            raise ModelError(f"{self.model.folder}: the model gave logits that are not numbers")
        total, row = np.log(np.exp(row - peak).sum()), row[: self.known]
        if self.rules.idle and not chosen:
            ids = highest(row, self.wanted)[: self.wanted]
            return ids, (row[ids] - peak) - total
        logs = (row - peak) - total
        self.rules.apply(logs, np.array(beam.ids, dtype=np.int64), group.given)
        for token, times in chosen.items():
            logs[token] -= self.beams.diversity * times
        ids = highest(logs, self.wanted)[: self.wanted]
        return ids, logs[ids]

    def _ended(self, ids: list[int], token: int, score: float, length: int) -> Hypothesis:
        stopped = token in self.end
        return Hypothesis(
            ids=ids if stopped else [*ids, token],
            score=score / length**self.beams.length_penalty,
            finish_reason="stop" if stopped else "length",
        )

    def _goes_on(self, group: _Group, length: int) -> bool:
        """Whether a live beam may still become better than what has ended."""
        if not group.live or len(group.ended) < self.width:
            return bool(group.live)
        if self.beams.early_stopping is True:
            return False
        penalty = self.beams.length_penalty
        furthest = self.most if self.beams.early_stopping == "never" and penalty > 0 else length
        return bool(float(group.live[0].score) / furthest**penalty > group.ended[-1].score)

    def _move(self, live: list[tuple[_Group, _Beam]]) -> None:
        """Let each live beam's keys and values lie in the row of its own that it gets now."""
        owners = [group.source for group, _ in live]
        moves = [(row, beam.row) for row, (_, beam) in enumerate(live) if beam.row != row]
        if moves:
            same = [self._same(row, owners[row], live[row][1].ids) for row, _ in moves]
            self.cache.move(moves, min(same), max(len(beam.ids) for _, beam in live) - 1)
        for row, (_, beam) in enumerate(live):
            beam.row = row
        if self.memory is not None and self.fast is None:
            self._share(list(dict.fromkeys(self.owners)), Counter(owners))
        self.owners, self.held = owners, [beam.ids for _, beam in live]

    def _same(self, row: int, owner: int, ids: list[int]) -> int:
        """How many of the first tokens a row holds as they are to lie there."""
        if row >= len(self.owners) or self.owners[row] != owner:
            return 0
        return common(self.held[row], ids, len(ids) - 1)

    def _share(self, before: list[int], readers: Counter[int]) -> None:
        """Let each prompt's beams look at what the encoder made of it; prompts that are done go."""
        memory = self.memory
        assert memory is not None
        stay = [place for place, source in enumerate(before) if readers[source]]
        if len(stay) < len(before):
            places = torch.tensor(stay, device=self.model.device)
            kept = {layer: (k[places], v[places]) for layer, (k, v) in memory.kept.items()}
            lengths = torch.tensor([memory.batch.lengths[place] for place in stay])
            memory = Memory(Packed(lengths.new_empty(0), lengths), memory.hidden_TD[:0], kept)
        self.memory = dataclasses.replace(memory, readers=tuple(readers.values()))

    def _best(self, groups: list[_Group]) -> list[Hypothesis]:
        ended = [one for group in groups for one in group.ended]
        return sorted(ended, key=lambda one: -one.score)[: self.beams.n]
