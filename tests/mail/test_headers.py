"""Header fields as bytes."""

import re
import time
from datetime import UTC, datetime
from email import message_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spamd.mail.headers import (
    count_hops,
    count_passes,
    prepend_fields,
    received_field,
    rewrite_subject,
    strip_fields,
    verdict_fields,
)
from spamd.verdict import Unscored, Verdict

FIELDS = b"X-Spam-Flag: YES\r\nX-Spam-Status: Yes\r\n"
PIECES = [
    *(b"X-Spam-Flag: NO", b"x-spam-status : No,", b"X-SPAM-LEVEL:", b"X-Spam-Prev-Subject: old", b".X-Spam-Flag: NO", b"X-Spam"),
    *(
        b"Subject: hello",
        b"Received: from a by b",
        b"garbage",
        b" continued",
        b"\tX-Spam-Flag: NO",
        b". dotted",
        b".",
        b":",
        b" ",
    ),
    *(b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\r\r\n", b"body text", b"\xff\0"),
]
MESSAGES = st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join)


def seen_fields(header: bytes, line_end: bytes) -> list[bytes]:
    """List the X-Spam fields that a reader sees who ends lines at `line_end` and the header at the first empty line."""
    seen = []
    for line in re.split(line_end, header):
        if not line:
            break
        if re.match(rb"x-spam-(?!prev-)[!-9;-~]*[ \t]*:", line, re.IGNORECASE):
            seen.append(line)
    return seen


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"X-Spam-Flag: YES\r\nTo: a\r\n\r\nb", b"To: a\r\n\r\nb"),
        (b"To: a\r\nx-SPAM-flag: YES\r\n\r\nb", b"To: a\r\n\r\nb"),
        (b"To: a\nX-Spam-Status: Yes,\n\tscore=9\n  more\nCc: c\n\nb", b"To: a\nCc: c\n\nb"),
        (b"X-Spam-A: 1\r\nX-Spam-B: 2\r\nTo: a\r\nX-Spam-A: 3\r\n\r\nb", b"To: a\r\n\r\nb"),
        (b"X-Spam-Prev-Subject: a\r\nX-Spam-Prev: b\r\n\r\n", b"X-Spam-Prev-Subject: a\r\n\r\n"),
        (b"To: a\r\n\r\nX-Spam-Flag: in the body\r\n", b"To: a\r\n\r\nX-Spam-Flag: in the body\r\n"),
        (b"no field\r\nX-Spam-Flag: NO\r\n\r\nb", b"no field\r\n\r\nb"),
        (b"Subject: a\rX-Spam-Flag: NO\r\nTo: b\r\n\r\n", b"Subject: a\r\nTo: b\r\n\r\n"),
        (b"Subject: a\rX-Spam-Flag: NO\rTo: b\r\n\r\n", b"Subject: a\rTo: b\r\n\r\n"),
        (b"To: a\r\n\rX-Spam-Flag: NO\r\nCc: c\r\n\r\n", b"To: a\r\nCc: c\r\n\r\n"),
        (b"To: a\r\n.X-Spam-Flag: NO\r\n. more\r\n\r\nb", b"To: a\r\n\r\nb"),
        (b"To: a\r\nX-Spam-Flag : NO\r\n\r\nb", b"To: a\r\n\r\nb"),
        (b"To: a\r\nX-Spam-Flag\r\n\r\nb", b"To: a\r\nX-Spam-Flag\r\n\r\nb"),
        (b"X-Spam: rspamd\r\nX-Spamd: no\r\n\r\n", b"X-Spam: rspamd\r\nX-Spamd: no\r\n\r\n"),
        (b"To: a\r\nX-Spam-Flag: NO", b"To: a\r\n"),
        (b"\r\nX-Spam-Flag: in the body", b"\r\nX-Spam-Flag: in the body"),
        (b"", b""),
    ],
)
def test_forged_fields_go(before, after):
    """Forged fields go in any case and folding, every copy, down to the first empty line; all else stays."""
    assert after == strip_fields(before)


def test_untouched_message_is_not_copied():
    """A message without such fields comes back as the same object."""
    message = b"To: a\r\n\r\nX-Spam-Flag: x"

    assert strip_fields(message) is message


@settings(max_examples=1000)
@given(MESSAGES)
def test_no_reader_sees_a_forged_field(message):
    """No reader sees a forged field afterwards, whichever bytes end a line for it, before or after dots are un-stuffed.

    Readers to whom a bare LF ends no line are left out: the proxy lets no bare LF pass.
    """
    kept = strip_fields(message)
    unstuffed = re.sub(rb"(?m)^\.", b"", kept)

    for line_end in (rb"\r?\n", rb"\r\n|\r|\n"):
        assert seen_fields(kept, line_end) == []
        assert seen_fields(unstuffed, line_end) == []
    names = [name.lower() for name in message_from_bytes(kept).keys()]  # noqa: SIM118  a Message yields no names by itself
    assert not [name for name in names if name.startswith("x-spam-") and not name.startswith("x-spam-prev-")]


@settings(max_examples=1000)
@given(MESSAGES)
def test_stripping_twice_is_stripping_once(message):
    """Stripping is settled after one pass."""
    once = strip_fields(message)

    assert once == strip_fields(once)


@settings(max_examples=500)
@given(MESSAGES)
def test_all_other_lines_are_kept(message):
    """Every line that holds no forged field or part of one is still there, in order."""
    kept = strip_fields(message)
    expected = [
        line for line in re.split(rb"[\r\n]+", message) if line and not re.match(rb"\.?(x-spam|[ \t])", line, re.IGNORECASE)
    ]
    found = [line for line in re.split(rb"[\r\n]+", kept) if line and not re.match(rb"\.?(x-spam|[ \t])", line, re.IGNORECASE)]

    assert expected == found


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_message_without_forgeries_is_kept_byte_for_byte(message):
    """Our fields stand before the message, and no byte of it changes."""
    tagged = prepend_fields(message, FIELDS)

    assert tagged.startswith(FIELDS)
    assert tagged.endswith(strip_fields(message))


@pytest.mark.parametrize("start", [b" folded", b"\tfolded", b". wire", b".\twire"])
def test_white_space_at_the_start_does_not_fold_into_our_fields(start):
    """A message that begins like a continuation continues a field that nobody reads."""
    tagged = prepend_fields(start + b"\r\nTo: a\r\n\r\n", FIELDS)

    assert message_from_bytes(tagged)["X-Spam-Status"] == "Yes"
    assert tagged.endswith(start + b"\r\nTo: a\r\n\r\n")


@pytest.mark.parametrize("piece", [b"X-Spam-A:\r\n", b"X-Spam-A: b\r", b"a\r", b"X-Spam-A:\r\n \r\n", b"x-spam-"])
def test_large_headers_take_little_time(piece):
    """Stripping stays linear in a header of many megabytes."""
    message = piece * (8_000_000 // len(piece))
    start = time.process_time()

    strip_fields(message)

    assert time.process_time() - start < 3.0


def test_spam_is_tagged():
    """The fields of spam are the ones that other software knows, byte for byte."""
    verdict = Verdict(score=0.9987, threshold=0.9, checkpoint="2026-11-22-a1b2c3")
    expected = (
        b"X-Spam-Checker-Version: spamd 0.1.0 (checkpoint 2026-11-22-a1b2c3) on mx.example.org\r\n"
        b"X-Spam-Flag: YES\r\n"
        b"X-Spam-Score: 9.4\r\n"
        b"X-Spam-Level: *********\r\n"
        b"X-Spam-Status: Yes, score=9.4 required=5.0 tests=GPT2_SPAM probability=0.9987 autolearn=no version=0.1.0\r\n"
    )

    assert expected == verdict_fields(verdict, hostname="mx.example.org", version="0.1.0")


def test_ham_is_tagged_without_flag():
    """Ham has no flag, and a level without stars below one point, as SpamAssassin writes it."""
    fields = verdict_fields(Verdict(score=0.001, threshold=0.9, checkpoint="c"), hostname="mx", version="0.1.0")

    assert b"Flag" not in fields
    assert b"X-Spam-Level: \r\n" in fields
    assert b"X-Spam-Status: No, score=-4.1 required=5.0 tests=GPT2_HAM probability=0.0010 " in fields


def test_gtube_has_fifty_stars():
    """The level stops at 50 stars."""
    fields = verdict_fields(Verdict(score=0.0, threshold=0.5, checkpoint="c", is_gtube=True), hostname="mx", version="1")

    assert b"X-Spam-Level: " + b"*" * 50 + b"\r\n" in fields
    assert b"tests=GTUBE " in fields


@pytest.mark.parametrize("reason", ["timeout", "error", "overload"])
def test_missing_verdict_says_why(reason):
    """A message without verdict bears version and status only, so that a forged verdict cannot pass for ours."""
    fields = verdict_fields(Unscored(reason, "c"), hostname="mx", version="0.1.0")

    assert fields == (
        b"X-Spam-Checker-Version: spamd 0.1.0 (checkpoint c) on mx\r\n"
        b"X-Spam-Status: No, score=0.0 required=5.0 tests=SKIPPED_" + reason.upper().encode() + b" autolearn=no version=0.1.0\r\n"
    )


WHEN = datetime(2026, 11, 22, 21, 0, 0, tzinfo=UTC)


def trace(**changes):
    """Write a Received field."""
    values = {"client": "192.0.2.1", "helo": "mail.example.org", "hostname": "mx.example.net", "identifier": "a1b2.7"}
    return received_field(**{**values, "when": WHEN, "protocol": "ESMTP", **changes})


def test_trace_field_reads_as_rfc_5321_has_it():
    """The trace names client, host, protocol, id and time."""
    assert b" ".join(trace().split()) == (
        b"Received: from mail.example.org ([192.0.2.1]) by mx.example.net (spamd) with ESMTP id a1b2.7; "
        b"Sun, 22 Nov 2026 21:00:00 +0000"
    )
    assert b"([IPv6:2001:db8::1])" in trace(client="2001:db8::1")
    assert b"([" not in trace(client="")


@given(st.text(), st.text(), st.text(), st.text())
def test_trace_field_is_one_field_whatever_the_client_says(client, helo, hostname, identifier):
    """No greeting breaks out of the field or its lines."""
    field = trace(client=client, helo=helo, hostname=hostname, identifier=identifier)
    lines = field.split(b"\r\n")

    assert field.isascii()
    assert lines[-1] == b""
    assert all(line.startswith(b" ") for line in lines[1:-1])
    assert all(0 < len(line) < 78 for line in lines[:-1])


def test_hops_are_counted_in_the_header_only():
    """Received fields count in any case, those in the body do not."""
    message = b"Received: a\r\nRECEIVED : b\r\n c\r\n.received: d\r\nX-Received: e\r\n\r\nReceived: f\r\n"

    assert count_hops(message) == 3
    assert count_hops(b"To: a\r\n\r\n") == 0


def test_own_id_is_counted_in_trace_fields():
    """Our id is found whole or as the part before a dot, in Received fields only, as often as it stands there."""
    message = trace() + b"To: b\r\n\r\n"
    ids = ("a1b2", "a1b2.7", "a1b", "")

    assert [1, 1, 0, 0] == [count_passes(message, one) for one in ids]
    assert [2, 2, 0, 0] == [count_passes(trace() + message, one) for one in ids]
    assert 0 == count_passes(b"Subject: id a1b2\r\n\r\nReceived: x id a1b2;", "a1b2")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Subject: a\r\nTo: b\r\n\r\nc", b"Subject: [SPAM] a\r\nX-Spam-Prev-Subject: a\r\nTo: b\r\n\r\nc"),
        (b"subject:a\n b\nTo: b\n\nc", b"subject: [SPAM] a\n b\nX-Spam-Prev-Subject:a\n b\nTo: b\n\nc"),
        (b"Subject: =?utf-8?q?a?=\r\n\r\n", b"Subject: [SPAM] =?utf-8?q?a?=\r\nX-Spam-Prev-Subject: =?utf-8?q?a?=\r\n\r\n"),
        (b"Subject: a\rTo: b\r\n\r\n", b"Subject: [SPAM] a\r\nX-Spam-Prev-Subject: a\rTo: b\r\n\r\n"),
        (b"To: b\r\n\r\nSubject: c", b"Subject: [SPAM]\r\nTo: b\r\n\r\nSubject: c"),
        (b"Subject: [SPAM] a\r\n\r\n", b"Subject: [SPAM] a\r\n\r\n"),
        (b"Subject: a", b"Subject: [SPAM] a\r\nX-Spam-Prev-Subject: a"),
    ],
)
def test_subject_is_tagged(before, after):
    """The first subject gets the tag, its old value is kept, and nothing else changes."""
    assert after == rewrite_subject(before, "[SPAM]")


@settings(max_examples=300)
@given(MESSAGES, st.sampled_from(["[SPAM]", "[Müll]", "*** 垃圾 ***", "=?x", ""]))
def test_tagging_twice_is_tagging_once(message, tag):
    """A tagged subject is not tagged again."""
    once = rewrite_subject(message, tag)

    assert once == rewrite_subject(once, tag)


def test_tag_in_letters_beyond_ascii_is_encoded():
    """A tag that is not ASCII becomes an encoded word, with the blank inside where another encoded word follows."""
    plain = rewrite_subject(b"Subject: a\r\n\r\n", "[Müll]")
    encoded = rewrite_subject(b"Subject: =?utf-8?q?a?=\r\n\r\n", "[Müll]")

    assert plain.startswith(b"Subject: =?utf-8?b?W03DvGxsXQ==?= a\r\n")
    assert encoded.startswith(b"Subject: =?utf-8?b?W03DvGxsXSA=?= =?utf-8?q?a?=\r\n")


def test_long_subject_is_folded_behind_the_tag():
    """The tag never makes a line longer than SMTP allows."""
    tagged = rewrite_subject(b"Subject: " + b"x" * 985 + b"\r\n\r\n", "[SPAM]")

    assert max(map(len, tagged.split(b"\r\n"))) <= 1010
    assert tagged.startswith(b"Subject: [SPAM]\r\n xxx")
