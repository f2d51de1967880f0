"""What runs of characters and tokens say for spam: one number for each, summed beside the head's logits.

A trunk that learned from some tens of thousands of messages knows little of words that it met twice; a table of n-grams knows
those, and nothing of order and meaning. Their sum knows more than either ("wide and deep", Cheng et al. 2016, arXiv 1606.07792).
N-grams share a table by a hash of theirs (Weinberger et al. 2009, arXiv 0902.2206), each counts once a message, however often it
is repeated, and the more kinds a message has the less each of them says. Disguised words count as what they spell. It costs
little beside a trunk, so it may read more of a long message. Good words that a spammer adds to drown his own (Lowd and Meek
2005, "Good Word Attacks on Statistical Spam Filters") do not reach every stretch of it: where one says more for spam than the
whole, that counts too, and the less the more stretches there are. Only classifiers whose card says so have a table. Called by
`classifier`, by `inference` for sequences without padding, and by the recipe of the default checkpoint.

Shape letters: B sequences, T tokens of the longest, S sequences and stretches of them, N different n-grams of them all.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spamd.model.card import NGramsNote
from spamd.model.spelling import spelled
from spamd.model.tokenizer import Tokenizer

# Odd numbers of 64 bits whose halves look drawn; checkpoints depend on them.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)


class NGrams(nn.Module):
    """A table of n-grams at work; it says nothing until it has learned.

    Args:
        note: sizes, as a card holds them.
        tokenizer: the vocabulary of the ids.

    Attributes:
        note: as given.
        weight: what each n-gram says, (note.num_buckets,): above 0 for spam.
    """

    def __init__(self, note: NGramsNote, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.note = note
        self._tokenizer = tokenizer
        self.weight = nn.Parameter(torch.zeros(note.num_buckets))

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Sum up what the n-grams of each sequence say.

        Args:
            ids: token ids, (B, T) int64, padded on the right.
            lengths: number of real tokens, (B,) int64.

        Returns:
            What is to be added to the logit of spam, (B,) float32.
        """
        return self.of([row[:length] for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)])

    def of(self, sequences: Iterable[Sequence[int]]) -> Tensor:
        """Do the same for sequences of any lengths: (B,) float32."""
        cut = [stretches(sequence, self.note.stretch) for sequence in sequences]
        said = self._sums(piece for pieces in cut for piece in pieces)  # (S,)
        counts = torch.tensor([len(pieces) for pieces in cut], dtype=torch.int64)
        owners = torch.arange(len(cut)).repeat_interleave(counts).to(said.device)
        most = said.new_zeros(len(cut)).scatter_reduce(0, owners, said, "amax", include_self=False)
        whole = said[(counts.cumsum(0) - counts).to(said.device)]  # it comes first
        doublings = [math.log2(max(1.0, len(pieces[0]) / self.note.stretch)) if self.note.stretch else 0.0 for pieces in cut]
        lost = self.note.doubling * said.new_tensor(doublings)
        return torch.maximum((whole + most) / 2.0, most - self.note.doubt) - lost

    def _sums(self, sequences: Iterable[Sequence[int]]) -> Tensor:
        """Sum up sequences as wholes: (S,) float32."""
        buckets, shares, ends = self.rows(sequences)
        owners = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        places, parts, rows = (torch.from_numpy(values).to(self.weight.device) for values in (buckets, shares, owners))
        return self.weight.new_zeros(len(ends) - 1).index_add(0, rows, self.weight[places] * parts)

    def rows(
        self, sequences: Iterable[Sequence[int]]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Find the n-grams of sequences, as the rows of a sparse matrix.

        Args:
            sequences: token ids of each.

        Returns:
            Buckets, (N,), 0 to num_buckets - 1; the share of each in its sequence, (N,): characters and tokens have half of the
            squares each; and where sequences end, (B + 1,), beginning with 0.
        """
        buckets: list[npt.NDArray[np.int64]] = []
        shares: list[npt.NDArray[np.float32]] = []
        ends = [0]
        for sequence in sequences:
            kinds = self._kinds(sequence)
            buckets += kinds
            shares += [np.full(len(kind), (len(kinds) * len(kind)) ** -0.5, np.float32) for kind in kinds if len(kind)]
            ends.append(ends[-1] + sum(map(len, kinds)))
        return np.concatenate([*buckets, []]).astype(np.int64), np.concatenate([*shares, []]).astype(np.float32), np.array(ends)

    def _kinds(self, sequence: Sequence[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Find the buckets of a sequence's characters and of its tokens, each bucket once."""
        written = self._tokenizer.decode(self._known(sequence))
        text = spelled(written)
        # A letter is four tokens at the most, those of its bytes.
        known = self._known(sequence if text == written else self._tokenizer.encode(text, 4 * len(text) + 1).ids)
        tokens = np.array(known, np.uint64)
        characters = np.frombuffer(text.lower().encode("utf-32-le"), np.uint32).astype(np.uint64)
        bits = self.note.num_buckets.bit_length() - 1
        return _hashed(characters, self.note.characters, 1, bits), _hashed(tokens, self.note.tokens, 2, bits)

    def _known(self, sequence: Sequence[int]) -> list[int]:
        """Leave out ids that are no tokens of the vocabulary: a trunk may have more embeddings than that."""
        return [number for number in sequence if number < self._tokenizer.end_of_text]


def stretches(sequence: Sequence[int], length: int) -> list[Sequence[int]]:
    """Cut a sequence into stretches that overlap by half.

    Args:
        sequence: token ids.
        length: of a stretch; 0 for none.

    Returns:
        The whole, and where it is longer than one its stretches, the last one at its end.
    """
    left = len(sequence) - length
    if not length or left <= 0:
        return [sequence]
    return [sequence, *(sequence[start : start + length] for start in (*range(0, left, length // 2), left))]


def _hashed(values: npt.NDArray[np.uint64], orders: Sequence[int], kind: int, bits: int) -> npt.NDArray[np.int64]:
    """Hash all runs of so many values into numbers of so many bits; those that occur, sorted.

    Args:
        values: (n,).
        orders: lengths of the runs, rising.
        kind: runs of the same numbers, but of another kind, hash otherwise.
        bits: 1 to 32.
    """
    single = values + np.uint64(kind)
    sums, found = single, [np.zeros(0, np.uint64)]
    for order in range(1, min(orders[-1], len(values)) + 1):
        if order > 1:
            sums = sums[:-1] * _STEP + single[order - 1 :]
        if order in orders:
            mixed = (sums + np.uint64(order << 8 | kind)) * _MIX
            mixed = (mixed ^ (mixed >> _HALF)) * _MIX
            found.append(mixed >> np.uint64(64 - bits))
    # For some thousand numbers ten times as fast as `numpy.unique`.
    ordered = np.sort(np.concatenate(found).astype(np.uint32))
    is_new = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    buckets: npt.NDArray[np.int64] = ordered[is_new].astype(np.int64)
    return buckets
