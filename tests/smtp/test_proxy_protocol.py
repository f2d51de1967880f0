"""Behind a load balancer: the client that a PROXY header names counts, from the addresses named for it and from no other."""

import asyncio
import ipaddress
import socket
import struct

import pytest
import uvloop
from certificates import Authority
from hypothesis import given, settings
from hypothesis import strategies as st
from smtp_peers import Client

from spamd.service.door import TurnedAway
from spamd.smtp import proxy_protocol

WIRE = b"Subject: x\r\n\r\nbody\r\n"
LOOPBACK = ("127.0.0.0/8",)
BALANCED = {"proxy_protocol_from": LOOPBACK, "allowed_clients": ("192.0.2.0/24", "2001:db8::/32")}
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def version_2(source, *, command=1, more=b""):
    """Write a header of version 2 for a TCP client."""
    address = ipaddress.ip_address(source)
    family, target = (0x11, "192.0.2.254") if address.version == 4 else (0x21, "2001:db8::254")
    body = address.packed + ipaddress.ip_address(target).packed + struct.pack("!HH", 40_000, 25) + more
    return SIGNATURE + bytes([0x20 | command, family]) + struct.pack("!H", len(body)) + body


V1 = b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 25\r\n"
V1_IPV6 = b"PROXY TCP6 2001:db8::1 2001:db8::254 40000 25\r\n"
WITH_EXTRAS = version_2("192.0.2.1", more=b"\x02\x00\x05spamd" + b"\x04\x01\x00" + b"\0" * 256)
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (V1, "192.0.2.1"),
        (V1_IPV6, "2001:db8::1"),
        (version_2("192.0.2.1"), "192.0.2.1"),
        (version_2("2001:db8::1"), "2001:db8::1"),
        (WITH_EXTRAS, "192.0.2.1"),
    ],
)
async def test_the_named_client_counts(start, next_hop, header, client, capsys):
    """Allow-list, trace field, log and XFORWARD know the client that the header names, not the load balancer."""
    next_hop.extensions = (b"XFORWARD NAME ADDR PORT PROTO HELO",)
    proxy = await start(**BALANCED)
    async with Client(proxy.addresses[0], first=header) as connected:
        replies = [await connected.submit(WIRE), await connected.submit(WIRE)]

    assert [b"250", b"250"] == [reply[:3] for reply in replies]
    literal = f"IPv6:{client}" if ":" in client else client
    assert f"from client.test ([{literal}])".encode() in next_hop.messages[0].content.replace(b"\r\n ", b" ")
    assert f"client={client}" in capsys.readouterr().out
    said = f"XFORWARD NAME=[UNAVAILABLE] ADDR={literal.replace('IPv6', 'IPV6')} PORT=40000".encode()
    assert [(said,), (said,)] == [message.xforward for message in next_hop.messages]


async def test_named_clients_are_let_in_or_not(start):
    """A client that the allow-list lacks stays out, whoever brings it, and limits count the clients and not the load balancer."""
    proxy = await start(**BALANCED, max_connections_per_client=1)
    greetings = []
    for header in (b"PROXY TCP4 198.51.100.1 192.0.2.254 40000 25\r\n", version_2("198.51.100.1")):
        async with Client(proxy.addresses[0], first=header) as client:
            greetings.append(client.greeting[:9])
    async with Client(proxy.addresses[0], first=V1) as one, Client(proxy.addresses[0], first=version_2("192.0.2.2")) as other:
        greetings += [one.greeting[:3], other.greeting[:3]]
        async with Client(proxy.addresses[0], first=V1) as again:
            greetings.append(again.greeting[:9])

    assert [b"421 4.7.1", b"421 4.7.1", b"220", b"220", b"421 4.7.0"] == greetings


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ffff:f...f ffff:f...f 65535 65535\r\n", LOCAL])
async def test_health_checks_are_the_load_balancers_own(start, next_hop, header):
    """Where the header names nobody, the connection counts as what it is."""
    next_hop.extensions = (b"XFORWARD NAME ADDR",)
    proxy = await start(**BALANCED | {"allowed_clients": LOOPBACK})
    async with Client(proxy.addresses[0], first=header) as client:
        reply = await client.submit(WIRE)

    assert (b"250", ()) == (reply[:3], next_hop.messages[0].xforward)
    assert b"([127.0.0.1])" in next_hop.messages[0].content


@pytest.mark.parametrize("header", [V1, version_2("192.0.2.1")])
async def test_nobody_else_is_believed(start, next_hop, header):
    """From any other address the header is a command that nobody knows, and mail behind it bears the true address."""
    proxy = await start(proxy_protocol_from=("192.0.2.0/24",))
    async with Client(proxy.addresses[0], first=header) as client:
        replies = [client.greeting, await client.reply()]

    assert [b"220", b"500"] == [reply[:3] for reply in replies]
    assert [] == next_hop.messages


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO client.test\r\n",
        b"PROXY\r\n",
        b"PROXY TCP4 192.0.2.1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 25\n",
        b"PROXY TCP4 192.0.2.999 192.0.2.254 40000 25\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.254 40000 25\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.254 70000 25\r\n",
        b"PROXY TCP4 " + b"1" * 200 + b"\r\n",
        SIGNATURE + b"\x31\x11\x00\x00",
        SIGNATURE + b"\x21\x11\x00\x04abcd",
        SIGNATURE[:-1] + b"X\x21\x11\x00\x00",
        b"\x16\x03\x01\x02\x00",
    ],
)
async def test_wrong_headers_end_the_connection(start, next_hop, header, capsys):
    """Where a header is due, anything else is the end: it is never guessed at."""
    proxy = await start(**BALANCED)
    async with Client(proxy.addresses[0], first=header + b"MAIL FROM:<a@b>\r\n") as client:
        assert b"" == client.greeting

    assert "connection turned away" in capsys.readouterr().out
    assert (0, []) == (proxy.num_sessions, next_hop.commands)


@pytest.mark.parametrize("beginning", [b"", b"PROX", V1[:20], SIGNATURE, WITH_EXTRAS[:40]])
async def test_headers_have_a_time_limit(start, beginning, monkeypatch):
    """A load balancer that does not finish its header is not waited for."""
    monkeypatch.setattr(proxy_protocol, "HEADER_SECONDS", 0.1)
    proxy = await start(**BALANCED)
    async with Client(proxy.addresses[0], first=beginning or b"P") as client:
        assert b"" == client.greeting


async def test_slow_headers_take_a_place_and_no_more(start, monkeypatch):
    """Connections without their header count towards the limit, and hold up nobody once they are given up."""
    monkeypatch.setattr(proxy_protocol, "HEADER_SECONDS", 0.3)
    proxy = await start(**BALANCED, max_connections=2)
    host, _, port = proxy.addresses[0].rpartition(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
    async with Client(proxy.addresses[0], first=V1) as client:
        assert b"250" == (await client.submit(WIRE))[:3]
    for _, writer in silent:
        writer.close()


async def test_commands_may_follow_at_once(start, next_hop):
    """What comes in one segment with the header is the client's, to the byte."""
    proxy = await start(**BALANCED)
    async with Client(proxy.addresses[0], first=V1 + b"EHLO client.test\r\nMAIL FROM:<a@b>\r\n") as client:
        replies = [await client.reply(), await client.reply()]

    assert [b"250", b"250"] == [reply[:3] for reply in replies]


@pytest.mark.parametrize("header", [V1, version_2("192.0.2.1")])
async def test_tls_may_follow_at_once(start, tmp_path, next_hop, header):
    """On the address for implicit TLS the header stands in plain text before the handshake."""
    authority = Authority(tmp_path)
    certificate, key = authority.files("mx.test")
    proxy = await start(**BALANCED, tls_certificate=certificate, tls_key=key, listen_tls="127.0.0.1:0")
    async with Client(proxy.addresses[1], first=header, tls=authority.client(), name="mx.test") as client:
        reply = await client.submit(WIRE)

    assert b"250" == reply[:3]
    assert b"([192.0.2.1])" in next_hop.messages[0].content.replace(b"\r\n ", b" ")


async def test_clients_that_forward_more_are_not_contradicted(start, next_hop):
    """A client behind the load balancer that sends XFORWARD itself knows better, for that transaction."""
    proxy = await start(**BALANCED)
    async with Client(proxy.addresses[0], first=V1) as client:
        await client.say(b"EHLO client.test")
        await client.say(b"XFORWARD NAME=real.test ADDR=203.0.113.5")
        for _ in range(2):
            for line in (b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA"):
                await client.say(line)
            await client.say(WIRE + b".")

    known = b"XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.1"
    assert [(b"XFORWARD NAME=real.test ADDR=203.0.113.5",), (known,)] == [one.xforward for one in next_hop.messages]


@pytest.mark.parametrize("extensions", [(), (b"XFORWARD NAME HELO",)])
async def test_next_hops_that_do_not_ask_are_not_told(start, next_hop, extensions):
    """A next hop that does not announce XFORWARD ADDR hears none of it."""
    next_hop.extensions = extensions
    proxy = await start(**BALANCED)
    async with Client(proxy.addresses[0], first=V1) as client:
        reply = await client.submit(WIRE)

    assert (b"250", ()) == (reply[:3], next_hop.messages[0].xforward)


async def test_refused_xforward_costs_no_mail(start, next_hop):
    """A next hop that announces XFORWARD and refuses it gets the message all the same."""
    next_hop.replies = lambda line: b"550 5.7.1 not from you" if line.startswith(b"XFORWARD") else None
    proxy = await start(**BALANCED)
    async with Client(proxy.addresses[0], first=V1) as client:
        reply = await client.submit(WIRE)

    assert (b"250", 1) == (reply[:3], len(next_hop.messages))


async def test_unix_sockets_bring_no_header(start, tmp_path):
    """On a UNIX socket nobody is asked for a header."""
    proxy = await start(**BALANCED, listen=f"unix:{tmp_path}/smtp")
    async with Client(proxy.addresses[0]) as client:
        assert b"250" == (await client.submit(WIRE))[:3]


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200), st.builds(lambda head, rest: head + rest, st.sampled_from([b"PROXY ", SIGNATURE]), st.binary())
    )
)
def test_no_header_is_a_surprise(header):
    """Whatever comes in place of a header, the client is known, is the load balancer's own, or is turned away."""

    async def read():
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(0)
            theirs.sendall(header)
            theirs.shutdown(socket.SHUT_WR)
            try:
                client = await proxy_protocol.announced_client(ours)
            except TurnedAway:
                return
            assert client is None or not client.address or ipaddress.ip_address(client.address)

    uvloop.run(read())
