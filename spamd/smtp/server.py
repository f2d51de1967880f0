"""The proxy as a whole: where it listens, what its sessions share, and how a connection becomes one.

Runs in the caller's event loop, without aiosmtpd's Controller (a thread, and tasks cancelled at its end). Knows nothing of SMTP
commands or messages. Called by `daemon`.

Security: listens where the settings say, or on the sockets it is given; clients are let in by `limits`, and a PROXY header is
believed from the addresses named for it alone.
"""

import asyncio
import contextlib
import hashlib
import socket
import ssl
from collections.abc import Sequence

from spamd import __version__
from spamd.config import ActionSettings, SmtpSettings
from spamd.errors import ConfigError
from spamd.service.door import Door, TurnedAway
from spamd.service.judge import MessageJudge
from spamd.service.listening import Neighbourhood, client_of, open_listeners, own_hostname
from spamd.service.memory import Memory
from spamd.smtp.handler import MessageHandler, Policy
from spamd.smtp.limits import Admission
from spamd.smtp.next_hop import NextHop, Tls
from spamd.smtp.outbox import Outbox
from spamd.smtp.proxy_protocol import Peer, announced_client
from spamd.smtp.relay import Timeouts
from spamd.smtp.session import FilterSMTP
from spamd.smtp.tls import CLOSE_SECONDS, HANDSHAKE_SECONDS, next_hop_context, reason_of, server_context

__all__ = ["FilterSMTP", "Proxy", "start_proxy"]


async def start_proxy(
    settings: SmtpSettings,
    judge: MessageJudge,
    *,
    actions: ActionSettings | None = None,
    on_failure: str = "pass",
    deadline_seconds: float = 20.0,
    sockets: Sequence[socket.socket] = (),
    tls_sockets: Sequence[socket.socket] = (),
) -> "Proxy":
    """Start to listen and to filter.

    Args:
        settings: addresses, limits and timeouts.
        judge: says what a message is.
        actions: what is done with spam; None tags it.
        on_failure: `pass` or `defer`: what becomes of a message without a verdict.
        deadline_seconds: the judge's own deadline; it is given up somewhat later.
        sockets: listening sockets to take instead of opening some.
        tls_sockets: likewise, for TLS from the first byte.

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
    tls, next_hop_tls = tls_for_clients(settings), tls_for_next_hop(settings)
    if tls_sockets and not tls:
        raise ConfigError("systemd handed over a socket named smtps, for TLS; set smtp.tls_certificate, or take the socket away.")
    listeners = list(sockets) or await open_listeners(settings.listen, "smtp.listen", settings.listen_mode)
    tls_listeners = list(tls_sockets)
    if settings.listen_tls and not tls_listeners:
        try:
            tls_listeners = await open_listeners(settings.listen_tls, "smtp.listen_tls", settings.listen_mode)
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
    return Proxy(
        settings,
        hostname,
        MessageHandler(judge, policy),
        listeners,
        tls_listeners=tls_listeners,
        tls=tls,
        next_hop_tls=next_hop_tls,
    )


class Proxy:
    """A running proxy.

    Args:
        settings: limits and timeouts.
        hostname: our name.
        handler: takes the messages.
        listeners: sockets to accept on; closed with the proxy.
        tls_listeners: those on which TLS begins with the first byte.
        tls: what TLS with clients needs; None has none.
        next_hop_tls: how connections to the next hop are encrypted; None leaves them plain.
    """

    def __init__(
        self,
        settings: SmtpSettings,
        hostname: str,
        handler: MessageHandler,
        listeners: Sequence[socket.socket],
        *,
        tls_listeners: Sequence[socket.socket] = (),
        tls: ssl.SSLContext | None = None,
        next_hop_tls: Tls | None = None,
    ) -> None:
        self._settings = settings
        self._hostname = hostname
        self._handler = handler
        self._tls = tls
        self._tls_listeners = frozenset(tls_listeners)
        self._next_hop = NextHop(
            settings.next_hop,
            protocol=settings.next_hop_protocol,
            hostname=hostname,
            timeouts=Timeouts(
                connect_seconds=settings.next_hop_connect_timeout_seconds,
                command_seconds=settings.next_hop_command_timeout_seconds,
                dot_seconds=settings.next_hop_dot_timeout_seconds,
            ),
            tls=next_hop_tls,
        )
        self._admission = Admission(settings.allowed_clients, settings.max_connections_per_client)
        self._load_balancers = Neighbourhood(settings.proxy_protocol_from)
        self._memory = Memory(settings.max_memory_bytes)
        self._outbox = Outbox()
        self._door = Door([*listeners, *tls_listeners], settings.max_connections, self._bring_in)

    @property
    def addresses(self) -> list[str]:
        """Where it listens, in the form that settings take."""
        return self._door.addresses

    @property
    def num_sessions(self) -> int:
        """Sessions that are open now."""
        return self._door.num_sessions

    def renew_certificate(self) -> None:
        """Read our certificate and its key anew, for the sessions to come.

        Raises:
            ConfigError: they cannot be used; the old ones stay.
        """
        self._tls = tls_for_clients(self._settings)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109  the deadline of the whole, not of one wait
        """Stop in order: accept nothing new, tell idle sessions 421, let messages in flight finish, and close.

        Args:
            timeout: seconds after which what is still in flight is given up; its senders try again.
        """
        await self._door.drain(timeout)
        self._next_hop.close()

    async def close(self) -> None:
        """Stop at once; what is in flight is given up, and its senders try again."""
        await self._door.close()
        self._next_hop.close()

    async def _bring_in(self, connection: socket.socket, listener: socket.socket) -> FilterSMTP:
        """Begin a session, behind a PROXY header and TLS where they are due."""
        peer = announced = None
        with contextlib.suppress(OSError):
            peer = Peer(client_of(connection))
        if peer is None:
            raise TurnedAway("it was closed at once")
        if peer.address and peer.address in self._load_balancers:
            announced = await announced_client(connection)
        is_encrypted = listener in self._tls_listeners
        session = FilterSMTP(
            self._settings,
            hostname=self._hostname,
            next_hop=self._next_hop,
            handler=self._handler,
            admission=self._admission,
            memory=self._memory,
            outbox=self._outbox,
            client=announced or peer,
            is_announced=announced is not None,
            tls=None if is_encrypted else self._tls,
        )
        if is_encrypted:
            await self._encrypt(session, connection)
        else:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: session, connection)
        return session

    async def _encrypt(self, session: FilterSMTP, connection: socket.socket) -> None:
        """Begin a session in TLS."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: session,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=CLOSE_SECONDS,
            )
        except OSError as error:
            raise TurnedAway(f"no TLS came about: {reason_of(error)}") from None


def tls_for_clients(settings: SmtpSettings) -> ssl.SSLContext | None:
    """Make what TLS with clients needs; None where the settings name no certificate.

    Raises:
        ConfigError: a file cannot be used.
    """
    return server_context(settings.tls_certificate, settings.tls_key) if settings.tls_certificate else None


def tls_for_next_hop(settings: SmtpSettings) -> Tls | None:
    """Say how connections to the next hop are encrypted; None where they are not.

    Raises:
        ConfigError: the file of authorities cannot be used.
    """
    if settings.next_hop_tls == "off":
        return None
    context = next_hop_context(ca=settings.next_hop_tls_ca, check=settings.next_hop_tls_check)
    return Tls(context, settings.next_hop_tls_name, is_implicit=settings.next_hop_tls == "implicit")


def _instance(hostname: str, listen: str) -> str:
    """An id for this proxy that stays the same from start to start, so that loops are seen across restarts."""
    return hashlib.sha256(f"{hostname} {listen}".encode()).hexdigest()[:12]
