"""Who may connect, how often, and how much of a message is taken in.

Counts and says yes or no; opens nothing and closes nothing. Called by `session`, made by `server`.

Security: a proxy that serves everyone is an open relay, so that only the networks named are let in, loopback by default.
"""

from collections import Counter
from collections.abc import Iterable

from spamd.service.listening import Neighbourhood
from spamd.service.memory import Holding, Memory, Outcome
from spamd.smtp import replies
from spamd.smtp.replies import Reply
from spamd.smtp.wire import CHUNK_BYTES, NoEnd, WireReader

COPIES = 3
"""A message in flight is held as it came, again where its line ends were put right, and without dot-stuffing for the judge."""

MAX_DROPPED_FACTOR = 4
"""A message that is not kept is read on to its end, up to so many times what one may have."""

LEAST_BYTES = COPIES * CHUNK_BYTES
"""Without room for this, no message is begun."""


class Admission:
    """Decides who may connect.

    Args:
        networks: networks of allowed clients; a client without an address (a Unix socket) is always allowed.
        max_per_client: connections that one address may have.
    """

    def __init__(self, networks: Iterable[str], max_per_client: int) -> None:
        self._neighbourhood = Neighbourhood(networks)
        self._max_per_client = max_per_client
        self._num_connections: Counter[str] = Counter()

    def enter(self, client: str) -> Reply | None:
        """Count a connection in.

        Args:
            client: its address, or empty.

        Returns:
            None where it is welcome, else what to tell it. Either way `leave` must be called at its end.
        """
        self._num_connections[client] += 1
        if client not in self._neighbourhood:
            return replies.NOT_ALLOWED
        return replies.TOO_MANY_CONNECTIONS if self._num_connections[client] > self._max_per_client else None

    def leave(self, client: str) -> None:
        """Count a connection out."""
        self._num_connections[client] -= 1
        if not self._num_connections[client]:
            del self._num_connections[client]


class Intake:
    """Takes one message in, unless it is too much.

    Args:
        memory: shared by all.
        max_bytes: what one message may have.

    Attributes:
        refusal: what the client is told where the message is not kept.
    """

    def __init__(self, memory: Memory, max_bytes: int) -> None:
        self.refusal = replies.NO_MEMORY
        # The last chunk may hold the terminating dot and commands behind it; the exact size is looked at afterwards.
        self._holding = Holding(memory, max_bytes + CHUNK_BYTES, COPIES)
        self._max_bytes = max_bytes

    @property
    def num_bytes(self) -> int:
        """How much of it came, with what followed it in the same chunk."""
        return self._holding.num_bytes

    async def read(self, reader: WireReader, stall_seconds: float) -> bytes | None:
        """Read the message.

        Args:
            reader: brings it.
            stall_seconds: how long the client may be silent.

        Returns:
            The message in wire form; None where it is not kept, and `refusal` then says why.
        """
        try:
            wire = await reader.read_message(
                self._keep, stall_seconds=stall_seconds, max_dropped_bytes=MAX_DROPPED_FACTOR * self._max_bytes
            )
        except TimeoutError:
            self._refuse(replies.DATA_TOO_SLOW)
            return None
        except NoEnd:
            self._refuse(replies.DATA_TOO_LONG)
            return None
        if wire is not None and len(wire) > self._max_bytes:
            self._refuse(replies.TOO_BIG)
            return None
        return wire

    def release(self) -> None:
        """Give everything back."""
        self._holding.release()

    def _keep(self, num_bytes: int) -> bool:
        """Reserve for bytes that came; where they do not fit, give back what was held and say no."""
        outcome = self._holding.keep(num_bytes)
        if outcome is not Outcome.KEPT:
            self._refuse(REFUSALS[outcome])
        return outcome is Outcome.KEPT

    def _refuse(self, reply: Reply) -> None:
        """Decide that the message is not kept."""
        self.refusal = reply
        self.release()


REFUSALS = {Outcome.TOO_BIG: replies.TOO_BIG, Outcome.NO_ROOM: replies.NO_MEMORY}
"""What the client is told of a message that is not kept."""
