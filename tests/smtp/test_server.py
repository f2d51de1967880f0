"""Listening, letting in, sending away and draining."""

import asyncio
import socket
import time

import pytest
from next_hop import Fault
from smtp_peers import Client, FixedJudge

from spamd.config import SmtpSettings
from spamd.errors import ConfigError
from spamd.smtp.server import FilterSMTP, start_proxy

WIRE = b"Subject: x\r\n\r\nbody\r\n"
ENVELOPE = b"EHLO client.test\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"


async def test_addresses_are_told(start, tmp_path):
    """The proxy says where it listens in the form that settings take."""
    listening = [await start(listen=listen) for listen in ("127.0.0.1:0", f"unix:{tmp_path}/smtp")]

    assert [True, f"unix:{tmp_path}/smtp"] == [
        listening[0].addresses[0].startswith("127.0.0.1:"),
        listening[1].addresses[0],
    ]


async def test_unix_clients_are_served(start, tmp_path, next_hop):
    """A client on a UNIX socket needs no address, and a socket file left behind is replaced."""
    for _ in range(2):
        proxy = await start(listen=f"unix:{tmp_path}/smtp")
        async with Client(proxy.addresses[0]) as client:
            assert b"250" == (await client.submit(WIRE))[:3]
        await proxy.close()

    assert b"Received: from client.test by mx.test" in next_hop.messages[1].wire


async def test_given_sockets_are_used(start, next_hop):
    """Sockets that systemd holds are served, and mail that waited in their backlog is not lost."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = "127.0.0.1:{1}".format(*listener.getsockname())
    early = asyncio.ensure_future(Client(address).__aenter__())
    await asyncio.sleep(0.05)
    proxy = await start(sockets=[listener])
    client = await early

    assert ([address], b"250") == (proxy.addresses, (await client.submit(WIRE))[:3])
    await client.__aexit__()


async def test_a_taken_address_is_an_error(start):
    """An address that cannot be listened on stops the start."""
    proxy = await start()
    with pytest.raises(OSError, match=r"(?i)address already in use"):
        await start(listen=proxy.addresses[0])


async def test_machines_without_a_name_are_told(next_hop, monkeypatch):
    """Where the machine's name is none, the sentence says which setting helps."""
    monkeypatch.setattr(socket, "getfqdn", lambda: "no name")

    with pytest.raises(ConfigError, match=r"set smtp\.hostname"):
        await start_proxy(SmtpSettings(listen="127.0.0.1:0", next_hop=next_hop.address), FixedJudge())


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


async def test_full_proxies_let_clients_wait(start, next_hop):
    """Beyond the limit clients wait in the backlog until a session ends; none is sent away."""
    proxy = await start(max_connections=1)
    async with Client(proxy.addresses[0]) as first:
        waiting = asyncio.ensure_future(Client(proxy.addresses[0]).__aenter__())
        await asyncio.sleep(0.1)
        was_waiting = not waiting.done()
        await first.say(b"QUIT")
    second = await waiting

    assert (True, b"250") == (was_waiting, (await second.submit(WIRE))[:3])
    await second.__aexit__()


async def test_one_client_cannot_take_all(start):
    """One address has a limit of its own, and room again when a session of it ends."""
    proxy = await start(max_connections_per_client=1)
    async with Client(proxy.addresses[0]) as first, Client(proxy.addresses[0]) as second:
        greetings = [first.greeting[:3], second.greeting[:9], await second.reply()]
    await asyncio.sleep(0.05)
    async with Client(proxy.addresses[0]) as third:
        greetings.append(third.greeting[:3])

    assert [b"220", b"421 4.7.0", b"", b"220"] == greetings


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
    deadline = time.monotonic() + 5
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


async def test_draining_finishes_what_is_in_flight(start, next_hop):
    """At the end idle sessions are told 421, a message in flight gets its reply, and nobody else is let in."""
    judge = FixedJudge(delay_seconds=0.2)
    proxy = await start(judge)
    async with Client(proxy.addresses[0]) as idle, Client(proxy.addresses[0]) as busy:
        await busy.envelope()
        await busy.send(WIRE + b".\r\n")
        await judge.is_asked.wait()
        draining = asyncio.ensure_future(proxy.drain(5))
        replies = [await idle.reply(), await idle.reply(), await busy.reply(), await busy.reply(), await busy.reply()]
        await draining

    assert [b"421 4.3.2", b"", b"250 2.0.0", b"421 4.3.2", b""] == [reply[:9] for reply in replies]
    assert (1, 0) == (len(next_hop.messages), proxy.num_sessions)
    with pytest.raises(ConnectionRefusedError):
        await Client(proxy.addresses[0]).__aenter__()


async def test_draining_reads_a_message_to_its_end(start, next_hop):
    """A message that is just coming in is still taken."""
    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        await client.envelope()
        await client.send(b"Subject: x\r\n")
        draining = asyncio.ensure_future(proxy.drain(5))
        await asyncio.sleep(0.05)
        reply = await client.say(b"\r\nbody\r\n.")
        await draining

    assert (b"250", 1) == (reply[:3], len(next_hop.messages))


async def test_draining_has_a_deadline(start, next_hop):
    """What does not finish in time is given up without a word to the next hop: its sender tries again."""
    judge = FixedJudge(delay_seconds=3600)
    proxy = await start(judge)
    async with Client(proxy.addresses[0]) as client:
        await client.envelope()
        await client.send(WIRE + b".\r\n")
        await judge.is_asked.wait()
        started = time.monotonic()
        await proxy.drain(0.1)
        reply = await client.reply()

    assert (b"", [], 1, True) == (reply, next_hop.messages, judge.num_cancelled, time.monotonic() - started < 1)


async def test_draining_says_goodbye_to_the_next_hop(start, next_hop):
    """Kept connections are closed in order."""
    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        await client.submit(WIRE)
    await proxy.drain(1)
    await asyncio.sleep(0.05)

    assert b"QUIT" == next_hop.commands[-1]


async def test_sessions_run_side_by_side(start, next_hop):
    """Twenty sessions at once get a reply each, over no more connections than sessions."""
    proxy = await start(FixedJudge(delay_seconds=0.05))

    async def send_two(number):
        async with Client(proxy.addresses[0]) as client:
            return [await client.submit(b"Subject: %d\r\n" % number) for _ in range(2)]

    started = time.monotonic()
    replies = [reply[:3] for pair in await asyncio.gather(*map(send_two, range(20))) for reply in pair]

    assert [b"250"] * 40 == replies
    assert (40, True) == (len(next_hop.messages), next_hop.num_connections <= 20)
    assert 2 > time.monotonic() - started


async def test_a_stuck_next_hop_holds_one_session(start, next_hop):
    """While one session waits for the next hop, others go on."""
    next_hop.faults = [Fault("RCPT", "stall", times=1)]
    proxy = await start(next_hop_command_timeout_seconds=0.5)
    async with Client(proxy.addresses[0]) as stuck, Client(proxy.addresses[0]) as client:
        await stuck.send(ENVELOPE)
        await asyncio.sleep(0.05)
        started = time.monotonic()
        reply = await client.submit(WIRE)

    assert (b"250", True) == (reply[:3], time.monotonic() - started < 0.3)
