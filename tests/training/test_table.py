"""The table of n-grams learns what a site's words say there, no more than validation mail confirms, and touches nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from teaching import part

from spamd.model.card import MOST_DOUBTED, NGramsNote
from spamd.model.ngrams import NGrams
from spamd.training import ngrams
from spamd.training.calibration import fit_temperature
from spamd.training.metrics import by_label, one_minus_roca
from spamd.training.parts import margins

NOTE = NGramsNote(num_buckets=2**14, characters=(2, 3), tokens=(1, 2), stretch=32, doubt=0.5, doubling=0.25)


@pytest.fixture
def classifier(tiny_classifier, byte_tokenizer):
    """The tiny classifier with a table that knows nothing."""
    tiny_classifier.ngrams = NGrams(NOTE, byte_tokenizer)
    return tiny_classifier


def _fault(classifier, mail):
    """The (1-ROCA) % of a classifier on a part."""
    return one_minus_roca(*by_label(mail.labels, margins(classifier, mail)))


def test_local_words_are_learned(classifier, byte_tokenizer):
    """What no validation mail chose is parted by what was learned; trunk and head are as before."""
    kept = {name: tensor.clone() for name, tensor in classifier.state_dict().items() if not name.startswith("ngrams.")}
    test = part(40, byte_tokenizer, seed=9)
    before = _fault(classifier, test)
    parts = (part(60, byte_tokenizer), part(20, byte_tokenizer, seed=5))
    learned = ngrams.learn(classifier, byte_tokenizer, parts, seed=1)

    assert before > 10.0
    assert _fault(classifier, test) < 1.0
    assert learned.num_messages == 120
    assert learned.trust in ngrams.TRUSTS
    assert learned.new_loss < 0.5 * learned.loss
    assert all(torch.equal(tensor, kept[name]) for name, tensor in classifier.state_dict().items() if name in kept)


def test_the_same_mail_teaches_the_same(classifier, byte_tokenizer):
    """Twice from the same start, the table ends the same."""
    parts = (part(30, byte_tokenizer), part(20, byte_tokenizer, seed=5))
    tables = []
    for _ in range(2):
        classifier.ngrams = NGrams(NOTE, byte_tokenizer)
        ngrams.learn(classifier, byte_tokenizer, parts, seed=1)
        tables.append(classifier.ngrams.weight.detach().clone())

    assert torch.equal(*tables)


def test_what_validation_mail_denies_is_not_kept(classifier, byte_tokenizer):
    """Where the mail says the contrary of what is known to hold, table and doubts stay as they were."""
    truth = part(20, byte_tokenizer, seed=5)
    assert ngrams.learn(classifier, byte_tokenizer, (part(60, byte_tokenizer), truth), seed=1)
    kept, note = classifier.ngrams.weight.detach().clone(), classifier.ngrams.note
    false = part(60, byte_tokenizer, seed=7)

    assert ngrams.learn(classifier, byte_tokenizer, (replace(false, labels=1 - false.labels), truth), seed=1) is None
    assert torch.equal(classifier.ngrams.weight, kept)
    assert classifier.ngrams.note == note


def test_a_classifier_that_knows_the_mail_is_trusted_more(classifier, byte_tokenizer):
    """Of a few messages a classifier that knows better is asked first; one that knows nothing is not."""
    few, truth = part(6, byte_tokenizer, seed=11), part(40, byte_tokenizer, seed=5)
    trusts = []
    for teach in (False, True):
        classifier.ngrams = NGrams(NOTE, byte_tokenizer)
        if teach:
            ngrams.learn(classifier, byte_tokenizer, (part(200, byte_tokenizer), truth), seed=1)
        learned = ngrams.learn(classifier, byte_tokenizer, (few, truth), seed=1)
        trusts.append(learned.trust if learned else max(ngrams.TRUSTS))

    assert trusts[0] < trusts[1]


def test_stretches_and_length_are_doubted_as_much_as_before(classifier, byte_tokenizer):
    """Doubts grow with how loud the classifier has become, within what a card may hold."""
    parts = (part(60, byte_tokenizer), part(20, byte_tokenizer, seed=5))
    before = fit_temperature(parts[1].labels, margins(classifier, parts[1]))
    ngrams.learn(classifier, byte_tokenizer, parts, seed=1)
    louder = fit_temperature(parts[1].labels, margins(classifier, parts[1])) / before
    note = classifier.ngrams.note

    assert note.doubt == pytest.approx(NOTE.doubt * max(louder, 1.0), rel=0.1)
    assert note.doubling == pytest.approx(note.doubt / 2.0)
    assert note.doubt <= MOST_DOUBTED


def test_of_much_mail_as_much_is_learned_as_fits(classifier, byte_tokenizer, monkeypatch, tmp_path):
    """More messages than are learned from are drawn, and the file that held their n-grams is gone."""
    monkeypatch.setattr(ngrams, "MOST_MESSAGES", 50)
    parts = (part(60, byte_tokenizer), part(40, byte_tokenizer, seed=5))
    learned = ngrams.learn(classifier, byte_tokenizer, parts, seed=1, folder=tmp_path)

    assert learned.num_messages == 50
    assert not list(tmp_path.iterdir())


def test_mail_without_ngrams_teaches_nothing(tiny_classifier, byte_tokenizer):
    """Where no message has an n-gram the table stays as it is, and nothing is divided by zero."""
    tiny_classifier.ngrams = NGrams(NGramsNote(num_buckets=2**8, characters=(8,), tokens=(8,)), byte_tokenizer)
    mail = replace(part(2, byte_tokenizer), sequences=[[65], [66], [67], [68]])

    with np.errstate(all="raise", under="ignore"):
        assert ngrams.learn(tiny_classifier, byte_tokenizer, (mail, mail), seed=1) is None


def test_without_a_table_there_is_nothing_to_learn_with(tiny_classifier, byte_tokenizer):
    """A classifier without a table is refused."""
    mail = part(4, byte_tokenizer)
    with pytest.raises(ValueError, match="without a table"):
        ngrams.learn(tiny_classifier, byte_tokenizer, (mail, mail), seed=1)
