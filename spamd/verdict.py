"""From a score to a decision: labels, verdicts and what is done with them.

Pure arithmetic on numbers that others computed; no I/O, no torch. Called by `inference` (which makes scores), `service`
(which asks for a verdict and an action) and `cli` (which prints them).
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

REQUIRED_POINTS = 5.0
"""The operating point on SpamAssassin's scale, which clients and Sieve scripts compare with."""

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""The Generic Test for Unsolicited Bulk Email: a message that holds it is spam to every filter."""

GTUBE_POINTS = 1000.0


class Label(StrEnum):
    """What a message is. As the truth it labels training mail, in a verdict it is our decision."""

    HAM = "ham"
    SPAM = "spam"


class Action(StrEnum):
    """What the proxy does with a message. The values are rspamd's names, which other software knows."""

    ACCEPT = "no action"
    TAG = "add header"
    REWRITE_SUBJECT = "rewrite subject"
    QUARANTINE = "quarantine"
    REJECT = "reject"
    DEFER = "soft reject"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Our decision about one message.

    Attributes:
        score: calibrated probability of spam, 0.0 to 1.0.
        threshold: the score at and above which a message is spam, 0.0 to 1.0, both ends excluded.
        checkpoint: id of the checkpoint that scored.
        num_tokens: tokens that the model read.
        is_truncated: whether text was left out to fit the token budget.
        is_gtube: whether the message holds the GTUBE test string, which is spam whatever the model says.
    """

    score: float
    threshold: float
    checkpoint: str
    num_tokens: int = 0
    is_truncated: bool = False
    is_gtube: bool = False

    @property
    def label(self) -> Label:
        """Spam from the threshold up."""
        return Label.SPAM if self.is_gtube or self.score >= self.threshold else Label.HAM

    @property
    def points(self) -> float:
        """The score on SpamAssassin's scale, one decimal; at least 5.0 exactly when the label is spam."""
        return GTUBE_POINTS if self.is_gtube else points(self.score, self.threshold)

    @property
    def tests(self) -> tuple[str, ...]:
        """Names for the `tests=` list of X-Spam-Status."""
        if self.is_gtube:
            return ("GTUBE",)
        return (f"GPT2_{self.label.upper()}",)


@dataclass(frozen=True, slots=True)
class Unscored:
    """A message that got no verdict.

    Attributes:
        reason: one word for the header and the log: `timeout`, `error` or `overload`.
        checkpoint: id of the checkpoint that was to score it.
    """

    reason: str
    checkpoint: str

    @property
    def tests(self) -> tuple[str, ...]:
        """Names for the `tests=` list of X-Spam-Status, so that a missing verdict cannot pass for a forged one."""
        return (f"SKIPPED_{self.reason.upper()}",)


@lru_cache(maxsize=64)
def points(score: float, threshold: float) -> float:
    """Put a probability on SpamAssassin's scale.

    One point is one unit of log-odds above or below the operating point, which lies at 5.0. The value is cut to one decimal
    such that it is at least 5.0 exactly when `score >= threshold`: readers that compare the printed number never disagree
    with the label.

    Args:
        score: calibrated probability of spam, 0.0 to 1.0.
        threshold: the operating point, between 0.0 and 1.0.

    Returns:
        Points with one decimal.

    Raises:
        ValueError: score or threshold out of range.
    """
    if not 0.0 <= score <= 1.0 or not 0.0 < threshold < 1.0:
        raise ValueError(f"score {score!r} or threshold {threshold!r} is out of range")
    value = REQUIRED_POINTS + _log_odds(score) - _log_odds(threshold)
    rounded = round(value, 1)
    if score >= threshold:
        return max(rounded, REQUIRED_POINTS)
    return min(rounded, REQUIRED_POINTS - 0.1)


def _log_odds(probability: float) -> float:
    """Log-odds, with certainty cut to a millionth so that it stays finite."""
    clipped = min(max(probability, 1e-6), 1.0 - 1e-6)
    return math.log(clipped / (1.0 - clipped))


def action_for(
    verdict: Verdict | Unscored,
    *,
    on_failure: str = "pass",
    subject_tag: str = "",
    reject_score: float | None = None,
    quarantine_score: float | None = None,
) -> Action:
    """Choose what happens to a message.

    Args:
        verdict: what is known about it.
        on_failure: `pass` sends a message without a verdict on, `defer` answers 451.
        subject_tag: text put before the subject of spam; empty leaves subjects alone.
        reject_score: probability from which spam is refused; None never refuses.
        quarantine_score: probability from which spam goes to the quarantine recipient; None never diverts.

    Returns:
        The one action to take. Nothing here ever drops a message silently.
    """
    if isinstance(verdict, Unscored):
        return Action.DEFER if on_failure == "defer" else Action.ACCEPT
    if verdict.label is Label.HAM:
        return Action.ACCEPT
    score = 1.0 if verdict.is_gtube else verdict.score
    if reject_score is not None and score >= reject_score:
        return Action.REJECT
    if quarantine_score is not None and score >= quarantine_score:
        return Action.QUARANTINE
    return Action.REWRITE_SUBJECT if subject_tag else Action.TAG
