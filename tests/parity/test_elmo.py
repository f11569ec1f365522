"""ELMo from its published files: the reference activations of bilm-tf, and the formulas written out in numpy."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import elmo_files
import numpy as np
import pytest
import torch
from elmo_files import OPTIONS, arrays, changed, layer_states, write

import graft
from graft import checkpoint
from graft.batch import pack
from graft.errors import DataError, ModelError, UsageError
from graft.model.recurrent import State
from graft.text.characters import character_ids

SENTENCES = [
    ["The", "cat", "sat", "."],
    ["Naïve", "日本", "x" * 60, "a"],
    ["Yes"],
    ["It", "is", "so", "very", "much", "longer"],
]
VARIANTS: dict[str, dict[str, Any]] = {
    "skip": {},
    "plain": {"use_skip_connections": False, "n_layers": 1, "n_highway": 0},
    "tanh": {"activation": "tanh"},
    "three": {"n_layers": 3, "cell_clip": 0.2},
    "unprojected": {"dim": 6},
    "unprojected_words": {"projection_dim": 12, "dim": 14},
}
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "elmo", OPTIONS, arrays(OPTIONS))


@pytest.fixture
def model(folder: Path) -> graft.Model:
    return graft.load(folder, "float32")


@pytest.fixture(scope="session")
def published(shared_data: Path) -> Path:
    place = shared_data / "models" / "bilm_tf_fixtures" / "model"
    if not place.is_dir():
        pytest.skip(f"no reference activations: {place} does not exist")
    return place


def expected_tops(published: Path) -> list[list[np.ndarray[Any, Any]]]:
    """For each of the three files, the top layer of its sentences: (direction, words, size) -> (words, D)."""
    files = [elmo_files.read(published / f"lm_embeddings_{number}.hdf5") for number in range(3)]
    return [[np.concatenate(list(file[str(n)]), axis=-1) for n in range(len(file))] for file in files]


def test_the_published_activations(published: Path):
    """bilm-tf's numbers: file k is slot k of ten batches of three sentences, the states carried along."""
    sentences = json.loads((published / "lm_embeddings_sentences.json").read_text())
    model, state, expected = graft.load(published, "float32"), State(), expected_tops(published)
    assert [len(one) for one in expected] == [len(one) for one in sentences] == [10, 10, 10]
    for number in range(10):
        batch = [sentences[slot][number].split() for slot in range(3)]
        found = model.hidden_states(batch, layers=True, state=state)
        for slot in range(3):
            assert found[slot].shape == (3, len(batch[slot]), 32)
            torch.testing.assert_close(found[slot][-1], torch.from_numpy(expected[slot][number]), **CLOSE)


def test_the_published_activations_need_the_state(published: Path):
    sentences = json.loads((published / "lm_embeddings_sentences.json").read_text())
    model, expected = graft.load(published, "float32"), expected_tops(published)
    firsts = model.hidden_states([sentences[slot][0].split() for slot in range(3)])
    for slot in range(3):
        torch.testing.assert_close(firsts[slot], torch.from_numpy(expected[slot][0]), **CLOSE)
    later = model.hidden_states([sentences[0][9].split()])[0]
    assert (later - torch.from_numpy(expected[0][9])).abs().max() > 0.01


def test_the_published_files_come_back(published: Path, tmp_path: Path):
    out = graft.load(published, "float32").save(tmp_path / "out")
    assert json.loads((out / "options.json").read_text()) == json.loads((published / "options.json").read_text())
    same(elmo_files.read(published / "lm_weights.hdf5"), elmo_files.read(out / "lm_weights.hdf5"))


def same(before: elmo_files.Arrays, after: elmo_files.Arrays) -> None:
    assert before.keys() == after.keys()
    for name, values in before.items():
        assert (values.dtype, values.shape, values.tobytes()) == (
            after[name].dtype,
            after[name].shape,
            after[name].tobytes(),
        ), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_layer_as_the_formulas_say(tmp_path: Path, variant: str):
    options = changed(**VARIANTS[variant])
    weights = arrays(options)
    model, state = graft.load(write(tmp_path / "elmo", options, weights), "float32"), State()
    alone = model.hidden_states(SENTENCES, layers=True)
    states: list[dict[Any, Any]] = [{} for _ in SENTENCES]
    for turn in range(2):
        found = model.hidden_states(SENTENCES, layers=True, state=state)
        for number, words in enumerate(SENTENCES):
            expected = torch.from_numpy(layer_states(words, options, weights, states[number])).float()
            torch.testing.assert_close(found[number], expected, **CLOSE)
            if turn == 0:
                torch.testing.assert_close(alone[number], expected, **CLOSE)
    assert model.hidden_states([["a"]], layers=True)[0].shape == (
        options["lstm"]["n_layers"] + 1,
        1,
        2 * options["lstm"]["projection_dim"],
    )


def test_clipping_matters_in_these_tests(folder: Path):
    free = changed(cell_clip=1e5, proj_clip=1e5)
    clipped = graft.load(folder, "float32").hidden_states(SENTENCES)
    (folder / "options.json").write_text(json.dumps(free))
    assert (graft.load(folder, "float32").hidden_states(SENTENCES)[0] - clipped[0]).abs().max() > 0.01


@pytest.mark.parametrize("variant", VARIANTS)
def test_saved_as_it_was_published(tmp_path: Path, variant: str):
    options = changed(**VARIANTS[variant])
    folder = write(tmp_path / "elmo", options, arrays(options))
    out = graft.load(folder, "float32").save(tmp_path / "out")
    assert json.loads((out / "options.json").read_text()) == options
    same(elmo_files.read(folder / "lm_weights.hdf5"), elmo_files.read(out / "lm_weights.hdf5"))
    again = graft.load(out, "float32").hidden_states(SENTENCES)
    assert all(map(torch.equal, again, graft.load(folder, "float32").hidden_states(SENTENCES)))


def test_options_of_bilm_tf_that_are_not_needed(folder: Path):
    published = OPTIONS | {"bidirectional": True, "dropout": 0.1, "n_tokens_vocab": 793471, "unroll_steps": 20}
    before = graft.load(folder, "float32").hidden_states(SENTENCES)
    (folder / "options.json").write_text(json.dumps(published))
    assert all(map(torch.equal, before, graft.load(folder, "float32").hidden_states(SENTENCES)))


def test_the_only_other_file_of_weights_will_do(folder: Path):
    (folder / "lm_weights.hdf5").rename(folder / "elmo_2x4096_weights.hdf5")
    assert len(graft.load(folder, "float32").hidden_states(SENTENCES)) == 4
    (folder / "second.hdf5").write_bytes(b"")
    with pytest.raises(ModelError, match="or a single .*hdf5; found: elmo_2x4096_weights.hdf5, second.hdf5"):
        graft.load(folder, "float32")


def test_without_state_every_sequence_is_alone(model: graft.Model):
    """Also from call to call, and in any order."""
    together = model.hidden_states(SENTENCES)
    for order in itertools.permutations(range(4)):
        mixed = model.hidden_states([SENTENCES[number] for number in order])
        for place, number in enumerate(order):
            torch.testing.assert_close(mixed[place], together[number], rtol=0, atol=1e-6)
    for words, expected in zip(SENTENCES, together, strict=True):
        torch.testing.assert_close(model.hidden_states([words])[0], expected, rtol=0, atol=1e-6)


def test_character_ids_in_place_of_words(model: graft.Model):
    ids = [character_ids(number, words) for number, words in enumerate(SENTENCES)]
    found, expected = model.hidden_states(ids), model.hidden_states(SENTENCES)
    for whole, inner in zip(found, expected, strict=True):
        assert len(whole) == len(inner) + 2
        torch.testing.assert_close(whole[1:-1], inner, rtol=0, atol=1e-6)
    arrayed = model.hidden_states([np.array(one) for one in ids])
    assert all(map(torch.equal, arrayed, found))


def test_other_dtypes(folder: Path, tmp_path: Path):
    exact, model = graft.load(folder, "float32"), graft.load(folder, "bfloat16")
    for rough, fine in zip(model.hidden_states(SENTENCES), exact.hidden_states(SENTENCES), strict=True):
        assert rough.dtype == torch.bfloat16
        torch.testing.assert_close(rough.float(), fine, rtol=0, atol=0.05)
    again = graft.load(model.save(tmp_path / "out"), "bfloat16")  # bfloat16 is written as float32, which holds it
    assert all(map(torch.equal, again.hidden_states(SENTENCES), model.hidden_states(SENTENCES)))


def test_gradients_reach_every_weight(model: graft.Model):
    model.train()
    ids = [character_ids(number, words) for number, words in enumerate(SENTENCES)]
    state = State()
    with torch.inference_mode():
        model.backbone(pack(ids), cache=state)
    for _ in range(2):  # what is carried over holds no graph that a second backward pass would meet again
        model.backbone(pack(ids), cache=state).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        (["The cat"], r"sequence 0 is text, expected a list of words; text\.split\(\)"),
        ([["a"], []], "sequence 1 has no words"),
        ([["a", ""]], "sequence 0, word 0: found 'a', expected words that are not empty"),
        ([[[1, 2, 3]]], r"sequence 0, word 0: found \[1, 2, 3\], expected .* its 50 character ids"),
        ([[5]], "sequence 0, word 0: found 5, expected"),
        ([[[0] * 50]], "sequence 0, word 0 has ids from 0 to 0, expected each from 1 to 261"),
        ([[[1] * 50, [262] * 50]], "sequence 0, word 1 has ids from 262 to 262"),
    ],
)
def test_what_is_no_sequence_of_words(model: graft.Model, sequences: list[Any], message: str):
    with pytest.raises(DataError, match=message):
        model.hidden_states(sequences)


def test_batches_of_the_wrong_kind(model: graft.Model, tiny):
    with pytest.raises(DataError, match=r"ids of shape \[2\], expected 50 characters for each word"):
        model.backbone(pack([[1, 2]]))
    bert = graft.load(tiny("bert").folder, "float32")
    with pytest.raises(DataError, match=r"ids of shape \[1, 2\], expected one number for each token"):
        bert.backbone(pack([[[1, 2]]]))
    with pytest.raises(UsageError, match="bert models carry no state from batch to batch"):
        bert.hidden_states([[1, 2]], state=State())


def test_layers_of_any_family(tiny):
    bert = tiny("bert")
    model = graft.load(bert.folder, "float32")
    sequences = [[5, 6, 7], [8]]
    for ids, found in zip(sequences, model.hidden_states(sequences, layers=True), strict=True):
        with torch.no_grad():
            theirs = bert.theirs(torch.tensor([ids]), output_hidden_states=True).hidden_states
        torch.testing.assert_close(found, torch.cat(theirs), rtol=0, atol=1e-5)


def test_the_weights_stay_pages_of_the_file(folder: Path):
    """What needs no other layout is not copied on loading."""
    seen = checkpoint.inspect(folder)
    assert {one.file.name for one in seen.shards.entries.values()} == {"lm_weights.hdf5"}
    loaded = checkpoint.load(folder, dtype=torch.float32).backbone.state_dict()
    assert torch.equal(loaded["token_embedding.weight"], seen.shards.tensor("char_embed"))


def test_text_is_refused_with_the_way_to_go(model: graft.Model):
    with pytest.raises(ModelError, match=r"reads words, not text; ask for hidden_states\(\[text\.split\(\)\]\)"):
        model.embed(["The cat"])


def test_a_vocabulary_beside_the_weights_is_no_tokenizer(folder: Path, tmp_path: Path):
    """bilm-tf keeps a list of words beside its models; what Graft saves does not need it."""
    (folder / "vocab.txt").write_text("</S>\n<S>\n<UNK>\nthe\n")
    out = graft.load(folder, "float32").save(tmp_path / "out")
    assert sorted(path.name for path in out.iterdir()) == ["graft.json", "lm_weights.hdf5", "options.json"]
