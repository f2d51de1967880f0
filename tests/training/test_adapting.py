"""A few labelled messages bend the last layer no further than they must, and are judged by what was learned without them."""

import numpy as np
import pytest
import torch
from teaching import HEADS, lesson, part, write_folder

from spamd.errors import TrainingError
from spamd.model.checkpoint import HeadNote, read_card, save_variant
from spamd.model.heads import MeanPool
from spamd.training import adapting
from spamd.training.datasets import folder
from spamd.training.gathering import Source, gather
from spamd.training.judging import answer_of
from spamd.training.parts import margins
from spamd.training.progress import SILENT
from spamd.training.starts import start_from_checkpoint

CPU = torch.device("cpu")


def _adapt(tiny_checkpoint, path, tmp_path):
    """Adapt the tiny checkpoint to a folder of mail."""
    mail = gather([Source("feedback", path, folder(path))], seed=3, balance=False, display=SILENT, cut="none")
    start = start_from_checkpoint(tiny_checkpoint, HEADS, HeadNote(), seed=3)
    places = {"checkpoints_dir": tmp_path / "stored", "weights_dir": tmp_path / "weights"}
    return mail, adapting.adapt(start, mail, max_ham_lost=0.05, seed=3, device=CPU, display=SILENT, **places)


def test_margins_are_those_of_the_whole_model(tiny_classifier, byte_tokenizer):
    """Read in two steps, a message gets the margin that it gets in one; after bending too."""
    mail = part(10, byte_tokenizer)
    found = adapting.read(tiny_classifier, mail)

    assert margins(tiny_classifier, mail).tolist() == pytest.approx(found.margins.tolist(), abs=1e-4)

    change = adapting.fit(found.features, found.margins, mail.labels, temperature=1.0, width=0.3)
    adapting.bend(tiny_classifier, found, change)

    assert margins(tiny_classifier, mail).tolist() == pytest.approx((found.margins + found.features @ change).tolist(), abs=1e-4)


def test_a_narrow_prior_changes_little(tiny_classifier, byte_tokenizer):
    """The narrower the prior, the less the last layer moves."""
    mail = part(10, byte_tokenizer)
    found = adapting.read(tiny_classifier, mail)
    moved = [
        float(np.abs(adapting.fit(found.features, found.margins, mail.labels, temperature=1.0, width=width)).sum())
        for width in (1e-4, 1e-2, 1.0)
    ]

    assert sorted(moved) == moved
    assert moved[0] < 0.01 < moved[2]


def test_an_untrained_checkpoint_learns_the_lesson(tiny_checkpoint, tmp_path):
    """Cross-validated, the candidate orders mail better than what it came from, and the card tells how it was made."""
    mail, outcome = _adapt(tiny_checkpoint, write_folder(tmp_path / "mail", 60), tmp_path)
    card = read_card(outcome.folder)

    assert outcome.candidate.figures.roca.value < outcome.current.answer.figures.roca.value
    assert not outcome.decision.is_worse
    assert (tiny_checkpoint.name, adapting.METHOD) == (card.training["started_from"], card.training["method"])
    assert tiny_checkpoint.name == adapting.root_of(card)
    assert 0.5 == card.threshold
    assert {"ham": 60, "spam": 60} == mail.counts["train"]


def test_only_the_last_layer_changes(tiny_checkpoint, tmp_path):
    """The stored checkpoint loads, and scores other mail."""
    _, outcome = _adapt(tiny_checkpoint, write_folder(tmp_path / "mail", 8), tmp_path)
    options = {"weights_dir": None, "device": CPU, "seed": 1, "display": SILENT}
    card, answer = answer_of(outcome.folder, HEADS, lesson(20, seed=9), **options)

    assert outcome.folder.name == card.id
    assert np.isfinite(answer.judged.scores).all()


def test_one_label_is_too_little(tiny_checkpoint, tmp_path):
    """Four of each label are the least, and the sentence says what to do."""
    with pytest.raises(TrainingError, match="3 ham and 3 spam are labelled; it takes 4 of each"):
        _adapt(tiny_checkpoint, write_folder(tmp_path / "mail", 3), tmp_path)


def test_another_head_is_refused(tiny_classifier, byte_tokenizer):
    """A head whose last layer is not ours to bend is named."""
    tiny_classifier.head = MeanPool(32, 2)

    with pytest.raises(TrainingError, match="not MeanPool"):
        adapting.read(tiny_classifier, part(4, byte_tokenizer))


def test_whole_numbers_stay(tiny_checkpoint, tmp_path):
    """What came of a checkpoint that computes in int8 does so too: its trunk is the same."""
    card = read_card(tiny_checkpoint).model_copy(update={"arithmetic": "int8"})
    folder = save_variant(tiny_checkpoint, tmp_path / "variants", card)
    _, outcome = _adapt(folder, write_folder(tmp_path / "mail", 8), tmp_path)

    assert "int8" == read_card(outcome.folder).arithmetic
