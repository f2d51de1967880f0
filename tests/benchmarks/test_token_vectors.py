"""Tokens with the same neighbours get like vectors."""

import numpy as np
import pytest
import torch
from token_vectors import token_vectors


def _texts():
    """Tokens 1 and 2 stand between the same others, 3 between different ones."""
    draw = np.random.default_rng(1)
    return [[int(draw.integers(4, 10)), int(draw.integers(1, 3)), int(draw.integers(4, 10))] for _ in range(400)] + [
        [int(draw.integers(10, 16)), 3, int(draw.integers(10, 16))] for _ in range(200)
    ]


def test_like_tokens_are_near():
    """The cosine of two that can stand for each other is larger than that of two that cannot."""
    vectors = token_vectors(_texts(), 16, 8, deviation=0.02, seed=1)
    near, far = (torch.cosine_similarity(vectors[1], vectors[other], dim=0) for other in (2, 3))

    assert near > 0.8 > far


def test_shape_and_spread_are_as_asked():
    """One row a token; entries spread as asked."""
    vectors = token_vectors(_texts(), 16, 8, deviation=0.02, seed=1)

    assert (16, 8) == tuple(vectors.shape)
    assert 0.02 == pytest.approx(float(vectors.std(unbiased=False)), rel=1e-3)


def test_the_same_seed_gives_the_same_vectors():
    """The factorisation repeats."""
    assert torch.equal(
        token_vectors(_texts(), 16, 8, deviation=0.02, seed=1), token_vectors(_texts(), 16, 8, deviation=0.02, seed=1)
    )
