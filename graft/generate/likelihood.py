"""How probable texts are, token by token, by whatever a model was trained to tell tokens from.

- Decoders: each token from those before it, the chain rule (`log-likelihood`).
- XLNet: the same, by its second stream in the order of reading (Yang et al. 2019, equation 3).
- Encoder-decoders: each token of the decoder's text from those before it and what the encoder read.
- Encoders with a mask head: each token from all others, itself hidden; the sum is no probability of the text but ranks
  texts as one (`pseudo-log-likelihood`, Salazar et al. 2020, equation 1). With ``within_word`` the later pieces of a
  word are hidden with each of its pieces, or they give it away (Kauf & Ivanova 2023, PLL-word-l2r).

Texts longer than the model are read in overlapping windows; every token is told once. Only a text's own tokens count,
none of its special tokens.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from graft.batch import Packed, pack
from graft.errors import DataError, ModelError, UsageError
from graft.grafted import Model
from graft.inference import Progress, check_encodings, run_all
from graft.text import Encoding
from graft.text.windows import starts
from graft.text.words import split

CELLS = 2**25
"""Logits over the vocabulary held at once, 128 MiB in float32."""

TEXTS = 256
"""Texts whose sequences are laid out at once: an encoder reads each as often as it has tokens."""

WINDOW = 1024
"""Tokens of a window where the model sets no limit."""

PSEUDO, CHAIN = "pseudo-log-likelihood", "log-likelihood"


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What a model makes of one text.

    Attributes:
        logs: log-probability of each of its own tokens, nats; NaN for one that had nothing to be told from.
        offsets: the characters (first, last + 1) of each.
        ids: the tokens.
        windows: parts it was read in.
    """

    logs: list[float]
    offsets: list[tuple[int, int]]
    ids: list[int]
    windows: int = 1

    @property
    def told(self) -> int:
        """How many tokens have a log-probability."""
        return sum(not math.isnan(log) for log in self.logs)

    @property
    def total(self) -> float:
        """Log-probability of the text, nats: the sum over the tokens that have one."""
        return math.fsum(log for log in self.logs if not math.isnan(log))

    @property
    def perplexity(self) -> float:
        """The exponential of the mean surprisal of a token; infinite beyond floating point."""
        mean = -self.total / self.told if self.told else math.nan
        return math.exp(mean) if not mean > 709 else math.inf


@dataclass(frozen=True, slots=True)
class _Text:
    """A text as tokens: those of its context, then its own from `first` on."""

    ids: list[int]
    first: int
    offsets: list[tuple[int, int]]
    text: str


@dataclass(frozen=True, slots=True)
class _Reading:
    """One sequence the model reads, whose `rows` tell `targets`: the text's own tokens from `token` on."""

    owner: int
    ids: list[int]
    rows: range
    targets: list[int]
    token: int


_Layer: TypeAlias = Callable[[int, _Text], tuple[list[_Reading], int]]
"""A text's number and its tokens -> what is read to tell them, and in how many windows."""


def measure(model: Model) -> str:
    """What the sum over a text's tokens is called: `PSEUDO` for models that fill masks, `CHAIN` for others.

    Raises:
        ModelError: the model does not tell tokens.
    """
    head, backbone = model.head, model.backbone
    if head is not None and head.kind == "mask":
        return PSEUDO
    if head is not None and head.kind == "next":
        if backbone.config.causal or backbone.decoder is not None or hasattr(backbone, "predict"):
            return CHAIN
        raise ModelError(f"{model.folder}: reads both ways but was not trained to fill masks; it cannot score text")
    found = "none" if head is None else f"one for {head.kind!r}"
    if model.family.words is not None:
        found = "none: of a biLM Graft loads the layers, and not the softmax that tells words"
    raise ModelError(
        f"{model.folder}: scoring text needs a head that tells tokens (that of a GPT, Llama, XLNet or T5, or the mask "
        f"head of a BERT), found {found}"
    )


def start_tokens(model: Model) -> list[int]:
    """What stands before the first token of a text for a model that reads from left to right; [] where nothing does.

    The tokenizer's own frame, or the token that begins a text, or the one that ends the text before.
    """
    if model.backbone.decoder is not None:
        return [model.backbone.config.start_token]  # type: ignore[attr-defined]
    tokenizer = model.tokenizer
    named = tokenizer.frame.start or [role for role in ("bos_token", "eos_token") if role in tokenizer.special_tokens]
    return [tokenizer.token_id(name) for name in (named if tokenizer.frame.start else named[:1])]


def likelihoods(
    model: Model,
    texts: Sequence[str],
    *,
    context: str = "",
    stride: int | None = None,
    within_word: bool = False,
    progress: Progress | None = None,
) -> list[Likelihood]:
    """Score texts.

    Args:
        model: with a head that tells tokens.
        texts: at least one token each.
        context: what stands before each text, or what an encoder reads beside it; it is not scored itself.
        stride: tokens from one window of a long text to the next: fewer give more context and take longer; None: half
            a window.
        within_word: for mask heads, hide the later pieces of a word with each of its pieces.
        progress: told how many texts are done.

    Raises:
        ModelError: the model does not tell tokens.
        DataError: a text is none or has no tokens, or the context does not fit beside it.
        UsageError: a stride that would pass over tokens, or a choice that is not the model's to make.
    """
    if measure(model) != PSEUDO and within_word:
        raise UsageError(f"{model.folder}: reads from left to right; only mask heads hide the pieces of a word")
    lay = _layer(model, context, stride, within_word)
    found: list[Likelihood] = []
    for first in range(0, len(texts), TEXTS):
        chunk = _encode(model, texts[first : first + TEXTS], context, first)
        laid = [lay(number, one) for number, one in enumerate(chunk)]
        logs = _tell(model, [reading for readings, _ in laid for reading in readings], chunk, context)
        found += [
            Likelihood(row, one.offsets, one.ids[one.first :], windows)
            for row, one, (_, windows) in zip(logs, chunk, laid, strict=True)
        ]
        if progress is not None:
            progress(len(chunk))
    return found


def words_of(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """For each token the number of the word (`graft.text.words`) it is a piece of, by its first visible character.

    A token of white space goes with the word after it.
    """
    ends, found, waiting = [end for _, end in split(text)], [], 0
    for first, end in offsets:
        shown = end - len(text[first:end].lstrip())
        if shown >= end:
            waiting += 1
            continue
        found += [bisect.bisect_right(ends, shown)] * (waiting + 1)
        waiting = 0
    return found + [found[-1] if found else 0] * waiting


def rolling(count: int, room: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Windows over so many tokens, each told once: first, end, and the first one told there.

    With a stride of the whole room these are those of lm-eval's `loglikelihood_rolling`.

    >>> list(rolling(10, 6, 3))
    [(0, 6, 0), (3, 9, 6), (4, 10, 9)]
    """
    end = min(room, count)
    yield 0, end, 0
    while end < count:
        new, end = end, min(end + stride, count)
        yield max(0, end - room), end, new


def _encode(model: Model, texts: Sequence[str], context: str, number: int) -> list[_Text]:
    beside = model.backbone.decoder is not None
    before = "" if beside else context
    found = []
    for place, text in enumerate(texts, number):
        if not isinstance(text, str):
            raise DataError(f"text {place} (counting from 0) is {type(text).__name__} {text!r:.40}: expected a str")
        space = " " if before and not before[-1].isspace() and not text[:1].isspace() else ""
        found.append((before + space, text))
    encodings = model.tokenizer.encode([lead + text for lead, text in found], offsets=True)
    check_encodings([one for one in encodings if one.ids], model.backbone.config, model.folder)
    laid = []
    for place, ((lead, text), encoding) in enumerate(zip(found, encodings, strict=True), number):
        own = _own(lead, len(before), text, encoding)
        if own.first >= len(own.ids):
            raise DataError(f"text {place} (counting from 0), {text[:40]!r}, has no tokens; there is nothing to score")
        laid.append(own)
    return laid


def _own(lead: str, before: int, text: str, encoding: Encoding) -> _Text:
    """The tokens of context and text without those of the frame; the text's own also hold the space before it."""
    kept = [place for place, segment in enumerate(encoding.segments or ()) if segment == 0]
    offsets = [(encoding.offsets or [])[place] for place in kept]
    first = next((place for place, (_, end) in enumerate(offsets) if end > before), len(kept)) if before else 0
    places = [(max(0, start - len(lead)), max(0, end - len(lead))) for start, end in offsets[first:]]
    return _Text([encoding.ids[place] for place in kept], first, places, text)


def _layer(model: Model, context: str, stride: int | None, within_word: bool) -> _Layer:
    """How texts are laid out for a model."""
    if measure(model) == PSEUDO:
        return _masked(model, stride, within_word)
    backbone = model.backbone
    stack = backbone.decoder or backbone
    alone = hasattr(backbone, "predict")
    before = [] if alone else start_tokens(model)
    limit = min(model.limit or WINDOW, stack.config.positions)
    _check_stride(stride, limit)

    def lay(owner: int, text: _Text) -> tuple[list[_Reading], int]:
        every = [*before, *text.ids]
        skipped = len(before) + text.first
        cuts = list(rolling(len(every) - 1, limit, stride or (limit + 1) // 2))
        readings = []
        for first, end, new in cuts if len(every) > 1 else ():
            new = max(new, skipped - 1, 0)
            if new < end:
                # The second stream sits where its target is; other models tell a target from the place before it.
                ids, shift = every[first : end + alone], first - alone
                rows = range(new - shift, end - shift)
                readings.append(_Reading(owner, ids, rows, every[new + 1 : end + 1], new + 1 - skipped))
        return readings, max(1, len(readings))

    return lay


def _masked(model: Model, stride: int | None, within_word: bool) -> _Layer:
    """Each token hidden in the window that has most on both sides of it."""
    tokenizer, limit = model.tokenizer, model.limit
    start, end = ([tokenizer.token_id(name) for name in part] for part in (tokenizer.frame.start, tokenizer.frame.end))
    mask, specials = tokenizer.token_id("mask_token"), len(start) + len(end)
    room = (limit or WINDOW) - specials
    if room < 1:
        raise UsageError(f"the limit of {limit} tokens leaves no room beside {specials} special tokens: raise it")
    _check_stride(stride, room)

    def lay(owner: int, text: _Text) -> tuple[list[_Reading], int]:
        ids, readings, used = text.ids, [], set()
        firsts = starts(len(ids), room, stride or (room + 1) // 2)
        groups = words_of(text.text, text.offsets) if within_word else range(len(ids) - text.first)
        for token, place in enumerate(range(text.first, len(ids))):
            first = max(firsts, key=lambda one: _context(place, one, min(one + room, len(ids)), len(ids)))
            used.add(first)
            window = ids[first : first + room]
            for later in range(token, len(groups)):
                if groups[later] != groups[token] or later + text.first - first >= len(window):
                    break
                window[later + text.first - first] = mask
            row = len(start) + place - first
            readings.append(_Reading(owner, [*start, *window, *end], range(row, row + 1), [ids[place]], token))
        return readings, len(used)

    return lay


def _context(place: int, first: int, end: int, count: int) -> int:
    """Tokens between a place and the nearer cut of a window; the text's own ends are no cuts."""
    left, right = place - first if first else count, end - 1 - place if end < count else count
    return min(left, right) if first <= place < end else -1


def _check_stride(stride: int | None, room: int) -> None:
    if stride is not None and not (isinstance(stride, int) and 1 <= stride <= room):
        raise UsageError(f"stride is {stride!r} tokens, and a window has room for {room}; expected 1 to {room}")


def _tell(model: Model, readings: list[_Reading], texts: list[_Text], context: str) -> list[list[float]]:
    """The log-probabilities of all texts' tokens."""
    logs = [[math.nan] * (len(text.ids) - text.first) for text in texts]
    source = _source(model, context)

    def keep(indices: list[int], batch: Packed) -> None:
        chosen = [readings[index] for index in indices]
        told, _ = tell(model, _states(model, batch, chosen), [token for one in chosen for token in one.targets])
        place = 0
        for one in chosen:
            count = len(one.targets)
            logs[one.owner][one.token : one.token + count] = told[place : place + count]
            place += count

    read = [one.ids for one in readings]
    if source is None:
        run_all(read, None, keep, model.backbone)
    else:
        run_all([source] * len(read), None, keep, model.backbone, beside=read)
    return logs


def _source(model: Model, context: str) -> list[int] | None:
    """What an encoder reads beside its decoder's text; None where there is one stack."""
    if model.backbone.decoder is None:
        return None
    source = model.tokenizer.encode([context])[0].ids or start_tokens(model)
    if model.limit is not None and len(source) > model.limit:
        raise DataError(f"the context has {len(source)} tokens, the encoder reads {model.limit}; shorten it")
    return source


def _states(model: Model, batch: Packed, readings: list[_Reading]) -> Tensor:
    """The hidden states that tell the targets, (N, D)."""
    assert model.head is not None
    predict = getattr(model.backbone, "predict", None)
    if predict is not None:
        states: Tensor = predict(batch, [range(len(one.ids)) for one in readings], [list(one.rows) for one in readings])
        return states
    decoder = pack([one.ids for one in readings]).to(model.device) if model.backbone.decoder is not None else None
    hidden_TD = model.backbone.read(batch, model.head.kind, decoder)
    firsts = (decoder or batch).first_B.tolist()
    rows = [first + row for first, one in zip(firsts, readings, strict=True) for row in one.rows]
    return hidden_TD[torch.tensor(rows, device=hidden_TD.device)]


def tell(model: Model, hidden_ND: Tensor, targets: Sequence[int]) -> tuple[list[float], list[bool]]:
    """Log-probability of each target, and whether none is more probable, in parts that keep the logits small.

    Raises:
        ModelError: a log-probability is no finite number.
    """
    head, logs, greedy = model.head, [], []
    assert head is not None
    size = max(1, CELLS // model.backbone.config.vocab_size)
    target_N = torch.tensor(targets, device=hidden_ND.device)
    for h_ND, t_N in zip(torch.split(hidden_ND, size), torch.split(target_N, size), strict=True):
        logits_NV = head(h_ND, None)  # a head that looks at tokens alone asks nothing of the batch
        chosen_N = logits_NV.gather(1, t_N[:, None])[:, 0]
        logs += (chosen_N - logits_NV.logsumexp(-1)).tolist()
        greedy += (logits_NV.argmax(-1) == t_N).tolist()
    if not all(map(math.isfinite, logs)):
        raise ModelError(
            f"{model.folder}: a log-probability is no finite number: the weights are damaged, or too large for "
            f"{model.dtype}; try dtype float32"
        )
    return logs, greedy
