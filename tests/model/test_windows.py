"""What is read of long mail."""

import pytest

from spamd.model.windows import budget, split


@pytest.mark.parametrize(
    ("num_ids", "windows"),
    [
        (1, [(0, 1)]),
        (4, [(0, 4)]),
        (5, [(0, 4), (1, 5)]),
        (8, [(0, 4), (4, 8)]),
        (9, [(0, 4), (4, 8), (5, 9)]),
    ],
)
def test_windows_cover_everything(num_ids, windows):
    """Windows follow one another, the last one is full where there are several, and no id is left out."""
    ids = list(range(num_ids))

    assert [ids[start:end] for start, end in windows] == split(ids, 4, "windows")


def test_head_and_tail_are_computed_at_once():
    """What a table of n-grams reads beyond the trunk's budget is no window."""
    assert [list(range(9))] == split(list(range(9)), 4, "head-tail")


def test_windows_read_four_times_as_much():
    """Head and tail share one budget; windows have four."""
    assert (256, 1024) == (budget(256, "head-tail"), budget(256, "windows"))


@pytest.mark.parametrize(("num_counted", "read"), [(0, (256, 1024)), (100, (256, 1024)), (2000, (2000, 1024))])
def test_a_table_may_read_on(num_counted, read):
    """Of head and tail a table reads more than the trunk where its budget is the larger one; windows are all that it reads."""
    assert read == (budget(256, "head-tail", num_counted), budget(256, "windows", num_counted))
