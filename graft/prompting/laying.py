"""Texts in their templates as token ids, cut so that the template, and what is to be written, have their room."""

from __future__ import annotations

from collections.abc import Sequence

from graft.errors import ModelError, UsageError
from graft.grafted import Model
from graft.prompting.wording import filled
from graft.sealed import Text
from graft.text import Encoding


def two_stacks(model: Model) -> bool:
    """Whether one stack reads and another writes."""
    return model.backbone.decoder is not None


def room_for(model: Model, room: int) -> int | None:
    """Tokens a source may have, special tokens included, where so many are to be written; None is no limit.

    Raises:
        UsageError: that much room leaves none for a source.
    """
    limit = model.limit
    if two_stacks(model) or limit is None:
        return limit
    if room >= limit:
        raise UsageError(f"{room} tokens to be written leave no room for a text: the model holds {limit}")
    return limit - room + len(model.tokenizer.frame.end)


def prompts(model: Model, sources: Sequence[str], room: int) -> list[Encoding]:
    """Sources as token ids; where one stack reads both, open at the end, with room for so many tokens there.

    Raises:
        UsageError: that much room leaves none for a source.
    """
    if two_stacks(model):
        return model.encode(sources)
    tokenizer, left = model.tokenizer, room_for(model, room)
    end = len(tokenizer.frame.end)
    encodings = tokenizer.encode(sources, limit=left, overflow=model.settings.overflow)
    for one in encodings if end else ():
        one.ids = one.ids[:-end]
    return encodings


def answers(model: Model, targets: Sequence[str]) -> list[list[int]]:
    """Texts as they are written after a prompt, as token ids: without special tokens, behind a space in one stack."""
    tokenizer, frame = model.tokenizer, model.tokenizer.frame
    encodings = tokenizer.encode([target if two_stacks(model) else f" {target}" for target in targets])
    return [one.ids[len(frame.start) : len(one.ids) - len(frame.end)] for one in encodings]


def end_token(model: Model) -> int:
    """The token that ends a text.

    Raises:
        ModelError: the vocabulary has none.
    """
    if "eos_token" not in model.tokenizer.special_tokens:
        raise ModelError(f"{model.folder}: the vocabulary has no token that ends a text (eos_token)")
    return model.tokenizer.token_id("eos_token")


def fitted(model: Model, template: str, texts: Sequence[Text], room: int) -> tuple[list[str], list[int]]:
    """Templates filled with as much of each text as fits, and how many tokens of each did not.

    The end of a text is cut (of a pair, that of its longer text), never the template: what follows the text there asks
    for the answer.

    Args:
        model: whose tokenizer counts.
        template: the words around a text.
        texts: texts, or pairs for a template with two places.
        room: tokens that one stack is to write after it.

    Raises:
        DataError: a text does not fit and the model's overflow rule is "error".
        UsageError: the template leaves no room for a text.
    """
    limit, sources = room_for(model, room), [filled(template, text) for text in texts]
    encodings = model.tokenizer.encode(sources, limit=limit, overflow=model.settings.overflow)
    cut = [one.truncated_tokens for one in encodings]
    for number in (number for number, tokens in enumerate(cut) if tokens):
        assert limit is not None
        sources[number], cut[number] = _shortened(model, template, texts[number], limit, cut[number])
    return sources, cut


def _shortened(model: Model, template: str, text: Text, limit: int, over: int) -> tuple[str, int]:
    """A filled template of at most `limit` tokens, and how many tokens shorter that is."""
    whole = limit + over
    while over:
        parts = [text] if isinstance(text, str) else list(text)
        longer = max(range(len(parts)), key=lambda place: len(parts[place]))
        encoding = model.tokenizer.encode([parts[longer]], offsets=True)[0]
        assert encoding.offsets is not None
        assert encoding.segments is not None
        own = [span for span, segment in zip(encoding.offsets, encoding.segments, strict=True) if segment == 0]
        if over >= len(own):
            raise UsageError(f"the template {template!r:.60} leaves no room for a text: the model holds {limit} tokens")
        parts[longer] = parts[longer][: own[len(own) - over][0]].rstrip()
        text = parts[0] if isinstance(text, str) else (parts[0], parts[1])
        encoding = model.tokenizer.encode([filled(template, text)], limit=limit)[0]
        over = encoding.truncated_tokens
    return filled(template, text), whole - len(encoding.ids)
