"""Dovecot's LMTP server behind the filter, alone and with Postfix in front: what is kept in the mailbox is what was sent."""

import asyncio
import itertools

import pytest
import pytest_asyncio
from daemon_process import DaemonProcess, connected
from dovecot_process import DovecotProcess, why_not
from mta_messages import MESSAGES, PATIENCE_SECONDS, RECEIVED, TOP, as_sent, wire
from postfix_process import PostfixProcess, free_port
from postfix_process import why_not as why_no_postfix
from signing import verifies

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

USERS = [f"user{number}@next-hop.test" for number in range(200)]
DELIVERED = rb"Return-Path: .*\r\nDelivered-To: .*\r\n" + RECEIVED
numbers = itertools.count(100)


@pytest.fixture(scope="module")
def dovecot(need):
    """Mailboxes, reached by LMTP."""
    need(why_not())
    with DovecotProcess(USERS) as process:
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def before_dovecot(tmp_path_factory, dovecot):
    """The filter with Dovecot as its next hop."""
    process = DaemonProcess(tmp_path_factory.mktemp("spamd"), None, dovecot.address)
    settings = process.settings.read_text()
    process.settings.write_text(settings.replace("[smtp]\n", '[smtp]\nnext_hop_protocol = "lmtp"\n'))
    async with process:
        yield process


async def kept(dovecot, user):
    """Wait for mail in a mailbox, and return it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (messages := dovecot.mail(user)):  # noqa: ASYNC110  Dovecot tells nobody
            await asyncio.sleep(0.05)
    return messages


@pytest.mark.parametrize("name", MESSAGES)
async def test_content_is_not_touched(before_dovecot, dovecot, name):
    """Whatever a message holds, it is kept as it was, below our fields and Dovecot's; a signature still holds."""
    user = f"user{next(numbers)}@next-hop.test"
    async with connected(before_dovecot.address) as client:
        await client.say("MAIL FROM:<sender@client.test> BODY=8BITMIME", f"RCPT TO:<{user}>", "DATA")
        reply = await client.end_message(wire(MESSAGES[name]))
    (content,) = await kept(dovecot, user)

    assert reply.startswith(f"250 2.0.0 <{user}>")
    assert MESSAGES[name] == as_sent(content, behind=DELIVERED, before=b"")
    assert name != "signed" or verifies(content)


async def test_null_senders_pass(before_dovecot, dovecot):
    """A bounce, whose sender is empty, is kept as a bounce."""
    user = f"user{next(numbers)}@next-hop.test"
    async with connected(before_dovecot.address) as client:
        await client.say("MAIL FROM:<>", f"RCPT TO:<{user}>", "DATA")
        await client.end_message(wire(TOP + b"x\r\n"))
    (content,) = await kept(dovecot, user)

    assert content.startswith(b"Return-Path: <>\r\n")


async def test_one_recipient_at_a_time(before_dovecot):
    """An unknown recipient is refused by Dovecot's own reply; a second one is told to come again, since LMTP answers each."""
    async with connected(before_dovecot.address) as client:
        recipients = ["nobody@next-hop.test", USERS[0], USERS[1]]
        replies = [await client.say("MAIL FROM:<sender@client.test>")]
        replies += [await client.say(f"RCPT TO:<{recipient}>") for recipient in recipients]

    assert ["250 2.1.0", "550 5.1.1", "250 2.1.5", "452 4.5.3"] == [reply[:9] for reply in replies]


async def test_postfix_delivers_to_many(before_dovecot, dovecot, need):
    """Of 100 recipients that Postfix hands over one by one, those with a mailbox get the message, once and whole."""
    need(why_no_postfix())
    settings = "smtp_destination_recipient_limit = 1\n"
    with PostfixProcess(port=free_port(), relay=before_dovecot.address, settings=settings) as postfix:
        async with connected(postfix.address) as client:
            await client.say("MAIL FROM:<>")
            for place in range(100):
                await client.say(f"RCPT TO:<{'user' if place % 10 else 'gone'}{place}@next-hop.test>")
            await client.say("DATA")
            assert "250" == (await client.end_message(wire(MESSAGES["signed"])))[:3]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while postfix.num_queued():  # noqa: ASYNC110  Postfix tells nobody
                await asyncio.sleep(0.1)
        refused = postfix.log().count("said: 550 5.1.1 <gone")
    contents = [dovecot.mail(f"user{place}@next-hop.test") for place in range(100)]

    assert [1 if place % 10 else 0 for place in range(100)] == [len(messages) for messages in contents]
    assert {MESSAGES["signed"]} == {as_sent(message, behind=DELIVERED) for messages in contents for message in messages}
    assert 10 == refused
