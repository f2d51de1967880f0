"""Start token embeddings from what stands beside what: positive pointwise mutual information, factorised.

Tokens with the same neighbours get like vectors, in seconds, where next-token training on two cores would take hours to get as
far (Levy and Goldberg 2014, "Neural Word Embedding as Implicit Matrix Factorization"). Called by `default_checkpoint.py`.

Letters: V vocabulary, D width of the trunk.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

WINDOW = 4
"""Tokens on each side that count as neighbours, the farther the less."""
SMOOTHING = 0.75
"""Exponent of the neighbours' frequencies, so that rare tokens do not dominate."""


def token_vectors(sequences: Sequence[Sequence[int]], vocab_size: int, width: int, *, deviation: float, seed: int) -> Tensor:
    """Compute a vector for each token.

    Args:
        sequences: token ids of each text.
        vocab_size: V.
        width: D.
        deviation: standard deviation that the vectors' entries get.
        seed: of the randomised factorisation.

    Returns:
        (V, D) float32; tokens that never occur get what the mean leaves them.
    """
    counts = _neighbours(sequences, vocab_size)
    totals = np.asarray(counts.sum(1)).ravel() + 1e-9  # (V,)
    expected = totals**SMOOTHING / (totals**SMOOTHING).sum()  # (V,)
    pairs = counts.tocoo()
    information = np.log(pairs.data / totals[pairs.row] / expected[pairs.col])
    kept = information > 0.0
    matrix = scipy.sparse.csr_matrix((information[kept], (pairs.row[kept], pairs.col[kept])), shape=counts.shape)
    left, strengths, _ = randomized_svd(matrix.astype(np.float32), width, n_iter=3, random_state=seed)
    vectors = left * np.sqrt(strengths)
    vectors -= vectors.mean(0)
    return torch.from_numpy(vectors * (deviation / vectors.std())).float()


def _neighbours(sequences: Sequence[Sequence[int]], vocab_size: int) -> Any:
    """Count neighbours, weighted by nearness: a symmetric (V, V) sparse matrix."""
    # An id beyond the vocabulary keeps the end of one text apart from the beginning of the next.
    gap = [vocab_size] * WINDOW
    stream = np.concatenate([np.asarray([*sequence, *gap], dtype=np.int64) for sequence in sequences])
    counts = scipy.sparse.csr_matrix((vocab_size + 1, vocab_size + 1), dtype=np.float32)
    for distance in range(1, WINDOW + 1):
        weights = np.full(len(stream) - distance, 1.0 / distance, dtype=np.float32)
        pairs = (stream[:-distance], stream[distance:])
        counts += scipy.sparse.coo_matrix((weights, pairs), shape=counts.shape).tocsr()
    counts = counts[:vocab_size, :vocab_size]
    return counts + counts.T
