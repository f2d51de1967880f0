"""What clients say is understood, and what is no request is refused in the words that they know."""

import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spamd.spamc.protocol import PIECE_BYTES, Refused, Request, read_command, read_headers, split_mbox_line, unpack

CHECK = Request("CHECK", (1, 5))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"CHECK SPAMC/1.5\r\n", ("CHECK", (1, 5), True)),
        (b"REPORT_IFSPAM SPAMC/1.2\n", ("REPORT_IFSPAM", (1, 2), True)),
        (b"PROCESS SPAMC/1.0\r\n", ("PROCESS", (1, 0), False)),
        (b"HEADERS SPAMC/1.4", ("HEADERS", (1, 4), True)),
        (b"PING SPAMC/1.2\r\n", ("PING", (1, 2), False)),
        (b"CHECK SPAMC/2.10\r\n", ("CHECK", (2, 10), True)),
    ],
)
def test_commands_are_read(line, expected):
    """Command and version are told apart, whatever ends the line; headers follow judged messages from 1.1 on."""
    request = read_command(line)

    assert expected == (request.command, request.version, request.has_headers)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"", b"SPAMD/1.0 76 Bad header line: (closed before headers)\r\n"),
        (b"GET / HTTP/1.1\r\n", b"SPAMD/1.0 76 Bad header line: GET / HTTP/1.1\r\n"),
        (b"check SPAMC/1.5\r\n", b"SPAMD/1.0 76 Bad header line: check SPAMC/1.5\r\n"),
        (b"CHECK RSPAMC/1.3\r\n", b"SPAMD/1.0 76 Bad header line: CHECK RSPAMC/1.3\r\n"),
        (b"CHECK SPAMC/x\r\n", b"SPAMD/1.0 76 Bad header line: CHECK SPAMC/x\r\n"),
        (b"LEARN SPAMC/1.5\r\n", b"SPAMD/1.0 76 Bad header line: LEARN SPAMC/1.5\r\n"),
        (b"\xff\x00\r\x1b[2J\r\n", b"SPAMD/1.0 76 Bad header line: ????[2J\r\n"),
        (b"A" * 500, b"SPAMD/1.0 76 Bad header line: " + b"A" * 100 + b"\r\n"),
    ],
)
def test_other_lines_are_refused(line, reply):
    """Whatever is no command is quoted back in one line, printable and short."""
    with pytest.raises(Refused) as refused:
        read_command(line)

    assert reply == refused.value.wire


@pytest.mark.parametrize("name", [b"Content-length", b"Content-Length", b"CONTENT-LENGTH", b"content-length"])
def test_names_of_headers_have_any_case(name):
    """The length counts however its name is written."""
    assert 12 == read_headers(CHECK, [name + b": 12\r\n"]).length


def test_headers_are_read():
    """What we do not know is passed over, spaces are no matter, and the last line may lack its CR."""
    request = read_headers(CHECK, [b"User: a b\r\n", b"X-Odd:\r\n", b"Content-length:7 \r\n", b"Compress: ZLIB\n"])

    assert Request("CHECK", (1, 5), 7, is_packed=True) == request


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        ([b"no header\r\n"], b"76 Bad header line: no header"),
        ([b": 7\r\n"], b"76 Bad header line: : 7"),
        ([b"Content-length: -1\r\n"], b"76 Bad header line: (Content-Length contains non-numeric bytes)"),
        ([b"Content-length: 9999999999999999\r\n"], b"76 Bad header line: (Content-Length contains non-numeric bytes)"),
        ([b"Content-length:\r\n"], b"76 Bad header line: (Content-Length contains non-numeric bytes)"),
        ([b"Content-length: 1\r\n", b"Content-Length: 2\r\n"], b"76 Bad header line: (two Content-Length headers that differ)"),
        ([b"Compress: zlib\r\n"], b"69 Service Unavailable: Compress requires Content-length header"),
        ([b"Compress: br\r\n", b"Content-length: 1\r\n"], b"69 Service Unavailable: Compression type not supported"),
    ],
)
def test_faulty_headers_are_refused(lines, reply):
    """A header that is none, or that asks for what cannot be, ends the request with its reason."""
    with pytest.raises(Refused) as refused:
        read_headers(CHECK, lines)

    assert b"SPAMD/1.0 " + reply + b"\r\n" == refused.value.wire


@given(st.binary(max_size=200), st.lists(st.binary(max_size=50), max_size=5))
def test_whatever_comes_is_read_or_refused(line, headers):
    """No bytes raise anything but a refusal, and a refusal is one line of printable ASCII."""
    refusals = []
    for read in (lambda: read_command(line), lambda: read_headers(CHECK, headers)):
        try:
            read()
        except Refused as refused:
            refusals.append(refused.wire)

    assert [] == [wire for wire in refusals if not re.fullmatch(rb"SPAMD/1\.0 \d\d [ -~]+\r\n", wire)]


@pytest.mark.parametrize("message", [b"", b"a", b"a" * (3 * PIECE_BYTES), bytes(range(256)) * 1000])
def test_packed_messages_come_out_whole(message):
    """A message is the same after packing and unpacking, and what follows the stream is no part of it."""
    pieces = list(unpack(zlib.compress(message) + b"\r\n"))

    assert message == b"".join(pieces)
    assert PIECE_BYTES >= max(map(len, pieces))


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (b"plain text", "(the message is no zlib stream)"),
        (zlib.compress(b"a" * 10_000)[:-1], "(the zlib stream is cut off)"),
        (b"", "(the zlib stream is cut off)"),
    ],
)
def test_what_is_not_zlib_is_refused(packed, reason):
    """Other bytes than a whole zlib stream are no message."""
    with pytest.raises(Refused) as refused:
        list(unpack(packed))

    assert (76, reason) == (refused.value.code, str(refused.value))


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        (b"From a Mon\nTo: b\n\n", (b"From a Mon\n", b"To: b\n\n")),
        (b"From a Mon\r\nTo: b\r\n", (b"From a Mon\r\n", b"To: b\r\n")),
        (b"From: a\n\nFrom b\n", (b"", b"From: a\n\nFrom b\n")),
        (b"From a", (b"From a", b"")),
        (b"", (b"", b"")),
    ],
)
def test_mbox_lines_are_parted(message, parts):
    """The line that mbox files begin messages with is told from the message; a From field is not one."""
    assert parts == split_mbox_line(message)
