"""A training that was killed goes on to the very weights it would have had; a state that is not its own is refused."""

import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from teaching import part, write_folder

from spamd.errors import TrainingError
from spamd.model import drafts
from spamd.training import freezing, state, trainer
from spamd.training.trainer import Recipe, train

PROCESS = Path(__file__).parent.parent / "training_process.py"
RECIPE = Recipe("last-block", freezing.last_block, epochs=3, learning_rate=3e-3, seed=7, save_seconds=0.0)


@pytest.fixture
def mail(byte_tokenizer):
    """Training and validation mail."""
    return part(30, byte_tokenizer, 1), part(10, byte_tokenizer, 2)


def _weights(classifier):
    """A copy of all weights."""
    return {name: value.clone() for name, value in classifier.state_dict().items()}


class _Killed(BaseException):
    """Stands for a kill."""


def _kill_at(monkeypatch, number):
    """Let the training die before its step of that number, counted from 0 over all epochs."""
    step, count = trainer._step, iter(range(10**6))

    def dying(*arguments):
        if next(count) == number:
            raise _Killed
        return step(*arguments)

    monkeypatch.setattr(trainer, "_step", dying)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_again_and_again_it_ends_with_the_same_weights(tiny_checkpoint, tmp_path):
    """After kill -9 at random moments and --resume, the stored checkpoint is that of an uninterrupted training."""
    chance = random.Random(5)
    ran = {}
    for name in ("whole", "killed"):
        write_folder(tmp_path / name / "mail", 60)
        (tmp_path / name / "base").symlink_to(tiny_checkpoint)
        ran[name] = [sys.executable, str(PROCESS), str(tmp_path / name)]
    began = time.monotonic()
    subprocess.run(ran["whole"], check=True, capture_output=True)
    lasted = time.monotonic() - began
    deaths = 0
    for share in (0.6, 0.75, 0.85, 0.95):
        process = subprocess.Popen([*ran["killed"], "--resume"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            process.communicate(timeout=lasted * share * chance.uniform(0.9, 1.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            deaths += 1
    ended = subprocess.run([*ran["killed"], "--resume"], check=True, capture_output=True, text=True)
    stored = {name: next((tmp_path / name / "stored").glob("[0-9]*")) for name in ran}
    whole, killed = (load_file(stored[name] / "model.safetensors") for name in ran)

    assert deaths > 0
    assert stored["killed"].name == ended.stdout.strip()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


@pytest.mark.parametrize("moment", [0, 1, 7, 8, 9, 20, 23])
def test_it_goes_on_from_any_step(tiny_classifier, mail, tmp_path, monkeypatch, moment):
    """Killed before any step, in the middle of an epoch or between two: same weights, same course, same best epoch."""
    start = _weights(tiny_classifier)
    whole = train(tiny_classifier, *mail, RECIPE)
    expected = _weights(tiny_classifier)
    tiny_classifier.load_state_dict(start)
    with monkeypatch.context() as patched:
        _kill_at(patched, moment)
        with pytest.raises(_Killed):
            train(tiny_classifier, *mail, RECIPE, folder=tmp_path / "state")
    tiny_classifier.load_state_dict(start)
    resumed = train(tiny_classifier, *mail, RECIPE, folder=tmp_path / "state", is_resumed=True)

    assert whole.steps == resumed.steps
    assert whole.best.validation_loss == resumed.best.validation_loss
    assert all(torch.equal(expected[name], value) for name, value in tiny_classifier.state_dict().items())


def test_a_finished_training_is_not_done_again(tiny_classifier, mail, tmp_path, monkeypatch):
    """Killed after its last epoch, it only brings the best weights back."""
    start = _weights(tiny_classifier)
    train(tiny_classifier, *mail, RECIPE, folder=tmp_path / "state")
    expected = _weights(tiny_classifier)
    tiny_classifier.load_state_dict(start)
    _kill_at(monkeypatch, 0)
    train(tiny_classifier, *mail, RECIPE, folder=tmp_path / "state", is_resumed=True)

    assert all(torch.equal(expected[name], value) for name, value in tiny_classifier.state_dict().items())
    assert 2 == len(list((tmp_path / "state").iterdir()))


def test_the_state_of_another_training_is_refused(tiny_classifier, mail, tmp_path):
    """Other settings, other mail or other weights end in a sentence that names them; nothing is trained."""
    start = _weights(tiny_classifier)
    train(tiny_classifier, *mail, RECIPE, folder=tmp_path)
    tiny_classifier.load_state_dict(start)

    with pytest.raises(TrainingError, match=r"it differs in epochs \(3 there, 4 here\), policy\. Remove it to start anew\."):
        train(tiny_classifier, *mail, replace(RECIPE, epochs=4), folder=tmp_path, is_resumed=True)
    with pytest.raises(TrainingError, match="it differs in mail"):
        train(tiny_classifier, *mail[::-1], RECIPE, folder=tmp_path, is_resumed=True)
    tiny_classifier.max_tokens -= 1
    with pytest.raises(TrainingError, match=r"it differs in max_tokens \(\d+ there, \d+ here\)\."):
        train(tiny_classifier, *mail, RECIPE, folder=tmp_path, is_resumed=True)
    assert all(torch.equal(start[name], value) for name, value in tiny_classifier.state_dict().items())


def test_without_resume_it_begins_anew(tiny_classifier, mail, tmp_path):
    """A state that nobody asks for is thrown away."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.safetensors").write_text("of another one")
    train(tiny_classifier, *mail, RECIPE, folder=tmp_path / "state")

    assert {"state.safetensors"} < {file.name for file in (tmp_path / "state").iterdir()}


def test_a_damaged_state_is_a_sentence(tiny_classifier, mail, tmp_path):
    """Bytes that are no state say where they lie and what to do."""
    (tmp_path / "state.safetensors").write_bytes(b"\x08" * 100)

    with pytest.raises(TrainingError, match=r"state\.safetensors: the saved state cannot be read .*; remove it to start anew\."):
        train(tiny_classifier, *mail, RECIPE, folder=tmp_path, is_resumed=True)


def test_a_full_disk_stops_with_a_sentence_and_keeps_the_last_state(tiny_classifier, mail, tmp_path, monkeypatch):
    """Where the state cannot be saved the one before is still there, and what to do is said."""
    start, count = _weights(tiny_classifier), iter(range(100))
    to_disk = drafts.to_disk

    def fill_up(path):
        if next(count) == 10:
            raise OSError(28, "No space left on device")
        to_disk(path)

    with monkeypatch.context() as patched:
        patched.setattr(drafts, "to_disk", fill_up)
        with pytest.raises(TrainingError, match=r"cannot be saved \(No space left on device\); make room and run"):
            train(tiny_classifier, *mail, RECIPE, folder=tmp_path)
    tiny_classifier.load_state_dict(start)
    resumed = train(tiny_classifier, *mail, RECIPE, folder=tmp_path, is_resumed=True)

    assert 3 == len(resumed.epochs)
    assert not list(tmp_path.glob(".*"))


def test_weights_tell_themselves_apart():
    """One changed number changes the checksum."""
    tensors = {"a": torch.zeros(3), "b": torch.ones(2, 2)}

    assert state.digest(tensors) == state.digest({name: value.clone() for name, value in tensors.items()})
    assert state.digest(tensors) != state.digest(tensors | {"a": torch.tensor([0.0, 0.0, 1e-9])})
