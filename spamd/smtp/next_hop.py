"""The next hop as a place: where connections to it come from and where they wait between messages.

A connection that took its last message well is kept for the next one; any other is closed. Kept ones are looked at before they
are given out again, because the next hop may have said 421 in the meantime. No message is ever seen here. Called by
`transaction`, `commands` (for the capabilities) and `server`, which makes it.

Security: opens connections to the one configured address and nowhere else. Where TLS is wanted there is no connection without it:
a next hop that does not offer it, or whose certificate is not to be trusted, counts as one that cannot be reached.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from spamd.errors import RelayError
from spamd.smtp.outbox import Outbox
from spamd.smtp.relay import Connection, Timeouts
from spamd.smtp.tls import CLOSE_SECONDS, reason_of

MAX_KEPT = 20
"""Each kept connection holds one process of the next hop; Postfix has 100 by default."""

MAX_MESSAGES = 100
KEPT_SECONDS = 60.0
PROBE_AFTER_SECONDS = 15.0
"""After this long in idleness a connection proves with NOOP that it lives."""

FRESH_SECONDS = 60.0
"""For this long, what EHLO announced is believed without asking again."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How connections to the next hop are encrypted.

    Attributes:
        context: says whom to trust.
        name: the name that its certificate must bear; empty takes the host of its address.
        is_implicit: whether TLS begins with the first byte, not with STARTTLS.
    """

    context: ssl.SSLContext
    name: str = ""
    is_implicit: bool = False


class NextHop:
    """Gives out connections to the next hop.

    Args:
        address: `host:port`, `[v6]:port` or `unix:/path`.
        protocol: `smtp` or `lmtp`.
        hostname: our name, for EHLO.
        timeouts: how long to wait.
        tls: how connections are encrypted; None leaves them plain.
    """

    def __init__(
        self,
        address: str,
        *,
        protocol: str = "smtp",
        hostname: str,
        timeouts: Timeouts | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.is_lmtp = protocol == "lmtp"
        self._address = address
        self._hostname = hostname
        self._timeouts = timeouts or Timeouts()
        self._tls = tls
        self._outbox = Outbox()
        self._kept: list[Connection] = []
        self._capabilities: Mapping[str, str] | None = None
        self._known_since = 0.0
        self._sweeper: asyncio.TimerHandle | None = None

    async def capabilities(self) -> Mapping[str, str]:
        """Say what the next hop announces: keyword -> parameters.

        Asked anew after a while; while it cannot be reached, what it said last is still the best guess.

        Raises:
            RelayError: it cannot be reached and never could.
        """
        if self._capabilities is None or asyncio.get_running_loop().time() - self._known_since > FRESH_SECONDS:
            try:
                self.release(await self.acquire())
            except RelayError:
                if self._capabilities is None:
                    raise
        return self._capabilities or {}

    async def acquire(self) -> Connection:
        """Give out a connection on which no transaction is open: a kept one that still lives, or a new one.

        Raises:
            RelayError: no connection can be had.
        """
        while self._kept:
            connection = self._kept.pop()
            if await self._is_alive(connection):
                self._learn(connection)
                return connection
        return await self.connect()

    async def connect(self) -> Connection:
        """Open a new connection, encrypted where that is wanted, and introduce ourselves.

        Raises:
            RelayError: the next hop cannot be reached or does not want to talk to us.
        """
        connection = Connection(self._address, self._timeouts, self._outbox)
        verb = b"LHLO" if self.is_lmtp else b"EHLO"
        try:
            await self._open(connection)
            await connection.greet()
            await connection.introduce(verb, self._hostname)
            if self._tls and not self._tls.is_implicit:
                await self._start_tls(connection, self._tls)
                await connection.introduce(verb, self._hostname)
        except BaseException:
            connection.abort()
            raise
        self._learn(connection)
        return connection

    def release(self, connection: Connection) -> None:
        """Take a connection back on which no transaction is open, nor anything else that the next user could inherit."""
        if not connection.is_silent or connection.num_messages >= MAX_MESSAGES or len(self._kept) >= MAX_KEPT:
            connection.close()
            return
        connection.was_kept = True
        self._kept.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(KEPT_SECONDS / 2, self._sweep)

    def close(self) -> None:
        """Close all kept connections."""
        if self._sweeper:
            self._sweeper.cancel()
            self._sweeper = None
        while self._kept:
            self._kept.pop().close()

    async def _open(self, connection: Connection) -> None:
        """Make the TCP or UNIX connection, in TLS where that begins at once."""
        try:
            async with asyncio.timeout(self._timeouts.connect_seconds):
                await self._reach(connection)
        except TimeoutError:
            reason = f"did not take a connection within {self._timeouts.connect_seconds:g} s"
        except ssl.SSLError as error:
            raise self._not_encrypted(error) from None
        except OSError as error:
            reason = f"cannot be reached ({error.strerror or type(error).__name__}); check smtp.next_hop and that it runs"
        else:
            return
        raise RelayError(f"The next hop {self._address} {reason}.")

    async def _reach(self, connection: Connection) -> None:
        """Connect to the address."""
        loop = asyncio.get_running_loop()
        if self._address.startswith("unix:"):
            await loop.create_unix_connection(lambda: connection, self._address.removeprefix("unix:"))
            return
        host, _, port = self._address.rpartition(":")
        host = host.strip("[]")
        if self._tls and self._tls.is_implicit:
            name = self._tls.name or host
            await loop.create_connection(
                lambda: connection,
                host,
                int(port),
                ssl=self._tls.context,
                server_hostname=name,
                ssl_shutdown_timeout=CLOSE_SECONDS,
            )
        else:
            await loop.create_connection(lambda: connection, host, int(port))

    async def _start_tls(self, connection: Connection, tls: Tls) -> None:
        """Encrypt a connection that began in plain text."""
        if "STARTTLS" not in connection.capabilities:
            raise connection.failure("does not offer STARTTLS; check its TLS settings, or smtp.next_hop_tls")
        reply = await connection.command(b"STARTTLS")
        if not reply.is_positive:
            raise connection.failure(f"refused STARTTLS with {reply.code}; look into its log", reply)
        try:
            await connection.encrypt(tls.context, tls.name or self._address.rpartition(":")[0].strip("[]"))
        except OSError as error:
            raise self._not_encrypted(error) from None

    def _not_encrypted(self, error: OSError) -> RelayError:
        """Say why no TLS came about."""
        if isinstance(error, ssl.SSLCertVerificationError):
            advice = "check smtp.next_hop_tls_ca and smtp.next_hop_tls_name"
            return RelayError(f"The next hop {self._address} has a certificate not to be trusted ({reason_of(error)}); {advice}.")
        advice = "check smtp.next_hop_tls, and the TLS settings there"
        return RelayError(f"The next hop {self._address} and spamd did not come to terms on TLS ({reason_of(error)}); {advice}.")

    async def _is_alive(self, connection: Connection) -> bool:
        """Tell whether a kept connection can be used; one that cannot is closed."""
        is_alive = False
        try:
            is_alive = connection.is_silent
            if is_alive and asyncio.get_running_loop().time() - connection.idle_since > PROBE_AFTER_SECONDS:
                is_alive = (await connection.command(b"NOOP")).is_positive
        except RelayError:
            is_alive = False
        finally:
            if not is_alive:
                connection.abort()
        return is_alive

    def _learn(self, connection: Connection) -> None:
        """Remember what a connection that lives announced."""
        self._capabilities = connection.capabilities
        self._known_since = asyncio.get_running_loop().time()

    def _sweep(self) -> None:
        """Close connections that nobody has needed for a while."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - KEPT_SECONDS
        for connection in [one for one in self._kept if one.idle_since < oldest or not one.is_silent]:
            self._kept.remove(connection)
            connection.close()
        self._sweeper = loop.call_later(KEPT_SECONDS / 2, self._sweep) if self._kept else None
