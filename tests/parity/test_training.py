"""A step of training against transformers: the loss and every gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from side_by_side import HEADED, draw, family, worst
from tiny_models import head
from torch import Tensor
from torch.nn import functional as F

from graft.batch import pack
from graft.grafted import Model
from graft.loading import load
from graft.weights import write

DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "resid_pdrop", "embd_pdrop", "attn_pdrop")
DROPOUTS += ("dropout", "attention_dropout", "seq_classif_dropout", "qa_dropout", "classifier_dropout")


TRAINED = tuple(name for name in HEADED if family(name) != "xlnet")
"""XLNet trains with an order, in test_xlnet.py."""


def still(made: Any) -> dict[str, float]:
    """No dropout of any kind the family has."""
    return {key: 0.0 for key in DROPOUTS if hasattr(made.theirs.config, key)} | {"classifier_dropout": 0.0}


LENGTHS = (7, 2, 40, 8, 23)


def targets(name: str, count: int) -> Tensor:
    if name == "bert-multi":
        return torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]).repeat(count, 1)[:count]
    return torch.linspace(-2, 2, count) if name == "bert-regress" else torch.arange(count) % 3


def spans(lengths: tuple[int, ...]) -> Tensor:
    """First and last token of an answer in each sequence."""
    return torch.tensor([[length // 3, length // 2] for length in lengths])


def our_loss(model: Model, name: str, sequences: list[list[int]]) -> Tensor:
    batch = pack(sequences)
    output, kind = model(batch), head(name)
    if kind == "next":
        seen_T = torch.ones_like(batch.ids_T, dtype=torch.bool)
        seen_T[batch.last_B] = False
        return model.head.loss(output[seen_T], batch.ids_T.roll(-1)[seen_T])
    if kind == "mask":
        rows = batch.position_T % 3 == 0
        return model.head.loss(output[rows], batch.ids_T[rows])
    if kind == "tag":
        return model.head.loss(output, batch.ids_T % 3)
    if kind == "span":
        return model.head.loss(output, spans(batch.lengths), batch.lengths)
    return model.head.loss(output, torch.tensor([2, 1]) if kind == "choose" else targets(name, len(sequences)))


def their_loss(theirs: Any, name: str, sequences: list[list[int]]) -> Tensor:
    """Through transformers' padding and masks, so that both ways of batching are compared as well."""
    kind = head(name)
    if kind == "span":  # its softmax would run over the padding too
        places = spans(tuple(map(len, sequences)))[:, :, None]
        each = [
            theirs(input_ids=torch.tensor([ids]), start_positions=start, end_positions=end).loss
            for ids, (start, end) in zip(sequences, places, strict=True)
        ]
        return torch.stack(each).mean()
    longest = max(map(len, sequences))
    ids = torch.tensor([one + [0] * (longest - len(one)) for one in sequences])
    mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in sequences])
    if kind == "choose":
        given = {"input_ids": ids.view(2, 3, -1), "attention_mask": mask.view(2, 3, -1)}
        return theirs(**given, labels=torch.tensor([2, 1])).loss
    if kind == "mask":
        wanted = mask * (torch.arange(longest) % 3 == 0)
        output = theirs(input_ids=ids, attention_mask=mask)
        logits = output.prediction_logits if "prediction_logits" in output else output.logits
        return F.cross_entropy(logits[wanted == 1], ids[wanted == 1])
    labels = {"next": ids.masked_fill(mask == 0, -100), "tag": (ids % 3).masked_fill(mask == 0, -100)}
    given = labels[kind] if kind in labels else targets(name, len(sequences))
    return theirs(input_ids=ids, attention_mask=mask, labels=given).loss


def saved_gradients(theirs: Any, folder: Path) -> dict[str, Tensor]:
    """Gradients by the names tensors have in files, which in memory some families join; zero for what is not used."""
    copy = type(theirs)(theirs.config)
    for own, parameter in zip(copy.parameters(), theirs.parameters(), strict=True):
        own.data = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    copy.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", TRAINED)
def test_loss_and_gradients_of_a_training_step(tiny, tmp_path: Path, name: str):
    made = tiny(name, **still(tiny(name)))
    model = load(made.folder, "float32").train()
    lengths = (*LENGTHS, 12) if head(name) == "choose" else LENGTHS  # two rows of three choices
    sequences = draw(lengths, model.backbone.config.vocab_size, seed=4)
    made.theirs.zero_grad()
    theirs = their_loss(made.theirs.train(), name, sequences)
    theirs.backward()
    ours = our_loss(model, name, sequences)
    ours.backward()
    assert worst(ours.detach(), theirs.detach()) < 1e-5
    own = {name: parameter.grad for name, parameter in model.named_parameters()}
    found = write(model.family.table(type(made.theirs).__name__), own)
    expected = saved_gradients(made.theirs, tmp_path)
    assert found.keys() <= expected.keys()
    # What competes within a row or a text is the same after adding one number to all: a bias learns nothing.
    # Nor does an expert to whom the router sends none of the few tokens a classifier looks at.
    idle = {"span": "qa_outputs.bias", "choose": "classifier.bias", "classify": ".experts."}.get(head(name), "none")
    for tensor, grad in expected.items():
        if tensor not in found:  # kept beside the head
            assert not grad.any(), tensor
            continue
        assert worst(found[tensor], grad) < 1e-4, tensor
        assert float(grad.abs().max()) > 0 or idle in tensor, tensor
