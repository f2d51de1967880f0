"""Fill the table of n-grams of the default checkpoint, and weigh it against the head.

A linear support vector machine over the n-grams of all training mail is the table. How much of it and how much of the head goes
into the sum is found on validation mail, which neither has learned from: on mail that they know both are sure. Called by
`default_checkpoint.py`.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import teachers
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from spamd.model.card import NGramsNote
from spamd.model.classifier import SPAM, Classifier
from spamd.model.heads import LastToken
from spamd.model.ngrams import NGrams
from spamd.model.tokenizer import Tokenizer
from spamd.training.metrics import Numbers
from spamd.training.parts import Part, labels_of, margins
from spamd.training.splits import Example

STIFFNESS = 0.6
"""Of the linear model: the less, the stiffer (C of `LinearSVC`)."""


def table(examples: Sequence[Example], tokenizer: Tokenizer, note: NGramsNote, *, seed: int) -> NGrams:
    """Learn what n-grams say.

    Args:
        examples: what is learned from; a message counts by its corpus, as for the teachers.
        tokenizer: the vocabulary.
        note: sizes of the table, and what it reads of a message.
        seed: of the model.

    Returns:
        The table, in the units of the model's margins.
    """
    ngrams = NGrams(note, tokenizer)
    buckets, shares, ends = ngrams.rows(tokenizer.encode(example.text, note.max_tokens).ids for example in examples)
    rarity = np.log((1 + len(examples)) / (1 + np.bincount(buckets, minlength=note.num_buckets))) + 1.0
    values = shares * rarity[buckets]
    # Rows of length one on the mean, so that the stiffness means the same whatever the sizes are.
    length = np.sqrt(values @ values / len(examples))
    values /= length
    matrix = sp.csr_matrix((values, buckets, ends), shape=(len(examples), note.num_buckets))
    del buckets, shares  # some gigabytes, which the model needs now
    model = LinearSVC(C=STIFFNESS, random_state=seed)
    model.fit(matrix, labels_of(examples), teachers.weights_of(examples))
    # Its constant is left out: the head's bias takes that up when both are weighed.
    with torch.no_grad():
        ngrams.weight.copy_(torch.from_numpy(model.coef_[0] * rarity / length))
    return ngrams


def join(classifier: Classifier, ngrams: NGrams, validation: Part, weights: Numbers) -> None:
    """Put a table beside the head of a classifier, each so loud as validation mail says; a head that is worse than none is mute.

    Args:
        classifier: with the head `last-token` and without a table; changed in place.
        ngrams: the table; changed in place.
        validation: mail that neither has learned from, as much of it as the table reads.
        weights: of each message of it, (N,).

    Raises:
        ValueError: the mail says that the table should be believed the other way round.
    """
    head: LastToken = classifier.head  # type: ignore[assignment]
    with torch.no_grad():
        said = np.column_stack((margins(classifier, validation), ngrams.of(validation.sequences).double().numpy()))
        model = LogisticRegression(C=1e6).fit(said, validation.labels, weights)
        if model.coef_[0][0] < 0.0:
            said[:, 0] = 0.0
            model.fit(said, validation.labels, weights)
        (loud_head, loud_table), constant = model.coef_[0], float(model.intercept_[0])
        if loud_table <= 0.0:
            raise ValueError(f"the table of n-grams would weigh {loud_table:.3g}; that must be above 0")
        head.linear.weight *= float(loud_head)
        head.linear.bias *= float(loud_head)
        head.linear.bias[SPAM] += constant
        ngrams.weight *= float(loud_table)
    doubts = {name: float(loud_table) * getattr(ngrams.note, name) for name in ("doubt", "doubling")}
    ngrams.note = ngrams.note.model_copy(update=doubts)
    classifier.ngrams = ngrams
    print(f"the head counts {loud_head:.3f} times, the table of n-grams {loud_table:.3f} times", flush=True)
