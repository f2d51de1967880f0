"""What goes out in one turn of the event loop: the first piece at once, the others together at its end.

A write wakes whoever reads, which takes the processor from us where there are few. A turn that serves twenty sessions is through
sooner when it wakes the others at its end, and a session that is alone waits for nothing; `benchmarks/proxy.py` shows both. Knows
nothing of SMTP. Made by `server` and `next_hop`; called by `session` and `relay`.
"""

import asyncio


class Outbox:
    """Replies to all clients, or commands to the next hop, on their way out.

    Nothing may be written to a transport, and none closed in peace, that pieces may still wait for: `flush` comes first.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.WriteTransport, bytes | memoryview]] = []
        self._is_within_turn = False

    def send(self, transport: asyncio.WriteTransport, piece: bytes | memoryview) -> None:
        """Send a piece in this turn of the loop.

        Args:
            transport: where to; if it is closed by the time, the piece is lost like any that was just sent.
            piece: what.
        """
        if self._is_within_turn:
            self._waiting.append((transport, piece))
            return
        self._is_within_turn = True
        asyncio.get_running_loop().call_soon(self._end_turn)
        transport.write(piece)

    def flush(self) -> None:
        """Send what waits, at once."""
        waiting, self._waiting = self._waiting, []
        for transport, piece in waiting:
            if not transport.is_closing():
                transport.write(piece)

    def _end_turn(self) -> None:
        """The loop: whatever else was due in this turn is done."""
        self._is_within_turn = False
        self.flush()
