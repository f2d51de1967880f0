"""Engines in processes of their own: real processes, with engines that do as they are told, and once with a real one."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from crew_loader import PATIENCE_SECONDS, CrewLoader
from structlog.testing import capture_logs

from spamd.config import load_settings
from spamd.errors import CheckpointError, ScoringError
from spamd.inference.crew import Crew
from spamd.inference.scored import Scored
from spamd.loading import EngineLoader, load_engine, load_heads


@pytest.fixture
def crew_of(tmp_path):
    """A function that gives a crew with so many processes for each checkpoint; all end with the test."""
    crews = []

    def make(num_places=1):
        crews.append(Crew(CrewLoader(tmp_path, num_places=num_places)))
        return crews[-1]

    yield make
    for crew in crews:
        crew.close()


@pytest.fixture
def loads(tmp_path):
    """A function that gives what was loaded since it was called last: names of checkpoints, each with its place."""
    seen = []

    def read():
        lines = (tmp_path / "loads").read_text().splitlines()
        new = lines[len(seen) :]
        seen.extend(new)
        return sorted(new)

    return read


def _folder(name):
    """A checkpoint's folder."""
    return Path("/nonexistent") / name


def _pids(crew):
    """Process ids of the members."""
    return [member._process.pid for member in crew._members]


def test_scores_come_back_as_they_were(crew_of, loads):
    """What a member's engine says comes back whole and in order, whatever characters the texts have."""
    scorer = crew_of(num_places=2).load(_folder("one"))

    assert ["one 0", "one 1"] == loads()
    assert ("one", 0.9, 2) == (scorer.checkpoint, scorer.threshold, scorer.num_lanes)
    assert [1, 5] == [scorer.estimate_tokens(text) for text in ("a", "a" * 99)]
    assert [Scored(0.25, 0.9, "one", num, is_truncated=False) for num in (1, 2, 0)] == scorer.score(["a", "\ud800\n", ""])
    assert [] == scorer.score([])


def test_members_compute_at_once(crew_of):
    """Two calls at once are computed by two processes, which meet half-way."""
    scorer = crew_of(num_places=2).load(_folder("one"))
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(scorer.score, [["meet"], ["meet", "a"]]))

    assert [1, 2] == [len(answer) for answer in answers]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_left_to_the_daemon(crew_of, number):
    """What is sent to all processes of a service or a terminal ends no member: the daemon lets them finish."""
    crew = crew_of()
    scorer = crew.load(_folder("one"))
    pids = _pids(crew)
    os.kill(pids[0], number)

    assert 1 == len(scorer.score(["a"]))
    assert pids == _pids(crew)


def test_a_member_that_was_killed_is_started_anew(crew_of, loads):
    """A process that was killed while it had nothing to do costs no message; its successor has loaded the same."""
    crew = crew_of(num_places=2)
    scorer = crew.load(_folder("one"))
    loads()
    pids = _pids(crew)
    os.kill(pids[0], signal.SIGKILL)
    with capture_logs() as logs:
        assert [1, 1, 1] == [len(scorer.score(["a"])) for _ in range(3)]

    assert [("error", -signal.SIGKILL)] == [(line["log_level"], line["exit_code"]) for line in logs]
    assert ["one 0"] == loads()
    assert [True, False] == [old != new for old, new in zip(pids, _pids(crew), strict=True)]


def test_what_was_being_scored_is_scored_again(crew_of):
    """A process that ends amid a batch costs no message either."""
    scorer = crew_of().load(_folder("one"))
    with capture_logs() as logs:
        assert [0.25, 0.25] == [scored.score for scored in scorer.score(["die once", "a"])]

    assert 1 == len(logs)


def test_a_text_that_ends_every_process_fails_alone(crew_of):
    """What ended four processes is given up; whoever comes next is scored."""
    scorer = crew_of().load(_folder("one"))
    with capture_logs(), pytest.raises(ScoringError, match="ended 4 times when asked to score"):
        scorer.score(["die", "a"])
    with capture_logs():
        assert 1 == len(scorer.score(["a"]))


def test_a_checkpoint_that_is_gone_for_a_while(crew_of, tmp_path):
    """A process that was killed and cannot load what it had loaded fails that batch; the next one is tried anew."""
    crew = crew_of()
    scorer = crew.load(_folder("one"))
    os.kill(_pids(crew)[0], signal.SIGKILL)
    (tmp_path / "gone").touch()
    with capture_logs(), pytest.raises(CheckpointError, match="one is gone"):
        scorer.score(["a"])
    (tmp_path / "gone").unlink()
    with capture_logs():
        assert 1 == len(scorer.score(["a"]))


def test_an_error_of_the_engine_tells_its_place_and_no_text(crew_of):
    """An error that is none of ours is told by type and place, since what it says could quote a message."""
    scorer = crew_of().load(_folder("one"))
    with pytest.raises(ScoringError) as caught:
        scorer.score(["fail"])

    assert "RuntimeError at tests/fake_engine.py:" in str(caught.value)
    assert "told to" not in str(caught.value)
    assert 1 == len(scorer.score(["a"]))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("unplaced", "unplaced has no card."), ("damaged", "damaged is damaged."), ("strange", "RuntimeError at .*crew_loader.py:")],
)
def test_a_checkpoint_that_does_not_load_is_refused(crew_of, name, sentence):
    """The sentence is that of the process; what was loaded before scores on."""
    crew = crew_of(num_places=2)
    scorer = crew.load(_folder("one"))
    with pytest.raises(CheckpointError, match=sentence):
        crew.load(_folder(name))

    assert "one" == scorer.score(["a"])[0].checkpoint


def test_a_checkpoint_that_was_let_go_is_not_loaded_again(crew_of, loads):
    """Two checkpoints live side by side in the same processes; of the one that is closed nothing is left."""
    crew = crew_of()
    old, pids = crew.load(_folder("old")), _pids(crew)
    new = crew.load(_folder("new"))
    assert ["old", "new"] == [scorer.score(["a"])[0].checkpoint for scorer in (old, new)]
    old.close()
    assert pids == _pids(crew)
    loads()
    with capture_logs():
        new.score(["die once"])

    assert ["new 0"] == loads()
    with pytest.raises(ScoringError, match="KeyError"):
        old.score(["a"])


def test_a_checkpoint_that_a_new_member_never_had_is_let_go(crew_of, loads):
    """A member that dies between the loading of a checkpoint and the end of the old one is started anew without the old one."""
    crew = crew_of()
    old, new = crew.load(_folder("old")), crew.load(_folder("new"))
    loads()
    os.kill(_pids(crew)[0], signal.SIGKILL)
    with capture_logs():
        old.close()

    assert "new" == new.score(["a"])[0].checkpoint
    assert ["new 0"] == loads()


def test_a_lost_gpu_is_left_out(crew_of, tmp_path):
    """The batch is scored all the same; then the others go on without the member that has only its CPU left; the last stays."""

    def asked():
        return {pid for pid in _pids(crew) if (tmp_path / str(pid)).exists()}

    crew = crew_of(num_places=2)
    scorer = crew.load(_folder("one"))
    with capture_logs() as logs:
        assert 1 == len(scorer.score(["lose"]))
    (lost,) = asked()
    (tmp_path / str(lost)).unlink()
    for text in ("a", "b", "lose", "c"):
        assert 1 == len(scorer.score([text]))

    assert [("error", 1)] == [(line["log_level"], line["num_gpus"]) for line in logs]
    assert 1 == scorer.num_lanes
    assert asked() == set(_pids(crew)) - {lost}


def test_the_end_waits_for_nobody(crew_of, tmp_path):
    """A crew ends although a member computes and never comes back."""
    crew = crew_of()
    scorer = crew.load(_folder("one"))
    (pid,) = _pids(crew)
    with ThreadPoolExecutor(1) as threads:
        stuck = threads.submit(scorer.score, ["meet"])
        _wait_for(tmp_path / f"here-{pid}")
        crew.close()
        with pytest.raises(ScoringError, match="spamd is stopping"):
            stuck.result(PATIENCE_SECONDS)


def _wait_for(file):
    """Wait until a file is there."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_without_a_temporary_folder_members_start_all_the_same(crew_of, monkeypatch):
    """Where nothing can be written, or our socket was cleaned up, processes start in another way."""

    def refuse(*_):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("multiprocessing.context.ForkServerProcess._Popen", refuse)
    with capture_logs() as logs:
        assert 1 == len(crew_of().load(_folder("one")).score(["a"]))

    assert ["warning"] == [line["log_level"] for line in logs]


def test_where_nothing_can_be_started_for_a_while(crew_of, monkeypatch):
    """A batch for which no process can be started fails; the next one is tried anew."""

    def refuse(*_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    crew = crew_of()
    scorer = crew.load(_folder("one"))
    os.kill(_pids(crew)[0], signal.SIGKILL)
    with capture_logs(), monkeypatch.context() as patch:
        for kind in ("ForkServerProcess", "SpawnProcess"):
            patch.setattr(f"multiprocessing.context.{kind}._Popen", refuse)
        with pytest.raises(ScoringError, match="ended 4 times"):
            scorer.score(["a"])
    with capture_logs():
        assert 1 == len(scorer.score(["a"]))


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "num_lanes"), [(1, 1), (2, 2), (9, 4)])
def test_real_engines_score_as_one_here_does(tmp_path, tiny_checkpoint, threads, num_lanes):
    """With the tiny checkpoint the scores are those of an engine in this process, by as many processes as the threads allow."""
    file = tmp_path / "spamd.toml"
    file.write_text(f'plugins_dir = "/nonexistent"\n[scoring]\ndevice = "cpu"\nthreads = {threads}\n')
    settings = load_settings(file)
    texts = ["hello", "a" * 60, "world", "", "b" * 30]
    here = load_engine(settings, load_heads(settings), tiny_checkpoint)
    crew = Crew(EngineLoader(settings))
    try:
        there = crew.load(tiny_checkpoint)
        assert [pytest.approx(one.score, abs=1e-6) for one in here.score(texts)] == [one.score for one in there.score(texts)]
        assert here.estimate_tokens(texts[1]) == there.estimate_tokens(texts[1])
        assert num_lanes == there.num_lanes
    finally:
        crew.close()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_have_a_process_each(tmp_path, tiny_checkpoint):
    """On real GPUs the scores are those of the CPU, and each GPU computes some."""
    file = tmp_path / "spamd.toml"
    file.write_text('plugins_dir = "/nonexistent"\n[scoring]\ndevice = "cuda:all"\n')
    settings = load_settings(file)
    texts = ["hello", "a" * 60, "world", "", "b" * 30]
    here = load_engine(settings, load_heads(settings), tiny_checkpoint, ("cpu", 1))
    crew = Crew(EngineLoader(settings))
    try:
        there = crew.load(tiny_checkpoint)
        assert torch.cuda.device_count() == there.num_lanes
        for _ in range(there.num_lanes):
            assert [pytest.approx(one.score, abs=0.02) for one in here.score(texts)] == [one.score for one in there.score(texts)]
    finally:
        crew.close()
