"""What runs of characters and tokens say for spam: one number for each, summed beside the head's logits.

A trunk that learned from some tens of thousands of messages knows little of words that it met twice; a table of n-grams knows
those, and nothing of order and meaning. Their sum knows more than either ("wide and deep", Cheng et al. 2016, arXiv
1606.07792). N-grams share a table by a hash of theirs (Weinberger et al. 2009, arXiv 0902.2206), each counts once a message,
however often it is repeated, and the more kinds a message has the less each of them says. Disguised words count as what they
spell, and quoted lines as what they quote. It costs little beside a trunk, so it may read more of a long message. Good words
that a spammer adds to drown his own (Lowd and Meek 2005, "Good Word Attacks on Statistical Spam Filters") do not reach every
stretch of it: where one with the message's opening, less a doubt, says more for spam than the whole, it counts instead. What is
new to the table looks like spam, and long messages have more of it, so that they lose something by their length. Only
classifiers whose card says so have a table. Called by `classifier`, by `inference` and by the recipe of the default checkpoint.

Shape letters: B sequences, T tokens of the longest, S sequences and stretches of them, N different n-grams of them all.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spamd.model.card import NGramsNote
from spamd.model.quoting import unquoted
from spamd.model.spelling import spelled
from spamd.model.tokenizer import Tokenizer

# Odd numbers of 64 bits whose halves look drawn; checkpoints depend on them.
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)
_HALF, _LOW = np.uint64(32), np.uint64(2**32 - 1)

_Integers = npt.NDArray[np.int64]
_NONE: _Integers = np.zeros(0, np.int64)

AT_ONCE = 64
"""Sequences whose n-grams are found at once: enough that numpy does the work, and not more than caches hold."""


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
        cut = [stretches(sequence, self.note.stretch, self.note.opening) for sequence in sequences]
        said = self._sums(piece for pieces in cut for piece in pieces)  # (S,)
        counts = torch.tensor([len(pieces) for pieces in cut], dtype=torch.int64)
        owners = torch.arange(len(cut)).repeat_interleave(counts).to(said.device)
        most = said.new_zeros(len(cut)).scatter_reduce(0, owners, said, "amax", include_self=False)
        whole = said[(counts.cumsum(0) - counts).to(said.device)]  # it comes first
        lengths = said.new_tensor([len(pieces[0]) for pieces in cut])
        doublings = (lengths / (self.note.stretch or math.inf)).log2().clamp(min=0.0)
        return torch.maximum(whole, most - self.note.doubt) - self.note.doubling * doublings

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
        left = iter(sequences)
        parts = [self._rows(found) for found in iter(lambda: list(itertools.islice(left, AT_ONCE)), [])]
        buckets, shares, counts = zip(*parts, strict=True) if parts else ([_NONE], [_NONE], [_NONE])
        ends = np.append(0, np.concatenate(counts).cumsum())
        return np.concatenate(buckets).astype(np.int64), np.concatenate(shares).astype(np.float32), ends.astype(np.int64)

    def _rows(self, sequences: Sequence[Sequence[int]]) -> tuple[_Integers, npt.NDArray[np.float64], _Integers]:
        """Find the buckets of some sequences, each bucket once, their shares, and how many each sequence has.

        All at once: threads that score at the same time wait for each other at every step that is taken in Python.
        """
        texts, tokens = zip(*map(self._read, sequences), strict=True)
        characters = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
        words = np.array([number for found in tokens for number in found], np.uint64)
        bits = self.note.num_buckets.bit_length() - 1
        by_characters = _hashed(characters.astype(np.uint64), list(map(len, texts)), self.note.characters, 1, bits)
        by_tokens = _hashed(words, list(map(len, tokens)), self.note.tokens, 2, bits)
        keys = np.concatenate([_NONE.astype(np.uint64), *by_characters, *by_tokens])
        # For many numbers ten times as fast as `numpy.unique`.
        keys.sort()
        keys = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]
        owners = (keys >> _HALF).astype(np.int64)  # two a sequence: characters and tokens
        counts = np.bincount(owners, minlength=2 * len(sequences))
        shares = (2.0 * np.maximum(counts, 1)) ** -0.5
        return (keys & _LOW).astype(np.int64), shares[owners], counts.reshape(-1, 2).sum(1)

    def _read(self, sequence: Sequence[int]) -> tuple[str, list[int]]:
        """Say which characters and which tokens count of a sequence."""
        known = self._known(sequence)
        written = self._tokenizer.decode(known)
        text = spelled(unquoted(written))
        # A letter is four tokens at the most, those of its bytes.
        tokens = known if text == written else self._known(self._tokenizer.encode(text, 4 * len(text) + 1).ids)
        return text.lower(), tokens

    def _known(self, sequence: Sequence[int]) -> list[int]:
        """Leave out ids that are no tokens of the vocabulary: a trunk may have more embeddings than that."""
        return [number for number in sequence if number < self._tokenizer.end_of_text]


def stretches(sequence: Sequence[int], length: int, opening: int = 0) -> list[Sequence[int]]:
    """Cut a sequence into stretches that overlap by half, each behind its opening.

    Args:
        sequence: token ids.
        length: of a stretch; 0 for none.
        opening: ids of the beginning that stand before each stretch, and belong to none.

    Returns:
        The whole, and where it is longer than opening and stretch its stretches, the last one at its end.
    """
    left = len(sequence) - opening - length
    if not length or left <= 0:
        return [sequence]
    begin, rest = sequence[:opening], sequence[opening:]
    return [sequence, *([*begin, *rest[start : start + length]] for start in (*range(0, left, length // 2), left))]


def _hashed(
    values: npt.NDArray[np.uint64], lengths: Sequence[int], orders: Sequence[int], kind: int, bits: int
) -> Iterator[npt.NDArray[np.uint64]]:
    """Hash all runs of so many values into numbers of so many bits.

    Args:
        values: of some sequences end to end, (n,).
        lengths: of each sequence; no run goes beyond one.
        orders: lengths of the runs, rising.
        kind: 1 or 2; runs of the same numbers, but of another kind, hash otherwise.
        bits: 1 to 32.

    Yields:
        For each order the numbers, in the upper half twice the number of the sequence, and one more for the second kind.
    """
    owners = np.repeat(np.arange(len(lengths), dtype=np.uint64) * np.uint64(2) + np.uint64(kind - 1), lengths)
    sums = single = values + np.uint64(kind)
    for order in range(1, min(orders[-1], len(values)) + 1):
        if order > 1:
            sums = sums[:-1] * _STEP + single[order - 1 :]
        if order in orders:
            is_whole = owners[: len(sums)] == owners[order - 1 :]
            mixed = (sums[is_whole] + np.uint64(order << 8 | kind)) * _MIX
            mixed = (mixed ^ (mixed >> _HALF)) * _MIX
            yield owners[: len(sums)][is_whole] << _HALF | mixed >> np.uint64(64 - bits)
