"""Whole dialogs with the door: what goes over the wire, and what clients do that a server must survive."""

import asyncio
import contextlib
import socket
import zlib

import pytest
from smtp_peers import HAM, SPAM, FixedJudge
from spamc_peers import connect, emptied
from structlog.testing import capture_logs

from spamd.service import judge as asking
from spamd.spamc import session as sessions

BODY = b"Subject: x\n\nbody\n"
CHECK = b"CHECK SPAMC/1.5\r\nUser: nobody\r\nContent-length: %d\r\n\r\n" % len(BODY) + BODY
HAM_REPLY = b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 0.4 / 5.0\r\n\r\n"
SPAM_REPLY = b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 9.6 / 5.0\r\n\r\n"
UNSCORED_REPLY = b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 0.0 / 5.0\r\n\r\n"


@pytest.mark.parametrize("half_close", [True, False])
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"PING SPAMC/1.5\r\n", b"SPAMD/1.5 0 PONG\r\n"),
        (b"PING SPAMC/1.2\r\n\r\n", b"SPAMD/1.5 0 PONG\r\n"),
        (b"SKIP SPAMC/1.5\r\n\r\n", b""),
        (
            b"TELL SPAMC/1.5\r\nMessage-class: spam\r\nSet: local\r\nContent-length: 1\r\n\r\na",
            b"SPAMD/1.0 69 Service Unavailable: TELL commands are not enabled, train with spamd-admin retrain\r\n",
        ),
        (CHECK, SPAM_REPLY),
        (CHECK + b"\r\n", SPAM_REPLY),
        (CHECK.replace(b"length", b"LENGTH"), SPAM_REPLY),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"SPAMD/1.0 76 Bad header line: GET / HTTP/1.1\r\n"),
        (b"CHECK SPAMC/1.5\r\nnonsense\r\n\r\n", b"SPAMD/1.0 76 Bad header line: nonsense\r\n"),
        (b"CHECK " + b"x" * 100_000 + b"\r\n", b"SPAMD/1.0 76 Bad header line: (line too long)\r\n"),
        (b"CHECK SPAMC/1.5\r\n" + b"A: b\r\n" * 256 + b"\r\n", b"SPAMD/1.0 76 Bad header line: (too many headers)\r\n"),
        (
            b"CHECK SPAMC/1.5\r\nContent-length: 1001\r\n\r\n",
            b"SPAMD/1.0 69 Service Unavailable: the message is larger than spamc.max_message_bytes (1000)\r\n",
        ),
    ],
)
async def test_dialogs(start, ask, sent, expected, half_close):
    """Each request gets its reply and the end of the connection, whether or not the client ended its own side."""
    door = await start(FixedJudge(SPAM), max_message_bytes=1000)

    assert expected == await ask(door, sent, half_close=half_close)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"", b"SPAMD/1.0 76 Bad header line: (closed before headers)\r\n"),
        (b"CHECK SPAMC/1.5\r\nUser: a\r\n", b"SPAMD/1.0 76 Bad header line: (EOF during headers)\r\n"),
        (CHECK[:-3], b"SPAMD/1.0 76 Bad header line: (Content-Length mismatch: Expected 17 bytes, got 14 bytes)\r\n"),
        (b"CHECK SPAMC/1.5\r\n\r\n" + BODY, SPAM_REPLY),
        (b"CHECK SPAMC/1.4\nUser: a\n\n" + BODY, SPAM_REPLY),
        (b"CHECK SPAMC/1.0\r\n" + BODY, SPAM_REPLY),
        (b"CHECK SPAMC/1.5\r\nContent-length: 0\r\n\r\n", SPAM_REPLY),
        (
            b"CHECK SPAMC/1.5\r\n\r\n" + b"a" * 1001,
            b"SPAMD/1.0 69 Service Unavailable: the message is larger than spamc.max_message_bytes (1000)\r\n",
        ),
    ],
)
async def test_dialogs_that_end_early(start, ask, sent, expected):
    """Where no length is said the message ends with what the client sends; a request cut off is told so."""
    door = await start(FixedJudge(SPAM), max_message_bytes=1000)

    assert expected == await ask(door, sent)


@pytest.mark.parametrize("length", [b"", b"Content-length: 17\r\n"])
async def test_the_judge_sees_the_message(start, ask, length):
    """The judge gets the message as it came, without the mbox line that Exim and procmail put before it."""
    judge = FixedJudge()
    door = await start(judge)
    await ask(door, b"CHECK SPAMC/1.2\r\n" + length + b"\r\n" + BODY)
    await ask(door, b"REPORT SPAMC/1.2\r\nUser: a\r\nContent-length: 35\r\n\r\nFrom a@b Mon Jan  \n" + BODY[:16])

    assert [BODY, BODY[:16]] == judge.judged


async def test_exim_is_answered(start, ask):
    """Exim's request gets what its scanner accepts: no Content-length before `Spam:`, and the report behind an empty line."""
    door = await start(FixedJudge(SPAM))
    reply = await ask(door, b"REPORT SPAMC/1.2\r\nUser: mail\r\nContent-length: 17\r\n\r\n" + BODY)

    assert reply.startswith(SPAM_REPLY + b"Judged by spamd ")


async def test_amavis_is_answered(start, ask):
    """A client that never ends its side gets a Content-length that is true, and the end."""
    door = await start(FixedJudge(SPAM))
    reply = await ask(door, b"SYMBOLS SPAMC/1.3\r\nContent-length: 17\r\n\r\n" + BODY, half_close=False)

    assert b"SPAMD/1.1 0 EX_OK\r\nContent-length: 9\r\nSpam: True ; 9.6 / 5.0\r\n\r\nGPT2_SPAM" == reply


@pytest.mark.parametrize("size", [1, 7, 20])
async def test_split_requests_are_joined(start, ask, size):
    """However the network cuts a request, it is the same request."""
    judge = FixedJudge()
    door = await start(judge)
    pieces = [CHECK[start : start + size] for start in range(0, len(CHECK), size)]

    assert (HAM_REPLY, [BODY]) == (await ask(door, *pieces), judge.judged)


async def test_messages_come_back_as_they_were(start, ask):
    """PROCESS changes no byte below our fields, whatever bytes they are and however many."""
    message = b"Subject: x\n\n" + bytes(range(256)) * 4096
    door = await start()
    reply = await ask(door, b"PROCESS SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % len(message) + message)
    head, _, body = reply.partition(b"\r\n\r\n")

    assert b"Content-length: %d" % len(body) == head.split(b"\r\n")[1]
    assert body.startswith(b"X-Spam-Checker-Version: spamd ")
    assert body.endswith(b"version=0.1.0\n" + message)


async def test_packed_messages_are_unpacked(start, ask):
    """A message that comes as a zlib stream is judged and answered unpacked."""
    judge = FixedJudge()
    door = await start(judge)
    packed = zlib.compress(BODY)
    reply = await ask(door, b"CHECK SPAMC/1.5\r\nCompress: zlib\r\nContent-length: %d\r\n\r\n" % len(packed) + packed)

    assert (HAM_REPLY, [BODY]) == (reply, judge.judged)


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (
            zlib.compress(b"a" * 10_000_000),
            b"69 Service Unavailable: the message is larger than spamc.max_message_bytes (100000)",
        ),
        (zlib.compress(BODY)[:-2], b"76 Bad header line: (the zlib stream is cut off)"),
        (BODY, b"76 Bad header line: (the message is no zlib stream)"),
    ],
)
async def test_packed_messages_may_be_refused(start, ask, packed, expected):
    """A bomb is stopped at the size of the largest message, and what is no zlib stream is told so."""
    door = await start(max_message_bytes=100_000)
    reply = await ask(door, b"CHECK SPAMC/1.5\r\nCompress: zlib\r\nContent-length: %d\r\n\r\n" % len(packed) + packed)

    assert b"SPAMD/1.0 " + expected + b"\r\n" == reply


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (b"", b"request"),
        (b"CHECK SPAMC/1.5\r\nUser:", b"request"),
        (CHECK[:-1], b"message"),
        (b"CHECK SPAMC/1.0\r\n", b"message"),
    ],
)
async def test_silent_clients_are_told(start, ask, sent, what):
    """A client that does not go on gets the timeout that SpamAssassin would tell, and the end."""
    door = await start(command_timeout_seconds=0.1, message_timeout_seconds=0.1)

    assert b"SPAMD/1.0 79 Timeout: (0.1 second timeout while reading the %s)\r\n" % what == await ask(
        door, sent, half_close=False
    )


async def test_big_refused_messages_lose_no_reply(start, ask):
    """A client that sends on while it is refused is read from until it has the reply: no reset comes before it."""
    door = await start(max_message_bytes=1000)
    sent = b"PROCESS SPAMC/1.5\r\nContent-length: 5000000\r\n\r\n" + b"a" * 5_000_000

    assert b"SPAMD/1.0 69 " == (await ask(door, sent))[:13]


@pytest.mark.parametrize("how", ["raises", "hangs"])
async def test_judges_that_fail(start, ask, monkeypatch, how):
    """A judge that raises or hangs makes the message ham without a verdict, never an error that looks like one."""
    monkeypatch.setattr(asking, "JUDGE_GRACE_SECONDS", 0.05)
    judge = {"raises": FixedJudge(error=MemoryError("secret")), "hangs": FixedJudge(delay_seconds=3600)}[how]
    door = await start(judge, deadline_seconds=0.05)

    assert UNSCORED_REPLY == await ask(door, CHECK)


async def test_our_own_mistakes_are_no_verdict(start, ask, monkeypatch):
    """Where we stumble ourselves, the client gets an error and the log no text of it."""
    monkeypatch.setattr(sessions.replies, "reply_to", lambda *_: {}["secret"])
    door = await start()
    with capture_logs() as lines:
        reply = await ask(door, CHECK)

    assert b"SPAMD/1.0 69 Service Unavailable: internal error\r\n" == reply
    assert "secret" not in str(lines)


async def test_one_line_is_logged_for_each_message(start, ask):
    """The log says what was judged and how long it took, and neither content nor user."""
    door = await start(FixedJudge(HAM))
    with capture_logs() as lines:
        await ask(door, CHECK)
    (line,) = [line for line in lines if line["event"] == "message"]

    assert ("127.0.0.1", "CHECK", 17, "ham", 0.01, 0) == tuple(
        line[name] for name in ("client", "command", "bytes", "label", "score", "reply")
    )
    assert ["receive", "extract", "score", "total"] == list(line["milliseconds"])
    assert line["queue_id"].startswith("spamc.")
    assert not any(word in str(lines) for word in ("nobody", "body\\n"))


async def test_refusals_are_logged_without_their_bytes(start, ask):
    """What a client says wrong is logged in our words."""
    door = await start()
    with capture_logs() as lines:
        await ask(door, b"secret SPAMC/1.5\r\n")

    assert [("request refused", 76, "unknown command")] == [(line["event"], line["reply"], line["reason"]) for line in lines]


async def test_only_allowed_clients_are_answered(start, ask):
    """A client outside of the networks is told so and not read from."""
    judge = FixedJudge()
    door = await start(judge, allowed_clients=["192.0.2.0/24"])
    reply = await ask(door)

    assert b"SPAMD/1.0 69 Service Unavailable: this client is not in spamc.allowed_clients\r\n" == reply


async def test_unix_clients_are_answered(start, ask, tmp_path):
    """A client on a UNIX socket needs no address."""
    door = await start(listen=f"unix:{tmp_path}/spamc")

    assert ([f"unix:{tmp_path}/spamc"], HAM_REPLY) == (door.addresses, await ask(door, CHECK))


async def test_full_doors_let_clients_wait(start, ask):
    """Beyond the limit clients wait until a session ends; none is sent away."""
    door = await start(max_connections=1)
    _, first = await connect(door.addresses[0])
    waiting = asyncio.ensure_future(ask(door, CHECK))
    await asyncio.sleep(0.1)
    was_waiting = not waiting.done()
    first.close()

    assert (True, HAM_REPLY) == (was_waiting, await waiting)


async def test_memory_has_a_limit(start, ask):
    """While one message fills the memory another is refused, and passes afterwards."""
    judge = FixedJudge(delay_seconds=0.3)
    door = await start(judge, max_message_bytes=100, max_memory_bytes=100)
    first = asyncio.ensure_future(ask(door, CHECK.replace(b"17", b"60") + b"a" * 43))
    await judge.is_asked.wait()
    second = await ask(door, CHECK.replace(b"17", b"60") + b"a" * 43)

    assert (HAM_REPLY, b"SPAMD/1.0 69 Service Unavailable: too much mail at once, try again\r\n") == (await first, second)
    assert HAM_REPLY == await ask(door, CHECK.replace(b"17", b"60") + b"a" * 43)


async def test_clients_that_never_read_are_dropped(start):
    """A client that takes no reply does not hold its place for ever."""
    message = b"a" * 20_000_000
    door = await start(reply_timeout_seconds=0.1)
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, _, port = door.addresses[0].rpartition(":")
        plain.settimeout(0)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(plain, (host, int(port)))
        await loop.sock_sendall(plain, b"PROCESS SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % len(message) + message)
        await emptied(door)


async def test_clients_that_linger_are_dropped(start, monkeypatch):
    """A client that has its reply and does not go is left after a while."""
    monkeypatch.setattr(sessions, "LINGER_SECONDS", 0.05)
    door = await start()
    reader, writer = await connect(door.addresses[0])
    writer.write(CHECK)
    reply = await reader.read()
    await emptied(door)
    writer.close()

    assert HAM_REPLY == reply


async def test_clients_that_go_are_forgotten(start):
    """A client that resets its connection while it is served costs a log line and nothing else."""
    judge = FixedJudge(delay_seconds=0.1)
    door = await start(judge)
    _, writer = await connect(door.addresses[0])
    writer.write(CHECK)
    await judge.is_asked.wait()
    writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with capture_logs() as lines:
        writer.transport.abort()
        await emptied(door)

    assert [] == [line for line in lines if line["log_level"] == "error"]


async def test_draining_finishes_what_is_in_flight(start, ask):
    """At the end a message in flight gets its reply, a client without a request is told, and nobody else is let in."""
    judge = FixedJudge(delay_seconds=0.2)
    door = await start(judge)
    idle, idle_writer = await connect(door.addresses[0])
    busy = asyncio.ensure_future(ask(door, CHECK))
    await judge.is_asked.wait()
    draining = asyncio.ensure_future(door.drain(5))
    told = await idle.read()
    idle_writer.close()
    await asyncio.gather(busy, draining)

    assert (b"SPAMD/1.0 69 Service Unavailable: shutting down\r\n", HAM_REPLY, 0) == (told, busy.result(), door.num_sessions)
    with pytest.raises(ConnectionRefusedError):
        await connect(door.addresses[0])


async def test_draining_has_an_end(start, ask):
    """What takes longer than the drain may is given up, and its client gets no verdict."""
    judge = FixedJudge(delay_seconds=3600)
    door = await start(judge)
    busy = asyncio.ensure_future(ask(door, CHECK))
    await judge.is_asked.wait()
    await door.drain(0.1)
    reply = b""
    with contextlib.suppress(ConnectionError):
        reply = await busy

    assert (b"", 1) == (reply, judge.num_cancelled)


async def test_a_taken_address_is_an_error(start):
    """An address that cannot be listened on stops the start."""
    door = await start()
    with pytest.raises(OSError, match=r"(?i)address already in use"):
        await start(listen=door.addresses[0])
