"""The cache of scores, and the pace of an engine."""

import pytest

from spamd.inference.cache import ScoreCache
from spamd.inference.pace import Pace
from spamd.inference.scored import Scored


def _scored(score, checkpoint="one"):
    """A score of one checkpoint or another."""
    return Scored(score, 0.5, checkpoint, 1, is_truncated=False)


def test_the_score_not_asked_for_longest_goes_first():
    """A full cache forgets what nobody has asked for, and holds as many as it may."""
    cache = ScoreCache(2)
    keys = [cache.key(text) for text in "abc"]
    cache.keep(keys[0], _scored(0.1))
    cache.keep(keys[1], _scored(0.2))
    cache.find(keys[0], "one")
    cache.keep(keys[2], _scored(0.3))

    assert [0.1, None, 0.3] == [found and found.score for found in (cache.find(key, "one") for key in keys)]
    assert 2 == len(cache)


def test_only_scores_of_the_checkpoint_asked_for_are_found():
    """A score that another checkpoint gave is not found."""
    cache = ScoreCache(2)
    cache.keep(cache.key("a"), _scored(0.1, "old"))

    assert cache.find(cache.key("a"), "new") is None


def test_a_cache_of_no_size_keeps_nothing():
    """With a size of 0 nothing is ever found."""
    cache = ScoreCache(0)
    cache.keep(cache.key("a"), _scored(0.1))

    assert cache.find(cache.key("a"), "one") is None
    assert 0.0 == cache.hit_rate


def test_keys_tell_texts_apart_and_take_any_text():
    """Texts that differ, be it in a lone surrogate, have different keys; each process has its own."""
    cache = ScoreCache(2)
    texts = ["", "a", "a ", "\ud800", "\ud801"]

    assert len(texts) == len({cache.key(text) for text in texts})
    assert cache.key("a") != ScoreCache(2).key("a")


def test_pace_is_unknown_at_first():
    """Before the first batch nothing is known, and nothing takes any time."""
    assert (0.0, 0.0) == (Pace().tokens_per_second, Pace().seconds_for(1000))


def test_pace_follows_the_latest_batches():
    """The speed is that of the batches so far, of which the latest weighs most."""
    pace = Pace()
    pace.note(100, 1.0)

    assert (100.0, 2.0) == (pace.tokens_per_second, pace.seconds_for(200))
    pace.note(100, 3.0)
    assert pytest.approx(150 / 3.5) == pace.tokens_per_second


def test_a_batch_that_took_no_time_has_a_pace():
    """A clock that did not move between start and end divides by nothing."""
    pace = Pace()
    pace.note(1, 0.0)

    assert pace.tokens_per_second > 0
