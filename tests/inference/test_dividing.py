"""How texts are divided into batches and among workers."""

import pytest

from spamd.inference.dividing import budgeted, put_together, shared_out


@pytest.mark.parametrize(
    ("lengths", "max_tokens", "batches"),
    [
        ([], 10, []),
        ([3, 1, 2], 10, [[1, 2, 0]]),
        ([3, 1, 2], 4, [[1, 2], [0]]),
        ([30, 1], 10, [[1], [0]]),
        ([5, 5, 5], 10, [[0, 1], [2]]),
    ],
)
def test_batches_keep_the_budget_with_padding(lengths, max_tokens, batches):
    """Batches hold texts of similar length, and the longest times their number stays within the budget."""
    assert batches == list(budgeted(lengths, max_tokens))


@pytest.mark.parametrize(
    ("num_tokens", "num_shares", "expected"),
    [
        ([7, 1, 1, 1, 1], 2, [[0], [1, 2, 3, 4]]),
        ([3, 3], 4, [[0], [1]]),
        ([], 2, []),
        ([0, 0, 0, 0], 2, [[0, 2], [1, 3]]),
    ],
)
def test_shares_are_of_like_size(num_tokens, num_shares, expected):
    """The longest first, each to whoever has least to read."""
    assert expected == shared_out(num_tokens, num_shares)


def test_answers_come_in_order():
    """Answers to shares are put where what was asked stood, and to nothing there is no answer."""
    assert ["a", "b", "c"] == put_together([[2, 0], [1]], [["c", "a"], ["b"]])
    assert [] == put_together([], [])
