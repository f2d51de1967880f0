"""Who may connect, and how much mail may be held."""

import pytest

from spamd.smtp import replies
from spamd.smtp.limits import COPIES, Admission, Holding, Memory
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


def test_memory_is_shared():
    """What one message holds, another cannot have; what it gives back, it can."""
    memory = Memory(COPIES * 100)
    first, second = Holding(memory, 1000), Holding(memory, 1000)

    assert (True, False, replies.NO_MEMORY) == (first.keep(60), second.keep(60), second.refusal)
    first.release()
    assert True is Holding(memory, 1000).keep(100)


def test_a_message_alone_always_passes():
    """Where nothing else is in flight, a message may exceed the memory: else it would come back for ever."""
    memory = Memory(100)
    first, second = Holding(memory, 1000), Holding(memory, 1000)

    assert [True, True, False] == [first.keep(90), first.keep(90), second.keep(1)]


def test_big_messages_give_back_what_they_held():
    """A message that proves too big holds nothing from then on."""
    memory = Memory(10 * CHUNK_BYTES)
    holding = Holding(memory, CHUNK_BYTES)

    assert [True, True, False] == [holding.keep(CHUNK_BYTES) for _ in range(3)]
    assert (replies.TOO_BIG, False) == (holding.refusal, memory.is_full)
    assert True is Holding(memory, 10 * CHUNK_BYTES).keep(5 * CHUNK_BYTES)
    assert True is memory.is_full
