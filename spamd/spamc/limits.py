"""How much mail is held in memory at once. Counts and says no; called by `session`, shared through `server`.

Security: clients say nothing true about what they will send, so that bytes are counted as they come.
"""

from spamd.spamc.protocol import UNAVAILABLE, Refused, too_big

COPIES = 3
"""A message in flight is held as it came, unpacked or without its mbox line, and in the reply."""


class Memory:
    """The bytes that all messages in flight may hold together.

    Args:
        max_bytes: the limit.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_held = 0

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
    """What one message holds of the memory.

    Args:
        memory: shared by all.
        max_bytes: what one message may have.
    """

    def __init__(self, memory: Memory, max_bytes: int) -> None:
        self._memory = memory
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._num_taken = 0

    def keep(self, num_bytes: int) -> None:
        """Count bytes that came.

        Raises:
            Refused: they are too many for one message.
        """
        self._num_bytes += num_bytes
        if self._num_bytes > self._max_bytes:
            raise too_big(self._max_bytes)
        self._reserve(COPIES * num_bytes)

    def count_anew(self) -> None:
        """Start to count the same message in another form, beside the first."""
        self._num_bytes = 0

    def _reserve(self, num_bytes: int) -> None:
        """Reserve memory.

        Raises:
            Refused: others hold it.
        """
        if not self._memory.take(num_bytes, self._num_taken):
            raise Refused(UNAVAILABLE, "too much mail at once, try again")
        self._num_taken += num_bytes

    def release(self) -> None:
        """Give everything back."""
        self._memory.give(self._num_taken)
        self._num_taken = 0
