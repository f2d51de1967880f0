"""Random sessions against a model of the session: each reply is as the model says, and what is stored was answered 250.

A few examples, always the same, run with all tests; `make fuzz` runs 100,000 new ones (25,000 for each test here).
"""

import asyncio
import os
import re
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain

import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from next_hop import FAULT_KINDS, Fault, NextHop
from smtp_peers import HAM, SPAM, UNSCORED, Client, FixedJudge, below_our_fields

from spamd.config import ActionSettings, SmtpSettings
from spamd.smtp.server import start_proxy
from spamd.smtp.session import MAX_ERRORS

NUM_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def fuzz(num_examples):
    """Settings for so many examples, always the same; or for as many new ones as `FUZZ_EXAMPLES` says."""
    return settings(
        max_examples=NUM_EXAMPLES or num_examples,
        derandomize=not NUM_EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


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
WHO = st.integers(0, 2)
FAULTS = st.builds(
    Fault,
    st.sampled_from(["banner", "EHLO", "MAIL", "RCPT", "RSET", "DATA", "dot"]),
    # Few stalls, each of which takes its time.
    st.sampled_from([*FAULT_KINDS, *FAULT_KINDS[:-1]]),
    st.integers(0, 3),
    st.integers(1, 2),
)


def content_of(body):
    """What a body in wire form is once it has arrived: dots un-stuffed, newlines put right, forged fields gone."""
    return (
        body.replace(b"\r\n..", b"\r\n.")
        .removeprefix(b".")
        .replace(b"a\n.\nb", b"a\r\n.\r\nb")
        .replace(b"X-Spam-Flag: NO\r\n", b"")
    )


@dataclass
class Model:
    """What a session should do, in a few lines."""

    stored: list[tuple[bytes, tuple[bytes, ...], bytes]]
    has_greeted: bool = False
    sender: bytes = b""
    recipients: list[bytes] = field(default_factory=list)
    has_deferred: bool = False
    num_errors: int = 0

    def reset(self):
        """Forget the transaction."""
        self.sender, self.recipients, self.has_deferred = b"", [], False

    def codes(self, line, body):
        """The codes that a line is answered with: two where a message follows, 421 alone where the client is sent away."""
        codes = self.answer(line, body)
        self.num_errors += codes[0].startswith(b"50")
        return codes if self.num_errors <= MAX_ERRORS else [b"421"]

    def answer(self, line, body):
        """The codes without a look at the errors so far."""
        if line in PLAIN:
            return [PLAIN[line]]
        if line in (b"HELO c", b"EHLO c", b"RSET"):
            self.reset()
            self.has_greeted = self.has_greeted or line != b"RSET"
            return [b"250"]
        if line == b"XFORWARD NAME=x":
            return [b"503" if self.sender else b"250"]
        return self.message(body) if line == b"DATA" else {b"M": self.mail, b"R": self.rcpt}[line[:1]](line)

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

    def message(self, body):
        """DATA ends the transaction with a stored message."""
        if not self.recipients:
            return [b"503" if not self.sender else b"450" if self.has_deferred else b"554"]
        self.stored.append((self.sender, tuple(self.recipients), content_of(body)))
        self.reset()
        return [b"354", b"250"]


@asynccontextmanager
async def proxy_to(next_hop, judge, *, patience_seconds=0.5, **options):
    """A proxy with little patience; yields its address."""
    smtp = SmtpSettings(
        listen="127.0.0.1:0",
        next_hop=next_hop.address,
        hostname="mx.test",
        next_hop_command_timeout_seconds=patience_seconds,
        next_hop_dot_timeout_seconds=patience_seconds,
    )
    proxy = await start_proxy(smtp, judge, **options)
    try:
        yield proxy.addresses[0]
    finally:
        await proxy.close()


class Sessions(RuleBasedStateMachine):
    """Three clients of one proxy, whose sessions share its connections to the next hop: none disturbs another."""

    def __init__(self):
        super().__init__()
        self.loop = uvloop.new_event_loop()
        self.opened = AsyncExitStack()
        self.hop = self.run(self.opened.enter_async_context(NextHop(is_lenient=True)))
        self.address = self.run(self.opened.enter_async_context(proxy_to(self.hop, FixedJudge(), patience_seconds=5)))
        self.clients = {}
        self.stored = []

    def run(self, work):
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(work)

    def client(self, who):
        """A client and the model of its session, from its first word on."""
        if who not in self.clients:
            self.clients[who] = self.run(Client(self.address).__aenter__()), Model(self.stored)
        return self.clients[who]

    @rule(who=WHO, session=SESSIONS, packet_bytes=st.integers(1, 400))
    def say(self, who, session, packet_bytes):
        """A client says something in whatever packets; each command is answered as the model says."""
        client, model = self.client(who)
        sent, expected = b"", []
        for line, body in session:
            codes = model.codes(line, body)
            sent += line + b"\r\n" + (body + b".\r\n" if len(codes) == 2 else b"")
            expected += codes
            if codes == [b"421"]:
                break

        assert expected == self.run(exchange(client, sent, packet_bytes, len(expected)))
        if expected[-1:] == [b"421"]:
            self.leave(who, how="close")

    @precondition(lambda self: self.clients)
    @rule(who=WHO, how=st.sampled_from(["quit", "close", "half-close", "in a message", "in a command"]))
    def leave(self, who, how):
        """A client leaves, politely or in the middle of something, and what it had begun is forgotten."""
        client, model = self.client(who)
        del self.clients[who]
        if how == "quit":
            assert self.run(client.say(b"QUIT")).startswith(b"221")
        if how == "in a command":
            self.run(client.send(b"MAIL FROM:<evil@"))
        if how == "in a message" and model.recipients and self.run(client.say(b"DATA")).startswith(b"354"):
            self.run(client.send(b"evil\r\n.\r"))
        if how == "half-close":
            client.writer.write_eof()
            assert self.run(client.reply()) == b""
        self.run(client.__aexit__())

    @invariant()
    def what_is_stored_was_answered(self):
        """The next hop has the messages that were answered 250, in order and with their envelopes, and no other."""
        assert self.stored == [(one.mail, one.recipients, below_our_fields(one.content)) for one in self.hop.messages]

    def teardown(self):
        """Close everything."""
        for client, _ in self.clients.values():
            self.run(client.__aexit__())
        self.run(self.opened.aclose())
        self.run(self.loop.shutdown_asyncgens())
        self.loop.close()


TestSessions = Sessions.TestCase
TestSessions.settings = settings(fuzz(40), stateful_step_count=10)


async def exchange(client, sent, packet_bytes, num_replies):
    """Send bytes in packets; returns the codes of the replies."""
    for start in range(0, len(sent), packet_bytes):
        await client.send(sent[start : start + packet_bytes])
        await asyncio.sleep(0)
    return [(await client.reply())[:3] for _ in range(num_replies)]


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
@fuzz(60)
def test_nothing_is_lost_whatever_breaks(transactions, faults, verdict):
    """With a next hop that fails at random, each 250 at a dot stands for one stored message with that content."""
    session = [(b"HELO c", b""), *chain(*transactions)]
    answered, stored = uvloop.run(submit_all(session, faults, verdict))

    assert answered == stored


HOSTILE = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\0", b"X-Spam-Flag: NO", b"Subject: x", b" ", b"QUIT"])
    | st.binary(max_size=9),
    max_size=30,
).map(b"".join)


async def submit_wire(wire):
    """Send a message, then NOOP, to a proxy before a lenient next hop; returns the codes and what was stored and heard there."""
    async with (
        NextHop(is_lenient=True) as hop,
        proxy_to(hop, FixedJudge(), patience_seconds=5) as address,
        Client(address) as client,
    ):
        replies = [await client.submit(wire + b"\r\n"), await client.say(b"NOOP")]
        return [reply[:3] for reply in replies], hop.messages, hop.commands


@given(HOSTILE.filter(lambda content: b"\r\n.\r\n" not in b"\r\n" + content + b"\r\n"))
@fuzz(60)
def test_one_message_stays_one(content):
    """Whatever stands between DATA and the dot is one message at a next hop that takes much for an end, and no command."""
    codes, messages, commands = uvloop.run(submit_wire(content))

    assert [b"250", b"250", 1] == [*codes, len(messages)]
    assert [b"EHLO", b"MAIL", b"RCPT", b"DATA"] == [line[:4] for line in commands]


LINES = st.sampled_from([*COMMANDS, b"DATA", b".", b"", b"RCPT TO:<user@x>", b"MAIL FROM:<a@b> SIZE=9", b"EHLO", b"STARTTLS"])
NOISE = st.lists(st.one_of(LINES, st.binary(max_size=30)), max_size=30).map(b"\r\n".join)


async def hear_all(sent):
    """Send bytes and close our half; returns all that is answered and what the next hop stored."""
    async with NextHop() as hop, proxy_to(hop, FixedJudge(), patience_seconds=5) as address, Client(address) as client:
        client.writer.write(b"EHLO c\r\n" + sent)
        client.writer.write_eof()
        async with asyncio.timeout(20):
            return await client.reader.read(), hop.messages


@given(NOISE)
@fuzz(60)
def test_noise_is_answered_in_order(sent):
    """Whatever bytes a client sends, it hears whole replies and nothing else, and one 250 for each message that went on."""
    heard, messages = uvloop.run(hear_all(sent))

    assert re.fullmatch(rb"(?:[2-5][0-9][0-9][ -][ -~]*\r\n)*", heard)
    assert len(messages) == heard.count(b"queued as")
