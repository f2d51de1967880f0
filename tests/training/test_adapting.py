"""A few labelled messages teach a checkpoint, and are judged by what was learned without them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from teaching import HEADS, lesson, write_folder

from spamd.errors import TrainingError
from spamd.model.card import NGramsNote
from spamd.model.checkpoint import HeadNote, read_card, save_checkpoint, save_variant
from spamd.model.ngrams import NGrams
from spamd.training import adapting
from spamd.training.datasets import folder
from spamd.training.gathering import Source, gather
from spamd.training.judging import answer_of
from spamd.training.progress import SILENT
from spamd.training.starts import start_from_checkpoint

CPU = torch.device("cpu")


@pytest.fixture
def counting_checkpoint(tiny_classifier, tiny_checkpoint, byte_tokenizer, tmp_path):
    """The tiny checkpoint with a table of n-grams that knows nothing yet, and hears stretches."""
    note = NGramsNote(num_buckets=2**14, characters=(2, 3), tokens=(1,), max_tokens=400, stretch=64, doubt=0.1)
    tiny_classifier.ngrams = NGrams(note, byte_tokenizer)
    card = read_card(tiny_checkpoint).model_copy(update={"ngrams": note, "threshold": 0.6})
    return save_checkpoint(tmp_path / "counting", tiny_classifier, byte_tokenizer, card)


def _adapt(tiny_checkpoint, path, tmp_path):
    """Adapt a checkpoint to a folder of mail."""
    mail = gather([Source("feedback", path, folder(path))], seed=3, balance=False, display=SILENT, cut="none")
    start = start_from_checkpoint(tiny_checkpoint, HEADS, HeadNote(), seed=3)
    places = {"checkpoints_dir": tmp_path / "stored", "weights_dir": tmp_path / "weights"}
    return mail, adapting.adapt(start, mail, max_ham_lost=0.05, seed=3, device=CPU, display=SILENT, **places)


def test_an_untrained_checkpoint_learns_the_lesson(tiny_checkpoint, tmp_path):
    """Cross-validated, the candidate orders mail better than what it came from, and the card tells how it was made."""
    mail, outcome = _adapt(tiny_checkpoint, write_folder(tmp_path / "mail", 60), tmp_path)
    card = read_card(outcome.folder)

    assert outcome.candidate.figures.roca.value < outcome.current.answer.figures.roca.value
    assert not outcome.decision.is_worse
    assert (tiny_checkpoint.name, "last layer bent") == (card.training["started_from"], card.training["method"])
    assert tiny_checkpoint.name == adapting.root_of(card)
    assert (0.5, 1.0) == (card.threshold, card.temperature)
    assert {"ham": 60, "spam": 60} == mail.counts["train"]


def test_without_a_table_only_the_last_layer_changes(tiny_checkpoint, tmp_path):
    """Trunk and all else are those that it came from, and the stored checkpoint loads, and scores other mail."""
    _, outcome = _adapt(tiny_checkpoint, write_folder(tmp_path / "mail", 8), tmp_path)
    options = {"weights_dir": None, "device": CPU, "seed": 1, "display": SILENT}
    card, answer = answer_of(outcome.folder, HEADS, lesson(20, seed=9), **options)

    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_checkpoint, outcome.folder))
    assert {"head.linear.weight", "head.linear.bias"} == {name for name in after if not after[name].equal(before[name])}
    assert outcome.folder.name == card.id
    assert np.isfinite(answer.judged.scores).all()


def test_one_label_is_too_little(tiny_checkpoint, tmp_path):
    """Four of each label are the least, and the sentence says what to do."""
    with pytest.raises(TrainingError, match="3 ham and 3 spam are labelled; it takes 4 of each"):
        _adapt(tiny_checkpoint, write_folder(tmp_path / "mail", 3), tmp_path)


def test_what_reads_windows_is_not_adapted(tiny_checkpoint, tmp_path):
    """It would be taught and judged by another reading than it serves with."""
    card_file = tiny_checkpoint / "checkpoint.json"
    card_file.write_text(json.dumps(json.loads(card_file.read_text()) | {"long_mail": "windows"}))
    with pytest.raises(TrainingError, match="reads long mail in windows, and --dataset feedback alone teaches"):
        _adapt(tiny_checkpoint, write_folder(tmp_path / "mail", 8), tmp_path)


def test_whole_numbers_stay(tiny_checkpoint, tmp_path):
    """What came of a checkpoint that computes in int8 does so too: its trunk is the same."""
    card = read_card(tiny_checkpoint).model_copy(update={"arithmetic": "int8"})
    folder = save_variant(tiny_checkpoint, tmp_path / "variants", card)
    _, outcome = _adapt(folder, write_folder(tmp_path / "mail", 8), tmp_path)

    assert "int8" == read_card(outcome.folder).arithmetic


def test_where_there_is_a_table_nothing_but_it_changes(counting_checkpoint, tmp_path):
    """The candidate is better, its threshold is the old one, and a checkpoint adapted either way names where it came from."""
    _, outcome = _adapt(counting_checkpoint, write_folder(tmp_path / "mail", 20), tmp_path)
    card = read_card(outcome.folder)
    before, after = (load_file(folder / "model.safetensors") for folder in (counting_checkpoint, outcome.folder))

    assert {"ngrams.weight"} == {name for name in after if not after[name].equal(before[name])}
    assert outcome.candidate.figures.roca.value < outcome.current.answer.figures.roca.value
    assert ("table of n-grams taught", 40) == (card.training["method"], card.training["learned_from"])
    assert (0.6, counting_checkpoint.name) == (card.threshold, adapting.root_of(card))
    assert card.temperature / 1.0 == pytest.approx(card.ngrams.doubt / 0.1)


def test_what_the_card_says_is_what_the_candidate_does(counting_checkpoint, tmp_path):
    """Scored by the stored candidate, words of the feedback are told apart in mail that it has not seen."""
    _, outcome = _adapt(counting_checkpoint, write_folder(tmp_path / "mail", 20), tmp_path)
    options = {"weights_dir": None, "device": CPU, "seed": 1, "display": SILENT}
    (_, before), (_, after) = (
        answer_of(folder, HEADS, lesson(30, seed=9), **options) for folder in (counting_checkpoint, outcome.folder)
    )

    assert after.figures.roca.value < 1.0 < before.figures.roca.value
