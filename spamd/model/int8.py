"""Linear layers that multiply whole numbers: on a CPU about twice as fast as float32, at the price of digits.

Weights become 8-bit numbers with a scale for each output, hidden states 7-bit numbers with a scale for each token: what a token's
hidden state becomes depends on nothing beside it, so that a score does not depend on the batch that it was computed in. Seven
bits, because processors without VNNI add pairs of products in 16 bits, and eight would overflow there. The products are exact;
only the rounding costs. Sums, norms, attention, the head and the last block, of which little is computed anyway, stay float32.

Nothing is calibrated, so a checkpoint whose card says `int8` stores the weights that it was made of, and they are rounded when it
is loaded for scoring. Training and GPUs see the float weights. Called by `inference` and `training.judging`.
"""

from typing import cast

import torch
from torch import Tensor, nn

from spamd.errors import CheckpointError
from spamd.model.checkpoint import Checkpoint
from spamd.model.classifier import Classifier
from spamd.model.gpt2 import Block

MOST_WEIGHT = 127
MOST_HIDDEN = 63
"""Largest numbers of 8 and of 7 bits, either sign."""

ZERO_POINT = MOST_HIDDEN + 1
"""What is added to 7-bit numbers so that none is negative."""

LEAST = 1e-30
"""A hidden state or a weight row of zeros is divided by this."""


class Int8Linear(nn.Module):
    """A linear layer in whole numbers, for scoring alone.

    Args:
        linear: the layer that it stands for.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()  # (out, in)
        scales = weight.abs().amax(1).clamp_min(LEAST) / MOST_WEIGHT  # (out,)
        rounded = (weight / scales[:, None]).round().to(torch.int8)
        self._scales = scales
        self._zeros = torch.zeros(len(scales), dtype=torch.int32)
        self._bias = linear.bias.detach()
        self._packed = torch.ops.onednn.qlinear_prepack(rounded, None)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., in) float32 -> (..., out) float32."""
        flat = hidden.flatten(0, -2)
        largest = flat.abs().amax(1, keepdim=True).clamp_min(LEAST)  # (tokens, 1)
        rounded = (flat * (MOST_HIDDEN / largest)).round_().add_(ZERO_POINT).to(torch.uint8)
        # With a scale of 1 for all tokens the operator gives the products times the weights' scales; ours come afterwards.
        found = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, ZERO_POINT, self._packed, self._scales, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return cast("Tensor", found.mul_(largest / MOST_HIDDEN).add_(self._bias).view(*hidden.shape[:-1], -1))


def for_scoring(checkpoint: Checkpoint, device: torch.device) -> Classifier:
    """Put a checkpoint's classifier on a device, in the arithmetic that its card says.

    Args:
        checkpoint: the checkpoint; its classifier is changed in place.
        device: where it will compute; on anything but a CPU it stays float.

    Returns:
        The classifier, evaluating.

    Raises:
        CheckpointError: this torch cannot multiply whole numbers.
    """
    classifier = checkpoint.classifier.to(device).eval()
    if checkpoint.card.arithmetic == "int8" and device.type == "cpu":
        if not is_exact():
            raise CheckpointError(
                f"checkpoint {checkpoint.card.id} computes in int8, which torch {torch.__version__} does wrongly or not at all "
                "on this processor; promote the checkpoint that it was made of."
            )
        quantise(classifier)
    return classifier


def quantise(classifier: Classifier) -> None:
    """Let all blocks but the last multiply whole numbers."""
    for block in cast("list[Block]", list(classifier.trunk.h[:-1])):
        for owner in (block.attn, block.mlp):
            for name, layer in list(owner.named_children()):
                setattr(owner, name, Int8Linear(cast("nn.Linear", layer)))


def is_exact() -> bool:
    """Try whether products of whole numbers come out as they should, even the largest."""
    linear = nn.Linear(64, 8)
    signs = torch.ones(8, 64)
    signs[1::2, ::2] = -1.0
    with torch.no_grad():
        linear.weight.copy_(signs)
        linear.bias.zero_()
    hidden = torch.ones(4, 64)
    hidden[1, ::2] = -1.0
    hidden[2] = 0.0
    try:
        return bool(torch.allclose(Int8Linear(linear)(hidden), hidden @ signs.T, atol=1e-4))
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
