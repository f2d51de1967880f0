"""Logistic regression under a normal prior, for few messages, and the folds that judge it.

Numbers in, numbers out; knows nothing of classifiers. Called by `adapting`, `last_layer` and `local_words`.

Shape letters: N messages, F features.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from spamd.training.metrics import Numbers

NUM_FOLDS = 5


def fit(
    features: Numbers, margins: Numbers, labels: Numbers, *, temperature: float, width: float, weights: Numbers | None = None
) -> Numbers:
    """Find the most likely change under a normal prior.

    Args:
        features: (N, F).
        margins: what is known already, (N,).
        labels: the truth, (N,) of 0 and 1.
        temperature: what margins are divided by.
        width: of the prior.
        weights: how often each message counts, (N,); None for once.

    Returns:
        The change, (F,): `features @ change` is to be added to margins.
    """
    inputs, offset, truth = (torch.from_numpy(np.asarray(values, np.float64)) for values in (features, margins, labels))
    counts = None if weights is None else torch.from_numpy(weights)
    change = torch.zeros(inputs.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([change], max_iter=100, tolerance_grad=1e-8, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        logits = (offset + inputs @ change) / temperature
        loss = functional.binary_cross_entropy_with_logits(logits, truth, weight=counts, reduction="sum")
        loss = loss + (change**2).sum() / (2 * width**2)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(step)  # type: ignore[no-untyped-call]
    found: Numbers = change.detach().numpy()
    return found


def deal(labels: Numbers, seed: int) -> Numbers:
    """Deal messages of each label into folds, (N,): 0 to NUM_FOLDS - 1."""
    folds = np.empty(len(labels), dtype=np.int64)
    drawn = np.random.default_rng(seed)
    for label in (0, 1):
        members = drawn.permutation(np.flatnonzero(labels == label))
        folds[members] = np.arange(len(members)) % NUM_FOLDS
    return folds


def losses(margins: Numbers, labels: Sequence[int] | Numbers, temperature: float) -> Numbers:
    """Compute the cross-entropy of calibrated scores, (N,)."""
    signs = np.where(np.asarray(labels) == 1, -1.0, 1.0)
    found: Numbers = np.logaddexp(0.0, signs * margins / temperature)
    return found
