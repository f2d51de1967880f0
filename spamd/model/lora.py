"""Low-rank adapters: a frozen linear layer learns through a detour of a few dimensions (Hu et al. 2021, arXiv 2106.09685).

An adapter is a child module `lora` of the linear layer that it bends, so that no parameter of the trunk changes its name. While
it is attached a hook adds its output; `merge` turns it into weights again, and what serves is a plain GPT-2. Decides nothing
about what trains: the policy `lora` does. Called by `training.starts` and `checkpoint`.

Shape letters: D inputs and O outputs of the linear layer, R rank.
"""

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spamd.model.gpt2 import GPT2


class Adapter(nn.Module):
    """Two small matrices whose product is added to a linear layer's weight.

    Args:
        linear: the layer.
        rank: R, at least 1.
        alpha: the product is multiplied by alpha / R.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        place = linear.weight.device
        self.down = nn.Parameter(torch.empty(rank, linear.in_features, device=place))  # (R, D)
        # Zero, so that a fresh adapter changes nothing.
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank, device=place))  # (O, R)
        if not self.down.is_meta:
            nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, hidden: Tensor, rows: slice = slice(None)) -> Tensor:
        """Compute what is added, for some outputs: (B, T, D) -> (B, T, O)."""
        return self.scale * functional.linear(functional.linear(hidden, self.down), self.up[rows])

    def weight(self) -> Tensor:
        """Compute what is added to the layer's weight, (O, D)."""
        return self.scale * (self.up @ self.down)


def attach(trunk: GPT2, rank: int, alpha: float) -> None:
    """Give every linear layer of every block an adapter that changes nothing yet.

    Args:
        trunk: changed in place; has no adapters.
        rank: of each adapter, at least 1.
        alpha: strength; an adapter's output is multiplied by alpha / rank.
    """
    for linear in list(_linears(trunk)):
        linear.lora = Adapter(linear, rank, alpha)
        linear.register_forward_hook(_add)


@torch.no_grad()
def merge(trunk: GPT2) -> None:
    """Join adapters with the weights that they change, and remove them; a trunk without any stays as it is."""
    for linear in _linears(trunk):
        if hasattr(linear, "lora"):
            linear.weight += cast("Adapter", linear.lora).weight()
            del linear.lora
            linear._forward_hooks.clear()  # noqa: SLF001  the one hook is ours


def _linears(trunk: GPT2) -> Iterator[nn.Linear]:
    """Yield the linear layers of the blocks."""
    return (module for module in trunk.h.modules() if isinstance(module, nn.Linear))


def _add(linear: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> Tensor:
    """Add what the adapter gives to what the layer gave."""
    return cast("Tensor", out + cast("Adapter", linear.lora)(inputs[0]))
