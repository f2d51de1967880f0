"""Scoring by a fleet while it can, and here when it cannot."""

import threading
import time

import pytest
from contract_server import TOKEN, ContractServer
from fake_engine import FakeEngine
from structlog.testing import capture_logs

from spamd.inference.breaker import CircuitBreaker
from spamd.inference.contract import MAX_TEXTS
from spamd.inference.fallback import MAX_PIECE_CHARACTERS, FallbackScorer, Fleet, divided
from spamd.inference.remote import NoScores, RemoteScorer

LOCAL, REMOTE = 0.1, 0.9


@pytest.fixture
def fleet_at():
    """A function that makes a fleet of a URL; it is closed after the test."""
    made = []

    def make(url, *, pause_seconds=3600.0, num_requests=2, timeout_seconds=30.0):
        remote = RemoteScorer(url, TOKEN, timeout_seconds=timeout_seconds)
        made.append(Fleet(remote, CircuitBreaker("fleet", pause_seconds=pause_seconds), num_requests=num_requests))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()


def _scores(scorer, *texts):
    """Scores alone."""
    return [scored.score for scored in scorer.score(texts)]


def test_the_fleet_scores_in_order(fleet_at):
    """A batch is divided among requests, each text gets its own score back, and the local engine does nothing."""

    class Lengths(FakeEngine):
        def score(self, texts):
            return [super(Lengths, self).score([text])[0] for text in texts]

    local, engine = FakeEngine(), Lengths()
    with ContractServer(engine) as server:
        fleet = fleet_at(server.url)
        scorer = FallbackScorer(local, fleet)
        scored = scorer.score(["aaa", "b", "cccccc", "dd", ""])

    assert [3, 1, 6, 2, 0] == [one.num_tokens for one in scored]
    assert ([], 2) == (local.batches, server.requests)
    assert {"remote": 5, "local": 0, "repeated": 0} == fleet.counts
    assert ("one", 0.9, 3) == (scorer.checkpoint, scorer.threshold, scorer.estimate_tokens("abc"))


def test_a_name_that_nobody_looks_up_keeps_no_mail_waiting(fleet_at, monkeypatch):
    """Mail is scored here soon after the time for an answer, whatever the request still waits for."""
    gate = threading.Event()
    fleet = fleet_at("http://127.0.0.1:1", timeout_seconds=0.1)
    monkeypatch.setattr(fleet.remote, "score", lambda *_: gate.wait(60))
    started = time.monotonic()

    scorer = FallbackScorer(FakeEngine(score=LOCAL), fleet)
    with capture_logs() as lines:
        scores = [_scores(scorer, text)[0] for text in "abc"]
    took = time.monotonic() - started
    gate.set()

    assert [LOCAL] * 3 == scores
    assert took < 10
    assert "was not even reached in time" in str(lines)


def test_what_the_fleet_does_not_score_is_scored_here(fleet_at):
    """Of a batch whose one request fails, that part alone is scored by the local engine."""
    fleet = fleet_at("http://127.0.0.1:1")

    class Half:
        url, timeout_seconds, num_repeated = "", 1.0, 0

        def score(self, texts, checkpoint, _threshold, _deadline):
            if "bad" in texts:
                raise NoScores("no.")
            return FakeEngine(checkpoint, score=REMOTE).score(texts)

        def close(self):
            pass

    fleet.remote = Half()
    local = FakeEngine(score=LOCAL)

    assert [REMOTE, LOCAL] == _scores(FallbackScorer(local, fleet), "good", "bad")
    assert [["bad"]] == local.batches
    assert {"remote": 1, "local": 1, "repeated": 0} == fleet.counts
    assert fleet.breaker.is_closed


def test_a_mistake_of_ours_costs_no_message(fleet_at):
    """Whatever the client raises, the message is scored here."""
    fleet = fleet_at("http://127.0.0.1:1")
    fleet.remote.score = None

    assert [LOCAL] == _scores(FallbackScorer(FakeEngine(score=LOCAL), fleet), "a")


def test_all_lanes_here_have_something_to_do(fleet_at):
    """What the fleet leaves over is divided among the lanes of the local engine, and comes back in order."""
    local = FakeEngine()
    local.num_lanes = 2
    scored = FallbackScorer(local, fleet_at("http://127.0.0.1:1")).score(["aaa", "b", "cccccc", "dd"])

    assert [3, 1, 6, 2] == [one.num_tokens for one in scored]
    assert [["aaa", "dd"], ["cccccc", "b"]] == sorted(local.batches)


def test_no_texts_say_nothing_about_the_fleet(fleet_at):
    """An empty batch asks nobody."""
    fleet = fleet_at("http://127.0.0.1:1")

    assert [] == FallbackScorer(FakeEngine(), fleet).score([])
    assert fleet.breaker.is_closed


def test_a_dead_fleet_is_left_alone_and_taken_up_again(fleet_at):
    """After three failures nobody asks; when it is back a probe, not mail, finds it, and mail goes there again."""
    local = FakeEngine(score=LOCAL)
    with ContractServer(FakeEngine(score=REMOTE)) as server:
        fleet = fleet_at(server.url, pause_seconds=0.01)
        scorer = FallbackScorer(local, fleet)
        before = _scores(scorer, "a")
    with capture_logs() as lines:
        while_dead = [_scores(scorer, "b")[0] for _ in range(4)]
        was_closed = fleet.breaker.is_closed
        engine = FakeEngine(score=REMOTE)
        with ContractServer(engine, port=server.port):
            give_up = time.monotonic() + 30
            while not fleet.breaker.is_closed and time.monotonic() < give_up:
                assert [LOCAL] == _scores(scorer, "c") or fleet.breaker.is_closed
                time.sleep(0.01)
            after = _scores(scorer, "d")

    assert ([REMOTE], [LOCAL] * 4, False, [REMOTE]) == (before, while_dead, was_closed, after)
    assert [""] == engine.batches[0]
    assert ["scorer left alone", "scorer is back"] == [line["event"] for line in lines]
    assert TOKEN not in str(lines)


def test_a_slow_probe_holds_no_mail_up(fleet_at):
    """While a probe hangs, mail is scored here, and no second probe is made."""
    gate = threading.Event()
    engine = FakeEngine(score=REMOTE, gate=gate)
    with ContractServer(engine) as server:
        fleet = fleet_at(server.url, pause_seconds=0.001)
        fleet.breaker.failed("gone.", is_lasting=True)
        time.sleep(0.01)
        scorer = FallbackScorer(FakeEngine(score=LOCAL), fleet)
        scores = [_scores(scorer, "a")[0] for _ in range(5)]
        num_requests = server.requests
        gate.set()

    assert [LOCAL] * 5 == scores
    assert num_requests <= 1


def test_another_checkpoint_is_asked_for_after_a_reload(fleet_at):
    """A fleet that has not followed answers 409 and mail is scored here; once it follows, mail goes there again."""
    local = FakeEngine("new", score=LOCAL)
    with ContractServer(FakeEngine("old", score=REMOTE)) as server:
        fleet = fleet_at(server.url, pause_seconds=0.01)
        scorer = FallbackScorer(local, fleet)
        with capture_logs() as lines:
            scores = _scores(scorer, "a")
    with ContractServer(FakeEngine("new", score=REMOTE), port=server.port):
        give_up = time.monotonic() + 30
        while scores[-1] == LOCAL and time.monotonic() < give_up:
            scores += _scores(scorer, "b")
            time.sleep(0.01)

    assert (LOCAL, REMOTE) == (scores[0], scores[-1])
    assert "it has loaded checkpoint old" in str(lines)


@pytest.mark.parametrize("num_pieces", [1, 3, 64])
def test_pieces_hold_each_text_once_and_fit_a_request(num_pieces):
    """However many and long the texts, each is in one piece, and no piece is more than a request may hold."""
    sizes = [number * 37 % 50_001 for number in range(1000)]
    pieces = divided(sizes, num_pieces)

    assert list(range(1000)) == sorted(number for piece in pieces for number in piece)
    assert all(0 < len(piece) <= MAX_TEXTS for piece in pieces)
    assert all(len(piece) == 1 or sum(sizes[number] for number in piece) <= MAX_PIECE_CHARACTERS for piece in pieces)


def test_few_texts_are_divided_evenly():
    """Every request gets something to do, long and short texts alike; no request is empty."""
    assert [[0, 2], [1, 3]] == divided([9, 8, 2, 1], 2)
    assert [[0]] == divided([5], 4)
    assert [] == divided([], 4)
