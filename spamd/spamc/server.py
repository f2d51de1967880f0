"""The door as a whole: where it listens, and what its sessions share.

Runs in the caller's event loop, beside the proxy. Knows nothing of commands or messages. Called by `daemon`, and only where
`spamc.listen` is set.

Security: listens where the settings say, loopback clients only by default; opens no connection.
"""

import asyncio
import itertools
import socket
import time
from collections.abc import Sequence

from spamd import __version__
from spamd.config import SpamcSettings
from spamd.service.door import Door
from spamd.service.judge import MessageJudge
from spamd.service.listening import Neighbourhood, client_of, open_listeners
from spamd.service.memory import Memory
from spamd.service.record import MessageRecord
from spamd.spamc.replies import Signature
from spamd.spamc.session import CHUNK_BYTES, Policy, Session


async def start_spamc(
    settings: SpamcSettings,
    judge: MessageJudge,
    *,
    hostname: str,
    subject_tag: str = "",
    deadline_seconds: float = 20.0,
    sockets: Sequence[socket.socket] = (),
) -> Door:
    """Start to listen and to answer.

    Args:
        settings: address, limits and timeouts.
        judge: says what a message is.
        hostname: our name in fields and reports.
        subject_tag: text put before the subject of spam; empty leaves subjects alone.
        deadline_seconds: the judge's own deadline; it is given up somewhat later.
        sockets: listening sockets to take instead of opening some.

    Returns:
        The door, which is open already.

    Raises:
        OSError: the address cannot be listened on.
    """
    policy = Policy(
        settings=settings,
        judge=judge,
        neighbourhood=Neighbourhood(settings.allowed_clients),
        memory=Memory(settings.max_memory_bytes),
        signature=Signature(hostname, __version__, subject_tag),
        deadline_seconds=deadline_seconds,
    )
    listeners = list(sockets) or await open_listeners(settings.listen, "spamc.listen", settings.listen_mode)
    return Door(listeners, settings.max_connections, _Reception(policy).bring_in)


class _Reception:
    """Makes sessions of connections.

    Args:
        policy: what all sessions share.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        # Unique across restarts without a clock that must not go back.
        self._numbers = itertools.count(time.time_ns() // 1000)

    async def bring_in(self, connection: socket.socket, _listener: socket.socket) -> Session:
        """Begin a session."""
        client = client_of(connection)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=CHUNK_BYTES, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        record = MessageRecord(f"spamc.{next(self._numbers):x}", client, facts={"command": ""})
        return Session(self._policy, reader, writer, record)
