"""Weights in eight bits: half the memory of bfloat16 to read for every token, and all that decoding one text waits for.

Each row of a matrix gets a scale of its own, its largest absolute weight over 126.5, and is rounded to whole multiples
of it. What is multiplied with the weights stays as it is (weight-only quantization): all error is that of the rounding.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.adapters.swap import swap as put
from graft.errors import ModelError, UsageError
from graft.grafted import Model
from graft.heads.tokens import PredictNext
from graft.model.linear import Linear

LEFT = ("router", "shared_gate")
"""Layers of a mixture that choose between experts: they are small, and a choice cannot be off by a little."""

FEW = 16
"""Up to so many rows of bfloat16 on a processor, torch's int8 kernel is ahead of widening the weights (docs/log.md)."""


WHOLE = 32
"""That kernel reads so many columns at a time, and past the end where there are fewer (torch 2.13: a crash)."""


class Int8(nn.Module):
    """x W' + b with W in int8 and a float32 scale for each of its rows. Learns nothing.

    Attributes:
        weight: int8, (out, in).
        scale: float32, (out,).
        bias: (out,), or None.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear) -> None:
        """Round the weights of a layer."""
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        weight, scale = rounded(layer.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        scale = self.scale.to(x.dtype)
        fits = x.dim() == 2 and len(x) <= FEW and not self.in_features % WHOLE
        if fits and x.dtype == torch.bfloat16 and x.device.type == "cpu":
            y = torch._weight_int8pack_mm(x.contiguous(), self.weight, scale)
        else:
            y = F.linear(x, self.weight.to(x.dtype)) * scale  # whole numbers up to 127 are exact in every dtype
        return y if self.bias is None else y + self.bias

    def _save_to_state_dict(self, destination: object, prefix: str, keep_vars: bool) -> None:
        """Refuse: no published model holds such weights.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"{prefix}weight is rounded to int8 for running; save the model before, or load it again")


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Int8 numbers (rows, columns), and the scale of each row, float32.

    Scales are numbers that bfloat16 can hold, so that a product in bfloat16 has no error of its own from them.
    """
    scale = (weight.float().abs().amax(-1) / 126.5).to(torch.bfloat16).float()  # at most 127 after it was rounded down
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (weight.float() / scale[:, None]).round().to(torch.int8).contiguous(), scale


def swap(model: Model, to: Literal["int8"] = "int8") -> dict[str, nn.Module]:
    """Put layers with rounded weights in the place of a model's linear layers and of its output embedding.

    A tied output embedding is rounded where it is multiplied with; tokens are still looked up in the original.

    Args:
        model: with any head; from now on it neither learns nor is saved.
        to: what the weights become.

    Returns:
        What was put in, by name.

    Raises:
        UsageError: another kind of weights.
        ModelError: the model has an adapter in it.
    """
    if to != "int8":
        raise UsageError(f"weights as {to!r:.60}: the valid choice is 'int8'")
    strange = [name for name, layer in model.named_modules() if isinstance(layer, Linear) and type(layer) is not Linear]
    if strange:
        raise ModelError(
            f"{model.folder}: {strange[0]} has an adapter beside its weights; merge it first (Model.merge)"
        )
    model.requires_grad_(False)

    def pick(name: str, layer: nn.Module) -> bool:
        if name.startswith("backbone."):
            return name.rpartition(".")[2] not in LEFT
        return name == "head.output" and type(model.head) is PredictNext

    return put(model, pick, lambda layer: Int8(layer))
