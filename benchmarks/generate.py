"""Tokens per second of text generation on a processor: Graft beside its peers, at the same number of threads.

    benchmarks/.venv/bin/python benchmarks/generate.py [--rounds 5] [--only one_stream] [--json]

GPT-2 of 124 million weights and T5-small, both with fixed random weights. Prints a table (or one JSON object) and
writes benchmarks/results/generate-YYYY-MM-DD.json. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from checkpoints import GGUF, GPT2, TARGETS, folder_name
from generators import CASES, KEYS, SYSTEMS, UNSHARED
from machine import facts, record
from rounds import Worker, alternate, cores, disturbances, environment, note, ratios, summary

HERE = Path(__file__).resolve().parent
MEMORY, REFERENCE = "memory", "transformers_float32"
LAYERS, OUTPUT = 12 * 12 * 768**2, 50257 * 768
"""Weights of GPT-2 that every token is multiplied with: in its layers, and in the output embedding."""

LIBRARIES = {"llama.cpp": ("llama_cpp", "gguf"), "ctranslate2": ("ctranslate2",), "transformers": ("transformers",)}
"""What a system cannot do without."""

BYTES = {
    "float32": (4, 4),
    "bf16": (2, 2),
    "f16": (2, 2),
    "int8": (1, 1),
    "q8_0": (34 / 32, 34 / 32),
    "q4_0": (18 / 32, 210 / 256),
}
"""Bytes of one weight, in the layers and in the output embedding (which Q4_0 files hold as Q6_K), scales included."""

RATIOS = {
    "one_stream_int8_vs_llama.cpp_q8_0": ("one_stream", "graft_int8", ("llama.cpp_q8_0",)),
    "one_stream_bf16_vs_llama.cpp_f16": ("one_stream", "graft_bf16", ("llama.cpp_f16",)),
    "one_stream_bf16_vs_transformers_bf16": ("one_stream", "graft_bf16", ("transformers_bf16",)),
    "one_stream_int8_vs_ctranslate2_int8": ("one_stream", "graft_int8", ("ctranslate2_int8",)),
    "eight_streams_vs_transformers_bf16": ("eight_streams", "graft_bf16", ("transformers_bf16",)),
    "eight_streams_int8_vs_transformers_bf16": ("eight_streams", "graft_int8", ("transformers_bf16",)),
    "eight_streams_vs_ctranslate2_int8": ("eight_streams", "graft_int8", ("ctranslate2_int8",)),
    "shared_prefix_vs_unshared": ("shared_prefix", "graft_bf16", (UNSHARED,)),
    "t5_beam4_vs_transformers_bf16": ("t5_beam4", "graft_bf16", ("transformers_bf16",)),
    "t5_beam4_vs_ctranslate2": ("t5_beam4", "graft_bf16", ("ctranslate2_float32", "ctranslate2_int8")),
}
"""Tokens per second of Graft over those of a peer, the faster one where there are two: case, ours, theirs."""

Turns = dict[str, list[dict[str, Any]]]


def main() -> None:
    options = arguments()
    loaded: dict[str, Any] = {}
    turns: Turns = {MEMORY: []}
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        folder = options.models or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in options.only:
            asked = [system for system in CASES[name].systems if system in options.systems]
            systems = [system for system in asked if not absent(system)]
            left_out |= {f"{system}_{name}": absent(system) for system in asked if system not in systems}
            failed = make(folder, {target for each in systems for target in targets(each, CASES[name].model)}, options)
            workers, ready, missing = load(name, systems, failed, stack, folder, options)
            taken = alternate(workers, [{"number": number} for number in range(1, options.rounds + 1)])
            for worker in workers:
                worker.close()
            turns[MEMORY] += taken.pop(MEMORY)
            turns.update(taken)
            loaded.update(ready)
            left_out.update(missing)
    result = {
        "benchmark": "generate",
        "machine": facts(options.threads),
        "cases": {name: describe(name, options.tokens) for name in options.only},
        **report(loaded, turns, left_out),
    }
    record("generate", result, options.results)
    print(json.dumps(result, indent=1) if options.json else table(result))


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128, help="new tokens of each request (at most 60 in t5_beam4)")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--only", default=",".join(CASES), help="cases, comma separated")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="comma separated")
    parser.add_argument("--models", type=Path, help="where to keep the models; default: made anew, then removed")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(given)
    for name, choices in (("only", CASES), ("systems", SYSTEMS)):
        setattr(options, name, getattr(options, name).split(","))
        if unknown := set(getattr(options, name)) - set(choices):
            parser.error(f"--{name}: unknown {', '.join(sorted(unknown))}; choose from {', '.join(choices)}")
    for name, least, most in (("rounds", 1, 1000), ("threads", 1, 1024), ("tokens", 2, 512)):
        if not least <= getattr(options, name) <= most:
            parser.error(f"--{name} is {getattr(options, name)}, expected {least} to {most}")
    return options


def describe(name: str, tokens: int) -> dict[str, Any]:
    case = CASES[name]
    sizes = {"requests": case.requests, "prompt_tokens": case.shared + case.prompt, "shared_tokens": case.shared}
    return {"says": case.says, "model": case.model, **sizes, "new_tokens": case.new(tokens), "beams": case.beams}


def absent(system: str) -> str:
    """What a system would need and is not installed, told in a line; empty where all is there."""
    lacking = [one for one in LIBRARIES.get(system.partition("_")[0], ()) if importlib.util.find_spec(one) is None]
    return f"{' and '.join(lacking)} not installed: run benchmarks/install" if lacking else ""


def targets(system: str, model: str) -> list[str]:
    """What of checkpoints.py a system reads, with what that is made from."""
    library, _, form = system.partition("_")
    if library == "llama.cpp":
        return [GPT2, GGUF["f16"], GGUF[form]]
    return [model, folder_name(model, form)] if library == "ctranslate2" else [model]


def make(folder: Path, names: set[str], options: argparse.Namespace) -> dict[str, str]:
    """Make models that are not there yet; those that could not be made, each with the reason."""
    failed = {}
    for name in TARGETS:
        if name not in names or (folder / name).exists():
            continue
        note(f"making {name}")
        command = [sys.executable, str(HERE / "checkpoints.py"), str(folder), name]
        done = subprocess.run(command, env=environment(options.threads), capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            failed[name] = f"{name} could not be made: {said[-1]}"
    return failed


def load(
    name: str,
    systems: list[str],
    failed: dict[str, str],
    stack: contextlib.ExitStack,
    folder: Path,
    options: argparse.Namespace,
) -> tuple[list[Worker], dict[str, Any], dict[str, str]]:
    """Start a case's systems: workers that are ready, what they said; of those that cannot run here, why."""
    workers = [stack.enter_context(Worker(MEMORY, "machine.py", [], options.threads))]
    loaded, left_out = {}, {}
    for system in systems:
        key = f"{system}_{name}"
        worker = stack.enter_context(Worker(key, "generators.py", [str(folder), str(options.tokens)], options.threads))
        try:
            loaded[key] = worker.call("load")
        except RuntimeError as error:
            unmade = [failed[one] for one in targets(system, CASES[name].model) if one in failed]
            left_out[key] = unmade[0] if unmade else str(error).splitlines()[0].split(" failed: ", 1)[-1]
            note(f"{key} is left out: {left_out[key]}")
            worker.close()
        else:
            note(f"{key}: loaded, {loaded[key]['settings']}")
            workers.append(worker)
    return workers, loaded, left_out


def report(loaded: Mapping[str, Any], turns: Turns, left_out: Mapping[str, str]) -> dict[str, Any]:
    """The figures: medians at the top, everything else below. Ratios are the medians of the rounds' ratios."""
    turns = dict(turns)
    warnings, memory = disturbances(turns), [turn["gb_per_second"] for turn in turns.pop(MEMORY, [])]
    speeds = {key: [turn["tokens_per_second"] for turn in taken] for key, taken in turns.items()}
    over = {name: ratios(speeds[ours], speeds[theirs]) for name, ours, theirs in compared(speeds)}
    return {
        "tokens_per_second": {key: median(each) for key, each in speeds.items()},
        "ratios": {name: each["median"] for name, each in over.items()},
        "memory": bandwidth(memory, speeds) if memory else None,
        "systems": {
            key: {
                "tokens_per_second": summary(speeds[key]),
                **{field: middle(taken, field) for field in ("first_token_seconds", "between_tokens_ms")},
                **loaded[key],
                "tokens_in_common": in_common(key, turns),
            }
            for key, taken in turns.items()
        },
        "ratio_rounds": over,
        "left_out": dict(left_out),
        "warnings": warnings,
        "turns": {key: [{**turn, "ids": turn["ids"][0]} for turn in taken] for key, taken in turns.items()},
    }


def compared(speeds: Mapping[str, list[float]]) -> Iterator[tuple[str, str, str]]:
    """Each ratio whose sides were both measured: its name, ours, theirs."""
    for name, (case, system, peers) in RATIOS.items():
        ours, theirs = f"{system}_{case}", [f"{peer}_{case}" for peer in peers if f"{peer}_{case}" in speeds]
        if ours in speeds and theirs:
            yield name, ours, max(theirs, key=lambda key: median(speeds[key]))


def bandwidth(memory: list[float], speeds: Mapping[str, list[float]]) -> dict[str, Any]:
    """How fast memory is read, and which share of that each system's weights take where one text is written."""
    read, whole = {}, median(memory)
    for key in speeds:
        system, case = KEYS[key]
        if case == "one_stream":
            layers, output = BYTES[system.partition("_")[2]]
            read[key] = layers * LAYERS + output * OUTPUT
    shares = {key: 1e-9 * weights * median(speeds[key]) / whole for key, weights in read.items()}
    return {"gb_per_second": summary(memory), "weight_bytes_per_token": read, "share_of_bandwidth": shares}


def middle(taken: list[dict[str, Any]], field: str) -> Any:
    """The median over the rounds; of each part where a field has parts, None where a system does not say."""
    values = [turn[field] for turn in taken]
    if any(value is None for value in values):
        return None
    if isinstance(values[0], dict):
        return {part: median(value[part] for value in values) for part in values[0]}
    return median(values)


def in_common(key: str, turns: Turns) -> float | None:
    """With how many tokens a text begins as transformers' does in float32, on average over rounds and requests."""
    reference = turns.get(f"{REFERENCE}_{KEYS[key][1]}")
    if reference is None:
        return None
    pairs = [
        pair
        for mine, theirs in zip(turns[key], reference, strict=True)
        for pair in zip(mine["ids"], theirs["ids"], strict=True)
    ]
    return sum(alike(*pair) for pair in pairs) / len(pairs)


def alike(first: list[int], second: list[int]) -> int:
    same = [a == b for a, b in zip(first, second, strict=True)]
    return [*same, False].index(False)


def table(result: dict[str, Any]) -> str:
    head = f"{'system':40} {'tokens/s':>8} {'min - max':>15} {'first s':>8} {'p50 ms':>7} {'p95 ms':>7}"
    lines = [f"{head} {'load s':>7} {'cold s':>7} {'of memory':>9}"]
    shares = (result["memory"] or {}).get("share_of_bandwidth", {})
    for key, row in result["systems"].items():
        speed, between = row["tokens_per_second"], row["between_tokens_ms"] or {}
        spread = f"{speed['min']:.1f} - {speed['max']:.1f}"
        first = "" if row["first_token_seconds"] is None else f"{row['first_token_seconds']:.3f}"
        gaps = " ".join(f"{between[part]:7.2f}" if part in between else f"{'':7}" for part in ("p50", "p95"))
        share = f"{shares[key]:.0%}" if key in shares else ""
        cold = f"{row['load_seconds']:7.2f} {row['first_seconds']:7.2f}"
        lines.append(f"{key:40} {speed['median']:8.1f} {spread:>15} {first:>8} {gaps} {cold} {share:>9}")
    for name, over in result["ratio_rounds"].items():
        lines.append(f"{name}: {over['median']:.2f} x ({over['min']:.2f} - {over['max']:.2f})")
    if result["memory"]:
        lines.append(f"memory is read at {result['memory']['gb_per_second']['median']:.1f} GB/s")
    lines += [f"left out: {key}: {why}" for key, why in result["left_out"].items()]
    return "\n".join(lines + [f"warning: {line}" for line in result["warnings"]])


if __name__ == "__main__":
    main()
