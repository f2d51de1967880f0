"""Postfix, set up by the very text of `docs/postfix.md`: what arrives is what was sent, in each of the page's ways."""

import asyncio
import contextlib
import itertools
import re

import pytest
import pytest_asyncio
from daemon_process import DaemonProcess, connected
from mta_messages import MESSAGES, PATIENCE_SECONDS, TOP, arrived, as_sent, wire
from page import Page
from postfix_process import PostfixProcess, free_port, why_not
from signing import verifies

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

PAGE = Page("postfix.md")
WAYS = {
    "after the queue": [("After the queue", 0)],
    "before the queue": [("Before the queue", 0)],
    "before the queue, speed_adjust": [("Before the queue", 0), ("Before the queue", 1)],
}
UNDO = {"after the queue": ("After the queue", 1)}
numbers = itertools.count(1)


class Way:
    """A Postfix that was set up as the page says.

    Args:
        name: which of the page's ways.
        postfix: it runs.
        spamd: the filter.
        port_behind: what stands for 10026.
    """

    def __init__(self, name: str, postfix: PostfixProcess, spamd: DaemonProcess, port_behind: int) -> None:
        self.name, self.postfix, self.spamd = name, postfix, spamd
        self.is_after_queue = name == "after the queue"
        self.ports = {10025: int(spamd.address.rpartition(":")[2]), 10026: port_behind}

    def paste(self, heading: str, number: int = 0) -> str:
        """Run a block of the page with our ports in place of its own."""
        return self.postfix.paste(PAGE.block(heading, number), self.ports)

    def set_up(self) -> None:
        """Do what the page says."""
        for block in WAYS[self.name]:
            self.paste(*block)

    def undo(self) -> None:
        """Undo it as the page says."""
        self.paste(*UNDO.get(self.name, ("Before the queue", 2)))

    @contextlib.contextmanager
    def spamd_down(self):
        """Nobody listens where spamd should."""
        port, self.ports[10025] = self.ports[10025], free_port()
        self.set_up()
        try:
            yield
        finally:
            self.ports[10025] = port
            self.set_up()

    async def waits(self, recipient: str) -> bool:
        """Wait until Postfix has tried to pass a message on; tell whether it found out that spamd is down."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            wanted = rf"to=<{re.escape(recipient)}>.* status=.*"
            while not (tried := re.search(wanted, self.postfix.log())):  # noqa: ASYNC110  Postfix tells nobody
                await asyncio.sleep(0.05)
        return f":{self.ports[10025]}: Connection refused" in tried[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=WAYS)
async def way(request, need, spamd, sink, port_behind):
    """Postfix in one of the page's ways."""
    need(why_not())
    with PostfixProcess(port=free_port(), relay=sink.address) as postfix:
        one = Way(request.param, postfix, spamd, port_behind)
        one.set_up()
        behind = f"127.0.0.1:{port_behind}/inet/smtpd_recipient_restrictions"
        refusals = "check_recipient_access,inline:{gone@next-hop.test=REJECT},permit_mynetworks,reject"
        postfix.run(f"postconf -P '{behind}={refusals}'; postfix reload")
        yield one


async def send(way, content, mail="MAIL FROM:<sender@client.test>", rcpt="RCPT TO:<{}>"):
    """Send a message to a recipient of its own; return the recipient once the message was taken."""
    recipient = f"user{next(numbers)}@next-hop.test"
    async with connected(way.postfix.address) as client:
        for line in (mail, rcpt.format(recipient), "DATA"):
            reply = await client.say(line)
            assert reply[:1] in "23", reply
        reply = await client.end_message(wire(content))
    assert "250" == reply[:3], reply
    return recipient


@pytest.mark.parametrize("name", MESSAGES)
async def test_content_is_not_touched(way, sink, name):
    """Whatever a message holds, it arrives as it was, below our fields and Postfix's; a signature still holds."""
    (message,) = await arrived(sink, await send(way, MESSAGES[name]))

    assert MESSAGES[name] == as_sent(message.content)
    assert name != "signed" or verifies(message.content)


async def test_null_senders_pass(way, sink):
    """A bounce, whose sender is empty, arrives as a bounce."""
    (message,) = await arrived(sink, await send(way, TOP + b"x\r\n", "MAIL FROM:<>"))

    assert b"MAIL FROM:<>" == message.mail.split(b" SIZE=")[0].split(b" BODY=")[0]


async def test_dsn_parameters_pass(way, sink):
    """What a sender wants to be told, and under which names, reaches the end of the way."""
    mail = "MAIL FROM:<sender@client.test> RET=HDRS ENVID=Qq+3D314159"
    rcpt = "RCPT TO:<{0}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;{0}"
    recipient = await send(way, TOP + b"x\r\n", mail, rcpt)
    (message,) = await arrived(sink, recipient)

    assert {b"RET=HDRS", b"ENVID=Qq+3D314159"} < set(message.mail.split())
    assert {b"NOTIFY=SUCCESS,FAILURE", f"ORCPT=rfc822;{recipient}".encode()} < set(message.recipients[0].split())


async def test_addresses_in_utf8_pass(way, sink):
    """With SMTPUTF8, addresses and fields in UTF-8 arrive as they were."""
    content = "Subject: Grüße, 世界\r\n".encode() + TOP + b"x\r\n"
    recipient = await send(way, content, "MAIL FROM:<jürgen@client.test> SMTPUTF8", "RCPT TO:<pelé{}>")
    (message,) = await arrived(sink, f"pelé{recipient}")

    assert b"SMTPUTF8" in message.mail
    assert "<jürgen@client.test>".encode() in message.mail
    assert content == as_sent(message.content)


async def test_refused_recipients_are_told_apart(way, sink):
    """Of 100 recipients some are refused, for now or for good, each by its own reply, and all others get the message."""
    number = next(numbers)
    kinds = ["refused" if place % 10 == 3 else "deferred" if place % 20 == 5 else "user" for place in range(100)]
    async with connected(way.postfix.address) as client:
        await client.say("MAIL FROM:<sender@client.test>")
        replies = [await client.say(f"RCPT TO:<{kind}.{place}@many{number}.test>") for place, kind in enumerate(kinds)]
        assert "354" == (await client.say("DATA"))[:3]
        assert "250" == (await client.end_message(wire(TOP + b"x\r\n")))[:3]
    found = await recipients_of(sink, f"@many{number}.test>", 85)

    assert [{"refused": "550", "deferred": "450", "user": "250"}[kind] for kind in kinds] == [reply[:3] for reply in replies]
    assert sorted(f"user.{place}@many{number}.test" for place, kind in enumerate(kinds) if kind == "user") == found


async def recipients_of(sink, part, number):
    """Wait until as many recipients got a message; a message may come in pieces of 50 recipients."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            lines = [line.decode() for message in sink.messages for line in message.recipients if part.encode() in line]
            if len(lines) >= number:
                return sorted(re.search("<(.+?)>", line)[1] for line in lines)
            await asyncio.sleep(0.02)


async def test_refusals_behind_the_filter_are_told(way, sink):
    """What the listener behind spamd refuses is told: to the client at once, or after the queue to the sender by a bounce."""
    sender = f"sender{next(numbers)}@client.test"
    async with connected(way.postfix.address) as client:
        replies = [await client.say(f"MAIL FROM:<{sender}>", "RCPT TO:<gone@next-hop.test>")]
        if replies[0].startswith("250"):
            replies += [await client.say("DATA"), await client.end_message(wire(TOP + b"x\r\n"))]

    if way.is_after_queue:
        assert ["250", "354", "250"] == [reply[:3] for reply in replies]
        (bounce,) = await arrived(sink, sender)
        assert b"Final-Recipient: rfc822; gone@next-hop.test" in bounce.content
    else:
        assert "554 5.7.1" == replies[-1][:9]


async def test_the_original_client_is_known(way, sink):
    """Behind spamd, Postfix logs the first client and queue id, under the queue id that spamd's line names."""
    recipient = await send(way, TOP + b"x\r\n")
    (message,) = await arrived(sink, recipient)
    queue_id = re.search(rb"id ([0-9A-Za-z]+)\r\n", message.content)[1].decode()
    (line,) = re.findall(rf"{queue_id}: client=(.*)", way.postfix.log())

    assert "orig_client=unknown[127.0.0.1]" in line
    assert ("orig_queue_id=" in line) == way.is_after_queue
    assert queue_id in {one["next_hop_queue_id"] for one in way.spamd.lines("message")}


async def test_copies_are_made_once(way, sink):
    """Who is to get a copy by a BCC map gets one copy, whichever side of spamd looks the map up."""
    number = next(numbers)
    maps = f"inline:{{copied{number}@next-hop.test=archive{number}@next-hop.test}}"
    way.postfix.run(f"postconf -e 'recipient_bcc_maps={maps}'; postfix reload")
    async with connected(way.postfix.address) as client:
        await client.say("MAIL FROM:<sender@client.test>", f"RCPT TO:<copied{number}@next-hop.test>", "DATA")
        await client.end_message(wire(TOP + b"x\r\n"))
    await arrived(sink, f"copied{number}@")

    assert [f"archive{number}@next-hop.test"] == await recipients_of(sink, f"archive{number}@", 1)


async def test_many_messages_at_once(way, sink):
    """What smtp-source sends through ten connections arrives, each message once and tagged."""
    command = [
        "smtp-source",
        "-s",
        "10",
        "-m",
        "40",
        "-l",
        "4000",
        "-f",
        "load@client.test",
        "-t",
        f"load{next(numbers)}@next-hop.test",
    ]
    running = await asyncio.create_subprocess_exec(*command, way.postfix.address)
    assert 0 == await asyncio.wait_for(running.wait(), PATIENCE_SECONDS)
    messages = await arrived(sink, command[-1], 40)

    assert 40 == len(messages)
    assert [] == [message for message in messages if b"\r\nX-Spam-Status: " not in message.content]


async def test_the_test_of_the_page(way, sink):
    """What the page gives to test with arrives as spam, by swaks."""
    sink.messages.clear()
    printed = await asyncio.to_thread(way.paste, "Test it")
    (message,) = await arrived(sink, "<you@example.org>")

    assert "250 2.0.0 Ok: queued" in printed
    assert b"\r\nX-Spam-Flag: YES\r\n" in message.content


async def test_mail_is_not_lost_while_spamd_is_down(way, sink):
    """Before the queue the client is told to come again; after it, mail waits, or passes untagged with the page's line."""
    with way.spamd_down():
        if not way.is_after_queue:
            async with asyncio.timeout(PATIENCE_SECONDS):
                # For a moment after a reload the processes from before it go on taking mail, and pass it to spamd.
                while "451" not in await _replies(way):
                    pass
            return
        recipient = await waiting(way)
        way.paste("While spamd is down")
        way.postfix.run("postqueue -f")
        (message,) = await arrived(sink, recipient)

    assert b"X-Spam-" not in message.content
    assert message.content.endswith(TOP + b"x\r\n")


async def waiting(way):
    """Send mail until a message waits for spamd: just after a reload old processes still pass it on; return its recipient."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await way.waits(recipient := await send(way, TOP + b"x\r\n")):
            pass
    return recipient


async def _replies(way):
    """Send a message and return the codes from MAIL on."""
    recipient = f"user{next(numbers)}@next-hop.test"
    async with connected(way.postfix.address) as client:
        replies = [await client.say("MAIL FROM:<sender@client.test>")]
        replies += [await client.say(f"RCPT TO:<{recipient}>"), await client.say("DATA")]
        if replies[-1].startswith("354"):
            replies += [await client.end_message(wire(TOP + b"x\r\n"))]
    return [reply[:3] for reply in replies]


async def test_undoing_it(way, sink):
    """After the page's lines to undo it mail goes past spamd, that which waited for it as well."""
    with way.spamd_down():
        if way.is_after_queue:
            way.postfix.run("postconf -PX spamd/unix/smtp_fallback_relay; postfix reload")
            recipient = await waiting(way)
        way.undo()
        messages = await arrived(sink, await send(way, TOP + b"x\r\n"))
        if way.is_after_queue:
            # Spares the minute until Postfix looks by itself; just after a reload nobody may be there to listen.
            way.postfix.run("for turn in $(seq 100); do postkick public pickup W && break; sleep 0.1; done")
            messages += await arrived(sink, recipient)

    assert [False] * len(messages) == [b"X-Spam-" in message.content for message in messages]
    assert [True] * len(messages) == [message.content.endswith(TOP + b"x\r\n") for message in messages]
