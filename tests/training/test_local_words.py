"""What few labels teach the table of n-grams, and that it is judged by what it learned from the others."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from teaching import lesson, part

from spamd.model.card import NGramsNote
from spamd.model.ngrams import NGrams
from spamd.training import local_words
from spamd.training.parts import Part, margins

NOTE = NGramsNote(num_buckets=2**14, characters=(2, 3), tokens=(1, 2), max_tokens=200, stretch=32, doubt=0.5, doubling=0.2)


@pytest.fixture
def classifier(tiny_classifier, byte_tokenizer):
    """The tiny classifier with a table that knows a little, all of it wrong."""
    tiny_classifier.ngrams = NGrams(NOTE, byte_tokenizer)
    with torch.no_grad():
        tiny_classifier.ngrams.weight.copy_(torch.randn(NOTE.num_buckets, generator=torch.Generator().manual_seed(1)))
    return tiny_classifier


def _teach(classifier, mail, seed=1):
    """Teach a classifier, and tell what it thought before."""
    thought = margins(classifier, mail)
    return thought, local_words.teach(classifier, mail, thought, temperature=1.0, seed=seed)


def _wrong(labels, found):
    """Compute the share of pairs of ham and spam that stand the wrong way round."""
    return float((found[labels == 0][:, None] >= found[labels == 1]).mean())


@pytest.mark.parametrize("num_each", [4, 30])
def test_words_seen_in_feedback_alone_move_the_verdict(classifier, byte_tokenizer, num_each):
    """Mail of the same words is told apart that was not before, by the table alone, from four of each label on."""
    other = part(60, byte_tokenizer, seed=7)
    head, before = copy.deepcopy(classifier.head.state_dict()), margins(classifier, other)
    _teach(classifier, part(num_each, byte_tokenizer))
    after = margins(classifier, other)

    assert _wrong(other.labels, after) < 0.5 * _wrong(other.labels, before)
    assert all(value.equal(head[name]) for name, value in classifier.head.state_dict().items())


def test_each_message_is_judged_by_what_the_others_taught(classifier, byte_tokenizer):
    """Labels that no word explains are learned by heart, and the judgement does not pretend otherwise."""
    mail = part(40, byte_tokenizer)
    mail = replace(mail, labels=np.random.default_rng(1).permutation(mail.labels))
    _, taught = _teach(classifier, mail)

    assert _wrong(mail.labels, margins(classifier, mail)) < 0.05
    assert _wrong(mail.labels, taught.margins) > 0.3


def test_judges_are_tables_at_work(classifier, byte_tokenizer, monkeypatch):
    """With stretches, and with what was not drawn, which is judged by the table that stays."""
    monkeypatch.setattr(local_words, "MOST_MESSAGES", 20)
    mail = part(20, byte_tokenizer)
    long = [[*sequence, *list(b" and so on" * 5), *sequence] for sequence in mail.sequences]
    mail = Part(long, mail.labels, mail.pad_id)
    _, taught = _teach(classifier, mail)
    drawn = local_words._draw(mail.labels, 1)
    rest = np.setdiff1d(np.arange(40), drawn)
    after = margins(classifier, mail)

    assert 20 == taught.num_messages == len(drawn)
    assert after[rest] == pytest.approx(taught.margins[rest], abs=1e-3)
    assert np.abs(after - taught.margins)[drawn].max() > 0.01


def test_of_the_rarer_label_all_are_drawn(monkeypatch):
    """Up to a half of what is learned from."""
    monkeypatch.setattr(local_words, "MOST_MESSAGES", 10)
    for num_spam, expected in ((3, 3), (5, 5), (90, 5), (98, 8)):
        labels = np.arange(100) < num_spam
        drawn = local_words._draw(labels, seed=1)

        assert (10, expected) == (len(set(drawn.tolist())), labels[drawn].sum())


def test_a_checkpoint_that_is_right_is_trusted(classifier, byte_tokenizer):
    """What knows the mail keeps its voice; what is wrong about all of it loses most of it."""
    mail = part(30, byte_tokenizer)
    truth = np.where(mail.labels == 1, 3.0, -3.0)
    trusts = []
    for thought in (truth, -truth):
        taught = local_words.teach(copy.deepcopy(classifier), mail, thought, temperature=1.0, seed=1)
        trusts.append((taught.trust, taught.louder))

    assert (1.0, 1.0) == trusts[0]
    assert trusts[1][0] < 1.0 < trusts[1][1]


def test_stretches_are_doubted_as_much_beside_what_is_said_now(classifier, byte_tokenizer):
    """Doubts grow with the voice, and no further than a card allows."""
    mail = part(30, byte_tokenizer)
    wrong = np.where(mail.labels == 1, -3.0, 3.0)
    classifier.ngrams.note = NOTE.model_copy(update={"doubling": 90.0})
    taught = local_words.teach(classifier, mail, wrong, temperature=1.0, seed=1)

    assert pytest.approx(0.5 * taught.louder) == classifier.ngrams.note.doubt
    assert 100.0 == classifier.ngrams.note.doubling


def test_products_are_those_of_the_rows(byte_tokenizer):
    """Compared a few at a time, each with the rest, rows have the products that they have as a whole; empty ones have none."""
    ngrams = NGrams(NOTE, byte_tokenizer)
    sequences = [[], *(list(example.text.encode()) for example in lesson(20)), []]
    rows = local_words.svm.read_rows(ngrams, sequences)
    dense = np.zeros((len(rows), NOTE.num_buckets))
    for number in range(len(rows)):
        buckets, values = rows[number]
        np.add.at(dense[number], buckets, values)
    products = local_words._products(rows, local_words.SILENT)
    features, back = local_words._directions(products)

    assert dense @ dense.T == pytest.approx(products, abs=1e-5)
    assert features @ features.T == pytest.approx(products, abs=1e-5)
    assert features.T @ back == pytest.approx(np.eye(features.shape[1]), abs=1e-5)


def test_mail_without_words_teaches_nothing(classifier, byte_tokenizer):
    """Nothing in common, nothing learned, and nothing that is not a number."""
    mail = Part([[byte_tokenizer.end_of_text]] * 8, np.array([0, 1] * 4), byte_tokenizer.end_of_text)
    before = classifier.ngrams.weight.detach().clone()
    thought, taught = _teach(classifier, mail)

    assert thought == pytest.approx(taught.margins, abs=1e-5)
    assert torch.equal(before, classifier.ngrams.weight)


def test_without_a_table_there_is_nothing_to_teach(classifier, byte_tokenizer):
    """A programmer's mistake says so."""
    classifier.ngrams = None

    with pytest.raises(ValueError, match="without a table"):
        _teach(classifier, part(4, byte_tokenizer))
