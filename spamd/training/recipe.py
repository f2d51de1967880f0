"""What a training is asked to do, and what it tells of itself: plain values, no torch.

Called by `trainer`, which acts on it, and by those who write a recipe or read a course: `retraining`, `state`, `cli`, benchmarks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from spamd.interfaces import FreezingPolicy

Schedule = Literal["linear", "constant"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of a training.

    Attributes:
        policy_name: name of the freezing policy.
        policy: the policy.
        epochs: passes over the training mail.
        batch_size: messages computed at once in learning.
        learning_rate: at its highest.
        weight_decay: pull of matrices towards zero.
        seed: of the batches; weights of a new head are drawn by those who make it.
        class_weights: weights of ham and spam in the loss; None weighs each message alike.
        cache_bytes: memory for hidden states of the frozen part; None takes what the machine affords.
        accumulate: batches a step; 8 of one message each are a step as one of 8 is.
        schedule: `linear` rises shortly and falls to zero, `constant` stays, as in the reference.
        precision: of multiplications: `float32`, `bfloat16`, or `auto`, bfloat16 where the processor multiplies it natively.
        patience: epochs without a better validation loss after which the training stops; 0 for never.
        log_odds_shift: added to the logit of spam while learning, so that what is learned expects another share of spam than the
            training mail has; 0.0 for none.
        spill_dir: folder on whose disk hidden states may lie that memory does not hold; None for nowhere.
        save_seconds: time between two saved states within an epoch.
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
    accumulate: int = 1
    schedule: Schedule = "linear"
    precision: Precision = "float32"
    patience: int = 0
    log_odds_shift: float = 0.0
    spill_dir: Path | None = None
    save_seconds: float = 60.0

    def settings(self) -> dict[str, Any]:
        """Name everything that decides which weights come out, as plain values."""
        return {
            "freeze": self.policy_name,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
            "learning_rate": self.learning_rate,
            "schedule": self.schedule,
            "weight_decay": self.weight_decay,
            "class_weights": list(self.class_weights) if self.class_weights else None,
            "log_odds_shift": self.log_odds_shift,
            "precision": self.precision,
            "patience": self.patience,
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True)
class Step:
    """How one step went: a point of the curves.

    Attributes:
        epoch: counted from 1.
        loss: mean over its messages.
        accuracy: share of its messages on the right side before the step, 0.0 to 1.0.
        learning_rate: what it was made with.
    """

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Epoch:
    """How one epoch went.

    Attributes:
        number: counted from 1.
        train_loss: mean loss of its steps.
        validation_loss: mean loss of the validation mail after it.
        num_trained: how many weights trained.
        seconds: how long it took, validation included.
        train_accuracy: share of the training mail on the right side when it was its turn, 0.0 to 1.0.
        validation_accuracy: share of the validation mail on the right side after it.
    """

    number: int
    train_loss: float
    validation_loss: float
    num_trained: int
    seconds: float
    train_accuracy: float = 0.0
    validation_accuracy: float = 0.0


@dataclass(frozen=True, slots=True)
class Training:
    """How a training went; the classifier holds the weights of its best epoch.

    Attributes:
        epochs: all of them.
        best: the one with the least validation loss.
        steps: all of them.
    """

    epochs: tuple[Epoch, ...]
    best: Epoch
    steps: tuple[Step, ...] = ()


@dataclass(slots=True)
class Course:
    """How far a training is.

    Attributes:
        step: steps done in the epoch that runs.
        seconds: time that this epoch has taken so far.
        epochs: the finished ones.
        steps: all of them.
    """

    step: int = 0
    seconds: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def is_over(self, recipe: Recipe) -> bool:
        """Tell whether no epoch follows: all are done, or nothing has got better for too long."""
        done = len(self.epochs)
        return done >= recipe.epochs or bool(recipe.patience and done and done - best(self.epochs).number >= recipe.patience)


def best(epochs: Sequence[Epoch]) -> Epoch:
    """Find the epoch with the least validation loss, the earliest of equals."""
    return min(epochs, key=lambda epoch: epoch.validation_loss)
