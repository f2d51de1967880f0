"""One session: timers, floods, errors of our own."""

import asyncio
import socket
import time

import pytest
from smtp_peers import Client
from structlog.testing import capture_logs

from spamd.smtp import handler
from spamd.smtp.session import FilterSMTP
from spamd.smtp.transaction import Transaction

WIRE = b"Subject: x\r\n\r\nbody\r\n"


async def test_no_name_is_looked_up_for_a_connection(start, monkeypatch):
    """Our own name is known from the start; aiosmtpd would ask the DNS for it at each connection."""
    proxy = await start()
    monkeypatch.setattr(socket, "getfqdn", lambda: pytest.fail("the name was looked up"))
    async with Client(proxy.addresses[0]) as client:
        assert b"220 mx.test ESMTP spamd" == client.greeting


async def test_connections_share_no_limits(start):
    """One connection's EHLO does not change what another may send, as it does in aiosmtpd."""
    before = dict(FilterSMTP.__mro__[1].command_size_limits)
    proxy = await start()
    async with Client(proxy.addresses[0]) as one, Client(proxy.addresses[0]) as other:
        await one.say(b"EHLO a")
        await other.say(b"EHLO b")
        reply = await one.say(b"MAIL FROM:<a@b> ENVID=" + b"x" * 4000)

    assert (before, b"250") == (dict(FilterSMTP.__mro__[1].command_size_limits), reply[:3])


async def test_silent_clients_are_sent_away(start):
    """A client that says nothing for too long is told so and makes room."""
    proxy = await start(command_timeout_seconds=0.1)
    async with Client(proxy.addresses[0]) as client:
        replies = [await client.reply(), await client.reply()]

    assert [b"421 4.4.2 Nothing was said for too long", b""] == replies
    assert 0 == proxy.num_sessions


async def test_stalled_messages_end_the_session(start, next_hop):
    """A client that stops in the middle of a message is sent away, and nothing is sent on."""
    proxy = await start(data_timeout_seconds=0.1)
    async with Client(proxy.addresses[0]) as client:
        await client.envelope()
        await client.send(b"Subject: x\r\n")
        replies = [await client.reply(), await client.reply()]

    assert [b"421 4.4.2 The message came too slowly", b""] == replies
    assert [] == next_hop.messages


async def test_flowing_messages_are_not_cut(start):
    """A message that keeps coming may take longer than any timer."""
    proxy = await start(command_timeout_seconds=0.2, data_timeout_seconds=0.2)
    async with Client(proxy.addresses[0]) as client:
        await client.envelope()
        for _ in range(10):
            await client.send(b"x" * 100 + b"\r\n")
            await asyncio.sleep(0.05)
        reply = await client.say(b".")

    assert b"250" == reply[:3]


async def test_clients_that_never_read_are_dropped(start, monkeypatch):
    """A client that floods and reads nothing holds its place only until the timer ends it."""
    monkeypatch.setattr("spamd.smtp.session.LINGER_SECONDS", 0.1)
    proxy = await start(command_timeout_seconds=0.3)
    host, port = proxy.addresses[0].split(":")
    flood = socket.socket()
    flood.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    flood.connect((host, int(port)))
    flood.settimeout(0)
    deadline = time.monotonic() + 60
    await asyncio.sleep(0.05)
    while proxy.num_sessions and time.monotonic() < deadline:
        try:
            flood.send(b"HELP\r\n" * 10_000)
        except OSError:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
    flood.close()

    assert 0 == proxy.num_sessions


async def test_floods_leave_others_their_turn(start):
    """While one client floods, another is answered at once."""
    proxy = await start()
    async with Client(proxy.addresses[0]) as flooding, Client(proxy.addresses[0]) as client:
        flooding.writer.write(b"NOOP\r\n" * 200_000)
        drained = asyncio.ensure_future(flooding.reader.readexactly(200_000 * len(b"250 2.0.0 OK\r\n")))
        waits = []
        for _ in range(20):
            started = time.monotonic()
            await client.say(b"NOOP")
            waits.append(time.monotonic() - started)
        drained.cancel()
        flooding.writer.transport.abort()

    assert 0.1 > sorted(waits)[10]


async def test_our_own_mistakes_cost_no_message(start, next_hop, monkeypatch):
    """A bug of ours on the way of a message is 451 without a word of it; the next hop gets no dot, the session goes on."""

    def break_down(*_):
        raise ValueError("secret")

    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        with monkeypatch.context() as patched, capture_logs() as lines:
            patched.setattr(handler, "prepend_fields", break_down)
            first = await client.submit(WIRE)
        second = await client.submit(WIRE)

    assert [b"451 4.3.0 Internal error; try again later", b"250"] == [first, second[:3]]
    assert (1, False) == (len(next_hop.messages), "secret" in repr(lines))
    assert "ValueError" == lines[0]["exception"]


async def test_our_own_mistakes_in_commands_are_temporary(start, next_hop, monkeypatch):
    """A bug of ours in a command is 451, and nothing of that transaction goes on."""

    async def break_down(*_):
        raise ValueError("secret")

    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        with monkeypatch.context() as patched:
            patched.setattr(Transaction, "rcpt", break_down)
            first = await client.envelope()
        second = [await client.say(line) for line in (b"RCPT TO:<a@b>", b"DATA")]
        third = await client.submit(WIRE)

    assert [b"451 4.3.0", b"451 4.5.1", b"451 4.5.1"] == [reply[:9] for reply in [first, *second]]
    assert (b"250", 1) == (third[:3], len(next_hop.messages))


async def test_mistakes_while_reading_end_the_session(start, next_hop, monkeypatch):
    """Where a bug leaves it open how much of a message was read, the session ends instead of taking content for commands."""

    async def break_down(*_, **__):
        raise ValueError("secret")

    monkeypatch.setattr("spamd.smtp.wire.WireReader.read_message", break_down)
    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        await client.envelope()
        replies = [await client.reply(), await client.reply()]

    assert [b"451 4.3.0 Internal error; try again later", b""] == replies
    assert [] == next_hop.messages


async def test_sessions_end_politely_at_the_next_hop(start, next_hop):
    """A client that leaves between commands costs the next hop no broken connection."""
    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        await client.say(b"HELO client.test")
        await client.say(b"MAIL FROM:<a@b>")
        await client.say(b"QUIT")
    await asyncio.sleep(0.05)

    assert b"QUIT" == next_hop.commands[-1]
