"""Several processes train what one trains; one that dies is an error from which the others' work goes on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ranks_process
import torch
from safetensors.torch import load_file

from spamd.errors import TrainingError
from spamd.training import launching, ranks
from spamd.training.trainer import train

TOLERANCE = 1e-4
"""How far two ranks' weights may lie from one's, where weights move by 1e-3 a step: sums are taken in another order."""


@pytest.fixture
def launch(monkeypatch):
    """Start two processes of `ranks_process.py`."""
    monkeypatch.setenv("PYTHONPATH", str(Path(ranks_process.__file__).parent))
    command = "import sys, pathlib, ranks_process; ranks_process.main(pathlib.Path(sys.argv[1]))"
    monkeypatch.setattr(launching, "COMMAND", command)
    return lambda *arguments: launching.launch(2, [str(argument) for argument in arguments])


def _alone():
    """Weights of a training in one process."""
    classifier, *parts = ranks_process.make()
    start = {name: value.clone() for name, value in classifier.state_dict().items()}
    train(classifier, *parts, ranks_process.RECIPE)
    return start, classifier.state_dict()


def _farthest(some, others):
    """The largest difference between two sets of weights."""
    return max(float((some[name] - others[name]).abs().max()) for name in some)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_ranks_end_with_the_weights_of_one(launch, tmp_path):
    """At the same global batch, in steps of two uneven pieces, two gloo processes train what one does."""
    start, alone = _alone()

    assert 0 == launch(tmp_path)
    together = load_file(tmp_path / "weights.safetensors")
    assert _farthest(alone, together) < TOLERANCE < 10 * TOLERANCE < _farthest(alone, start)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_dying_rank_is_an_error_that_resume_goes_on_from(launch, tmp_path):
    """Killed in its second epoch, a rank is named; the same command with --resume ends as if nothing had been."""
    launch(tmp_path)
    whole = load_file(tmp_path / "weights.safetensors")
    (tmp_path / "again").mkdir()
    with pytest.raises(TrainingError, match=r"Process 2 of 2 was killed \(SIGKILL\); run the same command with --resume"):
        launch(tmp_path / "again", "--die-at", "8")
    assert not (tmp_path / "again" / "weights.safetensors").exists()
    assert (tmp_path / "again" / "state" / "state.safetensors").exists()

    assert 0 == launch(tmp_path / "again", "--resume")
    resumed = load_file(tmp_path / "again" / "weights.safetensors")
    assert (tmp_path / "again" / "state" / "best-2.safetensors").exists()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ranks_with_other_mail_do_not_train(launch, tmp_path, capfd):
    """Machines that were given different files find out before the first step."""
    assert 1 == launch(tmp_path, "--other-mail")
    assert "The 2 processes of this training do not hold the same mail" in capfd.readouterr().err


@pytest.mark.slow
def test_an_interrupt_ends_all_ranks(tmp_path):
    """Ctrl-C is a KeyboardInterrupt here as in one process, and no rank trains on."""
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from spamd.training import launching\n"
        "launching.COMMAND = 'import os, pathlib, sys, time; "
        "pathlib.Path(sys.argv[1], str(os.getpid())).touch(); time.sleep(90)'\n"
        "try:\n    launching.launch(2, sys.argv[1:])\n"
        "except KeyboardInterrupt:\n    sys.exit(130)"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()

    assert 130 == process.returncode
    assert "SignalException" not in said
    assert not any(Path("/proc", rank.name).exists() for rank in tmp_path.iterdir())


def test_alone_nothing_is_shared(tmp_path):
    """Without a launcher every share is the whole, and a file is its own copy."""
    world = ranks.current()
    rows = torch.ones(3, 2)
    world.join_rows(rows)

    assert ([1, 2, 3], (4.0, 5.0)) == (world.share([1, 2, 3]), world.total(4.0, 5.0))
    assert tmp_path / "x" == world.give_file(tmp_path / "x")
    assert 6.0 == float(rows.sum())
    with ranks.joined(torch.device("cpu")) as joined:
        assert ranks.ALONE == joined
    assert not launching.is_launched()
