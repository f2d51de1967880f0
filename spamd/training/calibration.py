"""From raw logits on validation mail to a temperature and a threshold.

The temperature makes scores mean what they say, the threshold is the operating point: the lowest score that loses no more ham
than allowed, with an honest bound on what it may lose. Judges nothing on test mail and trains nothing. Called by `retraining`,
and for the calibration error by `evaluation` and `report`.
"""

import math
from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV

from spamd.training.metrics import Numbers, by_label, highest_ham_kept, upper_bound

CONFIDENCE = 0.95
NUM_BINS = 15
SCORE_MARGIN = 1e-6
"""Thresholds stay this far from 0 and 1, where scores pile up."""
TAIL = 0.1
"""Share of the ham, those with the highest scores, that tells how scores of more ham would go on."""
SHORTEST_TAIL = 5
"""Ham in it at the least."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold and what it is known to cost.

    Attributes:
        threshold: the score from which a message is spam, between 0.0 and 1.0, both excluded.
        num_ham: ham in the validation mail that it was chosen on.
        ham_lost: how many of them it takes for spam.
        bound: share of ham lost that is not exceeded, with 95 % confidence, by the exact binomial bound.
        warning: a sentence where validation mail cannot show what was asked for, else None.
        is_raised: whether it is higher than the validation mail itself demands, see `raise_to_tail`.
    """

    threshold: float
    num_ham: int
    ham_lost: int
    bound: float
    warning: str | None
    is_raised: bool = False


def fit_temperature(labels: Numbers, margins: Numbers) -> float:
    """Find the temperature that makes scores honest probabilities.

    Each message counts a little as the other label too (Platt's (n + 1) / (n + 2)), so that a few messages that happen to be
    parted without a fault do not make the scores certain.

    Args:
        labels: the truth, (N,) of 0 and 1, both present.
        margins: logit of spam minus logit of ham, (N,).

    Returns:
        The temperature by which margins are to be divided, above 0.0.
    """
    num_ham, num_spam = (len(part) for part in by_label(labels, margins))
    doubt = np.where(labels == 1, 1.0 / (num_spam + 2), 1.0 / (num_ham + 2))
    twice = np.concatenate([margins, margins]).astype(np.float64).reshape(-1, 1)
    truth = np.concatenate([labels, 1 - labels]).astype(np.int64)
    everything = np.arange(len(truth))
    # One fold that learns from nothing: the margins are those of a model that is trained already.
    calibrated = CalibratedClassifierCV(_Margins(), method="temperature", cv=[(everything, everything)], ensemble=False)
    calibrated.fit(twice, truth, sample_weight=np.concatenate([1.0 - doubt, doubt]))
    return 1.0 / float(calibrated.calibrated_classifiers_[0].calibrators[0].beta_)


def probabilities(margins: Numbers, temperature: float) -> Numbers:
    """Turn margins into scores: the chance of spam, (N,) from 0.0 to 1.0."""
    # Of the two forms each sign takes the one whose power cannot overflow.
    powers = np.exp(-np.abs(np.asarray(margins, dtype=np.float64)) / temperature)
    return np.where(margins >= 0, 1.0, powers) / (1.0 + powers)


def bins(labels: Numbers, scores: Numbers) -> list[tuple[float, float, int]]:
    """Group messages by score, in 15 steps of equal width.

    Returns:
        For each step that holds any: mean score, share of spam, and number of messages.
    """
    places = np.minimum((scores * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    members = [places == place for place in range(NUM_BINS)]
    return [(float(scores[m].mean()), float(labels[m].mean()), int(m.sum())) for m in members if m.any()]


def expected_calibration_error(labels: Numbers, scores: Numbers) -> float:
    """Compute how far scores are from the share of spam among messages with such scores, on the average.

    Guo et al. 2017, "On Calibration of Modern Neural Networks". It holds for mail with the share of spam that this mail has, and
    has no interval: drawn anew, it only grows.

    Args:
        labels: the truth, (N,) of 0 and 1.
        scores: the chance of spam, (N,).

    Returns:
        The mean distance, weighted by messages, 0.0 to 1.0.
    """
    return sum(abs(score - share) * count for score, share, count in bins(labels, scores)) / len(labels)


def choose_threshold(labels: Numbers, scores: Numbers, max_ham_lost: float) -> OperatingPoint:
    """Choose the operating point.

    The lowest thresholds that lose at most the allowed share of validation ham all decide alike about validation mail. Of these
    the one is taken that lies half-way, in log-odds, between the highest ham kept and the next score above.

    Args:
        labels: the truth, (N,) of 0 and 1, both present.
        scores: calibrated scores, (N,).
        max_ham_lost: share of ham that may be lost.

    Returns:
        The threshold with its cost.
    """
    ham, _ = by_label(labels, scores)
    kept = highest_ham_kept(ham, max_ham_lost)
    above = scores[scores > kept]
    threshold = _between(kept, float(above.min()) if len(above) else 1.0)
    ham_lost = int((ham >= threshold).sum())
    bound = upper_bound(ham_lost, len(ham), CONFIDENCE)
    return OperatingPoint(threshold, len(ham), ham_lost, bound, _warn(len(ham), ham_lost, bound, max_ham_lost))


def raise_to_tail(labels: Numbers, scores: Numbers, point: OperatingPoint, max_ham_lost: float) -> OperatingPoint:
    """Raise a threshold that was chosen on too few ham to where more ham would have put it.

    Of 400 ham the highest says little of where one in 1,000 lies. The log-odds of the highest tenth are taken for the beginning
    of an exponential tail (Pickands 1975, "Statistical Inference Using Extreme Order Statistics"), and the threshold is not lower
    than the score that this tail exceeds as seldom as wanted.

    Args:
        labels: the truth, (N,) of 0 and 1.
        scores: calibrated scores, (N,).
        point: what `choose_threshold` chose on them.
        max_ham_lost: share of ham that may be lost.

    Returns:
        The point as it was where there are ham enough, or too few for any tail; else the raised one.
    """
    ham = np.clip(np.sort(scores[labels == 0])[::-1], SCORE_MARGIN, 1.0 - SCORE_MARGIN)
    length = max(int(TAIL * len(ham)), SHORTEST_TAIL)
    if len(ham) >= num_ham_needed(max_ham_lost) or len(ham) <= length:
        return point
    odds = np.log(ham[: length + 1] / (1.0 - ham[: length + 1]))
    wanted = odds[-1] + (odds[:-1] - odds[-1]).mean() * math.log(length / (len(ham) * max_ham_lost))
    threshold = min(1.0 / (1.0 + math.exp(-wanted)), 1.0 - SCORE_MARGIN)
    if threshold <= point.threshold:
        return point
    ham_lost = int((ham >= threshold).sum())
    bound = upper_bound(ham_lost, len(ham), CONFIDENCE)
    return OperatingPoint(threshold, len(ham), ham_lost, bound, _warn(len(ham), ham_lost, bound, max_ham_lost), is_raised=True)


def num_ham_needed(max_ham_lost: float) -> int:
    """Tell how many ham must be kept without a loss to show, with 95 % confidence, that no more than a share is lost."""
    return math.ceil(math.log(1.0 - CONFIDENCE) / math.log1p(-max_ham_lost))


def _between(low: float, high: float) -> float:
    """Find the middle of two scores in log-odds, off the ends of the scale and above the lower one."""
    ends = [min(max(score, SCORE_MARGIN), 1.0 - SCORE_MARGIN) for score in (low, high)]
    middle = sum(math.log(score / (1.0 - score)) for score in ends) / 2.0
    threshold = 1.0 / (1.0 + math.exp(-middle))
    return min(max(threshold, math.nextafter(low, 1.0), SCORE_MARGIN), 1.0 - SCORE_MARGIN)


def _warn(num_ham: int, ham_lost: int, bound: float, max_ham_lost: float) -> str | None:
    """Say in plain words what validation mail could not show."""
    if bound <= max_ham_lost:
        return None
    return (
        f"The threshold lost {ham_lost:,} of {num_ham:,} validation ham, which shows that it loses at most {100 * bound:.2g} % "
        f"of ham, not {100 * max_ham_lost:.2g} %; to show that takes {num_ham_needed(max_ham_lost):,} validation ham and no loss."
    )


class _Margins(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types, and wants its base classes
    """A trained classifier in scikit-learn's eyes: its one feature is the margin.

    The margin is halved, as scikit-learn makes the two logits (-x, x) of a decision x.
    """

    classes_ = np.array([0, 1])

    def fit(self, margins: Numbers, labels: Numbers, sample_weight: Numbers | None = None) -> "_Margins":
        """Learn nothing; scikit-learn wants the method."""
        del margins, labels, sample_weight
        return self

    def decision_function(self, margins: Numbers) -> Numbers:
        """Return half the margin, (N,)."""
        halves: Numbers = margins[:, 0] / 2.0
        return halves

    def predict(self, margins: Numbers) -> Numbers:
        """Return verdicts, (N,); scikit-learn wants the method."""
        return (margins[:, 0] >= 0.0).astype(np.int64)
