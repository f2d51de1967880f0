"""Teachers say of each message what they would say of a stranger's."""

import random

import numpy as np
import pytest
import teachers

from spamd.model.checkpoint import DEFAULT_FOLDER
from spamd.model.tokenizer import Tokenizer
from spamd.training.splits import Example
from spamd.verdict import Label

WORDS = ["harbour", "lantern", "meadow", "pencil", "quarry", "ribbon", "saddle", "timber", "umbrella", "velvet"]


@pytest.fixture(scope="module")
def tokenizer():
    """The vocabulary that ships."""
    return Tokenizer.from_file(DEFAULT_FOLDER / "vocabulary.tiktoken")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Few features will do for few messages."""
    monkeypatch.setattr("word_counters.NUM_FEATURES", 2**14)


def _mail(sittings, tell):
    """Mail of drawn words; `tell` gives the word that a message of a sitting and label holds."""
    draw = random.Random(3)
    return [
        Example(
            " ".join([*draw.choices(WORDS, k=12), tell(sitting, label)]), label, f"/x/sitting_{sitting:02d}/{n}", "written_mail"
        )
        for sitting in range(sittings)
        for n, label in enumerate([Label.HAM, Label.SPAM] * 8)
    ]


def test_what_holds_in_all_sittings_is_known(tokenizer):
    """A word that is in spam everywhere gives it away in mail that was not learned from."""
    examples = _mail(8, lambda _, label: "prize" if label is Label.SPAM else "minutes")
    found = teachers.Teachers(examples, tokenizer, 1).doubts

    assert found[1::2].min() > found[0::2].max()


def test_what_holds_in_one_sitting_alone_is_not_known(tokenizer):
    """A word that tells the class within its own sitting alone is no evidence: nobody else could have learned it."""
    examples = _mail(8, lambda sitting, label: "".join(random.Random(f"{sitting}{label}").choices("bcdfghjk", k=8)))
    found = teachers.Teachers(examples, tokenizer, 1).doubts

    assert abs(np.mean(found[1::2]) - np.mean(found[0::2])) < 0.2


def test_mail_of_one_class_is_not_doubted(tokenizer):
    """Where all that is not written is spam, there is nothing to calibrate by, and the label stands."""
    examples = _mail(8, lambda _, label: "prize" if label is Label.SPAM else "minutes")
    examples += [Example(f"prize number {n}", Label.SPAM, f"{n}", "lists_ham") for n in range(10)]

    assert [1.0] * 10 == teachers.Teachers(examples, tokenizer, 1).doubts[-10:].tolist()


def test_only_those_who_have_not_seen_a_fold_are_asked_about_it(tokenizer):
    """What one sitting alone would teach is known to those who learned from it, and not to those of its own fold."""
    examples = _mail(8, lambda sitting, label: f"prize{sitting}" if label is Label.SPAM else f"minutes{sitting}")
    taught = teachers.Teachers(examples, tokenizer, 1)
    spam = next(example for example in examples if example.label is Label.SPAM)
    own = teachers.fold_of(spam)
    others = [fold for fold in range(teachers.FOLDS) if fold != own]
    found = taught.ask([spam.text] * teachers.FOLDS, [own, *others], is_written=True)

    assert found[0] < found[1:].min()


def test_without_both_classes_nobody_can_be_asked(tokenizer):
    """Mail of one class teaches nothing: one sentence says so."""
    with pytest.raises(ValueError, match="one class"):
        teachers.Teachers([one for one in _mail(8, lambda *_: "x") if one.label is Label.HAM], tokenizer, 1)
