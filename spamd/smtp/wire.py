"""Bytes as they stand on the wire: lines, messages, dot-stuffing and line ends.

Cuts command lines and whole messages off what comes, with memory and time bounded, and converts between wire form (dot-stuffed,
without the terminating dot) and the message itself. Knows no command and decides nothing. Called by `session`, `handler`,
`limits` and `relay`.

Security: everything read here is hostile. A line may have no end, a message may be 30 MiB of empty lines or come byte by byte; no
work here grows faster than its input, and only CRLF dot CRLF ends a message (SMTP smuggling, CVE-2023-51764).
"""

import asyncio
import math
from collections.abc import Callable, Iterator

from spamd.smtp.bell import Bell

CRLF = b"\r\n"
END = b"\r\n.\r\n"
NUL = b"\0"
CHUNK_BYTES = 65_536
MAX_UNREAD_BYTES = 2 * CHUNK_BYTES
"""A client that has sent so much more than anybody wanted to read is read no further until somebody does."""

PIECE_BYTES = 1_048_576
MIN_BYTES_PER_SECOND = 500
"""A message that comes more slowly on the average is given up, as Postfix does (smtpd_min_data_rate)."""


class LineTooLong(ValueError):  # noqa: N818  the name tells what happened
    """A line beyond the limit came; it has been read to its end."""


class NoEnd(ValueError):  # noqa: N818
    """A message that nobody keeps any more went on and on."""


class WireReader:
    """Takes lines and messages off what a client sends.

    Its protocol feeds it; while nobody wants more, a client that sends on is left waiting.

    Args:
        transport: paused and resumed.
    """

    def __init__(self, transport: asyncio.ReadTransport) -> None:
        self._transport = transport
        self._pending = bytearray()
        self._max_pending = MAX_UNREAD_BYTES
        self._has_ended = False
        self._bell = Bell()

    @property
    def has_pending(self) -> bool:
        """Whether something was read that nobody has taken yet."""
        return bool(self._pending)

    def move_to(self, transport: asyncio.ReadTransport) -> None:
        """Go on with another transport, once TLS carries the connection; what came through it already stays."""
        self._transport.resume_reading()
        self._transport = transport

    def feed(self, some: bytes) -> None:
        """Take what came."""
        self._pending += some
        self._bell.ring()
        if len(self._pending) > self._max_pending:
            self._transport.pause_reading()

    def feed_eof(self) -> None:
        """Take note that no more will come."""
        self._has_ended = True
        self._bell.ring()
        self._bell.close()

    async def read_line(self, limit: int) -> bytes:
        """Read one command line.

        Args:
            limit: the most bytes it may have.

        Returns:
            The line, with its LF or CRLF.

        Raises:
            LineTooLong: it has more bytes; they were dropped as they came.
            EOFError: the client will send no more.
        """
        searched, is_too_long = 0, False
        while (newline := self._pending.find(b"\n", searched)) < 0:
            if len(self._pending) > limit:
                is_too_long = True
                self._pending.clear()
            searched = len(self._pending)
            await self._more()
        line = bytes(self._pending[: newline + 1])
        del self._pending[: newline + 1]
        if is_too_long or len(line) > limit:
            raise LineTooLong
        return line

    async def read_message(self, keep: Callable[[int], bool], *, stall_seconds: float, max_dropped_bytes: int) -> bytes | None:
        """Read a message to its terminating dot.

        Args:
            keep: asked with the number of bytes about to be held; once it says no, all is dropped and read on to the end.
            stall_seconds: the longest time without a byte, and the head start before the least rate is asked for.
            max_dropped_bytes: how much is read on after that at the most.

        Returns:
            The message in wire form, with its last CRLF and without the dot; None where it was not kept.

        Raises:
            TimeoutError: it came too slowly.
            NoEnd: it was not kept, and did not end.
            EOFError: the client left in the middle of it.
        """
        message, num_new = self._pending, len(self._pending)
        started, num_read, num_dropped, searched, is_kept = asyncio.get_running_loop().time(), 0, 0, 0, True
        # The CRLF of the DATA command counts: an empty message is a lone dot, whose CRLF in front is that one.
        message[:0] = CRLF
        while True:
            num_read += num_new
            is_kept = is_kept and keep(num_new)
            end = message.find(END, searched)
            if end >= 0:
                break
            if not is_kept:
                num_dropped += num_new
                del message[: -len(END)]
            if num_dropped > max_dropped_bytes:
                raise NoEnd
            searched = max(0, len(message) - len(END))
            num_new = await self._more(self._deadline(started, num_read, stall_seconds))
        with memoryview(message) as view:
            wire = bytes(view[len(CRLF) : end + len(CRLF)]) if is_kept else None
        del message[: end + len(END)]
        self._max_pending = len(message) + MAX_UNREAD_BYTES
        return wire

    @staticmethod
    def _deadline(started: float, num_read: int, stall_seconds: float) -> float:
        """Say until when the next byte must come."""
        now = asyncio.get_running_loop().time()
        return min(now, started + num_read / MIN_BYTES_PER_SECOND) + stall_seconds

    async def _more(self, deadline: float = math.inf) -> int:
        """Wait for at least one byte more; returns how many came.

        Raises:
            TimeoutError: none did by the deadline, on the loop's clock.
            EOFError: none will.
        """
        num_before = len(self._pending)
        self._max_pending = num_before + MAX_UNREAD_BYTES
        while len(self._pending) == num_before:
            if self._has_ended:
                raise EOFError
            self._transport.resume_reading()
            if not await self._bell.wait(deadline):
                raise TimeoutError
        return len(self._pending) - num_before


def unstuff(wire: bytes) -> bytes:
    """Undo dot-stuffing: a line that begins with a dot loses it (RFC 5321 4.5.2)."""
    return b"".join(_unstuffed(piece, behind) for piece, behind in _pieces(wire))


def _unstuffed(piece: bytes, behind: bytes) -> bytes:
    """Undo it in a piece of a message that stands behind some bytes."""
    plain = piece.replace(b"\r\n.", CRLF)
    return plain[1:] if behind == CRLF and plain.startswith(b".") else plain


def stuff(message: bytes) -> bytes:
    """Put a dot before every line that begins with one."""
    wire = message.replace(b"\r\n.", b"\r\n..")
    return b"." + wire if wire.startswith(b".") else wire


def has_bare_newline(wire: bytes) -> bool:
    """Tell whether a CR or LF stands outside CRLF, or a lone dot between NULs, which are nothing to some: ends that are none.

    Single bytes are found several times as fast as pairs: without CRs, and with one before each LF, it is the same or it is not.
    """
    return any(piece != piece.replace(b"\r", b"").replace(b"\n", CRLF) for piece, _ in _pieces(wire)) or _has_masked_end(wire)


def _pieces(wire: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Cut a message into pieces, each with the two bytes in front of it: a large one must not keep all other threads waiting.

    No cut is between CR and LF, or CR and CR LF, which are one line end to `normalise`, or behind a dot that `unstuff` takes
    away, since the next byte begins the line then. The first piece counts as behind a CRLF.
    """
    start, behind = 0, CRLF
    while start < len(wire):
        end = start + PIECE_BYTES
        around = wire[end - 1 : end + 2]
        end += 1 if around.startswith(CRLF) else 2 * (around == b"\r\r\n") - (wire[end - 3 : end] == b"\r\n.")
        yield wire[start:end], behind
        start, behind = end, wire[max(0, end - 2) : end]


def _has_masked_end(wire: bytes) -> bool:
    """Tell whether a line of the message would be the end of it without its NULs."""
    return NUL in wire and END in CRLF + wire.replace(NUL, b"")


def normalise(wire: bytes) -> bytes:
    """Make every line end a CRLF, so that no next hop can see the end of a message where we saw none.

    A bare LF or CR becomes CRLF, CR CR LF (text mode applied twice) is one line end, and dots that thereby come to stand at the
    beginning of a line are stuffed. NULs stay, unless they mask the end of a message: then all of them go.

    Args:
        wire: a message in wire form.

    Returns:
        The message in wire form. Only linear steps: a regular expression over a million CRs would not be one.
    """
    clean = b"".join(_normalised(piece, behind) for piece, behind in _pieces(wire))
    return stuff(unstuff(clean).replace(NUL, b"")) if _has_masked_end(clean) else clean


def _normalised(piece: bytes, behind: bytes) -> bytes:
    """Normalise a piece of a message that stands behind some bytes, but for masked ends."""
    plain = _unstuffed(piece, behind).replace(CRLF, b"\n").replace(CRLF, b"\n").replace(b"\r", b"\n")
    clean = plain.replace(b"\n", CRLF).replace(b"\r\n.", b"\r\n..")
    return b"." + clean if behind.endswith((b"\r", b"\n")) and clean.startswith(b".") else clean
