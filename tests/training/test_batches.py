"""Batches hold every message once and little padding."""

import random

import pytest

from spamd.training.batches import by_length, shuffled

_CHANCE = random.Random(7)
LENGTHS = [_CHANCE.randint(1, 500) for _ in range(1003)]


def _padded(batches):
    """Tokens computed, padding included."""
    return sum(len(batch) * max(LENGTHS[position] for position in batch) for batch in batches)


def test_every_message_is_in_one_batch():
    """No message is left out or repeated, the last incomplete batch included."""
    batches = shuffled(LENGTHS, 8, seed=1, epoch=0)

    assert list(range(1003)) == sorted(position for batch in batches for position in batch)
    assert 8 == max(map(len, batches))


def test_batches_waste_little():
    """Sorted within pools, padding costs less than a tenth, where random batches would nearly double the work."""
    assert _padded(shuffled(LENGTHS, 8, seed=1, epoch=0)) < 1.1 * sum(LENGTHS)


def test_batches_repeat_by_seed_and_differ_by_epoch():
    """Seed and epoch decide the batches and nothing else does."""
    first = shuffled(LENGTHS, 8, seed=1, epoch=0)

    assert first == shuffled(LENGTHS, 8, seed=1, epoch=0)
    assert first != shuffled(LENGTHS, 8, seed=1, epoch=1)
    assert first != shuffled(LENGTHS, 8, seed=2, epoch=0)


def test_batches_do_not_come_in_order_of_length():
    """Short messages do not all come first."""
    means = [sum(LENGTHS[position] for position in batch) / len(batch) for batch in shuffled(LENGTHS, 8, seed=1, epoch=0)]

    assert means != sorted(means)


def test_a_batch_of_none_is_refused():
    """A batch size below one is a programmer's mistake."""
    with pytest.raises(ValueError, match="a batch of 0 messages"):
        shuffled(LENGTHS, 0, seed=1, epoch=0)


def test_by_length_keeps_the_budget():
    """Batches for scoring stay within their tokens, save a message that alone is longer."""
    batches = by_length([*LENGTHS, 5000], 2048)

    assert list(range(1004)) == sorted(position for batch in batches for position in batch)
    assert [1003] == batches[-1]
    assert all(len(batch) * max(LENGTHS[p] for p in batch) <= 2048 for batch in batches[:-1])


def test_no_messages_make_no_batches():
    """Nothing in, nothing out."""
    assert [] == by_length([], 10) == shuffled([], 8, seed=0, epoch=0)
