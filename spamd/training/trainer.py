"""The training loop, read top to bottom.

Cross-entropy on the logits that the head gives for each message, AdamW, one learning rate that rises shortly and falls to zero,
validation after each epoch, and the weights of the best epoch at the end. What trains is decided by a freezing policy, what is
good enough by `gate`; nothing is saved here. Called by `retraining` and the recipe of the default checkpoint.

The same messages, settings and seed give the same weights on the same machine with the same number of threads.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spamd.errors import TrainingError
from spamd.interfaces import FreezingPolicy
from spamd.model.classifier import Classifier
from spamd.training import freezing
from spamd.training.batches import by_length, shuffled
from spamd.training.parts import BATCH_TOKENS, Part
from spamd.training.progress import SILENT, Display
from spamd.training.trunk_cache import TrunkCache, affordable_bytes

MAX_GRADIENT_NORM = 1.0
WARM_UP = 0.06
"""Share of all steps in which the learning rate rises."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of a training.

    Attributes:
        policy_name: name of the freezing policy.
        policy: the policy.
        epochs: passes over the training mail.
        batch_size: messages a step.
        learning_rate: at its highest.
        weight_decay: pull of matrices towards zero.
        seed: of the batches; weights of a new head are drawn by those who make it.
        class_weights: weights of ham and spam in the loss; None weighs each message alike.
        cache_bytes: memory for hidden states of the frozen part; None takes what the machine affords.
    """

    policy_name: str
    policy: FreezingPolicy
    epochs: int = 5
    batch_size: int = 8
    learning_rate: float = 5e-5
    weight_decay: float = 0.1
    seed: int = 123
    class_weights: tuple[float, float] | None = None
    cache_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Epoch:
    """How one epoch went.

    Attributes:
        number: counted from 1.
        train_loss: mean loss of its steps.
        validation_loss: mean loss of the validation mail after it.
        num_trained: how many weights trained.
        seconds: how long it took, validation included.
    """

    number: int
    train_loss: float
    validation_loss: float
    num_trained: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Training:
    """How a training went; the classifier holds the weights of its best epoch.

    Attributes:
        epochs: all of them.
        best: the one with the least validation loss.
    """

    epochs: tuple[Epoch, ...]
    best: Epoch


def train(classifier: Classifier, train_part: Part, validation: Part, recipe: Recipe, display: Display = SILENT) -> Training:
    """Train a classifier in place.

    Args:
        classifier: on any device; left evaluating, with the weights of the best epoch.
        train_part: what to learn from.
        validation: what tells the best epoch.
        recipe: the settings.
        display: told of each step and each epoch.

    Returns:
        The course of the training.

    Raises:
        TrainingError: the policy's choice cannot be trained, or the loss is not finite.
    """
    names = [name for name, _ in classifier.named_parameters()]
    # Asked for all epochs at once: a policy that goes wrong in the last one says so before the first.
    plans = [freezing.choose(recipe.policy_name, recipe.policy, names, number) for number in range(recipe.epochs)]
    # What is left, parameters and buffers, is what an epoch may change.
    never_trained = frozenset(names).difference(*plans)
    # Built-in heads draw nothing while they train; a plugin's may.
    torch.manual_seed(recipe.seed)
    optimizer = _make_optimizer(classifier, recipe)
    inputs = _Inputs(classifier, (train_part, validation), recipe, display)
    epochs: list[Epoch] = []
    best_weights: dict[str, Tensor] = {}
    for number, chosen in enumerate(plans):
        started = time.monotonic()
        freezing.apply_policy(classifier, chosen)
        inputs.follow(freezing.first_trainable_block(chosen, classifier.trunk.config.n_layer))
        train_loss = _run_epoch(inputs, optimizer, recipe, number, display)
        validation_loss = _validate(inputs, recipe, number)
        num_trained = sum(parameter.numel() for name, parameter in classifier.named_parameters() if name in chosen)
        epochs.append(Epoch(number + 1, train_loss, validation_loss, num_trained, time.monotonic() - started))
        display.say(_describe(epochs[-1], recipe))
        if epochs[-1] is _best(epochs):
            best_weights = {name: value.clone() for name, value in classifier.state_dict().items() if name not in never_trained}
    classifier.load_state_dict(best_weights, strict=False)
    classifier.eval()
    return Training(tuple(epochs), _best(epochs))


def schedule(done: float) -> float:
    """Compute the share of the learning rate that holds after a share of all steps: up within `WARM_UP`, then straight to zero.

    Args:
        done: share of the steps, 0.0 up to but not including 1.0.

    Returns:
        A factor above 0.0 and at most 1.0.
    """
    # The first step has a rate too, or it would be wasted.
    return min((done + WARM_UP / 10.0) / WARM_UP, (1.0 - done) / (1.0 - WARM_UP), 1.0)


class _Inputs:
    """What enters the first trainable block, for training and validation mail, kept as long as that block stays the same."""

    def __init__(self, classifier: Classifier, parts: tuple[Part, Part], recipe: Recipe, display: Display) -> None:
        self.classifier = classifier
        self.parts = parts
        self.block = -1
        self.caches: tuple[TrunkCache, ...] = ()
        self._budget = affordable_bytes() if recipe.cache_bytes is None else recipe.cache_bytes
        self._display = display

    def follow(self, block: int) -> None:
        """Compute hidden states anew where another block is the first that trains."""
        if block == self.block:
            return
        self.block, self.caches, left = block, (), self._budget
        for part in self.parts:
            cache = TrunkCache(self.classifier, part, block, max_bytes=left, display=self._display)
            self.caches, left = (*self.caches, cache), left - cache.num_bytes

    def logits(self, which: int, batch: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Compute logits (B, C) and labels (B,) of some training messages (`which` 0) or validation messages (1)."""
        hidden, lengths = self.caches[which].batch(batch)
        logits = self.classifier.from_block(hidden, self.block, lengths)
        return logits, torch.from_numpy(self.parts[which].labels[list(batch)]).to(logits.device)


def _run_epoch(inputs: _Inputs, optimizer: torch.optim.Optimizer, recipe: Recipe, number: int, display: Display) -> float:
    """Step once through the training mail; return the mean loss."""
    batches = shuffled(inputs.parts[0].lengths, recipe.batch_size, seed=recipe.seed, epoch=number)
    display.begin(f"Epoch {number + 1} of {recipe.epochs}", len(batches))
    inputs.classifier.train()
    losses: list[float] = []
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * schedule((number + step / len(batches)) / recipe.epochs)
        loss = _loss(*inputs.logits(0, batch), recipe, reduction="mean")
        losses.append(_finite(loss, number, f"step {step + 1}"))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(inputs.classifier.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        display.advance(1, f"loss {losses[-1]:.3f}")
    return sum(losses) / len(losses)


@torch.no_grad()
def _validate(inputs: _Inputs, recipe: Recipe, number: int) -> float:
    """Return the mean loss of the validation mail."""
    inputs.classifier.eval()
    part = inputs.parts[1]
    losses = [_loss(*inputs.logits(1, batch), recipe, reduction="sum") for batch in by_length(part.lengths, BATCH_TOKENS)]
    weights = recipe.class_weights or (1.0, 1.0)
    return _finite(sum(losses), number, "validation") / float(np.take(weights, part.labels).sum())


def _loss(logits: Tensor, labels: Tensor, recipe: Recipe, *, reduction: str) -> Tensor:
    """Compute cross-entropy: (B, C) and (B,) -> ()."""
    weights = torch.tensor(recipe.class_weights, device=logits.device) if recipe.class_weights else None
    return functional.cross_entropy(logits, labels, weights, reduction=reduction)


def _finite(loss: Tensor | float, number: int, where: str) -> float:
    """Return a loss as a number.

    Raises:
        TrainingError: it is none.
    """
    value = float(loss.item() if isinstance(loss, Tensor) else loss)
    if not math.isfinite(value):
        raise TrainingError(
            f"The loss became {value} in epoch {number + 1}, {where}; nothing was saved. Train with a smaller --learning-rate."
        )
    return value


def _make_optimizer(classifier: Classifier, recipe: Recipe) -> torch.optim.Optimizer:
    """Make AdamW over all parameters; those that are frozen have no gradient and cost nothing."""
    # Norms and biases are not pulled towards zero.
    matrices = [parameter for parameter in classifier.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in classifier.parameters() if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def _best(epochs: Sequence[Epoch]) -> Epoch:
    """Find the epoch with the least validation loss, the earliest of equals."""
    return min(epochs, key=lambda epoch: epoch.validation_loss)


def _describe(epoch: Epoch, recipe: Recipe) -> str:
    """Word how an epoch went."""
    return (
        f"Epoch {epoch.number} of {recipe.epochs}: training loss {epoch.train_loss:.4f}, "
        f"validation loss {epoch.validation_loss:.4f}, {epoch.seconds:.1f} s"
    )
