"""Running many sequences: every one once, in batches of a bounded size, and for a while in another dtype."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graft.batch import Packed
from graft.inference import LONG_JOB, TOKENS, choose_device, computing, run_all
from graft.model.config import Config
from graft.model.linear import Linear
from graft.model.transformer import Transformer

BACKBONE = Transformer(Config(vocab_size=9, hidden_size=8, layers=2, heads=2, feed_forward_size=16, positions=8))


def test_every_sequence_is_run_once_with_its_types():
    lengths = [1 + number * 37 % 400 for number in range(60)] + [TOKENS + 5]
    sequences = [[number] * length for number, length in enumerate(lengths)]
    types = [None if number % 3 else [number % 2] * length for number, length in enumerate(lengths)]
    seen: dict[int, int] = {}
    told: list[int] = []

    def keep(indices: list[int], batch: Packed) -> None:
        assert torch.is_inference_mode_enabled()
        assert len(batch.ids_T) <= TOKENS or len(indices) == 1
        kinds = [None] * len(indices) if batch.types_T is None else batch.types_T.split(batch.lengths)
        for index, ids, kind in zip(indices, batch.ids_T.split(batch.lengths), kinds, strict=True):
            assert ids.tolist() == sequences[index]
            assert (kind is None and types[index] is None) or kind.tolist() == (types[index] or [0] * len(ids))
            seen[index] = seen.get(index, 0) + 1

    run_all(sequences, types, keep, BACKBONE, told.append)
    assert seen == dict.fromkeys(range(61), 1)
    assert sum(told) == 61
    run_all([], None, keep, BACKBONE)


@pytest.mark.parametrize(("sequences", "laid"), [(LONG_JOB // 8 - 1, False), (LONG_JOB // 8, True)])
def test_weights_are_laid_out_for_long_jobs_alone(sequences: int, laid: bool):
    layers = [layer for layer in BACKBONE.modules() if isinstance(layer, Linear)]
    seen: set[bool] = set()

    def keep(indices: list[int], batch: Packed) -> None:
        seen.update(layer.laid is not None for layer in layers)

    run_all([[1] * 8] * sequences, None, keep, BACKBONE)
    assert seen == {laid and torch.backends.mkldnn.is_available()}
    assert all(layer.laid is None for layer in layers)


def test_computing_in_another_dtype_for_a_while():
    model = nn.Linear(3, 2)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with computing(model, torch.bfloat16) as masters:
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        assert masters.keys() == set(model.parameters())
        masters[model.weight] += 1
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.weight, before["weight"] + 1)
    assert torch.equal(model.bias, before["bias"])
    with pytest.raises(KeyError), computing(model, torch.float16):
        raise KeyError
    assert model.weight.dtype == torch.float32
    with computing(model, torch.float32) as masters:
        assert masters == {}


def test_auto_is_a_gpu_where_there_is_one():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")
