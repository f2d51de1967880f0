"""A whole retraining stores one checkpoint whose card is true, or nothing at all."""

from dataclasses import replace

import pytest
import torch
from teaching import HEADS, write_folder

from spamd.errors import CheckpointError, TrainingError
from spamd.mail.text import TEXT_VERSION
from spamd.model.card import NGramsNote
from spamd.model.checkpoint import HeadNote, load_checkpoint
from spamd.model.ngrams import NGrams
from spamd.training import freezing, retraining
from spamd.training.account import as_json, table
from spamd.training.datasets import folder
from spamd.training.gathering import Source, gather
from spamd.training.judging import answer_of
from spamd.training.progress import SILENT
from spamd.training.retraining import Current, Plan, choose_max_tokens, retrain
from spamd.training.starts import start_from_checkpoint
from spamd.training.trainer import Recipe

CPU = torch.device("cpu")


@pytest.fixture
def mail(tmp_path):
    """Plain mail in three parts."""
    path = write_folder(tmp_path / "mail", 80)
    return gather([Source("folder", path, folder(path))], seed=3, balance=False, display=SILENT)


@pytest.fixture
def start(tiny_checkpoint):
    """The tiny checkpoint, to be trained."""
    return start_from_checkpoint(tiny_checkpoint, HEADS, HeadNote(), seed=3)


def _plan(**changes):
    """A plan that a tiny model learns with."""
    recipe = Recipe("last-block", freezing.last_block, **{"epochs": 2, "learning_rate": 3e-3, "seed": 3, **changes})
    return Plan(recipe, max_tokens=64, max_ham_lost=0.05)


def _retrain(start, mail, tmp_path, current=None, max_ham_lost=0.05, **changes):
    """Retrain into a folder below."""
    places = {"checkpoints_dir": tmp_path / "stored", "weights_dir": tmp_path / "weights"}
    plan = replace(_plan(**changes), max_ham_lost=max_ham_lost)
    return retrain(start, mail, plan, current=current, device=CPU, display=SILENT, **places)


def test_the_stored_checkpoint_gives_the_figures_on_its_card(start, mail, tmp_path):
    """Loaded anew, the candidate answers the held-out mail exactly as was printed."""
    outcome = _retrain(start, mail, tmp_path)
    card, answer = answer_of(outcome.folder, HEADS, mail.parts.test, weights_dir=None, device=CPU, seed=3, display=SILENT)

    assert outcome.candidate.judged.scores.tolist() == pytest.approx(answer.judged.scores.tolist(), abs=1e-6)
    assert outcome.candidate.figures == answer.figures
    assert card.metrics == outcome.candidate.figures.as_json()
    assert outcome.folder.name == card.id


def test_windows_are_calibrated_after_pooling(start, mail, tmp_path):
    """A candidate that reads windows says so on its card, and its figures are those that windows give once it is stored."""
    plan = replace(_plan(), max_tokens=8, long_mail="windows")
    places = {"checkpoints_dir": tmp_path / "stored", "weights_dir": tmp_path / "weights"}
    outcome = retrain(start, mail, plan, current=None, device=CPU, display=SILENT, **places)
    card, answer = answer_of(outcome.folder, HEADS, mail.parts.test, weights_dir=None, device=CPU, seed=3, display=SILENT)

    assert ("windows", 8) == (card.long_mail, card.max_tokens)
    assert outcome.candidate.judged.scores.tolist() == pytest.approx(answer.judged.scores.tolist(), abs=1e-6)


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_table_of_ngrams_learns_too(start, mail, tmp_path, is_kept):
    """The stored table has learned the mail's words, as the card tells, unless the operator keeps it; figures are its own."""
    start.classifier.ngrams = NGrams(NGramsNote(num_buckets=2**12, characters=(2, 3), tokens=(1, 2)), start.tokenizer)
    plan = replace(_plan(), is_table_kept=is_kept)
    places = {"checkpoints_dir": tmp_path / "stored", "weights_dir": tmp_path / "weights"}
    outcome = retrain(start, mail, plan, current=None, device=CPU, display=SILENT, work_dir=tmp_path, **places)
    stored = load_checkpoint(outcome.folder, HEADS, text_version=TEXT_VERSION)
    _, answer = answer_of(outcome.folder, HEADS, mail.parts.test, weights_dir=None, device=CPU, seed=3, display=SILENT)

    assert bool(stored.classifier.ngrams.weight.any()) is not is_kept
    assert outcome.candidate.judged.scores.tolist() == pytest.approx(answer.judged.scores.tolist(), abs=1e-6)
    told = stored.card.training["table"]
    if is_kept:
        assert told is None
    else:
        assert told["new_loss"] < told["loss"]
        assert told["num_messages"] == sum(mail.counts["train"].values())


def test_without_a_current_checkpoint_there_is_no_decision(start, mail, tmp_path):
    """Nothing to compare with is no reason to be worse, and the table has one column."""
    outcome = _retrain(start, mail, tmp_path)

    assert outcome.decision is None
    assert "current" not in table(outcome, mail)
    assert as_json(outcome, mail, is_promoted=True)["current"] is None


def test_the_current_checkpoint_is_compared_with(start, mail, tiny_checkpoint, tmp_path):
    """An untrained current checkpoint loses, and both stand in the table."""
    current = Current(*answer_of(tiny_checkpoint, HEADS, mail.parts.test, weights_dir=None, device=CPU, seed=3, display=SILENT))
    outcome = _retrain(start, mail, tmp_path, current)
    lines = table(outcome, mail).splitlines()

    assert not outcome.decision.is_worse
    assert f"current {tiny_checkpoint.name}" in lines[1]
    assert 1 == len({line.index("[") for line in lines[3:5]})


def test_a_ham_that_holds_the_threshold_up_is_named(start, mail, tmp_path, monkeypatch):
    """Where much spam is missed, the ham to look at is named with its score."""
    monkeypatch.setattr(retraining, "MUCH_MISSED", -1.0)
    enough = _retrain(start, mail, tmp_path, max_ham_lost=0.4)
    few = _retrain(start_from_checkpoint(enough.folder, HEADS, HeadNote(), seed=3), mail, tmp_path, max_ham_lost=0.001)

    assert any("validation ham are too few to choose a lower one" in warning for warning in few.warnings)
    assert any(
        "What holds the threshold up is the ham " in warning and ".eml, which scores 0." in warning for warning in enough.warnings
    )


def test_a_failed_training_stores_nothing(start, mail, tmp_path):
    """No folder appears where the loss is no number."""
    with torch.no_grad():
        start.classifier.head.linear.weight[0, 0] = torch.inf

    with pytest.raises(TrainingError, match="nothing was saved"):
        _retrain(start, mail, tmp_path)
    assert not (tmp_path / "stored").exists()


def test_what_cannot_be_stored_is_said(start, mail, tmp_path):
    """A file in the way of the folder ends in a sentence."""
    (tmp_path / "stored").write_text("in the way")

    with pytest.raises(CheckpointError, match="stored"):
        _retrain(start, mail, tmp_path)


def test_it_loads_again_and_again(start, mail, tmp_path):
    """The candidate is a start for the next retraining, and the lineage grows."""
    first = _retrain(start, mail, tmp_path)
    second = _retrain(start_from_checkpoint(first.folder, HEADS, HeadNote(), seed=3), mail, tmp_path)
    card = load_checkpoint(second.folder, HEADS, text_version=TEXT_VERSION).card

    assert first.folder.name == card.base.name == card.training["started_from"]
    assert [first.folder.name] == [ancestor["checkpoint"] for ancestor in card.training["lineage"]]


@pytest.mark.parametrize(
    ("wanted", "usual", "expected"), [(None, 512, 128), (None, 64, 64), (100, 512, 100), (None, None, 64), (100, None, 100)]
)
def test_the_length_budget_fits_the_trunk(start, wanted, usual, expected):
    """Without a wish what the start has learned to read is taken; settings are cut to what the trunk can read."""
    start = replace(start, card=start.card.model_copy(update={"max_tokens": 64}))

    assert expected == choose_max_tokens(wanted, usual, start)


def test_a_start_that_judged_no_mail_reads_the_usual_length(start):
    """Weights without a card have learned no length, and get 512 tokens or what they have positions for."""
    assert choose_max_tokens(None, None, replace(start, card=None)) == 128


def test_a_length_budget_beyond_the_trunk_is_refused(start):
    """What the trunk cannot read is not quietly cut where the operator asked for it."""
    with pytest.raises(TrainingError, match="--max-tokens 512 is more than "):
        choose_max_tokens(512, 512, start)
