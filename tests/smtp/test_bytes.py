"""What arrives at the next hop is what was sent, byte for byte, below our own fields; and one message never becomes two."""

import base64
import random

import pytest
import uvloop
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from next_hop import NextHop
from signing import sign, verifies
from smtp_peers import HAM, SPAM, Client, FixedJudge, below_our_fields

from spamd.config import ActionSettings, SmtpSettings
from spamd.smtp.server import start_proxy
from spamd.smtp.wire import stuff

HEADER = b"From: a@client.test\r\nSubject: x\r\n\r\n"

CONTENTS = {
    "plain": HEADER + b"body\r\n",
    "nul": HEADER + b"a\0b\0\r\n",
    "8 bit": HEADER + bytes(byte for byte in range(256) if byte not in b"\r\n") + b"\r\n",
    "8 bit header": b"Subject: d\xe9j\xe0 vu \xf0\x9f\x92\xa9\r\n\r\nbody\r\n",
    "5000-byte lines": HEADER + (b"x" * 5000 + b"\r\n") * 3,
    "empty": b"",
    "an empty line": b"\r\n",
    "empty body": HEADER,
    "headers only": b"From: a@client.test\r\nSubject: x\r\n",
    "no header": b"\r\nbody\r\n",
    "only dots": b".\r\n..\r\n...\r\n",
    "a dot last": HEADER + b"body\r\n.\r\n",
    "lines that begin with dots": HEADER + b".\r\n.a\r\n..b\r\n...\r\na.\r\n",
    "many empty lines": HEADER + b"\r\n" * 1000,
    "no newline but the last": b"x" * 300_000 + b"\r\n",
    "begins with a tab": b"\tfolded\r\nSubject: x\r\n\r\nbody\r\n",
    "no blank after the colon": b"Subject:x\r\nFrom:y\r\n\r\nbody\r\n",
    "an odd header": b"Subject: x\r\nnot a field\r\nFrom : y\r\n: z\r\n\r\nbody\r\n",
    "white space at ends": b"Subject: x  \r\n\t \r\nFrom: y\t\r\n\r\nbody  \r\n \r\n",
    "signed fields of others": b"X-Spam-Prev-Subject: was\r\nX-Spammer: y\r\nAuthentication-Results: z\r\n" + HEADER,
    "5 MB attachment": HEADER + base64.encodebytes(random.Random(1).randbytes(3_700_000)).replace(b"\n", b"\r\n"),
}


async def pass_through(start, next_hop, content, judge=None, **options):
    """Send a message through a proxy; returns the reply and what was stored."""
    proxy = await start(judge, **options)
    async with Client(proxy.addresses[0]) as client:
        reply = await client.submit(stuff(content))
    return reply, next_hop.messages


@pytest.mark.parametrize("verdict", [HAM, SPAM], ids=["ham", "spam"])
@pytest.mark.parametrize("name", CONTENTS)
async def test_content_is_not_touched(start, next_hop, name, verdict):
    """Whatever a message holds, it arrives as it was below our fields, and the judge sees it without dot-stuffing."""
    judge = FixedJudge(verdict)
    reply, (message,) = await pass_through(start, next_hop, CONTENTS[name], judge)

    content = below_our_fields(message.content)
    if name == "begins with a tab":
        content = content.removeprefix(b"X-Spamd-Continued: the message began with the continuation of a line\r\n")
    assert b"250" == reply[:3]
    assert CONTENTS[name] == content
    assert [CONTENTS[name]] == judge.judged


PIECES = st.sampled_from([b"\r\n", b".", b"..", b"Subject: x\r\n", b" ", b"\t", b":"])


@given(st.lists(PIECES | st.binary(max_size=20), max_size=30))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_any_content_is_not_touched(pieces):
    """The same holds for messages that nobody thought of."""
    content = b"".join(pieces).replace(b"\r\n", b"\n").replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n"
    # Fields of that name go; `test_forged_fields_go` says how.
    assume(b"x-spam-" not in content.lower())

    async def relay():
        async with NextHop() as hop:
            proxy = await start_proxy(SmtpSettings(listen="127.0.0.1:0", next_hop=hop.address, hostname="mx.test"), FixedJudge())
            async with Client(proxy.addresses[0]) as client:
                await client.submit(stuff(content))
            await proxy.close()
            return hop.messages[0].content

    assert uvloop.run(relay()).endswith(content)


@pytest.mark.parametrize("canonical", [(b"relaxed", b"simple"), (b"simple", b"simple"), (b"relaxed", b"relaxed")])
async def test_signatures_survive(start, next_hop, canonical):
    """A DKIM signature verifies after the pass, in its strictest form too."""
    message = b"From: a@client.test\r\nTo: b@next-hop.test\r\nSubject:  two  blanks\r\n\r\n.dots\r\n\r\n  d\xe9j\xe0  vu\r\n\r\n"
    _, (stored,) = await pass_through(start, next_hop, sign(message, canonical), FixedJudge(SPAM))

    assert [True, False] == [verifies(content) for content in (stored.content, stored.content + b"x")]


async def test_forged_fields_go(start, next_hop):
    """X-Spam-* fields that a sender wrote go in any form, all others stay."""
    forged = b"x-spam-FLAG: NO\r\nX-Spam-Status: No,\r\n score=-100\r\nX-Spam-Prev-Subject: stays\r\nFrom: a\r\nX-Spam-Level:\r\n"
    _, (message,) = await pass_through(start, next_hop, forged + b"\r\nX-Spam-Flag: body\r\n", FixedJudge(SPAM))

    assert b"X-Spam-Prev-Subject: stays\r\nFrom: a\r\n\r\nX-Spam-Flag: body\r\n" == below_our_fields(message.content)
    assert b"\r\nX-Spam-Flag: YES\r\n" in message.content


async def test_subjects_are_rewritten_on_demand(start, next_hop):
    """With a subject tag, spam's subject bears it, the old one is kept, and nothing else changes."""
    options = {"actions": ActionSettings(subject_tag="[SPAM]")}
    _, (message,) = await pass_through(start, next_hop, CONTENTS["plain"], FixedJudge(SPAM), **options)

    expected = b"From: a@client.test\r\nSubject: [SPAM] x\r\nX-Spam-Prev-Subject: x\r\n\r\nbody\r\n"
    assert expected == below_our_fields(message.content)


async def test_the_size_limit_is_exact(start, next_hop):
    """A message of just the allowed size passes, one byte more does not, and MAIL with SIZE is told at once."""
    proxy = await start(max_message_bytes=1000)
    async with Client(proxy.addresses[0]) as client:
        replies = [await client.submit(b"x" * size + b"\r\n") for size in (998, 999)]
        announced = await client.say(b"MAIL FROM:<> SIZE=1001")

    assert [b"250", b"552", b"552"] == [reply[:3] for reply in [*replies, announced]]


async def test_memory_is_limited(start, next_hop):
    """Mail beyond what may be held at once is refused for now; alone, the largest message always passes."""
    judge = FixedJudge(delay_seconds=0.3)
    proxy = await start(judge, max_message_bytes=500_000, max_memory_bytes=500_000)
    async with Client(proxy.addresses[0]) as first, Client(proxy.addresses[0]) as second:
        await first.envelope()
        await first.send(b"x" * 490_000 + b"\r\n.\r\n")
        await judge.is_asked.wait()
        refused = await second.submit(b"x" * 10_000 + b"\r\n")
        replies = [await first.reply(), refused, await second.submit(b"x" * 10_000 + b"\r\n")]

    assert [b"250 2.0.0", b"452 4.3.1", b"250 2.0.0"] == [reply[:9] for reply in replies]
