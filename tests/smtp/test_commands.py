"""What EHLO announces; the commands themselves are tested by dialogs."""

import pytest

from spamd.smtp.commands import announcement


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, ["PIPELINING"]),
        ({"SIZE": "500"}, ["PIPELINING", "SIZE 500"]),
        ({"SIZE": "5000"}, ["PIPELINING", "SIZE 1000"]),
        ({"SIZE": "0"}, ["PIPELINING", "SIZE 1000"]),
        ({"SIZE": ""}, ["PIPELINING", "SIZE 1000"]),
        ({"XFORWARD": "NAME ADDR", "DSN": ""}, ["PIPELINING", "DSN", "XFORWARD NAME ADDR"]),
        ({"CHUNKING": "", "BINARYMIME": "", "STARTTLS": "", "AUTH": "PLAIN", "VRFY": "", "PIPELINING": ""}, ["PIPELINING"]),
    ],
)
def test_only_what_works_through_us_is_announced(capabilities, expected):
    """EHLO announces what both we and the next hop can do, the lower size limit, and PIPELINING."""
    assert expected == announcement(capabilities, 1000)
