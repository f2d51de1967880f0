"""Lines and messages on the wire."""

import asyncio
from dataclasses import dataclass

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from spamd.smtp.wire import (
    END,
    MAX_UNREAD_BYTES,
    LineTooLong,
    NoEnd,
    WireReader,
    has_bare_newline,
    normalise,
    stuff,
    unstuff,
)

HOSTILE = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"a", b"\0", b"..", b"\r\n.\r\n"]), max_size=20).map(b"".join)


@dataclass
class Flow:
    """A transport that only remembers whether it is paused."""

    is_paused: bool = False

    def pause_reading(self):
        """Pause."""
        self.is_paused = True

    def resume_reading(self):
        """Resume."""
        self.is_paused = False


def reader_of(*chunks, is_over=True):
    """A reader that was fed these chunks."""
    reader = WireReader(Flow())
    for chunk in chunks:
        reader.feed(chunk)
    if is_over:
        reader.feed_eof()
    return reader


async def message_of(reader, keep=lambda _: True, stall_seconds=5.0, max_dropped_bytes=1_000_000):
    """Read a message with usual limits."""
    return await reader.read_message(keep, stall_seconds=stall_seconds, max_dropped_bytes=max_dropped_bytes)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b"..\r\n"),
        (b"a\n.\n\r\n.\r\n", b"a\n.\n\r\n"),
        (b".\n.\r\r\n.\r\n", b".\n.\r\r\n"),
        (b"a.\r\n.b\r\n.\r\n", b"a.\r\n.b\r\n"),
    ],
)
async def test_messages_end_at_the_dot(sent, expected):
    """Only CRLF dot CRLF ends a message, the CRLF of DATA counted, and what follows stays for later."""
    reader = reader_of(sent + b"QUIT\r\n")

    assert expected == await message_of(reader)
    assert b"QUIT\r\n" == await reader.read_line(100)


@given(HOSTILE, st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_chunks_do_not_matter(content, size):
    """However a message is cut into packets, the same bytes come out."""
    wire = stuff(content.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n")

    async def read():
        reader = WireReader(Flow())
        task = asyncio.ensure_future(message_of(reader))
        sent = wire + b".\r\nNOOP\r\n"
        for start in range(0, len(sent), size):
            reader.feed(sent[start : start + size])
            await asyncio.sleep(0)
        return await task, await reader.read_line(100)

    assert (wire, b"NOOP\r\n") == uvloop.run(read())


@given(HOSTILE)
def test_stuffing_is_undone(content):
    """A stuffed message un-stuffs to itself and does not end early."""
    assert content == unstuff(stuff(content))
    assert END not in stuff(b"\r\n" + content)


@given(HOSTILE)
def test_normalised_messages_hold_no_bare_newline(content):
    """After normalising, every line ends in CRLF and no line is a single dot."""
    wire = normalise(content)

    assert (False, False) == (has_bare_newline(wire), END in b"\r\n" + wire)


@given(HOSTILE)
def test_normalised_messages_hold_no_masked_end(content):
    """No next hop that drops NULs, before it looks for dots or after, sees the end of a normalised message early."""
    wire = normalise(content)

    assert END not in b"\r\n" + wire.replace(b"\0", b"")


@pytest.mark.parametrize("content", [b"a\0b\r\n", b"\0\r\n..\0x\r\n", b"\0\0\r\n"])
def test_harmless_nuls_stay(content):
    """NULs that mask nothing are content."""
    assert (False, content) == (has_bare_newline(content), normalise(content))


@pytest.mark.parametrize("content", [b"a\r\n\0.\r\nb\r\n", b".\0\r\n", b"\0.\r\n", b"a\r\n\0\0.\0\r\n", b"a\n\0.\rb\r\n"])
def test_masked_ends_are_found(content):
    """A dot among NULs is told, and after normalising none is left."""
    assert (True, False) == (has_bare_newline(content), has_bare_newline(normalise(content)))


def test_normalising_keeps_what_is_right():
    """A message with proper line ends is not changed."""
    assert b"..\r\na\r\n\r\n..b\r\n" == normalise(b"..\r\na\r\n\r\n..b\r\n")


@pytest.mark.parametrize("num_bytes", range(8))
@pytest.mark.parametrize("newline", [b"\r\n", b"\n", b"\r"])
def test_pieces_do_not_matter(monkeypatch, newline, num_bytes):
    """Large messages are looked at piece by piece; no line end is cut in two, and none is overlooked."""
    monkeypatch.setattr("spamd.smtp.wire.PIECE_BYTES", 4)
    wire = b"x" * num_bytes + b"\r\n\r\n" + newline + b"yy" + newline

    assert (newline != b"\r\n") == has_bare_newline(wire)


@given(HOSTILE, st.integers(2, 6))
def test_pieces_do_not_matter_to_what_is_made_of_them(content, num_bytes):
    """However a message is cut into pieces, the same bytes come out of normalising and un-stuffing it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spamd.smtp.wire.PIECE_BYTES", num_bytes)
        in_pieces = normalise(content), unstuff(content)

    assert (normalise(content), unstuff(content)) == in_pieces


def test_dots_are_stuffed_after_normalising():
    """A dot after a bare LF is content and stays content."""
    assert b"a\r\n..\r\n..b\r\nc\r\n" == normalise(b"a\n.\n.b\rc\r\r\n")


async def test_long_lines_are_dropped():
    """A line beyond the limit is refused once it has ended, and the next one is read."""
    reader = reader_of(b"x" * 100_000, b"y\r\nNOOP\r\n")

    with pytest.raises(LineTooLong):
        await reader.read_line(100)
    assert b"NOOP\r\n" == await reader.read_line(100)


async def test_lines_at_the_limit_are_read():
    """The limit includes the line end."""
    assert b"12345678\r\n" == await reader_of(b"12345678\r\n").read_line(10)


@pytest.mark.parametrize("read", [lambda reader: reader.read_line(100), message_of])
async def test_the_end_of_the_stream_is_told(read):
    """A stream that ends half-way is an EOFError."""
    with pytest.raises(EOFError):
        await read(reader_of(b"half"))


async def test_unwanted_messages_are_read_to_their_end():
    """What is not kept is dropped as it comes, and the next command is found."""
    asked = []
    reader = reader_of(b"x" * 300_000, b"\r\n.\r\nNOOP\r\n")

    assert None is await message_of(reader, keep=lambda num: asked.append(num) or sum(asked) < 100_000)
    assert b"NOOP\r\n" == await reader.read_line(100)


async def test_unwanted_messages_without_end_are_given_up():
    """What is not kept and does not end is not read for ever."""
    with pytest.raises(NoEnd):
        await message_of(reader_of(b"x" * 300_000), keep=lambda _: False, max_dropped_bytes=100_000)


async def test_stalled_messages_are_given_up():
    """A client that sends nothing for too long is not waited for."""
    with pytest.raises(TimeoutError):
        await message_of(reader_of(b"x", is_over=False), stall_seconds=0.05)


async def test_dribbled_messages_are_given_up():
    """A client that sends a byte now and then does not hold its place for ever: there is a least rate."""
    reader = WireReader(Flow())
    task = asyncio.ensure_future(message_of(reader, stall_seconds=0.1))
    started = asyncio.get_running_loop().time()
    while not task.done():
        reader.feed(b"x")
        await asyncio.sleep(0.01)

    with pytest.raises(TimeoutError):
        await task
    assert 0.5 > asyncio.get_running_loop().time() - started


async def test_clients_that_send_on_unasked_wait():
    """While nobody wants to read, little is taken in; a reader that wants more gets it, and one in a message is not stopped."""
    flow = Flow()
    reader = WireReader(flow)
    reader.feed(b"NOOP\r\n" + b"x" * MAX_UNREAD_BYTES)
    seen = [flow.is_paused]
    await reader.read_line(100)
    reading = asyncio.ensure_future(message_of(reader))
    await asyncio.sleep(0)
    seen.append(flow.is_paused)
    for _ in range(5):
        reader.feed(b"x" * MAX_UNREAD_BYTES)
        await asyncio.sleep(0)
        seen.append(flow.is_paused)
    reader.feed(b"\r\n.\r\n" + b"y" * (2 * MAX_UNREAD_BYTES))

    assert [True, *[False] * 6] == seen
    assert 6 * MAX_UNREAD_BYTES + 2 == len(await reading)
    assert flow.is_paused
