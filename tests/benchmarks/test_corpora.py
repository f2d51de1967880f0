"""What an epoch sees is drawn the same way every time."""

from collections import Counter

import corpora

from spamd.training.splits import Example
from spamd.verdict import Label


def test_an_epoch_repeats_and_the_next_differs():
    """The same number draws the same messages in the same order and variation; another draws others."""
    train = [
        Example(f"Subject: {n}\n\nWords {n} of mail", Label("spam" if n % 2 else "ham"), str(n), "enron_spam") for n in range(40)
    ]

    assert corpora.epoch(train, 1, 0) == corpora.epoch(train, 1, 0)
    assert corpora.epoch(train, 1, 0) != corpora.epoch(train, 1, 1)


def test_fine_tuning_sees_so_many_of_each_label_and_the_same_every_time():
    """At most `finish` messages of a corpus and label, drawn and rewritten by the seed; labels and origins stay."""
    train = [
        Example(f"Subject: {n}\n\nWords {n} of mail", Label("spam" if n % 2 else "ham"), str(n), "sms_tr") for n in range(200)
    ]
    (most,) = (source.finish for source in corpora.SOURCES if source.name == "sms_tr")

    found = corpora.finish(train, 1)

    assert found == corpora.finish(train, 1)
    assert found != corpora.finish(train, 2)
    assert {Label.HAM: most, Label.SPAM: most} == Counter(one.label for one in found)
    assert all(one.label is train[int(one.origin)].label for one in found)
    assert any(one.text != train[int(one.origin)].text for one in found)


def test_fine_tuning_sees_some_mail_quoted():
    """Of both labels about `QUOTED` of the messages stand in a reply: the subject says so too."""
    train = [
        Example(f"Subject: {n}\n\nWords {n} of mail", Label("spam" if n % 2 else "ham"), str(n), "spamassassin")
        for n in range(1600)
    ]

    found = Counter(one.label for one in corpora.finish(train, 1) if one.text.startswith("Subject: Re: "))

    assert all(0.7 * corpora.QUOTED < found[label] / 800 < 1.3 * corpora.QUOTED for label in Label)


def test_what_is_held_out_names_corpora_that_exist():
    """The corpora judged with alone are the ones the card speaks of."""
    assert {"written_mail_held_out", "phishing_pot"} == corpora.HELD_OUT
