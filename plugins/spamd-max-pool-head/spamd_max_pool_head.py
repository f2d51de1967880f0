"""The head `max-pool`: the largest value of each feature over all real tokens, joined with the last token.

Shape letters: B messages in a batch, T tokens of the longest one, D width of the trunk, C classes.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from spamd.hooks import hookimpl
from spamd.interfaces import HeadFactory


class MaxPool(nn.Module):
    """A linear layer on the maximum over all real tokens, and on the last of them.

    Args:
        width: D.
        num_classes: C.
        join_last_token: whether the hidden state of the last token stands beside the maximum.
    """

    reads: Literal["last", "all"] = "all"

    def __init__(self, width: int, num_classes: int, *, join_last_token: bool = True) -> None:
        super().__init__()
        self.join_last_token = join_last_token
        self.linear = nn.Linear(2 * width if join_last_token else width, num_classes)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and (B,) -> (B, C)."""
        positions = torch.arange(hidden.shape[1], device=hidden.device)
        is_padding = positions >= lengths[:, None]  # (B, T)
        # Minus infinity never wins, since every message has at least one real token.
        pooled = hidden.masked_fill(is_padding[..., None], -torch.inf).amax(dim=1)  # (B, D)
        if self.join_last_token:
            rows = torch.arange(len(hidden), device=hidden.device)
            pooled = torch.cat([pooled, hidden[rows, lengths - 1]], dim=1)  # (B, 2 D)
        logits: Tensor = self.linear(pooled)
        return logits


@hookimpl
def spamd_register_heads() -> Mapping[str, HeadFactory]:
    """Offer the head."""
    return {"max-pool": MaxPool}
