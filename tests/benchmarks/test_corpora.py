"""What an epoch sees is drawn the same way every time."""

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


def test_what_is_held_out_names_corpora_that_exist():
    """The corpora judged with alone are the ones the card speaks of."""
    assert {"written_mail_held_out", "phishing_pot"} == corpora.HELD_OUT
