"""Waiting for something to happen on a connection, or for a deadline, at the price of a future.

`asyncio.timeout` costs more than all else in a wait, of which there are a dozen for each message, and so does a timer for each:
here one timer is let run from wait to wait and looks again when it fires. Knows nothing of connections. Called by `wire`, `relay`
and `session`.
"""

import asyncio
import math
from collections.abc import Callable


class Bell:
    """What one task waits for and whatever else rings."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[bool] | None = None
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        # Not asked of the timer: for a deadline within the millisecond uvloop gives out a handle that knows no time.
        self._fires_at = math.inf

    async def wait(self, deadline: float = math.inf) -> bool:
        """Wait until it rings.

        Args:
            deadline: on the loop's clock.

        Returns:
            Whether it rang before the deadline.
        """
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiter, self._deadline = waiter, deadline
        if math.isfinite(deadline) and (self._timer is None or self._fires_at > deadline):
            self._set_timer()
        try:
            return await waiter
        finally:
            self._waiter = None

    def ring(self) -> None:
        """Wake whoever waits."""
        self._answer(in_time=True)

    def close(self) -> None:
        """Stop the timer; nobody will wait any more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _answer(self, *, in_time: bool) -> None:
        """End the wait, if there is one."""
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(in_time)

    def _set_timer(self) -> None:
        """Make the timer fire at the deadline."""
        self.close()
        self._timer, self._fires_at = asyncio.get_running_loop().call_at(self._deadline, self._expire), self._deadline

    def _expire(self) -> None:
        """The timer: its wait may have ended long ago, and another one with a later deadline be on."""
        self._timer = None
        if self._waiter is None or not math.isfinite(self._deadline):
            return
        if asyncio.get_running_loop().time() < self._deadline:
            self._set_timer()
        else:
            self._answer(in_time=False)


class Patience:
    """Time that is given anew again and again, until it runs out once.

    Args:
        seconds: how much each time.
        run_out: called when nobody gave any more.
    """

    def __init__(self, seconds: float, run_out: Callable[[], None]) -> None:
        self._seconds = seconds
        self._run_out = run_out
        self._ends = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def renew(self) -> None:
        """Give time from now on."""
        loop = asyncio.get_running_loop()
        self._ends = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(self._ends, self._look)

    def end(self) -> None:
        """Watch no longer; nothing is held any more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """The timer: more time may have been given since it was set."""
        loop = asyncio.get_running_loop()
        self._timer = None
        if loop.time() < self._ends:
            self._timer = loop.call_at(self._ends, self._look)
        else:
            self._run_out()
