"""Answers: what people and programs are told about one input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a tagged text.

    Attributes:
        text: as it stands there.
        tag: its label.
        probability: of that label.
        start: its first character.
        end: the character after its last.
    """

    text: str
    tag: str
    probability: float
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A name found in a text, or whatever else a tagger marks.

    Attributes:
        text: as it stands there.
        label: its type, such as PER.
        score: the probability that exactly these words are one entity of this type.
        start: its first character.
        end: the character after its last.
        words: its first word, and the word after its last.
    """

    text: str
    label: str
    score: float
    start: int
    end: int
    words: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A token or a word of a scored text.

    Attributes:
        text: as it stands there.
        log_probability: natural logarithm; of a word the sum over its tokens; None where a token was told from nothing.
        bits: its surprisal.
        start: its first character.
        end: the character after its last.
    """

    text: str
    log_probability: float | None
    bits: float | None
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Correction:
    """A stretch of a text that may be mistyped, and what takes its place.

    Attributes:
        start: its first character in the text as given.
        end: the character after its last.
        text: as it stands there.
        replacement: what was meant; the same where it is left as it is.
        probability: of the replacement.
        candidates: the probability of everything that may have been meant, the most probable first.
    """

    start: int
    end: int
    text: str
    replacement: str
    probability: float
    candidates: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says about one input. Fields that do not apply are None.

    Attributes:
        label: the most probable label.
        probability: its probability.
        probabilities: probability of every label.
        labels: every label whose probability is at least one half, where several may hold at once.
        score: the predicted number (similarity, regression, how well a choice fits); of a `text`, its probability.
        embedding: the input as a vector of numbers.
        text: what the model wrote; or a stretch of the text asked about, "" where it holds no answer.
        entities: what a tagger marks, in the order of the text.
        tagged: every word with its tag.
        corrections: words that were changed, or that are in no list and were left, in the order of the text.
        start: its first character there.
        end: the character after its last.
        no_answer: the probability that the text holds no answer.
        alternatives: the next best answers, best first.
        insert: what is to be typed where the text ends so that its last word becomes `text`.
        measure: what `log_probability` is: "log-likelihood", or "pseudo-log-likelihood" of models that fill masks.
        log_probability: natural logarithm of how probable the text is.
        bits: the same as surprisal, in bits.
        perplexity: the exponential of the mean surprisal of a token, in nats.
        tokens: tokens that were scored.
        unscored: tokens with nothing before them to be told from.
        pieces: the text's tokens or words, each with its own.
        rank: its place among the texts compared, from 1.
        behind: by how much it is less probable than the best of them, as a difference of logarithms.
        windows: how many overlapping parts the text was read in.
        truncated_tokens: tokens of the input that did not fit the model and were not read.
        examples_left_out: worked examples of a prompt that did not fit before it.
        abstained: whether the model is less sure than it was told to be (`graft finetune --precision`), for models that
            were: the label is its guess, not to be relied on.
        finish_reason: why a written text ends where it does: "stop", "length" or "no_allowed_token".
        usage: tokens of the prompt and tokens written, all texts together.
        logprobs: of each token written: token, id, logprob, and the most probable ones (top), where they are asked for.
        prompt_logprobs: the same of the prompt's tokens.
        seed: what a text was drawn with; the same one gives it again.
        spans: for a text put together from sentences of the input: the first character of each and the one after the
            last.
        unlisted: words it has outside the vocabulary it was to keep to.
        notes: what was done to it, such as where it was cut.
    """

    label: str | None = None
    probability: float | None = None
    probabilities: Mapping[str, float] | None = None
    labels: tuple[str, ...] | None = None
    score: float | None = None
    embedding: tuple[float, ...] | None = None
    text: str | None = None
    entities: tuple[Entity, ...] | None = None
    tagged: tuple[Word, ...] | None = None
    corrections: tuple[Correction, ...] | None = None
    start: int | None = None
    end: int | None = None
    no_answer: float | None = None
    alternatives: tuple[Answer, ...] | None = None
    insert: str | None = None
    measure: str | None = None
    log_probability: float | None = None
    bits: float | None = None
    perplexity: float | None = None
    tokens: int | None = None
    unscored: int | None = None
    pieces: tuple[Piece, ...] | None = None
    rank: int | None = None
    behind: float | None = None
    windows: int | None = None
    truncated_tokens: int = 0
    examples_left_out: int | None = None
    abstained: bool | None = None
    finish_reason: str | None = None
    usage: Mapping[str, int] | None = None
    logprobs: tuple[Mapping[str, Any], ...] | None = None
    prompt_logprobs: tuple[Mapping[str, Any], ...] | None = None
    seed: int | None = None
    spans: tuple[tuple[int, int], ...] | None = None
    unlisted: tuple[str, ...] | None = None
    notes: tuple[str, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields that apply, ready for JSON; a place in a text that has no answer is null."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("entities", "tagged", "pieces", "corrections"):
            fields[name] = None if fields[name] is None else [asdict(one) for one in fields[name]]
        if self.alternatives is not None:
            fields["alternatives"] = [_part(one) for one in self.alternatives]
        kept = ("start", "end") if self.no_answer is not None else ()
        return {name: value for name, value in fields.items() if value is not None or name in kept}


def _part(answer: Answer) -> dict[str, Any]:
    """An alternative: what was not read is told once."""
    return {name: value for name, value in answer.as_dict().items() if name != "truncated_tokens"}
