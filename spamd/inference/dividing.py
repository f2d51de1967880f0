"""How texts are divided: into batches of similar length, and among workers so that none has much more to read than the others.

Arithmetic on lengths alone. Called by `engine` and `fallback`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def budgeted(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Divide sequences into batches of similar length.

    Args:
        lengths: tokens of each sequence.
        max_tokens: tokens of a batch, padding to its longest sequence included; a longer sequence goes alone.

    Yields:
        Indices into `lengths`, shortest sequences first.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def shared_out(num_tokens: Sequence[int], num_shares: int) -> list[list[int]]:
    """Share texts out so that nobody has much more to read than the others.

    Args:
        num_tokens: of each text.
        num_shares: shares wanted; fewer are made of fewer texts.

    Returns:
        Numbers of the texts of each share, none empty, and each text in one.
    """
    shares: list[list[int]] = [[] for _ in range(min(num_shares, len(num_tokens)))]
    loads = [0] * len(shares)
    for number in sorted(range(len(num_tokens)), key=num_tokens.__getitem__, reverse=True):
        least = loads.index(min(loads))
        shares[least].append(number)
        # One more than it has: texts of no length count too.
        loads[least] += num_tokens[number] + 1
    return shares


def put_together(shares: Iterable[Sequence[int]], answers: Iterable[Sequence[T]]) -> list[T]:
    """Bring the answers to shares into the order of what was divided.

    Args:
        shares: numbers of what each share holds, all together each once.
        answers: an answer to each, share by share.
    """
    found: dict[int, T] = {}
    for share, answer in zip(shares, answers, strict=True):
        found |= zip(share, answer, strict=True)
    return [found[number] for number in range(len(found))]
