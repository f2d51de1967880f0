"""The batcher, with engines that do as they are told."""

import asyncio
import threading
import time

import pytest
from fake_engine import FakeEngine

from spamd.errors import ScoringError, ScoringTimeout
from spamd.inference.batching import Batcher
from spamd.inference.scored import Scored

PATIENT = 1e9
"""Seconds that a batch may take where the engine's speed is not the point."""


def _soon():
    """A deadline that no sound test reaches."""
    return asyncio.get_running_loop().time() + 10


async def _begun(engine):
    """Wait until the engine works on a batch."""
    assert await asyncio.to_thread(engine.started.wait, 10)


def _ask(batcher, text):
    """Ask for a score without waiting for it."""
    return asyncio.create_task(batcher.score(text, _soon()))


async def test_a_lone_text_is_scored_at_once():
    """An idle engine gets a single text without waiting for more."""
    engine = FakeEngine()
    batcher = Batcher(engine)
    served = await batcher.score("hello", _soon())

    assert Scored(0.5, 0.9, "one", 5, is_truncated=False) == served.scored
    assert [["hello"]] == engine.batches
    assert served.queue_milliseconds >= 0
    assert served.score_milliseconds >= 0


async def test_what_arrives_meanwhile_forms_the_next_batch():
    """Texts that arrive during a batch are scored together after it, in order."""
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, batch_seconds=PATIENT)
    first = _ask(batcher, "a")
    await _begun(engine)
    rest = [_ask(batcher, text) for text in "bcd"]
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(first, *rest)

    assert [["a"], ["b", "c", "d"]] == engine.batches


async def test_batches_keep_the_token_budget():
    """A batch ends where the estimate passes the budget, and a text above it goes alone."""
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, max_batch_tokens=4, batch_seconds=PATIENT)
    asked = [_ask(batcher, "a")]
    await _begun(engine)
    asked += [_ask(batcher, text) for text in ("bb", "cc", "d", "eeeeee", "f")]
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(*asked)

    assert [["a"], ["bb", "cc"], ["d"], ["eeeeee"], ["f"]] == engine.batches


async def test_a_slow_engine_gets_small_batches():
    """What an engine has shown to take too long together is scored one by one, so that the first need not wait for the last."""

    class Slow(FakeEngine):
        def score(self, texts):
            time.sleep(0.01 * sum(map(len, texts)))
            return super().score(texts)

    engine = Slow()
    batcher = Batcher(engine, batch_seconds=0.05)
    await batcher.score("a" * 10, _soon())
    await asyncio.gather(*[_ask(batcher, text) for text in ("bbb", "ccc", "ddd")])

    assert [["a" * 10], ["bbb"], ["ccc"], ["ddd"]] == engine.batches


async def test_the_loop_answers_while_the_engine_blocks():
    """While a batch blocks in its thread, a coroutine on the loop runs to its end first."""
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, batch_seconds=PATIENT)
    events = []

    async def score():
        await batcher.score("slow", _soon())
        events.append("scored")

    async def greet():
        for _ in range(100):
            await asyncio.sleep(0)
        events.append("greeted")

    scoring = asyncio.create_task(score())
    await _begun(engine)
    await greet()
    engine.gate.set()
    await scoring

    assert ["greeted", "scored"] == events


async def test_a_full_queue_refuses():
    """More texts than may wait are refused at once, and the ones that wait are still served."""
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, max_waiting=2)
    first = _ask(batcher, "a")
    await _begun(engine)
    waiting = [_ask(batcher, "b"), _ask(batcher, "c")]
    await asyncio.sleep(0)
    with pytest.raises(asyncio.QueueFull):
        await batcher.score("d", _soon())
    engine.gate.set()

    assert 3 == len(await asyncio.gather(first, *waiting))


async def test_cancellation_frees_the_place():
    """A caller that gives up leaves the queue: its text is never scored and another takes the place."""
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, max_waiting=1)
    first = _ask(batcher, "a")
    await _begun(engine)
    given_up = _ask(batcher, "b")
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    second = _ask(batcher, "c")
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(first, second)

    assert [["a"], ["c"]] == engine.batches


async def test_a_caller_that_gives_up_mid_batch_harms_nobody():
    """When a caller leaves while its batch is scored, the others of the batch get their scores."""
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, batch_seconds=PATIENT)
    asked = [_ask(batcher, "a"), _ask(batcher, "b")]
    await _begun(engine)
    asked[0].cancel()
    engine.gate.set()

    assert 1 == (await asked[1]).scored.num_tokens
    assert [["a", "b"]] == engine.batches


async def test_the_deadline_is_a_scoring_timeout():
    """A text that is not scored in time is given up, while the engine still blocks."""
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, batch_seconds=PATIENT)
    with pytest.raises(ScoringTimeout):
        await batcher.score("slow", asyncio.get_running_loop().time() + 0.05)
    engine.gate.set()

    assert 5 == (await batcher.score("hello", _soon())).scored.num_tokens


async def test_a_failing_batch_fails_its_messages_only():
    """An engine that raises fails the messages of that batch; the next batch is scored."""
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, max_batch_tokens=4, batch_seconds=PATIENT)
    first = _ask(batcher, "a")
    await _begun(engine)
    failing, last = _ask(batcher, "fail"), _ask(batcher, "b")
    await asyncio.sleep(0)
    engine.gate.set()
    answers = await asyncio.gather(first, failing, last, return_exceptions=True)

    assert ["Served", "ScoringError", "Served"] == [type(answer).__name__ for answer in answers]
    assert isinstance(answers[1].__cause__, RuntimeError)


class Panic(BaseException):
    """What libraries in Rust raise when they break: no Exception."""


async def test_a_panic_fails_its_messages_only(monkeypatch):
    """A batch that ends in an error which is no Exception does not end the scoring."""
    engine = FakeEngine()
    batcher = Batcher(engine)
    monkeypatch.setattr(engine, "score", lambda _: (_ for _ in ()).throw(Panic))
    with pytest.raises(ScoringError):
        await batcher.score("a", _soon())
    monkeypatch.undo()

    assert "Served" == type(await batcher.score("a", _soon())).__name__


async def test_swap_takes_effect_at_the_next_batch():
    """The batch being scored ends with the old engine, those waiting go to the new one, and nobody is dropped."""
    old, new = FakeEngine("old", gate=threading.Event()), FakeEngine("new")
    batcher = Batcher(old)
    first = _ask(batcher, "a")
    await _begun(old)
    second = _ask(batcher, "b")
    await asyncio.sleep(0)

    assert batcher.swap(new) is old
    old.gate.set()
    assert ["old", "new"] == [served.scored.checkpoint for served in await asyncio.gather(first, second)]


async def test_close_scores_what_waits():
    """Closing serves every waiting text and refuses new ones."""
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, batch_seconds=PATIENT)
    asked = [_ask(batcher, "a")]
    await _begun(engine)
    asked.append(_ask(batcher, "b"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0)
    with pytest.raises(ScoringError, match="stopping"):
        await batcher.score("late", _soon())
    engine.gate.set()
    await closing

    assert 2 == len(await asyncio.gather(*asked))


async def test_a_known_text_is_not_scored_again():
    """A text that was scored is answered from the cache, at once and as it was answered then."""
    engine = FakeEngine()
    batcher = Batcher(engine)
    first = await batcher.score("hello", _soon())
    second = await batcher.score("hello", _soon())

    assert [["hello"]] == engine.batches
    assert (first.scored, 0.0, 0.0) == (second.scored, second.queue_milliseconds, second.score_milliseconds)
    assert (1, 2, 0.5) == (batcher.cache.num_hits, batcher.cache.num_asked, batcher.cache.hit_rate)


async def test_copies_in_flight_are_scored_once():
    """Copies of a text that is being scored or waits share its score, and take no place of their own."""
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, max_waiting=1, cache_size=0)
    asked = [_ask(batcher, "a")]
    await _begun(engine)
    asked += [_ask(batcher, text) for text in ("a", "b", "b", "b", "a")]
    await asyncio.sleep(0)
    engine.gate.set()
    served = await asyncio.gather(*asked)

    assert [["a"], ["b"]] == engine.batches
    assert {1} == {one.scored.num_tokens for one in served}
    assert (4, 6) == (batcher.cache.num_hits, batcher.cache.num_asked)


async def test_a_copy_that_gives_up_harms_no_other():
    """Of copies that wait, one that gives up leaves the others their place; with the last of them the place is free."""
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine, max_waiting=2)
    first = _ask(batcher, "a")
    await _begun(engine)
    copies = [_ask(batcher, text) for text in ("b", "b", "c", "c")]
    await asyncio.sleep(0)
    for gone in (copies[0], copies[2], copies[3]):
        gone.cancel()
    await asyncio.gather(copies[0], *copies[2:], return_exceptions=True)
    last = _ask(batcher, "d")
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(first, copies[1], last)

    assert [["a"], ["b", "d"]] == [sorted(batch) for batch in engine.batches]


async def test_copies_keep_their_own_deadlines():
    """A copy whose deadline passes times out alone; the other copy gets the score."""
    engine = FakeEngine(gate=threading.Event())
    batcher = Batcher(engine)
    patient = _ask(batcher, "a")
    await _begun(engine)
    with pytest.raises(ScoringTimeout):
        await batcher.score("a", asyncio.get_running_loop().time() + 0.05)
    engine.gate.set()

    assert 1 == (await patient).scored.num_tokens


async def test_a_swap_forgets_scores():
    """After a swap known texts are scored anew, and what the old engine ends later is neither kept nor shared."""
    old, new = FakeEngine("old", gate=threading.Event()), FakeEngine("new")
    batcher = Batcher(old)
    asked = [_ask(batcher, "a")]
    await _begun(old)
    batcher.swap(new)
    asked.append(_ask(batcher, "a"))
    await asyncio.sleep(0)
    old.gate.set()
    served = [*await asyncio.gather(*asked), await batcher.score("a", _soon())]

    assert ["old", "new", "new"] == [one.scored.checkpoint for one in served]
    assert [["a"]] == new.batches


async def test_failures_are_not_kept():
    """A text on which the engine failed is tried again when it comes again."""
    engine = FakeEngine()
    batcher = Batcher(engine)
    for _ in range(2):
        with pytest.raises(ScoringError):
            await batcher.score("fail", _soon())

    assert [["fail"], ["fail"]] == engine.batches


class Timed(FakeEngine):
    """An engine that takes a fifth of a millisecond for a token."""

    def score(self, texts):
        """Take the time."""
        time.sleep(0.0002 * sum(map(len, texts)))
        return super().score(texts)


async def test_what_the_deadline_does_not_allow_is_refused_at_once():
    """Behind more than the engine can score before its deadline, by its speed so far, a text is refused without waiting."""
    engine = Timed()
    batcher = Batcher(engine)
    await batcher.score("a" * 600, _soon())
    asked = [_ask(batcher, letter * 600) for letter in "bcd"]
    await asyncio.sleep(0)
    started = asyncio.get_running_loop().time()
    with pytest.raises(asyncio.QueueFull):
        await batcher.score("e" * 600, started + 0.3)
    refused = asyncio.get_running_loop().time() - started
    asked.append(_ask(batcher, "f" * 600))
    await asyncio.gather(*asked)

    assert refused < 0.1
    assert ["a", "b", "c", "d", "f"] == [text[0] for batch in engine.batches for text in batch]


async def test_an_idle_engine_is_always_tried():
    """An engine that was slow once is tried by every text that finds it idle, so that it may show itself to be fast again."""
    engine = Timed()
    batcher = Batcher(engine)
    await batcher.score("a" * 1000, _soon())
    with pytest.raises(ScoringTimeout):
        await batcher.score("b" * 1000, asyncio.get_running_loop().time() + 0.01)

    await batcher.close()
    assert [["a" * 1000], ["b" * 1000]] == engine.batches


class TwoLanes(FakeEngine):
    """An engine that can make use of two calls at once; each batch meets the other half-way."""

    num_lanes = 2

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.meeting = threading.Barrier(2, timeout=10)

    def score(self, texts):
        """Wait for the other call."""
        self.meeting.wait()
        return super().score(texts)


async def test_lanes_work_at_once():
    """An engine of two lanes gets a second batch while it scores the first; in turn they would wait for each other for ever."""
    engine = TwoLanes()
    batcher = Batcher(engine)
    asked = [_ask(batcher, "a")]
    await asyncio.sleep(0.01)
    asked.append(_ask(batcher, "b"))
    await asyncio.gather(*asked)

    assert [["a"], ["b"]] == sorted(engine.batches)


async def test_no_more_batches_at_once_than_lanes():
    """What comes while all lanes are busy waits, and is scored by whichever is free first."""
    engine = TwoLanes(gate=threading.Event())
    batcher = Batcher(engine, batch_seconds=PATIENT)
    asked = []
    for text in "abcd":
        asked.append(_ask(batcher, text))
        await asyncio.sleep(0.01)
    begun = sorted(engine.batches)
    engine.meeting.abort()
    engine.meeting = threading.Barrier(1)
    engine.gate.set()
    await asyncio.gather(*asked)

    assert [["a"], ["b"]] == begun
    assert ["a", "b", "c", "d"] == sorted(text for batch in engine.batches for text in batch)


async def test_a_swap_to_fewer_lanes():
    """After a swap no more batches are scored at once than the new engine has lanes, and nobody is dropped."""
    old, new = TwoLanes("old", gate=threading.Event()), FakeEngine("new", gate=threading.Event())
    batcher = Batcher(old, max_batch_tokens=1)
    asked = []
    for text in "abcd":
        asked.append(_ask(batcher, text))
        await asyncio.sleep(0.01)
    batcher.swap(new)
    old.gate.set()
    await asyncio.gather(*asked[:2])
    await _begun(new)
    await asyncio.sleep(0.01)
    begun = list(new.batches)
    new.gate.set()
    served = await asyncio.gather(*asked)

    assert [["c"]] == begun
    assert ["old", "old", "new", "new"] == [one.scored.checkpoint for one in served]


async def test_a_turn_ends_with_every_batch_under_way():
    """A sign of life comes at once where nothing is scored, and else when all that was under way has ended."""
    engine = TwoLanes(gate=threading.Event())
    batcher = Batcher(engine)
    await batcher.turn()
    asked = []
    for text in "ab":
        asked.append(_ask(batcher, text))
        await asyncio.sleep(0.01)
    turn = asyncio.create_task(batcher.turn())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(turn), 0.05)
    engine.gate.set()
    await asyncio.gather(turn, *asked)


async def test_lanes_share_what_waits():
    """No lane takes all that waits and leaves the other one what trickles in."""
    engine = TwoLanes()
    batcher = Batcher(engine, batch_seconds=PATIENT)
    await asyncio.gather(*[_ask(batcher, text) for text in "abcde"])

    assert [["a", "b", "c"], ["d", "e"]] == sorted(engine.batches)
