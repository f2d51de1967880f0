"""The door as a whole: listening, letting clients in, draining.

Runs in the caller's event loop, beside the proxy. When all sessions are taken it stops accepting, so that clients wait in the
backlog of the socket. Knows nothing of commands or messages. Called by `daemon`, and only where `spamc.listen` is set.

Security: listens where the settings say, loopback clients only by default; opens no connection.
"""

import asyncio
import itertools
import socket
import time

from spamd import __version__
from spamd.config import SpamcSettings
from spamd.service.judge import MessageJudge
from spamd.service.listening import Neighbourhood, accept_for_ever, address_of, open_listeners
from spamd.spamc.limits import Memory
from spamd.spamc.replies import Signature
from spamd.spamc.session import CHUNK_BYTES, Policy, Session


async def start_spamc(
    settings: SpamcSettings,
    judge: MessageJudge,
    *,
    hostname: str,
    subject_tag: str = "",
    deadline_seconds: float = 20.0,
) -> "SpamcServer":
    """Start to listen and to answer.

    Args:
        settings: address, limits and timeouts.
        judge: says what a message is.
        hostname: our name in fields and reports.
        subject_tag: text put before the subject of spam; empty leaves subjects alone.
        deadline_seconds: the judge's own deadline; it is given up somewhat later.

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
    return SpamcServer(policy, await open_listeners(settings.listen))


class SpamcServer:
    """An open door.

    Args:
        policy: what all sessions share.
        listeners: sockets to accept on; closed with the door.

    Attributes:
        addresses: where it listens, in the form that settings take.
    """

    def __init__(self, policy: Policy, listeners: list[socket.socket]) -> None:
        self.addresses = [address_of(listener) for listener in listeners]
        self._policy = policy
        self._listeners = listeners
        self._sessions: set[Session] = set()
        # Unique across restarts without a clock that must not go back.
        self._numbers = itertools.count(time.time_ns() // 1000)
        self._has_room = asyncio.Event()
        self._has_room.set()
        accepting = (accept_for_ever(listener, self._has_room, self._make_protocol) for listener in listeners)
        self._accepting = [asyncio.create_task(one) for one in accepting]

    @property
    def num_sessions(self) -> int:
        """Sessions that are open now."""
        return len(self._sessions)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109  the deadline of the whole, not of one wait
        """Stop in order: accept nothing new, let requests in flight finish, and close.

        Args:
            timeout: seconds after which what is still in flight is given up; its clients let the mail pass or try again.
        """
        self._stop_accepting()
        for session in list(self._sessions):
            session.dismiss()
        if tasks := [session.task for session in self._sessions]:
            await asyncio.wait(tasks, timeout=timeout)
        await self.close()

    async def close(self) -> None:
        """Stop at once; what is in flight is given up."""
        self._stop_accepting()
        tasks = [*self._accepting, *(session.task for session in self._sessions)]
        for session in list(self._sessions):
            session.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Transports report their end in the next turns of the loop.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _stop_accepting(self) -> None:
        """Close the listeners."""
        for task in self._accepting:
            task.cancel()
        for listener in self._listeners:
            listener.close()

    def _make_protocol(self) -> asyncio.StreamReaderProtocol:
        """Make what asyncio hands a connection to."""
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=CHUNK_BYTES), self._begin_session)

    def _begin_session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Asyncio: a client is there."""
        session = Session(self._policy, reader, writer, f"spamc.{next(self._numbers):x}")
        self._sessions.add(session)
        session.task.add_done_callback(lambda _: self._end_session(session))
        if len(self._sessions) >= self._policy.settings.max_connections:
            self._has_room.clear()

    def _end_session(self, session: Session) -> None:
        """Forget a session."""
        self._sessions.discard(session)
        self._has_room.set()
