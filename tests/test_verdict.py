"""A verdict's label, points and action agree with one another, whatever the numbers."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spamd.verdict import GTUBE_POINTS, Action, Label, Unscored, Verdict, action_for, points

SCORES = st.floats(0.0, 1.0)
THRESHOLDS = st.floats(0.0, 1.0, exclude_min=True, exclude_max=True)


@given(SCORES, THRESHOLDS)
@example(0.5, 0.5)
@example(math.nextafter(0.5, 0.0), 0.5)
@example(1.0, math.nextafter(1.0, 0.0))
@example(0.0, math.nextafter(0.0, 1.0))
@example(0.9999999, 0.99999999)
def test_five_points_exactly_when_spam(score, threshold):
    """Whoever compares the printed number with 5.0 agrees with the label, down to the last bit of the score."""
    verdict = Verdict(score, threshold, "2026-11-22-a1b2c3")

    assert (verdict.label is Label.SPAM) == (verdict.points >= 5.0) == (float(f"{verdict.points:.1f}") >= 5.0)
    assert (verdict.label is Label.SPAM) == (score >= threshold)


@given(SCORES, SCORES, THRESHOLDS)
def test_points_rise_with_the_score(one, other, threshold):
    """A higher probability never has fewer points."""
    low, high = sorted((one, other))

    assert points(low, threshold) <= points(high, threshold)


@given(SCORES, THRESHOLDS)
def test_points_are_finite_with_one_decimal(score, threshold):
    """The header holds a short number, also at certainty."""
    value = points(score, threshold)

    assert math.isfinite(value)
    assert value == round(value, 1)
    assert -25.0 < value < 35.0


@pytest.mark.parametrize(("score", "expected"), [(0.5, 5.0), (0.7310585786, 6.0), (0.2689414214, 4.0), (1.0, 18.8), (0.0, -8.8)])
def test_a_point_is_a_unit_of_log_odds(score, expected):
    """At an operating point of one half, points are 5 plus the log-odds."""
    assert expected == points(score, 0.5)


@pytest.mark.parametrize(
    ("score", "threshold"), [(-0.1, 0.5), (1.1, 0.5), (0.5, 0.0), (0.5, 1.0), (math.nan, 0.5), (0.5, math.nan)]
)
def test_impossible_numbers_are_refused(score, threshold):
    """A score or threshold out of range is a programmer's mistake, told with both values."""
    with pytest.raises(ValueError, match="out of range"):
        points(score, threshold)


@given(SCORES, THRESHOLDS)
def test_gtube_is_spam_whatever_the_model_says(score, threshold):
    """The test string makes a message spam, with points that nothing else reaches."""
    verdict = Verdict(score, threshold, "2026-11-22-a1b2c3", is_gtube=True)

    assert (Label.SPAM, GTUBE_POINTS, ("GTUBE",)) == (verdict.label, verdict.points, verdict.tests)


@pytest.mark.parametrize(("score", "expected"), [(0.9, ("GPT2_SPAM",)), (0.1, ("GPT2_HAM",))])
def test_tests_name_the_label(score, expected):
    """The list of tests tells spam from ham."""
    assert expected == Verdict(score, 0.5, "id").tests


@pytest.mark.parametrize("reason", ["timeout", "error", "overload"])
def test_a_missing_verdict_says_why(reason):
    """A message that was not scored names the reason where others name the label."""
    assert (f"SKIPPED_{reason.upper()}",) == Unscored(reason, "id").tests


@pytest.mark.parametrize(("on_failure", "expected"), [("pass", Action.ACCEPT), ("defer", Action.DEFER)])
def test_a_missing_verdict_passes_or_waits(on_failure, expected):
    """Without a verdict a message goes on or is asked for again, and is never refused."""
    action = action_for(
        Unscored("timeout", "id"), on_failure=on_failure, subject_tag="[SPAM]", reject_score=0.01, quarantine_score=0.01
    )

    assert expected is action


@given(SCORES, THRESHOLDS, st.none() | THRESHOLDS, st.none() | THRESHOLDS, st.sampled_from(["", "[SPAM]"]))
def test_ham_is_left_alone(score, threshold, reject, quarantine, tag):
    """Ham goes on untouched whatever the settings, and everything else is spam."""
    verdict = Verdict(score, threshold, "id")
    action = action_for(verdict, subject_tag=tag, reject_score=reject, quarantine_score=quarantine)

    assert (action is Action.ACCEPT) == (verdict.label is Label.HAM)
    assert action is not Action.DEFER


@pytest.mark.parametrize(
    ("score", "settings", "expected"),
    [
        (0.8, {}, Action.TAG),
        (0.8, {"subject_tag": "[SPAM]"}, Action.REWRITE_SUBJECT),
        (0.8, {"subject_tag": "[SPAM]", "quarantine_score": 0.8}, Action.QUARANTINE),
        (0.8, {"quarantine_score": 0.81}, Action.TAG),
        (0.9, {"quarantine_score": 0.8, "reject_score": 0.9}, Action.REJECT),
        (0.89, {"quarantine_score": 0.8, "reject_score": 0.9}, Action.QUARANTINE),
        (0.4, {"quarantine_score": 0.1, "reject_score": 0.1}, Action.ACCEPT),
    ],
)
def test_the_strongest_action_counts(score, settings, expected):
    """Refusal comes before quarantine, quarantine before the subject, and none touches ham."""
    assert expected is action_for(Verdict(score, 0.5, "id"), **settings)


def test_gtube_is_refused_where_anything_is():
    """The test string counts as certainty, so that administrators can try their settings."""
    assert Action.REJECT is action_for(Verdict(0.0, 0.5, "id", is_gtube=True), reject_score=0.999)


def test_the_names_are_those_of_other_software():
    """Labels and actions are written as other programs expect them."""
    assert {"ham", "spam"} == set(Label)
    assert {"no action", "add header", "rewrite subject", "quarantine", "reject", "soft reject"} == set(Action)
