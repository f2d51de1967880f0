"""Datasets become parts, and what was left out is told."""

import io
import re
from pathlib import Path

import pytest
from teaching import write_folder

from spamd.errors import DatasetError, TrainingError, UnknownNameError
from spamd.interfaces import LabeledMessage
from spamd.training.datasets import folder, spamd_register_datasets
from spamd.training.gathering import Source, gather, open_source
from spamd.training.progress import SILENT, Lines
from spamd.training.splits import read_examples
from spamd.verdict import Label


def _find(name):
    """Find a built-in dataset."""
    if name not in spamd_register_datasets():
        raise UnknownNameError(name)
    return spamd_register_datasets()[name]


def _messages(texts, label):
    """Messages with these texts."""
    return [LabeledMessage(f"Subject: {text}\n\n{text}\n".encode(), label, text) for text in texts]


WORDS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibex", "jay", "koi", "lark"]


def test_sources_are_opened_by_what_was_typed(tmp_path):
    """Name, path and options lead to a dataset."""
    write_folder(tmp_path, 2)
    source = open_source(f"folder:{tmp_path}", _find)

    assert ("folder", tmp_path) == (source.name, source.path)
    assert 4 == len(list(source.messages))


def test_unknown_sources_are_refused(tmp_path):
    """What nobody registered is for those to word who know what is on offer."""
    with pytest.raises(UnknownNameError):
        open_source(f"bogus:{tmp_path}", _find)


def test_options_that_a_plugin_does_not_take_are_one_sentence(tmp_path):
    """A factory without such an option does not end in a traceback."""
    with pytest.raises(DatasetError, match=r"Dataset 'mine:.*\?colour=red' cannot be opened: .*colour"):
        open_source(f"mine:{tmp_path}?colour=red", lambda _name: lambda _path: [])


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (lambda: 1 / 0, "failed: ZeroDivisionError: division by zero."),
        (lambda: None, "failed: TypeError: 'NoneType' object is not iterable."),
        (lambda: [(b"x", "spam")], "yields (b'x', 'spam'); let it yield LabeledMessage"),
        (lambda: [LabeledMessage("x", Label.HAM, "a")], "let it yield LabeledMessage, the message as bytes"),
        (lambda: [LabeledMessage(b"x", "junk", "file 7")], "labels file 7 as 'junk'; labels are ham and spam."),
    ],
)
def test_what_a_plugin_does_wrong_is_its_own_fault(found, sentence):
    """A dataset that fails, or yields something else, is named in one sentence."""

    class Broken:
        def __iter__(self):
            return iter(found())

    with pytest.raises(DatasetError, match=re.escape(sentence)):
        gather([Source("theirs", Path("x"), Broken())], seed=1, balance=False, display=SILENT)


def test_labels_that_are_plain_words_count():
    """A plugin may say `"spam"` for `Label.SPAM`; nothing is lost for it."""
    found = [LabeledMessage(f"Subject: {number}\n\n{number}".encode(), "ham", str(number)) for number in range(9)]

    assert [Label.HAM] * 9 == [example.label for example in read_examples(found, "theirs")]
    assert all(isinstance(example.label, Label) for example in read_examples(found, "theirs"))


def test_mail_of_all_sources_is_joined_and_counted(tmp_path):
    """Counts are those read, parts hold what is left, and every message left out is told."""
    animals = [f"{one} {two}" for one in WORDS for two in WORDS[:3]]
    sources = [
        Source("folder", write_folder(tmp_path / "mail", 30), folder(tmp_path / "mail")),
        Source("mine", tmp_path / "animals", _messages([*animals, "ant ant!", "both"], Label.HAM)),
        Source("mine", tmp_path / "other", _messages(["both"], Label.SPAM)),
    ]
    told = io.StringIO()
    mail = gather(sources, seed=1, balance=False, display=Lines(told))

    assert [("mail", 30, 30), ("animals", 38, 0), ("other", 0, 1)] == [(d["path"], d["ham"], d["spam"]) for d in mail.datasets]
    assert (1, 2) == (mail.num_duplicates, mail.num_conflicting)
    assert (66, 30) == tuple(sum(part[label] for part in mail.counts.values()) for label in ("ham", "spam"))
    assert "Left out: 1 copies of other messages, 2 messages that are labelled both ham and spam\n" in told.getvalue()
    assert f"Test: {mail.counts['test']['ham']} ham, {mail.counts['test']['spam']} spam\n" in told.getvalue()


def test_balancing_leaves_as_many_of_each(tmp_path):
    """Balanced, all parts together hold as many ham as spam, and the undrawn are told."""
    animals = [f"{one} {two}" for one in WORDS for two in WORDS[:2]]
    sources = [
        Source("folder", write_folder(tmp_path / "mail", 30), folder(tmp_path / "mail")),
        Source("mine", tmp_path / "animals", _messages(animals, Label.HAM)),
    ]
    told = io.StringIO()
    mail = gather(sources, seed=1, balance=True, display=Lines(told))

    assert (30, 30) == tuple(sum(part[label] for part in mail.counts.values()) for label in ("ham", "spam"))
    assert "Left out: 24 messages to balance the labels\n" in told.getvalue()


def test_one_label_is_refused(tmp_path):
    """Without spam there is nothing to train on."""
    with pytest.raises(TrainingError, match="12 ham and 0 spam"):
        gather([Source("mine", tmp_path, _messages(WORDS, Label.HAM))], seed=1, balance=False, display=SILENT)
