"""What the blocks that train are fed with, and what they make of it.

Holds the frozen part's output for both parts of the mail, and the part of the model that learns, wrapped where several processes
learn together. Steps and counts nothing (`trainer` does).

Shape letters: B messages in a batch, T tokens of the longest, D width of the trunk, C classes.
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from spamd.model.classifier import Classifier
from spamd.training import freezing, ranks
from spamd.training.parts import Part
from spamd.training.precision import computing_in
from spamd.training.progress import Display
from spamd.training.recipe import Recipe
from spamd.training.trunk_cache import TrunkCache, affordable_bytes


class _Tail(nn.Module):
    """What learns: the blocks that train and the head, as a module of their own for torch to wrap."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(
        self, hidden: Tensor, block: int, lengths: Tensor, read: tuple[Tensor, Tensor] | None, evidence: Tensor | None
    ) -> Tensor:
        """(B, T, D), (B,) and, where n-grams are read, ids (B, T) and lengths (B,), or evidence that is known, (B,) -> (B, C)."""
        if read:
            evidence = self.classifier.evidence(*read)
        return self.classifier.from_block(hidden, block, lengths, evidence)


class Inputs:
    """What enters the first trainable block, for training and validation mail, kept as long as that block stays the same.

    Args:
        classifier: what is trained.
        parts: training and validation mail.
        recipe: says in which memory and precision.
        display: told of the work of the frozen part.
    """

    def __init__(self, classifier: Classifier, parts: tuple[Part, Part], recipe: Recipe, display: Display) -> None:
        self.classifier = classifier
        self.parts = parts
        self.block = -1
        self.caches: tuple[TrunkCache, ...] = ()
        self.world = ranks.current()
        self._tail: nn.Module = _Tail(classifier)
        self._chosen: Collection[str] = ()
        self._recipe = recipe
        self._display = display

    def follow(self, chosen: Collection[str]) -> None:
        """Prepare for an epoch: hidden states are computed anew where another block is the first that trains.

        Args:
            chosen: names of the weights that train in it, which the classifier has been told.
        """
        if chosen != self._chosen:
            # Torch's wrapper looks at what trains when it is made.
            self._chosen, self._tail = chosen, self.world.wrap(_Tail(self.classifier))
        block = freezing.first_trainable_block(chosen, self.classifier.trunk.config.n_layer)
        if block == self.block:
            return
        allowed = self._recipe.cache_bytes
        left = affordable_bytes() // self.world.neighbours if allowed is None else allowed
        self.block, self.caches = block, ()
        for part in self.parts:
            cache = TrunkCache(
                self.classifier,
                part,
                block,
                max_bytes=left,
                display=self._display,
                spill_dir=self._recipe.spill_dir,
                precision=self._recipe.precision,
            )
            self.caches, left = (*self.caches, cache), left - cache.num_bytes

    def logits(self, which: int, batch: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Compute logits (B, C) and labels (B,) of some training messages (`which` 0) or validation messages (1)."""
        hidden, lengths = self.caches[which].batch(batch)
        # Validation has no gradients for torch's wrapper to wait for.
        tail = self._tail if torch.is_grad_enabled() else _Tail(self.classifier)
        part = self.parts[which]
        read = evidence = None
        if part.evidence is not None:
            evidence = torch.from_numpy(part.evidence[list(batch)]).to(hidden.device)
        elif self.classifier.ngrams:
            read = part.pad(batch)
        with computing_in(self._recipe.precision, hidden.device):
            logits = cast("Tensor", tail(hidden, self.block, lengths, read, evidence))
        return logits, torch.from_numpy(part.labels[list(batch)]).to(logits.device)

    def gathering(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Let processes exchange gradients with the last piece of a step only."""
        if isinstance(self._tail, DistributedDataParallel) and not is_last:
            return self._tail.no_sync()
        return nullcontext()
