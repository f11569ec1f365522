"""A mixture of experts in place of a feed-forward layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.model.config import Config
from graft.model.layers import FeedForward
from graft.model.linear import Linear


class Mixture(nn.Module):
    """Each token goes through the few experts a router likes best for it (Shazeer et al. 2017; Jiang et al. 2024).

    A shared expert, where there is one, sees every token and is weighed by a gate of its own (Qwen2-MoE).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        assert config.experts is not None
        self.sizes = config.experts
        self.router = Linear(config.hidden_size, self.sizes.count, bias=False)
        self.experts = nn.ModuleList(FeedForward(config, self.sizes.size) for _ in range(self.sizes.count))
        self.shared = FeedForward(config, self.sizes.shared) if self.sizes.shared else None
        self.shared_gate = Linear(config.hidden_size, 1, bias=False) if self.sizes.shared else None
        self.routed: tuple[Tensor, Tensor] | None = None

    def forward(self, x_TD: Tensor) -> Tensor:
        """(T, D) -> (T, D); in training the routing is kept for `balance_loss`."""
        shares_TE = torch.softmax(self.router(x_TD), dim=-1, dtype=torch.float32)
        share_TN, chosen_TN = shares_TE.topk(self.sizes.chosen, dim=-1)
        self.routed = (shares_TE, chosen_TN) if self.training else None
        if self.sizes.normalized:
            share_TN = share_TN / share_TN.sum(-1, keepdim=True)
        out_TD = torch.zeros_like(x_TD)
        places = torch.argsort(chosen_TN.flatten(), stable=True)
        counts = torch.bincount(chosen_TN.flatten(), minlength=self.sizes.count).tolist()
        for expert, own in zip(self.experts, torch.split(places, counts), strict=True):
            if len(own):
                rows = own // self.sizes.chosen
                share = share_TN.flatten()[own, None].to(x_TD.dtype)
                out_TD = out_TD.index_add(0, rows, expert(x_TD[rows]) * share)
        if self.shared is not None and self.shared_gate is not None:
            out_TD = out_TD + torch.sigmoid(self.shared_gate(x_TD)) * self.shared(x_TD)
        return out_TD


def balance_loss(model: nn.Module) -> Tensor | None:
    """How unevenly the last batch was spread over the experts; 1 times `chosen` where evenly, None without experts.

    E times the sum over experts of (share of tokens sent there) x (mean share the router gave it), over all layers
    together (Fedus et al. 2022, equations 4 to 6). To be added to the loss with the weight `Experts.balance`.
    """
    routed = [layer.routed for layer in model.modules() if isinstance(layer, Mixture) and layer.routed is not None]
    if not routed:
        return None
    shares_TE, chosen_TN = (torch.cat(parts) for parts in zip(*routed, strict=True))
    count = shares_TE.shape[-1]
    sent_E = F.one_hot(chosen_TN, count).float().mean(0).sum(0)
    return count * (sent_E * shares_TE.mean(0)).sum()
