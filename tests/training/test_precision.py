"""Multiplications run in the precision that was asked for."""

import torch

from spamd.model.precision import uses_bfloat16
from spamd.training.precision import computing_in


def test_devices_without_native_bfloat16_use_float32() -> None:
    """A device that spamd knows nothing of computes in float32."""
    assert not uses_bfloat16(torch.device("meta"))


def test_precision_is_as_asked() -> None:
    """Inside, products have the precision asked for; outside, float32 again."""
    matrix = torch.ones(2, 2)
    with computing_in("bfloat16", matrix.device):
        short = (matrix @ matrix).dtype
    with computing_in("float32", matrix.device):
        whole = (matrix @ matrix).dtype

    assert (torch.bfloat16, torch.float32) == (short, whole)
    assert torch.float32 == (matrix @ matrix).dtype
