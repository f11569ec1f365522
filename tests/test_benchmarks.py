"""benchmarks/generate.py, as far as it goes without peers: what it is asked, reports and leaves out."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("psutil")

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("generate")


@pytest.fixture
def generators(generate: ModuleType) -> ModuleType:
    return importlib.import_module("generators")


def turn(speed: float, ids: list[int], *, elsewhere: float = 0.0, streams: bool = True) -> dict[str, Any]:
    return {
        "seconds": 1.0,
        "tokens_per_second": speed,
        "first_token_seconds": 0.25 if streams else None,
        "between_tokens_ms": {"p50": 10.0, "p95": 20.0} if streams else None,
        "ids": [ids],
        "processor_seconds": 2.0,
        "idle_workers_share": 0.0,
        "elsewhere_share": elsewhere,
    }


@pytest.fixture
def turns() -> dict[str, list[dict[str, Any]]]:
    memory = [{"gb_per_second": 20.0, "idle_workers_share": 0.0, "elsewhere_share": 0.0}] * 2
    return {
        "memory": memory,
        "graft_int8_one_stream": [turn(90, [1, 2, 3]), turn(120, [1, 2, 4])],
        "llama.cpp_q8_0_one_stream": [turn(60, [1, 2, 3]), turn(60, [1, 9, 4])],
        "transformers_float32_one_stream": [turn(15, [1, 2, 3]), turn(15, [1, 2, 3])],
        "graft_bf16_t5_beam4": [turn(50, [1], streams=False)] * 2,
        "ctranslate2_float32_t5_beam4": [turn(20, [1], streams=False)] * 2,
        "ctranslate2_int8_t5_beam4": [turn(40, [1], streams=False)] * 2,
    }


@pytest.fixture
def result(generate: ModuleType, turns: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    loaded = {key: {"load_seconds": 1.5, "first_seconds": 2.5, "settings": {}} for key in turns if key != "memory"}
    found = generate.report(loaded, turns, {"llama.cpp_f16_one_stream": "llama_cpp not installed"})
    return json.loads(json.dumps(found))


def test_speeds_and_ratios_are_medians_of_the_rounds(result: dict[str, Any]):
    assert result["tokens_per_second"]["graft_int8_one_stream"] == 105
    assert result["ratios"]["one_stream_int8_vs_llama.cpp_q8_0"] == pytest.approx(1.75)  # of 1.5 and 2, round by round
    assert result["ratio_rounds"]["one_stream_int8_vs_llama.cpp_q8_0"]["rounds"] == [1.5, 2.0]


def test_the_faster_of_two_peers_is_compared_with(result: dict[str, Any]):
    assert result["ratios"]["t5_beam4_vs_ctranslate2"] == pytest.approx(1.25)


def test_ratios_with_one_side_missing_are_left_out(result: dict[str, Any]):
    assert sorted(result["ratios"]) == ["one_stream_int8_vs_llama.cpp_q8_0", "t5_beam4_vs_ctranslate2"]
    assert result["left_out"] == {"llama.cpp_f16_one_stream": "llama_cpp not installed"}


def test_the_share_of_the_bandwidth_is_of_one_stream_alone(result: dict[str, Any]):
    memory = result["memory"]
    assert sorted(memory["share_of_bandwidth"]) == sorted(key for key in result["systems"] if "one_stream" in key)
    assert memory["weight_bytes_per_token"]["transformers_float32_one_stream"] == 4 * 123_532_032
    assert memory["share_of_bandwidth"]["graft_int8_one_stream"] == pytest.approx(123_532_032 * 105 / 20e9)


def test_texts_are_compared_with_transformers_in_float32(result: dict[str, Any]):
    common = {key: row["tokens_in_common"] for key, row in result["systems"].items()}
    assert common["graft_int8_one_stream"] == 2.5
    assert common["llama.cpp_q8_0_one_stream"] == 2
    assert common["graft_bf16_t5_beam4"] is None


def test_moments_are_told_where_a_system_tells_them(result: dict[str, Any]):
    row = result["systems"]["graft_int8_one_stream"]
    assert (row["first_token_seconds"], row["between_tokens_ms"]) == (0.25, {"p50": 10.0, "p95": 20.0})
    assert (row["load_seconds"], row["first_seconds"]) == (1.5, 2.5)
    assert result["systems"]["graft_bf16_t5_beam4"]["first_token_seconds"] is None


def test_a_busy_machine_is_told(generate: ModuleType, turns: dict[str, list[dict[str, Any]]], result: dict[str, Any]):
    assert result["warnings"] == []
    busy = {key: [{**one, "elsewhere_share": 0.6} for one in taken] for key, taken in turns.items()}
    loaded = {key: {"load_seconds": 1, "first_seconds": 1, "settings": {}} for key in turns}
    assert "other programs used up to 60%" in generate.report(loaded, busy, {})["warnings"][0]


def test_the_table_has_every_figure(generate: ModuleType, result: dict[str, Any]):
    table = generate.table(result)
    assert all(key in table for key in (*result["systems"], *result["ratios"], *result["left_out"]))
    assert "memory is read at 20.0 GB/s" in table


def test_every_ratio_compares_systems_there_are(generate: ModuleType):
    for name, (case, ours, peers) in generate.RATIOS.items():
        assert {f"{system}_{case}" for system in (ours, *peers)} <= set(generate.KEYS), name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--only", "two_streams"], "--only: unknown two_streams; choose from one_stream, eight_streams"),
        (["--systems", "graft_bf16,vllm"], "--systems: unknown vllm; choose from graft_bf16"),
        (["--rounds", "0"], "--rounds is 0, expected 1 to 1000"),
        (["--tokens", "1"], "--tokens is 1, expected 2 to 512"),
        (["--threads", "many"], "argument --threads: invalid int value: 'many'"),
    ],
)
def test_senseless_arguments(generate: ModuleType, capsys: pytest.CaptureFixture[str], given: list[str], said: str):
    with pytest.raises(SystemExit, match="2"):
        generate.arguments(given)
    assert said in capsys.readouterr().err


def test_prompts_are_the_same_for_all_and_new_in_each_round(generators: ModuleType):
    case = generators.CASES["shared_prefix"]
    first, unshared = case.prompts(1), case.prompts(1, alike=False)
    assert first == case.prompts(1) != case.prompts(2)
    assert {len(prompt) for prompt in (*first, *unshared)} == {case.shared + case.prompt}
    assert len({tuple(prompt[: case.shared]) for prompt in first}) == 1
    assert len({prompt[0] for prompt in unshared}) > case.requests // 2


def test_an_answer_of_another_length_is_refused(generators: ModuleType):
    def write(prompts: list[list[int]], written: Any) -> None:
        written.tick()
        written.tick([0])
        written.ids[0] += [5, 6]

    found = generators.timed(write, [[1]], 2)
    assert found["ids"] == [[5, 6]]
    assert 0 < found["first_token_seconds"] < found["seconds"]
    with pytest.raises(ValueError, match="expected 3 tokens for each of 1 requests, found \\[2\\]"):
        generators.timed(write, [[1]], 3)


def test_made_up_vocabulary_is_as_large_as_the_published_one(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoints = importlib.import_module("checkpoints")
    monkeypatch.setattr(checkpoints, "VOCABULARY", tmp_path / "absent")
    vocabulary, merges = checkpoints._gpt2_vocabulary()
    assert sorted(vocabulary.values()) == list(range(50257))
    tokenizer = checkpoints._gpt2_tokenizer(vocabulary, merges)
    assert tokenizer.decode(tokenizer.encode("Not one word, é").ids) == "Not one word, é"


@pytest.mark.slow
def test_peers_that_are_not_installed_are_left_out(tmp_path: Path):
    if importlib.util.find_spec("llama_cpp") is not None:
        pytest.skip("llama.cpp is installed here")
    command = [sys.executable, str(FOLDER / "generate.py"), "--only=one_stream", "--systems=llama.cpp_q8_0", "--json"]
    command += ["--rounds=1", "--threads=1", f"--results={tmp_path}", f"--models={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "not installed: run benchmarks/install" in found["left_out"]["llama.cpp_q8_0_one_stream"]
    assert (found["tokens_per_second"], found["ratios"]) == ({}, {})
    assert found["memory"]["gb_per_second"]["median"] > 0
    assert json.loads(next(tmp_path.glob("generate-*.json")).read_text(encoding="utf-8")) == found
