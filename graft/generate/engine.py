"""The engine: any number of requests, continued side by side in packed steps.

A step reads the prompts of new requests in one batch and gives each of the others a token, with the fast decoder where
there is one: a token then does not depend on what is written beside it. A request joins as soon as a slot is free and
leaves as soon as it is done; what goes wrong with one ends that one and no other.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Collection, Sequence
from itertools import accumulate, islice

import torch
from torch import Tensor

from graft.errors import GraftError, ModelError
from graft.generate.choose import Choice, Chooser
from graft.generate.fast import decoder
from graft.generate.feed import Feed, MakeFast
from graft.generate.lookup import Lookup
from graft.generate.prompts import at_least_one, check, ends, prompt_ids, scored
from graft.generate.request import Completion, Request, Row, Sample, Scored, Token
from graft.generate.sampling import Sampling
from graft.generate.slots import Lane
from graft.generate.stream import TextStream
from graft.grafted import Model

LONGEST = 2048
"""Tokens of a slot where nothing is said and the model's positions allow them."""

TOKENS = 512
"""Tokens of a step: longer prompts are read over several, so that other texts flow on."""

LEAST = 16
"""Tokens of prompts that a step reads in any case."""

WORTH = 4
"""So many tokens that another text is about to compute are worth waiting for."""

REASONS = {
    "error": "the model gave logits that are not numbers",
    "no_allowed_token": "the request's settings leave no token to write",
}

BEFORE = 16
"""Tokens of a prompt that say how the text behind it begins: with a space or without."""

LOOKED_AT = 64
"""Waiting texts that are considered for a free slot."""


class Engine:
    """Generation from one model.

    >>> engine = Engine(graft.load("gpt2"))                                   # doctest: +SKIP
    >>> request = engine.submit("Once upon a time", Sampling(max_tokens=20))  # doctest: +SKIP
    >>> while not request.done:                                               # doctest: +SKIP
    ...     for token in engine.step():
    ...         print(token.text, end="")
    """

    def __init__(
        self,
        model: Model,
        *,
        slots: int = 8,
        length: int | None = None,
        tokens: int = TOKENS,
        end: Collection[int] | None = None,
        fast: MakeFast | None = decoder,
    ) -> None:
        """Make an engine; its cache is allocated once and never grows.

        Args:
            model: with a head that predicts the next token.
            slots: texts written side by side; others wait.
            length: tokens a text may have, prompt included; None takes the model's positions, at most LONGEST.
            tokens: most tokens of a step, as long as every live text gets its own.
            end: tokens that end a text; None asks the model's folder.
            fast: makes what gives live texts one token each (see `graft.generate.feed`); None leaves that to the
                model's own forward pass, where a text in bfloat16 may depend on what runs beside it.

        Raises:
            ModelError: the model's head does not predict the next token.
            UsageError: a number of slots or tokens below 1.
            DataError: a length beyond the model's positions.
        """
        if model.head is None or model.head.kind != "next":
            raise ModelError(f"{model.folder}: writing text needs a head that predicts the next token")
        at_least_one(slots=slots, tokens=tokens)
        self.model, self.budget = model, tokens
        self.length = length or min(model.backbone.config.positions, LONGEST)
        self.end = frozenset(ends(model) if end is None else end)
        self.feed = Feed(model, slots, self.length, fast)
        self._tokenizer = model.tokenizer if model.has_tokenizer else None
        known = model.backbone.config.vocab_size
        known = known if self._tokenizer is None else min(known, self._tokenizer.vocab_size)
        self._chooser = Chooser(known, self._tokenizer, self.end)
        self._waiting: deque[Sample] = deque()
        self._live: list[Sample] = []
        self._told: list[Token] = []

    @property
    def busy(self) -> bool:
        """Whether there is anything left to do or to tell."""
        return bool(self._waiting or self._live or self._told)

    @property
    def live(self) -> int:
        """How many texts are being written."""
        return len(self._live)

    @property
    def waiting(self) -> int:
        """How many texts wait for a slot."""
        return len(self._waiting)

    def submit(self, prompt: str | Sequence[int], sampling: Sampling | None = None, *, n: int = 1) -> Request:
        """Ask for continuations of a prompt, or for what a decoder answers to it.

        A prompt that cannot be continued (empty, too long, token ids the model does not have) is told as every other
        end: the next step ends the request with the finish reason "error" and a message.

        Args:
            prompt: text, or token ids.
            sampling: how; None takes the defaults.
            n: how many.

        Raises:
            UsageError: n is no number of texts.
        """
        at_least_one(n=n)
        sampling = Sampling() if sampling is None else sampling
        request = Request([], sampling, [Completion(index) for index in range(n)])
        try:
            request.prompt = prompt_ids(self.model, prompt)
            check(self.model, request.prompt, sampling, self.length)
            samples = self._samples(request, n)
        except (GraftError, TypeError, ValueError, OverflowError) as error:
            for completion in request.completions:
                self._end(request, completion, "error", str(error))
            return request
        self._waiting.extend(samples)
        return request

    def cancel(self, request: Request) -> None:
        """End a request now; its slots are free at once. What is done already stays."""
        for sample in [one for one in self._live if one.request is request]:
            self._leave(sample)
            self._end(request, sample.completion, "cancelled", sample=sample)
        self._waiting = deque(one for one in self._waiting if one.request is not request)
        for completion in request.completions:
            if completion.finish_reason is None:
                self._end(request, completion, "cancelled")

    def run(self, *requests: Request) -> None:
        """Step until these requests are done; without any, until all are."""
        while self.busy and not (requests and all(one.done for one in requests)):
            self.step()

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """Run one step of every live text and give what has been written, and what has ended since the last one."""
        self._admit()
        rows = self._plan()
        for part in self._run(rows) if rows else ():
            self._read(*part)
        told, self._told = self._told, []
        return told

    def _samples(self, request: Request, n: int) -> list[Sample]:
        sampling, backbone = request.sampling, self.model.backbone
        two = backbone.decoder is not None
        begin = [backbone.config.start_token] if two else request.prompt  # type: ignore[attr-defined]
        tokenizer, before = self._tokenizer, () if two else request.prompt[-BEFORE:]
        if any(token >= self._chooser.vocabulary for token in before):
            before = ()
        return [
            Sample(
                request,
                completion,
                ids=list(begin),
                given=len(begin),
                source=tuple(request.prompt) if two else (),
                state=state,
                stream=None if tokenizer is None else TextStream(tokenizer, sampling.stop, before),
                lookup=Lookup() if sampling.lookup else None,
            )
            for completion, state in zip(request.completions, self._chooser.states(sampling, begin, n), strict=True)
        ]

    def _admit(self) -> None:
        """Give free slots to texts that wait, first come first served, unless one does better to wait."""
        slots, joined = self.feed.slots, []
        for sample in list(islice(self._waiting, LOOKED_AT)):
            if not slots.free:
                break
            if not self._waits(sample):
                self._waiting.remove(sample)
                sample.lane = slots.take(sample.ids, sample.source, fresh=sample.scores_prompt)
                held = len(sample.lane.source) if sample.source else sample.lane.held
                if sample.completion.index == 0:
                    sample.request.cached_tokens = held
                self._live.append(sample)
                joined.append(sample)
        unread = [sample for sample in joined if sample.source and not sample.lane.source]  # type: ignore[union-attr]
        if unread:
            self._remember(unread)

    def _waits(self, sample: Sample) -> bool:
        """Whether a live text is about to compute much of what this one begins with."""
        if sample.source or sample.scores_prompt:
            return False
        coming = self.feed.slots.coming(sample.ids)
        return coming >= WORTH and coming - self.feed.slots.shared(sample.ids)[1] >= WORTH

    def _remember(self, samples: Sequence[Sample]) -> None:
        """Let the encoder read; where that fails, each source alone."""
        lanes = [sample.lane for sample in samples if sample.lane is not None]
        try:
            self.feed.remember(lanes, [sample.source for sample in samples])
        except Exception as error:
            if len(samples) == 1:
                self._fail(samples[0], error)
            else:
                for sample in samples:
                    self._remember([sample])

    def _plan(self) -> list[Row]:
        """What each live text hands in: those that are being written first, in the order of their slots."""
        rows, left = [], self.budget
        reading = []
        for sample in self._live:
            lane = _lane(sample)
            if lane.held < len(sample.ids) - 1:
                reading.append(sample)
                continue
            draft = self._draft(sample)
            rows.append(Row(sample, [sample.ids[-1], *draft], len(draft), len(draft) + 1))
            left -= len(draft) + 1
        rows.sort(key=lambda row: _lane(row.sample).slot)
        left = max(left, LEAST)
        for sample in reading:
            held = _lane(sample).held
            ids = sample.ids[held : held + left]
            if not ids:
                break
            last = held + len(ids) == len(sample.ids)
            rows.append(Row(sample, ids, wanted=len(ids) if sample.scores_prompt else int(last)))
            left -= len(ids)
        return rows

    def _draft(self, sample: Sample) -> list[int]:
        """Guesses at what comes next, no more than may be written."""
        sampling, written = sample.request.sampling, len(sample.ids) - sample.given
        most = min(sampling.lookup, sampling.max_tokens - written - 1, self.length - len(sample.ids))
        return sample.lookup.draft(sample.ids, most) if sample.lookup is not None and most > 0 else []

    def _run(self, rows: list[Row]) -> list[tuple[list[Row], Tensor]]:
        """Rows with their logits; where the batch fails, each row alone, and those that fail alone are ended."""
        try:
            return [(rows, self.feed.run(rows))]
        except Exception as error:
            if len(rows) == 1:
                self._fail(rows[0].sample, error)
                return []
            return [part for row in rows for part in self._run([row])]

    def _read(self, rows: list[Row], logits_RV: Tensor) -> None:
        """Take the logits of one run: how probable prompts are, and the next tokens."""
        logits_RV = logits_RV.float().cpu()
        writing = []
        for row, start in zip(rows, accumulate((row.wanted for row in rows), initial=0), strict=False):
            sample, lane = row.sample, _lane(row.sample)
            if row.sample.scores_prompt and lane.held < sample.given:
                scored(sample.request, lane.held, logits_RV[start : start + row.wanted], self._chooser.vocabulary)
            lane.held += len(row.ids) - row.drafted
            if lane.held < len(sample.ids):
                continue
            if sample.request.sampling.max_tokens:
                writing.append((row, start + row.wanted - 1 - row.drafted))
            else:
                self._leave(sample)
                self._end(sample.request, sample.completion, "length")
        self._write(writing, logits_RV)

    def _write(self, writing: list[tuple[Row, int]], logits_RV: Tensor) -> None:
        """Choose each text's next token; where that is the one guessed, the one after it, and so on."""
        step = 0
        while writing:
            places = [at + step for _, at in writing]
            whole = places == list(range(len(logits_RV)))
            chosen = self._choose(logits_RV if whole else logits_RV[places], [row.sample for row, _ in writing])
            again = []
            for (row, at), (choice, message) in zip(writing, chosen, strict=True):
                goes_on = self._take(row.sample, choice, message)
                if goes_on and step < row.drafted and choice.token == row.ids[1 + step]:
                    _lane(row.sample).held += 1
                    again.append((row, at))
            writing, step = again, step + 1

    def _choose(self, logits_BV: Tensor, samples: Sequence[Sample]) -> list[tuple[Choice, str]]:
        """Each text's next token. One at a time where there is more to it, so that a fault in one is its own."""
        states = [sample.state for sample in samples]
        if all(state.plain for state in states):
            return [(choice, "") for choice in self._chooser.choose(logits_BV, states)]
        found = []
        for number, state in enumerate(states):
            try:
                [choice], message = self._chooser.choose(logits_BV[number : number + 1], [state]), ""
            except Exception as error:
                choice, message = Choice(-1, reason="error"), _said(error)
            found.append((choice, message))
        return found

    def _take(self, sample: Sample, choice: Choice, message: str) -> bool:
        """Write a token, and tell; whether the text goes on."""
        if choice.reason is not None:
            self._leave(sample, keep=choice.reason != "error")
            self._end(sample.request, sample.completion, choice.reason, message or REASONS[choice.reason], sample)
            return False
        request, completion = sample.request, sample.completion
        try:
            text, reason = self._spell(sample, choice.token)
        except Exception as error:
            self._fail(sample, error)
            return False
        if choice.logprob is not None:
            completion.logprobs.append(Scored(id=choice.token, logprob=choice.logprob, top=choice.top))
        completion.text += text
        completion.finish_reason = reason
        self._told.append(
            Token(
                request=request,
                index=completion.index,
                id=choice.token,
                text=text,
                logprob=choice.logprob,
                top=choice.top,
                finish_reason=reason,
            )
        )
        if reason is not None:
            self._leave(sample)
        return reason is None

    def _spell(self, sample: Sample, token: int) -> tuple[str, str | None]:
        """The text that is certain with a new token, and why it is the last one."""
        sampling, completion, stream = sample.request.sampling, sample.completion, sample.stream
        sample.ids.append(token)
        completion.tokens += 1
        ends = token in self.end and not sampling.ignore_end
        full = completion.tokens >= sampling.max_tokens or len(sample.ids) > self.length
        text, reason = "", "stop" if ends else "length" if full else None
        if not ends:
            completion.ids.append(token)
        if stream is not None:
            text = "" if ends else stream.add(token)
            text += stream.finish() if reason else ""
            reason = "stop" if stream.stopped else reason
        return text, reason

    def _leave(self, sample: Sample, *, keep: bool = True) -> None:
        """Free a text's slot. What it leaves there is kept where a token was chosen from it: then it is all numbers."""
        lane = _lane(sample)
        self._live.remove(sample)
        self.feed.slots.drop(
            lane, keep=keep and (sample.completion.tokens > 0 or not sample.request.sampling.max_tokens)
        )
        sample.lane = None

    def _fail(self, sample: Sample, error: Exception) -> None:
        self._leave(sample, keep=False)
        self._end(sample.request, sample.completion, "error", _said(error), sample)

    def _end(
        self, request: Request, completion: Completion, reason: str, message: str = "", sample: Sample | None = None
    ) -> None:
        """End a continuation without a token."""
        text = ""
        if sample is not None and sample.stream is not None:
            with contextlib.suppress(GraftError):
                text = sample.stream.finish()
        completion.text += text
        completion.finish_reason, completion.message = reason, message
        self._told.append(Token(request=request, index=completion.index, id=None, text=text, finish_reason=reason))


def _lane(sample: Sample) -> Lane:
    assert sample.lane is not None
    return sample.lane


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, GraftError) else f"{type(error).__name__}: {error}"
