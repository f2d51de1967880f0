"""Is the candidate worse than the checkpoint that runs now? A pure judgement on the same held-out mail.

Four questions, each answered by a paired bootstrap, so that what both models find hard cancels out. A candidate is worse only
where a difference is to its harm beyond chance, as far as a bootstrap can tell: of a handful of messages that all agree it knows
no doubt. Promotes nothing. Called by `retraining`.
"""

from dataclasses import dataclass

from spamd.training.metrics import Measure, Numbers, caught_at, one_minus_roca, paired_difference

CAUGHT_AT = 0.005
"""Share of ham lost at which caught spam is compared."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One checkpoint's answer to the held-out mail.

    Attributes:
        scores: its scores, (N,).
        threshold: its own threshold.
    """

    scores: Numbers
    threshold: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a candidate is worse.

    Attributes:
        is_worse: whether it must not be promoted on its own.
        reason: one sentence for the operator.
    """

    is_worse: bool
    reason: str


def judge(labels: Numbers, candidate: Judged, current: Judged, *, max_ham_lost: float, seed: int = 0) -> Decision:
    """Decide whether the candidate is worse than the current checkpoint.

    It is worse where the 95 % interval of the paired difference, candidate minus current,
    1. of (1-ROCA)% lies above zero, or
    2. of spam caught at 0.5 % ham lost lies below zero, or
    3. of ham lost at each one's own threshold lies above zero, and the candidate loses more than `max_ham_lost`, or
    4. of spam missed at each one's own threshold lies above zero, unless it loses less ham and the current one too much.

    Args:
        labels: the truth, (N,) of 0 for ham and 1 for spam.
        candidate: its scores and threshold.
        current: those of the checkpoint that runs now.
        max_ham_lost: share of ham that the operator allows to be lost.
        seed: of the bootstrap.

    Returns:
        The decision, with its reason.
    """
    area = paired_difference(labels, candidate.scores, current.scores, one_minus_roca, seed=seed)
    if area.low > 0.0:
        return Decision(is_worse=True, reason=f"The candidate orders mail worse: its (1-ROCA)% is {_more(area)}.")
    caught = paired_difference(labels, candidate.scores, current.scores, _caught, seed=seed)
    if caught.high < 0.0:
        return Decision(is_worse=True, reason=f"The candidate catches less spam: at 0.5 % ham lost it catches {_less(caught)}.")
    lost = paired_difference(labels, _verdicts(candidate), _verdicts(current), _ham_lost, seed=seed)
    candidate_lost, current_lost = (float(_verdicts(judged)[labels == 0].mean()) for judged in (candidate, current))
    if lost.low > 0.0 and candidate_lost > max_ham_lost:
        return Decision(is_worse=True, reason=f"The candidate loses more ham: at its own threshold it loses {_more(lost)}.")
    missed = paired_difference(labels, _verdicts(candidate), _verdicts(current), _spam_missed, seed=seed)
    if missed.low > 0.0 and not candidate_lost < current_lost > max_ham_lost:
        return Decision(is_worse=True, reason=f"The candidate misses more spam: at its own threshold it misses {_more(missed)}.")
    return Decision(is_worse=False, reason=_say_not_worse(area, caught))


def _caught(ham: Numbers, spam: Numbers) -> float:
    """Compute the caught share at 0.5 % ham lost."""
    return caught_at(ham, spam, CAUGHT_AT)


def _verdicts(judged: Judged) -> Numbers:
    """Compute verdicts, (N,): 1.0 for spam."""
    return (judged.scores >= judged.threshold).astype(float)


def _ham_lost(ham: Numbers, spam: Numbers) -> float:
    """Compute the share of ham, in %, whose verdict is spam."""
    del spam
    return 100.0 * float(ham.mean())


def _spam_missed(ham: Numbers, spam: Numbers) -> float:
    """Compute the share of spam, in %, whose verdict is ham."""
    del ham
    return 100.0 * float((1.0 - spam).mean())


def _more(difference: Measure) -> str:
    """Word a difference that lies above zero."""
    return f"{difference.value:.3g} points above the current one's ({_interval(difference.low, difference.high)})"


def _less(difference: Measure) -> str:
    """Word a difference that lies below zero."""
    return f"{-difference.value:.3g} points less than the current one ({_interval(-difference.high, -difference.low)})"


def _interval(low: float, high: float) -> str:
    """Word an interval."""
    return f"95 % interval {low:.3g} to {high:.3g}"


def _say_not_worse(area: Measure, caught: Measure) -> str:
    """Word that no difference harms, and which helps."""
    if area.high < 0.0 or caught.low > 0.0:
        return "The candidate is better than the current checkpoint beyond chance, and worse in nothing."
    return "The candidate is not worse than the current checkpoint beyond chance."
