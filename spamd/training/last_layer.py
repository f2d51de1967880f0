"""The last layer of a checkpoint without a table of n-grams, bent towards few labelled messages, no further than they demand.

To the margin that the checkpoint gives a message a linear function of the last token's hidden state is added, which costs the
more the larger it is. How wide the prior is, is chosen by cross-validation. Stores nothing. Called by `adapting`.

Shape letters: N messages, D width of the trunk.
"""

from dataclasses import dataclass

import numpy as np
import torch

from spamd.errors import TrainingError
from spamd.model.classifier import SPAM, Classifier, cut_rows
from spamd.model.heads import LastToken
from spamd.training.batches import by_length
from spamd.training.logistic import NUM_FOLDS, deal, fit, losses
from spamd.training.metrics import Numbers
from spamd.training.parts import BATCH_TOKENS, Part
from spamd.training.progress import SILENT, Display

WIDTHS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Widths of the prior to choose from: standard deviations of a weight, where features have mean square one."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a checkpoint makes of messages.

    Attributes:
        features: hidden state of the last token and a one, (N, D + 1), float64, of mean square one.
        margins: logit of spam minus logit of ham, (N,).
        scale: what features were divided by.
    """

    features: Numbers
    margins: Numbers
    scale: float


@torch.inference_mode()
def read(classifier: Classifier, part: Part, display: Display = SILENT) -> Read:
    """Let a classifier read messages.

    Args:
        classifier: with the head `last-token`.
        part: the messages.
        display: told of each.

    Raises:
        TrainingError: it has another head.
    """
    head = _linear(classifier)
    hidden = np.empty((len(part.labels), head.in_features))
    for batch in by_length(part.lengths_within(classifier.max_tokens), BATCH_TOKENS):
        ids, lengths = (tensor.to(head.weight.device) for tensor in part.pad(batch))
        ids, lengths = cut_rows(ids, lengths, classifier.max_tokens)
        states = classifier.trunk.from_block(classifier.trunk.hidden_before(ids, 0, lengths), 0, lengths, reads="last")
        hidden[batch] = states[:, 0].double().cpu().numpy()
        display.advance(len(batch))
    weight, bias = (values.detach().double().cpu().numpy() for values in (head.weight, head.bias))
    margins = hidden @ (weight[SPAM] - weight[1 - SPAM]) + (bias[SPAM] - bias[1 - SPAM])
    scale = float(np.sqrt((hidden**2).mean())) or 1.0
    return Read(np.hstack([hidden / scale, np.ones((len(hidden), 1))]), margins, scale)


def choose_width(found: Read, labels: Numbers, *, temperature: float, seed: int) -> tuple[float, Numbers]:
    """Choose the width of the prior by cross-validated loss, and return it with the margins that go with it."""
    tried = {width: _cross_fit(found, labels, temperature=temperature, width=width, seed=seed) for width in WIDTHS}
    width = min(WIDTHS, key=lambda width: float(losses(tried[width], labels, temperature).mean()))
    return width, tried[width]


def bend(classifier: Classifier, found: Read, change: Numbers) -> None:
    """Add a change to the last layer.

    Args:
        classifier: changed in place.
        found: what the change was found with.
        change: (D + 1,).
    """
    head = _linear(classifier)
    with torch.no_grad():
        head.weight[SPAM] += torch.from_numpy(change[:-1] / found.scale).to(head.weight)
        head.bias[SPAM] += float(change[-1])


def _cross_fit(found: Read, labels: Numbers, *, temperature: float, width: float, seed: int) -> Numbers:
    """Score each message by what is learned without it: margins, (N,)."""
    folds = deal(labels, seed)
    margins = found.margins.copy()
    for fold in range(NUM_FOLDS):
        rest, mine = folds != fold, folds == fold
        change = fit(found.features[rest], found.margins[rest], labels[rest], temperature=temperature, width=width)
        margins[mine] += found.features[mine] @ change
    return margins


def _linear(classifier: Classifier) -> torch.nn.Linear:
    """Return the last layer.

    Raises:
        TrainingError: the head is not `last-token`.
    """
    if not isinstance(classifier.head, LastToken):
        raise TrainingError(
            "Without a table of n-grams only the head last-token can be adapted by --dataset feedback, not "
            f"{type(classifier.head).__name__}; name mail that can be held out as well, such as --dataset folder:PATH."
        )
    return classifier.head.linear
