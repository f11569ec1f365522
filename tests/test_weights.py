"""Rule tables: names and layouts in both directions, and every fault named at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graft.errors import ModelError
from graft.weights import Rule, linear, match, prefixed, template, write

RULES = [
    Rule("wte.weight", "embedding.weight"),
    *linear("h.{n}.attn", ("blocks.{n}.query", "blocks.{n}.key", "blocks.{n}.value"), transposed=True),
    *linear("h.{n}.norm", "blocks.{n}.norm"),
    *linear("h.{n}.experts.{m}.up", "blocks.{n}.experts.{m}.up", bias=False),
    *linear("pooler", "head.dense", optional=True),
    Rule("h.{n}.attn.mask", None),
]
OURS = {
    "embedding.weight": (7, 4),
    "blocks.0.query.weight": (4, 4),
    "blocks.0.query.bias": (4,),
    "blocks.0.key.weight": (4, 4),
    "blocks.0.key.bias": (4,),
    "blocks.0.value.weight": (4, 4),
    "blocks.0.value.bias": (4,),
    "blocks.0.norm.weight": (4,),
    "blocks.0.norm.bias": (4,),
    "blocks.0.experts.11.up.weight": (5, 4),
}
FILE = [
    "wte.weight",
    "h.0.attn.weight",
    "h.0.attn.bias",
    "h.0.norm.weight",
    "h.0.norm.bias",
    "h.0.experts.11.up.weight",
]


def tensors() -> dict[str, Tensor]:
    return {name: torch.randn(shape) for name, shape in OURS.items()}


def faults(names: list[str], expected: list[str] | None = None, prefix: str = "") -> list[str]:
    return match(RULES, names, list(OURS) if expected is None else expected, prefix)[1]


@pytest.mark.parametrize(
    ("name", "pattern", "numbers"),
    [
        ("h.3.ln_1.weight", "h.{n}.ln_1.weight", {"n": "3"}),
        ("h.3.experts.12.up", "h.{n}.experts.{m}.up", {"n": "3", "m": "12"}),
        ("3.up", "{n}.up", {"n": "3"}),
        ("a.1.2.3.b", "a.{n}.{m}.3.b", {"n": "1", "m": "2"}),
        ("layer1.weight", "layer1.weight", {}),
        ("h.1", "h.1", {}),
        ("RNN_0/RNN/MultiRNNCell/Cell1/LSTMCell/W_P_0", "RNN_0/RNN/MultiRNNCell/Cell{n}/LSTMCell/W_P_0", {"n": "1"}),
        ("CNN_high_12/b_carry", "CNN_high_{n}/b_carry", {"n": "12"}),
        ("CNN/W_cnn_6", "CNN/W_cnn_{n}", {"n": "6"}),
        ("h.\u0661.weight", "h.\u0661.weight", {}),
    ],
)
def test_template(name: str, pattern: str, numbers: dict[str, str]):
    assert template(name) == (pattern, numbers)


def test_numbers_spelled_out():
    """A rule may name the later numbers itself, or all of them."""
    rules = [
        Rule("h.{n}.layer.0.norm", "blocks.{n}.first"),
        Rule("h.{n}.layer.1.norm", "blocks.{n}.second"),
        Rule("h.0.layer.0.table", "table"),
    ]
    names = ["h.0.layer.0.norm", "h.12.layer.1.norm", "h.0.layer.0.table"]
    ours = ["blocks.0.first", "blocks.12.second", "table"]
    found, wrong = match(rules, names, ours)
    assert wrong == []
    assert [(one.theirs, *one.names) for one in found] == list(zip(names, ours, strict=True))
    assert list(write(rules, {name: torch.ones(1) for name in ours})) == names
    _, wrong = match(rules, [*names, "h.1.layer.2.norm", "h.1.layer.0.table", "h.{n}.layer.0.norm"], ours)
    assert wrong == [
        "tensors without a place in this model (3): h.1.layer.0.table, h.1.layer.2.norm, h.{n}.layer.0.norm"
    ]


def test_an_optional_name_gives_way():
    rules = [Rule("a", "x", optional=True), Rule("b", "x", optional=True), Rule("c", "x"), Rule("d", "x")]
    for names, kept in ((["a", "b", "c"], "c"), (["c", "a"], "c"), (["a", "b"], "b"), (["a"], "a")):
        found, wrong = match(rules, names, ["x"])
        assert wrong == []
        assert [one.theirs for one in found] == [kept]
    assert match(rules, ["a", "c", "d"], ["x"])[1] == ["tensors given twice (1): d"]


def test_a_name_that_depends_on_another_tensor():
    """T5 calls one and the same matrix by another name where there is a gate beside it."""
    rules = [
        Rule("{n}.wi", "{n}.up"),
        Rule("{n}.wi_0", "{n}.gate"),
        Rule("{n}.wi_1", "{n}.up", beside="{n}.gate"),
    ]
    up, gate = torch.ones(1), torch.zeros(1)
    assert write(rules, {"0.up": up, "1.up": up, "1.gate": gate}) == {"0.wi": up, "1.wi_1": up, "1.wi_0": gate}
    assert match(rules, ["0.wi"], ["0.up"])[1] == match(rules, ["0.wi_0", "0.wi_1"], ["0.gate", "0.up"])[1] == []


def test_there_and_back_bit_for_bit():
    own = tensors() | {"head.dense.weight": torch.randn(4, 4), "head.dense.bias": torch.randn(4)}
    published = write(RULES, own)
    assert sorted(published) == sorted([*FILE, "pooler.weight", "pooler.bias"])
    assert tuple(published["h.0.attn.weight"].shape) == (4, 12)
    assert all(tensor.is_contiguous() for tensor in published.values())
    found, wrong = match(RULES, published, OURS)
    assert wrong == []
    back = {name: part for one in found for name, part in one.parts(published[one.theirs])}
    assert back.keys() == own.keys()
    assert all(torch.equal(back[name], own[name]) for name in own)
    for one in found:
        shapes = {one.shapes(published[one.theirs].shape)}
        assert shapes == {tuple(own[name].shape) for name in one.names}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (FILE, []),
        ([f"model.{name}" for name in FILE], []),
        ([*FILE, "h.0.attn.mask", "model.h.0.attn.mask"], []),
        ([*FILE, "pooler.weight"], []),
        (
            [*FILE[1:], "stranger", "h.1.norm.bias"],
            ["without a place in this model (2): h.1.norm.bias, stranger", "missing (1): wte.weight"],
        ),
        ([*FILE[:1], *FILE[2:]], ["missing (1): h.0.attn.weight"]),
        ([*FILE, "model.h.0.attn.bias"], ["given twice (1): h.0.attn.bias"]),
        ([*FILE, "h.{n}.norm.weight"], ["without a place in this model (1): h.{n}.norm.weight"]),
        ([*FILE, "h.{x}.norm.weight", "h.{}"], ["without a place in this model (2): h.{x}.norm.weight, h.{}"]),
        ([*FILE, "h.00.norm.weight"], ["without a place in this model (1): h.00.norm.weight"]),
        ([*FILE, "two\nlines", ""], ["without a place in this model (2): '', 'two\\nlines'"]),
        ([], ["missing (6): " + ", ".join(sorted(FILE))]),
    ],
)
def test_every_fault_at_once(names: list[str], expected: list[str]):
    found = faults(names, prefix="model.")
    assert found == [f"tensors {fault}" for fault in expected]
    assert "\n" not in "".join(found)


def test_a_weight_without_any_rule_is_missing_under_our_name():
    assert faults(FILE, [*OURS, "extra.7.scale"]) == ["tensors missing (1): extra.7.scale"]


def test_a_joint_tensor_that_does_not_divide_keeps_its_shape():
    found, _ = match(RULES, ["h.0.attn.weight", "h.0.attn.bias"], OURS)
    weight, bias = found
    assert weight.shapes((4, 12)) == (4, 4)
    assert weight.shapes((4, 13)) == (13, 4)
    assert (bias.shapes((12,)), bias.shapes(())) == ((4,), ())


def test_parts_joined_along_their_inputs():
    """As an LSTM's matrix for its input and for its last output, stored (inputs, outputs)."""
    rules = [Rule("cell.{n}.W", ("cell.{n}.input", "cell.{n}.last"), transposed=True, axis=1)]
    ours = {"cell.0.input": torch.randn(6, 2), "cell.0.last": torch.randn(6, 2)}
    stored = write(rules, ours)["cell.0.W"]
    assert torch.equal(stored, torch.cat([ours["cell.0.input"].t(), ours["cell.0.last"].t()]))
    (found,), missing = match(rules, ["cell.0.W"], list(ours))
    assert not missing
    assert (found.shapes((4, 6)), found.shapes((5, 6)), found.shapes((6,))) == ((6, 2), (6, 5), (6,))
    assert all(torch.equal(part, ours[name]) for name, part in found.parts(stored))


def test_what_a_family_cannot_hold_is_named():
    with pytest.raises(ModelError, match=r"no published name for adapter\.down, blocks\.0\.gate: this family cannot"):
        write(RULES, {**tensors(), "blocks.0.gate": torch.ones(1), "adapter.down": torch.ones(1)})


def test_a_joint_tensor_needs_all_its_parts():
    own = tensors()
    del own["blocks.0.key.weight"]
    with pytest.raises(ModelError, match=r"h\.0\.attn\.weight lacks blocks\.0\.key\.weight"):
        write(RULES, own)


def test_many_tensors_take_no_quadratic_time():
    """A header may hold some hundred thousand names; each of these steps must pass over them only a few times."""
    names = [f"h.{number}.norm.weight" for number in range(100_000)]
    expected = [f"blocks.{number}.norm.weight" for number in range(100_000)]
    found, wrong = match(RULES, names, expected)
    assert (len(found), wrong) == (100_000, [])


FOLDED = [
    Rule("h.{n}.q", "blocks.{n}.query", transposed=True, folded="blocks.{n}.bias"),
    Rule("h.{n}.o", "blocks.{n}.output", folded="blocks.{n}.bias"),
    Rule("h.{n}.b", "blocks.{n}.bias"),
]


def test_folded_dimensions_there_and_back_bit_for_bit():
    """Three heads of two: the file has (inputs, heads, head size)."""
    own = {
        "blocks.0.query": torch.randn(6, 5),
        "blocks.0.output": torch.randn(5, 6),
        "blocks.0.bias": torch.randn(3, 2),
    }
    published = write(FOLDED, own)
    assert {name: tuple(one.shape) for name, one in published.items()} == {
        "h.0.q": (5, 3, 2),
        "h.0.o": (5, 3, 2),
        "h.0.b": (3, 2),
    }
    assert torch.equal(published["h.0.q"][4, 1], own["blocks.0.query"][2:4, 4])
    assert torch.equal(published["h.0.o"][4, 1], own["blocks.0.output"][4, 2:4])
    found, wrong = match(FOLDED, published, own)
    assert wrong == []
    for one in found:
        assert one.folded == ("" if one.theirs == "h.0.b" else "blocks.0.bias")
        ((name, part),) = one.parts(published[one.theirs])
        assert torch.equal(part, own[name])
        assert one.shapes(published[one.theirs].shape) == tuple(own[name].shape)
        assert one.shapes(()) == ()


def test_a_folded_tensor_needs_the_one_that_says_how():
    with pytest.raises(ModelError, match=r"h\.0\.q lacks blocks\.0\.bias"):
        write(FOLDED, {"blocks.0.query": torch.randn(6, 5)})


def test_prefixed():
    assert [rule.theirs for rule in prefixed(linear("norm", "norm"), "bert.")] == ["bert.norm.weight", "bert.norm.bias"]
