"""Batches of messages of about the same length, so that little is computed for padding.

Plans positions only; the caller pads what it batches. Called by `trainer` and `trunk_cache`.
"""

import random
from collections.abc import Sequence

BATCHES_A_POOL = 50
"""Messages are sorted by length within pools of this many batches: short enough that batches differ from epoch to epoch."""


def by_length(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Put messages into batches for computing without training, shortest first.

    Args:
        lengths: tokens of each message.
        max_tokens: tokens of a batch, padding counted; a longer message has a batch of its own.

    Returns:
        Batches of positions into `lengths`, each position once.
    """
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        # Sorted, so the newcomer is the longest and sets the padded length.
        if batches and (len(batches[-1]) + 1) * lengths[position] <= max_tokens:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


def shuffled(lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Put messages into batches for one epoch of training.

    Messages are shuffled, sorted by length pool by pool, cut, and the batches shuffled. The last batch of an epoch may be
    smaller; no message is left out.

    Args:
        lengths: tokens of each message.
        batch_size: messages a batch.
        seed: of the shuffling; the same seed and epoch give the same batches.
        epoch: counted from 0.

    Returns:
        Batches of positions into `lengths`, each position once.

    Raises:
        ValueError: the batch size is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"a batch of {batch_size} messages is none")
    order = list(range(len(lengths)))
    chance = random.Random(f"{seed} {epoch}")  # noqa: S311  training, not secrets
    chance.shuffle(order)
    batches = []
    pool_size = batch_size * BATCHES_A_POOL
    for start in range(0, len(order), pool_size):
        pool = sorted(order[start : start + pool_size], key=lengths.__getitem__)
        batches += [pool[cut : cut + batch_size] for cut in range(0, len(pool), batch_size)]
    chance.shuffle(batches)
    return batches
