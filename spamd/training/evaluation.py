"""Several checkpoints, judged by the same mail: each one's figures, and how it differs from the first beyond chance.

Mail that a checkpoint was trained on would flatter it. Where its card names a dataset that is judged by now, only that dataset's
test part, found again by the card's own seed and way of parting, is kept; the same messages judge all checkpoints. Where a card
does not allow to tell, that is said. Trains nothing and stores nothing. Called by `cli.evaluate`; `comparing` words what comes
of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spamd.errors import DatasetError
from spamd.interfaces import HeadFactory
from spamd.model.checkpoint import CheckpointCard, read_card
from spamd.training import metrics, slices
from spamd.training.calibration import expected_calibration_error, probabilities
from spamd.training.cuts import was_held_out
from spamd.training.gate import CAUGHT_AT
from spamd.training.gathering import printable
from spamd.training.judging import ask, lineage
from spamd.training.metrics import Measure, Numbers, caught_at, one_minus_roca, paired_difference
from spamd.training.parts import labels_of
from spamd.training.progress import Display
from spamd.training.splits import Example, fraction


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one checkpoint did.

    Attributes:
        card: of the checkpoint.
        figures: at its own threshold.
        ece_raw: expected calibration error of its scores without temperature, 0.0 to 1.0.
        ece: with its temperature.
        differences: its figures minus those of the first checkpoint, in points, by name; empty for the first.
        showings: how it does on each slice, in their order.
        warnings: why its figures may flatter it.
    """

    card: CheckpointCard
    figures: metrics.Figures
    ece_raw: float
    ece: float
    differences: Mapping[str, Measure]
    showings: tuple[slices.Showing, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of a comparison.

    Attributes:
        judgements: one a checkpoint, in the order asked for.
        slices: the slices that showings are of.
        num_ham: ham that judged.
        num_spam: spam that judged.
        num_known: messages left out because a checkpoint was trained on them.
    """

    judgements: tuple[Judgement, ...]
    slices: tuple[slices.Slice, ...]
    num_ham: int
    num_spam: int
    num_known: int


def seen_before(card: CheckpointCard, example: Example, names: frozenset[str]) -> bool | None:
    """Tell whether a checkpoint was trained on a message.

    Args:
        card: of the checkpoint.
        example: the message.
        names: what its dataset may be called on a card: its name there is the last part of a path.

    Returns:
        True where the message was in a part that is trained on or chosen by, False where it was not; None where that cannot be
        told.
    """
    answers = [
        was_held_out(example, training["split"], training["seed"])
        for training in lineage(card)
        if any(source["path"] in names for source in training["datasets"])
    ]
    if any(answer is False for answer in answers):
        return True
    return None if None in answers else False


def keep_unseen(
    examples: Sequence[Example], cards: Iterable[CheckpointCard], names: Mapping[str, frozenset[str]]
) -> tuple[list[Example], dict[str, int]]:
    """Leave out what any checkpoint was trained on.

    Args:
        examples: the messages.
        cards: of all checkpoints.
        names: for each dataset what it may be called on a card.

    Returns:
        What is left; and by checkpoint the number of those left of which its card does not tell.
    """
    cards = list(cards)
    kept: list[Example] = []
    unclear = {card.id: 0 for card in cards}
    for example in examples:
        seen = {card.id: seen_before(card, example, names[example.dataset]) for card in cards}
        if True in seen.values():
            continue
        kept.append(example)
        for identifier, answer in seen.items():
            unclear[identifier] += answer is None
    return kept, unclear


def names_of(path: Path) -> frozenset[str]:
    """Tell what a dataset at a path may be called on a card: any part of the path, with or without its ending."""
    path = path.resolve()
    return frozenset(map(printable, {*path.parts, path.stem}))


def rank_for(cards: Sequence[CheckpointCard], seed: int) -> int:
    """Choose the seed by which near copies are ranked: that of the first card that has one, else `seed`."""
    return next(
        (int(training["seed"]) for card in cards for training in lineage(card) if isinstance(training["seed"], int)), seed
    )


def height(seed: int, example: Example) -> float:
    """Rank near copies as training does."""
    return fraction(example.text, seed)


def evaluate(
    folders: Sequence[Path],
    heads: Mapping[str, HeadFactory],
    examples: Sequence[Example],
    names: Mapping[str, frozenset[str]],
    *,
    weights_dir: Path | None,
    device: torch.device,
    seed: int,
    is_all: bool,
    display: Display,
) -> Evaluation:
    """Let checkpoints judge mail, and judge them.

    Args:
        folders: the checkpoints; others are compared with the first.
        heads: the heads on offer by name.
        examples: the messages, without copies.
        names: for each dataset what it may be called on a card.
        weights_dir: where published weights lie.
        device: where to compute.
        seed: of the intervals.
        is_all: whether to keep also what a checkpoint was trained on.
        display: told of each message.

    Raises:
        CheckpointError: one of them cannot be used.
        DatasetError: the mail that is left lacks a label.
    """
    cards = [read_card(folder) for folder in folders]
    kept, unclear = keep_unseen(examples, cards, names)
    num_known = len(examples) - len(kept)
    if is_all:
        kept = list(examples)
    labels = labels_of(kept)
    if not 0 < labels.sum() < len(labels):
        left = f"There is nothing to judge by: {int((labels == 0).sum()):,} ham and {int(labels.sum()):,} spam"
        if is_all or not num_known:
            raise DatasetError(f"{left}. There must be both; add a --dataset.")
        raise DatasetError(
            f"{left} are left, after {num_known:,} messages that a checkpoint was trained on. There must be both; add a "
            "--dataset, or take --all."
        )
    cut = tuple(slices.slices(kept))
    judgements: list[Judgement] = []
    first: tuple[Numbers, float] | None = None
    for folder in folders:
        card, margins = ask(folder, heads, kept, weights_dir=weights_dir, device=device, display=display)
        scores = probabilities(margins, card.temperature)
        judgement = Judgement(
            card,
            metrics.measure(labels, scores, card.threshold, seed=seed),
            expected_calibration_error(labels, probabilities(margins, 1.0)),
            expected_calibration_error(labels, scores),
            _differences(labels, (scores, card.threshold), first, seed) if first else {},
            tuple(slices.show(labels[part.members], scores[part.members], card.threshold, seed=seed) for part in cut),
            tuple(_warnings(card, unclear[card.id], num_known if is_all else 0)),
        )
        judgements.append(judgement)
        first = first or (scores, card.threshold)
    return Evaluation(tuple(judgements), cut, int((labels == 0).sum()), int(labels.sum()), 0 if is_all else num_known)


def _differences(labels: Numbers, other: tuple[Numbers, float], first: tuple[Numbers, float], seed: int) -> dict[str, Measure]:
    """Compare a checkpoint with the first on the same messages, each figure with its paired interval."""
    mine, theirs = ((scores >= threshold).astype(np.float64) for scores, threshold in (other, first))
    return {
        "hm": paired_difference(labels, mine, theirs, lambda ham, _: 100.0 * float(ham.mean()), seed=seed),
        "sm": paired_difference(labels, mine, theirs, lambda _, spam: 100.0 * float(1.0 - spam.mean()), seed=seed),
        "roca": paired_difference(labels, other[0], first[0], one_minus_roca, seed=seed),
        f"caught_at_{100 * CAUGHT_AT:g}": paired_difference(
            labels, other[0], first[0], lambda ham, spam: caught_at(ham, spam, CAUGHT_AT), seed=seed
        ),
    }


def _warnings(card: CheckpointCard, num_unclear: int, num_known: int) -> Iterable[str]:
    """Say why figures may flatter a checkpoint."""
    if num_known:
        yield f"{num_known:,} of these messages a checkpoint was trained on or chosen by; figures are flattered."
    if num_unclear:
        yield (
            f"{card.id} was trained on a dataset of this name, and its card does not say what was held out then; it may know "
            f"{num_unclear:,} of these messages."
        )
    if not card.datasets:
        yield f"{card.id} does not say what it was trained on; it may know any of these messages."
