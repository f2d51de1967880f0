"""What happens to one message, and the line that tells of it."""

import pytest
from smtp_peers import HAM, SPAM, UNSCORED, Client, FixedJudge, below_our_fields
from structlog.testing import capture_logs

from spamd.config import ActionSettings
from spamd.verdict import Verdict

WIRE = b"From: secret-sender@client.test\r\nSubject: secret-subject\r\n\r\nsecret-body\r\n"


async def logged(start, judge, **options):
    """Send a message and return all log lines."""
    proxy = await start(judge, **options)
    with capture_logs() as lines:
        async with Client(proxy.addresses[0]) as client:
            await client.submit(WIRE, sender=b"secret-sender@client.test", recipient=b"secret-user@next-hop.test")
        await proxy.close()
    return lines


async def test_one_line_tells_of_a_message(start):
    """The log line holds ids, sizes, the verdict, the reply and the time by stage."""
    (line,) = [line for line in await logged(start, FixedJudge(SPAM)) if line["event"] == "message"]
    milliseconds = line.pop("milliseconds")
    queue_id = line.pop("queue_id")

    assert {
        "event": "message",
        "log_level": "info",
        "client": "127.0.0.1",
        "next_hop_queue_id": "TEST00001",
        "bytes": len(WIRE),
        "num_recipients": 1,
        "label": "spam",
        "score": 0.99,
        "points": 9.6,
        "unscored": None,
        "checkpoint": "2026-11-22-abcdef",
        "defects": ["no date"],
        "action": "add header",
        "reply": 250,
    } == line
    assert ["receive", "extract", "score", "relay", "total"] == list(milliseconds)
    assert queue_id.count(".") == 1


@pytest.mark.parametrize(
    ("judge", "options", "action", "reply"),
    [
        (FixedJudge(HAM), {}, "no action", 250),
        (FixedJudge(UNSCORED), {}, "no action", 250),
        (FixedJudge(UNSCORED), {"on_failure": "defer"}, "soft reject", 451),
        (FixedJudge(SPAM), {"actions": ActionSettings(reject_score=0.9)}, "reject", 554),
        (FixedJudge(SPAM), {"actions": ActionSettings(subject_tag="!")}, "rewrite subject", 250),
        (FixedJudge(SPAM), {"actions": ActionSettings(quarantine_score=0.9, quarantine_recipient="q@r.test")}, "quarantine", 250),
        (FixedJudge(Verdict(0.1, 0.5, "c", is_gtube=True)), {"actions": ActionSettings(reject_score=0.99)}, "reject", 554),
        (FixedJudge(SPAM), {"max_message_bytes": 10}, None, 552),
    ],
)
async def test_actions_are_logged(start, judge, options, action, reply):
    """Whatever is done, one line says what."""
    lines = [line for line in await logged(start, judge, **options) if line["event"] == "message"]

    assert [(action, reply)] == [(line["action"], line["reply"]) for line in lines]


@pytest.mark.parametrize("judge", [FixedJudge(SPAM), FixedJudge(error=ValueError("secret-text"))])
async def test_nothing_of_a_message_is_logged(start, next_hop, judge):
    """No line holds content, subject, addresses or the text of an error."""
    lines = await logged(start, judge)
    next_hop.replies = lambda line: b"hello secret-reply" if line == b"RSET" else None
    lines += await logged(start, judge, actions=ActionSettings(reject_score=0.9))

    assert [] == [line for line in lines if "secret" in repr(line)]


async def test_circles_are_stopped(start, next_hop):
    """Mail that comes back from a list or a forwarding passes again, judged anew; after five passes it is a circle."""
    options = {"listen": "127.0.0.1:0", "hostname": "mx.test"}
    wire, replies = WIRE, []
    for _ in range(6):
        proxy = await start(**options)
        async with Client(proxy.addresses[0]) as client:
            replies.append((await client.submit(wire))[:9])
        await proxy.close()
        wire = next_hop.messages[-1].wire

    assert [b"250 2.0.0"] * 5 + [b"554 5.4.6"] == replies
    assert (5, 1) == (len(next_hop.messages), next_hop.messages[-1].wire.count(b"X-Spam-Status:"))


async def test_other_hosts_run_spamd_too(start, next_hop):
    """A message that passed another spamd is taken, and that one's verdict is replaced by ours."""
    first, second = await start(FixedJudge(SPAM), hostname="mx1.test"), await start(FixedJudge(HAM), hostname="mx2.test")
    for proxy in (first, second):
        async with Client(proxy.addresses[0]) as client:
            await client.submit(next_hop.messages[-1].wire if next_hop.messages else WIRE)

    assert b"X-Spam-Flag" not in next_hop.messages[1].wire
    assert below_our_fields(next_hop.messages[1].wire).startswith(b"Received: from client.test ([127.0.0.1]) by mx1.test")


async def test_large_messages_take_the_same_path(start, next_hop):
    """A message whose bytes are worked on in a thread comes out like any other."""
    wire = WIRE + b"x\n.\n" * 200_000 + b"\r\n"
    proxy = await start(FixedJudge(SPAM), actions=ActionSettings(subject_tag="[SPAM]"))
    async with Client(proxy.addresses[0]) as client:
        await client.submit(wire)

    assert b"\r\nSubject: [SPAM] secret-subject\r\n" in next_hop.messages[0].wire
    assert below_our_fields(next_hop.messages[0].content).endswith(b"x\r\n.\r\n" * 200_000 + b"\r\n")
