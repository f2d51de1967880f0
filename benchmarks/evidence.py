"""Fill the table of n-grams of the default checkpoint, and weigh it against the head.

A linear support vector machine over the n-grams of all training mail is the table. While the trunk is fine-tuned it hears what
such tables say that have not seen the message, so that it learns what n-grams do not tell, and not the same once more. How much
of table and head goes into the sum is found on validation mail, which neither has learned from: on mail that they know both are
sure. Called by `default_checkpoint.py`.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace

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
from spamd.training.parts import Part, labels_of, margins, tokenise
from spamd.training.splits import Example

STIFFNESS = 0.9
"""Of the linear model: the less, the stiffer (C)."""
WRITTEN_WEIGHT = 0.4
"""A written message counts as much as so many of a public corpus. They are many, and of like hands: where they count more, the
table knows their like better, and less of mail of corpora that nothing was learned from."""


class Counted:
    """Mail whose n-grams are counted, when they are first asked for, and the tables that learn from it.

    Args:
        examples: what is learned from; a message counts by its corpus.
        tokenizer: the vocabulary.
        note: sizes of the tables, and what they read of a message.
        seed: of the models.
    """

    def __init__(self, examples: Sequence[Example], tokenizer: Tokenizer, note: NGramsNote, *, seed: int) -> None:
        self._examples = examples
        self._tokenizer = tokenizer
        self._note = note
        self._seed = seed
        self._folds = np.array([teachers.fold_of(example) for example in examples])

    @functools.cached_property
    def table(self) -> NGrams:
        """The table that has learned from all of the mail, in the units of the model's margins."""
        return self._learn(np.ones(len(self._examples)))

    def beside(self, learned: Sequence[Example], judges: Sequence[Example], max_tokens: int) -> tuple[Part, Part]:
        """Make the parts of a training that hears what tables say of each message, in the units of its logit.

        Args:
            learned: what is learned from; of each message a table speaks that has seen the other folds alone.
            judges: what is judged with; no table has seen it.
            max_tokens: what the trunk reads.

        Returns:
            The parts, with their evidence.
        """
        labels, said = labels_of(learned), self._said_by_strangers(learned)
        model = LogisticRegression(C=1e6).fit(said[:, None], labels)
        heard = (said, self._said(self.table, judges))
        parts = (tokenise(examples, self._tokenizer, max_tokens) for examples in (learned, judges))
        evidence = (model.decision_function(one[:, None]).astype(np.float32) for one in heard)
        train_part, validation = (replace(part, evidence=one) for part, one in zip(parts, evidence, strict=True))
        return train_part, validation

    def _said_by_strangers(self, examples: Sequence[Example]) -> Numbers:
        """Ask of each message a table that has learned from the mail of the other folds alone, (N,)."""
        folds = np.array([teachers.fold_of(example) for example in examples])
        found = np.zeros(len(examples))
        for fold in sorted(set(folds.tolist())):
            places = np.flatnonzero(folds == fold)
            found[places] = self._said(self._learn(self._folds != fold), [examples[place] for place in places.tolist()])
        return found

    def _said(self, table: NGrams, examples: Sequence[Example]) -> Numbers:
        """Ask a table, (N,)."""
        with torch.no_grad():
            return table.of(tokenise(examples, self._tokenizer, self._note.max_tokens).sequences).double().numpy()

    @functools.cached_property
    def _rows(self) -> tuple[svm.Rows, Numbers]:
        """The n-grams of the mail, and what its weights have to be multiplied by."""
        sequences = tokenise(self._examples, self._tokenizer, self._note.max_tokens).sequences
        rows = svm.read_rows(NGrams(self._note, self._tokenizer), sequences)
        factors = svm.weigh_by_rarity(rows, self._note.num_buckets)
        print(f"n-grams of {len(rows):,} messages are counted", flush=True)
        return rows, factors

    def _learn(self, shares: Numbers) -> NGrams:
        """Learn what n-grams say from mail that counts so much."""
        rows, factors = self._rows
        labels = labels_of(self._examples)
        weights_of_mail = [WRITTEN_WEIGHT if one.dataset == teachers.WRITTEN else 1.0 for one in self._examples]
        costs = STIFFNESS * shares * np.array(weights_of_mail)
        # The constant is left out: the head's bias takes that up when both are weighed.
        weights, _ = svm.learn(rows, labels, costs, np.ones(len(rows)), num_buckets=len(factors), seed=self._seed)
        table = NGrams(self._note, self._tokenizer)
        with torch.no_grad():
            table.weight.copy_(torch.from_numpy(weights * factors))
        return table


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
