"""`graft pull`, `graft show` and `graft doctor`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elmo_files import OPTIONS, arrays, write

from graft.cli.models import _kind
from graft.generate import native

Run = Callable[..., Any]


def test_pull_says_where_a_model_lies(graft: Run, classifier: Path):
    found = graft("pull", classifier, "--json").json
    assert found["folder"] == str(classifier)
    assert found["source"] == "folder"
    assert "model.safetensors" in found["files"]
    assert found["bytes"] == sum(path.stat().st_size for path in classifier.iterdir())
    plain = graft("pull", classifier).out.splitlines()
    assert plain[-1] == str(classifier)
    graft("pull", "./nothing").failed(1, "no such folder")
    graft("pull", classifier, "--revision", "main").failed(1, "revision")


def test_show_counts_every_parameter(graft: Run, classifier: Path, tiny: Callable[..., Any]):
    facts = graft("show", classifier, "--json").json
    parts = facts["parameters"]
    theirs = tiny("bert-classify").theirs
    assert parts["total"] == sum(parameter.numel() for parameter in theirs.parameters())
    assert parts["embeddings"] == sum(p.numel() for p in theirs.bert.embeddings.parameters())
    assert parts["blocks"] == sum(p.numel() for p in theirs.bert.encoder.parameters())
    assert parts["head"] == sum(p.numel() for p in [*theirs.bert.pooler.parameters(), *theirs.classifier.parameters()])
    assert (parts["final_norm"], parts["spare"]) == (0, 0)
    assert facts["memory_bytes"] == {
        "float32": 4 * parts["total"],
        "bfloat16": 2 * parts["total"],
        "int8": parts["total"],
    }
    assert (facts["layers"], facts["hidden_size"], facts["attention_heads"]) == (3, 32, 4)
    assert (facts["context_length"], facts["vocab_size"], facts["dtype_on_disk"]) == (40, 96, "float32")
    assert (facts["head"], facts["labels"]) == ("classify", ["no", "yes", "maybe"])
    assert (facts["tokenizer"], facts["licence"], facts["task"]) == ("WordPiece (tokenizer.json)", None, None)


def test_show_a_model_that_reads_words(graft: Run, tmp_path: Path):
    folder = write(tmp_path / "elmo", OPTIONS, arrays(OPTIONS))
    facts = graft("show", folder, "--json").json
    assert facts["parameters"]["total"] == sum(values.size for values in arrays(OPTIONS).values())
    assert (facts["family"], facts["layers"], facts["hidden_size"]) == ("elmo", 2, 12)
    assert (facts["attention_heads"], facts["context_length"], facts["limit"]) == (None, None, None)
    shown = graft("show", folder).out
    assert "LSTM from the left, LSTM from the right: 6 -> 10 cells -> 6 each" in shown
    assert re.search(r"context length +any number of words\nvocabulary +262 characters", shown)
    assert "attention:" not in shown
    assert _kind(folder) == {"type": "elmo", "supported": True}


def test_show_a_decoder_whose_head_shares_the_embedding(graft: Run, tiny: Callable[..., Any]):
    model = tiny("gpt2-lm")
    facts = graft("show", model.folder, "--json").json
    assert facts["parameters"]["total"] == sum(parameter.numel() for parameter in model.theirs.parameters())
    assert facts["parameters"]["head"] == 0
    assert facts["parameters"]["final_norm"] == 64
    assert facts["head"] == "next"
    drawn = "\n".join(facts["drawing"])
    assert "|--> norm -> attention: 4 heads of 8, sees those before it" in drawn
    untied = tiny("gpt2-untied")
    facts = graft("show", untied.folder, "--json").json
    assert facts["parameters"]["total"] == sum(parameter.numel() for parameter in untied.theirs.parameters())
    assert facts["parameters"]["head"] == 260 * 32


@pytest.mark.parametrize(
    ("name", "kind", "spare"),
    [
        ("bert-pretrain", "mask", 32 * 32 + 32 + 2 * 32 + 2),
        ("bert-mask_untied", "mask", 96),
        ("bert-tag", "tag", 0),
        ("xlnet-beam", "beam", 0),
        ("bert-lm", "next", 0),
        ("t5-span", "span", 0),
        ("t5-tag", "tag", 0),
    ],
)
def test_show_a_head_over_tokens(graft: Run, tiny: Callable[..., Any], name: str, kind: str, spare: int):
    model = tiny(name)
    facts = graft("show", model.folder, "--json").json
    assert facts["drawing"][-1] == f"head: {kind} on every token"
    assert facts["parameters"]["spare"] == spare
    assert facts["parameters"]["total"] + spare == sum(parameter.numel() for parameter in model.theirs.parameters())
    assert facts["labels"] == (["no", "yes", "maybe"] if kind == "tag" else None)


def test_show_for_people(graft: Run, base: Path):
    done = graft("show", base)
    assert done.code == 0
    rows = dict(line.split(maxsplit=1) for line in done.out.partition("\n\n")[0].splitlines())
    assert rows["layers"] == "3"
    assert rows["licence"] == "not stated in README.md"
    assert "(weights alone)" in rows["memory"]
    drawn = done.out.partition("\n\n")[2].splitlines()
    assert drawn[0] == "token + position + type embedding -> norm"
    assert [line.strip() for line in drawn].count("norm") == 2
    assert any("(3 such blocks)" in line for line in drawn)
    assert drawn[-1] == "head: none"


def test_show_a_model_without_a_longest_input(graft: Run, tiny: Callable[..., Any]):
    folder = tiny("xlnet-lm").folder
    facts = graft("show", folder, "--json").json
    assert (facts["context_length"], facts["limit"], facts["head"]) == (None, None, "next")
    assert facts["parameters"]["total"] == sum(one.numel() for one in tiny("xlnet-lm").theirs.parameters())
    shown = graft("show", folder).out
    assert "context length   no limit\n" in shown
    assert "\ntoken embedding\n" in shown


def test_show_reads_limit_licence_and_pooling(graft: Run, damaged: Path, base: Path, tmp_path: Path):
    import shutil

    folder = Path(shutil.copytree(base, tmp_path / "sentences"))
    modules = [{"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling", "Normalize")]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 24}')
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: 'apache-2.0'\n---\nlicense: none of this\n")
    facts = graft("show", folder, "--json").json
    assert (facts["limit"], facts["licence"], facts["head"]) == (24, "apache-2.0", "embed")
    assert facts["drawing"][-1] == "head: embed on the mean of the tokens"
    assert "40 tokens, texts cut at 24" in graft("show", folder).out
    (folder / "README.md").write_text("no front matter\nlicense: mit\n")
    assert graft("show", folder, "--json").json["licence"] is None


def test_show_an_adapted_model(graft: Run, adapted: Path):
    facts = graft("show", adapted, "--json").json
    assert (facts["task"], facts["head"], facts["labels"]) == ("classify", "classify", ["cat", "dog"])


@pytest.mark.parametrize("name", ["vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"])
def test_show_names_the_file_of_an_old_tokenizer(graft: Run, damaged: Path, name: str):
    (damaged / "tokenizer.json").unlink()
    assert graft("show", damaged, "--json").json["tokenizer"] is None
    (damaged / name).write_bytes(b"")
    assert graft("show", damaged, "--json").json["tokenizer"] == f"from {name}"


def test_show_loads_no_weights(graft: Run, damaged: Path):
    """A header alone is enough: the numbers themselves may be missing from the disk (a sparse file)."""
    import os

    weights = damaged / "model.safetensors"
    size = weights.stat().st_size
    header = 8 + int.from_bytes(weights.read_bytes()[:8], "little")
    os.truncate(weights, header)
    os.truncate(weights, size)
    assert graft("show", damaged, "--json").json["parameters"]["total"] > 10_000


@pytest.mark.parametrize("model_type", ["bloom", "bret"])
def test_show_an_architecture_graft_does_not_have(graft: Run, damaged: Path, model_type: str):
    config = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    graft("show", damaged).failed(1, model_type, "'bert'")


def test_doctor(graft: Run, tmp_path: Path):
    done = graft("doctor", "--json")
    found = done.json
    assert found["libraries"]["torch"]
    assert None not in found["libraries"].values()
    assert found["dtype"] in ("float32", "bfloat16")
    assert found["memory_bytes"] > 2**28
    assert found["decoding"]["library"] is native.state()[0]
    assert found["decoding"]["about"]
    assert found["caches"]["graft"]["folder"] == str(tmp_path / "home")
    assert found["environment"]["GRAFT_HOME"] == str(tmp_path / "home")
    assert any("encoder" in problem for problem in found["problems"]) is not found["encoder"]["here"]
    assert done.code == (1 if found["problems"] else 0)
    assert "hub" not in found
    plain = graft("doctor")
    assert plain.code == done.code
    assert plain.out.splitlines()[0].startswith("graft ")
    assert ("all is well" in plain.out) is not bool(found["problems"])


def test_doctor_asks_the_hub_only_if_told(process: Run):
    done = process("doctor", "--hub", "--json", HF_ENDPOINT="http://127.0.0.1:9", no_proxy="127.0.0.1")
    found = done.json
    assert (found["hub"]["endpoint"], found["hub"]["reached"]) == ("http://127.0.0.1:9", False)
    assert "refused" in found["hub"]["reason"]
    assert any("cannot be reached" in problem for problem in found["problems"])
    assert done.code == 1


def test_convert(graft: Run, tiny: Callable[..., Any], tmp_path: Path):
    import torch
    from safetensors.torch import load_file

    source, out = tiny("llama-lm").folder, tmp_path / "out"
    done = graft("convert", source, out, "dtype=bfloat16", "--json")
    expected = {
        "source": str(source),
        "out": str(out),
        "read": "safetensors",
        "family": "llama",
        "architecture": "LlamaForCausalLM",
        "parameters": sum(parameter.numel() for parameter in tiny("llama-lm").theirs.parameters()),
        "dtype": "bfloat16",
        "carried": ["generation_config.json"],
    }
    assert done.json == expected
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {torch.bfloat16}
    graft("convert", source, out).failed(1, f"{out}: exists already")
    graft("convert", tmp_path / "x", tmp_path / "y").failed(1, "no such folder")
    graft("convert", source, tmp_path / "y", "--dtype", "float64").failed(2, "unknown dtype 'float64'")
    plain = graft("convert", out, tmp_path / "again").out.splitlines()
    assert plain[0] == f"{tmp_path / 'again'}: LlamaForCausalLM, 30,080 parameters in bfloat16"
    torch.save({}, tmp_path / "pytorch_model.bin")
    graft("convert", tmp_path, tmp_path / "z").failed(2, "is a pickle", "--trust")


DRAWN = {
    "openai_gpt-lm": ("token + position embedding\n", "sees those before it", "head: next on every token"),
    "gpt2-lm": ("--> norm -> attention: 4 heads of 8, sees those before it", "32 -> 128 -> 32, gelu_tanh"),
    "llama-lm": ("keys and values 2, rotary, sees those before it", "32 -> 48 -> 32, silu, gated"),
    "mistral-lm": ("rotary, sees those before it, 9 at most",),
    "qwen2-lm": ("rotary, sees those before it",),
    "qwen3-lm": ("4 heads of 16", "rotary, sees those before it"),
    "mixtral-lm": ("2 of 4 experts: 32 -> 48 -> 32, silu, gated",),
    "olmoe-lm": ("3 of 6 experts: 32 -> 48 -> 32, silu, gated",),
    "qwen2_moe-lm": ("3 of 6 experts and one shared: 32 -> 16 -> 32, silu, gated",),
    "bert-classify": ("token + position + type embedding -> norm", "sees all", "head: classify on the first token"),
    "roberta-mask": ("token + position + type embedding -> norm", "head: mask on every token"),
    "xlm_roberta-tag": ("sees all", "head: tag on every token"),
    "distilbert-span": ("token + position embedding -> norm", "head: span on every token"),
    "xlnet-lm": ("token embedding\n", "4 heads of 8, relative positions, sees all", "no limit"),
    "t5-lm": ("layers           3, and 2 in the decoder", "relative positions, sees all", "decoder: 2 such blocks"),
    "mt5-lm": ("layers           3, and 2 in the decoder", "gelu_tanh, gated"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_show_draws_every_family(graft: Run, tiny: Callable[..., Any], name: str):
    model = tiny(name)
    shown = graft("show", model.folder).out
    for part in (*DRAWN[name], model.theirs.__class__.__name__, "licence          not stated"):
        assert part in shown
