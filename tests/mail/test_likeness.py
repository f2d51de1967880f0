"""Copies share a digest, other messages do not."""

import pytest

from spamd.mail.likeness import digest, normalise


@pytest.mark.parametrize(("one", "other"), [("Win £100 now!!!", "WIN £999 NOW"), ("Straße  7", "STRASSE 8"), ("12 345", "12345")])
def test_copies_share_a_digest(one, other):
    """Digits, punctuation, spacing and case make no difference."""
    assert normalise(one) == normalise(other)
    assert digest(one) == digest(other)


def test_other_texts_have_other_digests():
    """Two numbers are two messages; a lone surrogate is a text like any other."""
    assert 3 == len({digest("111"), digest("222"), digest("\ud800")})
