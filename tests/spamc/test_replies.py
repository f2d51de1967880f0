"""Replies, byte for byte, to each command in each version."""

import re

import pytest
from smtp_peers import HAM, SPAM, UNSCORED

from spamd.spamc.protocol import Request
from spamd.spamc.replies import Signature, reply_to, tagged
from spamd.verdict import Verdict

SIGNATURE = Signature("mx.test", "0.1.0")
MESSAGE = b"Subject: x\r\nX-Spam-Flag: YES\r\n\r\nbody\r\n"
FIELDS = (
    b"X-Spam-Checker-Version: spamd 0.1.0 (checkpoint 2026-11-22-abcdef) on mx.test\r\n"
    b"X-Spam-Flag: YES\r\n"
    b"X-Spam-Score: 9.6\r\n"
    b"X-Spam-Level: *********\r\n"
    b"X-Spam-Status: Yes, score=9.6 required=5.0 tests=GPT2_SPAM probability=0.9900 autolearn=no version=0.1.0\r\n"
)
TAGGED = FIELDS + b"Subject: x\r\n\r\nbody\r\n"
HEADER = FIELDS + b"Subject: x\r\n\r\n"
REPORT = (
    b"Judged by spamd 0.1.0 (checkpoint 2026-11-22-abcdef) on mx.test.\n"
    b"\n"
    b"Content analysis details:   (9.6 points, 5.0 required)\n"
    b"\n"
    b" pts rule name              description\n"
    b"---- ---------------------- --------------------------------------------------\n"
    b" 9.6 GPT2_SPAM              probability of spam 0.9900\n"
)
OK = b"SPAMD/1.1 0 EX_OK\r\n"


def reply(command, version, verdict=SPAM, message=MESSAGE, signature=SIGNATURE):
    """The reply to a request, its version written as clients write it."""
    major, minor = map(int, version.split("."))
    return reply_to(message, Request(command, (major, minor)), verdict, signature)


def sized(size, rest):
    """A reply that names the size of its body."""
    return OK + b"Content-length: %d\r\n" % size + rest


@pytest.mark.parametrize(
    ("command", "version", "expected"),
    [
        ("CHECK", "1.0", OK + b"Spam: True ; 9.6 / 5.0\r\n\r\n"),
        ("CHECK", "1.2", OK + b"Spam: True ; 9.6 / 5.0\r\n\r\n"),
        ("CHECK", "1.5", OK + b"Spam: True ; 9.6 / 5.0\r\n\r\n"),
        ("SYMBOLS", "1.2", OK + b"Spam: True ; 9.6 / 5.0\r\n\r\nGPT2_SPAM\r\n"),
        ("SYMBOLS", "1.3", sized(9, b"Spam: True ; 9.6 / 5.0\r\n\r\nGPT2_SPAM")),
        ("REPORT", "1.2", OK + b"Spam: True ; 9.6 / 5.0\r\n\r\n" + REPORT),
        ("REPORT", "1.5", sized(len(REPORT), b"Spam: True ; 9.6 / 5.0\r\n\r\n" + REPORT)),
        ("REPORT_IFSPAM", "1.5", sized(len(REPORT), b"Spam: Yes ; 9.6 / 5.0\r\n\r\n" + REPORT)),
        ("PROCESS", "1.0", b"SPAMD/1.0 0 EX_OK\r\n" + TAGGED),
        ("PROCESS", "1.1", b"SPAMD/1.0 0 EX_OK\r\n" + TAGGED),
        ("PROCESS", "1.2", sized(len(TAGGED), b"\r\n" + TAGGED)),
        ("PROCESS", "1.3", sized(len(TAGGED), b"Spam: True ; 9.6 / 5.0\r\n\r\n" + TAGGED)),
        ("PROCESS", "1.5", sized(len(TAGGED), b"Spam: True ; 9.6 / 5.0\r\n\r\n" + TAGGED)),
        ("PROCESS", "2.0", sized(len(TAGGED), b"Spam: True ; 9.6 / 5.0\r\n\r\n" + TAGGED)),
        ("HEADERS", "1.4", sized(len(HEADER), b"Spam: True ; 9.6 / 5.0\r\n\r\n" + HEADER)),
    ],
)
def test_replies_about_spam(command, version, expected):
    """Spam is told as each version of the protocol tells it."""
    assert expected == reply(command, version)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("CHECK", OK + b"Spam: False ; 0.4 / 5.0\r\n\r\n"),
        ("SYMBOLS", sized(8, b"Spam: False ; 0.4 / 5.0\r\n\r\nGPT2_HAM")),
        ("REPORT_IFSPAM", sized(0, b"Spam: No ; 0.4 / 5.0\r\n\r\n")),
    ],
)
def test_replies_about_ham(command, expected):
    """Ham is told so, and has no report where that is for spam only."""
    assert expected == reply(command, "1.5", HAM)


def test_messages_without_a_verdict_are_ham():
    """Without a verdict the answer is ham with 0.0 points, and the name of its test says why."""
    assert OK + b"Spam: False ; 0.0 / 5.0\r\n\r\n" == reply("CHECK", "1.5", UNSCORED)
    assert b"SKIPPED_TIMEOUT" == reply("SYMBOLS", "1.5", UNSCORED).split(b"\r\n\r\n")[1]
    assert b" 0.0 SKIPPED_TIMEOUT        no verdict: timeout\n" in reply("REPORT", "1.5", UNSCORED)
    assert b"X-Spam-Status: No, score=0.0 required=5.0 tests=SKIPPED_TIMEOUT" in reply("PROCESS", "1.5", UNSCORED)


@pytest.mark.parametrize("score", [0.0, 0.3, 0.4999, 0.5, 0.77777, 1.0])
def test_scores_have_one_decimal(score):
    """Every score is written with exactly one decimal, as Haraka's pattern wants it, and never as -0.0."""
    told = reply("CHECK", "1.5", Verdict(score, 0.5, "one"))

    assert re.fullmatch(rb"SPAMD/1\.1 0 EX_OK\r\nSpam: (True|False) ; -?\d+\.\d / 5\.0\r\n\r\n", told)
    assert b"-0.0" not in told


def test_gtube_is_spam():
    """The test string makes 1000 points, under its own name."""
    told = reply("SYMBOLS", "1.5", Verdict(0.01, 0.5, "one", is_gtube=True))

    assert sized(5, b"Spam: True ; 1000.0 / 5.0\r\n\r\nGTUBE") == told


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"To: a\n\nb\n", FIELDS.replace(b"\r\n", b"\n") + b"To: a\n\nb\n"),
        (b"To: a\r\n\r\nb\n", FIELDS + b"To: a\r\n\r\nb\n"),
        (
            b"x-spam-status: No\n\tfolded\nTo: a\n\nX-Spam-Flag: NO\n",
            FIELDS.replace(b"\r\n", b"\n") + b"To: a\n\nX-Spam-Flag: NO\n",
        ),
        (b"From a Mon\nTo: a\n\nb", b"From a Mon\n" + FIELDS.replace(b"\r\n", b"\n") + b"To: a\n\nb"),
        (b"From a Mon\nTo: a\r\n\r\nb", b"From a Mon\n" + FIELDS + b"To: a\r\n\r\nb"),
        (
            b" folded\nTo: a\n\nb",
            FIELDS.replace(b"\r\n", b"\n")
            + b"X-Spamd-Continued: the message began with the continuation of a line\n folded\nTo: a\n\nb",
        ),
        (b"\nno header\n", FIELDS.replace(b"\r\n", b"\n") + b"\nno header\n"),
        (b"", FIELDS),
        (b"\xff\x00", FIELDS + b"\xff\x00"),
    ],
)
def test_messages_keep_their_bytes(before, after):
    """Our fields end their lines as the message does, forged ones go, an mbox line stays first, and no other byte changes."""
    assert after == tagged(before, SPAM, SIGNATURE)


@pytest.mark.parametrize(
    ("message", "subject"),
    [
        (b"Subject: x\n\nb\n", b"Subject: [spam] x\nX-Spam-Prev-Subject: x\n\nb\n"),
        (b"To: a\n\nb\n", b"Subject: [spam]\nTo: a\n\nb\n"),
        (b"To: a\r\n\r\nb\r\n", b"Subject: [spam]\r\nTo: a\r\n\r\nb\r\n"),
    ],
)
def test_subjects_of_spam_are_tagged(message, subject):
    """Where the settings want a tag before the subject of spam, it stands there as the proxy writes it, in the same line ends."""
    signature = Signature("mx.test", "0.1.0", "[spam]")

    assert tagged(message, SPAM, signature).endswith(b"version=0.1.0" + (b"\r\n" if b"\r" in message else b"\n") + subject)
    assert tagged(message, HAM, signature).endswith(message)


@pytest.mark.parametrize(
    ("message", "header"),
    [
        (b"To: a\n\nb\n\nc", b"To: a\n\n"),
        (b"To: a\r\n\r\nb", b"To: a\r\n\r\n"),
        (b"\nb", b"\n"),
        (b"To: a\n", b"To: a\n"),
    ],
)
def test_headers_end_with_their_empty_line(message, header):
    """HEADERS answers with the header and the empty line behind it, and nothing of the body."""
    told = reply("HEADERS", "1.5", message=message)

    assert told.endswith(b"version=0.1.0" + (b"\r\n" if b"\r" in message else b"\n") + header)
