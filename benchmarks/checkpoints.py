"""The models benchmarks/generate.py runs: published shapes, fixed random weights, in the form each system reads.

    python benchmarks/checkpoints.py FOLDER TARGET        (started by generate.py)

Targets, each a folder or file below FOLDER, and made once: `gpt2` and `t5` (Hugging Face, float32), `gpt2-f16.gguf`,
`gpt2-q8_0.gguf`, `gpt2-q4_0.gguf` (written with the package gguf, made smaller by llama.cpp itself), and
`ctranslate2-gpt2-int8`, `ctranslate2-t5-int8`, `ctranslate2-t5-float32` (by CTranslate2's converter). Random weights
take as long as learned ones, and no download is needed; the tokenizer is GPT-2's own where its vocabulary is at hand.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = Path(__file__).resolve().parents[2] / "shared" / "data" / "models" / "gpt2_vocab"
GPT2, T5 = "gpt2", "t5"
T5_SMALL = {"vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
GGUF = {"f16": "gpt2-f16.gguf", "q8_0": "gpt2-q8_0.gguf", "q4_0": "gpt2-q4_0.gguf"}
QUANTIZED = {"q8_0": "LLAMA_FTYPE_MOSTLY_Q8_0", "q4_0": "LLAMA_FTYPE_MOSTLY_Q4_0"}
CLOSE = 0.02  # farthest a half-precision file's logits may be from float32's, in standard deviations of the logits
PROBE = [464, 3290, 318, 257, 922, 3290, 13, 632]


def folder_name(model: str, quantization: str) -> str:
    """Where CTranslate2's form of a model lies."""
    return f"ctranslate2-{model}-{quantization}"


def gpt2(target: Path) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(target)
    vocabulary, merges = _gpt2_vocabulary()
    _gpt2_tokenizer(vocabulary, merges).save(str(target / "tokenizer.json"))
    _describe(target, eos_token="<|endoftext|>", bos_token="<|endoftext|>", unk_token="<|endoftext|>")


def t5(target: Path) -> None:
    """T5-small; its vocabulary is made up, since only ids go in."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    T5ForConditionalGeneration(T5Config(**T5_SMALL, decoder_start_token_id=0)).save_pretrained(target)
    names = ["<pad>", "</s>", "<unk>", *(f"w{number}" for number in range(3, T5_SMALL["vocab_size"]))]
    words = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens(names[:3])
    words.save(str(target / "tokenizer.json"))
    _describe(target, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def _describe(target: Path, **tokens: str) -> None:
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **tokens}
    (target / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def _gpt2_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Published tokens and merges; elsewhere as many made-up ones, pairs of bytes."""
    if VOCABULARY.is_dir():
        tokens = json.loads((VOCABULARY / "gpt2_bpe_encoder.json").read_text(encoding="utf-8"))
        lines = (VOCABULARY / "gpt2_bpe_vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
        return tokens, [(first, second) for first, second in (line.split() for line in lines if line)]
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    merges = [(first, second) for first in letters for second in letters][:50000]
    names = [*letters, *(first + second for first, second in merges), "<|endoftext|>"]
    return {name: number for number, name in enumerate(names)}, merges


def _gpt2_tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def gguf_f16(target: Path) -> None:
    """GPT-2 as llama.cpp's own converter lays it out: matrices in half precision, vectors and positions in float32."""
    import gguf

    source = target.parent / GPT2
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(str(target), "gpt2")
    writer.add_block_count(config["n_layer"])
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _gguf_tokenizer(writer)
    for name, values in _gguf_tensors(source, config["n_layer"]):
        half = values.ndim == 2 and not name.startswith("position")
        writer.add_tensor(name, values.astype(np.float16 if half else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check_gguf(source, target)


def _gguf_tokenizer(writer: Any) -> None:
    import gguf

    vocabulary, merges = _gpt2_vocabulary()
    end = vocabulary["<|endoftext|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.__getitem__))
    kinds = [gguf.TokenType.NORMAL] * len(vocabulary)
    kinds[end] = gguf.TokenType.CONTROL
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{first} {second}" for first, second in merges])
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)


def _gguf_tensors(source: Path, layers: int) -> Iterator[tuple[str, np.ndarray]]:
    """llama.cpp's names; GPT-2's matrices lie (in, out) in its files, there (out, in)."""
    from safetensors.numpy import load_file

    tensors = {
        name.removeprefix("transformer."): value for name, value in load_file(source / "model.safetensors").items()
    }
    names = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}
    parts = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output"}
    parts |= {"ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
    names |= {f"h.{layer}.{ours}": f"blk.{layer}.{theirs}" for layer in range(layers) for ours, theirs in parts.items()}
    for ours, theirs in names.items():
        for kind in ("weight", "bias"):
            if (value := tensors.get(f"{ours}.{kind}")) is not None:
                turned = value.ndim == 2 and ours.startswith("h.")
                yield f"{theirs}.{kind}", np.ascontiguousarray(value.T if turned else value)


def check_gguf(source: Path, target: Path) -> None:
    """The file computes what transformers computes in float32, as far as half precision goes."""
    import torch
    from generators import LlamaCpp
    from transformers import GPT2LMHeadModel

    with torch.inference_mode():
        expected = GPT2LMHeadModel.from_pretrained(source).eval()(torch.tensor([PROBE])).logits[0, -1].numpy()
    found = LlamaCpp(target, streams=1, positions=len(PROBE)).next_logits([PROBE], [0])[0]
    difference = float(np.abs(found - expected).max() / expected.std())
    if difference > CLOSE:
        raise SystemExit(f"{target.name}: logits differ from transformers' by {difference:.3f} standard deviations")
    print(
        f"{target.name}: logits within {difference:.1e} standard deviations of transformers' float32", file=sys.stderr
    )


def gguf_quantized(kind: str) -> Callable[[Path], None]:
    """llama.cpp's own quantization of the half-precision file (Q4_0 keeps the output matrix at Q6_K)."""

    def make(target: Path) -> None:
        import llama_cpp

        settings = llama_cpp.llama_model_quantize_default_params()
        settings.ftype, settings.nthread = getattr(llama_cpp, QUANTIZED[kind]), int(os.environ["OMP_NUM_THREADS"])
        source = str(target.parent / GGUF["f16"])
        if llama_cpp.llama_model_quantize(source.encode(), str(target).encode(), settings):
            raise SystemExit(f"llama.cpp could not write {target}")

    return make


def ctranslate2(model: str, quantization: str) -> Callable[[Path], None]:
    def make(target: Path) -> None:
        from ctranslate2.converters import TransformersConverter

        wanted = None if quantization == "float32" else quantization
        TransformersConverter(str(target.parent / model)).convert(str(target), quantization=wanted)

    return make


TARGETS: dict[str, Callable[[Path], None]] = {
    GPT2: gpt2,
    T5: t5,
    GGUF["f16"]: gguf_f16,
    **{GGUF[kind]: gguf_quantized(kind) for kind in QUANTIZED},
    **{
        folder_name(model, quantization): ctranslate2(model, quantization)
        for model, quantization in ((GPT2, "int8"), (T5, "int8"), (T5, "float32"))
    },
}
"""In an order in which each finds those it is made from."""


def make(folder: Path, name: str) -> None:
    """Make one target under a passing name, so that what is there is whole."""
    target, passing = folder / name, folder / f"part-{name}"
    if target.exists():
        return
    if passing.is_dir():
        shutil.rmtree(passing)
    folder.mkdir(parents=True, exist_ok=True)
    TARGETS[name](passing)
    passing.rename(target)


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2])
