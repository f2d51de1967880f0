"""Messages that say nearly the same, found in linear time: MinHash over pairs of words, then buckets of equal bands.

Broder 1997, "On the resemblance and containment of documents"; bands as in Leskovec, Rajaraman and Ullman, "Mining of Massive
Datasets", section 3.4. Two texts are near copies where they share 70 % of their pairs of words, estimated from 64 hashes, give
or take 6 points. Texts go in one by one and are let go; a message costs 256 bytes. Knows no labels and chooses nothing: `splits`,
its caller, does.
"""

import re
import zlib

import numpy as np
import numpy.typing as npt

ALIKE = 0.7
"""Share of pairs of words in common from which two texts are near copies."""

NUM_HASHES = 64
BAND_HASHES = 4
"""Hashes of a band. Texts that share 70 % of their pairs share one of the 16 bands with a chance of 99 %."""

_MAX_CHARACTERS = 20_000
# Scripts without spaces: each character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\W\d_]+")
_HALF = np.uint64(32)

Signature = npt.NDArray[np.uint32]


def _make_hashes() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Draw factors, all odd, and addends of the hash functions: the same ones for ever."""
    drawn = np.random.default_rng(20).integers(0, 1 << 64, size=(2, NUM_HASHES, 1), dtype=np.uint64)
    return drawn[0] | np.uint64(1), drawn[1]


_FACTORS, _ADDENDS = _make_hashes()


def signature(text: str) -> Signature:
    """Sum a text up, (64,): the share of equal numbers in two of these estimates the share of pairs of words in common.

    Args:
        text: any text; digits, punctuation and case make no difference, and what follows 20,000 characters neither.
    """
    words = _WORD.findall(text[:_MAX_CHARACTERS].casefold()) or [text[:_MAX_CHARACTERS]]
    hashes = np.array([zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words], dtype=np.uint64)
    # A lone word pairs with itself.
    pairs = (hashes[:-1] << _HALF | hashes[1:]) if len(hashes) > 1 else hashes
    pairs = pairs ^ pairs >> _HALF
    # Multiply-shift: 64 bits overflow on purpose, and the upper half of what is left is the hash.
    found: Signature = ((pairs * _FACTORS + _ADDENDS) >> _HALF).min(axis=1).astype(np.uint32)
    return found


def group(signatures: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """Give near copies the same number.

    Of all messages that share a band, each is compared with the first, so that even a thousand copies of one template take a
    thousand comparisons. What is a near copy of a near copy belongs to the same group.

    Args:
        signatures: of N messages, (N, 64).

    Returns:
        For each message the smallest position in its group, (N,).
    """
    parents = np.arange(len(signatures))
    for start in range(0, NUM_HASHES, BAND_HASHES):
        bands = (
            np.ascontiguousarray(signatures[:, start : start + BAND_HASHES]).view(np.dtype((np.void, 4 * BAND_HASHES))).ravel()
        )
        _, firsts, which = np.unique(bands, return_index=True, return_inverse=True)
        leaders = firsts[which]
        others = np.flatnonzero(leaders != np.arange(len(signatures)))
        alike = (signatures[others] == signatures[leaders[others]]).mean(axis=1) >= ALIKE
        for one, other in zip(others[alike].tolist(), leaders[others[alike]].tolist(), strict=True):
            _join(parents, one, other)
    return np.array([_root(parents, position) for position in range(len(parents))], dtype=np.int64)


def _root(parents: npt.NDArray[np.int64], position: int) -> int:
    """Find the first message of a group, and shorten the way for those who come after."""
    while parents[position] != position:
        parents[position] = parents[parents[position]]
        position = int(parents[position])
    return position


def _join(parents: npt.NDArray[np.int64], one: int, other: int) -> None:
    """Make two groups one."""
    first, second = sorted((_root(parents, one), _root(parents, other)))
    parents[second] = first
