"""One session's dealings with the next hop."""

import asyncio

import pytest
from next_hop import Fault

from spamd.errors import RelayError
from spamd.smtp.next_hop import NextHop as OurNextHop
from spamd.smtp.relay import Timeouts
from spamd.smtp.transaction import Phase, Transaction

WIRE = b"Subject: x\r\n"


@pytest.fixture
async def ours(next_hop):
    """Our view of the recording next hop."""
    made = OurNextHop(next_hop.address, hostname="mx.test", timeouts=Timeouts(0.5, 0.2, 0.5))
    yield made
    made.close()
    await asyncio.sleep(0)


async def test_a_transaction_from_end_to_end(ours, next_hop):
    """It is open from MAIL to the final reply, and the connection waits for the next one."""
    transaction = Transaction(ours)
    await transaction.mail(b"MAIL FROM:<>")
    await transaction.rcpt(b"RCPT TO:<a@b>")
    phase = transaction.phase
    reply = await transaction.send(WIRE)

    assert (Phase.OPEN, Phase.NONE, 250, WIRE) == (phase, transaction.phase, reply.code, next_hop.messages[0].wire)
    assert 0 == transaction.num_recipients
    assert 1 == len(ours._kept)


async def test_it_is_committed_from_the_dot_to_the_reply(ours, next_hop):
    """Only while the final reply is awaited it is too late to stop."""
    next_hop.dot_seconds = 0.1
    transaction = Transaction(ours)
    await transaction.mail(b"MAIL FROM:<>")
    await transaction.rcpt(b"RCPT TO:<a@b>")
    seen = [transaction.is_committed]
    sending = asyncio.ensure_future(transaction.send(WIRE))
    await asyncio.sleep(0.05)
    seen.append(transaction.is_committed)
    await sending

    assert [False, True, False] == [*seen, transaction.is_committed]


async def test_refused_senders_free_the_connection(ours, next_hop):
    """After MAIL was refused, nothing is open, and the connection may serve others."""
    next_hop.faults = [Fault("MAIL", "5xx")]
    transaction = Transaction(ours)

    assert 554 == (await transaction.mail(b"MAIL FROM:<>")).code
    assert (Phase.NONE, 1) == (transaction.phase, len(ours._kept))


async def test_what_is_known_of_the_client_is_not_lost_unseen(ours, next_hop):
    """Once XFORWARD was given, MAIL is not tried on another connection that never heard of it."""
    ours.release(await ours.acquire())
    transaction = Transaction(ours)
    await transaction.xforward(b"XFORWARD NAME=x")
    next_hop.faults = [Fault("MAIL", "drop", times=1)]

    with pytest.raises(RelayError):
        await transaction.mail(b"MAIL FROM:<>")
    assert (Phase.FAILED, 1) == (transaction.phase, next_hop.num_connections)


async def test_reset_keeps_the_connection(ours, next_hop):
    """RSET at the next hop lets the next transaction start clean on the same connection."""
    transaction = Transaction(ours)
    for _ in range(2):
        await transaction.mail(b"MAIL FROM:<>")
        await transaction.reset()

    assert (1, 2) == (next_hop.num_connections, next_hop.commands.count(b"RSET"))


async def test_reset_survives_a_lost_next_hop(ours, next_hop):
    """A client may always begin anew."""
    next_hop.faults = [Fault("RSET", "stall")]
    transaction = Transaction(ours)
    await transaction.mail(b"MAIL FROM:<>")
    await transaction.reset()

    assert (Phase.NONE, 0) == (transaction.phase, len(ours._kept))


async def test_redirection_replaces_all_recipients(ours, next_hop):
    """The quarantine gets the message with the sender's own MAIL line, and the first recipients do not."""
    transaction = Transaction(ours)
    await transaction.mail(b"MAIL FROM:<a@b> ENVID=1")
    await transaction.rcpt(b"RCPT TO:<one@x>")
    await transaction.redirect(WIRE, "quarantine@x")

    (message,) = next_hop.messages
    assert (b"MAIL FROM:<a@b> ENVID=1", (b"RCPT TO:<quarantine@x> NOTIFY=NEVER",)) == (message.mail, message.recipients)


async def test_sending_without_a_connection_is_an_error(ours):
    """What was lost on the way cannot be sent."""
    with pytest.raises(RelayError):
        await Transaction(ours).send(WIRE)
