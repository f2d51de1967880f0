"""The loss of predicting the next token, on any device, without keeping the logits.

The output layer is the token embedding (tied, as in GPT-2). It and the loss are computed a slice of rows at a time, in bfloat16
where the hardware multiplies it natively. Knows nothing of optimizers and schedules. Called by `training.pretraining`.

Letters: N tokens computed at once, D width of the trunk, V vocabulary, T window (n_positions).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spamd.errors import TrainingError
from spamd.model.gpt2 import GPT2
from spamd.model.precision import uses_bfloat16

Tokens = np.ndarray[Any, np.dtype[np.integer[Any]]]
"""A stream of token ids, (length,)."""

NUM_HELDOUT_WINDOWS = 64

_SLICE_LOGITS = {"cpu": 2**22, "cuda": 2**28}
"""Logits computed at once: what stays in cache here, what fills the device there."""


def next_token_loss(trunk: GPT2, windows: Tensor) -> Tensor:
    """Compute the loss of predicting each token of some windows from those before it.

    Args:
        trunk: its token embedding serves as output layer.
        windows: token ids, (windows, T + 1) int64.

    Returns:
        The sum over all T targets of all windows, in nats, ().
    """
    device = trunk.wte.weight.device
    windows = windows.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(device)):
        hidden = trunk(windows[:, :-1])  # (windows, T, D)
    loss: Tensor = _TiedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden.flatten(0, 1), trunk.wte.weight, windows[:, 1:].flatten()
    )
    return loss


@torch.no_grad()
def heldout_loss(trunk: GPT2, stream: Tokens) -> float:
    """Compute the mean loss over windows spread evenly over a stream, at most `NUM_HELDOUT_WINDOWS` of them.

    Args:
        trunk: scored as it stands.
        stream: token ids, (length,), longer than one window.

    Returns:
        Nats per token.

    Raises:
        TrainingError: the stream is too short.
    """
    window = trunk.config.n_positions
    num_windows = min((len(stream) - 1) // window, NUM_HELDOUT_WINDOWS)
    if num_windows < 1:
        raise TrainingError(f"The held-out text has {len(stream)} tokens, which is less than one window of {window}.")
    starts = np.linspace(0, len(stream) - 1 - window, num_windows).astype(np.int64)
    losses = [
        next_token_loss(trunk, cut_windows(stream, starts[first : first + 8], window)).item()
        for first in range(0, num_windows, 8)
    ]
    return sum(losses) / (num_windows * window)


def cut_windows(stream: Tokens, starts: Iterable[int], window: int) -> Tensor:
    """Cut windows out of a stream, each with the token that follows it: (windows, T + 1) int64."""
    return torch.from_numpy(np.stack([stream[start : start + window + 1] for start in starts]).astype(np.int64))


class _TiedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of `hidden @ weight.T`, a slice of rows at a time.

    The logits of a slice are used for the loss and, at once, for both gradients, and then forgotten: (N, V) is never stored,
    and nothing is computed twice. On two cores this trains half again as fast as the plain form.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """(N, D), (V, D) and (N,) -> ()."""
        kind = torch.bfloat16 if uses_bfloat16(hidden.device) else torch.float32
        rows, table = hidden.to(kind), weight.detach().to(kind)
        rows_gradient, table_gradient = torch.empty_like(rows), torch.zeros_like(weight)
        num_rows = max(_SLICE_LOGITS.get(hidden.device.type, 2**22) // weight.shape[0], 1)
        total = torch.zeros((), device=hidden.device)
        needs_gradient = hidden.requires_grad or weight.requires_grad
        for first in range(0, rows.shape[0], num_rows):
            part, wanted = rows[first : first + num_rows], targets[first : first + num_rows, None]
            logits = (part @ table.T).float()  # (rows, V)
            log_sums = logits.logsumexp(1, keepdim=True)  # (rows, 1)
            total += (log_sums - logits.gather(1, wanted)).sum()
            if needs_gradient:
                # The gradient of the logits: the probabilities, less one at the target.
                slope = logits.sub_(log_sums).exp_().scatter_add_(1, wanted, logits.new_full(wanted.shape, -1.0)).to(kind)
                rows_gradient[first : first + num_rows] = slope @ table  # (rows, D)
                table_gradient += slope.T @ part  # (V, D)
        ctx.save_for_backward(rows_gradient, table_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """Scale what `forward` has computed."""
        rows_gradient, table_gradient = ctx.saved_tensors
        return rows_gradient * gradients[0].to(rows_gradient.dtype), table_gradient * gradients[0], None
