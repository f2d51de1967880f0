"""Checkpoints are compared by mail that none of them was trained on, or it is said that this cannot be told."""

import pytest
import torch
from checkpoints import copy_checkpoint
from teaching import HEADS, lesson

from spamd.errors import DatasetError
from spamd.model.checkpoint import read_card
from spamd.training import comparing, evaluation
from spamd.training.cuts import NOTHING_HELD_OUT
from spamd.training.evaluation import evaluate, seen_before
from spamd.training.progress import SILENT
from spamd.training.splits import METHOD, TEST_SHARE, fraction
from spamd.verdict import Label

NAMES = {"folder:lesson": frozenset({"mail", "lesson"})}
EXAMPLES = lesson(40)


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path):
    """Make a checkpoint that was trained on certain mail."""

    def make(number, path="mail", **training):
        datasets = [{"name": "folder", "path": path}]
        return copy_checkpoint(tiny_checkpoint, tmp_path, f"2026-01-0{number}-abcdef", datasets=datasets, training=training)

    return make


def _evaluate(*folders, examples=EXAMPLES, is_all=False):
    """Compare checkpoints on the lesson."""
    options = {"weights_dir": None, "device": torch.device("cpu"), "seed": 1, "display": SILENT}
    return evaluate(folders, HEADS, examples, NAMES, is_all=is_all, **options)


def test_what_a_checkpoint_was_trained_on_does_not_judge(checkpoint):
    """Of a dataset of the same name only its test part is left, by the card's seed."""
    found = _evaluate(checkpoint(1, seed=7, split=METHOD))
    held_out = sum(fraction(example.text, 7) < TEST_SHARE for example in EXAMPLES)

    assert held_out == found.num_ham + found.num_spam == 80 - found.num_known
    assert () == found.judgements[0].warnings


def test_other_mail_is_judged_whole(checkpoint):
    """Mail of another name was not trained on."""
    found = _evaluate(checkpoint(1, "else", seed=7, split=METHOD))

    assert (40, 40, 0) == (found.num_ham, found.num_spam, found.num_known)


def test_the_same_messages_judge_all(checkpoint):
    """With two seeds only what both held out is left."""
    both = {seed: {e.text for e in EXAMPLES if fraction(e.text, seed) < TEST_SHARE} for seed in (7, 8)}
    one, other = (checkpoint(seed - 6, seed=seed, split=METHOD) for seed in (7, 8))
    cards = [read_card(folder) for folder in (one, other)]
    kept, _ = evaluation.keep_unseen(EXAMPLES, cards, NAMES)

    assert both[7] & both[8] == {example.text for example in kept}


def test_what_cannot_be_told_is_said(checkpoint):
    """A method that keeps no record leaves all mail, with a warning that counts it."""
    found = _evaluate(checkpoint(1, seed=7, split="shuffled 70/10/20"))

    assert 80 == found.num_ham + found.num_spam
    assert "it may know 80 of these messages" in found.judgements[0].warnings[0]


def test_all_keeps_everything_and_says_so(checkpoint):
    """--all flatters, and is told to."""
    found = _evaluate(checkpoint(1, seed=7, split=METHOD), is_all=True)

    assert 80 == found.num_ham + found.num_spam
    assert "figures are flattered" in found.judgements[0].warnings[0]


def test_nothing_left_is_an_error(checkpoint):
    """Where all mail was trained on, that is the sentence."""
    with pytest.raises(DatasetError, match="after 80 messages that a checkpoint was trained on"):
        _evaluate(checkpoint(1, seed=7, split=NOTHING_HELD_OUT))


def test_one_label_alone_is_an_error(checkpoint):
    """Where nothing was left out there is nothing to do but to name other mail."""
    ham = [one for one in EXAMPLES if one.label is Label.HAM]
    for is_all in (False, True):
        with pytest.raises(DatasetError, match=r"40 ham and 0 spam\. There must be both; add a --dataset\.$"):
            _evaluate(checkpoint(1 + is_all, path="other"), examples=ham, is_all=is_all)


def test_ancestors_count(checkpoint):
    """Mail that the base was trained on is known too."""
    before = {"checkpoint": "x", "seed": 7, "split": METHOD, "datasets": [{"name": "folder", "path": "mail"}]}
    card = read_card(checkpoint(1, "else", seed=1, split=METHOD, lineage=[before]))
    seen = [seen_before(card, example, NAMES["folder:lesson"]) for example in EXAMPLES]

    assert [fraction(example.text, 7) >= TEST_SHARE for example in EXAMPLES] == seen


def test_a_twin_differs_in_nothing(checkpoint):
    """The same weights twice: every paired difference and its interval are zero, and the table says so."""
    found = _evaluate(checkpoint(1, "else"), checkpoint(2, "else"))
    differences = found.judgements[1].differences

    assert {} == found.judgements[0].differences
    assert {(0.0, 0.0, 0.0)} == {(one.value, one.low, one.high) for one in differences.values()}
    text = comparing.table(found)
    for row in (
        "2026-01-01-abcdef",
        "2026-01-02-abcdef",
        "calibration error (ECE)",
        "ham lost (hm)",
        "language",
        "plain",
        "corpus",
    ):
        assert row in text


def test_json_holds_all_figures(checkpoint):
    """Figures, calibration error before and after temperature, differences and slices."""
    values = comparing.as_json(_evaluate(checkpoint(1, "else"), checkpoint(2, "else")))
    first, second = values["checkpoints"]

    assert {"ham": 40, "spam": 40, "left_out_as_trained_on": 0} == values["messages"]
    assert {"hm", "sm", "roca", "caught_at_0.5"} == set(second["difference_from_first"])
    assert 0.0 <= first["ece"] <= 1.0
    assert first["ece"] == first["ece_before_temperature"]
    assert {"corpus", "language", "form", "length"} == {part["kind"] for part in first["slices"]}


def test_names_are_parts_of_the_path(tmp_path):
    """A card's name is found in any part of a path, with its ending or without."""
    assert {"corpus", "table.csv", "table"} <= evaluation.names_of(tmp_path / "corpus" / "table.csv")
