"""Whatever breaks: the reply is of the right class, and the messages at the next hop are those that were answered 250."""

import asyncio
import errno
import io
import logging
import os
import re
import socket
import struct
import threading

import pytest
import structlog
from fake_engine import FakeEngine
from next_hop import FAULT_KINDS, STAGES, Fault, NextHop
from smtp_peers import SPAM, UNSCORED, Client, FixedJudge

from spamd.config import ActionSettings
from spamd.inference.batching import Batcher
from spamd.service import judge as asking
from spamd.service.filter import MessageFilter
from spamd.service.logs import configure_logging

WIRE = b"Subject: x\r\n\r\nbody\r\n"
SHORT = {
    "next_hop_connect_timeout_seconds": 0.5,
    "next_hop_command_timeout_seconds": 0.15,
    "next_hop_dot_timeout_seconds": 0.15,
}
MATRIX = """
           refuse  4xx  5xx  drop  stall
connect         4    4    4     4      4
banner          4    4    4     4      4
EHLO            4    4    4     4      4
MAIL            4    4    5     4      4
RCPT            4    4    5     4      4
DATA            4    4    5     4      4
dot             4    4    5     4      4
QUIT            2    2    2     2      2
"""
"""Class of the reply to a message when the next hop breaks so: its own no to what the client said, else try again."""

EXPECTED = {
    (stage, kind): code.encode()
    for kinds, *rows in [[line.split() for line in MATRIX.strip().splitlines()]]
    for stage, *codes in rows
    for kind, code in zip(kinds, codes, strict=True)
}
LIVE = ("MAIL", "RCPT", "DATA", "dot")


def test_the_matrix_is_whole():
    """Every way to break at every stage has its expected reply."""
    assert {(stage, kind) for stage in STAGES for kind in FAULT_KINDS} == set(EXPECTED)


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize(("stage", "kind"), EXPECTED)
async def test_next_hop_faults(start, stage, kind, protocol):
    """A next hop that breaks at any stage in any way costs no message and doubles none."""
    async with NextHop(protocol=protocol, faults=[Fault(stage, kind)]) as hop:
        proxy = await start(next_hop=hop, next_hop_protocol=protocol, **SHORT)
        async with Client(proxy.addresses[0]) as client:
            reply = await client.submit(WIRE)
            goodbye = await client.say(b"QUIT")

        assert EXPECTED[stage, kind] == reply[:1]
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

    assert [b"2", EXPECTED[stage, kind]] == replies
    assert 1 == len(next_hop.messages)


@pytest.mark.parametrize(("stage", "kind"), EXPECTED)
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

    allowed = b"235" if EXPECTED[stage, kind] == b"5" else b"234"
    assert b"" == b"".join(reply[:1] for reply in replies).translate(None, allowed)
    assert 1 + replies[-1].startswith(b"250") == len(next_hop.messages)


@pytest.mark.parametrize(("stage", "kind"), EXPECTED)
async def test_clients_that_try_again_get_through_once(start, stage, kind):
    """A client that tries again on every 4xx delivers one copy once the next hop is well: no fault outlives its cause."""
    async with NextHop(faults=[Fault(stage, kind, times=2)]) as hop:
        proxy = await start(next_hop=hop, **SHORT)
        if (stage, kind) == ("connect", "refuse"):
            asyncio.get_running_loop().call_later(0.1, lambda: asyncio.ensure_future(hop.listen()))
        reply = b""
        for _ in range(20):
            async with Client(proxy.addresses[0]) as client:
                reply = await client.submit(WIRE)
            if reply[:1] in (b"2", b"5"):
                break
            await asyncio.sleep(0.01)

        assert b"5" if EXPECTED[stage, kind] == b"5" else b"2" == reply[:1]
        assert int(reply.startswith(b"250")) == len(hop.messages)


@pytest.mark.parametrize(("kind", "expected"), [("refuse", b"2"), ("4xx", b"4"), ("5xx", b"5"), ("drop", b"2"), ("stall", b"4")])
async def test_next_hop_faults_at_xforward(start, next_hop, kind, expected):
    """XFORWARD is refused as the next hop refuses it, and said again where a kept connection proves to be closed."""
    next_hop.faults = [Fault("XFORWARD", kind, times=1)]
    proxy = await start(**SHORT)
    async with Client(proxy.addresses[0]) as client:
        replies = [await client.say(b"EHLO client.test"), await client.say(b"XFORWARD NAME=x")]
        replies += [await client.say(line) for line in (b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA")]
        replies.append(await client.say(WIRE + b"."))

    assert [b"2", expected, b"2", b"2", b"3", b"2"] == [reply[:1] for reply in replies]
    assert [(b"XFORWARD NAME=x",) * (expected == b"2")] == [message.xforward for message in next_hop.messages]


@pytest.mark.parametrize("kind", FAULT_KINDS)
async def test_next_hop_faults_at_rset(start, next_hop, kind):
    """A client may begin anew whatever the next hop does to RSET, and the message that was given up is nowhere."""
    next_hop.faults = [Fault("RSET", kind)]
    proxy = await start(**SHORT)
    async with Client(proxy.addresses[0]) as client:
        await client.envelope(sender=b"given-up@client.test")
        await client.say(b".")
        for line in (b"MAIL FROM:<given-up@client.test>", b"RCPT TO:<a@b>"):
            await client.say(line)
        replies = [await client.say(b"RSET"), await client.submit(WIRE)]

    assert [b"250", b"250"] == [reply[:3] for reply in replies]
    assert [b"MAIL FROM:<given-up@client.test>", b"MAIL FROM:<sender@client.test>"] == [one.mail for one in next_hop.messages]


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


SCORERS = {
    "raises": RuntimeError("secret"),
    "is out of memory": MemoryError("secret"),
    "loses its device": OSError("secret"),
}


class FailingEngine(FakeEngine):
    """A model that fails, or answers when it is allowed to.

    Attributes:
        error: what it raises; None waits for leave.
    """

    def __init__(self, error):
        super().__init__(gate=threading.Event())
        self.error = error

    def score(self, texts):
        """Fail."""
        if self.error:
            raise self.error
        return super().score(texts)


@pytest.fixture
async def start_filter():
    """A function that makes the real filter around an engine, with a short deadline."""
    opened = []

    def make(engine):
        batcher = Batcher(engine)
        opened.append((batcher, MessageFilter(batcher, deadline_seconds=1.0)))
        return opened[-1][1]

    yield make
    for batcher, judge in opened:
        judge.close()
        batcher.engine.gate.set()
        await batcher.close()


@pytest.mark.parametrize("on_failure", ["pass", "defer"])
@pytest.mark.parametrize("how", [*SCORERS, "hangs"])
async def test_scorers_that_fail(start, start_filter, next_hop, how, on_failure):
    """A model that fails in its own thread, or never answers, costs no message either, nor the next one its verdict."""
    engine = FailingEngine(SCORERS.get(how))
    proxy = await start(start_filter(engine), on_failure=on_failure)
    replies = []
    async with Client(proxy.addresses[0]) as client:
        replies.append(await client.submit(WIRE))
        engine.error = None
        engine.gate.set()
        replies.append(await client.submit(WIRE))

    expected = {"pass": (b"250", b"tests=SKIPPED_"), "defer": (b"451",)}[on_failure]
    assert [expected[0], b"250"] == [reply[:3] for reply in replies]
    assert [*expected[1:], b"tests=GPT2_HAM"] == [
        re.search(rb"tests=(?:SKIPPED_|GPT2_HAM)", message.wire)[0] for message in next_hop.messages
    ]


async def test_slow_judges_are_waited_for(start, next_hop):
    """While a message is judged no timer of the session fires, however short it is."""
    proxy = await start(FixedJudge(delay_seconds=0.6), command_timeout_seconds=0.2, data_timeout_seconds=0.2)
    async with Client(proxy.addresses[0]) as client:
        replies = [(await client.submit(WIRE))[:3] for _ in range(2)]

    assert [b"250", b"250"] == replies
    assert 2 == len(next_hop.messages)


DIALOG = b"EHLO client.test\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<b@next-hop.test>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\n"


def reset(client):
    """Let a client's connection end with RST."""
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.close()


async def nobody_is_left(proxy):
    """Wait until a proxy has no session any more."""
    for _ in range(1000):
        if not proxy.num_sessions:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{proxy.num_sessions} sessions are left")


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
async def test_clients_that_leave(start, next_hop, how):
    """A client that leaves at any byte before its dot leaves no message, no session and no held memory behind."""
    proxy = await start(max_connections=1000, max_connections_per_client=1000)

    async def leave_after(num_bytes):
        client = await Client(proxy.addresses[0]).__aenter__()
        await client.send(DIALOG[:num_bytes])
        await asyncio.sleep(0.05)
        if how == "half-close":
            client.writer.write_eof()
            await client.reader.read()
        if how == "reset":
            reset(client)
        client.writer.close()

    await asyncio.gather(*(leave_after(num_bytes) for num_bytes in range(len(DIALOG) - 2)))
    await nobody_is_left(proxy)

    assert [0, []] == [proxy._memory._num_held, next_hop.messages]


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
    reset(client)
    await nobody_is_left(proxy)

    assert [1, [], 0] == [judge.num_cancelled, next_hop.messages, proxy.num_sessions]


async def test_clients_that_are_gone_after_our_dot(start, next_hop):
    """Once the message is on its way its reply is awaited, though nobody is there to hear it, and the connection is kept."""
    next_hop.dot_seconds = 0.2
    proxy = await start()
    client = await Client(proxy.addresses[0]).__aenter__()
    await client.envelope()
    await client.send(WIRE + b".\r\n")
    await asyncio.sleep(0.1)
    (session,) = proxy._door._sessions
    reset(client)
    await nobody_is_left(proxy)

    assert session.exception() is None
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


@pytest.fixture
def log_to():
    """A function that sends the log to a stream; afterwards all is as it was."""
    before = logging.getLogger().handlers[:]
    yield lambda stream: configure_logging("debug", "json", stream)
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    logging.getLogger().handlers[:] = before


class FullDisk(io.StringIO):
    """A log file on a disk that is full."""

    def write(self, _text):
        """Fail as the system does."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("is_closed", [False, True], ids=["full", "closed"])
async def test_logs_that_cannot_be_written_stop_no_mail(start, next_hop, log_to, is_closed):
    """Where the disk is full, or the log is gone, mail flows and only the lines are lost."""
    stream = FullDisk()
    log_to(stream)
    if is_closed:
        stream.close()
    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        replies = [await client.submit(WIRE) for _ in range(3)]

    assert [b"250"] * 3 == [reply[:3] for reply in replies]
    assert 3 == len(next_hop.messages)


async def test_refused_spam_never_reaches_the_next_hop(start, next_hop):
    """A message refused as spam is never sent, and the next hop's connection serves the next one."""
    proxy = await start(FixedJudge(SPAM), actions=ActionSettings(reject_score=0.9))
    async with Client(proxy.addresses[0]) as client:
        replies = [await client.submit(WIRE) for _ in range(2)]

    assert [b"554 5.7.1", b"554 5.7.1"] == [reply[:9] for reply in replies]
    assert ([], 1, False) == (next_hop.messages, next_hop.num_connections, b"DATA" in next_hop.commands)
