"""A model: a backbone with a head grafted on, a tokenizer, and how it is to be used."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from graft import adapters, checkpoint, heads, pooling, sealed
from graft.adapters import Base
from graft.errors import ModelError, StorageError
from graft.files import replacing
from graft.heads import Embed, Pooled
from graft.running import Running
from graft.sealed import Golden, Settings, Text


class Model(Running):
    """A pretrained language model ready for use: it runs (`graft.running`), is adapted, and saved."""

    def graft(self, kind: str, **options: Any) -> None:
        """Put a fresh head in place of the present one.

        A part the checkpoint brought along for such heads (BERT's pooler) is taken over; the rest starts at random from
        the current random state. A decoder that such a head does not read, and its files have no place for, is left out
        (T5's, where tokens are tagged).

        Raises:
            ModelError: the family is published with no such head, or with one that reads another kind of backbone.
        """
        wanted = self._published_kind(kind)
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
        self.head.fresh = True
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
        outputs = (output.float() for output in self.read(inputs)[0])
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
            base = self._save_weights(new)
            if self.has_tokenizer:
                self.tokenizer.save(new)
            if isinstance(self.head, Embed):
                pooling.write(new, self.head, self.backbone.config.hidden_size, self.limit)
            for name, content in (files or {}).items():
                (new / name).write_text(content, encoding="utf-8")
            sealed.write(new, dataclasses.replace(self.settings, base=base))
        return target

    def merge(self) -> None:
        """Fold low-rank factors (LoRA) into the weights: the same answers from an ordinary model, saved whole.

        Raises:
            UsageError: what was learned cannot be folded in (bottleneck adapters).
        """
        if adapters.merge(self.backbone, self.folder):
            self.base = Base(reference="", folder=self.base.folder)
            self.settings = dataclasses.replace(self.settings, base=None)

    def _save_weights(self, folder: Path) -> dict[str, str] | None:
        """Write the weights: all, or what an adapter learned; then gives its base as graft.json has it."""
        architecture = self.architecture
        if adapters.present(self.backbone):
            return adapters.save(
                folder,
                family=self.family,
                architecture=architecture,
                published=self.published,
                backbone=self.backbone,
                head=self.head,
                base=self.base,
            )
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
        return None

    def _published_kind(self, kind: str) -> str:
        """The kind of the published class that holds a head; not every family has one for choices."""
        kinds = {grafting.kind for grafting in self.family.heads.values()}
        return "classify" if kind == "regress" or (kind == "choose" and kind not in kinds) else kind

    @property
    def architecture(self) -> str:
        """The published class to save as: the one the model came as, where its head is of that kind."""
        kind = self.head.kind if self.head else "embed"
        if kind == "embed":
            return (self.family.encoder if self.backbone.decoder is None else "") or self.family.bare
        wanted = self._published_kind(kind)
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
