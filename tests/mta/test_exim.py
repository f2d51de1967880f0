"""Exim, set up by the very text of `docs/exim.md`: what arrives is what was sent, through the proxy and asked by the ACL."""

import asyncio
import contextlib
import itertools
import re

import pytest
import pytest_asyncio
from daemon_process import DaemonProcess, connected
from exim_process import EximProcess, why_not
from mta_messages import MESSAGES, PATIENCE_SECONDS, TOP, arrived, as_sent, wire
from page import Page, with_ports
from postfix_process import free_port
from signing import verifies

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

PAGE = Page("exim.md")
GTUBE = TOP + b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"
numbers = itertools.count(1)


@contextlib.contextmanager
def exim_as_in(section, ports, sink, *, add=None):
    """Start Exim with the files of a section; `add` is text to put at the end of the last one. Gives it and its address."""
    address = f"127.0.0.1:{ports[25]}"
    exim = EximProcess(relay=sink.address, address=address)
    files = {path: text for path, text in PAGE.files(section).items() if path.startswith("/etc/exim4/")}
    for path, text in files.items():
        exim.write(path, with_ports(text + (add or "") * (path == list(files)[-1]), ports))
    with exim:
        yield exim


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxied(need, spamd, sink, port_behind):
    """An Exim whose mail goes through the proxy."""
    need(why_not())
    ports = {25: free_port(), 10025: int(spamd.address.rpartition(":")[2]), 10026: port_behind}
    with exim_as_in("Through the proxy", ports, sink) as exim:
        yield exim


async def send(exim, content, mail="MAIL FROM:<sender@client.test>", rcpt="RCPT TO:<{}>"):
    """Send a message to a recipient of its own; return the recipient and the reply to the message."""
    recipient = f"user{next(numbers)}@next-hop.test"
    async with connected(exim.address) as client:
        for line in (mail, rcpt.format(recipient), "DATA"):
            reply = await client.say(line)
            assert reply[:1] in "23", reply
        return recipient, await client.end_message(wire(content))


@pytest.mark.parametrize("name", MESSAGES)
async def test_content_is_not_touched(proxied, sink, name):
    """Whatever a message holds, it arrives as it was, below our fields and Exim's; a signature still holds.

    Exim itself ends every header by an empty line.
    """
    recipient, reply = await send(proxied, MESSAGES[name])
    (message,) = await arrived(sink, recipient)

    assert "250" == reply[:3]
    assert MESSAGES[name] + b"\r\n" * (name == "headers only") == as_sent(message.content)
    assert name != "signed" or verifies(message.content)


async def test_null_senders_pass(proxied, sink):
    """A bounce, whose sender is empty, arrives as a bounce."""
    recipient, _ = await send(proxied, TOP + b"x\r\n", "MAIL FROM:<>")
    (message,) = await arrived(sink, recipient)

    assert b"MAIL FROM:<>" == message.mail.partition(b" SIZE=")[0]


async def test_dsn_parameters_pass(proxied, sink):
    """What a sender wants to be told, and under which names, reaches the end of the way."""
    mail = "MAIL FROM:<sender@client.test> RET=HDRS ENVID=Qq+3D314159"
    recipient, _ = await send(proxied, TOP + b"x\r\n", mail, "RCPT TO:<{0}> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;{0}")
    (message,) = await arrived(sink, recipient)

    assert {b"RET=HDRS", b"ENVID=Qq+3D314159"} < set(message.mail.split())
    assert {b"NOTIFY=SUCCESS,FAILURE", f"ORCPT=rfc822;{recipient}".encode()} < set(message.recipients[0].split())


async def test_addresses_in_utf8_pass(proxied, sink):
    """With SMTPUTF8, addresses and fields in UTF-8 arrive as they were."""
    content = "X-Odd: Grüße, 世界\r\n".encode() + TOP + b"x\r\n"
    recipient, _ = await send(proxied, content, "MAIL FROM:<jürgen@client.test> SMTPUTF8", "RCPT TO:<pelé{}>")
    (message,) = await arrived(sink, f"pelé{recipient}")

    assert b"SMTPUTF8" in message.mail
    assert content == as_sent(message.content)


async def test_refused_recipients_are_told_apart(proxied, sink):
    """Of 100 recipients some are refused, and all others get the message."""
    number = next(numbers)
    kinds = ["refused" if place % 10 == 3 else "user" for place in range(100)]
    async with connected(proxied.address) as client:
        await client.say("MAIL FROM:<sender@client.test>")
        replies = [await client.say(f"RCPT TO:<{kind}.{place}@many{number}.test>") for place, kind in enumerate(kinds)]
        assert "354" == (await client.say("DATA"))[:3]
        assert "250" == (await client.end_message(wire(TOP + b"x\r\n")))[:3]
    found = await recipients_of(sink, f"@many{number}.test>", 90)

    assert [{"refused": "550", "user": "250"}[kind] for kind in kinds] == [reply[:3] for reply in replies]
    assert sorted(f"user.{place}@many{number}.test" for place, kind in enumerate(kinds) if kind == "user") == found


async def test_the_test_of_the_page(proxied, sink):
    """What the page gives to test with arrives as spam, by swaks."""
    sink.messages.clear()
    script = PAGE.block("Test it").replace("--server 127.0.0.1 ", f"--server {proxied.address} ")
    running = await asyncio.create_subprocess_shell(script, stdout=asyncio.subprocess.DEVNULL)
    assert 0 == await asyncio.wait_for(running.wait(), PATIENCE_SECONDS)
    (message,) = await arrived(sink, "<you@example.org>")

    assert b"\r\nX-Spam-Flag: YES\r\n" in message.content


async def test_mail_waits_while_spamd_is_down(need, sink):
    """Mail that spamd cannot take waits in Exim's queue."""
    need(why_not())
    ports = {25: free_port(), 10025: free_port(), 10026: free_port()}
    with exim_as_in("Through the proxy", ports, sink) as exim:
        recipient, reply = await send(exim, TOP + b"x\r\n")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not re.search(r"== \S+ R=spamd T=spamd_smtp defer", exim.log()):  # noqa: ASYNC110  Exim tells nobody
                await asyncio.sleep(0.05)

    assert "250" == reply[:3]
    assert [] == [message for message in sink.messages if recipient.encode() in b"".join(message.recipients)]


async def test_mail_passes_while_spamd_is_down(need, sink):
    """With the page's line for it, mail that spamd cannot take passes untagged."""
    need(why_not())
    ports = {25: free_port(), 10025: free_port(), 10026: free_port()}
    with exim_as_in("Through the proxy", ports, sink, add=PAGE.block("While spamd is down")) as exim:
        recipient, _ = await send(exim, TOP + b"x\r\n")
        (message,) = await arrived(sink, recipient)

    assert b"X-Spam-" not in message.content
    assert message.content.endswith(TOP + b"x\r\n")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asked(need, tmp_path_factory, sink):
    """A filter with the door for the ACL open, and the ports to set Exim up with."""
    need(why_not())
    ports = {25: free_port(), 1783: free_port()}
    settings = with_ports(PAGE.files("Asked by the DATA ACL")["/etc/spamd/spamd.toml"], ports)
    async with DaemonProcess(tmp_path_factory.mktemp("spamd"), None, sink.address, settings=settings):
        yield ports


async def test_the_acl_marks_spam(asked, sink):
    """Asked by the ACL, spam gets the fields, ham the other ones, and forged ones go; nothing else changes."""
    forged = b"X-Spam-Flag: NO\r\nX-Spam-Status: No, really\r\n"
    with exim_as_in("Asked by the DATA ACL", asked, sink) as exim:
        recipients = [(await send(exim, content))[0] for content in (GTUBE, forged + GTUBE, TOP + b"See you at noon.\r\n")]
        spam, liar, ham = [(await arrived(sink, recipient))[0].content for recipient in recipients]

    assert [True, True, False] == [b"\r\nX-Spam-Flag: YES\r\n" in content for content in (spam, liar, ham)]
    assert b"\r\nX-Spam-Status: Yes, score=" in spam
    assert b"\r\nX-Spam-Status: No, score=" in ham
    assert b"NO\r\n" not in liar
    assert b"really" not in liar
    assert ham.endswith(b"\r\n\r\nSee you at noon.\r\n")


async def test_the_acl_refuses_spam(asked, sink):
    """With the page's lines for it, spam far above the threshold is refused, and ham is taken."""
    with exim_as_in("Asked by the DATA ACL", asked, sink, add=PAGE.block("Asked by the DATA ACL", 4)) as exim:
        replies = [(await send(exim, content))[1] for content in (GTUBE, TOP + b"See you at noon.\r\n")]

    assert ["550 Message refused as spam", "250"] == [replies[0], replies[1][:3]]


async def test_the_acl_lets_mail_pass_while_spamd_is_down(sink, need):
    """Where nobody answers the ACL, mail passes without fields."""
    need(why_not())
    with exim_as_in("Asked by the DATA ACL", {25: free_port(), 1783: free_port()}, sink) as exim:
        recipient, _ = await send(exim, TOP + b"x\r\n")
        (message,) = await arrived(sink, recipient)

    assert b"X-Spam-" not in message.content


async def recipients_of(sink, part, number):
    """Wait until as many recipients got a message; a message may come in pieces."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            lines = [line.decode() for message in sink.messages for line in message.recipients if part.encode() in line]
            if len(lines) >= number:
                return sorted(re.search("<(.+?)>", line)[1] for line in lines)
            await asyncio.sleep(0.02)
