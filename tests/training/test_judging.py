"""A checkpoint answers held-out mail as the daemon would, and what it may have learnt of it is found."""

import json

import pytest
import torch
from teaching import HEADS, lesson

from spamd.inference.engine import Engine
from spamd.model.checkpoint import read_card
from spamd.training import cuts, splits
from spamd.training.judging import answer_of, find_overlap, lineage
from spamd.training.progress import SILENT

TODAY = [{"name": "folder", "path": "mail", "ham": 1, "spam": 1}]


@pytest.fixture
def card(tiny_checkpoint):
    """Make a card that was trained on certain mail."""

    def make(path="mail", seed=1, split=splits.METHOD, before=()):
        training = {"seed": seed, "split": split, "lineage": list(before)}
        return read_card(tiny_checkpoint).model_copy(
            update={"datasets": ({"name": "folder", "path": path},), "training": training}
        )

    return make


@pytest.mark.parametrize("changed", [{}, {"max_tokens": 16}, {"max_tokens": 16, "long_mail": "windows"}])
def test_scores_are_those_of_the_daemon(tiny_checkpoint, changed):
    """The very numbers that the engine computes are judged, whatever the card says of long mail."""
    card_file = tiny_checkpoint / "checkpoint.json"
    card_file.write_text(json.dumps(json.loads(card_file.read_text()) | changed))
    examples = lesson(20)
    card, answer = answer_of(
        tiny_checkpoint, HEADS, examples, weights_dir=None, device=torch.device("cpu"), seed=1, display=SILENT
    )
    engine = Engine.load(tiny_checkpoint, HEADS, device="cpu", threads=1)
    expected = [scored.score for scored in engine.score([example.text for example in examples])]

    assert expected == pytest.approx(answer.judged.scores.tolist(), abs=1e-6)
    assert card.threshold == answer.judged.threshold == answer.figures.threshold


def test_the_same_split_held_the_same_mail_out(card):
    """With the seed and method of today nothing that is held out now was trained on."""
    assert find_overlap(card(), TODAY, 1) is None


@pytest.mark.parametrize("changed", [{"seed": 2}, {"split": "another"}, {"split": None}])
def test_another_split_of_the_same_mail_overlaps(card, changed):
    """Another seed or method may have trained on what is held out now."""
    assert "mail" == find_overlap(card(**changed), TODAY, 1)


def test_what_was_shuffled_overlaps(card):
    """One message more shuffles everything anew, whatever the seed."""
    assert "mail" == find_overlap(card(split=cuts.SHUFFLED), TODAY, 1, cuts.SHUFFLED)


def test_other_mail_does_not_overlap(card):
    """Mail of another place is taken for other mail."""
    assert find_overlap(card(path="elsewhere", seed=2), TODAY, 1) is None


def test_ancestors_count(card):
    """What the base of the base was trained on is remembered through any number of retrainings."""
    first = card(seed=2)
    second = card(path="elsewhere", before=lineage(first))
    third = card(path="third", before=lineage(second))

    assert "mail" == find_overlap(third, TODAY, 1)
    assert 3 == len(lineage(third))


def test_a_card_without_datasets_has_no_lineage(tiny_checkpoint):
    """What was never trained is no ancestor."""
    assert [] == lineage(read_card(tiny_checkpoint))
