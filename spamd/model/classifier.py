"""Trunk and head joined, and where there is one a table of n-grams: token ids to class logits, and logits to scores.

Knows nothing of text, files and thresholds. Called by `inference` (to score) and `training` (to train).

Shape letters: B sequences, T tokens of the longest, M tokens of the longest that the trunk reads, D width of the trunk, C classes
(0: ham, 1: spam).
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from spamd.errors import PluginError
from spamd.interfaces import Head
from spamd.model.gpt2 import GPT2
from spamd.model.ngrams import NGrams
from spamd.model.tokenizer import tail_of
from spamd.model.windows import LongMail, budget

SPAM = 1
"""Index of the spam class in the logits."""


class Classifier(nn.Module):
    """A trunk under a head; parameter names begin with `trunk.`, `head.` and `ngrams.`.

    Args:
        trunk: gives hidden states.
        head: gives logits; a `torch.nn.Module`, built in or a plugin's.
        ngrams: adds to the logit of spam; None for nothing.
        max_tokens: what the trunk reads of a sequence; of a longer one head and tail. None for as much as it has positions.

    Attributes:
        trunk, head, ngrams: as given.
        max_tokens: as given, or the trunk's positions; may be set.

    Raises:
        PluginError: the head is no module or does not say what it reads.
    """

    def __init__(self, trunk: GPT2, head: Head, ngrams: NGrams | None = None, *, max_tokens: int | None = None) -> None:
        super().__init__()
        if not isinstance(head, nn.Module) or getattr(head, "reads", None) not in {"last", "all"}:
            raise PluginError(
                f"the head {type(head).__module__}.{type(head).__qualname__} breaks its contract: "
                'it must be a torch.nn.Module whose `reads` is "last" or "all".'
            )
        self.trunk = trunk
        self.head = cast("Head", head)
        self.ngrams = ngrams
        self.max_tokens = max_tokens or trunk.config.n_positions

    def budget(self, long_mail: LongMail = "head-tail") -> int:
        """Tell how many tokens of a message are read in all, by the trunk or the table of n-grams."""
        return budget(self.max_tokens, long_mail, self.ngrams.note.max_tokens if self.ngrams else 0)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Compute class logits.

        Args:
            ids: token ids, (B, T) int64, padded on the right.
            lengths: number of real tokens, (B,) int64, each from 1 to T.

        Returns:
            Logits, (B, C) float32. They do not depend on the padding.
        """
        evidence = self.evidence(ids, lengths)
        ids, lengths = cut_rows(ids, lengths, self.max_tokens)
        return self.from_block(self.trunk.hidden_before(ids, 0, lengths), 0, lengths, evidence)

    def evidence(self, ids: Tensor, lengths: Tensor) -> Tensor | None:
        """Compute what the n-grams say, (B,) float32; None where there is no table. Arguments as in `forward`."""
        return self.ngrams(ids, lengths) if self.ngrams else None

    def from_block(self, hidden: Tensor, block: int, lengths: Tensor, evidence: Tensor | None = None) -> Tensor:
        """Compute class logits from what `trunk.hidden_before` gave, so that a frozen lower part is run once.

        Args:
            hidden: the input of a block, (B, T, D).
            block: number of that block.
            lengths: real tokens of each that the trunk read, (B,) int64.
            evidence: what `evidence` gave for the same messages.

        Returns:
            As `forward`.
        """
        hidden = self.trunk.from_block(hidden, block, lengths, reads=self.head.reads)
        # Heads are promised float32 and cost nothing, so a surrounding autocast ends here.
        with torch.autocast(hidden.device.type, enabled=False):
            kept = lengths if self.head.reads == "all" else torch.ones_like(lengths)
            return self.head_logits(hidden.float(), kept, evidence)

    def head_logits(self, hidden: Tensor, lengths: Tensor, evidence: Tensor | None) -> Tensor:
        """Let the head speak, and the n-grams beside it.

        Args:
            hidden: what the head reads, (B, T, D) float32.
            lengths: real positions of it, (B,) int64.
            evidence: (B,), or None.

        Returns:
            Logits, (B, C) float32.
        """
        logits = self.head(hidden, lengths).float()
        if evidence is None:
            return logits
        return logits.index_add(1, torch.tensor([SPAM], device=logits.device), evidence[:, None])


def pad(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Lay sequences of ids side by side, filled up on the right.

    Args:
        sequences: ids of each, none empty.
        pad_id: what to fill with; any valid id, since nothing reads it.

    Returns:
        Ids, (B, T) int64, and the number of real tokens of each, (B,) int64.

    Raises:
        ValueError: there is no sequence, or one is empty.
    """
    lengths = [len(sequence) for sequence in sequences]
    if not lengths or min(lengths) < 1:
        raise ValueError(f"cannot pad sequences of lengths {lengths}: there must be one, and none may be empty")
    longest = max(lengths)
    rows = [[*sequence, *[pad_id] * (longest - len(sequence))] for sequence in sequences]
    return torch.tensor(rows, dtype=torch.int64), torch.tensor(lengths, dtype=torch.int64)


def cut_rows(ids: Tensor, lengths: Tensor, max_tokens: int) -> tuple[Tensor, Tensor]:
    """Keep what a trunk reads of padded sequences, as `tokenizer.cut` does of one.

    Args:
        ids: (B, T) int64, padded on the right.
        lengths: real tokens of each, (B,) int64.
        max_tokens: what the trunk reads.

    Returns:
        Ids, (B, M) int64, and lengths, (B,) int64.
    """
    if ids.shape[1] <= max_tokens:
        return ids, lengths
    places = torch.arange(max_tokens, device=ids.device)
    is_tail = places >= max_tokens - tail_of(max_tokens)
    places = places + is_tail * (lengths[:, None] - max_tokens).clamp_min(0)  # (B, M)
    return ids.gather(1, places), lengths.clamp_max(max_tokens)


def scores(logits: Tensor, temperature: float) -> Tensor:
    """Turn logits into calibrated probabilities of spam.

    Args:
        logits: (B, C).
        temperature: what the logits are divided by, above 0; found by calibration.

    Returns:
        Scores, (B,) float64, 0.0 to 1.0.
    """
    return (logits.double() / temperature).softmax(-1)[:, SPAM]
