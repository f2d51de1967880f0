"""How much mail is held."""

import pytest

from spamd.spamc.limits import COPIES, Holding, Memory
from spamd.spamc.protocol import Refused


def test_memory_is_shared():
    """What one message holds, another cannot have; what it gives back, it can."""
    memory = Memory(COPIES * 100)
    first, second = Holding(memory, 1000), Holding(memory, 1000)
    first.keep(60)
    with pytest.raises(Refused, match="too much mail at once"):
        second.keep(60)
    first.release()
    second.keep(60)
    second.release()

    assert True is memory.take(COPIES * 100, 0)


def test_a_message_alone_always_passes():
    """Where nothing else is in flight, a message may exceed the memory: else it would never pass."""
    Holding(Memory(10), 1000).keep(1000)


def test_messages_have_a_size():
    """A message past its size is refused with the setting's name; packed and unpacked bytes are counted apart."""
    holding = Holding(Memory(10_000), 100)
    holding.keep(100)
    holding.count_anew()
    holding.keep(100)
    with pytest.raises(Refused, match=r"larger than spamc\.max_message_bytes \(100\)"):
        holding.keep(1)
