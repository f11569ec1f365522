"""Families against transformers, on tiny random models it saved: equal numbers, and folders it can open again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tiny_models import BYTES, POSITIONS, SIZES, TINY
from torch import Tensor

from graft import checkpoint
from graft.batch import Packed, pack
from graft.grafted import Model, load
from graft.heads import PredictNext
from graft.model import attend
from graft.weights import write

BARE = tuple(name for name in TINY if "-" not in name)
CLASSIFIERS = tuple(name for name in TINY if name.endswith(("-classify", "-multi", "-regress")))
LANGUAGE = tuple(name for name in TINY if name.endswith(("-lm", "-untied", "-tied")))
EVERY = (*BARE, *CLASSIFIERS, *LANGUAGE)
TYPED = ("bert", "xlnet")
TRAINED = tuple(name for name in (*CLASSIFIERS, *LANGUAGE) if not name.startswith("xlnet"))  # see test_xlnet.py
RAGGED = (7, 1, 40, 2, 23, 8, 7, 39, 16, 3)
BEYOND_PLAIN = (5, 321, 400, 399, 2, 320)
"""Lengths on both sides of 320, at which the tests that use them let attention change its kernel."""


def family(name: str) -> str:
    return name.partition("-")[0]


def long(name: str) -> dict[str, int]:
    """Room for 400 tokens, where a family has a limit."""
    if family(name) == "xlnet":
        return {}
    key = "n_positions" if family(name) in BYTES else "max_position_embeddings"
    return {key: 400 + SIZES[family(name)][key] - POSITIONS}


def draw(lengths: Sequence[int], vocab_size: int, seed: int = 0) -> list[list[int]]:
    """Random sequences without tokens 0 and 1, which transformers takes for padding in some families."""
    numbers = random.Random(seed)
    return [[numbers.randrange(2, vocab_size) for _ in range(length)] for length in lengths]


def draw_types(name: str, sequences: Sequence[Sequence[int]]) -> list[list[int]] | None:
    """Token types of two segments, for the family that has them."""
    if family(name) not in TYPED:
        return None
    return [[int(place >= len(one) // 2) for place in range(len(one))] for one in sequences]


def alone(theirs: Any, ids: Sequence[int], types: Sequence[int] | None = None, **options: Any) -> Any:
    """What transformers makes of one sequence, where there is nothing to pad."""
    given = {"input_ids": torch.tensor([ids])} | ({} if types is None else {"token_type_ids": torch.tensor([types])})
    with torch.inference_mode():
        return theirs(**given, **options)


@torch.inference_mode()
def run(model: Model, batch: Packed) -> tuple[Tensor, list[Tensor]]:
    layers: list[Tensor] = []
    return model.backbone(batch, layers=layers), layers


def worst(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours.float() - theirs.float()).abs().max())


@pytest.mark.parametrize("lengths", [RAGGED, BEYOND_PLAIN], ids=["short", "long"])
@pytest.mark.parametrize("name", EVERY)
def test_hidden_states_of_every_layer(tiny, name: str, lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attend, "PLAIN_LONGEST", 320)
    made = tiny(name, **(long(name) if lengths is BEYOND_PLAIN else {}))
    model = load(made.folder, "float32")
    sequences = draw(lengths, model.backbone.config.vocab_size)
    types = draw_types(name, sequences)
    last_TD, layers = run(model, pack(sequences, types))
    expected = [
        alone(made.theirs.base_model, ids, kinds, output_hidden_states=True)
        for ids, kinds in zip(sequences, types or [None] * len(sequences), strict=True)
    ]
    assert worst(last_TD, torch.cat([one.last_hidden_state[0] for one in expected])) < 1e-5
    # Where a family has a final norm, transformers lists the last layer's states after it, Graft before.
    shown = len(layers) - (model.backbone.final_norm is not None)
    assert shown >= model.backbone.config.layers
    for number in range(shown):
        theirs = torch.cat([one.hidden_states[number][0] for one in expected])
        assert worst(layers[number], theirs) < 1e-5, f"layer {number}"


@pytest.mark.parametrize("name", [*CLASSIFIERS, *LANGUAGE])
def test_logits(tiny, name: str):
    made = tiny(name)
    model = load(made.folder, "float32")
    sequences = draw(RAGGED, model.backbone.config.vocab_size, seed=1)
    types = draw_types(name, sequences)
    with torch.inference_mode():
        ours = model(pack(sequences, types))
    kinds = types or [None] * len(sequences)
    theirs = torch.cat([alone(made.theirs, *one).logits.flatten(0, -2) for one in zip(sequences, kinds, strict=True)])
    assert ours.dtype == torch.float32
    assert worst(ours, theirs) < 1e-5
    assert float(theirs.abs().max()) > 0.1


@pytest.mark.parametrize("name", BARE)
def test_every_length_in_one_batch_is_as_alone_in_any_order(tiny, name: str):
    model = load(tiny(name).folder, "float32")
    sequences = draw(range(1, POSITIONS + 1), model.backbone.config.vocab_size, seed=2)
    types = draw_types(name, sequences) or [None] * len(sequences)
    order = random.Random(3).sample(range(len(sequences)), len(sequences))
    together = run(model, pack(sequences, types))[0].split([len(one) for one in sequences])
    shuffled = run(model, pack([sequences[n] for n in order], [types[n] for n in order]))[0]
    back = dict(zip(order, shuffled.split([len(sequences[n]) for n in order]), strict=True))
    for number, (ids, kinds) in enumerate(zip(sequences, types, strict=True)):
        own = run(model, pack([ids], [kinds]))[0]
        # Matrix products of other heights add up in another order, so the last bits may differ.
        assert worst(together[number], own) < 1e-5
        assert worst(back[number], own) < 1e-5


def test_token_types_matter_and_default_to_zero(tiny):
    model = load(tiny("bert").folder, "float32")
    sequences = draw((5, 9), 96)
    none, _ = run(model, pack(sequences))
    half, _ = run(model, pack(sequences, [None, [0] * 4 + [1] * 5]))
    zero, _ = run(model, pack(sequences, [[0] * 5, [0] * 9]))
    assert torch.equal(none, zero)
    assert torch.equal(none[:5], half[:5])
    assert worst(none[5:], half[5:]) > 0.1


# Training

DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "resid_pdrop", "embd_pdrop", "attn_pdrop")
DROPOUTS += ("dropout", "attention_dropout", "seq_classif_dropout")


def still(made: Any) -> dict[str, float]:
    """No dropout of any kind the family has."""
    return {key: 0.0 for key in DROPOUTS if hasattr(made.theirs.config, key)}


def targets(name: str, count: int) -> Tensor:
    if name == "bert-multi":
        return torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]).repeat(count, 1)[:count]
    return torch.linspace(-2, 2, count) if name == "bert-regress" else torch.arange(count) % 3


def our_loss(model: Model, name: str, sequences: list[list[int]]) -> Tensor:
    batch = pack(sequences)
    output = model(batch)
    if name not in LANGUAGE:
        return model.head.loss(output, targets(name, len(sequences)))
    seen_T = torch.ones_like(batch.ids_T, dtype=torch.bool)
    seen_T[batch.last_B] = False
    return model.head.loss(output[seen_T], batch.ids_T.roll(-1)[seen_T])


def their_loss(theirs: Any, name: str, sequences: list[list[int]]) -> Tensor:
    """Through transformers' padding and masks, so that both ways of batching are compared as well."""
    longest = max(map(len, sequences))
    ids = torch.tensor([one + [0] * (longest - len(one)) for one in sequences])
    mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in sequences])
    labels = ids.masked_fill(mask == 0, -100) if name in LANGUAGE else targets(name, len(sequences))
    return theirs(input_ids=ids, attention_mask=mask, labels=labels).loss


def saved_gradients(theirs: Any, folder: Path) -> dict[str, Tensor]:
    """Gradients by the names tensors have in files, which in memory some families join."""
    copy = type(theirs)(theirs.config)
    for own, parameter in zip(copy.parameters(), theirs.parameters(), strict=True):
        own.data = parameter.grad
    copy.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", TRAINED)
def test_loss_and_gradients_of_a_training_step(tiny, tmp_path: Path, name: str):
    made = tiny(name, **still(tiny(name)))
    model = load(made.folder, "float32").train()
    sequences = draw((7, 2, 40, 8, 23), model.backbone.config.vocab_size, seed=4)
    made.theirs.zero_grad()
    theirs = their_loss(made.theirs.train(), name, sequences)
    theirs.backward()
    ours = our_loss(model, name, sequences)
    ours.backward()
    assert worst(ours.detach(), theirs.detach()) < 1e-5
    own = {name: parameter.grad for name, parameter in model.named_parameters()}
    found = write(model.family.table(type(made.theirs).__name__), own)
    expected = saved_gradients(made.theirs, tmp_path)
    assert found.keys() == expected.keys()
    for tensor, grad in expected.items():
        assert worst(found[tensor], grad) < 1e-4, tensor
        assert float(grad.abs().max()) > 0 or ".experts." in tensor, tensor  # an expert may have been sent nothing


def test_dropout_is_on_in_training_alone(tiny):
    model = load(tiny("bert-classify", hidden_dropout_prob=0.3).folder, "float32")
    batch = pack(draw((7, 9), 96))
    assert torch.equal(model(batch), model(batch))
    model.train()
    assert not torch.equal(model(batch), model(batch))


# Files


def same_tensors(one: Path, other: Path) -> None:
    """The same names, dtypes, shapes and bytes, in however many files."""
    left, right = (
        {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
        for folder in (one, other)
    )
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype
        assert tensor.shape == right[name].shape
        assert torch.equal(tensor.view(torch.uint8), right[name].view(torch.uint8)), name


def reopened(folder: Path, theirs: Any) -> Any:
    """The saved folder as transformers opens it; a tensor it misses or does not know fails the test."""
    again, report = type(theirs).from_pretrained(folder, output_loading_info=True)
    assert {what: names for what, names in report.items() if names} == {}
    return again.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", EVERY)
def test_written_as_read(tiny, tmp_path: Path, name: str, dtype: torch.dtype):
    made = tiny(name)
    source = made.folder
    if dtype != torch.float32:
        source = tmp_path / "source"
        type(made.theirs).from_pretrained(made.folder).to(dtype).save_pretrained(source)
    out = load(source, dtype).save(tmp_path / "out")
    same_tensors(source, out)
    again = reopened(out, made.theirs)
    assert again.get_input_embeddings().weight.dtype == dtype  # transformers makes XLNet's 3-d weights float32
    if dtype == torch.float32:
        ids = draw((12,), 96)[0]
        assert worst(alone(again, ids)[0], alone(made.theirs, ids)[0]) < 1e-6  # files may lie at other addresses
    for entry in ("id2label", "label2id", "architectures", "model_type", "pad_token_id", "vocab_size"):
        assert getattr(again.config, entry) == getattr(made.theirs.config, entry), entry


@pytest.mark.parametrize("name", ["bert-classify", "gpt2-untied"])
def test_shards(tiny, tmp_path: Path, name: str):
    made = tiny(name)
    made.theirs.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 3
    loaded = checkpoint.load(tmp_path / "theirs", dtype=torch.float32)
    model = load(made.folder, "float32")
    (tmp_path / "ours").mkdir()
    checkpoint.save(
        tmp_path / "ours",
        family=loaded.family,
        config=loaded.backbone.config,
        architecture=loaded.architecture,
        published=loaded.published,
        backbone=loaded.backbone,
        head=loaded.head,
        options=model.head.options(),
        shard_bytes=20_000,
    )
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 3
    same_tensors(made.folder, tmp_path / "ours")
    ids = draw((12,), 96)[0]
    assert torch.equal(alone(reopened(tmp_path / "ours", made.theirs), ids).logits, alone(made.theirs, ids).logits)
    assert torch.equal(load(tmp_path / "ours", "float32").logits([ids])[0], model.logits([ids])[0])


def test_saved_again_as_another_class(tiny, tmp_path: Path):
    """A new head on a bare encoder: transformers opens it as a classifier, with our labels and our numbers."""
    model = load(tiny("bert").folder, "float32")
    model.graft("classify", labels=("cold", "warm"), problem="single")
    out = model.save(tmp_path / "out")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(out).eval()
    assert theirs.config.id2label == {0: "cold", 1: "warm"}
    ids = draw((12,), 96)[0]
    assert worst(model.logits([ids])[0], alone(theirs, ids).logits[0]) < 1e-5


# Half precision


@pytest.mark.parametrize("name", EVERY)
def test_bfloat16_is_as_near_as_in_transformers(tiny, name: str):
    """No further from float32 than transformers in bfloat16 is, and within 3 % of the largest value, or twice as near.

    A router may send a token to another expert for the smallest difference, so single values tell nothing there.
    """
    made = tiny(name)
    exact, model = load(made.folder, "float32"), load(made.folder, "bfloat16")
    theirs = type(made.theirs).from_pretrained(made.folder).to(torch.bfloat16).eval()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    sequences = draw(RAGGED, exact.backbone.config.vocab_size, seed=5)
    reference, found = (run(one, pack(sequences))[0] for one in (exact, model))
    other = torch.cat([alone(theirs.base_model, ids).last_hidden_state[0] for ids in sequences])
    scale = float(reference.abs().max())
    ours, peer = ((one.float() - reference).pow(2).mean().sqrt() / scale for one in (found, other))
    routed = exact.backbone.config.experts is not None
    assert routed or worst(found, reference) < max(0.03 * scale, 1.5 * worst(other, reference))
    assert float(ours) < (2 if routed else 1.2) * float(peer)


def test_the_tied_matrix_is_one(tiny):
    tied, untied = (load(tiny(name).folder, "float32") for name in ("gpt2-lm", "gpt2-untied"))
    assert isinstance(tied.head, PredictNext)
    assert tied.head.output.weight is tied.backbone.token_embedding.weight
    assert not torch.equal(untied.head.output.weight, untied.backbone.token_embedding.weight)


@pytest.mark.parametrize("name", ["gpt2", "xlnet"])
def test_a_fresh_tied_head_leaves_the_token_embedding_alone(tiny, tmp_path: Path, name: str):
    made = tiny(name)
    model = load(made.folder, "float32")
    before = model.backbone.token_embedding.weight.detach().clone()
    model.graft("next")
    assert torch.equal(model.backbone.token_embedding.weight, before)
    theirs = getattr(transformers, model.family.architecture("next")).from_pretrained(model.save(tmp_path / "out"))
    ids = draw((12,), 96)[0]
    assert worst(model.logits([ids])[0], alone(theirs.eval(), ids).logits[0]) < 1e-5
