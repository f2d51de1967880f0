"""The client towards the next hop."""

import asyncio
import contextlib

import pytest
from next_hop import Fault, NextHop

from spamd.errors import RelayError
from spamd.smtp.next_hop import NextHop as OurNextHop
from spamd.smtp.relay import Timeouts

SHORT = Timeouts(connect_seconds=0.5, command_seconds=0.15, dot_seconds=0.15)
WIRE = b"Subject: x\r\n\r\n..dot\r\n"


@pytest.fixture
async def connection(next_hop):
    """A connection that has introduced itself."""
    made = await OurNextHop(next_hop.address, hostname="mx.test").connect()
    yield made
    made.abort()
    await asyncio.sleep(0)


async def test_lines_are_sent_verbatim(connection, next_hop):
    """No byte of a command is changed."""
    line = b'mail from:<"a,b  c"@d.e> BODY=8BITMIME  ENVID=x+2By \xc3\xa9'
    await connection.command(line)

    assert [b"EHLO mx.test", line] == next_hop.commands


async def test_messages_are_sent_verbatim(connection, next_hop):
    """The wire form goes out as it is, whatever its size, and the dot is added."""
    wires = [WIRE, b"x" * 3_000_000 + b"\r\n", b""]
    for wire in wires:
        await connection.command(b"MAIL FROM:<>")
        await connection.command(b"RCPT TO:<a@b>")
        if wire:
            await connection.send(wire)

    assert [WIRE, wires[1]] == [message.wire for message in next_hop.messages]


@pytest.mark.parametrize("wire", [b"a\r\n.\r\nMAIL", b"no line end", b".\r\n", b"a\r\n.\r\n"])
async def test_messages_that_end_early_are_not_sent(connection, next_hop, wire):
    """A mistake of ours cannot become two messages at the next hop."""
    await connection.command(b"MAIL FROM:<>")
    await connection.command(b"RCPT TO:<a@b>")

    with pytest.raises(ValueError, match="wire form"):
        await connection.send(wire)
    assert [] == next_hop.messages


async def test_replies_keep_their_lines(connection, next_hop):
    """A reply of several lines stays one of several lines, in bytes."""
    next_hop.replies = lambda line: b"550-un\r\n550 \xe9" if line == b"VRFY x" else None

    assert b"550-un\r\n550 \xe9" == (await connection.command(b"VRFY x")).wire


@pytest.mark.parametrize(
    "reply",
    [b"hello", b"250-a\r\n550 b", b"150 early", b"\r\n250 late", b"250-" + b"x" * 100_000, b"250-x\r\n" * 200 + b"250 x"],
)
async def test_nonsense_closes_the_connection(connection, next_hop, reply):
    """What is no reply, or one without measure, is an error, and nothing is read on."""
    next_hop.replies = lambda line: reply if line == b"NOOP" else None

    with pytest.raises(RelayError, match="next hop"):
        await connection.command(b"NOOP")
    assert True is connection.is_lost


async def test_unasked_replies_are_never_taken_for_answers(connection, next_hop):
    """A reply too many would shift all answers by one: the connection is given up instead."""
    next_hop.replies = lambda line: b"250 ok\r\n250 once more" if line == b"NOOP" else None
    await connection.command(b"NOOP")
    await asyncio.sleep(0.05)

    assert False is connection.is_silent
    with pytest.raises(RelayError, match="spoke before MAIL was sent"):
        await connection.command(b"MAIL FROM:<>")


async def test_silence_is_an_error_that_names_the_place(next_hop):
    """A next hop that says nothing is given up after the time allowed, in a sentence for the operator."""
    next_hop.faults = [Fault("banner", "stall")]

    with pytest.raises(RelayError, match=rf"{next_hop.address} did not answer our connection within 0.15 s; check"):
        await OurNextHop(next_hop.address, hostname="mx.test", timeouts=SHORT).connect()


@contextlib.asynccontextmanager
async def next_hop_after_data(behave):
    """A next hop that takes everything up to DATA and then does as told; yields a connection to it."""

    async def converse(reader, writer):
        writer.write(b"220 x\r\n")
        while not (await reader.readline()).startswith(b"DATA"):
            writer.write(b"250 ok\r\n")
        writer.write(b"354 go\r\n")
        with contextlib.suppress(ConnectionError):
            await behave(reader, writer)
        writer.transport.abort()
        is_over.set()

    is_over = asyncio.Event()
    async with await asyncio.start_server(converse, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield await OurNextHop(address, hostname="mx.test", timeouts=SHORT).connect()
        await is_over.wait()
        await asyncio.sleep(0)


async def test_refusals_in_the_middle_of_a_message_are_taken():
    """A next hop that refuses a big message before its end is believed, and no dot is sent."""
    seen = []

    async def refuse_early(reader, writer):
        await reader.readexactly(10)
        writer.write(b"552 5.3.4 too big\r\n")
        while some := await reader.read(1_000_000):
            seen.append(some)

    async with next_hop_after_data(refuse_early) as connection:
        reply = await connection.send(b"x" * 30_000_000 + b"\r\n")

    assert (b"552 5.3.4 too big", True) == (reply.wire, connection.is_lost)
    assert not b"".join(seen[-2:]).endswith(b".\r\n")


@pytest.mark.parametrize("reply", [b"250 thank you\r\n", b"354 go on\r\n"])
async def test_consent_in_the_middle_of_a_message_is_an_error(reply):
    """A yes to half a message is no yes."""

    async def consent_early(reader, writer):
        await reader.readexactly(10)
        writer.write(reply)
        while await reader.read(1_000_000):
            pass

    async with next_hop_after_data(consent_early) as connection:
        with pytest.raises(RelayError, match="in the middle of a message"):
            await connection.send(b"x" * 30_000_000 + b"\r\n")


async def test_next_hops_that_do_not_read_are_given_up():
    """A next hop that takes a message's first part and then nothing is an error after the time allowed."""

    async def read_no_more(_reader, _writer):
        await asyncio.sleep(0.5)

    async with next_hop_after_data(read_no_more) as connection:
        with pytest.raises(RelayError, match=r"read nothing of a message for 0\.15 s"):
            await connection.send(b"x" * 30_000_000 + b"\r\n")
        assert False is connection.has_sent_dot


async def test_next_hops_that_are_gone_in_the_middle_of_a_message_are_an_error():
    """A connection that breaks while a message is sent is no yes to it, and no dot was sent."""

    async def leave(reader, _writer):
        await reader.readexactly(10)

    async with next_hop_after_data(leave) as connection:
        with pytest.raises(RelayError, match="next hop"):
            await connection.send(b"x" * 30_000_000 + b"\r\n")
        assert (True, False) == (connection.is_lost, connection.has_sent_dot)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "unix:/nowhere/socket"])
async def test_unreachable_next_hops_are_named(address):
    """The error says where nobody listens and which setting to look at."""
    with pytest.raises(RelayError, match=r"cannot be reached .*smtp\.next_hop"):
        await OurNextHop(address, hostname="mx.test", timeouts=SHORT).connect()


async def test_unix_sockets_work(tmp_path):
    """A next hop may listen on a UNIX socket."""
    async with NextHop(path=str(tmp_path / "lmtp"), protocol="lmtp") as hop:
        connection = await OurNextHop(hop.address, protocol="lmtp", hostname="mx.test").connect()

        assert [b"LHLO mx.test"] == hop.commands
        connection.close()
