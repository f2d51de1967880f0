"""The support vector machine finds what LIBLINEAR finds, from rows that lie in a file."""

import errno

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.svm import LinearSVC
from teaching import part

from spamd.model.card import NGramsNote
from spamd.model.ngrams import NGrams
from spamd.training import svm

NOTE = NGramsNote(num_buckets=2**12, characters=(2, 3), tokens=(1, 2))


@pytest.fixture
def mail(byte_tokenizer):
    """More messages than are read at once."""
    return part(60, byte_tokenizer)


@pytest.fixture
def rows(mail, byte_tokenizer, tmp_path):
    """Their n-grams."""
    return svm.read_rows(NGrams(NOTE, byte_tokenizer), mail.sequences, folder=tmp_path)


def _matrix(rows):
    """The same as a sparse matrix."""
    parts = (rows.entries["value"].astype(np.float64), rows.entries["bucket"].astype(np.int32), rows.ends.astype(np.int32))
    return sp.csr_matrix(parts, shape=(len(rows), NOTE.num_buckets))


def test_rows_are_those_of_the_table(mail, rows, byte_tokenizer, tmp_path):
    """Each message has the n-grams and shares that the table sums up, and the file that holds them has no name."""
    buckets, shares, ends = NGrams(NOTE, byte_tokenizer).rows(mail.sequences)

    assert rows.entries["bucket"].tolist() == buckets.tolist()
    assert rows.entries["value"].tolist() == shares.tolist()
    assert rows.ends.tolist() == ends.tolist()
    assert rows[3][0].tolist() == buckets[ends[3] : ends[4]].tolist()
    assert not list(tmp_path.iterdir())


def test_rare_ngrams_count_more(rows):
    """What one message has counts more than what all have, and rows have a length of one on the mean."""
    counts = np.bincount(rows.entries["bucket"], minlength=NOTE.num_buckets)
    common, rare = counts.argmax(), np.flatnonzero(counts == 1)[0]
    before = rows.entries["value"].copy()
    factors = svm.weigh_by_rarity(rows, NOTE.num_buckets)

    assert rows.entries["value"].tolist() == pytest.approx((before * factors[rows.entries["bucket"]]).tolist(), rel=1e-5)
    assert float(np.square(rows.entries["value"]).sum()) / len(rows) == pytest.approx(1.0, rel=1e-4)
    assert factors[rare] > 2.0 * factors[common]


def test_it_finds_what_liblinear_finds(mail, rows):
    """Decisions are the same, with messages that cost differently and a number beside the n-grams."""
    svm.weigh_by_rarity(rows, NOTE.num_buckets)
    costs = np.where(np.arange(len(rows)) % 3, 0.5, 2.0)
    beside = np.random.default_rng(1).normal(size=len(rows))
    labels = mail.labels.copy()
    labels[::10] = 1 - labels[::10]  # nobody can part these without a fault
    weights, counts = svm.learn(rows, labels, costs, beside, num_buckets=NOTE.num_buckets, seed=1)
    matrix = sp.hstack([_matrix(rows), beside[:, None]]).tocsr()
    theirs = LinearSVC(fit_intercept=False, C=1.0, tol=1e-6, max_iter=10_000).fit(matrix, labels, costs)

    assert (matrix @ np.append(weights, counts)).tolist() == pytest.approx(theirs.decision_function(matrix).tolist(), abs=0.05)


def test_mail_without_ngrams_says_nothing(byte_tokenizer):
    """Messages of fewer tokens than any run has give rows without entries, and weights of nothing."""
    note = NGramsNote(num_buckets=2**12, characters=(5,), tokens=(5,))
    rows = svm.read_rows(NGrams(note, byte_tokenizer), [[65, 66], [67]])
    factors = svm.weigh_by_rarity(rows, note.num_buckets)
    weights, counts = svm.learn(rows, np.array([0, 1]), np.ones(2), np.zeros(2), num_buckets=note.num_buckets, seed=1)

    assert len(rows) == 2
    assert np.isfinite(factors).all()
    assert not weights.any()
    assert counts == 0.0


def test_a_full_disk_is_named(mail, byte_tokenizer, tmp_path, monkeypatch):
    """The error says in which folder there is no room."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(NGrams, "rows", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        svm.read_rows(NGrams(NOTE, byte_tokenizer), mail.sequences, folder=tmp_path)

    assert error.value.filename == str(tmp_path)


def test_what_costs_nothing_teaches_nothing(mail, rows, byte_tokenizer):
    """Messages of cost 0 might as well not be there, whatever their labels."""
    svm.weigh_by_rarity(rows, NOTE.num_buckets)
    free = np.arange(len(rows)) % 3 == 0
    labels = np.where(free, 1 - mail.labels, mail.labels)
    weights, _ = svm.learn(rows, labels, 1.0 - free, np.zeros(len(rows)), num_buckets=NOTE.num_buckets, seed=1)
    theirs = LinearSVC(fit_intercept=False, tol=1e-6, max_iter=10_000).fit(_matrix(rows)[~free], labels[~free])

    assert (_matrix(rows) @ weights).tolist() == pytest.approx(theirs.decision_function(_matrix(rows)).tolist(), abs=0.05)
