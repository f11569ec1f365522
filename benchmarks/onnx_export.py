"""Write the encoder for ONNX Runtime: plain and fused graphs, each in float32 and dynamic int8.

    python benchmarks/onnx_export.py MODEL_FOLDER OUT_FOLDER

`plain` is what torch.onnx writes; `fused` went through onnxruntime.transformers' BERT optimizer as well (one
Attention, SkipLayerNormalization and BiasGelu node a layer). Neither wins everywhere, so the benchmark times both.
Mean pooling and normalisation are inside the graph: one call, nothing left for Python.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime import InferenceSession
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.optimizer import optimize_model
from transformers import BertModel

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
GRAPHS = ("plain", "fused")


class SentenceEncoder(torch.nn.Module):
    """BERT, mean pooling over the real tokens, unit length: sentence-transformers' three modules in one graph."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        # Eager attention is the form whose pattern the BERT optimizer recognises and fuses.
        self.bert = BertModel.from_pretrained(folder, attn_implementation="eager")

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        hidden = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
        weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=1)


def sample(batch: int, longest: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random ids with padding of different lengths at the end of each row."""
    generator = torch.Generator().manual_seed(batch)
    ids = torch.randint(1000, 30000, (batch, longest), generator=generator)
    lengths = torch.randint(3, longest + 1, (batch, 1), generator=generator)
    return ids, (torch.arange(longest) < lengths).long(), torch.zeros_like(ids)


def export(folder: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    encoder = SentenceEncoder(folder).eval()
    plain, fused = (out / f"{graph}-float32.onnx" for graph in GRAPHS)
    axes = {name: {0: "batch", 1: "length"} for name in INPUTS} | {"embedding": {0: "batch"}}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter needs no further packages, and says it is the older one
        torch.onnx.export(
            encoder,
            sample(3, 17),
            str(plain),
            input_names=list(INPUTS),
            output_names=["embedding"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    config = encoder.bert.config
    heads, hidden = config.num_attention_heads, config.hidden_size
    optimize_model(str(plain), "bert", heads, hidden, opt_level=0).save_model_to_file(str(fused))
    for graph in (plain, fused):
        check(encoder, graph, tolerance=1e-5)
        small = out / graph.name.replace("float32", "int8")
        quantize(graph, small)
        check(encoder, small, tolerance=0.1)


def quantize(graph: Path, out: Path) -> None:
    """Dynamic int8: signed weights with a scale per output channel, the full range (the processor has VNNI)."""
    kind = {"DefaultTensorType": onnx.TensorProto.FLOAT}  # fused operators hide their outputs' type
    quantize_dynamic(graph, out, weight_type=QuantType.QInt8, per_channel=True, reduce_range=False, extra_options=kind)


def check(encoder: SentenceEncoder, graph: Path, tolerance: float) -> None:
    """Compare with PyTorch on shapes other than the traced one."""
    session = InferenceSession(graph, providers=["CPUExecutionProvider"])
    for batch, longest in ((1, 7), (9, 40), (4, 256)):
        inputs = sample(batch, longest)
        with torch.no_grad():
            expected = encoder(*inputs).numpy()
        feeds = {name: value.numpy() for name, value in zip(INPUTS, inputs, strict=True)}
        difference = float(np.abs(session.run(None, feeds)[0] - expected).max())
        if difference > tolerance:
            raise SystemExit(f"{graph.name} differs from PyTorch by {difference:.2g} on {batch} x {longest} tokens")


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # quantization advises a pre-processing that these graphs do not need
    export(Path(sys.argv[1]), Path(sys.argv[2]))
