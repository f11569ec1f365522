"""A model that runs: texts and token ids in, answers, vectors and tensors out."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graft.adapters import Base
from graft.batch import Packed, pack
from graft.errors import DataError, ModelError, UsageError
from graft.families import Family
from graft.heads import Answer, Embed, Head
from graft.inference import Progress, check_encodings, in_step, marked, merged, run_all, told
from graft.model.config import UNLIMITED
from graft.model.recurrent import State
from graft.model.transformer import Transformer
from graft.sealed import Settings, Text
from graft.text import FILES, Encoding, Tokenizer


class Running(nn.Module):
    """A pretrained language model that runs: ask it, embed with it, look at its hidden states.

    Attributes:
        backbone: text in, hidden states out.
        head: hidden states in, answers out; None where the model has none.
        family: how the published architecture maps onto ours.
        settings: task, longest input, overflow rule, golden inputs.
        folder: what was loaded.
        base: where the full weights lie: there, or in the folder that an adapter names.
    """

    def __init__(
        self,
        backbone: Transformer,
        head: Head | None,
        *,
        family: Family,
        published: Mapping[str, Any],
        folder: Path,
        settings: Settings,
        spare: Mapping[str, Tensor] | None = None,
        base: Base | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.family, self.published = family, dict(published)
        self.folder, self.settings = folder, settings
        self.spare = dict(spare or {})
        self.base = base or Base(reference=str(folder.absolute()), folder=folder)

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self.backbone.token_embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.backbone.token_embedding.weight.device

    @property
    def limit(self) -> int | None:
        """Longest input in tokens, special tokens included; None where nothing sets one."""
        least = min(self.settings.limit or UNLIMITED, self.backbone.config.positions)
        return None if least == UNLIMITED else least

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, read when first needed.

        Raises:
            ModelError: the folder has none, or the family reads words.
        """
        if self.family.words is not None:
            raise ModelError(f"{self.folder}: reads words, not text; ask for hidden_states([text.split()])")
        return Tokenizer.from_folder(self._text_folder, self.family.frame)

    def forward(self, given: Packed | Text | Sequence[Text], decoder: Packed | None = None) -> Any:
        """A packed batch gives the head's raw output (for training); text gives an Answer, several texts a list."""
        return self._raw(given, self.head, decoder) if isinstance(given, Packed) else self.answer(given)

    def _raw(self, batch: Packed, head: Head | None, decoder: Packed | None = None) -> Tensor:
        hidden_TD = self.backbone.read(batch, "" if head is None else head.kind, decoder)
        output: Tensor = hidden_TD if head is None else head(hidden_TD, decoder or batch)
        return output

    def answer(self, texts: Text | Sequence[Text], progress: Progress | None = None) -> Answer | list[Answer]:
        """Answer one text, or a pair of texts given as a tuple, or a list of either.

        Raises:
            ModelError: the model has no head that answers.
            DataError: an input is not text, or does not fit where the overflow rule is "error".
        """
        single = isinstance(texts, str) or (isinstance(texts, tuple) and len(texts) == 2)
        given: Sequence[Text] = [texts] if single else texts  # type: ignore[list-item]
        if self.head is not None and self.head.by_task:
            answers: list[Answer] = _task(self.head.kind).answer(self, given, progress)
            return answers[0] if single else answers
        head = self._needs_head("answer")
        outputs, how = self.read(given, progress)
        join = torch.cat if head.per_token else torch.stack
        answers = head.decode(join(outputs), [one["truncated_tokens"] for one in how]) if outputs else []
        answers = answers if head.per_token else marked(answers, how, self.settings)
        return answers[0] if single else answers

    def read(
        self, texts: Sequence[Text], progress: Progress | None = None
    ) -> tuple[list[Tensor], list[dict[str, Any]]]:
        """The head's output for each text, and how it was read (`graft.inference.told`).

        Where the settings say so a pair is read in both orders, each in its windows, and what the head makes of the two
        is added up.
        """
        groups = [self.orders(text) for text in texts]
        read = self.windows([one for group in groups for one in group])
        outputs, how = (
            self.outputs(read, self.head, in_step(progress, len(groups), len(read))),
            told(read, self.settings),
        )
        if len(read) > len(groups):
            starts = [0, *accumulate(map(len, groups))]
            outputs = [torch.stack(outputs[start:end]).sum(0) for start, end in pairwise(starts)]
            how = [how[start] for start in starts[:-1]]
        return outputs, how

    def orders(self, text: Text) -> tuple[Text, ...]:
        """What is read of one text: a pair in both orders, where the settings say so."""
        both = self.settings.both_orders and isinstance(text, tuple)
        return (text, (text[1], text[0])) if both else (text,)

    def encode(self, texts: Sequence[Text]) -> list[Encoding]:
        """Texts as token ids in the family's frame, cut to the model's limit as its overflow rule says."""
        encodings = self.tokenizer.encode(texts, limit=self.limit, overflow=self.settings.overflow)
        check_encodings(encodings, self.backbone.config, self.folder)
        return encodings

    def windows(self, texts: Sequence[Text]) -> list[list[Encoding]]:
        """Texts as the model reads them: one encoding of each, or as many as it takes where the rule is "window"."""
        if self.settings.overflow != "window":
            return [[encoding] for encoding in self.encode(texts)]
        found = self.tokenizer.windows(texts, limit=self.limit)
        for every in ([windows[0] for windows in found], [one for windows in found for one in windows[1:]]):
            check_encodings(every, self.backbone.config, self.folder)  # an empty text is named by its number
        return found

    def embed(self, texts: Sequence[Text], progress: Progress | None = None) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Texts as vectors, float32 (n, D).

        A sentence-transformers folder is pooled and normalized as it says; other models by the mean of their tokens,
        normalized to length one.
        """
        if isinstance(texts, str):
            raise DataError("embed takes a list of texts, found a single one; write embed([text])")
        head = self.head if isinstance(self.head, Embed) else Embed()
        rows = self.outputs(self.windows(texts), head, progress)
        return torch.stack(rows).numpy() if rows else np.zeros((0, self.backbone.config.hidden_size), np.float32)

    def generate(self, prompt: str | Sequence[int], n: int = 1, **settings: Any) -> Any:
        """Continue a prompt, or let a decoder answer it.

        Args:
            prompt: text, or token ids.
            n: how many continuations.
            **settings: as of `graft.generate.sampling.Sampling`: max_tokens, temperature, top_p, seed, stop ...

        Returns:
            A list of `graft.generate.request.Completion`: text, ids, finish_reason, logprobs.

        Raises:
            UsageError: a setting that does not exist or makes no sense.
            ModelError: the model's head does not predict the next token.
            DataError: a prompt that cannot be continued.
        """
        return importlib.import_module("graft.generate.write").generate(self, prompt, n, **settings)

    def hidden_states(
        self, sequences: Sequence[Sequence[Any]], *, layers: bool = False, state: State | None = None
    ) -> list[Tensor]:
        """Last hidden states, the encoder's where there is a decoder, for lists of token ids: (length, D) for each.

        Args:
            sequences: token ids; for ELMo words, or 50 character ids for each word and for the sentence's marks.
            layers: every layer's, (layers + 1, length, D): before the first block and after each, before a final norm.
            state: ELMo's, from earlier calls: sequence k goes on where the last call's ended. All are one batch then.
        """
        ids, found = self._check_ids(sequences), [torch.empty(0)] * len(sequences)

        def keep(indices: list[int], batch: Packed) -> None:
            every: list[Tensor] = []
            last_TD = self.backbone(batch, cache=state, layers=every if layers else None)
            whole = torch.stack(every) if layers else last_TD
            for index, part in zip(indices, whole.split(batch.lengths, dim=-2), strict=True):
                marked = isinstance(sequences[index][0], str)  # the marks were put on here and come off again
                found[index] = part[..., 1:-1, :] if marked else part

        if state is None:
            run_all(ids, None, keep, self.backbone)
        elif self.family.words is None:
            raise UsageError(f"{self.family.name} models carry no state from batch to batch; leave it out")
        else:
            with torch.inference_mode():
                keep(list(range(len(ids))), pack(ids).to(self.device))
        return found

    def logits(
        self, sequences: Sequence[Sequence[int]], *, decoder: Sequence[Sequence[int]] | None = None
    ) -> list[Tensor]:
        """The head's output for lists of token ids: (C,) each for heads that pool, (length, C) for others.

        Args:
            sequences: token ids.
            decoder: token ids a decoder is given to read, its start token first, for each of the sequences; the
                lengths of the output are theirs.

        Raises:
            ModelError: the model has no head.
            DataError: a decoder lacks its sequences, or they are too many or too few, or there is no decoder.
        """
        self._needs_head("give logits")
        if decoder is not None and len(decoder) != len(sequences):
            raise DataError(f"{len(decoder)} sequences for the decoder, expected one for each of the {len(sequences)}")
        beside = None if decoder is None else self._check_ids(decoder)
        return self._run(self._check_ids(sequences), None, self.head, decoder=beside)

    def pooled(
        self,
        sequences: Sequence[Sequence[int]],
        types: Sequence[Sequence[int] | None] | None,
        head: Head,
        progress: Progress | None = None,
    ) -> list[Tensor]:
        """The output of any head for lists of token ids, one for each."""
        return self._run(self._check_ids(sequences), types, head, progress)

    def outputs(
        self, texts: Sequence[Sequence[Encoding]], head: Head | None, progress: Progress | None = None
    ) -> list[Tensor]:
        """The output of a head for each text, those of its windows made one (`Head.merge`)."""
        flat, start = [encoding for windows in texts for encoding in windows], None
        if len(flat) > len(texts):
            head, progress = head or self._needs_head("read windows"), in_step(progress, len(texts), len(flat))
        if self.backbone.decoder is not None and head is not None and head.kind == "next":
            start = [[self.backbone.config.start_token]] * len(flat)  # type: ignore[attr-defined]
        ids, types = [encoding.ids for encoding in flat], [encoding.types for encoding in flat]
        return merged(head, self._run(ids, types, head, progress, decoder=start), texts)

    def _run(
        self,
        sequences: Sequence[Sequence[int]],
        types: Sequence[Sequence[int] | None] | None,
        head: Head | None,
        progress: Progress | None = None,
        decoder: Sequence[Sequence[int]] | None = None,
    ) -> list[Tensor]:
        found: list[Tensor] = [torch.empty(0)] * len(sequences)

        def keep(indices: list[int], batch: Packed) -> None:
            read = None if decoder is None else pack([decoder[index] for index in indices]).to(self.device)
            output, lengths = self._raw(batch, head, read), (read or batch).lengths
            parts = output.split_with_sizes(lengths) if head is None or head.per_token else output
            for index, part in zip(indices, parts, strict=True):
                found[index] = part.cpu()

        run_all(sequences, types, keep, self.backbone, progress, decoder)
        return found

    def _check_ids(self, sequences: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
        if self.family.words is not None:
            return [self.family.words(number, sequence) for number, sequence in enumerate(sequences)]
        size = self.backbone.config.vocab_size
        for number, sequence in enumerate(sequences):
            if isinstance(sequence, str):
                raise DataError(
                    f"sequence {number} is text, expected token ids; model.encode([text])[0].ids gives them"
                )
            if len(sequence) == 0 or not (min(sequence) >= 0 and max(sequence) < size):
                found = f"ids from {min(sequence)} to {max(sequence)}" if len(sequence) else "no ids"
                raise DataError(f"sequence {number} has {found}, expected at least one, each from 0 to {size - 1}")
        return sequences

    def _needs_head(self, purpose: str) -> Head:
        if self.head is None:
            raise ModelError(
                f"{self.folder}: this model has no head and cannot {purpose}; adapt it with `graft finetune`, "
                "or ask for embed(texts) or hidden_states(sequences)"
            )
        return self.head

    @property
    def has_tokenizer(self) -> bool:
        """Whether the model's folder brought a tokenizer."""
        return "tokenizer" in self.__dict__ or (
            self.family.words is None and any((self._text_folder / name).is_file() for name in FILES)
        )

    @property
    def _text_folder(self) -> Path:
        """Where the tokenizer lies: an adapter need not bring its own."""
        return next((f for f in (self.folder, self.base.folder) if any((f / n).is_file() for n in FILES)), self.folder)


def _task(kind: str) -> Any:
    """The task of a head whose output only a task can read. Tasks are built on models, so it is found when asked."""
    tasks = importlib.import_module("graft.tasks")
    return tasks.find(tasks.of_head(kind)[0])
