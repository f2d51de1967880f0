"""What goes out in one turn of the event loop."""

import asyncio

import pytest

from spamd.smtp.outbox import Outbox


class Transport(asyncio.WriteTransport):
    """Notes what is written; all of a test's transports share one list."""

    def __init__(self, written):
        super().__init__()
        self.written = written
        self.is_closed = False

    def write(self, data):
        """Note it."""
        assert not self.is_closed
        self.written.append(bytes(data))

    def is_closing(self):
        """Whether it is."""
        return self.is_closed


@pytest.fixture
def written():
    """What was written, in order."""
    return []


@pytest.fixture
def transport(written):
    """Where pieces go."""
    return Transport(written)


async def turn():
    """Let the loop have a turn."""
    await asyncio.sleep(0)


async def test_the_first_piece_of_a_turn_waits_for_nothing(transport, written):
    """A session that is alone is answered at once, turn after turn."""
    outbox = Outbox()

    outbox.send(transport, b"one")
    assert written == [b"one"]
    await turn()
    outbox.send(transport, b"two")
    assert written == [b"one", b"two"]


async def test_others_go_out_in_order_at_the_end_of_the_turn(transport, written):
    """What many sessions say in a turn goes out together, the pieces of each in their order."""
    outbox, other = Outbox(), Transport(written)

    for name, where in ((b"a", transport), (b"b", other), (b"c", transport)):
        outbox.send(where, name)
    assert written == [b"a"]
    await turn()

    assert written == [b"a", b"b", b"c"]


async def test_what_waits_goes_out_before_a_close(transport, written):
    """Flushed pieces are sent, once."""
    outbox = Outbox()

    outbox.send(transport, b"a")
    outbox.send(transport, b"b")
    outbox.flush()
    assert written == [b"a", b"b"]
    await turn()

    assert written == [b"a", b"b"]


async def test_a_transport_that_is_gone_keeps_nobody_else_waiting(transport, written):
    """Pieces to it are dropped, others go out."""
    outbox, gone = Outbox(), Transport(written)

    for name, where in ((b"a", transport), (b"lost", gone), (b"b", transport)):
        outbox.send(where, name)
    gone.is_closed = True
    await turn()

    assert written == [b"a", b"b"]
