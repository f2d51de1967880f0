"""Who may connect, how often, and how much mail is held in memory at once.

Counts and says yes or no; opens nothing and closes nothing. Called by `session`, made by `server`.

Security: a proxy that serves everyone is an open relay, so that only the networks named are let in, loopback by default.
"""

from collections import Counter
from collections.abc import Iterable

from spamd.service.listening import Neighbourhood
from spamd.smtp import replies
from spamd.smtp.replies import Reply
from spamd.smtp.wire import CHUNK_BYTES

COPIES = 2
"""A message in flight is held as it came and once more: without dot-stuffing for the judge, then with our fields."""


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


class Memory:
    """The bytes that all messages in flight may hold together.

    Args:
        max_bytes: the limit.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_held = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing more can be taken in."""
        return self._num_held + COPIES * CHUNK_BYTES > max(self._max_bytes, COPIES * CHUNK_BYTES)

    def take(self, num_bytes: int, num_held: int) -> bool:
        """Reserve for one message; what is held by it alone may exceed the limit, or the largest would never pass.

        Args:
            num_bytes: how much more it needs.
            num_held: how much it holds already.

        Returns:
            Whether there was room.
        """
        if self._num_held + num_bytes > self._max_bytes and self._num_held > num_held:
            return False
        self._num_held += num_bytes
        return True

    def give(self, num_bytes: int) -> None:
        """Give back what was reserved."""
        self._num_held -= num_bytes


class Holding:
    """What one message holds of the memory while it comes in and passes.

    Args:
        memory: shared by all.
        max_bytes: what one message may have.

    Attributes:
        refusal: what the client is told where the message is not kept.
        num_bytes: how much of it came, with what followed it in the same chunk.
    """

    def __init__(self, memory: Memory, max_bytes: int) -> None:
        self.refusal = replies.NO_MEMORY
        self.num_bytes = 0
        self._memory = memory
        # The last chunk may hold the terminating dot and commands behind it; `session` looks at the exact size afterwards.
        self._max_bytes = max_bytes + CHUNK_BYTES
        self._num_taken = 0

    def keep(self, num_bytes: int) -> bool:
        """Reserve for bytes that came; where they do not fit, give back what was held and say no."""
        self.num_bytes += num_bytes
        if self.num_bytes > self._max_bytes:
            self.refuse(replies.TOO_BIG)
        elif self._memory.take(COPIES * num_bytes, self._num_taken):
            self._num_taken += COPIES * num_bytes
            return True
        else:
            self.refuse(replies.NO_MEMORY)
        return False

    def refuse(self, reply: Reply) -> None:
        """Decide that the message is not kept."""
        self.refusal = reply
        self.release()

    def release(self) -> None:
        """Give everything back."""
        self._memory.give(self._num_taken)
        self._num_taken = 0
