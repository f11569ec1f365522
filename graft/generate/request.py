"""What an engine is asked for, what it writes, and how it tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graft.generate.choose import State
from graft.generate.lookup import Lookup
from graft.generate.sampling import Sampling
from graft.generate.slots import Lane
from graft.generate.stream import TextStream

Top = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """How probable a token was.

    Attributes:
        id: of the token.
        logprob: its log-probability under the model as it is, before penalties and temperature.
        top: the most probable tokens there with theirs, as many as were asked for.
    """

    id: int
    logprob: float
    top: Top = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens a request took: of its prompt, written, and of the prompt those that did not have to be computed."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token of a continuation, as an engine's step tells it.

    Attributes:
        request: what it answers.
        index: which of the request's continuations it belongs to.
        id: the token; None where a continuation ends without one (cancelled, error).
        text: text that is certain now; what a later token may still change comes with that one.
        logprob: of the token, where the request asks for it.
        top: the most probable tokens with their log-probabilities.
        finish_reason: why the continuation ends here: "stop" (an end token or a stop string), "length" (of the request
            or of the model's positions), "cancelled", "no_allowed_token", "error"; None where it goes on.
    """

    request: Request
    index: int
    id: int | None
    text: str
    logprob: float | None = None
    top: Top = ()
    finish_reason: str | None = None


@dataclass(slots=True, eq=False)
class Completion:
    """One continuation.

    Attributes:
        index: its number in the request.
        text: what was written, up to a stop string.
        ids: its tokens, without the end token.
        tokens: how many were written, the end token included.
        logprobs: of each token written, where the request asks for them.
        finish_reason: as of `Token`; None while it is being written.
        message: what was wrong, where that is the reason.
    """

    index: int
    text: str = ""
    ids: list[int] = field(default_factory=list)
    tokens: int = 0
    logprobs: list[Scored] = field(default_factory=list)
    finish_reason: str | None = None
    message: str = ""


@dataclass(slots=True, eq=False)
class Request:
    """A prompt to be continued, or answered by a decoder, any number of times.

    Attributes:
        prompt: its token ids.
        sampling: how.
        completions: what has been written so far.
        prompt_logprobs: of the prompt's tokens, where they are asked for; None for the first, which nothing predicts.
        cached_tokens: tokens of the prompt that the first continuation did not have to compute.
    """

    prompt: list[int]
    sampling: Sampling
    completions: list[Completion]
    prompt_logprobs: list[Scored | None] = field(default_factory=list)
    cached_tokens: int = 0

    @property
    def done(self) -> bool:
        """Whether everything has been written."""
        return all(one.finish_reason is not None for one in self.completions)

    @property
    def usage(self) -> Usage:
        """Tokens taken so far."""
        written = sum(one.tokens for one in self.completions)
        return Usage(prompt_tokens=len(self.prompt), completion_tokens=written, cached_tokens=self.cached_tokens)


@dataclass(slots=True, eq=False)
class Sample:
    """One continuation at work.

    Attributes:
        request: what it answers.
        completion: what it has written.
        ids: what the decoder reads: the prompt, or a start token, and what was chosen.
        given: how many of them it began with.
        source: what an encoder reads, where there is one.
        state: for choosing its tokens.
        stream: turns them into text; None where there is no tokenizer.
        lookup: drafts what comes next, where the request allows it.
        lane: its slot, once it is live.
    """

    request: Request
    completion: Completion
    ids: list[int]
    given: int
    source: tuple[int, ...]
    state: State
    stream: TextStream | None
    lookup: Lookup | None
    lane: Lane | None = None

    @property
    def scores_prompt(self) -> bool:
        """Whether it is the one of the request's samples that tells how probable the prompt is."""
        return self.request.sampling.prompt_logprobs is not None and self.completion.index == 0


@dataclass(slots=True, eq=False)
class Row:
    """What one sample hands to the model in one step.

    Attributes:
        sample: it.
        ids: tokens to read.
        drafted: how many of the last are guesses.
        wanted: of how many of the last the logits are wanted.
    """

    sample: Sample
    ids: Sequence[int]
    drafted: int = 0
    wanted: int = 1
