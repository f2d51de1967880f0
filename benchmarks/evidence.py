"""Fill the table of n-grams of the default checkpoint, and weigh it against the head.

A linear support vector machine over the n-grams of all training mail is the table. How much of it and how much of the head goes
into the sum is found on validation mail, which neither has learned from: on mail that they know both are sure. Called by
`default_checkpoint.py`.
"""

from collections.abc import Sequence

import numpy as np
import teachers
import torch
from sklearn.linear_model import LogisticRegression

from spamd.model.card import NGramsNote
from spamd.model.classifier import SPAM, Classifier
from spamd.model.heads import LastToken
from spamd.model.ngrams import NGrams
from spamd.model.tokenizer import Tokenizer
from spamd.training import svm
from spamd.training.metrics import Numbers
from spamd.training.parts import Part, margins, tokenise
from spamd.training.splits import Example

STIFFNESS = 0.9
"""Of the linear model: the less, the stiffer (C)."""
WRITTEN_WEIGHT = 0.4
"""A written message counts as much as so many of a public corpus. They are many, and of like hands: where they count more, the
table knows their like better, and less of mail of corpora that nothing was learned from."""


def table(examples: Sequence[Example], tokenizer: Tokenizer, note: NGramsNote, *, seed: int) -> NGrams:
    """Learn what n-grams say.

    Args:
        examples: what is learned from; a message counts by its corpus.
        tokenizer: the vocabulary.
        note: sizes of the table, and what it reads of a message.
        seed: of the model.

    Returns:
        The table, in the units of the model's margins.
    """
    ngrams = NGrams(note, tokenizer)
    part = tokenise(examples, tokenizer, note.max_tokens)
    rows = svm.read_rows(ngrams, part.sequences)
    factors = svm.weigh_by_rarity(rows, note.num_buckets)
    costs = STIFFNESS * np.array([WRITTEN_WEIGHT if one.dataset == teachers.WRITTEN else 1.0 for one in examples])
    # The constant is left out: the head's bias takes that up when both are weighed.
    weights, _ = svm.learn(rows, part.labels, costs, np.ones(len(rows)), num_buckets=note.num_buckets, seed=seed)
    with torch.no_grad():
        ngrams.weight.copy_(torch.from_numpy(weights * factors))
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
