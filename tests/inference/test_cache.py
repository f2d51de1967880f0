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
    """Before the first batch nothing is known; before 512 tokens nothing is said about others."""
    pace = Pace()
    found = [(pace.tokens_per_second, pace.seconds_for(1000))]
    for num_tokens in (500, 12):
        pace.note(num_tokens, num_tokens / 100)
        found.append((pace.tokens_per_second, pace.seconds_for(1000)))

    assert [(0.0, 0.0), (pytest.approx(100.0), 0.0), (pytest.approx(100.0), pytest.approx(10.0))] == found


def test_pace_follows_the_latest_batches():
    """The speed is that of the batches so far; after 2,048 tokens what was known before weighs half."""
    pace = Pace()
    pace.note(2048, 1.0)
    pace.note(2048, 3.0)

    assert pytest.approx(3072 / 3.5) == pace.tokens_per_second


def test_short_messages_do_not_make_an_engine_look_slow():
    """A few short messages, each of which costs more than its tokens say, change the speed a little only."""
    pace = Pace()
    pace.note(4000, 1.0)
    for _ in range(10):
        pace.note(5, 0.01)

    assert 3500 < pace.tokens_per_second < 4000


def test_a_batch_that_took_no_time_has_a_pace():
    """A clock that did not move between start and end divides by nothing."""
    pace = Pace()
    pace.note(1, 0.0)

    assert pace.tokens_per_second > 0
