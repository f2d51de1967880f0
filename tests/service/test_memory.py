"""How much mail is held, whatever the door."""

from spamd.service.memory import Holding, Memory, Outcome


def test_memory_is_shared():
    """What one message holds, another cannot have; what it gives back, it can."""
    memory = Memory(200)
    first, second = Holding(memory, 1000, num_copies=2), Holding(memory, 1000, num_copies=2)

    assert (Outcome.KEPT, Outcome.NO_ROOM) == (first.keep(60), second.keep(60))
    first.release()
    assert Outcome.KEPT is second.keep(100)


def test_a_message_alone_always_passes():
    """Where nothing else is in flight, a message may exceed the memory: else it would come back for ever."""
    memory = Memory(100)
    first, second = Holding(memory, 1000, num_copies=3), Holding(memory, 1000, num_copies=3)

    assert [Outcome.KEPT, Outcome.KEPT, Outcome.NO_ROOM] == [first.keep(90), first.keep(90), second.keep(1)]


def test_messages_have_a_size():
    """A message past its size is too big; where it is counted anew in another form, both are held."""
    memory = Memory(10_000)
    holding = Holding(memory, 100, num_copies=1)

    assert (Outcome.KEPT, Outcome.TOO_BIG, 101) == (holding.keep(100), holding.keep(1), holding.num_bytes)
    holding.count_anew()
    assert (Outcome.KEPT, 100) == (holding.keep(100), holding.num_bytes)
    assert (True, False) == (memory.has_room(9_800), memory.has_room(9_801))


def test_something_always_fits_where_nothing_is_held():
    """A memory that is smaller than the least message does not keep all mail out for ever."""
    memory = Memory(10)

    assert True is memory.has_room(100)
    assert memory.take(1, 0)
    assert False is memory.has_room(100)
