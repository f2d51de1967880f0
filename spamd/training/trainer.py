"""The training loop, read top to bottom.

Cross-entropy on the logits that the head gives for each message, beside its table or other evidence, AdamW, one learning rate
that rises shortly and falls to zero, validation after each epoch, and the weights of the best epoch at the end. What trains is
decided by a freezing policy, what is good enough by `gate`; no checkpoint is saved here, only, where a folder is given, the state
that an interrupted training goes on from. Called by `retraining`, the recipe of the default checkpoint and the benchmarks.

The same messages, settings and seed give the same weights on the same machine with the same number of threads and processes,
interrupted or not.
"""

import json
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spamd.errors import TrainingError
from spamd.model.classifier import Classifier
from spamd.model.lora import Adapter
from spamd.training import freezing, ranks, state
from spamd.training.batches import by_length, shuffled
from spamd.training.inputs import Inputs
from spamd.training.parts import BATCH_TOKENS, Part
from spamd.training.progress import SILENT, Display
from spamd.training.recipe import Course, Epoch, Precision, Recipe, Schedule, Step, Training, best

__all__ = ["Epoch", "Precision", "Recipe", "Schedule", "Step", "Training", "schedule", "train"]

WARM_UP = 0.06
"""Share of all steps in which the learning rate rises."""


def train(
    classifier: Classifier,
    train_part: Part,
    validation: Part,
    recipe: Recipe,
    display: Display = SILENT,
    *,
    folder: Path | None = None,
    is_resumed: bool = False,
) -> Training:
    """Train a classifier in place.

    Args:
        classifier: on any device; left evaluating, with the weights of the best epoch (those of other ranks: of the last one).
        train_part: what to learn from.
        validation: what tells the best epoch.
        recipe: the settings.
        display: told of each step and each epoch.
        folder: keeps the state, for the caller to remove when what came of it is stored; None keeps none.
        is_resumed: whether to go on from the state in the folder, if there is one.

    Returns:
        The course of the training.

    Raises:
        TrainingError: the policy's choice cannot be trained, the loss is not finite, or the state cannot be written or read.
    """
    names = [name for name, _ in classifier.named_parameters()]
    # Asked for all epochs at once: a policy that goes wrong in the last one says so before the first.
    plans = [freezing.choose(recipe.policy_name, recipe.policy, names, number) for number in range(recipe.epochs)]
    # Built-in heads draw nothing while they train; a plugin's may.
    torch.manual_seed(recipe.seed)
    optimizer = _make_optimizer(classifier, recipe)
    # What is left, parameters and buffers, is what an epoch may change.
    changing = set(classifier.state_dict()) - frozenset(names).difference(*plans)
    identity = _identify(classifier, (train_part, validation), recipe, plans)
    saved = state.SavedState(folder, identity, changing, is_writing=ranks.current().is_first)
    course = _begin(saved, classifier, optimizer, display, is_resumed=is_resumed)
    best_weights = saved.restore_best(best(course.epochs).number) if course.epochs and ranks.current().is_first else {}
    inputs = Inputs(classifier, (train_part, validation), recipe, display)
    loop = _Loop(inputs, optimizer, recipe, saved, display)
    while not course.is_over(recipe):
        number = len(course.epochs)
        freezing.apply_policy(classifier, plans[number])
        inputs.follow(plans[number])
        epoch = _run_epoch(loop, course)
        display.say(_describe(epoch, recipe))
        if epoch is best(course.epochs):
            best_weights = {name: value.clone() for name, value in saved.changing(classifier).items()}
            saved.keep_best(best_weights, epoch.number)
        saved.keep(classifier, optimizer, course)
        saved.forget_worse(best(course.epochs).number)
    classifier.load_state_dict(best_weights, strict=False)
    classifier.eval()
    return Training(tuple(course.epochs), best(course.epochs), tuple(course.steps))


def schedule(done: float) -> float:
    """Compute the share of the learning rate that holds after a share of all steps: up within `WARM_UP`, then straight to zero.

    Args:
        done: share of the steps, 0.0 up to but not including 1.0.

    Returns:
        A factor above 0.0 and at most 1.0.
    """
    # The first step has a rate too, or it would be wasted.
    return min((done + WARM_UP / 10.0) / WARM_UP, (1.0 - done) / (1.0 - WARM_UP), 1.0)


@dataclass(frozen=True, slots=True)
class _Loop:
    """What every epoch works with."""

    inputs: Inputs
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    saved: state.SavedState
    display: Display


def _run_epoch(loop: _Loop, course: Course) -> Epoch:
    """Step once through the training mail, from where the course is, and judge by the validation mail."""
    recipe, part, number = loop.recipe, loop.inputs.parts[0], len(course.epochs)
    started = time.monotonic() - course.seconds
    lengths = part.lengths_within(loop.inputs.classifier.max_tokens)
    batches = shuffled(lengths, recipe.batch_size * recipe.accumulate, seed=recipe.seed, epoch=number)
    loop.display.begin(f"Epoch {number + 1} of {recipe.epochs}", len(batches))
    loop.display.advance(course.step)
    loop.inputs.classifier.train()
    kept_at = time.monotonic()
    while course.step < len(batches):
        course.steps.append(_step(loop, batches[course.step], number, course.step / len(batches)))
        course.step += 1
        loop.display.advance(1, f"loss {course.steps[-1].loss:.3f}")
        if time.monotonic() - kept_at >= recipe.save_seconds and course.step < len(batches):
            course.seconds = time.monotonic() - started
            loop.saved.keep(loop.inputs.classifier, loop.optimizer, course)
            kept_at = time.monotonic()
    mine = course.steps[-len(batches) :]
    loss, accuracy = _validate(loop.inputs, recipe, number)
    epoch = Epoch(
        number=number + 1,
        train_loss=sum(step.loss for step in mine) / len(mine),
        validation_loss=loss,
        num_trained=sum(parameter.numel() for parameter in loop.inputs.classifier.parameters() if parameter.requires_grad),
        seconds=time.monotonic() - started,
        train_accuracy=sum(step.accuracy * len(batch) for step, batch in zip(mine, batches, strict=True)) / len(part.labels),
        validation_accuracy=accuracy,
    )
    course.epochs.append(epoch)
    course.step, course.seconds = 0, 0.0
    return epoch


def _step(loop: _Loop, batch: Sequence[int], number: int, done: float) -> Step:
    """Make one step, after a share `done` of epoch `number`, with a batch of which each process computes a share."""
    inputs, recipe = loop.inputs, loop.recipe
    num_right = loss_sum = 0.0
    total = _weight(inputs.parts[0].labels[list(batch)], recipe)
    pieces = [batch[cut : cut + recipe.batch_size] for cut in range(0, len(batch), recipe.batch_size)]
    for place, piece in enumerate(pieces):
        # A process without a message of its own computes one that does not count: all of them must meet.
        own = inputs.world.share(piece)
        with inputs.gathering(is_last=place == len(pieces) - 1):
            logits, labels = inputs.logits(0, own or piece[:1])
            loss = _loss(logits, labels, recipe) * (len(own) > 0)
            # Torch's wrapper takes the mean over processes, and this is to be the mean over messages.
            (loss * (inputs.world.size / total)).backward()  # type: ignore[no-untyped-call]
        num_right += float((logits.argmax(-1) == labels).sum()) * (len(own) > 0)
        loss_sum += loss.item()
    loss_sum, num_right = inputs.world.total(loss_sum, num_right)
    value = _finite(loss_sum / total, number, "training")
    rate = recipe.learning_rate * (schedule((number + done) / recipe.epochs) if recipe.schedule == "linear" else 1.0)
    for group in loop.optimizer.param_groups:
        group["lr"] = rate
    loop.optimizer.step()
    loop.optimizer.zero_grad(set_to_none=True)
    return Step(number + 1, value, num_right / len(batch), rate)


@torch.no_grad()
def _validate(inputs: Inputs, recipe: Recipe, number: int) -> tuple[float, float]:
    """Return the mean loss of the validation mail, and the share of it on the right side."""
    inputs.classifier.eval()
    part = inputs.parts[1]
    loss_sum = num_right = 0.0
    for batch in inputs.world.share(by_length(part.lengths_within(inputs.classifier.max_tokens), BATCH_TOKENS)):
        logits, labels = inputs.logits(1, batch)
        loss_sum += _loss(logits, labels, recipe).item()
        num_right += float((logits.argmax(-1) == labels).sum())
    loss_sum, num_right = inputs.world.total(loss_sum, num_right)
    return _finite(loss_sum / _weight(part.labels, recipe), number, "validation"), num_right / len(part.labels)


def _loss(logits: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Sum cross-entropy over messages: (B, C) and (B,) -> ()."""
    weights = torch.tensor(recipe.class_weights, device=logits.device) if recipe.class_weights else None
    if recipe.log_odds_shift:
        # Menon et al. 2021, "Long-tail learning via logit adjustment": what is learned lacks what is added here.
        logits = logits + torch.tensor([0.0, recipe.log_odds_shift], device=logits.device)
    return functional.cross_entropy(logits, labels, weights, reduction="sum")


def _weight(labels: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]", recipe: Recipe) -> float:
    """Sum the weights of messages in the loss."""
    return float(np.take(recipe.class_weights or (1.0, 1.0), labels).sum())


def _finite(loss: float, number: int, where: str) -> float:
    """Return a loss.

    Raises:
        TrainingError: it is no number.
    """
    if not math.isfinite(loss):
        raise TrainingError(
            f"The loss became {loss} in epoch {number + 1}, {where}; nothing was saved. Train with a smaller --learning-rate."
        )
    return loss


def _identify(
    classifier: Classifier, parts: tuple[Part, Part], recipe: Recipe, plans: Sequence[Collection[str]]
) -> dict[str, Any]:
    """Name what a saved state must have in common with this training, and find out whether the other processes agree."""
    identity = recipe.settings() | {
        "policy": state.digest_of_text([sorted(plan) for plan in plans]),
        "mail": [part.digest() for part in parts],
        "weights": state.digest(classifier.state_dict()),
        # What no weight tells: how much is read, how attention looks, and how loud adapters are.
        "max_tokens": classifier.max_tokens,
        "trunk": str(classifier.trunk.config),
        "adapters": sorted({module.scale for module in classifier.modules() if isinstance(module, Adapter)}),
    }
    ranks.current().check_agreement(json.dumps(identity))
    return identity


def _begin(
    saved: state.SavedState, classifier: Classifier, optimizer: torch.optim.Optimizer, display: Display, *, is_resumed: bool
) -> Course:
    """Go on from a saved state, or begin."""
    if not is_resumed:
        saved.clear()
    elif saved.file:
        copy = ranks.current().give_file(saved.file)
        course = saved.restore(copy, classifier, optimizer)
        if copy != saved.file:
            copy.unlink(missing_ok=True)
        if course:
            display.say(f"Going on after {len(course.epochs)} epochs and {course.step} steps.")
            return course
        display.say("There is no saved state of this training; it begins.")
    return Course()


def _make_optimizer(classifier: Classifier, recipe: Recipe) -> torch.optim.Optimizer:
    """Make AdamW over all parameters; those that are frozen have no gradient and cost nothing."""
    # Norms and biases are not pulled towards zero.
    matrices = [parameter for parameter in classifier.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in classifier.parameters() if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def _describe(epoch: Epoch, recipe: Recipe) -> str:
    """Word how an epoch went."""
    return (
        f"Epoch {epoch.number} of {recipe.epochs}: training loss {epoch.train_loss:.4f}, "
        f"validation loss {epoch.validation_loss:.4f}, {epoch.seconds:.1f} s"
    )
