"""Listening, letting in, sending away and draining."""

import asyncio
import socket
import time

import pytest
from certificates import Authority
from next_hop import Fault, NextHop
from smtp_peers import Client, FixedJudge, below_our_fields

from spamd.config import SmtpSettings
from spamd.errors import ConfigError
from spamd.service import door
from spamd.smtp import server
from spamd.smtp.server import start_proxy

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


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
async def test_unix_sockets_on_both_sides(start, tmp_path, protocol):
    """Between a client and a next hop that both use UNIX sockets, a message arrives like any other."""
    async with NextHop(path=f"{tmp_path}/next-hop", protocol=protocol) as hop:
        proxy = await start(next_hop=hop, listen=f"unix:{tmp_path}/smtp", next_hop_protocol=protocol)
        async with Client(proxy.addresses[0]) as client:
            replies = [(await client.submit(WIRE))[:3] for _ in range(2)]

    assert ([b"250", b"250"], [f"unix:{tmp_path}/smtp"]) == (replies, proxy.addresses)
    assert [WIRE, WIRE] == [below_our_fields(message.content) for message in hop.messages]


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


async def test_listening_goes_on_whatever_happens(start, monkeypatch):
    """A connection that could not be taken, for want of descriptors for one, does not end the listening."""
    proxy = await start()
    monkeypatch.setattr(door, "RETRY_SECONDS", 0.01)
    with monkeypatch.context() as patched:
        patched.setattr(server, "FilterSMTP", None)
        async with Client(proxy.addresses[0]) as client:
            greetings = [client.greeting]
    async with Client(proxy.addresses[0]) as client:
        greetings.append(client.greeting)

    assert [b"", b"220 mx.test ESMTP spamd"] == greetings


async def test_a_taken_address_for_tls_is_an_error(start, tmp_path):
    """An address for TLS that cannot be listened on is told with its own setting, and nothing stays open."""
    certificate, key = Authority(tmp_path).files("mx.test")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:{1}".format(*taken.getsockname())
        with pytest.raises(OSError, match=r"change smtp\.listen_tls"):
            await start(listen=f"unix:{tmp_path}/smtp", tls_certificate=certificate, tls_key=key, listen_tls=address)

    with pytest.raises(ConnectionRefusedError):
        await Client(f"unix:{tmp_path}/smtp").__aenter__()


async def test_sockets_for_tls_want_a_certificate(start):
    """A socket that systemd hands over for TLS is of no use without a certificate, and that is told."""
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(ConfigError, match="named smtps"):
        await start(tls_sockets=[listener])
