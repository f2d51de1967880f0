"""A next hop that records what it is sent, byte for byte, and breaks where it is told to.

Speaks SMTP and LMTP with nothing but asyncio, so that it shares no code and no mistake with what it tests. It keeps the message
in wire form (still dot-stuffed) and un-stuffed, with the envelope's raw command lines. It does not deliver, expand or check
anything. Used by all tests that send mail, by `make demo` and by the benchmarks:

    async with NextHop(faults=[Fault("DATA", "4xx")]) as next_hop:
        ...  # send to next_hop.address
    assert [b"..."] == [message.content for message in next_hop.messages]

Security: for tests alone; it listens on loopback and believes everything.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, Self

Stage = Literal["connect", "banner", "EHLO", "XFORWARD", "MAIL", "RCPT", "RSET", "DATA", "dot", "QUIT"]
FaultKind = Literal["refuse", "4xx", "5xx", "drop", "stall", "store and drop"]

STAGES: tuple[Stage, ...] = ("connect", "banner", "EHLO", "MAIL", "RCPT", "DATA", "dot", "QUIT")
FAULT_KINDS: tuple[FaultKind, ...] = ("refuse", "4xx", "5xx", "drop", "stall")
EXTENSIONS = (b"PIPELINING", b"SIZE 104857600", b"8BITMIME", b"SMTPUTF8", b"DSN", b"ENHANCEDSTATUSCODES", b"XFORWARD NAME ADDR")
USUAL_REPLIES = {"NOOP": b"250 2.0.0 OK", "RSET": b"250 2.0.0 OK", "QUIT": b"221 2.0.0 bye"}
FAULT_REPLIES = {"4xx": b"451 4.9.9 injected", "5xx": b"554 5.9.9 injected"}
MAX_BYTES = 256 * 1024 * 1024

STRICT_END = re.compile(rb"\r\n\.\r\n")
LENIENT_END = re.compile(rb"(?:\r\n|\r|\n)\0*\.\0*(?:\r\n|\r|\n)")
"""What a next hop that can be smuggled to takes for the end of a message: a dot between any newlines, NULs dropped."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        stage: when. `connect` acts on the TCP connection, `dot` on the reply to the end of a message.
        kind: `refuse`: no listener at `connect`, else 421 and the connection is closed; `4xx` and `5xx`: that reply (at
            `connect` and `banner` as the greeting); `drop`: closed without a word; `stall`: silence, with the connection open;
            `store and drop` (at `dot` alone): the message is kept, but the reply never comes. In all other cases at `dot` the
            message is not kept.
        after: how many times the stage passes unharmed first.
        times: how many times it strikes then.
    """

    stage: Stage
    kind: FaultKind
    after: int = 0
    times: int = 1_000_000


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message as it came.

    Attributes:
        mail: the MAIL command as received, without its line end.
        recipients: the RCPT commands that were answered 250, likewise.
        wire: everything between DATA and the terminating dot, still dot-stuffed, with its last CRLF.
        xforward: the XFORWARD commands since the last transaction.
        connection: which connection carried it, counted from 1.
    """

    mail: bytes
    recipients: tuple[bytes, ...]
    wire: bytes
    xforward: tuple[bytes, ...] = ()
    connection: int = 1

    @property
    def content(self) -> bytes:
        """The message without dot-stuffing."""
        return (b"\r\n" + self.wire).replace(b"\r\n.", b"\r\n")[2:]


@dataclass(slots=True)
class NextHop:
    """A recording next hop; an asynchronous context manager that listens from entry to exit.

    Attributes:
        protocol: `smtp` or `lmtp` (LHLO, and one reply per recipient after the dot).
        faults: what goes wrong; change it at any time.
        extensions: what EHLO announces.
        replies: replies of your own: command line -> reply without its last CRLF, or None for the usual one. The end of a
            message is asked for as b".", whose 2xx alone keeps the message.
        path: a UNIX socket to listen on instead of a free port on 127.0.0.1.
        is_lenient: whether it drops NULs and takes a bare CR or LF around a dot for the end of a message, as some do.
        dot_seconds: how long it thinks before it answers a message.
        tls: its certificate; STARTTLS is announced, and obeyed.
        is_implicit: whether TLS is spoken from the first byte instead.
        behind_starttls: what it sends in plain text behind its answer to STARTTLS, as somebody in between might.
        address: where it listens, in the form that settings take.
        messages: what was stored, in order.
        commands: every command line of every connection, in order of arrival.
        num_connections: connections accepted so far.
    """

    protocol: Literal["smtp", "lmtp"] = "smtp"
    faults: Iterable[Fault] = ()
    extensions: tuple[bytes, ...] = EXTENSIONS
    replies: Callable[[bytes], bytes | None] = lambda _line: None
    path: str = ""
    is_lenient: bool = False
    dot_seconds: float = 0.0
    tls: ssl.SSLContext | None = None
    is_implicit: bool = False
    behind_starttls: bytes = b""
    address: str = ""
    messages: list[StoredMessage] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    num_connections: int = 0
    _passed: dict[Stage, int] = field(default_factory=dict)
    _socket: socket.socket | None = None
    _server: asyncio.Server | None = None
    _conversations: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        """Bind, and listen unless connections are to be refused."""
        self._socket = socket.socket(socket.AF_UNIX if self.path else socket.AF_INET)
        self._socket.bind(self.path or ("127.0.0.1", 0))
        self.address = f"unix:{self.path}" if self.path else "127.0.0.1:{1}".format(*self._socket.getsockname())
        if Fault("connect", "refuse") not in self.faults:
            await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the listener and every connection."""
        if self._server:
            self._server.close()
        self._socket.close()
        for task in self._conversations:
            task.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    async def listen(self) -> None:
        """Begin to accept; to be called by hand where the fault `refuse` at `connect` held it back."""
        self._server = await asyncio.start_server(
            self._converse, sock=self._socket, limit=MAX_BYTES, backlog=1000, ssl=self.tls if self.is_implicit else None
        )

    def strike(self, stage: Stage) -> FaultKind | None:
        """Say what goes wrong at this stage, this time."""
        passed = self._passed[stage] = self._passed.get(stage, -1) + 1
        return next((f.kind for f in self.faults if f.stage == stage and f.after <= passed < f.after + f.times), None)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection and leave nothing open."""
        task = asyncio.current_task()
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)
        self.num_connections += 1
        try:
            await _Conversation(self, reader, writer, self.num_connections).run()
            writer.close()
        except (OSError, EOFError, asyncio.CancelledError):
            writer.transport.abort()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()


class _Conversation:
    """One connection."""

    def __init__(self, next_hop: NextHop, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int):
        self.next_hop, self.reader, self.writer, self.number = next_hop, reader, writer, number
        self.mail = b""
        self.recipients: list[bytes] = []
        self.xforward: list[bytes] = []

    async def run(self) -> None:
        """Greet, then answer commands until the other side has had enough."""
        if not await self.is_unharmed("connect") or not await self.is_unharmed("banner"):
            return
        await self.write(b"220 next-hop.test ESMTP")
        goes_on = True
        while goes_on:
            line = (await self.reader.readuntil(b"\n")).rstrip(b"\r\n")
            self.next_hop.commands.append(line)
            goes_on = await self.answer(line)

    async def is_unharmed(self, stage: Stage) -> bool:
        """Let a fault strike, if one is due.

        Returns:
            Whether none did, so that the usual reply is to be given.

        Raises:
            ConnectionError: the fault ends the conversation.
        """
        kind = self.next_hop.strike(stage)
        if kind in {"4xx", "5xx"}:
            await self.write(FAULT_REPLIES[kind])
            return False
        await self.suffer(kind)
        return True

    async def suffer(self, kind: FaultKind | None) -> None:
        """Let a fault strike that ends the conversation; None is no fault."""
        if kind == "stall":
            await asyncio.sleep(3600)
        if kind == "refuse":
            await self.write(b"421 4.9.9 injected")
        if kind is not None:
            raise ConnectionResetError(kind)

    async def write(self, reply: bytes) -> None:
        """Send a reply."""
        self.writer.write(reply + b"\r\n")
        await self.writer.drain()

    async def answer(self, line: bytes) -> bool:
        """Answer one command; False ends the conversation."""
        verb = line.split(b" ", 1)[0].upper().decode("latin-1")
        stage: Stage = {"LHLO": "EHLO", "HELO": "EHLO"}.get(verb, verb)
        if await self.is_unharmed(stage):
            reply = self.next_hop.replies(line) or USUAL_REPLIES.get(stage)
            if reply is None:
                action = getattr(self, f"on_{stage.lower()}", None)
                reply = await action(line) if action else b"500 5.5.2 unknown command"
            elif stage == "RSET":
                self.reset()
            if reply:
                await self.write(reply)
        return stage != "QUIT"

    async def on_ehlo(self, line: bytes) -> bytes:
        """Announce the extensions."""
        verb = line[:4].upper()
        if verb == b"HELO":
            return b"250 next-hop.test"
        if verb != (b"LHLO" if self.next_hop.protocol == "lmtp" else b"EHLO"):
            return b"500 5.5.1 wrong protocol"
        offers_tls = self.next_hop.tls and not self.next_hop.is_implicit and not self.writer.get_extra_info("sslcontext")
        *lines, last = b"next-hop.test", *[b"STARTTLS"] * bool(offers_tls), *self.next_hop.extensions
        return b"".join(b"250-" + text + b"\r\n" for text in lines) + b"250 " + last

    async def on_starttls(self, _line: bytes) -> bytes:
        """Go over to TLS; the greeting begins anew, without a word of ours."""
        if not self.next_hop.tls:
            return b"502 5.5.1 no TLS here"
        await self.write(b"220 2.0.0 go ahead" + self.next_hop.behind_starttls)
        await self.writer.start_tls(self.next_hop.tls)
        return b""

    async def on_xforward(self, line: bytes) -> bytes:
        """Remember what is known about the original client."""
        if self.mail:
            return b"503 5.5.1 not within a transaction"
        self.xforward.append(line)
        return b"250 2.0.0 OK"

    async def on_mail(self, line: bytes) -> bytes:
        """Begin a transaction."""
        if self.mail:
            return b"503 5.5.1 nested MAIL"
        self.mail = line
        return b"250 2.1.0 sender ok"

    async def on_rcpt(self, line: bytes) -> bytes:
        """Accept everyone, except local parts that begin with `reject` or `defer`."""
        if not self.mail:
            return b"503 5.5.1 need MAIL"
        if b"<reject" in line:
            return b"550 5.1.1 no such user here"
        if b"<defer" in line:
            return b"450 4.2.0 greylisted"
        self.recipients.append(line)
        return b"250 2.1.5 recipient ok"

    def reset(self) -> None:
        """Forget the transaction and what was known of the client."""
        self.mail, self.recipients, self.xforward = b"", [], []

    async def on_data(self, _line: bytes) -> bytes:
        """Take a message in."""
        if not self.recipients:
            return b"503 5.5.1 need RCPT"
        await self.write(b"354 go ahead")
        wire = await self.read_message()
        message = StoredMessage(self.mail, tuple(self.recipients), wire, tuple(self.xforward), self.number)
        self.reset()
        return await self.end_message(message)

    async def end_message(self, message: StoredMessage) -> bytes:
        """Keep the message unless a fault or a reply of the test's own says otherwise."""
        await asyncio.sleep(self.next_hop.dot_seconds)
        kind = self.next_hop.strike("dot")
        if kind == "store and drop":
            self.next_hop.messages.append(message)
        if kind in {"4xx", "5xx"}:
            reply = FAULT_REPLIES[kind]
        else:
            await self.suffer(kind)
            reply = self.next_hop.replies(b".") or b"250 2.0.0 Ok: queued as TEST%05d" % (len(self.next_hop.messages) + 1)
        if reply.startswith(b"2"):
            self.next_hop.messages.append(message)
        return b"\r\n".join([reply] * (len(message.recipients) if self.next_hop.protocol == "lmtp" else 1))

    async def read_message(self) -> bytes:
        """Read to the end of a message; what comes after it is left to be read as commands."""
        wire = bytearray(b"\r\n")
        pattern = LENIENT_END if self.next_hop.is_lenient else STRICT_END
        start = 0
        while not (end := pattern.search(wire, start)):
            start = max(0, len(wire) - 16)
            some = await self.reader.read(131_072)
            if not some:
                raise EOFError
            wire += some
        # A stream reader has no public way to take bytes back.
        self.reader._buffer[:0] = wire[end.end() :]
        return bytes(wire[2 : end.start() + 2])
