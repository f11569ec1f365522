"""A model: a backbone with a head grafted on, a tokenizer, and how it is to be used."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graft import checkpoint, heads, pooling, sealed
from graft.batch import Packed, pack
from graft.errors import DataError, ModelError, StorageError, UsageError
from graft.families import Family
from graft.files import replacing
from graft.heads import Answer, Embed, Head, Pooled
from graft.inference import Progress, check_encodings, marked, merged, run_all, told
from graft.model.config import UNLIMITED
from graft.model.recurrent import State
from graft.model.transformer import Transformer
from graft.sealed import Golden, Settings, Text
from graft.text import FILES, Encoding, Tokenizer


class Model(nn.Module):
    """A pretrained language model ready for use: ask it, look at its hidden states, adapt it, save it.

    Attributes:
        backbone: text in, hidden states out.
        head: hidden states in, answers out; None where the model has none.
        family: how the published architecture maps onto ours.
        settings: task, longest input, overflow rule, golden inputs.
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
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.family, self.published = family, dict(published)
        self.folder, self.settings = folder, settings
        self.spare = dict(spare or {})

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
        return Tokenizer.from_folder(self.folder, self.family.frame)

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
        read = self.windows([texts] if single else texts)  # type: ignore[list-item]
        head = self._needs_head("answer")
        outputs, how = self.outputs(read, head, progress), told(read, self.settings)
        join = torch.cat if head.per_token else torch.stack
        answers = head.decode(join(outputs), [one["truncated_tokens"] for one in how]) if outputs else []
        answers = answers if head.per_token else marked(answers, how, self.settings)
        return answers[0] if single else answers

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
        self, texts: Sequence[Sequence[Encoding]], head: Head, progress: Progress | None = None
    ) -> list[Tensor]:
        """The output of a head for each text, those of its windows made one (`Head.merge`)."""
        flat = [encoding for windows in texts for encoding in windows]
        several = len(flat) > len(texts)  # progress counts texts
        ids, types = [encoding.ids for encoding in flat], [encoding.types for encoding in flat]
        found = merged(head, self._run(ids, types, head, None if several else progress), texts)
        if several and progress is not None:
            progress(len(texts))
        return found

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

    def graft(self, kind: str, **options: Any) -> None:
        """Put a fresh head in place of the present one.

        A part the checkpoint brought along for such heads (BERT's pooler) is taken over; the rest starts at random from
        the current random state. A decoder that such a head does not read, and its files have no place for, is left out
        (T5's, where tokens are tagged).

        Raises:
            ModelError: the family is published with no such head, or with one that reads another kind of backbone.
        """
        wanted = "classify" if kind == "regress" else kind
        body: dict[str, Any] = {}
        decodes = True
        if kind != "embed":
            architecture = self.family.architecture(wanted)
            decodes = self._decodes(architecture)
            known = self.family.heads[architecture].options(self.published)
            body = {name: value for name, value in known.items() if name not in ("labels", "problem")}
        embedding = self.backbone.token_embedding
        head = heads.make(kind, {**body, **options}, embedding)
        config = self.backbone.config
        heads.initialize(head, head.kind, config, self.family.fresh(config), head.aliases().values())
        if isinstance(self.head, Pooled) and self.head.dense is not None:
            self.spare |= {f"dense.{name}": tensor.detach() for name, tensor in self.head.dense.state_dict().items()}
        taken = {name: self.spare[name] for name in head.state_dict() if name in self.spare}
        heads.check_shapes(self.folder, head.state_dict(), taken)
        head.load_state_dict(taken, strict=False)
        self.head = head.to(dtype=self.dtype, device=self.device).train(self.training)
        if self.backbone.decoder is not None and not decodes:
            without: dict[str, Any] = {"decoder_layers": 0}
            self.backbone.config, self.backbone.decoder = dataclasses.replace(self.backbone.config, **without), None

    def _decodes(self, architecture: str) -> bool:
        """Whether models of a published class have a decoder; those that this backbone could not be are refused."""
        try:
            config = self.family.config({**self.published, "architectures": [architecture]})
        except ModelError as error:
            raise ModelError(f"this model cannot be a {architecture}: {error}") from error
        decodes = bool(getattr(config, "decoder_layers", 0))
        if decodes and self.backbone.decoder is None:
            raise ModelError(f"{architecture} reads a decoder, this model is an encoder alone; load one that has both")
        return decodes

    def seal(self, inputs: Sequence[Text], settings: Settings) -> None:
        """Take on new settings with golden inputs, whose outputs are computed now (best from float32 weights)."""
        self.settings = settings
        rows = tuple(tuple(round(value, 6) for value in output.tolist()) for output in self._golden_outputs(inputs))
        self.settings = dataclasses.replace(settings, golden=Golden(inputs=tuple(inputs), outputs=rows))

    def verify(self) -> None:
        """Replay the golden inputs.

        Raises:
            ModelError: the model answers differently from when it was saved, or has no golden inputs.
        """
        sealed.refuse(self.folder, self.drifts())

    def drifts(self) -> list[sealed.Drift]:
        """The golden inputs that are answered differently from when the model was saved.

        Raises:
            ModelError: there are no golden inputs.
        """
        golden = self.settings.golden
        if golden is None:
            raise ModelError(f"{self.folder}: {sealed.NAME} holds no golden inputs to replay")
        return sealed.drifts(golden, self._golden_outputs(golden.inputs), self.dtype)

    def _golden_outputs(self, inputs: Sequence[Text]) -> list[Tensor]:
        """One row of numbers for each input; where a model gives a row for each token, one number sums it up."""
        if self.settings.overflow == "window" and self.head is not None:
            return [output.float().reshape(-1) for output in self.outputs(self.windows(inputs), self.head)]
        encodings, start = self.encode(inputs), None
        if self.backbone.decoder is not None and self.head is not None and self.head.kind == "next":
            start = [[self.backbone.config.start_token]] * len(encodings)  # type: ignore[attr-defined]
        ids, types = [one.ids for one in encodings], [one.types for one in encodings]
        outputs = (output.float() for output in self._run(ids, types, self.head, decoder=start))
        return [output.logsumexp(-1) if output.dim() > 1 else output.reshape(-1) for output in outputs]

    def save(self, folder: str | Path, files: Mapping[str, str] | None = None) -> Path:
        """Write the model as a Hugging Face folder with graft.json; a folder there is replaced when all is written.

        Args:
            folder: where to.
            files: further text files to put in it, by name (a model card, a report).

        Raises:
            StorageError: the disk is full, or the place cannot be written; what was there before is unharmed.
            ModelError: the family cannot hold this head.
        """
        target = Path(folder)
        check_target(target)
        with replacing(target) as new:
            new.mkdir()
            self._save_weights(new)
            if self.has_tokenizer:
                self.tokenizer.save(new)
            if isinstance(self.head, Embed):
                pooling.write(new, self.head, self.backbone.config.hidden_size, self.limit)
            for name, content in (files or {}).items():
                (new / name).write_text(content, encoding="utf-8")
            sealed.write(new, self.settings)
        return target

    @property
    def has_tokenizer(self) -> bool:
        """Whether the model's folder brought a tokenizer."""
        return "tokenizer" in self.__dict__ or (
            self.family.words is None and any((self.folder / name).is_file() for name in FILES)
        )

    def _save_weights(self, folder: Path) -> None:
        architecture = self._architecture()
        places = self.family.places(architecture)
        head = {name: tensor for name, tensor in self.spare.items() if name in places}
        checkpoint.save(
            folder,
            family=self.family,
            config=self.backbone.config,
            architecture=architecture,
            published=self.published,
            backbone=self.backbone,
            head=head | (self.head.own() if self.head else {}),
            options=self.head.options() if self.head else {},
        )

    def _architecture(self) -> str:
        """The published class to save as: the one the model came as, where its head is of that kind."""
        kind = self.head.kind if self.head else "embed"
        if kind == "embed":
            return (self.family.encoder if self.backbone.decoder is None else "") or self.family.bare
        wanted = "classify" if kind == "regress" else kind
        came = (self.published.get("architectures") or [""])[0]
        same = came in self.family.heads and self.family.heads[came].kind == wanted
        return str(came) if same else self.family.architecture(wanted)


def check_target(target: Path) -> None:
    """Make sure that saving to a folder destroys nothing but what Graft wrote there.

    Raises:
        StorageError: it is a file, or holds files that are not of a model Graft saved.
    """
    if target.is_file():
        raise StorageError(f"{target}: is a file; a model is saved to a folder")
    present = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    others = sorted(set(present) - set(sealed.files(target)))
    if others:
        raise StorageError(
            f"{target}: holds {len(others)} files Graft did not write, such as {', '.join(others[:3])}; "
            "saving would remove them. Choose a new or empty folder"
        )
