"""XLNet's own parts against transformers: segments, two streams, training steps; and what it refuses."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from side_by_side import waves_for_dropout
from torch import Tensor

from graft.batch import pack
from graft.errors import DataError, ModelError
from graft.families.xlnet import Relative
from graft.generate.cache import StaticCache
from graft.grafted import Model
from graft.heads import Embed
from graft.loading import load
from graft.model.attend import attend
from graft.model.attention import Memory
from graft.model.layout import Layout
from graft.sealed import Settings
from graft.transfer.probe import SLOPE, Probe
from graft.weights import write

LENGTHS = (7, 2, 40, 8, 23, 17)
SIZE = 96


def draw(lengths: tuple[int, ...] = LENGTHS, seed: int = 6) -> tuple[list[list[int]], list[list[int]]]:
    """Random sequences in XLNet's frame: two segments and a last token with a type of its own."""
    numbers = random.Random(seed)
    ids = [[numbers.randrange(2, SIZE) for _ in range(length)] for length in lengths]
    return ids, [[int(place >= length // 3) for place in range(length - 1)] + [2] for length in lengths]


def draw_orders(lengths: tuple[int, ...] = LENGTHS, seed: int = 7) -> tuple[list[list[int]], list[list[int]]]:
    """Of every other sequence, an order of all positions; of the others, one that leaves out half: and targets late in
    it, not in the order of the text."""
    numbers = random.Random(seed)
    orders = [numbers.sample(range(length), length if n % 2 else (length + 1) // 2) for n, length in enumerate(lengths)]
    return orders, [numbers.sample(order[1:], (len(order) + 1) // 3 or 1) for order in orders]


def permuted(length: int, order: list[int], wanted: list[int]) -> dict[str, Tensor]:
    """What transformers takes for such an order: who does not see whom, and a row for each prediction."""
    rank = {place: count for count, place in enumerate(order, 1)}
    hidden = [[rank.get(j, 0) >= max(rank.get(i, 0), 1) for j in range(length)] for i in range(length)]
    rows = torch.nn.functional.one_hot(torch.tensor(wanted), length)
    return {"perm_mask": torch.tensor([hidden]).float(), "target_mapping": rows[None].float()}


def theirs_of(theirs: Any, sequence: int) -> Any:
    ids, types = draw()
    orders, targets = draw_orders()
    given = {"input_ids": torch.tensor([ids[sequence]]), "token_type_ids": torch.tensor([types[sequence]])}
    return theirs(**given, **permuted(LENGTHS[sequence], orders[sequence], targets[sequence]))


def same_gradients(model: Model, theirs: Any) -> None:
    own = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    rules = model.family.table(type(theirs).__name__)
    found = write(rules, own)
    expected = {name: one.grad for name, one in theirs.named_parameters() if one.grad is not None}
    assert expected.keys() <= found.keys()
    assert not any(found[name].any() for name in found.keys() - expected.keys())
    for name, grad in expected.items():
        assert found[name].shape == grad.shape
        assert float((found[name] - grad).abs().max()) < 1e-4, name
        assert float(grad.abs().max()) > 0, name


def test_two_streams_and_a_training_step_on_them(tiny):
    made = tiny("xlnet-lm", dropout=0.0)
    model, orders = load(made.folder, "float32").train(), draw_orders()
    batch = pack(*draw())
    made.theirs.train().zero_grad()
    theirs = torch.cat([theirs_of(made.theirs, number).logits[0] for number in range(len(LENGTHS))])
    ours = model.head(model.backbone.predict(batch, *orders), batch)
    assert ours.shape == theirs.shape
    assert float((ours - theirs).detach().abs().max()) < 1e-5
    expected = torch.cat([torch.tensor(ids)[wanted] for ids, wanted in zip(draw()[0], orders[1], strict=True)])
    loss = model.head.loss(ours, expected)
    torch.nn.functional.cross_entropy(theirs, expected).backward()
    loss.backward()
    same_gradients(model, made.theirs)


def test_dropout_of_two_streams_acts_where_theirs_does(tiny, monkeypatch: pytest.MonkeyPatch):
    made = tiny("xlnet-lm", dropout=0.3)
    model, batch, orders = load(made.folder, "float32").train(), pack(*draw()), draw_orders()
    waves_for_dropout(monkeypatch)
    with torch.inference_mode():
        made.theirs.train()
        theirs = torch.cat([theirs_of(made.theirs, number).logits[0] for number in range(len(LENGTHS))])
        made.theirs.eval()
        ours = model.head(model.backbone.predict(batch, *orders), batch)
        without = model.eval().head(model.backbone.predict(batch, *orders), batch)
    assert float((ours - theirs).abs().max()) < 1e-5
    assert float((ours - without).abs().max()) > 1e-3


def test_a_prediction_knows_neither_its_token_nor_later_ones(tiny):
    model = load(tiny("xlnet").folder, "float32")
    ids = draw((9,))[0][0]
    order = [4, 1, 7, 2, 8]
    states = model.backbone.predict(pack([ids]), [order], [[7, 2]])
    for place in range(9):
        changed = [*ids[:place], 95 - ids[place], *ids[place + 1 :]]
        other = model.backbone.predict(pack([changed]), [order], [[7, 2]])
        same = [torch.equal(one, two) for one, two in zip(states, other, strict=True)]
        assert same == [place in (7, 2, 8), place in (2, 8)]


def test_long_sequences_through_the_fused_kernel(tiny, monkeypatch: pytest.MonkeyPatch):
    model, lengths = load(tiny("xlnet").folder, "float32"), (90, 33, 70)
    batch, orders = pack(*draw(lengths)), draw_orders(lengths)
    with torch.inference_mode():
        plain = model.backbone.predict(batch, *orders)
        monkeypatch.setattr("graft.model.attend.PLAIN_LONGEST", 8)
        fused = model.backbone.predict(batch, *orders)
    assert not torch.equal(plain, fused)
    assert float((plain - fused).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("orders", "targets", "message"),
    [
        ([[0, 1, 2]], [[1]], "1 orders and 1 lists of targets for 2 sequences"),
        ([[0, 1, 2], [0, 2]], [[1], [2]], "sequence 1: its order must name positions 0 to 1 at most once each"),
        ([[0, 1, 1], [0, 1]], [[1], [1]], "sequence 0: its order must name positions 0 to 2"),
        ([[0, 1, 2], [0, 1]], [[0], [1]], "sequence 0: position 0 must come in its order, and after another token"),
        ([[0, 1], [0, 1]], [[0], [1, 0]], "sequence 1: position 0 must come in its order, and after another token"),
        ([[0, 1], [0, 1]], [[2], [1]], "sequence 0: position 2 must come in its order"),
        ([[0, 1], [0, 1]], [[1], []], "nothing to pack: sequence 1 of 2 has no tokens"),
    ],
)
def test_orders_that_cannot_be(tiny, orders: list[list[int]], targets: list[list[int]], message: str):
    model = load(tiny("xlnet").folder, "float32")
    with pytest.raises(DataError, match=message):
        model.backbone.predict(pack([[5, 6, 7], [8, 9]]), orders, targets)


@pytest.mark.parametrize("name", ["xlnet-lm", "xlnet-classify", "xlnet-tag"])
def test_loss_and_gradients_of_a_training_step(tiny, name: str):
    """Against transformers' padding, at the left as XLNet has it."""
    made = tiny(name, dropout=0.0, summary_last_dropout=0.0)
    model = load(made.folder, "float32").train()
    ids, types = draw()
    short = [max(LENGTHS) - length for length in LENGTHS]
    target = torch.arange(len(ids)) % 3
    tokens = [[one % 3 for one in row] if name == "xlnet-tag" else row for row in ids]
    labels = torch.tensor([[-100] * pad + one for pad, one in zip(short, tokens, strict=True)])
    made.theirs.train().zero_grad()
    theirs = made.theirs(
        input_ids=torch.tensor([[0] * pad + one for pad, one in zip(short, ids, strict=True)]),
        token_type_ids=torch.tensor([[3] * pad + one for pad, one in zip(short, types, strict=True)]),
        attention_mask=torch.tensor([[0.0] * pad + [1.0] * len(one) for pad, one in zip(short, ids, strict=True)]),
        labels=target if name == "xlnet-classify" else labels,
    ).loss
    theirs.backward()
    batch = pack(ids, types)
    ours = model.head.loss(model(batch), target if name == "xlnet-classify" else torch.tensor(sum(tokens, [])))
    ours.backward()
    assert float((ours - theirs).detach().abs()) < 1e-5
    same_gradients(model, made.theirs)


@pytest.mark.parametrize("impossible", [None, [0.0, 1.0, 0.0, 1.0, 1.0, 0.0]], ids=["answers", "and none"])
@pytest.mark.parametrize("name", ["xlnet-span", "xlnet-beam"])
def test_loss_and_gradients_of_pointing_at_answers(tiny, name: str, impossible: list[float] | None):
    """One sequence at a time there: its softmax would run over the padding too."""
    made = tiny(name, dropout=0.0)
    model, batch = load(made.folder, "float32").train(), pack(*draw())
    target = torch.tensor([[length // 3, length // 2] for length in LENGTHS])
    beam, none = name == "xlnet-beam", None if impossible is None else torch.tensor(impossible)
    made.theirs.train().zero_grad()
    losses = []
    for number, (ids, types) in enumerate(zip(*draw(), strict=True)):
        given = {"input_ids": torch.tensor([ids]), "token_type_ids": torch.tensor([types])}
        given |= {"start_positions": target[number, :1], "end_positions": target[number, 1:]}
        if beam and none is not None:
            given |= {"is_impossible": none[number : number + 1], "cls_index": torch.tensor([len(ids) - 1])}
        losses.append(made.theirs(**given).loss)
    theirs = torch.stack(losses).mean()
    theirs.backward()
    if beam:
        ours = model.head(model.backbone(batch), batch, target[:, 0])
        loss = model.head.loss(ours, target, batch.lengths, none)
    else:
        loss = model.head.loss(model(batch), target, batch.lengths)
    loss.backward()
    assert float((loss - theirs).detach().abs()) < 1e-5
    same_gradients(model, made.theirs)


@pytest.mark.parametrize("lengths", [LENGTHS, (40, 1, 2, 3)], ids=["long", "shorter than starts"])
def test_the_best_spans(tiny, lengths: tuple[int, ...]):
    made = tiny("xlnet-beam")
    model, (ids, types) = load(made.folder, "float32"), draw(lengths)
    rows = model.pooled(ids, types, model.head)
    found = model.head.spans(torch.cat(rows), lengths)
    for number, length in enumerate(lengths):
        made.theirs.start_n_top, made.theirs.end_n_top = min(4, length), min(3, length)
        with torch.inference_mode():
            theirs = made.theirs(torch.tensor([ids[number]]), token_type_ids=torch.tensor([types[number]]))
        starts, share = theirs.start_top_index[0].tolist(), theirs.start_top_log_probs[0]
        ends = theirs.end_top_index[0].view(min(3, length), -1)  # of one end after another, all starts
        joint = theirs.end_top_log_probs[0].view_as(ends) * share
        expected = {
            (start, int(end)): float(joint[row, column])
            for column, start in enumerate(starts)
            for row, end in enumerate(ends[:, column])
            if end >= start
        }
        spans = {(start, end): value for start, end, value in found[number].spans}
        assert spans == pytest.approx(expected, abs=1e-5)
        assert list(spans.values()) == sorted(spans.values(), reverse=True)
        assert found[number].none == pytest.approx(float(theirs.cls_logits.sigmoid()), abs=1e-5)
        [alone] = model.pooled(ids[number : number + 1], types[number : number + 1], model.head)
        torch.testing.assert_close(alone, rows[number], rtol=0, atol=1e-5)
    made.theirs.start_n_top, made.theirs.end_n_top = 4, 3


def test_hidden_states_of_every_layer_without_types(tiny):
    made, layers = tiny("xlnet"), []
    with torch.inference_mode():
        load(made.folder, "float32").backbone(pack(draw()[0]), layers=layers)
        theirs = [made.theirs(torch.tensor([ids]), output_hidden_states=True).hidden_states for ids in draw()[0]]
    assert len(layers) == len(theirs[0]) == 4
    for number, ours in enumerate(layers):
        expected = torch.cat([one[number][0] for one in theirs])
        assert ours.shape == expected.shape
        assert float((ours - expected).abs().max()) < 1e-5, f"layer {number}"


def test_segments_matter_and_their_numbers_do_not(tiny):
    model = load(tiny("xlnet").folder, "float32")
    ids = draw((9,))[0]
    none, one, other = (model.backbone(pack(ids, kinds)) for kinds in (None, [[0] * 4 + [1] * 5], [[2] * 4 + [0] * 5]))
    assert torch.equal(one, other)
    assert float((none - one).detach().abs().max()) > 0.1


def test_dropout_is_on_in_training_alone(tiny):
    model = load(tiny("xlnet", dropout=0.3).folder, "float32")
    batch, orders = pack(*draw()), draw_orders()
    assert torch.equal(model.backbone.predict(batch, *orders), model.backbone.predict(batch, *orders))
    model.train()
    assert not torch.equal(model.backbone.predict(batch, *orders), model.backbone.predict(batch, *orders))


@pytest.mark.parametrize(
    ("entry", "value"),
    [("attn_type", "uni"), ("bi_data", True), ("clamp_len", 20), ("same_length", True), ("untie_r", False)],
)
def test_variants_that_compute_something_else(tiny, tmp_path: Path, entry: str, value: Any):
    folder = edited(tiny("xlnet").folder, tmp_path, **{entry: value})
    with pytest.raises(ModelError, match=f"{entry} is {value!r}, only "):
        load(folder)


def test_another_summary(tiny, tmp_path: Path):
    with pytest.raises(ModelError, match="summary_type is 'first', only 'last' is supported"):
        load(edited(tiny("xlnet-classify").folder, tmp_path, summary_type="first"))


def edited(folder: Path, tmp_path: Path, **entries: Any) -> Path:
    shutil.copytree(folder, tmp_path / "edited")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "edited" / "config.json").write_text(json.dumps(config | entries))
    return tmp_path / "edited"


def test_weights_split_into_other_heads(tiny, tmp_path: Path):
    """As many numbers, of which other heads would be made."""
    folder = edited(tiny("xlnet").folder, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    name = "layer.1.rel_attn.q"
    save_file(tensors | {name: tensors[name].reshape(32, 8, 4)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"q has shape \[32, 8, 4\], the configuration asks for \[32, 4, 8\]"):
        load(folder)


def test_what_looks_back_at_earlier_passes_is_handed_on(tiny, tmp_path: Path):
    model = load(edited(tiny("xlnet-classify").folder, tmp_path, mem_len=384, reuse_len=256), "float32")
    saved = json.loads((model.save(tmp_path / "out") / "config.json").read_text())
    assert (saved["mem_len"], saved["reuse_len"], saved["summary_last_dropout"]) == (384, 256, 0.2)


def test_no_longest_input(tiny, tmp_path: Path):
    model = load(tiny("xlnet-classify").folder, "float32")
    text = "a " * 600
    assert (model.limit, model(text).truncated_tokens) == (None, 0)
    assert len(model.encode([text])[0].ids) == 602
    model.settings = Settings(limit=20)
    assert (model.limit, model(text).truncated_tokens) == (20, 582)
    model = load(tiny("xlnet").folder, "float32")
    model.graft("embed")
    out = model.save(tmp_path / "out")
    assert json.loads((out / "sentence_bert_config.json").read_text())["max_seq_length"] is None
    assert load(out).limit is None


def test_special_tokens_come_last_and_types_follow(tiny):
    made = tiny("xlnet-classify")
    model = load(made.folder, "float32")
    vocabulary = {name: model.tokenizer.encode([name])[0].ids[0] for name in "abc"}
    encoding = model.encode([("a b", "c")])[0]
    special = [encoding.ids[2], encoding.ids[4], encoding.ids[5]]  # this tokenizer calls them [SEP], [SEP] and [CLS]
    assert encoding.ids == [vocabulary["a"], vocabulary["b"], special[0], vocabulary["c"], *special[1:]]
    assert special[0] == special[1] != special[2]
    assert encoding.types == [0, 0, 0, 1, 1, 2]
    with torch.inference_mode():
        theirs = made.theirs(torch.tensor([encoding.ids]), token_type_ids=torch.tensor([encoding.types])).logits
    expected = torch.softmax(theirs[0], -1).tolist()
    assert list(model(("a b", "c")).probabilities.values()) == pytest.approx(expected, abs=1e-5)


def test_it_works_alone(tiny):
    backbone = load(tiny("xlnet").folder, "float32").backbone
    batch = pack(draw()[0])
    with pytest.raises(ModelError, match="XLNet looks both ways: it has no cache of earlier tokens"):
        backbone(batch, memory=Memory(batch, backbone(batch)))
    with pytest.raises(ModelError, match="XLNet looks both ways"):
        backbone(batch, cache=StaticCache(backbone.config, slots=6, length=40, dtype=torch.float32))


def test_its_attention_knows_no_slots(tiny):
    """Whatever keeps keys and values for it: distances are told of tokens side by side alone."""
    backbone, batch = load(tiny("xlnet").folder, "float32").backbone, pack([[5, 6, 7]])
    bias = Relative(backbone.blocks[0].attention, backbone.flow(batch, 3, None, None))
    q_THK, k_BMHK = torch.ones(3, 4, 8), torch.ones(1, 6, 4, 8)
    with pytest.raises(ModelError, match="XLNet looks both ways"):
        attend(q_THK, k_BMHK, k_BMHK, Layout(batch), causal=False, scale=1.0, bias=bias)


def test_a_probe_is_a_published_classifier(tiny, tmp_path: Path):
    """The block a probe appends hands the last token the mean of all, whatever distances and segments say."""
    model, (ids, types) = load(tiny("xlnet").folder, "float32"), draw(tuple(range(3, 23)))
    means = torch.stack(model.pooled(ids, types, Embed(pool="mean", normalize=False)))
    model.graft("classify", labels=("cold", "warm"))
    Probe().solve(model, ids, types, torch.arange(len(ids)) % 2)
    theirs = type(tiny("xlnet-classify").theirs).from_pretrained(model.save(tmp_path / "out")).eval()
    with torch.inference_mode():
        features = torch.tanh(SLOPE * torch.nn.functional.layer_norm(means, means.shape[-1:], eps=1e-12))
        ours, expected = model(pack(ids, types)), model.head.output(features)
        opened = [
            theirs(torch.tensor([one]), token_type_ids=torch.tensor([kinds])).logits[0]
            for one, kinds in zip(ids, types, strict=True)
        ]
    assert float((ours - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    assert float((ours - torch.stack(opened)).abs().max()) < 1e-4 * float(expected.abs().max())
