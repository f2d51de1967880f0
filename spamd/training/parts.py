"""A part of the mail as the model takes it: token ids and labels; and the margins that a classifier gives it.

Knows nothing of files, epochs and thresholds. Called by `retraining` and `trainer`.

Shape letters: B sequences in a batch, T tokens of the longest, N messages of the part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from spamd.model.classifier import SPAM, Classifier, pad
from spamd.model.tokenizer import Tokenizer
from spamd.training.batches import by_length
from spamd.training.progress import SILENT, Display
from spamd.training.splits import Example
from spamd.verdict import Label

BATCH_TOKENS = 4096
"""Tokens computed at once where nothing is learned, padding included."""


@dataclass(frozen=True, slots=True)
class Part:
    """Messages as token ids.

    Attributes:
        sequences: ids of each message, none empty.
        labels: the truth, (N,) int64: 0 for ham, 1 for spam.
        pad_id: what fills sequences up.
    """

    sequences: list[list[int]]
    labels: npt.NDArray[np.int64]
    pad_id: int

    @property
    def lengths(self) -> list[int]:
        """Tokens of each message."""
        return [len(sequence) for sequence in self.sequences]

    def pad(self, positions: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Lay some messages side by side: ids (B, T) int64 and lengths (B,) int64."""
        return pad([self.sequences[position] for position in positions], self.pad_id)


def tokenise(examples: Sequence[Example], tokenizer: Tokenizer, max_tokens: int) -> Part:
    """Turn texts into ids.

    Args:
        examples: the messages.
        tokenizer: vocabulary of the model that will read them.
        max_tokens: budget of one message.
    """
    sequences = [tokenizer.encode(example.text, max_tokens).ids for example in examples]
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
    for batch in by_length(part.lengths, BATCH_TOKENS):
        ids, lengths = part.pad(batch)
        logits = classifier(ids.to(device), lengths.to(device)).double()  # (B, C)
        found[batch] = (logits[:, SPAM] - logits[:, 1 - SPAM]).cpu().numpy()
        display.advance(len(batch))
    return found
