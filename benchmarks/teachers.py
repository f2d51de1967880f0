"""Ask linear models what they make of mail that they have not learned from: soft labels for a network to learn from.

A network with millions of parameters learns a few thousand written messages by heart; a linear model over parts of words does
not. Each message is scored by one that has learned from the other folds alone (whole sittings of the written mail are one fold),
so that what it says about the message is what it would say about a stranger's. The network is then taught half the label and half
that probability (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"). Texts crossed from two messages of one fold
have no label; what the teachers of that fold say of them is all that is taught, and no two epochs see the same. Called by
`default_checkpoint.py`.
"""

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

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
WRITTEN_WEIGHT = 4.0
"""A written message counts as much as so many of a public corpus: those are many, and old."""
MAX_TOKENS = 256
ASKED_AT_ONCE = 2000
NUM_CLASSES = 2
WRITTEN = "written_mail"


class Teachers:
    """Linear models, two for each fold, that have learned from the mail of the other folds.

    Args:
        examples: what they learn from; texts are taken as they are.
        tokenizer: its tokens and pairs of them are what half of the models count.
        seed: of the models.
    """

    def __init__(self, examples: Sequence[Example], tokenizer: Tokenizer, seed: int) -> None:
        labels = labels_of(examples)
        # Margins of the written mail are smaller than those of corpora that repeat themselves: each is calibrated for itself.
        are_written = np.array([example.dataset == WRITTEN for example in examples])
        groups = {True: are_written, False: ~are_written}
        if all(len(set(labels[group])) < NUM_CLASSES for group in groups.values()):
            raise ValueError("teachers cannot learn from mail of one class alone; give them ham and spam of one origin")
        texts = [example.text for example in examples]
        self._parts_of_words = Features()
        self._tokens = make_pipeline(
            HashingVectorizer(
                analyzer=lambda text: _tokens_and_pairs(tokenizer.encode(text, MAX_TOKENS).ids), alternate_sign=False, norm=None
            ),
            TfidfTransformer(sublinear_tf=True),
        )
        views = (self._parts_of_words.learn(texts), self._tokens.fit_transform(texts))
        folds = np.array([fold_of(example) for example in examples])
        weights = weights_of(examples)
        self._models = [
            [LinearSVC(C=STIFFNESS, random_state=seed).fit(view[known], labels[known], weights[known]) for view in views]
            for known in (folds != fold for fold in range(FOLDS))
        ]
        margins = self._margins(views, folds)
        self._scales = {
            is_written: LogisticRegression().fit(margins[group, None], labels[group])
            for is_written, group in groups.items()
            if len(set(labels[group])) == NUM_CLASSES
        }
        # Mail of one class gives nothing to calibrate by, and nothing to doubt.
        self.doubts: Numbers = labels.astype(np.float64)
        """For each of the examples: the probability of spam that the models give who have not seen it."""
        for is_written in self._scales:
            self.doubts[groups[is_written]] = self._probabilities(margins[groups[is_written]], is_written)

    def ask(self, texts: Sequence[str], folds: Sequence[int], *, is_written: bool) -> Numbers:
        """Compute the probability that texts are spam, as those say who have not seen the mail of the text's fold.

        Args:
            texts: of any origin.
            folds: the fold that each was made from.
            is_written: whether they are like the written mail; decides the calibration.

        Returns:
            One probability a text, 0.0 to 1.0, in their order.
        """
        found = []
        for start in range(0, len(texts), ASKED_AT_ONCE):
            some = texts[start : start + ASKED_AT_ONCE]
            views = (self._parts_of_words.matrix(some), self._tokens.transform(some))
            margins = self._margins(views, np.array(folds[start : start + ASKED_AT_ONCE]))
            found.append(self._probabilities(margins, is_written))
        return np.concatenate(found) if found else np.zeros(0)

    def _margins(self, views: Sequence[Any], folds: Numbers) -> Numbers:
        """Compute what the models of each text's fold decide on the mean, (texts,)."""
        margins = np.zeros(len(folds))
        for fold, models in enumerate(self._models):
            here = folds == fold
            if here.any():
                margins[here] = np.mean(
                    [model.decision_function(view[here]) for model, view in zip(models, views, strict=True)], axis=0
                )
        return margins

    def _probabilities(self, margins: Numbers, is_written: bool) -> Numbers:
        """Calibrate margins."""
        scale = self._scales.get(is_written) or self._scales[not is_written]
        found: Numbers = expit(scale.decision_function(margins[:, None]))
        return found


def weights_of(examples: Sequence[Example]) -> Numbers:
    """Say how much each message counts, (N,), by its corpus."""
    return np.array([WRITTEN_WEIGHT if example.dataset == WRITTEN else 1.0 for example in examples])


def _tokens_and_pairs(ids: Sequence[int]) -> list[str]:
    """List the tokens of a text, and each two that follow each other."""
    return [*map(str, ids), *(f"{left} {right}" for left, right in itertools.pairwise(ids))]


def fold_of(example: Example) -> int:
    """Choose a message's fold: of the written mail by sitting, else by where it was read."""
    sitting = next((part for part in example.origin.split("/") if part.startswith("sitting_")), None)
    known_by = sitting or f"{example.dataset}/{example.origin}"
    return int.from_bytes(hashlib.sha256(known_by.encode("utf-8", "replace")).digest()[:4], "big") % FOLDS
