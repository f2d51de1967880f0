"""Next-token training of a trunk from text alone, for those who pretrain one of their own.

Reads a stream of token ids, documents separated by end-of-text, and teaches the trunk to predict each token from those before it;
the output weights are the token embedding (tied, as in GPT-2), so nothing but the trunk comes out. Makes no classifier, opens no
text and chooses no vocabulary. Called by such a recipe; that of the default checkpoint asks for labels and next tokens at once
(`benchmarks/joint_training.py`), which two cores get further with.

A micro-batch is what is computed at once, a batch what one step learns from; T is the window, n_positions of the trunk.
"""

import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from spamd.errors import TrainingError
from spamd.model.gpt2 import GPT2
from spamd.training.next_token import Tokens, cut_windows, heldout_loss, next_token_loss

FINAL_RATE = 0.1
"""Share of the learning rate that is left at the end of the cosine."""

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: optimizer updates made.
        fraction: of the run that is done, 0.0 to 1.0.
        loss: mean training loss since the last report, in nats per token.
        heldout_loss: loss on held-out text, in nats per token; None where it was not computed this time.
        learning_rate: of the last step.
        num_tokens: tokens trained on, over all sittings.
        seconds: training time, over all sittings.
    """

    step: int = 0
    fraction: float = 0.0
    loss: float = 0.0
    heldout_loss: float | None = None
    learning_rate: float = 0.0
    num_tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Mean speed of the whole run."""
        return self.num_tokens / max(self.seconds, 1e-9)

    def after_step(self, fraction: float, learning_rate: float, num_tokens: int, seconds: float) -> Self:
        """Count a step that took `num_tokens` and ended at `seconds`."""
        return replace(
            self,
            step=self.step + 1,
            fraction=fraction,
            learning_rate=learning_rate,
            num_tokens=self.num_tokens + num_tokens,
            seconds=seconds,
        )


def pack(documents: Iterable[Sequence[int]], end_of_text: int) -> Tokens:
    """Join the ids of documents into one stream, with `end_of_text` before each.

    Args:
        documents: token ids of each.
        end_of_text: the separator, also the largest id there is.

    Returns:
        The stream, (length,) uint16 where the ids fit, else uint32.
    """
    kind = np.uint16 if end_of_text <= np.iinfo(np.uint16).max else np.uint32
    parts = [np.asarray([end_of_text, *document], dtype=kind) for document in documents]
    return np.concatenate(parts) if parts else np.empty(0, dtype=kind)


def pretrain(
    trunk: GPT2,
    stream: Tokens,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    heldout: Tokens | None = None,
    batch_tokens: int = 16_384,
    micro_batch_tokens: int = 4_096,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.1,
    warmup: float = 0.02,
    seed: int = 123,
    device: str = "cpu",
    folder: Path | None = None,
    save_every_seconds: float = 300.0,
    report: Callable[[Progress], None] | None = None,
    report_every: int = 50,
    evaluate_every: int = 0,
) -> Progress:
    """Train a trunk on a token stream, in place.

    With a folder the run goes on where its last sitting was saved; with `steps` it then gives the same weights as one that was
    never stopped. A run that had ended is left as it is.

    Args:
        trunk: moved to `device`; every parameter trains.
        stream: token ids, (length,) of any integer type, a memory map if need be; at least two windows long.
        steps: length of the run in optimizer updates; give this or `seconds`.
        seconds: length of the run in training time.
        heldout: a token stream that is not trained on.
        batch_tokens: tokens of one update; rounded down to whole windows.
        micro_batch_tokens: tokens computed at once; bounds memory. A GPU wants sixteen times as many.
        learning_rate: highest value of the schedule.
        weight_decay: on matrices, not on norms and biases.
        warmup: fraction of the run in which the learning rate rises.
        seed: decides the order of the windows.
        device: `cpu`, `cuda` or `cuda:N`.
        folder: where the run is saved; None saves nothing.
        save_every_seconds: time between saves; the end is always saved.
        report: told how the run stands.
        report_every: updates between reports.
        evaluate_every: updates between held-out losses, rounded up to a report; 0 computes it at the end only.

    Returns:
        The state at the end, with the held-out loss where there is held-out text.

    Raises:
        TrainingError: the stream is too short, the loss is not finite, or the folder holds another run.
        ValueError: not exactly one of `steps` and `seconds` was given.
    """
    if (steps is None) == (seconds is None):
        raise ValueError(f"give either steps or seconds, not steps={steps} and seconds={seconds}")
    window = trunk.config.n_positions
    batch_windows, micro_windows = max(batch_tokens // window, 1), max(micro_batch_tokens // window, 1)
    trunk.to(device).train()
    optimizer = _optimizer(trunk, weight_decay)
    saved = _Saved(folder, {"trunk": str(trunk.config), "seed": seed, "batch_windows": batch_windows, "tokens": len(stream)})
    now = saved.restore(trunk, optimizer) or Progress()
    batches = _batches(stream, window, batch_windows, seed, now.step)
    start, next_save = time.monotonic() - now.seconds, now.seconds + save_every_seconds
    losses: list[float] = []
    while now.fraction < 1.0:
        rate = learning_rate * schedule(now.fraction, warmup)
        losses.append(_update(trunk, optimizer, next(batches), rate, micro_windows))
        elapsed = time.monotonic() - start
        fraction = (now.step + 1) / steps if steps else elapsed / (seconds or 1.0)
        now = now.after_step(min(fraction, 1.0), rate, batch_windows * window, elapsed)
        is_over = now.fraction >= 1.0
        is_exam = heldout is not None and (is_over or (evaluate_every > 0 and now.step % evaluate_every == 0))
        if is_over or is_exam or now.step % report_every == 0:
            exam = heldout_loss(trunk, heldout) if heldout is not None and is_exam else None
            now = replace(now, loss=sum(losses) / len(losses), heldout_loss=exam)
            losses.clear()
            if report:
                report(now)
        if is_over or now.seconds >= next_save:
            saved.keep(trunk, optimizer, now)
            next_save = now.seconds + save_every_seconds
    return now


def schedule(fraction: float, warmup: float) -> float:
    """Share of the learning rate at a fraction of the run: a straight rise, then a cosine down to `FINAL_RATE`.

    Args:
        fraction: of the run that is done, 0.0 to 1.0.
        warmup: fraction of the run that the rise takes.

    Returns:
        A factor above 0.0, at most 1.0.
    """
    if fraction < warmup:
        # Not from zero: the first update should do something, too.
        return max(fraction / warmup, 0.01)
    done = (fraction - warmup) / max(1.0 - warmup, 1e-9)
    return FINAL_RATE + (1.0 - FINAL_RATE) * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))


def _optimizer(trunk: GPT2, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over all parameters; norms and biases do not decay."""
    matrices = [parameter for parameter in trunk.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in trunk.parameters() if parameter.dim() == 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)


def _update(trunk: GPT2, optimizer: torch.optim.AdamW, batch: Tensor, rate: float, micro_windows: int) -> float:
    """Make one step on a batch of windows, (windows, T + 1); return its mean loss."""
    num_targets = batch.shape[0] * (batch.shape[1] - 1)
    total = torch.zeros((), device=trunk.wte.weight.device)
    for micro in torch.split(batch, micro_windows):
        loss = next_token_loss(trunk, micro) / num_targets
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    mean = total.item()
    if not math.isfinite(mean):
        raise TrainingError(f"The loss is {mean} at a learning rate of {rate:.2g}; try a lower one, or a longer warm-up.")
    torch.nn.utils.clip_grad_norm_(trunk.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return mean


def _batches(stream: Tokens, window: int, batch_windows: int, seed: int, first_step: int) -> Iterator[Tensor]:
    """Yield batches (batch_windows, T + 1) without end, from a step on; every epoch cuts and shuffles the stream anew."""
    num_windows = (len(stream) - window) // window
    if num_windows < 1:
        raise TrainingError(f"The text has {len(stream)} tokens, which is less than two windows of {window}; give more text.")
    epoch, starts = -1, np.empty(0, dtype=np.int64)
    for step in itertools.count(first_step):
        chosen = []
        for number in range(step * batch_windows, (step + 1) * batch_windows):
            if number // num_windows != epoch:
                epoch = number // num_windows
                order = np.random.default_rng([seed, epoch])
                starts = order.integers(window) + window * order.permutation(num_windows)
            chosen.append(starts[number % num_windows])
        yield cut_windows(stream, chosen, window)


class _Saved:
    """The saved state of a run: weights and optimizer in one safetensors file, how far it was in its JSON header.

    Args:
        folder: where the file lies; None keeps nothing.
        identity: what a run must have in common with its saved state.
    """

    def __init__(self, folder: Path | None, identity: dict[str, Any]) -> None:
        self._file = folder / "pretraining.safetensors" if folder else None
        self._identity = identity

    def keep(self, trunk: GPT2, optimizer: torch.optim.AdamW, now: Progress) -> None:
        """Write the state; the one before stays until the new one is whole."""
        if self._file is None:
            return
        tensors = {}
        for name, parameter in trunk.named_parameters():
            tensors[f"trunk.{name}"] = parameter.detach()
            tensors |= {f"{kind}.{name}": optimizer.state[parameter][kind] for kind in _MOMENTS}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".new")
        save_file(tensors, draft, {"identity": json.dumps(self._identity), "progress": json.dumps(asdict(now))})
        draft.replace(self._file)

    def restore(self, trunk: GPT2, optimizer: torch.optim.AdamW) -> Progress | None:
        """Read the state back into trunk and optimizer; None where there is none."""
        if self._file is None or not self._file.is_file():
            return None
        try:
            with safe_open(self._file, "pt", device=str(trunk.wte.weight.device)) as saved:
                notes = saved.metadata()
                if json.loads(notes["identity"]) != self._identity:
                    raise TrainingError(f"{self._file}: is the state of another run; name an empty folder or remove it.")
                now = Progress(**json.loads(notes["progress"]))
                for name, parameter in trunk.named_parameters():
                    parameter.data.copy_(saved.get_tensor(f"trunk.{name}"))
                    moments = {kind: saved.get_tensor(f"{kind}.{name}") for kind in _MOMENTS}
                    # The fused optimizer wants its counter beside the weights.
                    counter = torch.tensor(float(now.step), device=parameter.device)
                    optimizer.state[parameter] = {"step": counter, **moments}
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{self._file}: the saved state cannot be read ({error}); remove it to start anew.") from None
        return now
