"""Rotary position embedding: queries and keys are turned by an angle that grows with their position."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graft.model.config import Rotary


def angles(rotary: Rotary, head_size: int, position_T: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine for each position, (T, 1, K) each, float32 (Su et al. 2021, equation 34)."""
    angle_TK = (position_T.float()[:, None] * turns(rotary, head_size, position_T.device)).repeat(1, 2)[:, None]
    return angle_TK.cos(), angle_TK.sin()


def turns(rotary: Rotary, head_size: int, device: torch.device | str = "cpu") -> Tensor:
    """Angle per token of each pair of a head's numbers, (K / 2,), float32."""
    pairs = torch.arange(0, head_size, 2, dtype=torch.float32, device=device)
    return _scaled(rotary, 1.0 / rotary.base ** (pairs / head_size))


def _scaled(rotary: Rotary, turns: Tensor) -> Tensor:
    """Angle per token of each pair, slowed for contexts longer than those trained on (Llama 3 report, section 4.2)."""
    if rotary.scaling is None:
        return turns
    if rotary.scaling == "linear":
        return turns / rotary.factor
    wavelength = 2 * math.pi / turns
    share = (rotary.trained / wavelength - rotary.low) / (rotary.high - rotary.low)
    kept = share.clamp(0, 1)
    return turns * (kept + (1 - kept) / rotary.factor)


def turn(x_THK: Tensor, cosine_T1K: Tensor, sine_T1K: Tensor) -> Tensor:
    """Turn each pair (k, k + K/2) of a head, as published checkpoints have them."""
    first, second = x_THK.chunk(2, dim=-1)
    return x_THK * cosine_T1K + torch.cat((-second, first), dim=-1) * sine_T1K
