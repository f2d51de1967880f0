"""A real Postfix behind the proxy sees one message for each that was sent, whatever in it looks like the end of one.

The Postfix is Debian's as it comes, which takes a bare newline for a line end where nobody told it otherwise (CVE-2023-51764).
"""

import asyncio

import pytest
import pytest_asyncio
from mta_messages import PATIENCE_SECONDS
from postfix_process import PostfixProcess, free_port, why_not
from smtp_peers import Client, FixedJudge

from spamd.config import SmtpSettings
from spamd.smtp.server import start_proxy

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

HEADER = b"From: a@client.test\r\nSubject: x\r\n\r\nbody"
SMUGGLED = b"MAIL FROM:<evil@client.test>\r\nRCPT TO:<victim@next-hop.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"
LINE_ENDS = (b"\r\n", b"\n", b"\r", b"\r\r\n", b"\r\n\0", b"\r\0\n")
FALSE_ENDS = [
    before + dot + after
    for before in LINE_ENDS
    for dot in (b".", b"\0.", b".\0")
    for after in LINE_ENDS
    if b"\r\n.\r\n" not in before + dot + after
]
# Published as well: an empty line before the dot, and a dot that is stuffed for whoever takes a bare LF for a line end.
FALSE_ENDS += [b"\n\n.\r\n", b"\n..\n", b"\r\n..\n"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def postfix(need, sink):
    """Debian's Postfix without a setting of ours about newlines."""
    need(why_not())
    with PostfixProcess(port=free_port(), relay=sink.address) as one:
        yield one


async def send(address):
    """Send a message with each false end to an address; returns the replies."""
    replies = []
    for false_end in FALSE_ENDS:
        async with Client(address) as client:
            replies.append(await client.submit(HEADER + false_end + SMUGGLED))
    return replies


async def test_postfix_sees_one_message_for_each(postfix, sink):
    """What the proxy sends on is one message to Postfix too, and nobody evil sends anything."""
    settings = SmtpSettings(listen="127.0.0.1:0", next_hop=postfix.address, hostname="filter.example.org")
    proxy = await start_proxy(settings, FixedJudge())
    try:
        replies = await send(proxy.addresses[0])
    finally:
        await proxy.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(sink.messages) < len(FALSE_ENDS) or postfix.num_queued():  # noqa: ASYNC110  Postfix tells nobody
            await asyncio.sleep(0.1)

    assert [b"250"] * len(FALSE_ENDS) == [reply[:3] for reply in replies]
    assert len(FALSE_ENDS) == len(sink.messages)
    assert "evil" not in postfix.log()
    assert {b"MAIL FROM:<sender@client.test>"} == {message.mail.partition(b" SIZE")[0] for message in sink.messages}


async def test_postfix_alone_would_see_two(postfix, sink):
    """The same messages sent to this Postfix without the proxy smuggle others in: the test above is worth something."""
    async with Client(postfix.address) as client:
        await client.submit(HEADER + b"\n.\n" + SMUGGLED)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "evil" not in postfix.log():  # noqa: ASYNC110  Postfix tells nobody
            await asyncio.sleep(0.1)

    assert "from=<evil@client.test>" in postfix.log()
