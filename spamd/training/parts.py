"""A part of the mail as the model takes it: token ids and labels; and the margins that a classifier gives it.

Knows nothing of files that hold mail, epochs and thresholds. Called by `retraining`, `judging` and `trainer`.

Shape letters: B sequences in a batch, T tokens of the longest, N messages of the part.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
import numpy.typing as npt
import torch

from spamd.model.classifier import SPAM, Classifier, pad
from spamd.model.tokenizer import Tokenizer
from spamd.model.windows import LongMail, split
from spamd.training.batches import by_length
from spamd.training.progress import SILENT, Display
from spamd.training.splits import Example
from spamd.verdict import Label

BATCH_TOKENS = 4096
"""Tokens computed at once where nothing is learned, padding included."""


class Sequences(Sequence[list[int]]):
    """Token ids of many messages end to end, in memory or in a file that memory shows.

    Args:
        sequences: ids of each message, asked for one by one.
        folder: where a file without a name holds the ids, so that they may be more than memory; None holds them in memory.

    Raises:
        OSError: the disk is full.
    """

    def __init__(self, sequences: Iterable[Sequence[int]], folder: Path | None = None) -> None:
        self._ends = [0]
        if folder is None:
            self._ids = np.fromiter(chain.from_iterable(self._counted(sequences)), dtype=np.int32)
            return
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Gone with its last reader, whatever happens to this process.
        with tempfile.TemporaryFile(dir=folder) as file:
            self._ids = self._write(sequences, file, folder)

    def __len__(self) -> int:
        """Count messages."""
        return len(self._ends) - 1

    @overload
    def __getitem__(self, position: int) -> list[int]: ...

    @overload
    def __getitem__(self, position: slice) -> list[list[int]]: ...

    def __getitem__(self, position: int | slice) -> list[int] | list[list[int]]:
        """Return the ids of a message, or of some."""
        if isinstance(position, slice):
            return [self[index] for index in range(*position.indices(len(self)))]
        start, end = self._ends[:-1][position], self._ends[1:][position]
        ids: list[int] = self._ids[start:end].tolist()
        return ids

    @property
    def lengths(self) -> list[int]:
        """Tokens of each message."""
        return np.diff(self._ends).tolist()

    def _counted(self, sequences: Iterable[Sequence[int]]) -> Iterator[Sequence[int]]:
        """Note where each message ends."""
        for sequence in sequences:
            self._ends.append(self._ends[-1] + len(sequence))
            yield sequence

    def _write(self, sequences: Iterable[Sequence[int]], file: IO[bytes], folder: Path) -> npt.NDArray[np.int32]:
        """Write ids to a file and let memory show it."""
        try:
            for sequence in self._counted(sequences):
                file.write(np.asarray(sequence, np.int32).tobytes())
            file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from error
        # A file of no bytes cannot be mapped.
        return np.memmap(file, np.int32, "r") if self._ends[-1] else np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Part:
    """Messages as token ids.

    Attributes:
        sequences: ids of each message, none empty.
        labels: the truth, (N,) int64: 0 for ham, 1 for spam.
        pad_id: what fills sequences up.
        evidence: what is added to the logit of spam while a classifier trains, in the place of what its table says, (N,) float32;
            None for the table's word, where there is one.
    """

    sequences: Sequence[list[int]]
    labels: npt.NDArray[np.int64]
    pad_id: int
    evidence: npt.NDArray[np.float32] | None = None

    @property
    def lengths(self) -> list[int]:
        """Tokens of each message."""
        if isinstance(self.sequences, Sequences):
            return self.sequences.lengths
        return [len(sequence) for sequence in self.sequences]

    def lengths_within(self, max_tokens: int) -> list[int]:
        """Tokens of each message that a trunk with such a budget reads."""
        return [min(length, max_tokens) for length in self.lengths]

    def pad(self, positions: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Lay some messages side by side: ids (B, T) int64 and lengths (B,) int64."""
        return pad([self.sequences[position] for position in positions], self.pad_id)

    def digest(self) -> str:
        """Tell this mail from other mail: a checksum, 32 hexadecimal digits."""
        summed = blake2b(self.labels.tobytes(), digest_size=16)
        if self.evidence is not None:
            summed.update(self.evidence.tobytes())
        for sequence in self.sequences:
            summed.update(np.asarray([len(sequence), *sequence], np.int32).tobytes())
        return summed.hexdigest()


def tokenise(examples: Sequence[Example], tokenizer: Tokenizer, max_tokens: int, *, folder: Path | None = None) -> Part:
    """Turn texts into ids.

    Args:
        examples: the messages.
        tokenizer: vocabulary of the model that will read them.
        max_tokens: budget of one message.
        folder: where ids lie that may be more than memory holds; None keeps them in memory.

    Raises:
        OSError: the disk is full.
    """
    sequences = Sequences((tokenizer.encode(example.text, max_tokens).ids for example in examples), folder)
    return Part(sequences, labels_of(examples), tokenizer.end_of_text)


def labels_of(examples: Sequence[Example]) -> npt.NDArray[np.int64]:
    """Write labels as numbers, (N,): 0 for ham, 1 for spam."""
    return np.array([example.label is Label.SPAM for example in examples], dtype=np.int64)


@torch.inference_mode()
def margins(classifier: Classifier, part: Part, display: Display = SILENT) -> npt.NDArray[Any]:
    """Score a part with the whole model, as the daemon does.

    Args:
        classifier: on any device; left evaluating.
        part: what to score.
        display: told of each message done.

    Returns:
        Logit of spam minus logit of the other class, (N,) float64.
    """
    classifier.eval()
    device = next(classifier.parameters()).device
    found = np.empty(len(part.sequences))
    for batch in by_length(part.lengths_within(classifier.max_tokens), BATCH_TOKENS):
        ids, lengths = part.pad(batch)
        logits = classifier(ids.to(device), lengths.to(device)).double()  # (B, C)
        found[batch] = (logits[:, SPAM] - logits[:, 1 - SPAM]).cpu().numpy()
        display.advance(len(batch))
    return found


def margins_of_all(
    classifier: Classifier,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    *,
    long_mail: LongMail,
    display: Display = SILENT,
    folder: Path | None = None,
) -> npt.NDArray[Any]:
    """Score messages as the daemon does, windows and all.

    Args:
        classifier: on any device; left evaluating.
        examples: the messages.
        tokenizer: vocabulary of the model.
        long_mail: what is read of longer messages.
        display: told of each message done, or of each window.
        folder: where ids lie that may be more than memory holds; None keeps them in memory.

    Returns:
        Logit of spam minus logit of the other class, averaged over the windows, (N,) float64.
    """
    whole = tokenise(examples, tokenizer, classifier.budget(long_mail), folder=folder)
    counts: list[int] = []

    def windows() -> Iterator[list[int]]:
        for ids in whole.sequences:
            found = split(ids, classifier.max_tokens, long_mail)
            counts.append(len(found))
            yield from found

    sequences = Sequences(windows(), folder)
    owners = np.repeat(np.arange(len(counts)), counts)
    found = margins(classifier, Part(sequences, whole.labels[owners], whole.pad_id), display)
    return np.bincount(owners, weights=found, minlength=len(counts)) / np.maximum(counts, 1)


def accuracy(classifier: Classifier, part: Part) -> float:
    """Compute the share of messages whose likelier class is the right one, 0.0 to 1.0: the reference's loader accuracy.

    Args:
        classifier: on any device; left evaluating.
        part: what to judge with.
    """
    return float(np.mean((margins(classifier, part) > 0.0) == (part.labels == SPAM)))
