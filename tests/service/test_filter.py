"""The message filter, with a fake engine and a fake text function."""

import asyncio
import json
import threading
from dataclasses import dataclass

import pytest
from fake_engine import FakeEngine

from spamd.inference.batching import Batcher
from spamd.service.filter import MessageFilter
from spamd.verdict import GTUBE, Label, Unscored, Verdict


@dataclass
class FakeText:
    """What a text function returns, as far as the filter looks."""

    text: str
    defects: tuple[str, ...] = ("no-date",)


def _extract(message):
    """The bytes as text."""
    return FakeText(message.decode())


def _filter(engine, *, deadline_seconds=10.0, threshold=None, extract=_extract, max_waiting=100):
    """A filter before a fake engine."""
    batcher = Batcher(engine, max_waiting=max_waiting)
    return MessageFilter(batcher, deadline_seconds=deadline_seconds, threshold=threshold, extract=extract)


async def test_a_message_gets_a_verdict():
    """A judged message carries score, threshold, checkpoint, tokens, defects and the time of each stage."""
    judgement = await _filter(FakeEngine(score=0.95)).judge(b"hello")

    assert Verdict(0.95, 0.9, "one", num_tokens=5) == judgement.verdict
    assert Label.SPAM == judgement.verdict.label
    assert ("no-date",) == judgement.defects
    assert ["extract", "queue", "score"] == list(judgement.milliseconds)
    assert 0.0 < judgement.milliseconds["extract"]


async def test_the_settings_threshold_wins():
    """A threshold of the settings replaces the checkpoint's, and can be changed while running."""
    message_filter = _filter(FakeEngine(score=0.95), threshold=0.99)

    assert Label.HAM == (await message_filter.judge(b"hello")).verdict.label
    message_filter.threshold = 0.5
    assert Label.SPAM == (await message_filter.judge(b"hello")).verdict.label


async def test_gtube_is_spam_whatever_the_model_says():
    """The GTUBE string makes a message spam with a score of zero."""
    verdict = (await _filter(FakeEngine(score=0.0)).judge(f"before {GTUBE} after".encode())).verdict

    assert Label.SPAM == verdict.label
    assert verdict.is_gtube
    assert 1000.0 == verdict.points


async def test_a_slow_engine_is_a_timeout():
    """A message whose score does not come in time is unscored, with its defects known."""
    engine = FakeEngine(gate=threading.Event())
    judgement = await _filter(engine, deadline_seconds=0.1).judge(b"hello")
    engine.gate.set()

    assert Unscored("timeout", "one") == judgement.verdict
    assert ("no-date",) == judgement.defects
    assert ["extract"] == list(judgement.milliseconds)


async def test_a_slow_text_is_a_timeout_and_holds_up_nobody():
    """A message whose text cannot be read out in time is unscored, and others are judged while its thread is still busy."""
    gate, started = threading.Event(), threading.Event()

    def extract(message):
        if message == b"hostile":
            started.set()
            assert gate.wait(10)
        return FakeText(message.decode())

    message_filter = _filter(FakeEngine(), deadline_seconds=0.2, extract=extract)
    hostile = asyncio.create_task(message_filter.judge(b"hostile"))
    assert await asyncio.to_thread(started.wait, 10)
    other = await message_filter.judge(b"hello")
    judgement = await hostile
    gate.set()

    assert isinstance(other.verdict, Verdict)
    assert Unscored("timeout", "one") == judgement.verdict


async def test_a_message_whose_caller_has_gone_is_not_read():
    """A message that was given up before its turn is never read out."""
    gate, started, read = threading.Event(), threading.Semaphore(0), []

    def extract(message):
        read.append(message)
        started.release()
        assert gate.wait(10)
        return FakeText("")

    message_filter = _filter(FakeEngine(), extract=extract)
    num_threads = message_filter._threads._max_workers
    busy = [asyncio.create_task(message_filter.judge(b"busy")) for _ in range(num_threads)]
    for _ in busy:
        assert await asyncio.to_thread(started.acquire, timeout=10)
    gone = asyncio.create_task(message_filter.judge(b"gone"))
    await asyncio.sleep(0.01)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    gate.set()
    await asyncio.gather(*busy)
    await message_filter.judge(b"last")

    assert [b"busy"] * num_threads + [b"last"] == read


async def test_a_failing_engine_is_an_error_logged_without_content(capsys):
    """An engine that raises leaves the message unscored; the log names the exception and nothing of the message."""
    judgement = await _filter(FakeEngine()).judge(b"fail")

    assert Unscored("error", "one") == judgement.verdict
    assert "RuntimeError" in capsys.readouterr().out


@pytest.mark.parametrize("error", [RecursionError, MemoryError, UnicodeDecodeError("utf-8", b"secret", 0, 1, "secret")])
async def test_a_failing_text_function_is_an_error(error, capsys):
    """Whatever the text function raises, the message is unscored and its content stays out of the log."""

    def extract(message):
        raise error

    judgement = await _filter(FakeEngine(), extract=extract).judge(b"secret")

    assert Unscored("error", "one") == judgement.verdict
    assert "secret" not in json.dumps(capsys.readouterr().out)


async def test_a_full_queue_is_an_overload():
    """Where too many messages wait already, the next is unscored at once."""
    engine = FakeEngine(gate=threading.Event())
    message_filter = _filter(engine, max_waiting=1)
    first = asyncio.create_task(message_filter.judge(b"first"))
    assert await asyncio.to_thread(engine.started.wait, 10)
    others = [asyncio.create_task(message_filter.judge(other)) for other in (b"second", b"third")]
    done, _pending = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
    engine.gate.set()
    await asyncio.gather(first, *others)

    assert [Unscored("overload", "one")] == [task.result().verdict for task in done]


async def test_the_real_text_function_sees_gtube():
    """A whole message with GTUBE in its body is read out by the real text function and is spam."""
    message = f"From: a@example.com\r\nSubject: test\r\n\r\n{GTUBE}\r\n".encode()
    judgement = await MessageFilter(Batcher(FakeEngine()), deadline_seconds=10).judge(message)

    assert judgement.verdict.is_gtube
