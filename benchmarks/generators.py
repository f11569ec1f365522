"""The systems and the cases of benchmarks/generate.py; each system is the main program of one worker process.

    python benchmarks/generators.py SYSTEM_CASE FOLDER TOKENS        (started by generate.py)

Handlers: `load` (imports, reads the model, writes once from cold), `run` (writes once: how long, when each token came).
A run starts with prompts as token ids in memory and ends with the ids written. Everything is greedy, the end token
stops nothing, and every request gets as many tokens. Each round has prompts of its own, the same for all systems, since
Graft keeps what it has read. A system whose library is not installed fails in `load`.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import GGUF, GPT2, T5, folder_name
from rounds import serve

Ids = list[int]


@dataclass(frozen=True)
class Case:
    """What is asked for: so many requests at once, each with tokens of its own behind those they share."""

    says: str
    model: str
    systems: tuple[str, ...]
    requests: int = 1
    prompt: int = 64
    shared: int = 0
    beams: int = 1
    most: int | None = None

    def prompts(self, number: int, *, alike: bool = True) -> list[Ids]:
        """A round's prompts, clear of special tokens; not alike, each has a beginning of its own of the same length."""
        draw = random.Random(number)  # noqa: S311

        def some(count: int) -> Ids:
            return [draw.randrange(1000, 30000) for _ in range(count)]

        shared = some(self.shared)
        return [[*(shared if alike else some(self.shared)), *some(self.prompt)] for _ in range(self.requests)]

    def new(self, tokens: int) -> int:
        """How many tokens each request gets."""
        return min(tokens, self.most or tokens)


UNSHARED = "graft_bf16_unshared"
LLAMA_CPP = tuple(f"llama.cpp_{kind}" for kind in GGUF)
CASES = {
    "one_stream": Case(
        "one request",
        GPT2,
        ("graft_bf16", "graft_int8", "transformers_float32", "transformers_bf16", "ctranslate2_int8", *LLAMA_CPP),
    ),
    "eight_streams": Case(
        "eight requests at once",
        GPT2,
        ("graft_bf16", "graft_int8", "transformers_bf16", "ctranslate2_int8", *LLAMA_CPP),
        requests=8,
    ),
    "shared_prefix": Case(
        "sixteen requests at once, the first 400 tokens of their prompts the same",
        GPT2,
        ("graft_bf16", UNSHARED),
        requests=16,
        shared=400,
    ),
    "t5_beam4": Case(
        "an input of 400 tokens, beam search of four, the best one's tokens counted",
        T5,
        ("graft_bf16", "transformers_bf16", "ctranslate2_float32", "ctranslate2_int8"),
        prompt=400,
        beams=4,
        most=60,
    ),
}
KEYS = {f"{system}_{name}": (system, name) for name, case in CASES.items() for system in case.systems}


class Written:
    """What a system wrote for each request, and when each token was there."""

    def __init__(self, requests: int) -> None:
        self.ids: list[Ids] = [[] for _ in range(requests)]
        self.moments: list[list[float]] = [[] for _ in range(requests)]

    def tick(self, requests: Sequence[int] | None = None) -> None:
        """One token more for these requests (default: all), now."""
        now = time.perf_counter()
        for request in range(len(self.moments)) if requests is None else requests:
            self.moments[request].append(now)


Write = Callable[[list[Ids], Written], None]
Load = Callable[[Path, Case, int], tuple[Write, dict[str, Any]]]


def graft(precision: str) -> Load:
    """Graft: an engine with a slot for each request, and its decoding step; beam search where the case asks for it."""

    def load(folder: Path, case: Case, tokens: int) -> tuple[Write, dict[str, Any]]:
        import graft as library

        model = library.load(str(folder / case.model), dtype="bfloat16", device="cpu")
        if precision == "int8":
            from graft import int8

            int8.swap(model)
        make = _graft_beams if case.beams > 1 else _graft_engine
        return make(model, case, tokens), {"weights": precision, "computes": "bfloat16"}

    return load


def _graft_engine(model: Any, case: Case, tokens: int) -> Write:
    from graft.generate.engine import Engine
    from graft.generate.sampling import Sampling

    engine = Engine(model, slots=case.requests, length=case.shared + case.prompt + tokens)
    sampling = Sampling(max_tokens=tokens, temperature=0.0, ignore_end=True)

    def write(prompts: list[Ids], written: Written) -> None:
        requests = [engine.submit(prompt, sampling) for prompt in prompts]
        numbers = {id(request): number for number, request in enumerate(requests)}
        while not all(request.done for request in requests):
            written.tick([numbers[id(token.request)] for token in engine.step()])
        ends = [request.completions[0] for request in requests]
        if strange := [one for one in ends if one.finish_reason != "length"]:
            raise RuntimeError(f"a text ended with {strange[0].finish_reason}: {strange[0].message}")
        written.ids = [one.ids for one in ends]

    return write


def _graft_beams(model: Any, case: Case, tokens: int) -> Write:
    from graft.generate.beam import Beams, search
    from graft.generate.sampling import Sampling

    def write(prompts: list[Ids], written: Written) -> None:
        found = search(model, prompts, Beams(beams=case.beams), Sampling(max_tokens=tokens), end=())
        written.ids = [best[0].ids for best in found]

    return write


def transformers(dtype: str) -> Load:
    """generate() as it comes: a cache that grows, every request of the same length, so no padding."""

    def load(folder: Path, case: Case, tokens: int) -> tuple[Write, dict[str, Any]]:
        import torch
        import transformers as library

        kind = library.GPT2LMHeadModel if case.model == GPT2 else library.T5ForConditionalGeneration
        model = kind.from_pretrained(folder / case.model, dtype=getattr(torch, dtype)).eval()
        model.generation_config.eos_token_id = None
        settings = {"max_new_tokens": tokens, "do_sample": False, "num_beams": case.beams, "pad_token_id": 0}
        past = case.shared + case.prompt if case.model == GPT2 else 1

        def write(prompts: list[Ids], written: Written) -> None:
            def watch(ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
                written.tick()
                return torch.zeros(len(ids), dtype=torch.bool)

            ids = torch.tensor(prompts)
            found = model.generate(ids, attention_mask=torch.ones_like(ids), stopping_criteria=[watch], **settings)
            written.ids = found[:, past:].tolist()

        return write, {"dtype": dtype, "attention": model.config._attn_implementation}

    return load


def ctranslate2(precision: str) -> Load:
    def load(folder: Path, case: Case, tokens: int) -> tuple[Write, dict[str, Any]]:
        import ctranslate2 as library
        from tokenizers import Tokenizer

        names = Tokenizer.from_file(str(folder / case.model / "tokenizer.json"))
        threads = int(os.environ["OMP_NUM_THREADS"])
        settings = {"compute_type": precision, "inter_threads": 1, "intra_threads": threads}
        kind = library.Generator if case.model == GPT2 else library.Translator
        model = kind(str(folder / folder_name(case.model, precision)), device="cpu", **settings)

        def go_on(prompts: list[list[str]], written: Written) -> list[Ids]:
            def watch(step: Any) -> bool:
                written.tick([step.batch_id])
                return False

            lengths = {"min_length": tokens, "max_length": tokens, "include_prompt_in_result": False}
            return [found.sequences_ids[0] for found in model.generate_batch(prompts, callback=watch, **lengths)]

        def translate(prompts: list[list[str]], _written: Written) -> list[Ids]:
            lengths = {"min_decoding_length": tokens, "max_decoding_length": tokens, "beam_size": case.beams}
            found = model.translate_batch(prompts, **lengths)
            return [[names.token_to_id(name) for name in best.hypotheses[0]] for best in found]

        def write(prompts: list[Ids], written: Written) -> None:
            given = [[names.id_to_token(one) for one in prompt] for prompt in prompts]
            written.ids = (go_on if case.model == GPT2 else translate)(given, written)

        return write, {**settings, "computes": model.compute_type}

    return load


class LlamaCpp:
    """llama.cpp by its C functions: one call a step for all streams, logits read in place."""

    def __init__(self, path: Path, streams: int, positions: int) -> None:
        import llama_cpp as library

        self._library, threads = library, int(os.environ["OMP_NUM_THREADS"])
        self._log = library.llama_log_callback(lambda _level, _text, _data: None)
        library.llama_log_set(self._log, None)
        library.llama_backend_init()
        self._model = library.llama_model_load_from_file(str(path).encode(), library.llama_model_default_params())
        if not self._model:
            raise RuntimeError(f"llama.cpp could not load {path}")
        settings = library.llama_context_default_params()
        settings.n_ctx = settings.n_batch = streams * positions
        settings.n_seq_max, settings.n_threads, settings.n_threads_batch = streams, threads, threads
        self._context = library.llama_init_from_model(self._model, settings)
        if not self._context:
            raise RuntimeError(f"llama.cpp could not make a context for {streams} x {positions} tokens")
        self._batch = library.llama_batch_init(streams * positions, 0, 1)
        self._vocabulary = library.llama_vocab_n_tokens(library.llama_model_get_vocab(self._model))
        self.system = library.llama_print_system_info().decode()

    def clear(self) -> None:
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), False)

    def next_logits(self, given: list[Ids], held: list[int]) -> list[np.ndarray]:
        """Read new tokens of each stream behind those it holds; the logits after the last, until the next call."""
        batch, row, last = self._batch, 0, []
        for stream, (ids, start) in enumerate(zip(given, held, strict=True)):
            for offset, token in enumerate(ids):
                batch.token[row], batch.pos[row], batch.logits[row] = token, start + offset, offset == len(ids) - 1
                batch.n_seq_id[row], batch.seq_id[row][0] = 1, stream
                row += 1
            last.append(row - 1)
        batch.n_tokens = row
        if self._library.llama_decode(self._context, batch):
            raise RuntimeError(f"llama.cpp could not decode {row} tokens")
        pointers = [self._library.llama_get_logits_ith(self._context, place) for place in last]
        return [np.ctypeslib.as_array(pointer, (self._vocabulary,)) for pointer in pointers]


def llama_cpp(kind: str) -> Load:
    def load(folder: Path, case: Case, tokens: int) -> tuple[Write, dict[str, Any]]:
        model = LlamaCpp(folder / GGUF[kind], case.requests, case.shared + case.prompt + tokens)

        def write(prompts: list[Ids], written: Written) -> None:
            model.clear()
            given, held = prompts, [0] * len(prompts)
            for _ in range(tokens):
                new = [int(logits.argmax()) for logits in model.next_logits(given, held)]
                written.tick()
                held = [start + len(ids) for start, ids in zip(held, given, strict=True)]
                given = [[token] for token in new]
                for ids, token in zip(written.ids, new, strict=True):
                    ids.append(token)

        return write, {"file": GGUF[kind], "system": model.system}

    return load


SYSTEMS: dict[str, Load] = {
    "graft_bf16": graft("bf16"),
    UNSHARED: graft("bf16"),
    "graft_int8": graft("int8"),
    "transformers_float32": transformers("float32"),
    "transformers_bf16": transformers("bfloat16"),
    "ctranslate2_int8": ctranslate2("int8"),
    "ctranslate2_float32": ctranslate2("float32"),
    **{f"llama.cpp_{kind}": llama_cpp(kind) for kind in GGUF},
}


def timed(write: Write, prompts: list[Ids], tokens: int) -> dict[str, Any]:
    """Write once, and say how it went; refuses an answer of another length."""
    written, start = Written(len(prompts)), time.perf_counter()
    write(prompts, written)
    seconds = time.perf_counter() - start
    if (lengths := [len(ids) for ids in written.ids]) != [tokens] * len(prompts):
        raise ValueError(f"expected {tokens} tokens for each of {len(prompts)} requests, found {lengths}")
    firsts = [moments[0] - start for moments in written.moments if moments]
    between = [1000 * gap for moments in written.moments for gap in np.diff(moments)]
    return {
        "seconds": seconds,
        "tokens_per_second": tokens * len(prompts) / seconds,
        "first_token_seconds": float(np.median(firsts)) if firsts else None,
        "between_tokens_ms": {f"p{part}": float(np.percentile(between, part)) for part in (50, 95)}
        if between
        else None,
        "ids": written.ids,
    }


def main(key: str, folder: Path, asked: int) -> None:
    system, name = KEYS[key]
    case, state = CASES[name], {}
    tokens = case.new(asked)

    def run(number: int) -> dict[str, Any]:
        return timed(state["write"], case.prompts(number, alike=system != UNSHARED), tokens)

    def load() -> dict[str, Any]:
        start = time.perf_counter()
        state["write"], settings = SYSTEMS[system](folder, case, tokens)
        seconds = time.perf_counter() - start
        return {"load_seconds": seconds, "first_seconds": run(0)["seconds"], "settings": settings}

    serve({"load": load, "run": run})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
