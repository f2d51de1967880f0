"""A whole retraining: mail and a place to start in, a stored candidate and a judgement out.

Joins the parts of this package in the order in which they work. Where checkpoints lie and whether the candidate is promoted is
decided by `cli.retrain`, the only caller; nothing is printed here but through a `Display`.

Security: writes one checkpoint folder, whole or not at all. Of the mail its card names only kinds of datasets, the last parts of
their paths, and counts.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from spamd.errors import TrainingError
from spamd.mail.text import TEXT_VERSION
from spamd.model.checkpoint import CheckpointCard, save_checkpoint
from spamd.training import calibration, gate, metrics, splits
from spamd.training.calibration import OperatingPoint
from spamd.training.gathering import Mail
from spamd.training.judging import Answer, find_overlap, lineage
from spamd.training.metrics import Numbers
from spamd.training.parts import margins, tokenise
from spamd.training.progress import Display
from spamd.training.starts import Start
from spamd.training.trainer import Recipe, Training, train
from spamd.verdict import Label

MUCH_MISSED = 20.0
"""Per cent of spam missed from which the ham that sets the threshold is named."""


@dataclass(frozen=True, slots=True)
class Current:
    """The checkpoint that runs now.

    Attributes:
        card: its card.
        answer: what it said about the held-out mail.
    """

    card: CheckpointCard
    answer: Answer


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a retraining.

    Attributes:
        folder: the stored candidate, named after its id.
        candidate: its answer to the held-out mail.
        current: the checkpoint that runs now, or None where there was none to compare with.
        decision: whether the candidate is worse, or None where there was nothing to compare with.
        training: the course of the training.
        warnings: what the operator should know, a sentence each.
    """

    folder: Path
    candidate: Answer
    current: Current | None
    decision: gate.Decision | None
    training: Training
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the operator wants.

    Attributes:
        recipe: how to train.
        max_tokens: budget of one message, within the positions of the trunk.
        max_ham_lost: share of ham that the threshold may lose.
        is_balanced: whether labels were balanced, for the card.
    """

    recipe: Recipe
    max_tokens: int
    max_ham_lost: float
    is_balanced: bool = False


def retrain(
    start: Start,
    mail: Mail,
    plan: Plan,
    *,
    current: Current | None,
    checkpoints_dir: Path,
    weights_dir: Path,
    device: torch.device,
    display: Display,
) -> Outcome:
    """Train, calibrate, judge and store a candidate.

    Args:
        start: what to train; changed in place.
        mail: what to train and judge with.
        plan: what is wanted.
        current: what to compare with.
        checkpoints_dir: the folder that gets the candidate's folder.
        weights_dir: where published weights lie.
        device: where to compute.
        display: told how it goes.

    Returns:
        The candidate and how it compares.

    Raises:
        TrainingError: the training cannot start or go on; nothing was stored.
        CheckpointError: the candidate cannot be stored.
    """
    classifier, seed = start.classifier.to(device), plan.recipe.seed
    train_part, validation, test = (tokenise(part, start.tokenizer, plan.max_tokens) for part in mail.parts)
    training = train(classifier, train_part, validation, plan.recipe, display)

    display.begin("Choosing temperature and threshold", len(validation.sequences))
    found = margins(classifier, validation, display)
    temperature = calibration.fit_temperature(validation.labels, found)
    scores = calibration.probabilities(found, temperature)
    point = calibration.choose_threshold(validation.labels, scores, plan.max_ham_lost)

    display.begin("Held-out mail, the candidate", len(test.sequences))
    judged = gate.Judged(calibration.probabilities(margins(classifier, test, display), temperature), point.threshold)
    candidate = Answer(judged, metrics.measure(test.labels, judged.scores, point.threshold, seed=seed))

    card = _make_card(start, mail, plan, training, temperature=temperature, point=point, figures=candidate.figures)
    folder = save_checkpoint(checkpoints_dir, classifier, start.tokenizer, card, weights_dir=weights_dir)
    decision = None
    if current:
        decision = gate.judge(test.labels, judged, current.answer.judged, max_ham_lost=plan.max_ham_lost, seed=seed)
    warnings = [*_warn_of_overlap(start, mail, current, seed), *_warn_of_threshold(mail, point, scores, candidate.figures)]
    return Outcome(folder, candidate, current, decision, training, tuple(warnings))


def choose_max_tokens(wanted: int | None, usual: int, start: Start) -> int:
    """Choose the budget of one message.

    Args:
        wanted: what the operator asked for, or None.
        usual: what the settings say; cut to what the trunk can read.
        start: what will be trained.

    Raises:
        TrainingError: the trunk cannot read what the operator asked for.
    """
    most = start.classifier.trunk.config.n_positions
    if wanted is not None and wanted > most:
        raise TrainingError(f"--max-tokens {wanted} is more than {start.name} can read; it has {most} positions.")
    return min(usual, most) if wanted is None else wanted


def _make_card(
    start: Start,
    mail: Mail,
    plan: Plan,
    training: Training,
    *,
    temperature: float,
    point: OperatingPoint,
    figures: metrics.Figures,
) -> CheckpointCard:
    """Write the candidate's card."""
    return CheckpointCard(
        trunk=start.classifier.trunk.config,
        base=start.base,
        head=start.head,
        text_version=TEXT_VERSION,
        max_tokens=plan.max_tokens,
        temperature=temperature,
        threshold=point.threshold,
        threshold_interval=(figures.hm.low / 100.0, figures.hm.high / 100.0),
        threshold_note=_note(point, plan.max_ham_lost),
        datasets=mail.datasets,
        metrics=figures.as_json(),
        training=_describe(start, mail, plan, training),
    )


def _describe(start: Start, mail: Mail, plan: Plan, training: Training) -> dict[str, Any]:
    """Write down all that is needed to repeat the training."""
    recipe = plan.recipe
    return {
        "started_from": start.name,
        "is_new_head": start.is_new_head,
        "freeze": recipe.policy_name,
        "epochs": recipe.epochs,
        "best_epoch": training.best.number,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "class_weights": recipe.class_weights,
        "seed": recipe.seed,
        "split": splits.METHOD,
        "balance": plan.is_balanced,
        "max_ham_lost": plan.max_ham_lost,
        "messages": mail.counts,
        "duplicates": mail.num_duplicates,
        "conflicting": mail.num_conflicting,
        "course": [asdict(epoch) for epoch in training.epochs],
        "lineage": lineage(start.card) if start.card else [],
    }


def _note(point: OperatingPoint, max_ham_lost: float) -> str:
    """Say for the card how the threshold was chosen."""
    return (
        f"The lowest score that loses at most {100 * max_ham_lost:.3g} % of {point.num_ham:,} validation ham; it lost "
        f"{point.ham_lost:,}, so at most {100 * point.bound:.2g} % with 95 % confidence. The interval is that of the test ham."
    )


def _warn_of_overlap(start: Start, mail: Mail, current: Current | None, seed: int) -> list[str]:
    """Warn where figures may be flattered."""
    warnings = []
    if current and (dataset := find_overlap(current.card, mail.datasets, seed)):
        warnings.append(
            f"The current checkpoint {current.card.id} was trained on {dataset} with another split, so it may know part of the "
            "held-out mail; its figures may be better here than on new mail."
        )
    if start.card and (dataset := find_overlap(start.card, mail.datasets, seed)):
        warnings.append(
            f"The candidate started from {start.name}, which was trained on {dataset} with another split, so it may know part of "
            "the held-out mail; its figures may be better here than on new mail. --base mini, or the seed of then, avoids it."
        )
    return warnings


def _warn_of_threshold(mail: Mail, point: OperatingPoint, scores: Numbers, figures: metrics.Figures) -> list[str]:
    """Warn where validation mail is too little for what is asked, and where one ham holds the threshold up."""
    warnings = [point.warning] if point.warning else []
    if figures.sm.value >= MUCH_MISSED:
        found = zip(scores.tolist(), mail.parts.validation, strict=True)
        kept = [(score, example.origin) for score, example in found if example.label is Label.HAM and score < point.threshold]
        score, origin = max(kept, default=(0.0, "none"))
        warnings.append(
            f"At its threshold of {point.threshold:.4f} the candidate misses {figures.sm.value:.1f} % of spam. What holds the "
            f"threshold up is the ham {origin}, which scores {score:.4f}: mend its label if it is spam, or allow a larger "
            "--max-ham-lost."
        )
    return warnings
