"""Scores mean what they say, and the threshold costs what it claims."""

import math

import numpy as np
import pytest

from spamd.training import calibration


def _drawn(num_each, sharpness, seed=5):
    """Labels, and margins that are `sharpness` times as sure as they should be."""
    random = np.random.default_rng(seed)
    margins = random.normal(0, 3, 2 * num_each)
    labels = (random.random(2 * num_each) < 1 / (1 + np.exp(-margins))).astype(int)
    return labels, margins * sharpness


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_temperature_undoes_false_certainty(sharpness):
    """The temperature found is the factor by which the margins are too sure, or not sure enough."""
    labels, margins = _drawn(3000, sharpness)

    assert sharpness == pytest.approx(calibration.fit_temperature(labels, margins), rel=0.1)


def test_few_faultless_messages_do_not_make_certain():
    """Four messages parted without a fault leave scores well away from 0 and 1."""
    labels = np.array([0, 0, 1, 1])
    margins = np.array([-3.0, -2.0, 2.0, 3.0])
    scores = calibration.probabilities(margins, calibration.fit_temperature(labels, margins))

    assert 0.05 < scores.min() < 0.4
    assert 0.6 < scores.max() < 0.95


def test_temperature_is_finite_where_margins_say_nothing():
    """Margins that order mail the wrong way round still give a positive, finite temperature."""
    temperature = calibration.fit_temperature(np.array([0, 0, 1, 1]), np.array([3.0, 2.0, -2.0, -3.0]))

    assert 0.0 < temperature < 1e6


def test_probabilities_do_not_overflow():
    """Margins of any size give scores from 0 to 1."""
    found = calibration.probabilities(np.array([-1e6, 0.0, 1e6]), 0.5)

    assert [0.0, 0.5, 1.0] == found.tolist()


def test_the_threshold_loses_no_more_ham_than_allowed():
    """At most the allowed share of ham is at or above the threshold, and one group lower it would be more."""
    random = np.random.default_rng(2)
    labels = np.repeat([0, 1], [5000, 500])
    scores = np.concatenate([random.beta(1, 8, 5000), random.beta(8, 1, 500)])
    point = calibration.choose_threshold(labels, scores, 0.001)
    ham = np.sort(scores[labels == 0])[::-1]

    assert 5 == point.ham_lost == int((ham >= point.threshold).sum())
    assert ham[5] < point.threshold < ham[4]
    assert 5000 == point.num_ham


def test_tied_ham_are_kept_together():
    """Where the limit falls among equal scores, all of them are kept."""
    labels = np.array([0] * 1000 + [1] * 3)
    scores = np.array([0.1] * 997 + [0.9] * 3 + [0.9, 0.95, 0.99])
    point = calibration.choose_threshold(labels, scores, 0.001)

    assert 0 == point.ham_lost
    assert 0.9 < point.threshold < 0.95


def test_the_threshold_lies_between_scores():
    """With room between ham and spam the threshold stands in the middle, in log-odds."""
    point = calibration.choose_threshold(np.array([0, 0, 1, 1]), np.array([0.01, 0.1, 0.9, 0.99]), 0.001)

    assert 0.5 == pytest.approx(point.threshold)


@pytest.mark.parametrize("ham", [1.0, 0.9999999999])
def test_the_threshold_stays_inside_the_scale(ham):
    """Ham that the model is certain to be spam leaves a threshold below 1, and the loss is counted honestly."""
    point = calibration.choose_threshold(np.array([0, 0, 1]), np.array([0.2, ham, 1.0]), 0.001)

    assert 0.0 < point.threshold < 1.0
    assert 1 == point.ham_lost


def test_too_few_ham_get_a_warning_in_plain_words():
    """The sentence says what was seen, what it shows, and what showing the rest would take."""
    labels = np.repeat([0, 1], [413, 100])
    point = calibration.choose_threshold(labels, labels * 0.8 + 0.1, 0.001)
    expected = (
        "The threshold lost 0 of 413 validation ham, which shows that it loses at most 0.72 % of ham, not 0.1 %; "
        "to show that takes 2,995 validation ham and no loss."
    )

    assert expected == point.warning
    assert 1 - 0.05 ** (1 / 413) == pytest.approx(point.bound)


def test_enough_ham_need_no_warning():
    """Three thousand ham without a loss show that no more than 0.1 % is lost."""
    labels = np.repeat([0, 1], [3000, 10])
    point = calibration.choose_threshold(labels, labels * 0.8 + 0.1, 0.001)

    assert point.warning is None
    assert point.bound <= 0.001


def _tail(num_ham, max_ham_lost, seed=1):
    """A threshold chosen on so many ham whose log-odds have an exponential tail, and the true share above it."""
    draw = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [num_ham, 50])
    ham = draw.exponential(1.0, num_ham) - 6.0
    scores = calibration.probabilities(np.append(ham, np.full(50, ham.max() + 1e-3)), 1.0)
    point = calibration.choose_threshold(labels, scores, max_ham_lost)
    raised = calibration.raise_to_tail(labels, scores, point, max_ham_lost)
    return point, raised, math.exp(-(math.log(raised.threshold / (1.0 - raised.threshold)) + 6.0))


def test_few_ham_let_expect_where_more_would_lie():
    """On the mean over many drawings of 300 ham the raised threshold loses what was wanted, 1 in 1,000."""
    shares = [_tail(300, 0.001, seed)[2] for seed in range(40)]

    assert 0.0003 < np.exp(np.mean(np.log(shares))) < 0.002


def test_a_raised_threshold_tells_what_it_costs():
    """It is higher, says so, and its bound is that of the ham it really loses."""
    labels, scores = np.repeat([0, 1], [200, 1]), np.append(np.linspace(0.01, 0.3, 200), 0.31)
    point = calibration.choose_threshold(labels, scores, 0.001)
    raised = calibration.raise_to_tail(labels, scores, point, 0.001)

    assert point.threshold < 0.31 < raised.threshold < 0.9
    assert raised.is_raised
    assert not point.is_raised
    assert raised.ham_lost == 0
    assert raised.bound == point.bound


@pytest.mark.parametrize("num_ham", [calibration.SHORTEST_TAIL, calibration.num_ham_needed(0.01)])
def test_too_few_and_enough_ham_raise_nothing(num_ham):
    """Five ham have no tail, and ham that can show the share need none."""
    point, raised, _ = _tail(num_ham, 0.01)

    assert raised is point
