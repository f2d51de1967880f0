"""The freezing policy `gradual-unfreezing`: one more block of the trunk trains with every epoch, from the last to the first.

A pure choice of names; no torch.
"""

import re
from collections.abc import Collection, Mapping, Sequence

from spamd.hooks import hookimpl
from spamd.interfaces import FreezingPolicy

BLOCK = re.compile(r"trunk\.h\.(\d+)\.")


def gradual_unfreezing(names: Sequence[str], epoch: int) -> Collection[str]:
    """Choose the last block in epoch 0, the last two in epoch 1, and so on; everything once all blocks train.

    Args:
        names: names of all parameters in model order.
        epoch: the epoch about to start, counted from 0.

    Returns:
        The names that train: those of the blocks reached, the final norm and the head.
    """
    blocks = sorted({int(match[1]) for name in names if (match := BLOCK.match(name))})
    if epoch >= len(blocks):
        return list(names)
    reached = [f"trunk.h.{block}." for block in blocks[-1 - epoch :]]
    return [name for name in names if name.startswith((*reached, "trunk.ln_f.", "head."))]


@hookimpl
def spamd_register_freezing_policies() -> Mapping[str, FreezingPolicy]:
    """Offer the policy."""
    return {"gradual-unfreezing": gradual_unfreezing}
