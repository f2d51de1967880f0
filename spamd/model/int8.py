"""Linear layers that multiply whole numbers: on a CPU about twice as fast as float32, at the price of digits.

Weights become 7-bit numbers with a scale for each output, hidden states 8-bit numbers between the least and the largest of each
token: what a token's hidden state becomes depends on nothing beside it, so that a score does not depend on the batch that it was
computed in. Seven bits for the weights, because processors without VNNI add pairs of products in 16 bits, and eight would
overflow there. The products are exact; only the rounding costs, and beside what it costs the two forms of GELU are the same (they
differ by 5e-4 at the most), so that the faster one does. Sums, norms, attention, the head and the last block, of which little is
computed anyway, stay float32.

Nothing is calibrated, so a checkpoint whose card says `int8` stores the weights that it was made of, and they are rounded when it
is loaded for scoring. Training and GPUs see the float weights. Called by `inference` and `training.judging`.
"""

import functools
from typing import cast

import torch
from torch import Tensor, nn

from spamd.model.checkpoint import Checkpoint
from spamd.model.classifier import Classifier
from spamd.model.gpt2 import MLP, Block

MOST_WEIGHT = 63
"""Largest number of 7 bits, either sign."""

LEAST = 1e-30
"""A weight row of zeros is divided by this."""


class Int8Linear(nn.Module):
    """A linear layer in whole numbers, for scoring alone.

    Args:
        linear: the layer that it stands for.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()  # (out, in)
        self._scales = weight.abs().amax(1).clamp_min(LEAST) / MOST_WEIGHT  # (out,)
        rounded = (weight / self._scales[:, None]).round()
        self._packed = torch.ops.onednn.qlinear_prepack(rounded.to(torch.int8), None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        # What is added to the products: the bias, and for each token its least value times the sum of the weights.
        self._added = torch.stack([linear.bias.detach(), rounded.sum(1) * self._scales])  # (2, out)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., in) float32 -> (..., out) float32."""
        width = hidden.shape[-1]
        # In one pass, for each token: its numbers from 0 to 255, and behind them, as float32, their scale and what 0 stands for.
        rows = torch.ops.quantized.embedding_bag_byte_prepack(hidden.flatten(0, -2))  # (tokens, in + 8) uint8
        rounded, spread = rows[:, :width].contiguous(), rows[:, width:].contiguous().view(torch.float32)  # spread (tokens, 2)
        # With a scale of 1 for all tokens the operator gives the products times the weights' scales; ours come afterwards.
        found = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, 0, self._packed, self._scales, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        found.mul_(spread[:, :1])
        spread[:, 0] = 1.0
        return cast("Tensor", found.addmm_(spread, self._added).view(*hidden.shape[:-1], -1))


class Int8MLP(nn.Module):
    """The two layers between which a block is four times as wide.

    Args:
        mlp: what it stands for.
    """

    def __init__(self, mlp: MLP) -> None:
        super().__init__()
        self.c_fc, self.c_proj = Int8Linear(mlp.c_fc), Int8Linear(mlp.c_proj)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, 4 D) -> (B, T, D)."""
        return cast("Tensor", self.c_proj(torch.ops.aten.gelu_(self.c_fc(hidden))))


def for_scoring(checkpoint: Checkpoint, device: torch.device) -> Classifier:
    """Put a checkpoint's classifier on a device, in the arithmetic that its card says.

    Args:
        checkpoint: the checkpoint; its classifier is changed in place.
        device: where it will compute; on anything but a CPU it stays float.

    Returns:
        The classifier, evaluating. It stays float, too, where torch cannot multiply whole numbers on this processor, or not fast;
        its scores are those that were trained, then.
    """
    classifier = checkpoint.classifier.to(device).eval()
    if checkpoint.card.arithmetic == "int8" and device.type == "cpu" and is_exact():
        quantise(classifier)
    return classifier


def quantise(classifier: Classifier) -> None:
    """Let all blocks but the last multiply whole numbers."""
    for block in cast("list[Block]", list(classifier.trunk.h[:-1])):
        # Not by assignment: what stands there now is declared to be something else.
        block.attn.register_module("c_attn", Int8Linear(block.attn.c_attn))
        block.attn.register_module("c_proj", Int8Linear(block.attn.c_proj))
        block.register_module("mlp", Int8MLP(block.mlp))


def is_quantised(classifier: Classifier) -> bool:
    """Tell whether a classifier multiplies whole numbers; one of a single block has nothing to multiply."""
    return any(isinstance(layer, Int8Linear) for layer in classifier.trunk.h.modules())


@functools.cache
def is_exact() -> bool:
    """Tell whether products of whole numbers come out as they should, even the largest, and fast on such a processor."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    linear = nn.Linear(64, 8)
    signs = torch.ones(8, 64)
    signs[1::2, ::2] = -1.0
    with torch.no_grad():
        linear.weight.copy_(signs)
        linear.bias.zero_()
    hidden = torch.ones(4, 64)
    hidden[0, -1] = 0.0
    hidden[1, ::2] = -1.0
    hidden[2] = 0.0
    try:
        return bool(torch.allclose(Int8Linear(linear)(hidden), hidden @ signs.T, atol=1e-4))
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
