"""The day of a message is found where its own side wrote it, and no bytes are too odd."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spamd.mail.dates import arrival

RECEIVED = b"Received: from a by b; Mon, 1 Jan 2024 10:00:00 +0100\r\n"
OLDER = b"Received: from c by a;\r\n Tue, 2 Jan 2020 10:00:00 +0000\r\n"
DATE = b"Date: Tue, 2 Jan 2018 10:00:00 -0000\r\n"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (RECEIVED + OLDER + DATE, 1704099600.0),
        (OLDER, 1577959200.0),
        (DATE, 1514887200.0),
        (b"Received: from a by b\r\n" + DATE, 1514887200.0),
        (b"Date: yesterday\r\n", None),
        (b"Date: Tue, 2 Jan 99999999999 10:00:00 -0000\r\n", None),
        (b"", None),
    ],
)
def test_the_topmost_received_counts(head, expected):
    """Received before Date, the topmost first; nothing where neither can be read."""
    assert expected == arrival(head + b"\r\nbody")


@given(st.binary(max_size=200))
def test_no_bytes_are_too_odd(value):
    """Hostile dates never raise."""
    arrival(b"Date: " + value + b"\n\n")
    arrival(b"Received: x; " + value + b"\n\n")
