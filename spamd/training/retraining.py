"""A whole retraining: mail and a place to start in, a stored candidate and a judgement out.

Joins the parts of this package in the order in which they work. Where checkpoints lie and whether the candidate is promoted is
decided by `cli.retrain`; nothing is printed here but through a `Display`. Called by `cli.candidate`.

Security: writes one checkpoint folder, whole or not at all, and while it trains the folder of its state, for its owner alone. Of
the mail the card names only kinds of datasets, the last parts of their paths, and counts.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from spamd.mail.text import TEXT_VERSION
from spamd.model.checkpoint import CheckpointCard, save_checkpoint
from spamd.training import calibration, gate, metrics, ngrams, ranks
from spamd.training.calibration import OperatingPoint
from spamd.training.gathering import Mail
from spamd.training.judging import Answer, find_overlap, lineage
from spamd.training.metrics import Numbers
from spamd.training.parts import margins_of_all, tokenise
from spamd.training.plans import Plan, choose_max_tokens, fit_to_mail, fit_to_part, shift_to
from spamd.training.progress import Display
from spamd.training.starts import Start
from spamd.training.trainer import Training, train
from spamd.verdict import Label

__all__ = ["Current", "Outcome", "Plan", "choose_max_tokens", "clear_state", "retrain"]

STATE = "state"
"""The folder of an unfinished training, below the folder of all training."""

CURVES = "training.json"
"""The file in a checkpoint that holds the curves of its training."""

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
    work_dir: Path | None = None,
    is_resumed: bool = False,
) -> Outcome | None:
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
        work_dir: folder for the state of the training and for what memory does not hold; None keeps neither.
        is_resumed: whether to go on from the state in that folder, if there is one.

    Returns:
        The candidate and how it compares; None in a process that only helped another one to train.

    Raises:
        TrainingError: the training cannot start or go on; nothing was stored.
        CheckpointError: the candidate cannot be stored.
    """
    start, plan = fit_to_mail(start, mail, plan)
    classifier, seed = start.classifier.to(device), plan.recipe.seed
    classifier.max_tokens = plan.max_tokens
    train_part, validation, test = (tokenise(part, start.tokenizer, classifier.budget(), folder=work_dir) for part in mail.parts)
    plan = fit_to_part(plan, train_part)
    state_dir = work_dir / STATE if work_dir else None
    with ranks.joined(device) as world:
        training = train(classifier, train_part, validation, plan.recipe, display, folder=state_dir, is_resumed=is_resumed)
    if not world.is_first:
        return None
    learned = None
    if classifier.ngrams and not plan.is_table_kept:
        parts = (train_part, validation)
        learned = ngrams.learn(classifier, start.tokenizer, parts, seed=seed, folder=work_dir, display=display)
        display.say(_tell(learned))

    display.begin("Choosing temperature and threshold", len(validation.sequences))
    read = partial(margins_of_all, classifier, tokenizer=start.tokenizer, long_mail=plan.long_mail)
    found = read(mail.parts.validation, display=display, folder=work_dir)
    # Judged by mail in which spam has its own share.
    temperature = calibration.fit_temperature(validation.labels, found + shift_to(validation, plan, train_part))
    scores = calibration.probabilities(found, temperature)
    point = calibration.choose_threshold(validation.labels, scores, plan.max_ham_lost)
    point = calibration.raise_to_tail(validation.labels, scores, point, plan.max_ham_lost)

    display.begin("Held-out mail, the candidate", len(test.sequences))
    margins = read(mail.parts.test, display=display, folder=work_dir)
    judged = gate.Judged(calibration.probabilities(margins, temperature), point.threshold)
    candidate = Answer(judged, metrics.measure(test.labels, judged.scores, point.threshold, seed=seed))

    course = _describe(start, mail, plan, training, learned)
    card = _make_card(start, mail, plan, course, temperature=temperature, point=point, figures=candidate.figures)
    notes = {CURVES: _curves(training)}
    folder = save_checkpoint(checkpoints_dir, classifier, start.tokenizer, card, weights_dir=weights_dir, notes=notes)
    decision = None
    if current:
        decision = gate.judge(test.labels, judged, current.answer.judged, max_ham_lost=plan.max_ham_lost, seed=seed)
    warnings = [*_warn_of_overlap(start, mail, current, seed), *_warn_of_threshold(mail, point, scores, candidate.figures)]
    return Outcome(folder, candidate, current, decision, training, tuple(warnings))


def clear_state(work_dir: Path) -> None:
    """Remove the state of a training; call it when what came of it serves, or was not to.

    Args:
        work_dir: as for `retrain`.
    """
    shutil.rmtree(work_dir / STATE, ignore_errors=True)


def _tell(learned: ngrams.Learned | None) -> str:
    """Say what became of the table of n-grams."""
    if learned is None:
        return "The table of n-grams stays as it is: what it could learn from this mail is no gain."
    losses = f"validation loss {learned.new_loss:.4f}, before {learned.loss:.4f}"
    return f"The table of n-grams learned from {learned.num_messages:,} messages: {losses}"


def _curves(training: Training) -> bytes:
    """Write the curves of a training down, one list a quantity, as plots want them."""
    steps = {name: [getattr(step, name) for step in training.steps] for name in ("epoch", "loss", "accuracy", "learning_rate")}
    return json.dumps({"steps": steps, "epochs": [asdict(epoch) for epoch in training.epochs]}).encode()


def _make_card(
    start: Start,
    mail: Mail,
    plan: Plan,
    course: dict[str, Any],
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
        ngrams=start.classifier.ngrams.note if start.classifier.ngrams else None,
        text_version=TEXT_VERSION,
        max_tokens=plan.max_tokens,
        pad_to=start.tokenizer.pad_to,
        long_mail=plan.long_mail,
        lora=start.lora,
        temperature=temperature,
        threshold=point.threshold,
        threshold_interval=(figures.hm.low / 100.0, figures.hm.high / 100.0),
        threshold_note=_note(point, plan.max_ham_lost),
        datasets=mail.datasets,
        metrics=figures.as_json(),
        training=course,
    )


def _describe(start: Start, mail: Mail, plan: Plan, training: Training, learned: ngrams.Learned | None) -> dict[str, Any]:
    """Write down all that is needed to repeat the training."""
    return plan.recipe.settings() | {
        "started_from": start.name,
        "is_new_head": start.is_new_head,
        "best_epoch": training.best.number,
        "split": mail.method,
        "balance": plan.is_balanced,
        "pad": plan.pad,
        "spam_share": plan.spam_share,
        "max_ham_lost": plan.max_ham_lost,
        "messages": mail.counts,
        "duplicates": mail.num_duplicates,
        "conflicting": mail.num_conflicting,
        "course": [asdict(epoch) for epoch in training.epochs],
        "table": asdict(learned) if learned else None,
        "lineage": lineage(start.card) if start.card else [],
    }


def _note(point: OperatingPoint, max_ham_lost: float) -> str:
    """Say for the card how the threshold was chosen."""
    share = f"{100 * max_ham_lost:.3g} %"
    if point.is_raised:
        chosen = f"Where the highest of {point.num_ham:,} validation ham, too few to show it, let expect a loss of {share} of ham"
    else:
        chosen = f"The lowest score that loses at most {share} of {point.num_ham:,} validation ham"
    lost = f"it lost {point.ham_lost:,}, so at most {100 * point.bound:.2g} % with 95 % confidence"
    return f"{chosen}; {lost}. The interval is that of the test ham."


def _warn_of_overlap(start: Start, mail: Mail, current: Current | None, seed: int) -> list[str]:
    """Warn where figures may be flattered."""
    warnings = []
    if current and (dataset := find_overlap(current.card, mail.datasets, seed, mail.method)):
        warnings.append(
            f"The current checkpoint {current.card.id} was trained on {dataset} with another split, so it may know part of the "
            "held-out mail; its figures may be better here than on new mail."
        )
    if start.card and (dataset := find_overlap(start.card, mail.datasets, seed, mail.method)):
        warnings.append(
            f"The candidate started from {start.name}, which was trained on {dataset} with another split, so it may know part of "
            "the held-out mail; its figures may be better here than on new mail. --base mini, or the seed of then, avoids it."
        )
    return warnings


def _warn_of_threshold(mail: Mail, point: OperatingPoint, scores: Numbers, figures: metrics.Figures) -> list[str]:
    """Warn where validation mail is too little for what is asked, and where one ham holds the threshold up."""
    warnings = [point.warning] if point.warning else []
    if figures.sm.value < MUCH_MISSED:
        return warnings
    missed = f"At its threshold of {point.threshold:.4f} the candidate misses {figures.sm.value:.1f} % of spam."
    if point.is_raised:
        warnings.append(
            f"{missed} {point.num_ham:,} validation ham are too few to choose a lower one: train with more ham, or allow a "
            "larger --max-ham-lost."
        )
    else:
        found = zip(scores.tolist(), mail.parts.validation, strict=True)
        kept = [(score, example.origin) for score, example in found if example.label is Label.HAM and score < point.threshold]
        score, origin = max(kept, default=(0.0, "none"))
        warnings.append(
            f"{missed} What holds the threshold up is the ham {origin}, which scores {score:.4f}: mend its label if it is spam, "
            "or allow a larger --max-ham-lost."
        )
    return warnings
