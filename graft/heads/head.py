"""What every head offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from graft.batch import Packed
from graft.errors import UsageError
from graft.heads.answers import Answer


class Head(nn.Module):
    """Hidden states in, answers out.

    Attributes:
        kind: its name in files and commands.
        per_token: whether its output has a row for each token; else it has one for each sequence.
        by_task: whether what it answers takes its task to say, which knows the text.
        fresh: whether it began at random, put on by `Model.graft`; one that was loaded did not.
    """

    kind = ""
    per_token = False
    by_task = False
    fresh = False

    def forward(self, hidden_TD: Tensor, batch: Packed) -> Tensor:
        """Hidden states of a packed batch -> the head's output."""
        raise NotImplementedError

    def loss(self, output: Tensor, target: Tensor, sizes: Sequence[int] = ()) -> Tensor:
        """Mean loss over the batch, a float32 scalar.

        Args:
            output: what `forward` gave.
            target: the right answers.
            sizes: how many rows of the output belong together, for heads whose rows compete: a sequence's tokens, or a
                row's choices.
        """
        raise UsageError(f"a {self.kind!r} head has nothing to learn from targets")

    def merge(self, output: Tensor, tokens: Sequence[int]) -> Tensor:
        """The output for several windows of one text, (W, ...), with the tokens of each -> that for the text."""
        return output.mean(0)

    def decode(self, output: Tensor, truncated: Sequence[int]) -> list[Answer]:
        """The head's output as answers, one for each sequence."""
        raise UsageError(f"a {self.kind!r} head does not answer; ask for logits or hidden states")

    def options(self) -> dict[str, Any]:
        """What must be known to build this head again."""
        return {}

    def aliases(self) -> dict[str, Tensor]:
        """Names under which files may repeat a tensor the model holds elsewhere (tied weights), and that tensor."""
        return {}

    def own(self) -> dict[str, Tensor]:
        """The tensors that are this head's alone."""
        repeated = self.aliases()
        return {name: tensor for name, tensor in self.state_dict().items() if name not in repeated}


def grouped(scores_N: Tensor, groups: Sequence[int]) -> Tensor:
    """Scores that compete within groups, (number of groups, largest group); what fills up is minus infinity.

    Raises:
        UsageError: the groups do not add up to the scores.
    """
    if sum(groups) != len(scores_N) or min(groups, default=0) < 1:
        raise UsageError(
            f"groups of {', '.join(map(str, groups[:8])) or 'no'} rows for {len(scores_N)} scores; "
            "state how many rows, at least one, belong to each"
        )
    return pad_sequence(list(torch.split(scores_N, list(groups))), batch_first=True, padding_value=float("-inf"))
