"""One message never becomes two: no false end of a message that was ever published, nor any like it, is an end to anybody.

SMTP smuggling (CVE-2023-51764 Postfix, -51765 Sendmail, -51766 Exim, CVE-2024-27305 aiosmtpd) needs two servers that disagree
about where a message ends. The next hop here takes for an end whatever any of them took for one.
"""

import itertools
import re

import pytest
from next_hop import NextHop
from smtp_peers import Client

HEADER = b"From: a@client.test\r\nSubject: x\r\n\r\n"
SMUGGLED = b"MAIL FROM:<evil@client.test>\r\nRCPT TO:<victim@next-hop.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"

LINE_ENDS = (b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\n\n", b"\r\r", b"\r\n\0", b"\r\0\n", b"\0\n", b"\n\0", b"\v", b"\x85")
DOTS = (b".", b"..", b"\0.", b".\0", b"\0.\0", b". ")
TRUE_END = b"\r\n.\r\n"
ENDS = [end for end in map(b"".join, itertools.product(LINE_ENDS, DOTS, LINE_ENDS)) if TRUE_END not in end]
PUBLISHED = {
    "Postfix, Sendmail: LF.LF": b"\n.\n",
    "Postfix, Sendmail, Exim: LF.CRLF": b"\n.\r\n",
    "Cisco: CR.CR": b"\r.\r",
    "Cisco: CR.CRLF": b"\r.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CRLF.CR": b"\r\n.\r",
    "LF.CR": b"\n.\r",
    "CR.LF": b"\r.\n",
    "text mode twice": b"\r\r\n.\r\r\n",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "CRLF NUL.CRLF": b"\r\n\0.\r\n",
    "CRLF.NUL CRLF": b"\r\n.\0\r\n",
    "LFLF.CRLF": b"\n\n.\r\n",
    "a stuffed dot: LF..LF": b"\n..\n",
}


def refused(false_end):
    """Whether `bare_newlines = "refuse"` refuses a message for a false end: a bare CR or LF in it, or NULs beside a lone dot."""
    masked = b"\r\n" + HEADER + b"body" + false_end + SMUGGLED
    return bool(re.search(rb"\r(?!\n)|(?<!\r)\n", false_end)) or TRUE_END in masked.replace(b"\0", b"")


def test_published_ends_are_among_all():
    """What was published is tried with all the rest."""
    assert [] == [name for name, false_end in PUBLISHED.items() if false_end not in ENDS]


@pytest.mark.parametrize("policy", ["normalise", "refuse"])
@pytest.mark.parametrize("before", LINE_ENDS, ids=repr)
async def test_nothing_is_smuggled(start, policy, before):
    """No false end makes two messages of one, at a next hop that takes bare newlines for line ends and drops NULs."""
    async with NextHop(is_lenient=True) as hop:
        proxy = await start(next_hop=hop, bare_newlines=policy)
        async with Client(proxy.addresses[0]) as client:
            for false_end in (end for end in ENDS if end.startswith(before)):
                hop.messages.clear()
                reply = await client.submit(HEADER + b"body" + false_end + SMUGGLED)
                is_refused = policy == "refuse" and refused(false_end)

                assert (b"550 5.5.2" if is_refused else b"250 2.0.0") == reply[:9], false_end
                assert (0 if is_refused else 1) == len(hop.messages), false_end
        assert [] == [line for line in hop.commands if b"evil" in line]


@pytest.mark.parametrize("name", PUBLISHED)
async def test_messages_arrive_whole_around_false_ends(start, next_hop, name):
    """At a next hop that is strict, what was to be smuggled arrives as what it is: text, with line ends put right."""
    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        reply = await client.submit(HEADER + b"body" + PUBLISHED[name] + SMUGGLED)

    assert b"250" == reply[:3]
    assert next_hop.messages[0].content.endswith(b"\r\n" + SMUGGLED)
    assert 1 == next_hop.commands.count(b"DATA")


@pytest.mark.parametrize("line", [b"MAIL FROM:<a@b>\rRCPT TO:<c@d>", b"MAIL FROM:<a@b>\0", b"EHLO x\ry"])
async def test_no_command_hides_another(start, next_hop, line):
    """A control character that some server takes for a line end never goes on within a command."""
    proxy = await start()
    async with Client(proxy.addresses[0]) as client:
        await client.say(b"EHLO client.test")
        reply = await client.say(line)

    assert (b"5", False) == (reply[:1], any(b"@b" in one or b"\r" in one for one in next_hop.commands))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
async def test_an_end_in_pieces_is_an_end(start, next_hop, size):
    """The true end is found however it is cut into packets, and one false end across packets is none."""
    proxy = await start()
    sent = HEADER + b"body\n.\r\n\r\n.\r" + b"\r\n.\r\nNOOP\r\n"
    async with Client(proxy.addresses[0]) as client:
        await client.envelope()
        for at in range(0, len(sent), size):
            await client.send(sent[at : at + size])
        codes = [(await client.reply())[:3] for _ in range(2)]

    assert [b"250", b"250", 1] == [*codes, len(next_hop.messages)]
