"""The circuit breaker, with a clock of its own."""

import pytest
from structlog.testing import capture_logs

from spamd.inference.breaker import MAX_REST_SECONDS, CircuitBreaker


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self):
        """Tell the time."""
        return self.now


@pytest.fixture
def clock():
    """A clock that is set by hand."""
    return Clock()


@pytest.fixture
def breaker(clock):
    """A breaker that opens at the third failure, for 10 seconds."""
    return CircuitBreaker("fleet", pause_seconds=10.0, clock=clock)


def test_a_few_failures_open_it(breaker):
    """Three failures in a row open it; a success in between begins the count anew."""
    states = []
    for outcome in (breaker.failed, breaker.failed, None, breaker.failed, breaker.failed, breaker.failed):
        outcome("broken.") if outcome else breaker.succeeded()
        states.append(breaker.is_closed)

    assert [True, True, True, True, True, False] == states


def test_a_lasting_failure_opens_it_at_once(breaker):
    """Where asking again is of no use, it is not done."""
    breaker.failed("wrong token.", is_lasting=True)

    assert not breaker.is_closed


def test_one_probe_after_the_pause(breaker, clock):
    """Nobody probes during the pause, one does after it, and a failing probe begins another pause."""
    closed = breaker.claim_probe()
    breaker.failed("gone.", is_lasting=True)
    claims = []
    for now in (100.0, 109.9, 110.0, 111.0):
        clock.now = now
        claims.append(breaker.claim_probe())
    breaker.failed("gone.")
    clock.now = 120.9
    claims.append(breaker.claim_probe())
    clock.now = 121.0
    claims.append(breaker.claim_probe())

    assert not closed
    assert [False, False, True, False, False, True] == claims


def test_a_good_probe_closes_it(breaker, clock):
    """After a success all is as at the start: it takes three failures again."""
    breaker.failed("gone.", is_lasting=True)
    clock.now = 110.0
    assert breaker.claim_probe()
    breaker.succeeded()
    breaker.failed("gone.")

    assert breaker.is_closed
    assert not breaker.claim_probe()


@pytest.mark.parametrize(("wish", "pause"), [(0.0, 10.0), (30.0, 30.0), (1e9, MAX_REST_SECONDS)])
def test_a_wish_for_rest_is_granted_within_bounds(breaker, clock, wish, pause):
    """The pause is as long as is asked for, but no shorter than ours and never endless."""
    breaker.failed("busy.", is_lasting=True, rest_seconds=wish)
    clock.now = 100.0 + pause - 0.1
    too_early = breaker.claim_probe()
    clock.now = 100.0 + pause

    assert (False, True) == (too_early, breaker.claim_probe())


def test_each_change_is_one_line(breaker, clock):
    """Opening, another reason and closing are logged once each; failures in between are not."""
    with capture_logs() as lines:
        breaker.succeeded()
        for reason in ("gone.", "gone.", "gone.", "gone.", "other checkpoint.", "other checkpoint."):
            breaker.failed(reason)
        clock.now = 200.0
        breaker.claim_probe()
        breaker.succeeded()
        breaker.succeeded()

    assert [
        ("error", "scorer left alone", "gone."),
        ("error", "scorer left alone", "other checkpoint."),
        ("warning", "scorer is back", None),
    ] == [(line["log_level"], line["event"], line.get("reason")) for line in lines]
