"""How well scores part spam from ham, each figure with its 95 % interval.

Numbers in, numbers out: numpy alone, no model, no files. Names and definitions are those of the TREC spam track. hm% is the
share of ham taken for spam, sm% the share of spam taken for ham, lam% their mean in log-odds, (1-ROCA)% the chance that a
random ham scores above a random spam. Called by `retraining`, `gate` and the commands that print.

Throughout, `labels` is (N,) of 0 for ham and 1 for spam, `scores` is (N,) of anything that grows with spamminess, and a message
is spam where its score is at least the threshold.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]
Statistic = Callable[[Numbers, Numbers], float]
"""From the scores of ham and the scores of spam to a figure."""

HAM_LOST = (0.001, 0.005, 0.01)
"""Shares of ham lost at which the caught share of spam is reported."""
ROUNDS = 1000
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure in per cent with its 95 % interval, `low <= value <= high`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many messages of each label got which verdict."""

    ham_kept: int
    ham_lost: int
    spam_caught: int
    spam_missed: int


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is reported about scores on held-out mail.

    Attributes:
        confusion: counts at the threshold.
        threshold: the score from which messages were taken for spam.
        hm: ham misclassified, %.
        sm: spam misclassified, %.
        lam: logistic average misclassification, %; without an interval.
        roca: (1-ROCA)%, the area above the ROC curve.
        caught: spam caught, %, by the share of ham that may be lost for it.
    """

    confusion: Confusion
    threshold: float
    hm: Measure
    sm: Measure
    lam: float
    roca: Measure
    caught: Mapping[float, Measure] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the figures as plain values; caught shares are named by the ham lost in per cent, `caught_at_0.1`."""
        values = asdict(self)
        caught = values.pop("caught")
        return values | {f"caught_at_{100 * rate:g}": measured for rate, measured in caught.items()}


def measure(labels: Numbers, scores: Numbers, threshold: float, *, seed: int = 0) -> Figures:
    """Compute all figures.

    Args:
        labels: the truth.
        scores: what the model said.
        threshold: the score from which a message is spam.
        seed: of the bootstrap.

    Raises:
        ValueError: a label is absent.
    """
    seen = confusion(labels, scores, threshold)
    num_ham, num_spam = seen.ham_kept + seen.ham_lost, seen.spam_caught + seen.spam_missed
    return Figures(
        confusion=seen,
        threshold=threshold,
        hm=wilson(seen.ham_lost, num_ham),
        sm=wilson(seen.spam_missed, num_spam),
        lam=logistic_average(seen),
        roca=measure_roca(labels, scores, seed),
        caught={rate: _measure_caught(labels, scores, rate, seed) for rate in HAM_LOST},
    )


def confusion(labels: Numbers, scores: Numbers, threshold: float) -> Confusion:
    """Count verdicts at a threshold."""
    ham, spam = by_label(labels, scores)
    ham_lost, spam_caught = int((ham >= threshold).sum()), int((spam >= threshold).sum())
    return Confusion(len(ham) - ham_lost, ham_lost, spam_caught, len(spam) - spam_caught)


def logistic_average(seen: Confusion) -> float:
    """Average hm% and sm% in log-odds; half a message is added to each count, so that a count of zero stays finite."""
    ham = math.log((seen.ham_lost + 0.5) / (seen.ham_kept + 0.5))
    spam = math.log((seen.spam_missed + 0.5) / (seen.spam_caught + 0.5))
    return 100.0 / (1.0 + math.exp(-(ham + spam) / 2.0))


def one_minus_roca(ham: Numbers, spam: Numbers) -> float:
    """Compute (1-ROCA)%: the share of pairs in which the ham scores higher, a tie counting half."""
    ordered = np.sort(ham)
    halves = int(np.searchsorted(ordered, spam, side="left").sum() + np.searchsorted(ordered, spam, side="right").sum())
    pairs = len(ham) * len(spam)
    # In whole numbers up to the last step, so that perfect order is exactly zero.
    return 100.0 * (2 * pairs - halves) / (2 * pairs)


def caught_at(ham: Numbers, spam: Numbers, ham_lost: float) -> float:
    """Compute the largest share of spam, in %, that a threshold catches while it loses at most that share of ham.

    Args:
        ham: scores of ham.
        spam: scores of spam.
        ham_lost: share of ham that may be lost, 0.0 to 1.0; among 100 ham, 0.5 % allows none.
    """
    return 100.0 * float((spam > highest_ham_kept(ham, ham_lost)).mean())


def highest_ham_kept(ham: Numbers, ham_lost: float) -> float:
    """Find the score above which the threshold must lie, such that at most a share of ham is at or above it.

    Args:
        ham: scores of ham.
        ham_lost: share of ham that may be lost.

    Returns:
        The highest score among the ham that must be kept; minus infinity where all may be lost.
    """
    # The small addend keeps 0.005 * 200 from becoming 0 by rounding.
    allowed = math.floor(ham_lost * len(ham) + 1e-9)
    return float(np.sort(ham)[::-1][allowed]) if allowed < len(ham) else -math.inf


def wilson(count: int, total: int) -> Measure:
    """Put a share in per cent into Wilson's 95 % interval.

    Raises:
        ValueError: total is 0 or count is not within 0 and total.
    """
    if not 0 <= count <= total or total == 0:
        raise ValueError(f"{count} of {total} is not a share")
    share, weight = count / total, _Z**2 / total
    centre = (share + weight / 2.0) / (1.0 + weight)
    half = _Z * math.sqrt(share * (1.0 - share) / total + weight / (4.0 * total)) / (1.0 + weight)
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == total else centre + half
    return Measure(100.0 * share, 100.0 * low, 100.0 * high)


def upper_bound(count: int, total: int, confidence: float = 0.95) -> float:
    """Compute the exact (Clopper-Pearson) one-sided upper bound of a share.

    Args:
        count: how many of them were seen, 0 to total.
        total: out of how many, at least 1.
        confidence: how sure the bound is, 0.0 to 1.0.

    Returns:
        The share, 0.0 to 1.0, above which so few would be seen only with a chance of `1 - confidence`.
    """
    if count >= total:
        return 1.0
    low, high = count / total, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _at_most(count, total, middle) > 1.0 - confidence else (low, middle)
    return high


def paired_difference(labels: Numbers, first: Numbers, second: Numbers, statistic: Statistic, *, seed: int = 0) -> Measure:
    """Compare two models on the same messages by a paired bootstrap.

    Args:
        labels: the truth.
        first: scores of one model.
        second: scores of the other, in the same order.
        statistic: the figure to compare.
        seed: of the draws.

    Returns:
        The figure of `first` minus that of `second`, with its 95 % percentile interval.
    """
    one, two = by_label(labels, first), by_label(labels, second)
    value = statistic(*one) - statistic(*two)
    drawn = [
        statistic(one[0][ham], one[1][spam]) - statistic(two[0][ham], two[1][spam])
        for ham, spam in _draws(len(one[0]), len(one[1]), seed)
    ]
    return _percentiles(value, drawn)


def bootstrap(labels: Numbers, scores: Numbers, statistic: Statistic, *, seed: int = 0) -> Measure:
    """Put a figure into its 95 % percentile interval by drawing ham and spam anew, each among its own.

    Args:
        labels: the truth.
        scores: what the model said.
        statistic: the figure.
        seed: of the draws.
    """
    ham, spam = by_label(labels, scores)
    drawn = [statistic(ham[ham_drawn], spam[spam_drawn]) for ham_drawn, spam_drawn in _draws(len(ham), len(spam), seed)]
    return _percentiles(statistic(ham, spam), drawn)


def by_label(labels: Numbers, scores: Numbers) -> tuple[Numbers, Numbers]:
    """Part scores into those of ham and those of spam.

    Raises:
        ValueError: lengths differ, a label is absent, or a score is not a number.
    """
    if len(labels) != len(scores) or not np.isfinite(scores).all():
        raise ValueError(f"{len(labels)} labels and {len(scores)} scores, all of them to be finite")
    ham, spam = scores[labels == 0], scores[labels == 1]
    if not len(ham) or not len(spam):
        raise ValueError(f"{len(ham)} ham and {len(spam)} spam cannot be judged; there must be both")
    return ham, spam


def measure_roca(labels: Numbers, scores: Numbers, seed: int) -> Measure:
    """Bootstrap (1-ROCA)%; where no pair is the wrong way round, draws show nothing, and independent pairs give the bound."""
    drawn = bootstrap(labels, scores, one_minus_roca, seed=seed)
    if drawn.high > 0.0:
        return drawn
    pairs = min(len(part) for part in by_label(labels, scores))
    return Measure(drawn.value, drawn.low, 100.0 * upper_bound(0, pairs))


def _measure_caught(labels: Numbers, scores: Numbers, rate: float, seed: int) -> Measure:
    """Bootstrap the caught share, never narrower than Wilson's interval: drawing from 100 % caught gives nothing but 100 %."""
    drawn = bootstrap(labels, scores, lambda ham, spam: caught_at(ham, spam, rate), seed=seed)
    num_spam = int((labels == 1).sum())
    plain = wilson(round(drawn.value / 100.0 * num_spam), num_spam)
    return Measure(drawn.value, min(drawn.low, plain.low), max(drawn.high, plain.high))


def _draws(num_ham: int, num_spam: int, seed: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Draw positions with replacement, the same for the same seed."""
    random = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        yield random.integers(num_ham, size=num_ham), random.integers(num_spam, size=num_spam)


def _percentiles(value: float, drawn: list[float]) -> Measure:
    """Take the middle 95 % of what was drawn, widened to hold the value itself."""
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Measure(value, min(float(low), value), max(float(high), value))


def _at_most(count: int, total: int, share: float) -> float:
    """Compute the chance of seeing at most `count` of `total` where each has the chance `share`."""
    terms = [
        math.lgamma(total + 1)
        - math.lgamma(k + 1)
        - math.lgamma(total - k + 1)
        + k * math.log(share)
        + (total - k) * math.log1p(-share)
        for k in range(count + 1)
        if 0.0 < share < 1.0
    ]
    return math.fsum(map(math.exp, terms)) if terms else 1.0
