"""What a machine does with a checkpoint: time for a lone message and messages a second, by device, precision and length.

Random token ids of given lengths, computed by the engine that serves; no mail, no tokenising, no SMTP. The recommendation is
arithmetic on what was measured. Changes no setting. Called by `cli.bench`.
"""

import dataclasses
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from spamd.inference.engine import Engine
from spamd.model.card import CheckpointCard
from spamd.model.checkpoint import Checkpoint
from spamd.model.int8 import is_exact

BATCH_TOKENS = 4096
MIN_BATCH = 4
MIN_RUNS = 3
WORTH_IT = 1.15
"""A precision is recommended from that many times the speed of the other."""

MUCH_OF_DEADLINE = 0.25
"""A lone message that takes this share of the deadline leaves little room for company."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One measurement.

    Attributes:
        device: where it was computed.
        precision: `float32` or `int8`.
        num_tokens: of each message.
        lone_milliseconds: what a message alone takes, the median.
        messages_per_second: in batches.
    """

    device: str
    precision: str
    num_tokens: int
    lone_milliseconds: float
    messages_per_second: float


def devices() -> list[torch.device]:
    """List what can compute here, GPUs first."""
    return [*(torch.device("cuda", index) for index in range(torch.cuda.device_count())), torch.device("cpu")]


def lengths_for(card: CheckpointCard) -> list[int]:
    """Choose lengths up to what the model reads at once."""
    return sorted({max(1, card.max_tokens // part) for part in (8, 4, 2, 1)})


def measure(load: Callable[[], Checkpoint], places: Sequence[torch.device], *, seconds: float) -> Iterator[Row]:
    """Measure a checkpoint on devices, each in every precision that it has.

    Args:
        load: loads the checkpoint; called anew for each precision.
        places: the devices.
        seconds: time for each measurement, at the least.

    Yields:
        A row for each device, precision and length, as it is measured.

    Raises:
        CheckpointError: it cannot be loaded.
    """
    for device in places:
        for arithmetic in ("float", "int8") if device.type == "cpu" and is_exact() else ("float",):
            found = load()
            card = found.card.model_copy(update={"arithmetic": arithmetic})
            engine = Engine(dataclasses.replace(found, card=card), device=device)
            engine.warm_up()
            for length in lengths_for(card):
                yield _measure(engine, str(device), "int8" if arithmetic == "int8" else "float32", length, seconds)


def _measure(engine: Engine, device: str, precision: str, length: int, seconds: float) -> Row:
    """Measure one length."""
    draw = random.Random(length)  # noqa: S311  no secret
    ids = [
        [draw.randrange(engine.card.trunk.vocab_size) for _ in range(length)]
        for _ in range(max(MIN_BATCH, BATCH_TOKENS // length))
    ]
    alone = _times(lambda: engine.logits(ids[:1]), seconds)
    together = _times(lambda: engine.logits(ids), seconds)
    return Row(device, precision, length, 1000 * statistics.median(alone), len(ids) / statistics.median(together))


def _times(work: Callable[[], object], seconds: float) -> list[float]:
    """Repeat work for some time, three times at the least; returns what each took."""
    found: list[float] = []
    work()
    while len(found) < MIN_RUNS or sum(found) < seconds:
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return found


def recommend(rows: Sequence[Row], deadline_seconds: float, arithmetic: str) -> list[str]:
    """Say what the figures mean for the settings.

    Args:
        rows: what was measured, at least one.
        deadline_seconds: time within which a message is scored or given up.
        arithmetic: what the checkpoint's card says.

    Returns:
        Sentences for the administrator.
    """
    longest = [row for row in rows if row.num_tokens == max(row.num_tokens for row in rows)]
    by_cpu = {row.precision: row for row in longest if row.device == "cpu"}
    is_int8 = arithmetic == "int8" and "int8" in by_cpu
    unused = by_cpu.get("float32" if is_int8 else "int8")
    best = max((row for row in longest if row is not unused), key=lambda row: row.messages_per_second)
    speed = f"{best.messages_per_second:.3g} messages of {best.num_tokens} tokens a second, a lone one in"
    said = [f'Set scoring.device = "{best.device}": it scores {speed} {best.lone_milliseconds:.3g} ms.']
    if unused and best.device == "cpu":
        ratio = by_cpu["int8"].messages_per_second / by_cpu["float32"].messages_per_second
        if is_int8:
            said.append(f"It computes in int8, {ratio:.2f} times as fast as in float32.")
        elif ratio >= WORTH_IT:
            quantise = "`spamd-admin model quantise` makes such a checkpoint if verdicts stay the same"
            said.append(f"int8 is {ratio:.2f} times as fast; {quantise}.")
        else:
            said.append(f"int8 is not worth it here: {ratio:.2f} times as fast.")
    if best.lone_milliseconds > 1000 * MUCH_OF_DEADLINE * deadline_seconds:
        said.append(
            f"A lone message takes much of scoring.deadline_seconds ({deadline_seconds:g}): take a smaller checkpoint, a GPU, or "
            "more time."
        )
    return said
