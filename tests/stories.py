"""The published stories260K, a Llama of 260,000 parameters, as a folder with what is known of its vocabulary."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}


def halves(weight: Tensor, heads: int) -> Tensor:
    """From pairs of neighbours that turn together to pairs half a head apart."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def from_llama2c(file: Path, folder: Path) -> dict[str, Any]:
    """Write a llama2.c checkpoint (a header, then float32 tensors, one kind after another) as a Hugging Face folder."""
    raw = file.read_bytes()
    size, inner, layers, heads, key_heads, vocab_size, positions = struct.unpack("7i", raw[:28])
    narrow, numbers = size // heads * key_heads, torch.from_numpy(np.frombuffer(raw[28:], np.float32).copy())
    at = 0

    def take(*shape: int) -> Tensor:
        nonlocal at
        at += int(np.prod(shape))
        return numbers[at - int(np.prod(shape)) : at].view(shape)

    tensors = {"model.embed_tokens.weight": take(vocab_size, size)}
    for name, shape in (
        ("input_layernorm", (size,)),
        ("self_attn.q_proj", (size, size)),
        ("self_attn.k_proj", (narrow, size)),
        ("self_attn.v_proj", (narrow, size)),
        ("self_attn.o_proj", (size, size)),
        ("post_attention_layernorm", (size,)),
        ("mlp.gate_proj", (inner, size)),
        ("mlp.down_proj", (size, inner)),
        ("mlp.up_proj", (inner, size)),
    ):
        for layer, weight in enumerate(take(layers, *shape)):
            turned = {"self_attn.q_proj": heads, "self_attn.k_proj": key_heads}.get(name)
            tensors[f"model.layers.{layer}.{name}.weight"] = halves(weight, turned) if turned else weight.clone()
    tensors["model.norm.weight"] = take(size)
    sizes = {"vocab_size": vocab_size, "hidden_size": size, "intermediate_size": inner, "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": key_heads, "max_position_embeddings": positions}
    config = CONFIG | sizes | {"rms_norm_eps": 1e-5}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return config


def save_tokenizer(reference: dict[str, Any], folder: Path, vocab_size: int) -> None:
    """A SentencePiece-like tokenizer of the pieces a published alignment tells; the others are told as bytes.

    Where several segmentations are possible it takes the shortest; the published tokenizer may have taken another.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    known = {
        int(number): piece.replace(" ", "\u2581") for number, piece in reference["partial_vocab_from_alignment"].items()
    }
    known |= {0: "<unk>", 1: "<s>", 2: "</s>"} | {3 + byte: f"<0x{byte:02X}>" for byte in range(256)}
    pieces = [(known.get(number, f"<unknown_{number}>"), -1.0) for number in range(vocab_size)]
    library = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    library.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    library.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    unknown = [name for name, _ in pieces if name.startswith("<unknown_")]
    library.add_special_tokens(["<unk>", "<s>", "</s>", *unknown])
    library.save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))


def make(source: Path, folder: Path) -> Path:
    """The model with its tokenizer, from the published files."""
    config = from_llama2c(source / "stories260K.bin", folder)
    reference = json.loads((source / "stories260K_reference.json").read_text(encoding="utf-8"))
    save_tokenizer(reference, folder, config["vocab_size"])
    return folder
