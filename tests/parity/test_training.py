"""A step of training against transformers: the loss, every gradient, and where dropout acts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from side_by_side import HEADED, alone, draw, family, numbers, worst
from tiny_models import head
from torch import Tensor, nn
from torch.nn import functional as F

from graft.batch import pack
from graft.grafted import Model
from graft.loading import load
from graft.model.layers import Dropout
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


def test_dropout_is_on_in_training_alone(tiny):
    model = load(tiny("bert-classify", hidden_dropout_prob=0.3).folder, "float32")
    batch = pack(draw((7, 9), 96))
    assert torch.equal(model(batch), model(batch))
    model.train()
    assert not torch.equal(model(batch), model(batch))


STEADY = {
    "bert": {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.0},
    "distilbert": {"dropout": 0.3, "attention_dropout": 0.0, "seq_classif_dropout": 0.4, "qa_dropout": 0.2},
    "gpt2": {"resid_pdrop": 0.3, "embd_pdrop": 0.2, "attn_pdrop": 0.0, "classifier_dropout": 0.4},
    "openai_gpt": {"resid_pdrop": 0.3, "embd_pdrop": 0.2, "attn_pdrop": 0.0},
    "llama": {"attention_dropout": 0.0},
}
STEADY |= {"roberta": {**STEADY["bert"], "classifier_dropout": 0.4}, "xlm_roberta": STEADY["bert"]}
STEADY |= {"bert": {**STEADY["bert"], "classifier_dropout": 0.4}}


def ramp(x: Tensor, rate: float) -> Tensor:
    """What stands in for dropout below: the same factors in both libraries wherever the rate is the same."""
    return (1 + rate * torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype)).expand_as(x)


@pytest.mark.parametrize("name", [name for name in HEADED if family(name) in STEADY])
def test_dropout_acts_where_theirs_does(tiny, name: str, monkeypatch: pytest.MonkeyPatch):
    made = tiny(name, **STEADY[family(name)])
    model = load(made.folder, "float32").train()
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x * ramp(x, self.p) if self.training else x)
    monkeypatch.setattr(Dropout, "mask", lambda self, like: ramp(like, self.rate))
    ids = draw((12,), model.backbone.config.vocab_size, seed=6)[0]
    with torch.inference_mode():
        ours, theirs = model(pack([ids])), numbers(alone(made.theirs.train(), ids))
    made.theirs.eval()
    assert worst(ours, theirs) < 1e-5
    assert worst(ours, model.eval()(pack([ids])).detach()) > 1e-3 or family(name) == "llama" and head(name) != "tag"
