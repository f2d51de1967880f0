"""`spamd-admin retrain` with the tiny checkpoint: it promotes what is not worse and leaves nothing behind where it stops."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from checkpoints import damage
from safetensors.torch import load_file, save_file
from teaching import write_folder

from spamd.cli.retrain import make_room
from spamd.model import checkpoint
from spamd.model.gpt2 import PUBLISHED
from spamd.model.weights import TRANSPOSED
from spamd.service.registry import Registry
from spamd.training import trainer
from spamd.training.workplace import working_in

LEARNS = ("--learning-rate", "0.003", "--epochs", "2", "--max-ham-lost", "0.05")
LEARNS_NOTHING = ("--learning-rate", "1e-9", "--epochs", "1")


@pytest.fixture
def mail(tmp_path):
    """A folder of plain mail, large enough to tell a trained model from an untrained one."""
    return write_folder(tmp_path / "mail", 150)


@pytest.fixture
def retrain(spamd_admin, settings, mail):
    """Run `spamd-admin retrain` on that mail."""
    return lambda *arguments: spamd_admin("retrain", "--config", settings, "--dataset", f"folder:{mail}", *arguments)


def _left_behind(registry):
    """Everything in the folder of checkpoints."""
    return sorted(path.name for path in registry.checkpoints_dir.iterdir())


def test_a_better_candidate_is_promoted(retrain, registry):
    """The table shows both checkpoints, the candidate serves, and the operator is told how the daemon learns of it."""
    before = registry.current()
    ran = retrain(*LEARNS)
    now = registry.current()

    assert 0 == ran.code
    assert now != before == registry.previous()
    assert f"candidate {now.name}" in ran.out
    assert f"current {before.name}" in ran.out
    for row in ("ham lost (hm)", "spam missed (sm)", "(1-ROCA)", "spam caught at 0.1 % ham lost", "spam caught at 1 % ham lost"):
        assert row in ran.out
    assert "The candidate is better than the current checkpoint beyond chance" in ran.out
    assert f"{now.name} serves now.\n" in ran.out
    assert "systemctl reload spamd" in ran.out
    assert "Epoch 2 of 2" in ran.err


def test_the_card_tells_all(retrain, registry, mail, tmp_path):
    """Card and figures name datasets with counts, settings, threshold and held-out figures, and no path of the machine."""
    retrain(*LEARNS, "--seed", "5", "--json", tmp_path / "figures.json")
    card = checkpoint.read_card(registry.current())
    figures = json.loads((tmp_path / "figures.json").read_text())

    assert ({"name": "folder", "path": "mail", "ham": 150, "spam": 150},) == card.datasets
    assert (5, "last-block", 2, 0.003) == tuple(card.training[key] for key in ("seed", "freeze", "epochs", "learning_rate"))
    assert 300 == sum(number for part in card.training["messages"].values() for number in part.values())
    assert 0.0 < card.threshold < 1.0
    assert card.threshold_interval[0] <= card.threshold_interval[1]
    assert card.metrics["roca"]["value"] == figures["candidate"]["roca"]["value"]
    assert {"value", "low", "high"} == set(card.metrics["caught_at_0.5"])
    assert str(mail.parent) not in card.model_dump_json()
    assert figures["promoted"] is True
    assert registry.current().name == figures["candidate"]["id"]


def test_a_worse_candidate_is_stored_only(retrain, registry):
    """Judged worse: exit 1, a sentence that says why, and the old checkpoint still serves; --force lets the new one serve."""
    untrained = registry.current().name
    retrain(*LEARNS)
    good = registry.current()
    ran = retrain("--base", untrained, *LEARNS_NOTHING)

    assert 1 == ran.code
    assert "The candidate orders mail worse: its (1-ROCA)% is " in ran.out
    assert "is stored, not promoted; `spamd-admin model promote " in ran.out
    assert good == registry.current()
    assert 3 == len(registry.folders())

    forced = retrain("--base", untrained, *LEARNS_NOTHING, "--force")

    assert 0 == forced.code
    assert "orders mail worse" in forced.out
    assert good == registry.previous()


def test_no_promote_only_stores(retrain, registry):
    """With --no-promote nothing is switched, and being worse or better is no failure."""
    before = registry.current()
    ran = retrain(*LEARNS, "--no-promote")

    assert 0 == ran.code
    assert before == registry.current()
    assert 2 == len(registry.folders())


def test_the_same_seed_gives_the_same_checkpoint(retrain, registry):
    """Two trainings of the same mail give the same weights."""
    base = registry.current().name
    retrain("--base", base, *LEARNS, "--force")
    first = checkpoint.read_card(registry.current()).weights_sha256
    retrain("--base", base, *LEARNS, "--force")

    assert first == checkpoint.read_card(registry.current()).weights_sha256


def test_a_head_goes_on_or_starts_anew(retrain, registry):
    """The checkpoint's own head goes on learning; another one starts anew, and the card says so."""
    retrain(*LEARNS, "--force")
    assert checkpoint.read_card(registry.current()).training["is_new_head"] is False

    retrain(*LEARNS, "--head", "mean-pool", "--force")
    card = checkpoint.read_card(registry.current())

    assert ("mean-pool", True) == (card.head.name, card.training["is_new_head"])


def test_options_reach_the_training(retrain, registry):
    """Freezing policy, balance, batch size and length budget are those asked for."""
    retrain(*LEARNS, "--freeze", "head-only", "--balance", "--batch-size", "16", "--max-tokens", "32", "--force")
    card = checkpoint.read_card(registry.current())

    assert ("head-only", True, 16) == tuple(card.training[key] for key in ("freeze", "balance", "batch_size"))
    assert 66 == card.training["course"][0]["num_trained"]
    assert 32 == card.max_tokens


@pytest.mark.parametrize("moment", ["training", "saving"])
def test_an_interruption_leaves_nothing(retrain, registry, monkeypatch, moment):
    """Ctrl-C exits with 130, no checkpoint or draft is left, and the old one serves."""

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    if moment == "training":
        monkeypatch.setattr(trainer, "_run_epoch", interrupt)
    else:
        monkeypatch.setattr(checkpoint, "to_disk", interrupt)
    before = _left_behind(registry)
    ran = retrain(*LEARNS)

    assert (130, "error: interrupted; nothing was left half-written.\n") == (ran.code, ran.err[ran.err.index("error:") :])
    assert before == _left_behind(registry)
    assert before == [registry.current().name]


def test_another_split_is_warned_about(retrain):
    """A checkpoint that was trained on the same mail with another seed may know what is held out now; the same seed is fine."""
    retrain(*LEARNS, "--seed", "1", "--force")
    same, other = retrain(*LEARNS, "--seed", "1", "--force"), retrain(*LEARNS, "--seed", "2", "--force")

    assert "with another split" not in same.out
    assert "was trained on mail with another split, so it may know part of the held-out mail" in other.out
    assert "The candidate started from " in other.out


def test_a_small_dataset_gets_warnings_but_a_checkpoint(spamd_admin, settings, registry, tmp_path):
    """32 + 32 messages train; what so few cannot show is said."""
    mail = write_folder(tmp_path / "few", 32)
    ran = spamd_admin("retrain", "--config", settings, "--dataset", f"folder:{mail}", *LEARNS, "--no-promote")

    assert 0 == ran.code
    assert "Warning: The threshold lost " in ran.out
    assert "0.1 % is less than one: that row allows no ham to be lost." in ran.out


def test_datasets_are_joined(spamd_admin, settings, registry, mail, tmp_path):
    """Several datasets of several kinds make one, each counted on the card, and copies are left out."""
    table = tmp_path / "more.csv"
    table.write_text("label,text\n" + "".join(f"ham,lunch {word} agenda\n" for word in ("alpha", "beta", "gamma", "Gamma!")))
    ran = spamd_admin(
        "retrain", "--config", settings, "--dataset", f"folder:{mail}", "--dataset", f"csv:{table}", *LEARNS, "--force"
    )

    assert ["mail", "more.csv"] == [source["path"] for source in checkpoint.read_card(registry.current()).datasets]
    assert "csv:more.csv: 4 ham, 0 spam" in ran.err
    assert "Left out: 1 copies of other messages" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--base", "gpt2"), os.EX_DATAERR, "spamd-admin model fetch gpt2"),
        (("--base", "1999-01-01"), os.EX_DATAERR, "no checkpoint in "),
        (("--head", "bogus"), os.EX_USAGE, "no plugin registers a head called 'bogus'"),
        (("--freeze", "last-blok"), os.EX_USAGE, "Did you mean 'last-block'?"),
        (("--dataset", "foldr:/x"), os.EX_USAGE, "Did you mean 'folder'?"),
        (("--dataset", "/srv/mail"), os.EX_DATAERR, "write NAME:PATH"),
        (("--dataset", "folder:/nonexistent"), os.EX_DATAERR, "folder:/nonexistent is not a folder."),
        (("--dataset", "mbox:/etc/hostname"), os.EX_DATAERR, "?label=ham or ?label=spam"),
        (("--max-tokens", "4096"), os.EX_DATAERR, "--max-tokens 4096 is more than "),
        (("--json", "/nonexistent/figures.json"), os.EX_NOINPUT, "/nonexistent: No such file or directory."),
        (("--json", "/"), os.EX_IOERR, "/: Is a directory."),
        (("--seed", "-1"), os.EX_USAGE, "--seed"),
        (("--epochs", "0"), os.EX_USAGE, "greater than or equal to 1"),
    ],
)
def test_faults_are_one_sentence(retrain, registry, arguments, code, sentence):
    """What cannot be done is said in a sentence with the right exit code, and nothing is left behind."""
    ran = retrain(*arguments)

    assert code == ran.code
    assert sentence in ran.err
    assert "Traceback" not in ran.err
    assert 1 == len(_left_behind(registry))


def test_a_loss_that_is_no_number_leaves_nothing(retrain, registry, monkeypatch):
    """A training that goes wrong ends in a sentence and stores nothing."""
    monkeypatch.setattr(trainer, "_loss", lambda *_, **__: torch.tensor(torch.nan, requires_grad=True))
    ran = retrain()

    assert os.EX_DATAERR == ran.code
    assert "error: The loss became nan in epoch 1, training; nothing was saved." in ran.err
    assert 1 == len(_left_behind(registry))


def test_a_wrong_column_names_the_file(spamd_admin, settings, tmp_path):
    """A CSV file with unknown labels says which line and which value."""
    table = tmp_path / "mail.csv"
    table.write_text("label,text\nham,hello\nperhaps,hi\n")
    ran = spamd_admin("retrain", "--config", settings, "--dataset", f"csv:{table}")

    assert os.EX_DATAERR == ran.code
    assert f"error: {table} line 3: the label 'perhaps' is none of" in ran.err


def test_one_label_is_refused_with_counts(spamd_admin, settings, tmp_path):
    """Mail of one label trains nothing, and the sentence counts what there is."""
    table = tmp_path / "mail.csv"
    table.write_text("label,text\n" + "".join(f"ham,hello {word}\n" for word in ("a", "b", "c")))
    ran = spamd_admin("retrain", "--config", settings, "--dataset", f"csv:{table}")

    assert os.EX_DATAERR == ran.code
    assert "error: There are 3 ham and 0 spam messages after removing duplicates; training needs at least 8 of each" in ran.err


def test_a_dataset_must_be_named(spamd_admin, settings):
    """Without --dataset there is nothing to train on."""
    ran = spamd_admin("retrain", "--config", settings)

    assert os.EX_USAGE == ran.code
    assert "--dataset" in ran.err


def test_a_broken_current_checkpoint_needs_force(retrain, registry):
    """What cannot be compared with is not replaced unasked; --force replaces it."""
    retrain(*LEARNS, "--no-promote")
    sound = next(folder for folder in registry.folders() if folder != registry.current())
    damage(registry.current())
    refused = retrain("--base", sound.name, *LEARNS)
    forced = retrain("--base", sound.name, *LEARNS, "--force")

    assert os.EX_DATAERR == refused.code
    assert "The candidate could not be compared with it; --force promotes without." in refused.err
    assert 0 == forced.code
    assert "There was no checkpoint to compare with." in forced.out
    assert sound != registry.current()


def test_without_any_checkpoint_the_candidate_serves(retrain, registry, monkeypatch, tmp_path):
    """Where nothing serves yet there is nothing to be worse than."""
    base = registry.current()
    (registry.state_dir / "current").unlink()
    monkeypatch.setitem(Registry.__init__.__kwdefaults__, "shipped", tmp_path / "none")
    ran = retrain("--base", base.name, *LEARNS)

    assert 0 == ran.code
    assert "There was no checkpoint to compare with." in ran.out


@pytest.mark.slow
def test_a_real_interrupt_in_a_real_process(settings, registry, mail):
    """SIGINT in the midst of training ends the program with 130 and without a traceback, and leaves no draft."""
    before = _left_behind(registry)
    # Who runs the tests in the background hands down a SIGINT that is ignored.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from spamd.cli import main; main()"
    command = [sys.executable, "-c", program, "retrain", "--config", settings]
    command += ["--dataset", f"folder:{mail}", "--epochs", "500", "--learning-rate", "1e-6"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("Epoch 2 of 500:"):
                break
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        rest = process.stderr.read()

    assert 130 == process.returncode
    assert rest.endswith("error: interrupted; nothing was left half-written.\n")
    assert "Traceback" not in rest
    assert time.monotonic() - started < 10
    assert before == _left_behind(registry)


@pytest.fixture
def published(registry, tiny_classifier, byte_tokenizer, monkeypatch):
    """Make a GPT-2 of the tiny sizes lie where `model fetch gpt2` would put it."""
    monkeypatch.setitem(PUBLISHED, "gpt2", tiny_classifier.trunk.config)
    folder = registry.state_dir / "weights" / "gpt2"
    folder.mkdir(parents=True)
    tensors = tiny_classifier.trunk.state_dict()
    save_file(
        {name: (value.T if name.endswith(TRANSPOSED) else value).contiguous() for name, value in tensors.items()},
        folder / "model.safetensors",
    )
    (folder / "vocabulary.tiktoken").write_bytes(byte_tokenizer.content)
    return folder


def test_published_weights_are_not_stored_again(retrain, registry, published):
    """On a published GPT-2 a checkpoint holds what was trained and names the rest; so does the one that is trained on it."""
    for base in ("gpt2", "current"):
        ran = retrain("--base", base, *LEARNS, "--force")
        card = checkpoint.read_card(registry.current())
        stored = set(load_file(registry.current() / "model.safetensors"))

        assert 0 == ran.code
        assert ("gpt2", True) == (card.base.name, card.base.sha256 is not None)
        assert stored
        assert all(name.startswith(("trunk.h.1.", "trunk.ln_f.", "head.")) for name in stored)


def test_the_folder_of_checkpoints_is_open_to_the_daemon(tmp_path):
    """Under a strict umask, too, the folder that a first training makes may be entered by the daemon's user."""
    registry = Registry(tmp_path / "state")
    before = os.umask(0o077)
    try:
        make_room(registry)
    finally:
        os.umask(before)

    assert 0o755 == registry.checkpoints_dir.stat().st_mode & 0o777


class _Killed(BaseException):
    """Stands for a kill."""


def _kill_in_second_epoch(monkeypatch):
    """Let the training die when its second epoch begins."""
    run, epochs = trainer._run_epoch, iter(range(9))

    def dying(*arguments):
        if next(epochs) == 1:
            raise _Killed
        return run(*arguments)

    monkeypatch.setattr(trainer, "_run_epoch", dying)


def _weights_of(folder):
    """The stored weights of a checkpoint."""
    return load_file(folder / "model.safetensors")


def test_a_killed_training_goes_on(retrain, registry, monkeypatch):
    """With --resume the same command ends with the weights of an uninterrupted one, and the state is removed; else it begins."""
    base = registry.current().name
    retrain("--base", base, *LEARNS, "--force")
    whole = checkpoint.read_card(registry.current()).weights_sha256
    with monkeypatch.context() as patched:
        _kill_in_second_epoch(patched)
        with pytest.raises(_Killed):
            retrain("--base", base, *LEARNS, "--force")
    ran = retrain("--base", base, *LEARNS, "--force", "--resume")

    assert "Going on after 1 epochs and 0 steps." in ran.err
    assert whole == checkpoint.read_card(registry.current()).weights_sha256
    assert not (registry.checkpoints_dir.parent / "training" / "state").exists()
    assert "There is no saved state of this training; it begins." in retrain("--base", base, *LEARNS, "--resume", "--force").err


def test_the_state_of_another_command_is_refused(retrain, registry, monkeypatch):
    """--resume with other settings names what differs, and promotes nothing."""
    with monkeypatch.context() as patched:
        _kill_in_second_epoch(patched)
        with pytest.raises(_Killed):
            retrain(*LEARNS)
    before = _left_behind(registry)
    ran = retrain(*LEARNS, "--seed", "77", "--resume")

    assert (os.EX_DATAERR, before) == (ran.code, _left_behind(registry))
    assert "is the state of another training: it differs in seed" in ran.err


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("spamd.training.state.replace_file", "the state of the training cannot be saved (No space left on device); make room"),
        ("spamd.training.spool.tempfile.TemporaryFile", "No space left on device."),
        ("spamd.model.checkpoint.save_file", "the checkpoint cannot be written: No space left on device."),
    ],
)
def test_a_full_disk_is_one_sentence(retrain, registry, monkeypatch, where, sentence):
    """Whatever was being written, the operator reads where and why, and nothing is promoted or left half-written."""

    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    before = _left_behind(registry)
    with monkeypatch.context() as patched:
        patched.setattr(where, refuse)
        ran = retrain(*LEARNS)

    assert ran.code in {os.EX_DATAERR, os.EX_IOERR}
    assert sentence in ran.err
    assert "Traceback" not in ran.err
    assert before == _left_behind(registry)


def test_two_trainings_do_not_meet(retrain, registry):
    """A second training in the same state folder is told of the first."""
    with working_in(registry.checkpoints_dir.parent / "training"):
        ran = retrain(*LEARNS)

    assert os.EX_DATAERR == ran.code
    assert "training: another training works here; wait for it, or set another state_dir." in ran.err


def test_the_variants_of_the_reference_are_options(retrain, registry):
    """Padding, adapters, random weights, the mask, accumulation, schedule, weights and split reach card and course."""
    options = ["--pad", "longest", "--freeze", "lora", "--lora-rank", "2", "--lora-alpha", "4", "--random-weights"]
    options += ["--no-causal-mask", "--batch-size", "2", "--accumulate", "4", "--schedule", "constant", "--precision", "bfloat16"]
    options += ["--class-weights", "--spam-share", "0.2", "--patience", "1", "--split", "shuffle", "--head", "first-token"]
    options += ["--keep-table"]
    ran = retrain(*LEARNS, *options, "--force")
    card = checkpoint.read_card(registry.current())
    told = {"accumulate": 4, "schedule": "constant", "precision": "bfloat16", "patience": 1, "spam_share": 0.2, "pad": "longest"}

    assert 0 == ran.code
    assert told == {name: card.training[name] for name in told}
    assert (2, 4.0, False, "first-token") == (card.lora.rank, card.lora.alpha, card.trunk.is_causal, card.head.name)
    assert card.base.name == "random current"
    assert 0 < card.pad_to == card.max_tokens
    assert [1.0, 1.0] == pytest.approx(card.training["class_weights"], abs=0.2)


@pytest.mark.parametrize("pad", ["0", "-3", "long"])
def test_a_padding_that_is_none_is_refused(retrain, pad):
    """Only none, longest and numbers of tokens are understood."""
    ran = retrain("--pad", pad)

    assert os.EX_USAGE == ran.code
    assert "is neither none, longest nor a number of tokens" in ran.err.replace("\n", " ").replace("│", "").replace("  ", " ")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_share_the_work(retrain, registry):
    """Two processes train what one trains, speak once, and promote one checkpoint."""
    base = registry.current().name
    retrain("--base", base, *LEARNS, "--precision", "float32", "--force")
    alone = registry.current()
    ran = retrain("--base", base, *LEARNS, "--precision", "float32", "--force", "--processes", "2")
    one, two = _weights_of(alone), _weights_of(registry.current())

    assert 0 == ran.code
    assert alone != registry.current()
    assert 1e-3 > max(float((one[name] - two[name]).abs().max()) for name in one)
