"""Address and subject fields as text."""

import pytest

from spamd.mail.addresses import recipients_of, split_address, without_recipients, without_tags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann <ann@a.example>", ("Ann", "ann@a.example")),
        ('"Ann, of A" <ann@a.example>', ("Ann, of A", "ann@a.example")),
        ("ann@a.example", ("", "ann@a.example")),
        ("ann@a.example (Ann)", ("Ann", "ann@a.example ")),
        ("a@b.example <x@y.example>", ("a@b.example", "x@y.example")),
        ("<a@b.example> <x@y.example>", ("<a@b.example>", "x@y.example")),
        ("", ("", "")),
    ],
)
def test_address_fields_are_split(text, expected):
    """Display name and address are told apart in fields that follow no grammar."""
    assert split_address(text) == expected


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("[SPAM] x", "x"),
        ("***SPAM*** x", "x"),
        ("*****SPAM***** x", "x"),
        ("{Spam?} x", "x"),
        ("[SPAM 9.1] x", "x"),
        ("[Suspected Spam] x", "x"),
        ("[Bulk][junk] x", "x"),
        ("[spam] [SPAM]  x", "x"),
        ("[anti-spam] x", "[anti-spam] x"),
        ("[spamassassin-talk] x", "[spamassassin-talk] x"),
        ("(no spam here) x", "(no spam here) x"),
        ("SPAM is tasty", "SPAM is tasty"),
        ("[SPAM]", ""),
    ],
)
def test_tags_of_filters_go_from_subjects(subject, expected):
    """The verdicts of other filters are taken from a subject, all else in brackets stays."""
    assert without_tags(subject) == expected


def test_recipients_are_found_and_replaced():
    """Addresses of the recipients become one token, those of lists and of others stay."""
    recipients = recipients_of({"to": b"Bob <Bob@A.example>, users@lists.example.org", "from": b"x@y.example"})

    text = without_recipients("bob@a.example, users@lists.example.org, x@y.example", recipients)

    assert text == "[recipient], users@lists.example.org, x@y.example"


def test_many_recipients_are_none():
    """A message to many tells nothing about any of them."""
    assert recipients_of({"to": b"a@x.example, b@x.example, c@x.example, d@x.example"}) == frozenset()
