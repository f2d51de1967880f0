"""Mail is varied in ways that change no label, and the same way every time."""

import random

import corpora
import pytest

from spamd.training.splits import Example
from spamd.verdict import Label

TEXT = "From: Shop @news.shop.example\nReply-To: @other.test\nSubject: Your order\n\nIt left on Monday.\nSee track.shop.example"


def test_written_hosts_get_one_real_end():
    """Reserved ends go, and a host keeps one name throughout the text."""
    varied = corpora.real_ends(TEXT, random.Random(3))

    assert ".example" not in varied
    assert ".test" not in varied
    end = varied.splitlines()[0].rpartition("shop.")[2]
    assert f"track.shop.{end}" in varied


def test_words_that_are_no_hosts_stay():
    """A sentence may end in a reserved word."""
    assert corpora.real_ends("See this.Example of . test", random.Random(3)).endswith(" of . test")


def test_the_sender_goes_and_the_rest_stays():
    """From and Reply-To are left out."""
    assert "Subject: Your order\n\nIt left on Monday.\nSee track.shop.example" == corpora.without_sender(TEXT)


def test_a_message_of_a_sender_alone_is_kept():
    """Nothing is not a message."""
    assert "From: Shop @shop.example" == corpora.without_sender("From: Shop @shop.example")


@pytest.mark.parametrize("seed", range(60))
def test_variation_keeps_the_subject_line_in_place(seed):
    """Whatever is varied, the text keeps its form: fields, an empty line, a body."""
    fields, gap, body = corpora.vary(TEXT, random.Random(seed), ["Subject: x\n\n" + "other words " * 50]).partition("\n\n")

    assert gap
    assert body
    assert fields.splitlines()[-1].startswith("Subject: ")


@pytest.mark.parametrize("seed", range(20))
def test_what_is_crossed_keeps_the_form_and_takes_from_both(seed):
    """Fields of either, an empty line, sentences of one or both and of nobody else."""
    other = "Subject: The minutes\n\nWe met. We spoke. We left."
    crossed = corpora.cross(TEXT, other, random.Random(seed))
    fields, gap, body = crossed.partition("\n\n")

    assert gap
    assert set(fields.splitlines()) <= set(TEXT.splitlines()) | set(other.splitlines())
    assert body
    assert set(body.split()) <= set(TEXT.split()) | set(other.split())


def test_crossings_differ():
    """What two messages give together is not one text."""
    other = "We met. We spoke. We left.\nWe came back. We slept."
    crossed = {corpora.cross(TEXT, other, random.Random(seed)) for seed in range(40)}

    assert len(crossed) > 20


def test_an_epoch_repeats_and_the_next_differs():
    """The same number draws the same messages in the same order and variation; another draws others."""
    train = [
        Example(f"Subject: {n}\n\nWords {n} of mail", Label("spam" if n % 2 else "ham"), str(n), "enron_spam") for n in range(40)
    ]

    assert corpora.epoch(train, 1, 0) == corpora.epoch(train, 1, 0)
    assert corpora.epoch(train, 1, 0) != corpora.epoch(train, 1, 1)


def test_what_is_held_out_names_corpora_that_exist():
    """The corpora judged with alone are the ones the card speaks of."""
    assert {"written_mail_held_out", "phishing_pot"} == corpora.HELD_OUT
