"""Writing texts with a model that tells the next token: many at once, several of each, the best first."""

from __future__ import annotations

import dataclasses
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graft.errors import DataError, ModelError, UsageError
from graft.generate.beam import Beams, Hypothesis, search
from graft.generate.request import Completion, Request, Scored, Token
from graft.generate.sampling import Sampling
from graft.generate.write import write as engine_write
from graft.grafted import Model
from graft.heads import Answer
from graft.inference import Progress
from graft.prompting.laying import two_stacks

SETTINGS = tuple(one.name for one in dataclasses.fields(Sampling))
"""What may be asked of writing, by name."""

MOST = 1000
"""Texts written from one prompt."""

BEAMS = tuple(one.name for one in dataclasses.fields(Beams) if one.name != "n")
"""What may be asked of a search, by name."""

DRAWN = ("temperature", "top_k", "top_p", "min_p", "seed")
"""Settings that only say something where tokens are drawn."""

OnText = Callable[[int, str], None]
"""Told of text that is certain: the number of the continuation, and what it goes on with."""


def needs_head(model: Model, purpose: str, able: Sequence[str]) -> None:
    """Refuse a model that does not write, and say what it is for.

    Raises:
        ModelError: its head does not predict the next token.
    """
    if model.head is None or model.head.kind != "next":
        instead = f" It can do {', '.join(able)}." if able else ""
        raise ModelError(
            f"{model.folder}: this model has no head that writes text, which {purpose} needs.{instead} Give one "
            "published for language modelling, such as gpt2 or t5-small"
        )


def number_of(options: Mapping[str, Any]) -> int:
    """How many texts are asked for.

    Raises:
        UsageError: no whole number from 1 to 1,000.
    """
    n = options.get("n", 1)
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MOST:
        raise UsageError(f"n is {n!r:.40}, expected a whole number from 1 to {MOST:,}")
    return n


def prompts(model: Model, texts: Sequence[str], most: int | None) -> list[list[int]]:
    """Texts to go on from, as token ids, open at the end.

    Args:
        model: that goes on.
        texts: none is cut: the end of a prompt is what matters most.
        most: tokens that are to be written; None: whatever there is room for.

    Raises:
        DataError: a text is empty, or leaves no room.
    """
    found = []
    frame, limit = model.tokenizer.frame, model.limit
    for number, (text, one) in enumerate(zip(texts, model.tokenizer.encode(texts), strict=True)):
        ids = one.ids if two_stacks(model) else one.ids[: len(one.ids) - len(frame.end)]
        if not text.strip() or not ids:
            raise DataError(f"text {number} (counting from 0): the prompt is empty; give some words to go on from")
        more = 0 if two_stacks(model) else most or 1
        if limit is not None and len(ids) + more > limit:
            room = f"; at most {limit - len(ids)} more can be written" if len(ids) < limit else ""
            asked = f" and {more} to write are {len(ids) + more}" if more else ""
            raise DataError(
                f"text {number} (counting from 0): a prompt of {len(ids)} tokens{asked}, the model holds {limit}{room}"
                ". Shorten the prompt" + (" or lower max_tokens" if room else "")
            )
        found.append(ids)
    return found


def write(
    model: Model,
    sources: Sequence[Sequence[int]],
    sampling: Sampling | Sequence[Sampling],
    *,
    n: int = 1,
    progress: Progress | None = None,
    on_text: OnText | None = None,
) -> list[Request]:
    """Continue prompts, or answer what an encoder reads, n times each (`graft.generate.write.write`).

    Args:
        model: with a head that predicts the next token.
        sources: token ids of each.
        sampling: how; one for all, or one for each.
        n: texts from each.
        progress: told how many sources are done.
        on_text: told of text as it comes.
    """

    def told(token: Token) -> None:
        if on_text is not None and token.text:
            on_text(token.index, token.text)

    hear = None if on_text is None else told
    return engine_write(model, sources, sampling, n=n, progress=progress, on_token=hear)


def drawn(sampling: Sampling) -> Sampling:
    """The same with a seed, so that what is drawn can be drawn again; what is not drawn needs none."""
    if sampling.greedy or sampling.seed is not None:
        return sampling
    return dataclasses.replace(sampling, seed=secrets.randbelow(2**31))


def searching(options: Mapping[str, Any], n: int, usual: Beams | None = None) -> Beams | None:
    """How to search for the most probable texts, where options say so; None where tokens are chosen one by one.

    Args:
        options: a task's.
        n: texts wanted.
        usual: how to search where several texts are asked for and nothing is said of drawing them.

    Raises:
        UsageError: a setting that makes no sense.
    """
    given = {name: options[name] for name in BEAMS if options.get(name) is not None}
    if given:
        return Beams(**{"beams": max(4, n), **given}, n=n)
    drawn = any(options.get(name) is not None for name in DRAWN)
    return usual if n > 1 and not drawn else None


def several(
    model: Model,
    sources: Sequence[Sequence[int]],
    sampling: Sampling,
    n: int,
    beams: Beams | None = None,
    progress: Progress | None = None,
) -> list[list[Completion]]:
    """Different texts from each source, by a search the best first; else drawn, or the one most probable at each step.

    Raises:
        UsageError: settings that a search has no use for.
    """
    if beams is None:
        found = write(model, sources, sampling, n=n, progress=progress)
        return [different(request.completions) for request in found]
    plain = dataclasses.replace(sampling, temperature=1.0, stop=(), logprobs=None)
    best = search(model, sources, beams, plain, progress=progress)
    return [different([_searched(model, one, sampling.stop) for one in every]) for every in best]


def _searched(model: Model, one: Hypothesis, stop: Sequence[str]) -> Completion:
    """What a search found, up to a stop string."""
    text, tokens = model.tokenizer.decode(one.ids), len(one.ids) + (one.finish_reason == "stop")
    ends = [place for word in stop if (place := text.find(word, len(text) - len(text.lstrip()))) >= 0]
    reason = "stop" if ends else one.finish_reason
    return Completion(0, text[: min(ends, default=len(text))], list(one.ids), tokens, finish_reason=reason)


def different(completions: Sequence[Completion]) -> list[Completion]:
    """Those whose text no earlier one has, spaces at the ends aside."""
    found: dict[str, Completion] = {}
    for one in completions:
        found.setdefault(one.text.strip(), one)
    return list(found.values())


def probability(completion: Completion) -> float | None:
    """The geometric mean of the probabilities of its tokens; None where they were not asked for."""
    logs = [one.logprob for one in completion.logprobs]
    return math.exp(math.fsum(logs) / len(logs)) if logs else None


def told(model: Model, completion: Completion, *, logprobs: bool = False) -> Answer:
    """A text as an answer."""
    rows = shown(model, completion.logprobs) if logprobs else None
    return Answer(text=completion.text.strip(), finish_reason=completion.finish_reason, logprobs=rows)


def shown(model: Model, tokens: Sequence[Scored | None]) -> tuple[dict[str, Any], ...]:
    """Tokens with their log-probabilities, ready for JSON; what nothing predicts is left out."""
    return tuple(_row(model, one) for one in tokens if one is not None)


def _row(model: Model, one: Scored) -> dict[str, Any]:
    decode = model.tokenizer.decode
    top = [{"token": decode([id], special=True), "id": id, "logprob": value} for id, value in one.top]
    own = {"token": decode([one.id], special=True), "id": one.id, "logprob": one.logprob}
    return {**own, "top": top} if top else own
