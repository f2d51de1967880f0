"""Raw bytes to parts."""

from email import message_from_bytes
from pathlib import Path

import pytest

from spamd.mail.message import MAX_DEPTH, MAX_PARSED_BYTES, MAX_PARTS, parse_message, walk

MESSAGES = Path(__file__).parent.parent / "messages"
SOUND = ["alternative", "attachments", "big5", "bounce", "embedded_message", "koi8_r", "plain", "utf_16", "link_elsewhere"]


def leaves(raw):
    """List content type and body of every part without children."""
    return [(part.content_type, part.content) for part in walk(parse_message(raw).root) if not part.children]


@pytest.mark.parametrize("name", SOUND)
def test_sound_message_splits_as_the_standard_library_splits_it(name):
    """Types and bodies of the parts of a well-formed message are those that `email` finds."""
    raw = (MESSAGES / f"{name}.eml").read_bytes().replace(b"\r\n", b"\n")
    expected = [
        (part.get_content_type(), part.get_payload(decode=True))
        for part in message_from_bytes(raw).walk()
        if not part.is_multipart() and part.get_content_type() != "message/delivery-status"
    ]

    found = [leaf for leaf in leaves(raw) if leaf[0] != "message/delivery-status"]

    assert [(kind, body.rstrip(b"\n")) for kind, body in expected if kind != "text/plain" or body] == [
        (kind, body.rstrip(b"\n")) for kind, body in found
    ]


def test_raw_bytes_are_kept():
    """The message keeps the very bytes that it was made of."""
    raw = b"Subject: x\r\n\r\n\0body"

    assert parse_message(raw).raw is raw


def test_first_copy_of_a_field_counts():
    """Of a repeated field, the first copy is read, whatever the case of its name."""
    root = parse_message(b"SUBJECT: one\nSubject: two\n\n").root

    assert root.header("subject") == "one"


def test_folded_field_is_joined():
    """A folded field is one value."""
    root = parse_message(b"Subject: one\n two\n\tthree\n\n").root

    assert root.header("subject") == "one two\tthree"


def test_parameters_may_be_split_and_encoded():
    """A file name in pieces (RFC 2231) is put together and decoded."""
    raw = (MESSAGES / "attachments.eml").read_bytes()

    names = [part.filename for part in walk(parse_message(raw).root)]

    assert names == ["", "", "Rechnung für Müller.pdf", "invoice.pdf.exe", "logo.png"]


@pytest.mark.parametrize("encoding", [b"base64 (x)", b"base64;", b'"base64"', b" (a) BASE64"])
def test_the_first_word_of_a_transfer_encoding_counts(encoding):
    """Comments, quotes and what follows hide no content."""
    raw = b"Content-Type: text/html\nContent-Transfer-Encoding: " + encoding + b"\n\nPHA+aGk="

    assert [body for _, body in leaves(raw)] == [b"<p>hi"]


@pytest.mark.parametrize(
    "content_type",
    [
        b"multipart/mixed (x); boundary=a",
        b"multipart/mixed; (x) (y) boundary=a",
        b"multipart/mixed; boundary=a (x)",
        b"multipart/mixed; boundary=a(x) ; charset=utf-8",
    ],
)
def test_comments_are_no_part_of_a_type(content_type):
    """They may stand between all words of a structured field."""
    assert [body for _, body in leaves(b"Content-Type: " + content_type + b"\n\n--a\n\none\n--a--\n")] == [b"one"]


def test_boundaries_are_no_encoded_words():
    """A boundary that looks like one is taken as it stands (RFC 2047, section 5); a file name in parentheses stays whole."""
    raw = b'Content-Type: multipart/mixed; boundary="=?a?q?b?="; name=report (1).pdf\n\n--=?a?q?b?=\n\none\n--=?a?q?b?=--\n'

    assert [body for _, body in leaves(raw)] == [b"one"]
    assert parse_message(raw).root.filename == "report (1).pdf"


def test_nested_boundaries_that_share_a_prefix_are_told_apart():
    """A boundary that begins like another one does not end its part."""
    raw = (
        b"Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=ab\n\n"
        b"--ab\n\none\n--ab\n\ntwo\n--ab--\n--a\n\nthree\n--a--\n"
    )

    assert [body for _, body in leaves(raw)] == [b"one", b"two", b"three"]


def test_long_message_is_cut():
    """Only the first bytes of a long message are parsed, and it says so."""
    message = parse_message(b"Subject: x\n\n" + b"y" * MAX_PARSED_BYTES)

    assert "cut" in message.defects
    assert len(message.root.encoded) < MAX_PARSED_BYTES


def test_parts_are_limited():
    """A message of many parts is read up to the limit, and says so."""
    message = parse_message(b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 1000)

    assert len(walk(message.root)) <= MAX_PARTS
    assert "parts" in message.defects


def test_nesting_is_limited():
    """A chain of embedded messages is followed to the limit, and says so."""
    message = parse_message(b"Content-Type: message/rfc822\n\n" * 5000 + b"x")

    assert len(walk(message.root)) == MAX_DEPTH + 1
    assert "depth" in message.defects


def test_charset_hint_comes_from_any_part():
    """The charset for raw header bytes is the first that a part declares."""
    raw = (MESSAGES / "alternative.eml").read_bytes()

    assert parse_message(raw).charset == "utf-8"


@pytest.mark.parametrize("raw", [b"", b"\n", b":", b" ", b"\r", b"From ", b"From x\n", b"\0", b"a:\n b", b"Content-Type:\n\n"])
def test_next_to_nothing_is_a_message(raw):
    """The smallest messages have one part."""
    assert len(walk(parse_message(raw).root)) == 1
