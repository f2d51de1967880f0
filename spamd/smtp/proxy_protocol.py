"""Who the client really is, where a load balancer stands in front and says so in a PROXY header (version 1 or 2).

The header is read from the bare socket, to its last byte and not one further, since TLS may follow at once; aiosmtpd takes it
apart. Decides nothing about who may come in. Called by `server`, for connections from `smtp.proxy_protocol_from` alone.

Security: the header is believed, so that it is asked for only of addresses that the operator named; to everyone else it is a
command that is not known. Its absence is not guessed at (HAProxy's proxy-protocol.txt, section 2): no header, no session.
"""

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from aiosmtpd.proxy_protocol import AF, ProxyData, get_proxy

from spamd.service.door import TurnedAway

HEADER_SECONDS = 5.0
"""HAProxy sends it with its first segment; one retransmission takes three seconds."""

MAX_LINE_BYTES = 107


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody at the other end of a connection.

    Attributes:
        address: IPv4 or IPv6 address; empty on a UNIX socket.
        port: its port; 0 where it has none.
    """

    address: str
    port: int = 0


async def announced_client(connection: socket.socket) -> Peer | None:
    """Read a PROXY header.

    Args:
        connection: a connection from which nothing was read yet.

    Returns:
        The client that it announces; None where it says that there is none but the load balancer itself (a health check).

    Raises:
        TurnedAway: no header, or a wrong one, came in time.
    """
    try:
        async with asyncio.timeout(HEADER_SECONDS):
            header = await get_proxy(_SocketReader(connection))
    except (OSError, EOFError):
        # A timeout is an OSError too.
        raise TurnedAway("no PROXY header came, which smtp.proxy_protocol_from asks for") from None
    if not header.valid:
        raise TurnedAway("its PROXY header is malformed")
    return _client_in(header)


def _client_in(header: ProxyData) -> Peer | None:
    """Return the client that a header announces."""
    is_local = header.version == 2 and header.command == 0  # noqa: PLR2004  LOCAL is known to version 2 alone
    if is_local or header.family == AF.UNSPEC:
        return None
    if isinstance(header.src_addr, IPv4Address | IPv6Address):
        return Peer(str(header.src_addr), header.src_port or 0)
    return Peer("")


class _SocketReader:
    """Reads from a bare socket what is asked for and nothing beyond.

    Args:
        connection: the socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    async def read(self, n: int = 1) -> bytes:
        """Read at least one byte."""
        some = await asyncio.get_running_loop().sock_recv(self._connection, n)
        if not some:
            raise EOFError
        return some

    async def readexactly(self, n: int) -> bytes:
        """Read as many bytes."""
        taken = b""
        while len(taken) < n:
            taken += await self.read(n - len(taken))
        return taken

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Read a line, byte by byte: what follows it is not ours."""
        line = b""
        while not line.endswith(separator) and len(line) <= MAX_LINE_BYTES:
            line += await self.read()
        return line
