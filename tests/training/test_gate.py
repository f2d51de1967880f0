"""A candidate is worse only where a difference harms beyond chance."""

import numpy as np
import pytest

from spamd.training.gate import Judged, judge

NUM_HAM, NUM_SPAM = 800, 400
LABELS = np.repeat([0, 1], [NUM_HAM, NUM_SPAM])


def _scores(distance, seed=1):
    """Scores whose labels lie `distance` deviations apart; the same seed gives the same noise."""
    noise = np.random.default_rng(seed).normal(0, 1, NUM_HAM + NUM_SPAM)
    return 1 / (1 + np.exp(-(noise + LABELS * distance - distance / 2)))


def _judge(candidate, current, **options):
    """Judge two sets of scores."""
    return judge(LABELS, candidate, current, **{"max_ham_lost": 0.001, **options})


def test_equal_models_are_not_worse():
    """The same scores are not worse."""
    same = Judged(_scores(4), 0.9)
    decision = _judge(same, same)

    assert not decision.is_worse
    assert "The candidate is not worse than the current checkpoint beyond chance." == decision.reason


def test_a_better_model_is_called_better():
    """An improvement beyond chance is said to be one."""
    decision = _judge(Judged(_scores(4), 0.9), Judged(_scores(2), 0.9))

    assert not decision.is_worse
    assert decision.reason.startswith("The candidate is better")


def test_a_worse_order_is_refused():
    """A candidate whose area above the curve grew beyond chance is worse, and the sentence says by how much."""
    decision = _judge(Judged(_scores(2), 0.9), Judged(_scores(4), 0.9))

    assert decision.is_worse
    assert decision.reason.startswith("The candidate orders mail worse: its (1-ROCA)% is ")
    assert "95 % interval" in decision.reason


def test_less_spam_caught_is_refused():
    """Ham above all spam leaves no spam to catch at 0.5 % ham lost, though the areas are the same."""
    broken, current = _scores(8), _scores(8)
    broken[:16] = 1.0
    current[NUM_HAM : NUM_HAM + 8] = 0.0
    decision = _judge(Judged(broken, 0.9), Judged(current, 0.9))

    assert decision.is_worse
    assert decision.reason.startswith("The candidate catches less spam: at 0.5 % ham lost it catches ")


def test_more_ham_lost_at_its_own_threshold_is_refused():
    """The same order with a reckless threshold is worse."""
    scores = _scores(6)
    decision = _judge(Judged(scores, 0.2), Judged(scores, 0.95))

    assert decision.is_worse
    assert decision.reason.startswith("The candidate loses more ham: at its own threshold it loses ")


def test_ham_lost_that_was_allowed_is_not_held_against_it():
    """Where the operator allowed the loss, losing more than before is no harm."""
    scores = _scores(6)

    assert not _judge(Judged(scores, 0.2), Judged(scores, 0.95), max_ham_lost=0.05).is_worse


def test_more_spam_missed_at_its_own_threshold_is_refused():
    """The same order with a timid threshold is worse, where the current one loses no more ham than is allowed."""
    scores = _scores(6)
    decision = _judge(Judged(scores, 0.9999), Judged(scores, 0.95), max_ham_lost=0.01)

    assert decision.is_worse
    assert decision.reason.startswith("The candidate misses more spam: at its own threshold it misses ")


def test_spam_missed_to_spare_ham_is_no_harm():
    """Where the current one loses more ham than is allowed, a candidate that loses less may miss more spam."""
    scores = _scores(6)

    assert not _judge(Judged(scores, 0.95), Judged(scores, 0.2)).is_worse


@pytest.mark.parametrize("extra", [1, 2])
def test_one_or_two_messages_are_chance(extra):
    """One or two more ham lost condemn nobody."""
    scores = np.where(LABELS == 1, 0.99, 0.01)
    unlucky = scores.copy()
    unlucky[:extra] = 0.95

    assert not _judge(Judged(unlucky, 0.9), Judged(scores, 0.9)).is_worse


def test_the_decision_repeats():
    """The same scores and seed give the same sentence."""
    first = _judge(Judged(_scores(2), 0.9), Judged(_scores(3), 0.9), seed=4)

    assert first == _judge(Judged(_scores(2), 0.9), Judged(_scores(3), 0.9), seed=4)
