"""How much mail is held in memory at once, whatever the protocol that brings it. Counts and says no; opens and closes nothing.

Called by `smtp.limits` and `spamc.session`, made by their servers.

Security: clients say nothing true about what they will send, so that bytes are counted as they come.
"""

from enum import Enum, auto


class Outcome(Enum):
    """What became of a wish to keep bytes."""

    KEPT = auto()
    TOO_BIG = auto()
    """The message is larger than one may be."""
    NO_ROOM = auto()
    """Others hold the memory."""


class Memory:
    """The bytes that all messages in flight may hold together.

    Args:
        max_bytes: the limit.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_held = 0

    def has_room(self, num_bytes: int) -> bool:
        """Tell whether a message of some bytes could begin; where nothing is held at all, any can."""
        return self._num_held + num_bytes <= max(self._max_bytes, num_bytes)

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
        num_copies: how often each byte is held at the most.

    Attributes:
        num_bytes: how much of the message came.
    """

    def __init__(self, memory: Memory, max_bytes: int, num_copies: int) -> None:
        self.num_bytes = 0
        self._memory = memory
        self._max_bytes = max_bytes
        self._num_copies = num_copies
        self._num_taken = 0

    def keep(self, num_bytes: int) -> Outcome:
        """Count bytes that came, and reserve for them."""
        self.num_bytes += num_bytes
        if self.num_bytes > self._max_bytes:
            return Outcome.TOO_BIG
        if not self._memory.take(self._num_copies * num_bytes, self._num_taken):
            return Outcome.NO_ROOM
        self._num_taken += self._num_copies * num_bytes
        return Outcome.KEPT

    def count_anew(self) -> None:
        """Start to count the same message in another form, beside the first."""
        self.num_bytes = 0

    def release(self) -> None:
        """Give everything back."""
        self._memory.give(self._num_taken)
        self._num_taken = 0
