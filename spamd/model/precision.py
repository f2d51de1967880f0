"""Whether a device multiplies bfloat16 itself. Called by `inference` and `training`."""

from typing import Any

import torch


def uses_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 natively; elsewhere it is emulated and slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Older versions of torch do not tell what the CPU can do.
    features: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(features.get("avx512_bf16", False))
