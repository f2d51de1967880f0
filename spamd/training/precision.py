"""In which precision the processor multiplies while it trains.

bfloat16 has the range of float32 and a third of its digits. Processors that multiply it natively do so two to three times as
fast; on others it is emulated and slow. Weights, sums, norms, the head and the loss stay float32 either way. Called by `inputs`,
`trunk_cache` and the recipe of the default checkpoint.
"""

from contextlib import AbstractContextManager, nullcontext

import torch

from spamd.model.precision import uses_bfloat16
from spamd.training.recipe import Precision


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Compute what runs within in a precision.

    Args:
        precision: `float32` leaves all as it is, an autocast around the training included; `auto` is bfloat16 where it pays.
        device: where it runs.
    """
    if precision == "float32" or (precision == "auto" and not uses_bfloat16(device)):
        return nullcontext()
    # Without the cache: it would hold on to the weights of the first step.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
