"""Figures agree with hand counts, with scikit-learn, and with published tables of intervals."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from spamd.training import metrics

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
SCORES = np.array([0.1, 0.2, 0.3, 0.8, 0.4, 0.8, 0.9, 0.95])


def _drawn(num_ham=900, num_spam=300, seed=1):
    """Overlapping scores."""
    random = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [num_ham, num_spam])
    return labels, np.concatenate([random.normal(0, 1, num_ham), random.normal(2.5, 1, num_spam)])


def test_confusion_counts_from_the_threshold_up():
    """A score at the threshold is spam."""
    expected = metrics.Confusion(ham_kept=3, ham_lost=1, spam_caught=3, spam_missed=1)

    assert expected == metrics.confusion(LABELS, SCORES, 0.8)


def test_measure_reports_each_figure():
    """hm%, sm%, (1-ROCA)% and caught shares are those counted by hand."""
    figures = metrics.measure(LABELS, SCORES, 0.8)

    assert (25.0, 25.0) == (figures.hm.value, figures.sm.value)
    # Of 16 pairs one is the wrong way round (0.8 over 0.4) and one a tie.
    assert 100 * 1.5 / 16 == figures.roca.value
    assert {0.001: 50.0, 0.005: 50.0, 0.01: 50.0} == {rate: caught.value for rate, caught in figures.caught.items()}
    assert 25.0 < figures.lam < 31.0


def test_one_minus_roca_agrees_with_scikit_learn():
    """The area is that of the usual library, ties included."""
    labels, scores = _drawn()
    scores = np.round(scores, 1)

    expected = 100 * (1 - roc_auc_score(labels, scores))

    assert expected == pytest.approx(metrics.one_minus_roca(scores[labels == 0], scores[labels == 1]), abs=1e-9)


def test_perfect_order_is_exactly_zero_but_not_certain():
    """Without a pair the wrong way round the area is zero, and the interval says how few messages that was seen on."""
    labels = np.repeat([0, 1], [70, 30])
    figures = metrics.measure(labels, labels * 0.5 + 0.1, 0.5)

    assert 0.0 == figures.roca.value == figures.roca.low
    assert 100 * (1 - 0.05 ** (1 / 30)) == pytest.approx(figures.roca.high)
    assert 100.0 == figures.caught[0.001].value
    assert figures.caught[0.001].low < 90.0


def test_caught_at_counts_whole_ham():
    """A share of ham lost allows as many whole ham as it covers, exactly."""
    ham = np.arange(200) / 200.0
    spam = np.array([0.5, 0.987, 0.9925, 0.9951])

    assert 25.0 == metrics.caught_at(ham, spam, 0.001)
    assert 50.0 == metrics.caught_at(ham, spam, 0.005)
    assert 75.0 == metrics.caught_at(ham, spam, 0.01)
    assert 100.0 == metrics.caught_at(ham, spam, 1.0)


def test_tied_ham_are_lost_together():
    """Where the highest ham tie, spam with the same score cannot be caught without losing all of them."""
    ham = np.array([0.1] * 98 + [0.9, 0.9])

    assert 50.0 == metrics.caught_at(ham, np.array([0.9, 0.95]), 0.01)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(285, 300, 91.91, 96.94), (295, 300, 96.16, 99.29), (0, 10, 0.0, 27.75), (10, 10, 72.25, 100.0)],
)
def test_wilson_agrees_with_published_intervals(count, total, low, high):
    """Shares get Wilson's interval."""
    found = metrics.wilson(count, total)

    assert (low, high) == (pytest.approx(found.low, abs=0.01), pytest.approx(found.high, abs=0.01))


@pytest.mark.parametrize(("count", "total"), [(1, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_what_is_no_share(count, total):
    """Impossible counts are a programmer's mistake."""
    with pytest.raises(ValueError, match="is not a share"):
        metrics.wilson(count, total)


@pytest.mark.parametrize(
    ("count", "total", "expected"),
    [(0, 3000, 1 - 0.05 ** (1 / 3000)), (1, 10, 0.39416), (5, 10, 0.77756), (10, 10, 1.0), (0, 1, 0.95), (40, 5000, 0.010409)],
)
def test_upper_bound_is_exact(count, total, expected):
    """The bound is that of Clopper and Pearson, as the inverse of the beta distribution gives it."""
    assert expected == pytest.approx(metrics.upper_bound(count, total), rel=1e-3)


def test_bootstrap_holds_the_value_and_repeats():
    """The interval surrounds the figure, is of a plausible width, and is the same for the same seed."""
    labels, scores = _drawn()
    found = metrics.bootstrap(labels, scores, metrics.one_minus_roca, seed=3)

    assert found.low < found.value < found.high < found.value + 2.0
    assert found == metrics.bootstrap(labels, scores, metrics.one_minus_roca, seed=3)


def test_paired_difference_cancels_what_both_find_hard():
    """The same scores differ by nothing at all; a slightly better model is told from the other."""
    labels, scores = _drawn()
    same = metrics.paired_difference(labels, scores, scores, metrics.one_minus_roca)
    better = metrics.paired_difference(labels, scores + labels * 0.5, scores, metrics.one_minus_roca)

    assert metrics.Measure(0.0, 0.0, 0.0) == same
    assert better.low <= better.value <= better.high < 0.0


def test_figures_need_both_labels_and_numbers():
    """Mail of one label, or scores that are not numbers, cannot be judged."""
    with pytest.raises(ValueError, match="2 ham and 0 spam"):
        metrics.measure(np.zeros(2), np.zeros(2), 0.5)
    with pytest.raises(ValueError, match="finite"):
        metrics.measure(np.array([0, 1]), np.array([0.1, math.nan]), 0.5)


def test_lam_of_a_faultless_filter_is_finite():
    """Half a message on each count keeps the mean in log-odds finite."""
    seen = metrics.Confusion(ham_kept=99, ham_lost=0, spam_caught=99, spam_missed=0)

    assert 100 / (1 + 199) == pytest.approx(metrics.logistic_average(seen))
