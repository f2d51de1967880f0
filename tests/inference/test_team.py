"""Several engines as one scorer; on CPUs here, since what is divided and put together does not depend on the device."""

import threading

import pytest
import torch
from structlog.testing import capture_logs

from spamd.errors import ScoringError
from spamd.inference.engine import Engine
from spamd.inference.team import Team
from spamd.model.heads import spamd_register_heads

HEADS = spamd_register_heads()
TEXTS = ["hello", "a" * 60, "world", "", "b" * 30]


@pytest.fixture
def engines(tiny_checkpoint):
    """Two engines with the same checkpoint."""
    return [Engine.load(tiny_checkpoint, HEADS, device="cpu", threads=1) for _ in range(2)]


def test_a_team_scores_as_one_does(engines):
    """The answers are those of one engine, in order, be there more texts than engines, fewer, or none."""
    team = Team(engines)
    expected = [pytest.approx(scored.score, abs=1e-6) for scored in engines[0].score(TEXTS)]

    assert expected == [scored.score for scored in team.score(TEXTS)]
    assert expected[:1] == [scored.score for scored in team.score(TEXTS[:1])]
    assert [] == team.score([])
    assert (engines[0].checkpoint, engines[0].threshold) == (team.checkpoint, team.threshold)
    assert engines[0].estimate_tokens("hello") == team.estimate_tokens("hello")


def test_all_work_at_once(engines, monkeypatch):
    """Each engine has begun before any has ended: they meet half-way, which would take for ever in turn."""
    meeting = threading.Barrier(2, timeout=10)
    plain = Engine.score

    def score(self, texts):
        meeting.wait()
        return plain(self, texts)

    monkeypatch.setattr(Engine, "score", score)

    assert len(TEXTS) == len(Team(engines).score(TEXTS))


def test_a_lost_gpu_leaves_the_team(engines, monkeypatch):
    """The batch is scored all the same; from then on the others work without the engine that has only its CPU left."""
    engines[1].has_lost_gpu = True
    team = Team(engines)
    with capture_logs() as logs:
        assert len(TEXTS) == len(team.score(TEXTS))
    monkeypatch.setattr(engines[1], "score", lambda _: pytest.fail("it was asked again"))

    assert len(TEXTS) == len(team.score(TEXTS))
    assert [("error", 1)] == [(line["log_level"], line["num_gpus"]) for line in logs]


def test_the_last_engine_stays(engines):
    """Where every GPU is lost, one goes on by the CPU."""
    for engine in engines:
        engine.has_lost_gpu = True
    team = Team(engines)
    team.score(TEXTS)

    assert len(TEXTS) == len(team.score(TEXTS))


def test_a_failure_waits_for_the_others(engines, monkeypatch):
    """An error of one is the batch's error, raised once nobody computes any more."""
    has_ended = threading.Event()

    def fail(_texts):
        raise ScoringError("damaged")

    def work(texts):
        found = Engine.score(engines[1], texts)
        has_ended.set()
        return found

    monkeypatch.setattr(engines[0], "score", fail)
    monkeypatch.setattr(engines[1], "score", work)
    with pytest.raises(ScoringError, match="damaged"):
        Team(engines).score(TEXTS)

    assert has_ended.is_set()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_score_as_one_does(tiny_checkpoint):
    """On real GPUs the answers are those of the CPU."""
    engines = [Engine.load(tiny_checkpoint, HEADS, device=f"cuda:{number}") for number in range(2)]
    expected = [scored.score for scored in Engine.load(tiny_checkpoint, HEADS, device="cpu").score(TEXTS)]

    assert [pytest.approx(score, abs=0.02) for score in expected] == [scored.score for scored in Team(engines).score(TEXTS)]
