"""Whatever breaks: the reply is of the right class, and the messages at the next hop are those that were answered 250."""

import asyncio
import socket
import struct

import pytest
from next_hop import FAULT_KINDS, STAGES, Fault, NextHop
from smtp_peers import SPAM, UNSCORED, Client, FixedJudge

from spamd.config import ActionSettings
from spamd.service import judge as asking

WIRE = b"Subject: x\r\n\r\nbody\r\n"
SHORT = {
    "next_hop_connect_timeout_seconds": 0.5,
    "next_hop_command_timeout_seconds": 0.15,
    "next_hop_dot_timeout_seconds": 0.15,
}
LIVE = ("MAIL", "RCPT", "DATA", "dot")


def expected_class(stage, kind):
    """The class of the reply that a fault must lead to: the next hop's own no, else try again."""
    if stage == "QUIT":
        return b"2"
    return b"5" if kind == "5xx" and stage in LIVE else b"4"


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize("kind", FAULT_KINDS)
@pytest.mark.parametrize("stage", STAGES)
async def test_next_hop_faults(start, stage, kind, protocol):
    """A next hop that breaks at any stage in any way costs no message and doubles none."""
    async with NextHop(protocol=protocol, faults=[Fault(stage, kind)]) as hop:
        proxy = await start(next_hop=hop, next_hop_protocol=protocol, **SHORT)
        async with Client(proxy.addresses[0]) as client:
            reply = await client.submit(WIRE)
            goodbye = await client.say(b"QUIT")

        assert expected_class(stage, kind) == reply[:1]
        assert goodbye[:3] in (b"221", b"")
        assert int(reply.startswith(b"250")) == len(hop.messages)


@pytest.mark.parametrize("kind", FAULT_KINDS)
@pytest.mark.parametrize("stage", LIVE)
async def test_next_hop_faults_on_kept_connections(start, next_hop, stage, kind):
    """The same holds where the connection has carried a message already."""
    next_hop.faults = [Fault(stage, kind, after=1)]
    proxy = await start(**SHORT)
    replies = []
    for _ in range(2):
        async with Client(proxy.addresses[0]) as client:
            replies.append((await client.submit(WIRE))[:1])

    assert [b"2", expected_class(stage, kind)] == replies
    assert 1 == len(next_hop.messages)


@pytest.mark.parametrize("kind", FAULT_KINDS)
@pytest.mark.parametrize("stage", STAGES)
async def test_next_hop_faults_with_pipelining(start, next_hop, stage, kind):
    """A client that sends its commands in one piece is refused for good only where the next hop refused for good."""
    proxy = await start(**SHORT)
    async with Client(proxy.addresses[0]) as client:
        await client.submit(WIRE)
        # Kept connections would hide the first stages.
        proxy._next_hop.close()
        next_hop.faults = [Fault(stage, kind)]
        await client.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n")
        replies = [await client.reply() for _ in range(4)]
        if replies[-1].startswith(b"354"):
            replies.append(await client.say(WIRE + b"."))

    allowed = b"235" if expected_class(stage, kind) == b"5" else b"234"
    assert b"" == b"".join(reply[:1] for reply in replies).translate(None, allowed)
    assert 1 + replies[-1].startswith(b"250") == len(next_hop.messages)


async def test_lost_replies_are_temporary(start, next_hop):
    """A next hop that keeps a message and never says so: 451, one copy there, and no second attempt of ours."""
    next_hop.faults = [Fault("dot", "store and drop")]
    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        reply = await client.submit(WIRE)

    assert (b"451", 1, 1) == (reply[:3], len(next_hop.messages), next_hop.num_connections)


async def test_a_next_hop_that_comes_back_is_used(start, next_hop):
    """After an outage mail flows again, in the same session."""
    next_hop.faults = [Fault("MAIL", "drop", times=2)]
    proxy = await start(**SHORT)
    async with Client(proxy.addresses[0]) as client:
        replies = [(await client.submit(WIRE))[:3] for _ in range(2)]

    assert [b"451", b"250"] == replies


async def test_stale_connections_cost_nothing(start, next_hop):
    """A kept connection that the next hop gives up just when it is used again is replaced unseen."""
    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        first = await client.submit(WIRE)
        next_hop.faults = [Fault("MAIL", "refuse", after=1, times=1)]
        second = await client.submit(WIRE)

    assert [b"250", b"250", 2] == [first[:3], second[:3], len(next_hop.messages)]


@pytest.mark.parametrize("on_failure", ["pass", "defer"])
@pytest.mark.parametrize("how", ["raises", "hangs", "unscored"])
async def test_judges_that_fail(start, next_hop, monkeypatch, how, on_failure):
    """A judge that raises, hangs or has no opinion costs no message: it goes on marked so, or is tried again."""
    monkeypatch.setattr(asking, "JUDGE_GRACE_SECONDS", 0.1)
    judge = {
        "raises": FixedJudge(error=MemoryError("secret")),
        "hangs": FixedJudge(delay_seconds=3600),
        "unscored": FixedJudge(UNSCORED),
    }[how]
    proxy = await start(judge, deadline_seconds=0.1, on_failure=on_failure)
    async with Client(proxy.addresses[0]) as client:
        reply = await client.submit(WIRE)

    assert {"pass": (b"250", 1), "defer": (b"451", 0)}[on_failure] == (reply[:3], len(next_hop.messages))
    assert all(b"tests=SKIPPED_" in message.wire and b"X-Spam-Flag" not in message.wire for message in next_hop.messages)


async def test_slow_judges_are_waited_for(start, next_hop):
    """While a message is judged no timer of the session fires, however short it is."""
    proxy = await start(FixedJudge(delay_seconds=0.6), command_timeout_seconds=0.2, data_timeout_seconds=0.2)
    async with Client(proxy.addresses[0]) as client:
        replies = [(await client.submit(WIRE))[:3] for _ in range(2)]

    assert [b"250", b"250"] == replies
    assert 2 == len(next_hop.messages)


@pytest.mark.parametrize("num_bytes", [0, 5, 30, 60, 90, 100, 110, 115, 118])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_clients_that_leave(start, next_hop, num_bytes, how):
    """A client that leaves anywhere before its dot leaves no message, no session and no held memory behind."""
    sent = (
        b"EHLO client.test\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<b@next-hop.test>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\n"
    )
    proxy = await start()
    client = await Client(proxy.addresses[0]).__aenter__()
    await client.send(sent[: min(num_bytes, len(sent) - 3)])
    await asyncio.sleep(0.03)
    if how == "reset":
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.close()
    await asyncio.sleep(0.1)

    assert [0, 0, []] == [proxy.num_sessions, proxy._memory._num_held, next_hop.messages]


async def test_early_quit_with_half_close(start, next_hop):
    """A client that says QUIT with its dot and closes its half, as Exim does, gets its 250: one delivery, no duplicate."""
    judge = FixedJudge(delay_seconds=0.2)
    proxy = await start(judge)
    async with Client(proxy.addresses[0]) as client:
        await client.envelope()
        await client.send(WIRE + b".\r\nQUIT\r\n")
        client.writer.write_eof()
        replies = [await client.reply(), await client.reply(), await client.reply()]

    assert [b"250", b"221", b""] == [reply[:3] for reply in replies]
    assert (1, 0) == (len(next_hop.messages), judge.num_cancelled)


async def test_clients_that_are_gone_before_the_verdict(start, next_hop):
    """A connection that breaks while the message is judged stops it: the client tries again, and there is no duplicate."""
    judge = FixedJudge(delay_seconds=3600)
    proxy = await start(judge)
    client = await Client(proxy.addresses[0]).__aenter__()
    await client.envelope()
    await client.send(WIRE + b".\r\n")
    await judge.is_asked.wait()
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.close()
    await asyncio.sleep(0.1)

    assert [1, [], 0] == [judge.num_cancelled, next_hop.messages, proxy.num_sessions]


async def test_clients_that_are_gone_after_our_dot(start, next_hop):
    """Once the message is on its way its reply is awaited, though nobody is there to hear it, and the connection is kept."""
    next_hop.dot_seconds = 0.2
    proxy = await start()
    client = await Client(proxy.addresses[0]).__aenter__()
    await client.envelope()
    await client.send(WIRE + b".\r\n")
    await asyncio.sleep(0.1)
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.close()
    await asyncio.sleep(0.2)

    assert [1, 0, 1] == [len(next_hop.messages), proxy.num_sessions, len(proxy._next_hop._kept)]


@pytest.mark.parametrize("size", [1, 7])
async def test_clients_that_dribble(start, next_hop, size):
    """A dialog cut into single bytes is the same dialog."""
    sent = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + WIRE + b".\r\nQUIT\r\n"
    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        for start_at in range(0, len(sent), size):
            await client.send(sent[start_at : start_at + size])
            await asyncio.sleep(0)
        codes = [(await client.reply())[:3] for _ in range(6)]

    assert [b"250", b"250", b"250", b"354", b"250", b"221"] == codes
    assert [WIRE] == [message.wire[-len(WIRE) :] for message in next_hop.messages]


async def test_clients_that_send_all_at_once(start, next_hop):
    """Two whole transactions in one packet are two messages in order."""
    one = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n%b.\r\n"
    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        await client.send(b"EHLO c\r\n" + one % b"Subject: 1\r\n" + one % b"Subject: 2\r\n" + b"QUIT\r\n")
        codes = [(await client.reply())[:3] for _ in range(10)]

    assert [b"250", *[b"250", b"250", b"354", b"250"] * 2, b"221"] == codes
    assert [b"Subject: 1\r\n", b"Subject: 2\r\n"] == [message.wire[-12:] for message in next_hop.messages]


async def test_refused_spam_never_reaches_the_next_hop(start, next_hop):
    """A message refused as spam is never sent, and the next hop's connection serves the next one."""
    proxy = await start(FixedJudge(SPAM), actions=ActionSettings(reject_score=0.9))
    async with Client(proxy.addresses[0]) as client:
        replies = [await client.submit(WIRE) for _ in range(2)]

    assert [b"554 5.7.1", b"554 5.7.1"] == [reply[:9] for reply in replies]
    assert ([], 1, False) == (next_hop.messages, next_hop.num_connections, b"DATA" in next_hop.commands)
