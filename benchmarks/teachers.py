"""Ask linear models what they make of mail that they have not learned from: soft labels for a network to learn from.

A network with millions of parameters learns a few thousand written messages by heart; a linear model over parts of words does
not. Each message is scored by one that has learned from the other folds alone (whole sittings of the written mail are one fold),
so that what it says about the message is what it would say about a stranger's. The network is then taught half the label and half
that probability (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"). Called by `default_checkpoint.py`.
"""

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np
from scipy.special import expit
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from word_counters import Features

from spamd.model.tokenizer import Tokenizer
from spamd.training.metrics import Numbers
from spamd.training.parts import labels_of
from spamd.training.splits import Example

FOLDS = 5
STIFFNESS = 0.3
"""Of the linear models: the less, the stiffer (C of `LinearSVC`)."""
WEIGHTS = {"written_mail": 20.0, "spamassassin": 1.0, "csdmc2010": 1.0, "sf_lists": 1.0, "lists_ham": 1.0, "newsletters_ham": 1.0}
OTHER_WEIGHT = 0.3
"""A written message counts as much as so many of a public corpus: those are many, and old."""
MAX_TOKENS = 256


def soft_labels(examples: Sequence[Example], tokenizer: Tokenizer, seed: int) -> Numbers:
    """Compute the probability that each message is spam, as somebody would say who has not seen it.

    Args:
        examples: what will be trained on; their texts are taken as they are.
        tokenizer: its tokens and pairs of them are what half of the models count.
        seed: of the models.

    Returns:
        One probability a message, 0.0 to 1.0, in their order.
    """
    labels = labels_of(examples)
    texts = [example.text for example in examples]
    pieces = make_pipeline(
        HashingVectorizer(
            analyzer=lambda text: _tokens_and_pairs(tokenizer.encode(text, MAX_TOKENS).ids), alternate_sign=False, norm=None
        ),
        TfidfTransformer(sublinear_tf=True),
    )
    views = (Features().learn(texts), pieces.fit_transform(texts))
    folds = np.array([_fold(example) for example in examples])
    weights = np.array([WEIGHTS.get(example.dataset, OTHER_WEIGHT) for example in examples])
    margins = np.zeros(len(examples))
    for fold in range(FOLDS):
        known = folds != fold
        for features in views:
            model = LinearSVC(C=STIFFNESS, random_state=seed)
            model.fit(features[known], labels[known], sample_weight=weights[known])
            margins[~known] += model.decision_function(features[~known]) / len(views)
    # Mail of one class gives nothing to calibrate by, and nothing to doubt.
    found = labels.astype(np.float64)
    # Margins of the written mail are smaller than those of corpora that repeat themselves: each is calibrated for itself.
    is_written = np.array([example.dataset == "written_mail" for example in examples])
    for group in (is_written, ~is_written):
        if len(set(labels[group])) > 1:
            scale = LogisticRegression().fit(margins[group, None], labels[group])
            found[group] = expit(scale.decision_function(margins[group, None]))
    return found


def _tokens_and_pairs(ids: Sequence[int]) -> list[str]:
    """List the tokens of a text, and each two that follow each other."""
    return [*map(str, ids), *(f"{left} {right}" for left, right in itertools.pairwise(ids))]


def _fold(example: Example) -> int:
    """Choose a message's fold: of the written mail by sitting, else by its text."""
    sitting = next((part for part in example.origin.split("/") if part.startswith("sitting_")), None)
    return int.from_bytes(hashlib.sha256((sitting or example.text).encode("utf-8", "replace")).digest()[:4], "big") % FOLDS
