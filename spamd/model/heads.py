"""The built-in classification heads, registered through the same hook as anyone's.

A head maps hidden states to class logits and knows nothing of trunks, tokens and scores. Called by `classifier`; found by
`hooks.manager`. The default is `last-token`: in a causal model the last token alone has seen the whole text.

Shape letters: B sequences, T tokens of the longest, D width of the trunk, C classes.
"""

from collections.abc import Mapping
from typing import Literal, cast

import torch
from torch import Tensor, nn

from spamd.hooks.specs import hookimpl
from spamd.interfaces import HeadFactory


class LastToken(nn.Module):
    """A linear layer on the hidden state of the last real token.

    Args:
        width: D.
        num_classes: C.
    """

    reads: Literal["last", "all"] = "last"

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, num_classes)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and (B,) -> (B, C)."""
        last = hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]  # (B, D)
        return cast("Tensor", self.linear(last))


class FirstToken(nn.Module):
    """A linear layer on the hidden state of the first token.

    In a causal model that token has seen nothing but itself. It is here to show what that costs.

    Args:
        width: D.
        num_classes: C.
    """

    reads: Literal["last", "all"] = "all"

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, num_classes)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and (B,) -> (B, C)."""
        del lengths
        return cast("Tensor", self.linear(hidden[:, 0]))


class MeanPool(nn.Module):
    """A linear layer on the mean of the hidden states of all real tokens.

    Args:
        width: D.
        num_classes: C.
    """

    reads: Literal["last", "all"] = "all"

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, num_classes)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and (B,) -> (B, C)."""
        padding = _padding(hidden, lengths)[..., None]  # (B, T, 1)
        mean = hidden.masked_fill(padding, 0.0).sum(1) / lengths[:, None]  # (B, D)
        return cast("Tensor", self.linear(mean))


class AttentionPool(nn.Module):
    """A linear layer on a weighted mean of the hidden states; what weight a token gets is learnt.

    Args:
        width: D.
        num_classes: C.
    """

    reads: Literal["last", "all"] = "all"

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        # All weights equal at first, so that training starts from the mean.
        self.query = nn.Parameter(torch.zeros(width))
        self.linear = nn.Linear(width, num_classes)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and (B,) -> (B, C)."""
        padding = _padding(hidden, lengths)  # (B, T)
        shares = (hidden @ self.query).masked_fill(padding, -torch.inf).softmax(1)  # (B, T)
        # Padding has no share, yet zero times what stands there would let an infinity through.
        mean = (hidden.masked_fill(padding[..., None], 0.0) * shares[..., None]).sum(1)  # (B, D)
        return cast("Tensor", self.linear(mean))


@hookimpl
def spamd_register_heads() -> Mapping[str, HeadFactory]:
    """Offer the built-in heads."""
    return {"last-token": LastToken, "first-token": FirstToken, "mean-pool": MeanPool, "attention-pool": AttentionPool}


def _padding(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Mark the positions behind the last real token: (B, T, D) and (B,) -> (B, T) bool."""
    return torch.arange(hidden.shape[1], device=hidden.device) >= lengths[:, None]
