"""Random sessions against a model of the session: each reply is as the model says, and what is stored was answered 250."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st
from next_hop import FAULT_KINDS, Fault, NextHop
from smtp_peers import HAM, SPAM, UNSCORED, Client, FixedJudge, below_our_fields

from spamd.config import ActionSettings, SmtpSettings
from spamd.smtp.server import start_proxy
from spamd.smtp.session import MAX_ERRORS

PLAIN = {b"NOOP": b"250", b"VRFY x": b"252", b"EXPN x": b"502", b"XYZZY": b"500", b"": b"500", b"NOOP \0": b"500"}
RECIPIENTS = {b"RCPT TO:<user@x>": b"250", b"RCPT TO:<reject@x>": b"550", b"RCPT TO:<defer@x>": b"450", b"RCPT": b"501"}
BODIES = [
    b"",
    b"x\r\n",
    b"..\r\n",
    b"Subject: y\r\n\r\nMAIL FROM:<evil@x>\r\n",
    b"a\n.\nb\r\n",
    b"\r\n\r\n",
    b"X-Spam-Flag: NO\r\n",
]
COMMANDS = [
    *PLAIN,
    *RECIPIENTS,
    b"HELO c",
    b"EHLO c",
    b"RSET",
    b"XFORWARD NAME=x",
    b"MAIL FROM:<>",
    b"MAIL FROM:<a@b>",
    b"MAIL",
]
# Most sequences at random lead nowhere; whole transactions among them lead on.
TRANSACTIONS = st.builds(
    lambda helo, sender, recipients, body: [helo, sender, *recipients, (b"DATA", body)],
    st.sampled_from([(b"HELO c", b""), (b"EHLO c", b""), (b"RSET", b"")]),
    st.just((b"MAIL FROM:<a@b>", b"")),
    st.lists(st.sampled_from([b"RCPT TO:<user@x>", b"RCPT TO:<user@x>", *RECIPIENTS]).map(lambda line: (line, b"")), max_size=3),
    st.sampled_from(BODIES),
)
STEPS = st.one_of(
    st.sampled_from(COMMANDS).map(lambda line: [(line, b"")]),
    st.sampled_from(BODIES).map(lambda body: [(b"DATA", body)]),
    TRANSACTIONS,
)
SESSIONS = st.lists(STEPS, max_size=12).map(lambda steps: list(chain(*steps)))
FAULTS = st.builds(
    Fault,
    st.sampled_from(["banner", "EHLO", "MAIL", "RCPT", "RSET", "DATA", "dot"]),
    st.sampled_from(FAULT_KINDS),
    st.integers(0, 3),
    st.integers(1, 2),
)


@dataclass
class Model:
    """What a session should do, in a few lines."""

    has_greeted: bool = False
    sender: bytes = b""
    recipients: list[bytes] = field(default_factory=list)
    has_deferred: bool = False
    stored: list[tuple[bytes, tuple[bytes, ...]]] = field(default_factory=list)

    def reset(self):
        """Forget the transaction."""
        self.sender, self.recipients, self.has_deferred = b"", [], False

    def codes(self, line):
        """The codes that a line is answered with: two where a message follows."""
        if line in PLAIN:
            return [PLAIN[line]]
        if line in (b"HELO c", b"EHLO c", b"RSET"):
            self.reset()
            self.has_greeted = self.has_greeted or line != b"RSET"
            return [b"250"]
        if line == b"XFORWARD NAME=x":
            return [b"503" if self.sender else b"250"]
        return {b"M": self.mail, b"R": self.rcpt, b"D": self.message}[line[:1]](line)

    def mail(self, line):
        """MAIL opens a transaction."""
        if not self.has_greeted or self.sender or line == b"MAIL":
            return [b"503" if not self.has_greeted or self.sender else b"501"]
        self.sender = line
        return [b"250"]

    def rcpt(self, line):
        """RCPT adds a recipient that the next hop accepts."""
        if not self.sender:
            return [b"503"]
        code = RECIPIENTS[line]
        self.recipients += [line] * (code == b"250")
        self.has_deferred = self.has_deferred or code == b"450"
        return [code]

    def message(self, _line):
        """DATA ends the transaction with a stored message."""
        if not self.recipients:
            return [b"503" if not self.sender else b"450" if self.has_deferred else b"554"]
        self.stored.append((self.sender, tuple(self.recipients)))
        self.reset()
        return [b"354", b"250"]


@asynccontextmanager
async def proxy_to(next_hop, judge, **options):
    """A proxy with little patience; yields its address."""
    smtp = SmtpSettings(
        listen="127.0.0.1:0",
        next_hop=next_hop.address,
        hostname="mx.test",
        next_hop_command_timeout_seconds=0.05,
        next_hop_dot_timeout_seconds=0.05,
    )
    proxy = await start_proxy(smtp, judge, **options)
    try:
        yield proxy.addresses[0]
    finally:
        await proxy.close()


async def replies_to(sent, packet_bytes, num_replies):
    """Send bytes in packets; returns the codes of the replies and what the next hop stored."""
    async with NextHop() as hop, proxy_to(hop, FixedJudge()) as address, Client(address) as client:
        for start in range(0, len(sent), packet_bytes):
            await client.send(sent[start : start + packet_bytes])
            await asyncio.sleep(0)
        return [(await client.reply())[:3] for _ in range(num_replies)], [(one.mail, one.recipients) for one in hop.messages]


@given(SESSIONS, st.integers(1, 400))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_sessions_go_as_the_model_says(session, packet_bytes):
    """Whatever a client says in whatever packets, each command is answered as the model says, and just that mail is stored."""
    model = Model()
    sent, expected = b"", []
    for line, body in session:
        codes = model.codes(line)
        sent += line + b"\r\n" + (body + b".\r\n" if len(codes) == 2 else b"")
        expected += codes
        if [code[:2] for code in expected].count(b"50") > MAX_ERRORS:
            expected[-1] = b"421"
            break

    assert (expected, model.stored) == asyncio.run(replies_to(sent, packet_bytes, len(expected)))


async def submit_all(session, faults, verdict):
    """Play a session, anew where the proxy ends it; returns the messages that were answered 250 and those that were stored."""
    answered = []
    actions = ActionSettings(quarantine_score=0.9, quarantine_recipient="spam@x")
    async with (
        NextHop(faults=faults) as hop,
        proxy_to(hop, FixedJudge(verdict), actions=actions) as address,
        AsyncExitStack() as stack,
    ):
        client = await stack.enter_async_context(Client(address))
        for number, (line, body) in enumerate(session):
            reply = await client.say(line)
            if reply.startswith(b"354"):
                wire = b"Subject: %d\r\n\r\n%b" % (number, body)
                reply = await client.say(wire + b".")
                # Dots are un-stuffed and the one body with bare newlines is normalised.
                content = wire.replace(b"\r\n..", b"\r\n.").replace(b"a\n.\nb", b"a\r\n.\r\nb")
                answered += [content] * reply.startswith(b"250")
            if not reply or reply.startswith(b"421"):
                client = await stack.enter_async_context(Client(address))
                await client.say(b"HELO c")
        return answered, [below_our_fields(one.content) for one in hop.messages]


@given(st.lists(TRANSACTIONS, min_size=2, max_size=5), st.lists(FAULTS, max_size=3), st.sampled_from([HAM, SPAM, UNSCORED]))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_nothing_is_lost_whatever_breaks(transactions, faults, verdict):
    """With a next hop that fails at random, each 250 at a dot stands for one stored message with that content."""
    session = [(b"HELO c", b""), *chain(*transactions)]
    answered, stored = asyncio.run(submit_all(session, faults, verdict))

    assert answered == stored
