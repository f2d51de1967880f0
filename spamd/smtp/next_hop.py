"""The next hop as a place: where connections to it come from and where they wait between messages.

A connection that took its last message well is kept for the next one; any other is closed. Kept ones are looked at before they
are given out again, because the next hop may have said 421 in the meantime. No message is ever seen here. Called by
`transaction`, `session` (for the capabilities) and `server`, which makes it.

Security: opens connections to the one configured address and nowhere else.
"""

import asyncio
from collections.abc import Mapping

from spamd.errors import RelayError
from spamd.smtp.relay import Connection, Timeouts

MAX_KEPT = 20
"""Each kept connection holds one process of the next hop; Postfix has 100 by default."""

MAX_MESSAGES = 100
KEPT_SECONDS = 60.0
PROBE_AFTER_SECONDS = 15.0
"""After this long in idleness a connection proves with NOOP that it lives."""

FRESH_SECONDS = 60.0
"""For this long, what EHLO announced is believed without asking again."""


class NextHop:
    """Gives out connections to the next hop.

    Args:
        address: `host:port`, `[v6]:port` or `unix:/path`.
        protocol: `smtp` or `lmtp`.
        hostname: our name, for EHLO.
        timeouts: how long to wait.
    """

    def __init__(self, address: str, *, protocol: str = "smtp", hostname: str, timeouts: Timeouts | None = None) -> None:
        self.is_lmtp = protocol == "lmtp"
        self._address = address
        self._hostname = hostname
        self._timeouts = timeouts or Timeouts()
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
        """Open a new connection and introduce ourselves.

        Raises:
            RelayError: the next hop cannot be reached or does not want to talk to us.
        """
        connection = Connection(self._address, self._timeouts)
        try:
            await self._open(connection)
            await connection.greet(b"LHLO" if self.is_lmtp else b"EHLO", self._hostname)
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
        """Make the TCP or UNIX connection."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeouts.connect_seconds):
                if self._address.startswith("unix:"):
                    await loop.create_unix_connection(lambda: connection, self._address.removeprefix("unix:"))
                else:
                    host, _, port = self._address.rpartition(":")
                    await loop.create_connection(lambda: connection, host.strip("[]"), int(port))
        except TimeoutError:
            reason = f"did not take a connection within {self._timeouts.connect_seconds:g} s"
        except OSError as error:
            reason = f"cannot be reached ({error.strerror or type(error).__name__}); check smtp.next_hop and that it runs"
        else:
            return
        raise RelayError(f"The next hop {self._address} {reason}.")

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
