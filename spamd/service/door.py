"""An open door, whatever the protocol spoken there: lets clients in while there is room, keeps their sessions, closes in order.

When all places are taken it stops accepting, so that clients wait in the backlog of the socket and none is told to go away. Knows
no protocol: whoever makes a door says how a connection becomes a session. Called by `smtp.server` and `spamc.server`.

Security: whoever has connected and not yet become a session takes a place too, so that nobody can gather connections that count
for nothing.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from spamd.service.listening import address_of
from spamd.service.logs import describe

log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.5
ACCEPTED_AT_ONCE = 16
"""Connections that are taken in one go; then whoever is inside already has a turn."""


class TurnedAway(Exception):  # noqa: N818  the name tells what happened
    """A connection does not become a session, through no fault of ours; the text says why, and quotes nothing."""


class Session(Protocol):
    """One client inside."""

    @property
    def task(self) -> "asyncio.Task[None] | None":
        """What serves it; done when it is over."""
        ...

    def dismiss(self) -> None:
        """Say goodbye and end, at once or after what is in flight."""
        ...

    def abort(self) -> None:
        """End at once, whatever is in flight."""
        ...


class Door:
    """An open door.

    Args:
        listeners: sockets to accept on; closed with the door.
        max_sessions: clients inside at once.
        bring_in: makes a session of a connection and the listener that took it; whatever it raises, the connection is closed.

    Attributes:
        addresses: where it listens, in the form that settings take.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        max_sessions: int,
        bring_in: Callable[[socket.socket, socket.socket], Awaitable[Session]],
    ) -> None:
        self.addresses = [address_of(listener) for listener in listeners]
        self._listeners = list(listeners)
        self._max_sessions = max_sessions
        self._bring_in = bring_in
        self._arriving: set[asyncio.Task[None]] = set()
        self._sessions: dict[asyncio.Task[None], Session] = {}
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        self._is_accepting = False
        self._is_open = True
        for listener in self._listeners:
            listener.settimeout(0)
        self._accept_where_there_is_room()

    @property
    def num_sessions(self) -> int:
        """Clients that are inside now."""
        return len(self._sessions)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109  the deadline of the whole, not of one wait
        """Close in order: accept nothing new, dismiss who is idle, let what is in flight finish.

        Args:
            timeout: seconds after which what is still in flight is given up.
        """
        deadline = self._loop.time() + timeout
        self._close_listeners()
        for session in list(self._sessions.values()):
            session.dismiss()
        # Who is just arriving becomes a session first, to be dismissed like the others.
        while (tasks := {*self._arriving, *self._sessions}) and self._loop.time() < deadline:
            await asyncio.wait(tasks, timeout=deadline - self._loop.time())
        await self.close()

    async def close(self) -> None:
        """Close at once; what is in flight is given up."""
        self._close_listeners()
        tasks = [*self._arriving, *self._sessions]
        for arriving in self._arriving:
            arriving.cancel()
        for session in list(self._sessions.values()):
            session.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Transports report their end in the next turns of the loop.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _close_listeners(self) -> None:
        """Take nobody any more. Who is in a backlog that systemd holds too waits there for the next daemon."""
        self._is_open = False
        self._stop_accepting()
        if self._retry:
            self._retry.cancel()
        for listener in self._listeners:
            listener.close()

    def _accept_where_there_is_room(self) -> None:
        """Begin to accept, unless all places are taken."""
        if self._is_open and not self._is_accepting and self._has_room():
            self._is_accepting = True
            for listener in self._listeners:
                self._loop.add_reader(listener, self._accept, listener)

    def _stop_accepting(self) -> None:
        """Leave clients in the backlog."""
        if self._is_accepting:
            self._is_accepting = False
            for listener in self._listeners:
                self._loop.remove_reader(listener)

    def _has_room(self) -> bool:
        """Tell whether a place is free."""
        return len(self._arriving) + len(self._sessions) < self._max_sessions

    def _accept(self, listener: socket.socket) -> None:
        """Asyncio: clients wait. An accepted one is never dropped: nothing is awaited between its accepting and its task."""
        for _ in range(ACCEPTED_AT_ONCE):
            if not self._has_room():
                self._stop_accepting()
                return
            try:
                connection, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Out of descriptors, or anything else: the listening must go on.
                log.error("connection not accepted", retry_seconds=RETRY_SECONDS, **describe(error))  # noqa: TRY400
                self._stop_accepting()
                self._retry = self._loop.call_later(RETRY_SECONDS, self._accept_where_there_is_room)
                return
            connection.settimeout(0)
            _send_at_once(connection)
            arriving = self._loop.create_task(self._let_in(connection, listener))
            self._arriving.add(arriving)
            arriving.add_done_callback(self._forget)

    async def _let_in(self, connection: socket.socket, listener: socket.socket) -> None:
        """Make a session of a connection."""
        try:
            session = await self._bring_in(connection, listener)
        except TurnedAway as reason:
            connection.close()
            log.warning("connection turned away", reason=str(reason))
            return
        except Exception as error:  # noqa: BLE001  a mistake of ours must not end the listening
            connection.close()
            log.error("connection given up", **describe(error))  # noqa: TRY400  a traceback may quote the client
            return
        except asyncio.CancelledError:
            connection.close()
            raise
        if session.task is None or session.task.done():
            return
        self._sessions[session.task] = session
        session.task.add_done_callback(self._forget)
        if not self._is_open:
            session.dismiss()

    def _forget(self, task: "asyncio.Task[None]") -> None:
        """Free a place."""
        self._arriving.discard(task)
        self._sessions.pop(task, None)
        self._accept_where_there_is_room()


def _send_at_once(connection: socket.socket) -> None:
    """Let no reply wait for the client to have acknowledged the one before (40 ms for each pipelined command).

    Asyncio does the same, but only for sockets that bear the number of TCP, and those of our listeners do not.
    """
    if connection.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
