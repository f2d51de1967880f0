"""Waiting for something to happen, or for a deadline."""

import asyncio

import pytest

from spamd.smtp.bell import Bell, Patience


@pytest.fixture
async def bell():
    """A bell."""
    made = Bell()
    yield made
    made.close()


def at(seconds):
    """A deadline so many seconds from now."""
    return asyncio.get_running_loop().time() + seconds


async def test_it_wakes_who_waits(bell):
    """A wait ends when it rings, with and without a deadline."""
    answers = []
    for deadline in (at(10), float("inf")):
        asyncio.get_running_loop().call_soon(bell.ring)
        answers.append(await bell.wait(deadline))

    assert [True, True] == answers


async def test_nobody_waits_for_ever(bell):
    """A wait ends at its deadline, and one whose deadline is past ends at once."""
    assert [False, False] == [await bell.wait(at(0.02)), await bell.wait(at(-1))]


@pytest.mark.parametrize(("first", "second"), [(0.01, 0.06), (10, 0.06)])
async def test_each_wait_has_its_own_deadline(bell, first, second):
    """The timer of an earlier wait ends no later one, be its deadline sooner or later."""
    asyncio.get_running_loop().call_soon(bell.ring)
    await bell.wait(at(first))
    started = asyncio.get_running_loop().time()
    answer = await bell.wait(at(second))

    assert not answer
    assert 0.055 < asyncio.get_running_loop().time() - started < 5


async def test_a_wait_may_follow_one_that_was_due_at_once(bell):
    """The timer of a deadline within the millisecond is another to uvloop; the next wait has its own all the same."""
    given_up = bell.wait(at(0))
    given_up.send(None)
    given_up.close()
    started = asyncio.get_running_loop().time()
    answer = await bell.wait(at(0.06))

    assert not answer
    assert 0.055 < asyncio.get_running_loop().time() - started < 5


async def test_an_old_timer_does_not_end_a_wait_without_deadline(bell):
    """Who waits for ever is woken by the bell alone."""
    asyncio.get_running_loop().call_soon(bell.ring)
    await bell.wait(at(0.01))
    asyncio.get_running_loop().call_later(0.05, bell.ring)

    assert await bell.wait()


async def test_ringing_for_nobody_is_forgotten(bell):
    """What happened before a wait began does not end it."""
    bell.ring()

    assert not await bell.wait(at(0.02))


async def test_waits_can_be_cancelled(bell):
    """A task that is stopped while it waits leaves the bell as it was."""
    task = asyncio.ensure_future(bell.wait(at(10)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    bell.ring()
    asyncio.get_running_loop().call_soon(bell.ring)

    assert await bell.wait(at(10))


async def test_patience_that_is_renewed_does_not_run_out():
    """Time counts from the last renewal, and runs out once."""
    ends = []
    patience = Patience(0.2, lambda: ends.append(asyncio.get_running_loop().time()))
    for _ in range(4):
        patience.renew()
        last = asyncio.get_running_loop().time()
        await asyncio.sleep(0.1)
    assert [] == ends

    await asyncio.sleep(0.5)

    assert 1 == len(ends)
    assert ends[0] >= last + 0.19


async def test_patience_that_is_ended_does_not_run_out():
    """Nothing is called after the end."""
    ends = []
    patience = Patience(0.02, lambda: ends.append(1))
    patience.renew()
    patience.end()

    await asyncio.sleep(0.1)

    assert [] == ends
