"""What training makes small: the sum of losses computed by hand and by transformers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from graft import tasks
from graft.batch import Packed
from graft.errors import UsageError
from graft.grafted import Model
from graft.loading import load
from graft.model.mixture import balance_loss
from graft.recipes.adapt import Adapted, Plan, adapt
from graft.recipes.watch import Watch
from graft.tasks import Row
from graft.train import objectives
from graft.train.example import Example, packed, task_loss
from graft.train.loop import Schedule, train
from graft.train.objectives import KEPT, MASKED, REPLACED, Language, Objective, language
from graft.train.optimizer import AdamW
from graft.transfer.full import Full

SEQUENCES = ([5, 9, 7, 33, 12, 13], [8, 41, 6, 22, 11, 10, 60, 61, 62, 30], [7, 55])
ROWS = [
    Row((text,), label, line)
    for line, (text, label) in enumerate([("aab", "x"), ("bb a", "y"), ("cac", "x"), ("ddd", "y")] * 3, 1)
]


def prepared(folder: Any, weight: float = 0.5) -> tuple[Model, Objective, list[Example]]:
    """A model with a fresh classifier in place of its language head, which goes on beside it."""
    torch.manual_seed(1)
    model = load(folder, "float32")
    objective = Objective(language(model, weight))
    model.graft("classify", labels=("a", "b", "c"))
    rows = [Example((sequence,), (None,), torch.tensor(number), number) for number, sequence in enumerate(SEQUENCES)]
    return model, objective, rows


def without_dropout(model: Model) -> Model:
    for layer in model.modules():
        if hasattr(layer, "rate"):
            layer.rate = 0.0
    return model


def their_loss(theirs: Any, ids: list[int], labels: Tensor) -> float:
    with torch.no_grad():
        return float(theirs(input_ids=torch.tensor([ids]), labels=labels[None]).loss)


@pytest.mark.parametrize("name", ["gpt2-lm", "gpt2-untied", "openai_gpt-lm", "llama-lm", "qwen3-lm", "mixtral-lm"])
def test_next_tokens_beside_a_task(tiny: Callable[..., Any], name: str):
    made = tiny(name)
    model, objective, rows = prepared(made.folder)
    each = [their_loss(made.theirs, ids, torch.tensor(ids)) for ids in SEQUENCES]
    expected = task_loss(model, rows).item() + 0.5 * sum(each) / len(each)
    assert objective(model, rows).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["bert-mask", "roberta-mask", "distilbert-mask_untied", "bert-pretrain"])
def test_masks_filled_beside_a_task(tiny: Callable[..., Any], name: str):
    made = tiny(name)
    model, objective, rows = prepared(made.folder)
    batch, seen = packed(model, rows)[0], []
    torch.manual_seed(4)
    picked = objective.language._picked(batch)  # type: ignore[union-attr]
    model.backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    torch.manual_seed(4)
    total = objective(model, rows)
    assert len(seen) == 2, "the text and its corrupted copy"
    labels_T = torch.full_like(batch.ids_T, -100).index_put((picked,), batch.ids_T[picked])
    parts = zip(seen[1].ids_T.split(batch.lengths), labels_T.split(batch.lengths), strict=True)
    theirs = made.theirs
    if name == "bert-pretrain":
        import transformers

        theirs = transformers.BertForMaskedLM.from_pretrained(made.folder)
    each = [their_loss(theirs, ids.tolist(), labels) for ids, labels in parts]
    assert total.item() == pytest.approx(task_loss(model, rows).item() + 0.5 * sum(each) / len(each), abs=1e-5)


def test_which_tokens_are_asked_for_and_what_stands_there(tiny: Callable[..., Any]):
    model, objective, _ = prepared(tiny("bert-mask", max_position_embeddings=2100).folder)
    told: Language = objective.language  # type: ignore[assignment]
    ids = torch.randint(5, 90, (2000,)).tolist()
    rows = [Example(([2, *ids, 3], [2, 30, 3]), (None, None), torch.tensor(0), 1) for _ in range(4)]
    batch, seen = packed(model, rows)[0], []
    model.backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    asked = told._masked(model, batch)
    copy: Packed = seen[0]
    counts = torch.bincount(asked.owner_N, minlength=8).tolist()
    assert counts == [MASKED * 2000, 1] * 4
    assert not set(asked.targets_N.tolist()) & {0, 1, 2, 3, 4}
    untouched = torch.ones(len(batch.ids_T), dtype=torch.bool).index_fill(0, asked.rows_N, False)
    assert torch.equal(copy.ids_T[untouched], batch.ids_T[untouched])
    now = copy.ids_T[asked.rows_N]
    assert (now == 4).float().mean().item() == pytest.approx(REPLACED, abs=0.04)
    assert (now == asked.targets_N).float().mean().item() == pytest.approx(KEPT, abs=0.03)


def test_gradients_reach_both_heads_and_all_rows_of_the_embedding(tiny: Callable[..., Any]):
    model, objective, rows = prepared(tiny("bert").folder)
    groups = [*Full().begin(model), *objective.groups(model)]
    objective(model, rows).backward()
    learning = [parameter for group in groups for parameter in group.parameters]
    assert len({id(parameter) for parameter in learning}) == len(learning)
    head = objective.language.head  # type: ignore[union-attr]
    assert head.output.weight is model.backbone.token_embedding.weight
    assert {id(head.transform.weight), id(head.bias)} <= {id(one) for one in groups[-1].parameters}  # type: ignore[union-attr,operator]
    assert all(parameter.grad is not None for parameter in learning)
    gradient = model.backbone.token_embedding.weight.grad
    assert gradient is not None
    assert (gradient.abs().sum(1) > 0).all(), "the output matrix is the embedding"


def test_a_step_in_parts_is_the_same_step(tiny: Callable[..., Any]):
    reached = []
    for tokens in (1, 100):
        model, objective, rows = prepared(tiny("gpt2-lm").folder)
        optimizer = AdamW([*Full().begin(without_dropout(model)), *objective.groups(model)])
        step = next(train(model, rows, optimizer, Schedule(epochs=1, batch_size=3, tokens=tokens), objective))
        reached.append((step.loss, step.gradient_norm))
    assert reached[0] == pytest.approx(reached[1], rel=1e-4)


def test_tagged_rows_count_by_their_targets(tiny: Callable[..., Any]):
    """Also where rows have several targets, a step in parts is the same step."""
    reached = []
    for tokens in (1, 100):
        torch.manual_seed(2)
        model = without_dropout(load(tiny("gpt2-lm").folder, "float32"))
        objective = Objective(language(model, 0.5))
        model.graft("tag", labels=("a", "b"))
        without_dropout(model)
        targets = [((0, 1, 3), [1, 0, 1]), ((4,), [0])]
        rows = [
            Example((ids,), (None,), torch.tensor(given), 1, places=places)
            for ids, (places, given) in zip(SEQUENCES, targets, strict=False)
        ]
        schedule = Schedule(epochs=1, batch_size=2, tokens=tokens)
        step = next(train(model, rows, AdamW(Full().begin(model)), schedule, objective))
        reached.append((step.loss, step.gradient_norm))
    assert reached[0] == pytest.approx(reached[1], rel=1e-4)


@pytest.mark.parametrize(
    "name",
    ["distilbert", "xlm_roberta-mask", "qwen2", "mistral-lm", "mixtral", "qwen2_moe-lm", "gpt2-classify", "llama-tied"],
)
def test_every_family_that_can_learns_beside_it(tiny: Callable[..., Any], name: str):
    model, done = run(tiny(name).folder, auxiliary=0.5)
    assert done.auxiliary == 0.5
    assert all(step["loss"] < 100 for step in done.steps)
    assert model.answer("aab").label in ("x", "y")  # type: ignore[union-attr]
    assert {key.partition(".")[0] for key in model.state_dict()} == {"backbone", "head"}


def test_logits_in_pieces_are_the_same(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    found = []
    for chunk in (objectives.CHUNK, 4):
        monkeypatch.setattr(objectives, "CHUNK", chunk)
        model, objective, rows = prepared(tiny("gpt2-untied").folder)
        loss = objective(model, rows)
        loss.backward()
        gradient = model.backbone.token_embedding.weight.grad
        assert gradient is not None
        found.append((loss.item(), gradient))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1])


@pytest.mark.parametrize("name", ["mixtral-lm", "qwen2_moe-lm"])
def test_experts_are_kept_in_balance(tiny: Callable[..., Any], name: str):
    model, _, rows = prepared(tiny(name).folder)
    without_dropout(model).train()
    plain, experts = task_loss(model, rows), model.backbone.config.experts
    uneven = balance_loss(model.backbone)
    assert uneven is not None
    assert experts is not None
    total = Objective()(model, rows)
    assert total.item() == pytest.approx((plain + experts.balance * uneven).item(), abs=1e-6)
    model.backbone.config = dataclasses.replace(model.backbone.config, experts=dataclasses.replace(experts, balance=0))
    assert Objective()(model, rows).item() == pytest.approx(plain.item(), abs=1e-6)
    total.backward()
    router = next(value for key, value in model.backbone.named_parameters() if key.endswith("router.weight"))
    assert router.grad is not None
    assert router.grad.abs().sum() > 0


def run(folder: Any, **plan: Any) -> tuple[Model, Adapted]:
    model = load(folder, "float32")
    chosen = Plan(**{"epochs": 1, "batch_size": 4, "dtype": "float32", **plan})
    return model, adapt(model, tasks.find("classify"), ROWS, chosen, Watch(quiet=True))


@pytest.mark.parametrize("name", ["bert-mask", "gpt2-lm"])
def test_a_weight_of_zero_is_none_to_the_last_bit(tiny: Callable[..., Any], name: str):
    states = [run(tiny(name).folder, auxiliary=weight)[0].state_dict() for weight in (None, 0.0, 0.5)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["head.output.weight"], states[2]["head.output.weight"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gpt_1_has_it_unless_told_otherwise(tiny: Callable[..., Any], dtype: str):
    folder = tiny("openai_gpt-lm").folder
    assert run(folder, dtype=dtype)[1].auxiliary == 0.5
    assert run(folder, auxiliary=0.0)[1].auxiliary == 0
    model, done = run(tiny("bert").folder, auxiliary=0.25, dtype=dtype)
    assert done.auxiliary == 0.25
    assert model.dtype == torch.float32
    assert run(folder, strategy="probe")[1].auxiliary == 0


def test_the_language_model_learns(tiny: Callable[..., Any]):
    """With much weight on it, next tokens of the texts are told better than before."""
    folder = tiny("gpt2-lm").folder
    _, done = run(folder, auxiliary=5.0, epochs=8, learning_rate=3e-3, batch_size=12)
    assert done.steps[-1]["loss"] < 0.8 * done.steps[0]["loss"]


@pytest.mark.parametrize(
    ("name", "plan", "message"),
    [
        ("xlnet", {"auxiliary": 0.5}, "xlnet models have no auxiliary language-model loss"),
        ("t5", {"auxiliary": 0.5}, "t5 models have no auxiliary language-model loss"),
        ("bert", {"auxiliary": 0.5, "strategy": "probe"}, "strategy probe has no steps"),
        ("bert", {"auxiliary": -1.0}, "auxiliary is -1.0, expected 0 or more"),
        ("bert", {"auxiliary": float("nan")}, "auxiliary is nan"),
    ],
)
def test_where_there_can_be_none(tiny: Callable[..., Any], name: str, plan: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        run(tiny(name).folder, **plan)
