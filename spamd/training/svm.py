"""A linear support vector machine over the n-grams of mail, which may be more than memory holds.

Dual coordinate descent for the squared hinge loss (Hsieh et al. 2008, "A Dual Coordinate Descent Method for Large-scale Linear
SVM", algorithm 1), as LIBLINEAR does it. That library holds every row several times in memory; here rows lie in a file, and a
step looks at one of them. Knows nothing of classifiers and thresholds. Called by `ngrams` and by the recipe of the default
checkpoint; `local_words` takes its rows from here.

Shape letters: N messages, M n-grams of all of them, each counted once a message.
"""

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spamd.model.ngrams import AT_ONCE, NGrams
from spamd.training.metrics import Numbers
from spamd.training.progress import SILENT, Display

MOST_PASSES = 20
"""Over the mail; what is left to learn then is little."""
CLOSE_ENOUGH = 0.01
"""Where no message is further from its best weight than this, in units of the margin wanted, the descent is over."""

_ENTRY = np.dtype([("bucket", np.int32), ("value", np.float32)])


@dataclass(frozen=True, slots=True)
class Rows:
    """The n-grams of messages, as the rows of a sparse matrix.

    Attributes:
        entries: `bucket`, the place of an n-gram in the table, and `value`, what it counts in its message, (M,).
        ends: where each message ends, (N + 1,), beginning with 0.
    """

    entries: npt.NDArray[Any]
    ends: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Count messages."""
        return len(self.ends) - 1

    def __getitem__(self, row: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return the n-grams of a message, and what they count."""
        found = self.entries[self.ends[row] : self.ends[row + 1]]
        return found["bucket"], found["value"]


def read_rows(
    ngrams: NGrams, sequences: Sequence[Sequence[int]], *, folder: Path | None = None, display: Display = SILENT
) -> Rows:
    """Find the n-grams of messages.

    Args:
        ngrams: says what is one.
        sequences: token ids of each message.
        folder: where a file without a name holds the rows; None for where such files usually lie.
        display: told of each message done.

    Raises:
        OSError: the disk is full.
    """
    ends = [np.zeros(1, np.int64)]
    # Gone with its last reader, whatever happens to this process.
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            for start in range(0, len(sequences), AT_ONCE):
                buckets, shares, found = ngrams.rows(sequences[start : start + AT_ONCE])
                entries = np.empty(len(buckets), _ENTRY)
                entries["bucket"], entries["value"] = buckets, shares
                file.write(entries.tobytes())
                ends.append(found[1:] + ends[-1][-1])
                display.advance(len(found) - 1)
            file.flush()
        except OSError as error:
            # A file without a name names nothing that the operator could make room in.
            raise OSError(error.errno, error.strerror, str(folder or tempfile.gettempdir())) from error
        # A file of no bytes cannot be mapped.
        rows = np.memmap(file, _ENTRY, "r+") if ends[-1][-1] else np.empty(0, _ENTRY)
    return Rows(rows, np.concatenate(ends))


def weigh_by_rarity(rows: Rows, num_buckets: int) -> npt.NDArray[np.float32]:
    """Let n-grams count the more the rarer they are, and rows have a length of one on the mean.

    Args:
        rows: their values are changed in place, so that a cost means the same whatever the sizes of table and mail are.
        num_buckets: of the table.

    Returns:
        What the weights that are learned from the rows have to be multiplied by, (num_buckets,), to be the table's.
    """
    bounds = rows.ends[[*range(0, len(rows), AT_ONCE), len(rows)]]
    pieces = [rows.entries[start:end] for start, end in itertools.pairwise(bounds)]
    counts, squares = np.zeros(num_buckets, np.int64), 0.0
    for piece in pieces:
        counts += np.bincount(piece["bucket"], minlength=num_buckets)
    rarity = (np.log((1 + len(rows)) / (1 + counts)) + 1.0).astype(np.float32)
    for piece in pieces:
        piece["value"] *= rarity[piece["bucket"]]
        squares += float(np.square(piece["value"], dtype=np.float64).sum())
    length = np.float32(np.sqrt(squares / max(len(rows), 1)) or 1.0)
    for piece in pieces:
        piece["value"] /= length
    factors: npt.NDArray[np.float32] = rarity / length
    return factors


def learn(
    rows: Rows, labels: Numbers, costs: Numbers, beside: Numbers, *, num_buckets: int, seed: int, display: Display = SILENT
) -> tuple[npt.NDArray[np.float32], float]:
    """Find the weights that part two classes of messages.

    Args:
        rows: n-grams of each.
        labels: 0 or 1, (N,).
        costs: what it costs to be on the wrong side of the margin (C), (N,); from a message of cost 0 nothing is learned.
        beside: one more number that is known of each message, (N,); zeros for none.
        num_buckets: of the table.
        seed: of the order in which messages are looked at.
        display: told of each pass.

    Returns:
        Weights of the n-grams, (num_buckets,), and of the number beside them. Their sum is above 0 for label 1.
    """
    draw = np.random.default_rng(seed)
    weights, weight_beside = np.zeros(num_buckets, np.float32), 0.0
    known = np.flatnonzero(costs)
    signs, slack = np.where(labels == 1, 1.0, -1.0), 0.5 / np.where(costs > 0.0, costs, 1.0)
    squares = [float(np.square(rows[row][1], dtype=np.float64).sum()) for row in range(len(rows))]
    steepness = np.asarray(squares) + np.square(beside) + slack
    alphas = np.zeros(len(rows))
    for _ in range(MOST_PASSES):
        farthest = 0.0
        for row in draw.permutation(known).tolist():
            buckets, values = rows[row]
            sign, alpha = signs[row], alphas[row]
            said = float(weights[buckets] @ values) + weight_beside * beside[row]
            gradient = sign * said - 1.0 + slack[row] * alpha
            changed = max(alpha - gradient / steepness[row], 0.0)
            if changed != alpha:
                farthest = max(farthest, abs(changed - alpha) * steepness[row])
                step = sign * (changed - alpha)
                weights[buckets] += np.float32(step) * values
                weight_beside += step * beside[row]
                alphas[row] = changed
        display.advance()
        if farthest < CLOSE_ENOUGH:
            break
    return weights, float(weight_beside)
