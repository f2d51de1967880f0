"""Clients that mean harm: bounded memory, an end to every session, and everyone else is served meanwhile.

Nothing here measures time against a clock, which says more about the machine than about the code; `benchmarks/hostile.py` prints
how long the same attacks take and how long others wait meanwhile. What limits the work on the content is in `tests/mail`.
"""

import asyncio

import pytest
from fake_engine import FakeEngine
from memory import peak_memory
from smtp_peers import Client

from spamd.config import SmtpSettings
from spamd.inference.batching import Batcher
from spamd.mail.headers import count_hops
from spamd.service.filter import MessageFilter
from spamd.smtp.session import MAX_COMMAND_BYTES, MAX_ERRORS
from spamd.smtp.wire import MAX_UNREAD_BYTES, stuff

MIB = 1024 * 1024
MULTIPART = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n"
PAGE = b"Subject: x\r\nContent-Type: text/html\r\n\r\n%b\r\n"
BOMBS = {
    "many fields": b"a:\r\n" * 500_000 + b"\r\nx\r\n",
    "one long field": b"Subject: " + b"x " * MIB + b"\r\n\r\nx\r\n",
    "one long folded field": b"Subject: x\r\n" + b" x\r\n" * 400_000 + b"\r\nx\r\n",
    "only forged fields": b"X-Spam-Flag: NO\r\n" * 100_000 + b"\r\nx\r\n",
    "forged fields that fold": (b"X-Spam-Status: No\r\n" + b" x\r\n" * 50) * 4000 + b"\r\nx\r\n",
    "almost forged fields": b"X-Spam-" + b"a" * MIB + b"\r\n\r\nx\r\n",
    "carriage returns": b"Subject: x\r\n\r\n" + b"\r" * MIB + b"\r\n",
    "line feeds": b"Subject: x\r\n\r\n" + b"\n" * MIB + b"\r\n",
    "dots": b"Subject: x\r\n\r\n" + b".\r\n" * (MIB // 3),
    "nested multiparts": b"".join(MULTIPART % (n, n) for n in range(10_000)) + b"x\r\n",
    "nested messages": b"Content-Type: message/rfc822\r\n\r\n" * 20_000 + b"x\r\n",
    "parts": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 50_000,
    "nested elements": PAGE % (b"<div>" * 100_000),
    "attributes": PAGE % (b"<div " + b" ".join(b"a%d=%d" % (n, n) for n in range(50_000)) + b">"),
    "unclosed quotes": PAGE % (b'<a b="' * 100_000),
    "a table": PAGE % (b"<table>" + b"<tr><td>x<td>y" * 30_000),
}

CHANGED = {"only forged fields", "forged fields that fold", "carriage returns", "line feeds"}
"""Those that lose forged fields or get their line ends put right."""


@pytest.fixture
async def reading():
    """A judge that reads each message's text as the daemon does, and whose model is quick."""
    batcher = Batcher(FakeEngine())
    made = MessageFilter(batcher, deadline_seconds=60)
    yield made
    made.close()
    await batcher.close()


@pytest.mark.parametrize("name", BOMBS)
async def test_bombs_pass_like_other_mail(start, next_hop, reading, name):
    """A message that is made to be slow or huge to read is read, tagged and delivered like any other."""
    bomb = BOMBS[name]
    proxy = await start(reading)
    async with Client(proxy.addresses[0]) as client:
        await client.envelope()
        await client.send(stuff(bomb) + b".\r\n")
        async with asyncio.timeout(60):
            reply = await client.reader.readline()

    assert (b"250", 1) == (reply[:3], len(next_hop.messages))
    assert name in CHANGED or next_hop.messages[0].content.endswith(b"\r\n" + bomb)


async def test_others_are_served_during_a_flood(start, next_hop):
    """While one client sends commands without end, another one's message goes through: a flood waits its turn each time."""
    proxy = await start()
    num_commands = 100_000
    async with Client(proxy.addresses[0]) as flood, Client(proxy.addresses[0]) as other:
        flood.writer.write(b"NOOP\r\n" * num_commands)
        served = asyncio.ensure_future(other.submit(b"Subject: x\r\n"))
        num_answered = 0
        while not served.done():
            num_answered += (await flood.reply()).startswith(b"250")
        reply = served.result()
        flood.writer.transport.abort()

    assert b"250" == reply[:3]
    assert num_commands > num_answered


async def test_wrong_commands_have_an_end(start, next_hop):
    """A client that sends nonsense is sent away after so many errors, and nothing it says later is heard."""
    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        await client.send(b"NONSENSE\r\n" * 1000 + b"EHLO c\r\nMAIL FROM:<evil@c>\r\n")
        codes = [(await client.reply())[:3] for _ in range(MAX_ERRORS + 1)]
        rest = await client.reply()

    assert [*[b"500"] * MAX_ERRORS, b"421"] == codes
    assert (b"", []) == (rest, [line for line in next_hop.commands if b"evil" in line])


async def test_web_pages_cannot_send_mail(start, next_hop):
    """A browser that was talked into sending us a form is sent away at its first line, and the mail in the form is not heard."""
    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        form = b"EHLO c\r\nMAIL FROM:<evil@c>\r\nRCPT TO:<a@b>\r\nDATA\r\nx\r\n.\r\n"
        await client.send(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n\r\n" + form)
        replies = [await client.reply(), await client.reply()]

    assert [b"421", b""] == [reply[:3] for reply in replies]
    assert ([], []) == (next_hop.messages, next_hop.commands)


async def test_command_lines_without_end_are_dropped(start, next_hop):
    """A command line of megabytes is dropped as it comes, answered once, and the session goes on."""
    proxy = await start()
    peak_before = peak_memory(reset=True)
    async with Client(proxy.addresses[0]) as client:
        for _ in range(100):
            await client.send(b"x" * 200_000)
        replies = [await client.say(b""), await client.say(b"NOOP"), await client.submit(b"Subject: x\r\n")]

    assert [b"500", b"250", b"250"] == [reply[:3] for reply in replies]
    assert 10 * MIB > peak_memory() - peak_before


async def test_the_longest_command_is_still_one(start, next_hop):
    """A command at the limit reaches the next hop whole, one byte more does not."""
    proxy = await start()
    line = b"MAIL FROM:<a@b> ENVID="
    async with Client(proxy.addresses[0]) as client:
        await client.say(b"EHLO c")
        longest = line + b"x" * (MAX_COMMAND_BYTES - len(line) - 2)
        replies = [await client.say(longest + b"x"), await client.say(longest)]

    assert [b"500", b"250"] == [reply[:3] for reply in replies]
    assert longest == next_hop.commands[-1]


async def test_slow_commands_have_an_end(start, next_hop):
    """A client that sends a byte now and then is sent away when the time for a command is over, not later."""
    proxy = await start(command_timeout_seconds=0.3)
    async with Client(proxy.addresses[0]) as client:
        reply = asyncio.ensure_future(client.reply())
        for _ in range(1000):
            if reply.done():
                break
            client.writer.write(b"x")
            await asyncio.sleep(0.02)

        assert b"421 4.4.2" == (await reply)[:9]


async def test_slow_messages_have_an_end(start, next_hop):
    """The same inside a message: there is a least rate, so that no line goes on for ever."""
    proxy = await start(data_timeout_seconds=0.3)
    async with Client(proxy.addresses[0]) as client:
        await client.envelope()
        reply = asyncio.ensure_future(client.reply())
        for _ in range(1000):
            if reply.done():
                break
            client.writer.write(b"x")
            await asyncio.sleep(0.02)

        assert b"421 4.4.2" == (await reply)[:9]
    assert (0, []) == (proxy._memory._num_held, next_hop.messages)


async def test_slow_clients_do_not_keep_others_out(start, next_hop):
    """Connections that say nothing take the places of one address, not those of others."""
    proxy = await start(listen="0.0.0.0:0", max_connections_per_client=5, command_timeout_seconds=60)
    address = f"127.0.0.1:{proxy.addresses[0].rpartition(':')[2]}"
    idle = [await Client(address).__aenter__() for _ in range(8)]
    other, writer = await asyncio.open_connection(*address.split(":"), local_addr=("127.0.0.2", 0))
    greeting = await other.readline()
    writer.close()
    for client in idle:
        client.writer.close()

    assert [*[b"220"] * 5, *[b"421"] * 3] == [client.greeting[:3] for client in idle]
    assert b"220" == greeting[:3]


async def test_ten_thousand_recipients_are_the_next_hops_to_judge(start, next_hop):
    """Recipients are passed on one by one and held nowhere here: 10,000 in one breath are 10,000 at the next hop."""
    proxy = await start()
    num = 10_000
    async with Client(proxy.addresses[0]) as client:
        commands = [b"EHLO c", b"MAIL FROM:<a@b>", *(b"RCPT TO:<user%d@next-hop.test>" % n for n in range(num)), b"DATA"]
        client.writer.write(b"\r\n".join(commands) + b"\r\n")
        codes = [(await client.reply())[:3] for _ in commands]
        reply = await client.say(b"Subject: x\r\n\r\n.")

    assert [*[b"250"] * (num + 2), b"354", b"250"] == [*codes, reply[:3]]
    assert num == len(set(next_hop.messages[0].recipients))


async def test_empty_lines_are_held_as_they_are(start, next_hop):
    """30 MiB of empty lines pass, and are held as 30 MiB a few times over and not as fifteen million lines."""
    wire = b"\r\n" * (15 * MIB)
    proxy = await start()
    peak_before = peak_memory(reset=True)
    async with Client(proxy.addresses[0]) as client:
        reply = await client.submit(wire)

    assert (b"250", True) == (reply[:3], next_hop.messages[0].wire.endswith(wire))
    # The client and the next hop hold it too, and are in this process.
    assert 400 * MIB > peak_memory() - peak_before


async def test_lines_without_end_take_bounded_memory(start, next_hop):
    """A message that is one endless line is dropped as it comes, refused at its end, and the session goes on."""
    proxy = await start(max_message_bytes=1_000_000)
    peak_before = peak_memory(reset=True)
    async with Client(proxy.addresses[0]) as client:
        await client.envelope()
        for _ in range(30):
            await client.send(b"x" * 100_000)
        refused = await client.say(b"\r\n.")
        accepted = await client.submit(b"Subject: x\r\n")

    assert [b"552 5.3.4", b"250"] == [refused[:9], accepted[:3]]
    assert 1 == len(next_hop.messages)
    assert 20 * 1024 * 1024 > peak_memory() - peak_before


async def test_messages_that_never_end_are_given_up(start, next_hop):
    """A client that sends far beyond the limit is sent away, and nothing is kept."""
    proxy = await start(max_message_bytes=100_000)
    async with Client(proxy.addresses[0]) as client:
        await client.envelope()
        await client.send(b"x" * 600_000)
        reply = await client.reply()

    assert (b"421 4.3.1", [], 0) == (reply[:9], next_hop.messages, proxy._memory._num_held)


async def test_hops_are_counted_in_time(start, next_hop):
    """A header of 100,000 Received fields is a loop, and found to be one without looking at it twice."""
    proxy = await start()
    wire = b"Received: from a by b; date\r\n" * 100_000 + b"\r\nx\r\n"
    async with Client(proxy.addresses[0]) as client:
        reply = await client.submit(wire)

    assert (b"554 5.4.6", 100_000) == (reply[:9], count_hops(wire))


def test_nobody_relays_by_default():
    """As it comes, the proxy listens on loopback and serves loopback: it is no open relay."""
    settings = SmtpSettings()

    assert "127.0.0.1" == settings.listen.rpartition(":")[0]
    assert ("127.0.0.0/8", "::1/128") == settings.allowed_clients


async def test_strangers_are_not_served(start, next_hop):
    """A client that nobody allowed is told so, and what it sends all the same is not read, let alone relayed."""
    proxy = await start(allowed_clients=("192.0.2.0/24",))
    async with Client(proxy.addresses[0]) as client:
        writer = client.writer
        writer.write(b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\n")
        replies = [client.greeting, await client.reply()]

    assert [b"421 4.7.1", b""] == [reply[:9] for reply in replies]
    assert ([], 0) == (next_hop.messages, next_hop.num_connections)


async def test_unread_bytes_are_bounded(start, next_hop):
    """While a message is judged, its client may send on, but little of it is taken in."""
    next_hop.dot_seconds = 0.5
    proxy = await start()
    peak_before = peak_memory(reset=True)
    async with Client(proxy.addresses[0]) as client:
        await client.envelope()
        client.writer.write(b"Subject: x\r\n.\r\n")
        piece = b"NOOP\r\n" * 20_000
        for _ in range(20):
            client.writer.write(piece)
        held = len(piece) * 20
        reply = await client.reply()
        client.writer.transport.abort()

    assert b"250" == reply[:3]
    assert held + 10 * MAX_UNREAD_BYTES + 5 * MIB > peak_memory() - peak_before
