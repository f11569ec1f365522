"""Models of an encoder and a decoder against transformers, on tiny random models it saved."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import NAMES, POSITIONS, TWO_STACKS
from torch import Tensor

from graft.batch import pack
from graft.families.t5 import T5
from graft.generate.cache import StaticCache
from graft.grafted import Model
from graft.heads import PredictNext
from graft.loading import load
from graft.model import attend
from graft.weights import write

BARE, LANGUAGE = ("t5", "mt5"), ("t5-lm", "t5-untied", "mt5-lm")
CLASSIFIERS, ENCODERS = ("t5-classify", "mt5-classify"), ("t5-encoder", "mt5-encoder")
TAGGERS, POINTERS = ("t5-tag", "mt5-tag"), ("t5-span", "mt5-span")
RAGGED = (7, 1, 40, 2, 23, 8, 7, 39, 16, 3)
ANSWERS = (3, 40, 1, 9, 22, 2, 7, 15, 39, 1)
BEYOND_PLAIN = (5, 321, 400, 2)
BEYOND_ANSWERS = (322, 4, 330, 2)
NOT_KEPT = dict.fromkeys(("dtype", "transformers_version", "problem_type", "_name_or_path"))


def draw(
    lengths: Sequence[int], seed: int = 0, *, first: int | None = None, last: int | None = None
) -> list[list[int]]:
    """Random sequences without padding (0) and the end of a sequence (1)."""
    numbers = random.Random(seed)
    drawn = [[numbers.randrange(2, 96) for _ in range(length)] for length in lengths]
    for one in drawn:
        one[:1] = one[:1] if first is None else [first]
        one[-1:] = one[-1:] if last is None else [last]
    return drawn


def alone(theirs: Any, ids: Sequence[int], answer: Sequence[int] | None = None, **options: Any) -> Any:
    given = {"input_ids": torch.tensor([ids])}
    if answer is not None:
        given["decoder_input_ids"] = torch.tensor([answer])
    with torch.inference_mode():
        return theirs(**given, **options)


def worst(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours.float() - theirs.float()).abs().max())


def backbone(model: Model) -> T5:
    assert isinstance(model.backbone, T5)
    return model.backbone


@torch.inference_mode()
def run(model: Model, sequences: list[list[int]], answers: list[list[int]]) -> tuple[list[Tensor], list[Tensor]]:
    """Every layer of both stacks, and the last hidden states after them."""
    both: tuple[list[Tensor], list[Tensor]] = [], []
    own, batch = backbone(model), pack(sequences)
    both[0].append(own(batch, layers=both[0]))
    decoder = own.decoder
    assert decoder is not None
    both[1].append(decoder(pack(answers), memory=own.remember(batch), layers=both[1]))
    return both


@pytest.mark.parametrize(
    ("lengths", "answers"), [(RAGGED, ANSWERS), (BEYOND_PLAIN, BEYOND_ANSWERS)], ids=["short", "long"]
)
@pytest.mark.parametrize("name", [*BARE, *LANGUAGE, *CLASSIFIERS, *POINTERS])
def test_hidden_states_of_every_layer_of_both_stacks(
    tiny, name: str, lengths: tuple[int, ...], answers: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(attend, "PLAIN_LONGEST", 320)
    made = tiny(name, **({"n_positions": 400} if lengths is BEYOND_PLAIN else {}))
    model = load(made.folder, "float32")
    theirs = made.theirs.transformer if name in CLASSIFIERS else made.theirs
    given = list(zip(draw(lengths), draw(answers, seed=1), strict=True))
    encoder, decoder = run(model, *(list(side) for side in zip(*given, strict=True)))
    expected = [alone(theirs, *one, output_hidden_states=True) for one in given]
    # transformers lists the last layer's states after the final norm, as `run` does; Graft those before it as well.
    for ours, states in ((encoder, "encoder_hidden_states"), (decoder, "decoder_hidden_states")):
        del ours[-2]
        other = [torch.cat(one) for one in zip(*([x[0] for x in result[states]] for result in expected), strict=True)]
        assert len(ours) == len(other)
        for number, (mine, one) in enumerate(zip(ours, other, strict=True)):
            assert worst(mine, one) < 1e-5 * max(1, float(one.abs().max())), f"{states} {number}"


@pytest.mark.parametrize("name", [*BARE, *ENCODERS, *TAGGERS])
def test_the_encoder_alone(tiny, name: str):
    made = tiny(name)
    model = load(made.folder, "float32")
    assert (backbone(model).decoder is None) == (name not in BARE)
    encoder = (made.theirs.transformer if name in TAGGERS else made.theirs).encoder
    sequences = draw(RAGGED)
    for ours, ids in zip(model.hidden_states(sequences), sequences, strict=True):
        theirs = alone(encoder, ids).last_hidden_state[0]
        assert worst(ours, theirs) < 1e-5
    assert model.embed(["a text", "two"]).shape == (2, 32)


@pytest.mark.parametrize("name", LANGUAGE)
def test_logits(tiny, name: str):
    made = tiny(name)
    model = load(made.folder, "float32")
    sequences, answers = draw(RAGGED), draw(ANSWERS, seed=1, first=0)
    found = model.logits(sequences, decoder=answers)
    for ours, ids, answer in zip(found, sequences, answers, strict=True):
        theirs = alone(made.theirs, ids, answer).logits[0]
        assert ours.dtype == torch.float32
        assert worst(ours, theirs) < 1e-5 * max(1, float(theirs.abs().max()))
        assert float(theirs.abs().max()) > 0.1


def numbers(output: Any) -> Tensor:
    """What a head that reads no answers says about one sequence."""
    if "start_logits" in output:
        return torch.stack([output.start_logits[0], output.end_logits[0]], dim=-1)
    return output.logits[0]


@pytest.mark.parametrize("name", [*CLASSIFIERS, *TAGGERS, *POINTERS])
def test_heads_that_read_no_answers(tiny, name: str):
    made = tiny(name)
    sequences = draw(RAGGED, last=1)
    for ours, ids in zip(load(made.folder, "float32").logits(sequences), sequences, strict=True):
        theirs = numbers(alone(made.theirs, ids))
        assert worst(ours, theirs) < 1e-5
        assert float(theirs.abs().max()) > 0.1


@pytest.mark.parametrize("name", TAGGERS)
def test_labels_of_tokens_have_their_names(tiny, name: str):
    assert load(tiny(name).folder, "float32").head.labels == NAMES


def test_heads_are_those_of_the_files(tiny):
    scales = {name: load(tiny(name).folder, "float32").head for name in LANGUAGE}
    assert all(isinstance(head, PredictNext) for head in scales.values())
    assert {name: (head.tied, head.scale) for name, head in scales.items()} == {
        "t5-lm": (True, 32**-0.5),
        "t5-untied": (False, 1.0),
        "mt5-lm": (True, 1.0),
    }


@pytest.mark.parametrize("name", ["t5-lm", "mt5-lm", "t5-tag", "t5-span"])
def test_every_length_in_one_batch_is_as_alone_in_any_order(tiny, name: str):
    model = load(tiny(name).folder, "float32")
    lengths = list(range(1, POSITIONS + 1))
    sequences = draw(lengths, seed=2)
    answers = draw(random.Random(4).sample(lengths, len(lengths)), seed=3)
    order = random.Random(5).sample(range(len(sequences)), len(sequences))
    read = name in LANGUAGE
    together = model.logits(sequences, decoder=answers if read else None)
    mixed = [answers[n] for n in order] if read else None
    shuffled = model.logits([sequences[n] for n in order], decoder=mixed)
    for number, (ids, answer) in enumerate(zip(sequences, answers, strict=True)):
        [own] = model.logits([ids], decoder=[answer] if read else None)
        assert worst(together[number], own) < 1e-5
        assert worst(shuffled[order.index(number)], own) < 1e-5


# Training


def spans(sequences: list[list[int]]) -> Tensor:
    """First and last token of an answer in each sequence."""
    return torch.tensor([[len(one) // 3, len(one) // 2] for one in sequences])


def their_loss(theirs: Any, name: str, sequences: list[list[int]], answers: list[list[int]]) -> Tensor:
    """Through transformers' padding and masks, but where its softmax would run over the padding too."""
    if name in POINTERS:
        given = zip(sequences, spans(sequences)[:, :, None], strict=True)
        each = [
            theirs(torch.tensor([ids]), start_positions=start, end_positions=end).loss for ids, (start, end) in given
        ]
        return torch.stack(each).mean()
    longest = max(map(len, sequences))
    ids = torch.tensor([one + [0] * (longest - len(one)) for one in sequences])
    mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in sequences])
    if name in CLASSIFIERS:
        return theirs(input_ids=ids, attention_mask=mask, labels=torch.arange(len(sequences)) % 3).loss
    if name in TAGGERS:
        return theirs(input_ids=ids, attention_mask=mask, labels=(ids % 3).masked_fill(mask == 0, -100)).loss
    longest = max(map(len, answers))
    labels = torch.tensor([one + [-100] * (longest - len(one)) for one in answers])
    return theirs(input_ids=ids, attention_mask=mask, labels=labels).loss


def our_loss(model: Model, name: str, sequences: list[list[int]], answers: list[list[int]]) -> Tensor:
    batch = pack(sequences)
    if name in LANGUAGE:
        read = backbone(model).shifted(pack(answers))
        return model.head.loss(model(batch, read), pack(answers).ids_T)
    if name in POINTERS:
        return model.head.loss(model(batch), spans(sequences), batch.lengths)
    return model.head.loss(model(batch), batch.ids_T % 3 if name in TAGGERS else torch.arange(5) % 3)


@pytest.mark.parametrize("name", [*LANGUAGE, *CLASSIFIERS, *TAGGERS, *POINTERS])
def test_loss_and_gradients_of_a_training_step(tiny, name: str):
    made = tiny(name, dropout_rate=0.0, classifier_dropout=0.0)
    model = load(made.folder, "float32").train()
    sequences, answers = draw((7, 2, 40, 8, 23), last=1), draw((5, 30, 1, 8, 2), seed=1)
    made.theirs.zero_grad()
    theirs = their_loss(made.theirs.train(), name, sequences, answers)
    theirs.backward()
    ours = our_loss(model, name, sequences, answers)
    ours.backward()
    assert worst(ours.detach(), theirs.detach()) < 1e-5
    own = {name: parameter.grad for name, parameter in model.named_parameters()}
    found = write(model.family.table(type(made.theirs).__name__), own)
    expected = {name: parameter.grad for name, parameter in made.theirs.named_parameters()}
    if name == "t5-lm":
        assert "lm_head.weight" not in expected
    assert found.keys() == expected.keys()
    for tensor, grad in expected.items():
        assert worst(found[tensor], grad) < 1e-4 * max(1, float(grad.abs().max())), tensor
        assert float(grad.abs().max()) > 0, tensor


def test_dropout_is_on_in_training_alone(tiny):
    model = load(tiny("t5-lm", dropout_rate=0.3).folder, "float32")
    batch, read = pack(draw((7, 9))), pack(draw((3, 4)))
    assert torch.equal(model(batch, read), model(batch, read))
    model.train()
    assert not torch.equal(model(batch, read), model(batch, read))
    final = backbone(model)(batch)
    assert 0.1 < float((final == 0).float().mean()) < 0.5


# Files


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", TWO_STACKS)
def test_written_as_read(tiny, tmp_path: Path, name: str, dtype: torch.dtype):
    made = tiny(name)
    source = made.folder
    if dtype != torch.float32:
        source = tmp_path / "source"
        type(made.theirs).from_pretrained(made.folder, dtype=dtype).save_pretrained(source)
    out = load(source, dtype).save(tmp_path / "out")
    left, right = (load_file(folder / "model.safetensors") for folder in (source, out))
    assert left.keys() == right.keys()
    for tensor, values in left.items():
        assert values.dtype == right[tensor].dtype == dtype
        assert torch.equal(values.view(torch.uint8), right[tensor].view(torch.uint8)), tensor
    again, report = type(made.theirs).from_pretrained(out, output_loading_info=True)
    assert {what: names for what, names in report.items() if names} == {}
    if dtype == torch.float32:
        given = [draw((12,), last=1)[0]] + ([] if name in (*ENCODERS, *TAGGERS) else [draw((12,), seed=1)[0]])
        assert worst(alone(again.eval(), *given)[0], alone(made.theirs, *given)[0]) < 1e-6
    before, after = ({**model.config.to_dict(), **NOT_KEPT} for model in (made.theirs, again))
    if name.startswith("mt5"):
        after.pop("scale_decoder_outputs", None)
    if name in (*ENCODERS, *TAGGERS):
        after["num_decoder_layers"] = before["num_decoder_layers"]
    assert after == before


NEW = [(name, kind) for name in ("t5", "t5-lm", "t5-classify") for kind in ("classify", "tag", "span")]


@pytest.mark.parametrize(("name", "kind"), [*NEW, ("mt5-encoder", "tag")])
def test_a_new_head(tiny, tmp_path: Path, name: str, kind: str):
    """A decoder that taggers have no place for is left out."""
    model, labels = load(tiny(name).folder, "float32"), {} if kind == "span" else {"labels": ("cold", "warm")}
    torch.manual_seed(3)
    model.graft(kind, **labels)
    assert (backbone(model).decoder is None) == (kind == "tag")
    published = type(tiny(f"{name.partition('-')[0]}-{kind}").theirs)
    theirs, report = published.from_pretrained(model.save(tmp_path / "out"), output_loading_info=True)
    assert {what: names for what, names in report.items() if names} == {}
    assert not labels or theirs.config.id2label == {0: "cold", 1: "warm"}
    ids = draw((12,), last=1)[0]
    assert worst(model.logits([ids])[0], numbers(alone(theirs.eval(), ids))) < 1e-5


# Half precision


@pytest.mark.parametrize("name", [*BARE, *LANGUAGE])
def test_bfloat16_is_as_near_as_in_transformers(tiny, name: str):
    """No further from float32 than transformers in bfloat16 is."""
    made = tiny(name)
    theirs = type(made.theirs).from_pretrained(made.folder, dtype=torch.bfloat16).eval()
    sequences, answers = draw(RAGGED, seed=5), draw(ANSWERS, seed=6)
    reference, found = (run(load(made.folder, dtype), sequences, answers) for dtype in ("float32", "bfloat16"))
    expected = [alone(theirs, *one, output_hidden_states=True) for one in zip(sequences, answers, strict=True)]
    for stack, states in enumerate(("encoder_hidden_states", "decoder_hidden_states")):
        exact, ours = reference[stack][-1], found[stack][-1]
        other = torch.cat([one[states][-1][0] for one in expected])
        assert ours.dtype == torch.bfloat16
        ours, peer = ((one.float() - exact).pow(2).mean().sqrt() / exact.abs().max() for one in (ours, other))
        assert float(ours) < 1.2 * float(peer)


# Decoding with a cache


@torch.inference_mode()
def feed(model: Model, memory: Any, held: StaticCache, pieces: list[list[int]], start: list[int]) -> list[Tensor]:
    batch = pack(pieces, start=start)
    return list(model.head(backbone(model).decoder(batch, memory=memory, cache=held), batch).split(batch.lengths))


def cache(model: Model, slots: int) -> StaticCache:
    return StaticCache(backbone(model).decoder.config, slots, POSITIONS, dtype=model.dtype)


@pytest.mark.parametrize("name", LANGUAGE)
def test_cached_is_uncached_at_every_split(tiny, name: str):
    model = load(tiny(name).folder, "float32")
    [ids], [answer] = draw((17,)), draw((POSITIONS,), seed=1, first=0)
    [expected] = model.logits([ids], decoder=[answer])
    with torch.inference_mode():
        memory = backbone(model).remember(pack([ids]))
    for split in range(1, POSITIONS):
        held = cache(model, 1)
        [first] = feed(model, memory, held, [answer[:split]], [0])
        [second] = feed(model, memory, held, [answer[split:]], [split])
        assert worst(torch.cat([first, second]), expected) < 1e-5, split


@pytest.mark.parametrize("name", LANGUAGE)
def test_ragged_answers_one_token_at_a_time(tiny, name: str, monkeypatch: pytest.MonkeyPatch):
    """The encoder's keys and values are worked out once."""
    model = load(tiny(name).folder, "float32")
    sequences, answers = draw((9, 1, 40, 17)), draw((20, 26, 24, 22), seed=1, first=0)
    expected = model.logits(sequences, decoder=answers)
    looks = [block.memory for block in backbone(model).decoder.blocks]
    counts = [0] * len(looks)
    for number, look in enumerate(looks):
        look.key.register_forward_hook(lambda *_, number=number: counts.__setitem__(number, counts[number] + 1))
    with torch.inference_mode():
        memory, held = backbone(model).remember(pack(sequences)), cache(model, 4)
    prompts = [3, 1, 7, 2]
    given = zip(answers, prompts, strict=True)
    found = [[logits] for logits in feed(model, memory, held, [one[:n] for one, n in given], [0] * 4)]
    for step in range(17):
        at = [n + step for n in prompts]
        given = zip(answers, at, strict=True)
        for one, logits in zip(found, feed(model, memory, held, [[one[n]] for one, n in given], at), strict=True):
            one.append(logits)
    for one, whole in zip(found, expected, strict=True):
        logits = torch.cat(one)
        assert worst(logits, whole[: len(logits)]) < 1e-5
    assert counts == [1] * len(looks)
