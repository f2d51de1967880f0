"""Who may connect, and how much of a message is taken in."""

import pytest

from spamd.service.memory import Memory
from spamd.smtp import replies
from spamd.smtp.limits import COPIES, Admission, Intake
from spamd.smtp.wire import CHUNK_BYTES

LOOPBACK = ("127.0.0.0/8", "::1/128")


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("127.0.0.1", None),
        ("127.9.9.9", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("", None),
        ("192.0.2.1", replies.NOT_ALLOWED),
        ("2001:db8::1", replies.NOT_ALLOWED),
        ("::ffff:192.0.2.1", replies.NOT_ALLOWED),
    ],
)
def test_only_named_networks_are_let_in(client, expected):
    """Loopback clients and those of UNIX sockets are served, others are not: no open relay by default."""
    assert expected == Admission(LOOPBACK, 10).enter(client)


def test_connections_are_counted_per_client():
    """One client's connections are limited, another's are not affected, and a closed one makes room."""
    admission = Admission(LOOPBACK, 2)
    entered = [admission.enter(client) for client in ("127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.1")]
    admission.leave("127.0.0.1")
    admission.leave("127.0.0.1")

    assert [None, None, None, replies.TOO_MANY_CONNECTIONS] == entered
    assert None is admission.enter("127.0.0.1")


class FixedReader:
    """Brings a message in chunks, as the wire would."""

    def __init__(self, *sizes):
        self.sizes = sizes

    async def read_message(self, keep, **_):
        """Ask for each chunk whether it is kept."""
        return b"x" * sum(self.sizes) if all(list(map(keep, self.sizes))) else None


async def test_memory_is_shared():
    """What one message holds, another cannot have and is told to come back; what it gives back, it can."""
    memory = Memory(COPIES * 100)
    first, second = Intake(memory, 1000), Intake(memory, 1000)

    assert (60, None) == (len(await first.read(FixedReader(60), 1)), await second.read(FixedReader(60), 1))
    assert replies.NO_MEMORY is second.refusal
    first.release()
    assert 100 == len(await Intake(memory, 1000).read(FixedReader(100), 1))


async def test_big_messages_give_back_what_they_held():
    """A message that proves too big is refused for good, and holds nothing from then on."""
    memory = Memory(10 * CHUNK_BYTES)
    intake = Intake(memory, CHUNK_BYTES)

    assert None is await intake.read(FixedReader(*[CHUNK_BYTES] * 3), 1)
    assert (replies.TOO_BIG, 3 * CHUNK_BYTES) == (intake.refusal, intake.num_bytes)
    assert memory.has_room(10 * CHUNK_BYTES)


async def test_sizes_are_exact():
    """What follows the dot in the last chunk does not count, and one byte too many does."""
    intake = Intake(Memory(10 * CHUNK_BYTES), 100)

    assert 100 == len(await intake.read(FixedReader(100), 1))
    assert None is await intake.read(FixedReader(101), 1)
    assert replies.TOO_BIG is intake.refusal
