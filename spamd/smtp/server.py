"""The proxy as a whole: listening, letting sessions in, draining.

Runs in the caller's event loop, without aiosmtpd's Controller (a thread, and tasks cancelled at its end). When all sessions are
taken it stops accepting, so that clients wait in the backlog of the socket and none is told to go away. Knows nothing of SMTP
commands or messages. Called by `daemon`.

Security: listens where the settings say, or on the sockets it is given; clients are let in by `limits`.
"""

import asyncio
import hashlib
import socket
from collections.abc import Sequence

from spamd import __version__
from spamd.config import ActionSettings, SmtpSettings
from spamd.service.judge import MessageJudge
from spamd.service.listening import accept_for_ever, address_of, open_listeners, own_hostname
from spamd.smtp.handler import MessageHandler, Policy
from spamd.smtp.limits import Admission, Memory
from spamd.smtp.next_hop import NextHop, Tls
from spamd.smtp.relay import Timeouts
from spamd.smtp.session import FilterSMTP
from spamd.smtp.tls import next_hop_context

__all__ = ["FilterSMTP", "Proxy", "start_proxy"]


async def start_proxy(
    settings: SmtpSettings,
    judge: MessageJudge,
    *,
    actions: ActionSettings | None = None,
    on_failure: str = "pass",
    deadline_seconds: float = 20.0,
    sockets: Sequence[socket.socket] | None = None,
) -> "Proxy":
    """Start to listen and to filter.

    Args:
        settings: addresses, limits and timeouts.
        judge: says what a message is.
        actions: what is done with spam; None tags it.
        on_failure: `pass` or `defer`: what becomes of a message without a verdict.
        deadline_seconds: the judge's own deadline; it is given up somewhat later.
        sockets: listening sockets to take instead of opening some.

    Returns:
        The proxy, which accepts mail already.

    Raises:
        ConfigError: no name was set for us, and the machine's cannot be used; or a file for TLS cannot.
        OSError: the address cannot be listened on.
    """
    actions = actions or ActionSettings()
    hostname = await own_hostname(settings.hostname)
    policy = Policy(
        hostname=hostname,
        version=__version__,
        instance=_instance(hostname, settings.listen),
        on_failure=on_failure,
        deadline_seconds=deadline_seconds,
        subject_tag=actions.subject_tag,
        reject_score=actions.reject_score,
        quarantine_score=actions.quarantine_score,
        quarantine_recipient=actions.quarantine_recipient,
        bare_newlines=settings.bare_newlines,
        max_hops=settings.max_hops,
    )
    tls = _next_hop_tls(settings)
    listeners = list(sockets) if sockets else await open_listeners(settings.listen)
    return Proxy(settings, hostname, MessageHandler(judge, policy), listeners, tls=tls)


class Proxy:
    """A running proxy.

    Args:
        settings: limits and timeouts.
        hostname: our name.
        handler: takes the messages.
        listeners: sockets to accept on; closed with the proxy.
        tls: how connections to the next hop are encrypted; None leaves them plain.

    Attributes:
        addresses: where it listens, in the form that settings take.
    """

    def __init__(
        self,
        settings: SmtpSettings,
        hostname: str,
        handler: MessageHandler,
        listeners: list[socket.socket],
        *,
        tls: Tls | None = None,
    ) -> None:
        self.addresses = [address_of(listener) for listener in listeners]
        self._settings = settings
        self._hostname = hostname
        self._handler = handler
        self._listeners = listeners
        self._next_hop = NextHop(
            settings.next_hop,
            protocol=settings.next_hop_protocol,
            hostname=hostname,
            timeouts=Timeouts(
                connect_seconds=settings.next_hop_connect_timeout_seconds,
                command_seconds=settings.next_hop_command_timeout_seconds,
                dot_seconds=settings.next_hop_dot_timeout_seconds,
            ),
            tls=tls,
        )
        self._admission = Admission(settings.allowed_clients, settings.max_connections_per_client)
        self._memory = Memory(settings.max_memory_bytes)
        self._sessions: set[FilterSMTP] = set()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._accepting = [
            asyncio.create_task(accept_for_ever(listener, self._has_room, self._make_session)) for listener in listeners
        ]

    @property
    def num_sessions(self) -> int:
        """Sessions that are open now."""
        return len(self._sessions)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109  the deadline of the whole, not of one wait
        """Stop in order: accept nothing new, tell idle sessions 421, let messages in flight finish, and close.

        Args:
            timeout: seconds after which what is still in flight is given up; its senders try again.
        """
        self._stop_accepting()
        for session in list(self._sessions):
            session.dismiss()
        if tasks := self._tasks():
            await asyncio.wait(tasks, timeout=timeout)
        await self.close()

    async def close(self) -> None:
        """Stop at once; what is in flight is given up, and its senders try again."""
        self._stop_accepting()
        tasks = [*self._accepting, *self._tasks()]
        for session in list(self._sessions):
            session.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._next_hop.close()
        # Transports report their end in the next turns of the loop.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _tasks(self) -> list[asyncio.Task[None]]:
        """What serves the sessions."""
        return [session.task for session in self._sessions if session.task]

    def _stop_accepting(self) -> None:
        """Close the listeners."""
        for task in self._accepting:
            task.cancel()
        for listener in self._listeners:
            listener.close()

    def _make_session(self) -> FilterSMTP:
        """Make the session for a connection."""
        session = FilterSMTP(
            self._settings,
            hostname=self._hostname,
            next_hop=self._next_hop,
            handler=self._handler,
            admission=self._admission,
            memory=self._memory,
            on_end=self._end_session,
        )
        self._sessions.add(session)
        if len(self._sessions) >= self._settings.max_connections:
            self._has_room.clear()
        return session

    def _end_session(self, session: FilterSMTP) -> None:
        """Forget a session."""
        self._sessions.discard(session)
        self._has_room.set()


def _next_hop_tls(settings: SmtpSettings) -> Tls | None:
    """Say how connections to the next hop are encrypted."""
    if settings.next_hop_tls == "off":
        return None
    context = next_hop_context(ca=settings.next_hop_tls_ca, check=settings.next_hop_tls_check)
    return Tls(context, settings.next_hop_tls_name, is_implicit=settings.next_hop_tls == "implicit")


def _instance(hostname: str, listen: str) -> str:
    """An id for this proxy that stays the same from start to start, so that loops are seen across restarts."""
    return hashlib.sha256(f"{hostname} {listen}".encode()).hexdigest()[:12]
