"""What a checkpoint says about the held-out mail, and whether what it was trained on may flatter it.

Loads and scores; compares nothing (`gate` does) and changes nothing. Called by `retraining`, `adapting`,
`evaluation` and `cli.candidate`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spamd.interfaces import HeadFactory
from spamd.mail.text import TEXT_VERSION
from spamd.model.checkpoint import CheckpointCard, load_checkpoint
from spamd.model.int8 import for_scoring
from spamd.training import cuts, metrics, splits
from spamd.training.calibration import probabilities
from spamd.training.gate import Judged
from spamd.training.metrics import Numbers
from spamd.training.parts import labels_of, margins_of_all
from spamd.training.progress import Display
from spamd.training.splits import Example


@dataclass(frozen=True, slots=True)
class Answer:
    """What one checkpoint said about the held-out mail.

    Attributes:
        judged: its scores and its threshold.
        figures: how good they are.
    """

    judged: Judged
    figures: metrics.Figures


def answer_of(
    folder: Path,
    heads: Mapping[str, HeadFactory],
    examples: Sequence[Example],
    *,
    weights_dir: Path | None,
    device: torch.device,
    seed: int,
    display: Display,
) -> tuple[CheckpointCard, Answer]:
    """Ask a stored checkpoint.

    Args:
        folder: the checkpoint.
        heads: the heads on offer by name.
        examples: the held-out mail.
        weights_dir: where published weights lie.
        device: where to compute.
        seed: of the intervals.
        display: told of each message.

    Returns:
        Its card and its answer.

    Raises:
        CheckpointError: it cannot be used.
    """
    card, found = ask(folder, heads, examples, weights_dir=weights_dir, device=device, display=display)
    judged = Judged(probabilities(found, card.temperature), card.threshold)
    return card, Answer(judged, metrics.measure(labels_of(examples), judged.scores, judged.threshold, seed=seed))


def ask(
    folder: Path,
    heads: Mapping[str, HeadFactory],
    examples: Sequence[Example],
    *,
    weights_dir: Path | None,
    device: torch.device,
    display: Display,
) -> tuple[CheckpointCard, Numbers]:
    """Let a stored checkpoint read messages.

    Args:
        folder: the checkpoint.
        heads: the heads on offer by name.
        examples: the messages.
        weights_dir: where published weights lie.
        device: where to compute.
        display: told of each message.

    Returns:
        Its card, and the logit of spam minus that of ham for each message, (N,), not yet divided by the temperature.

    Raises:
        CheckpointError: it cannot be used.
    """
    checkpoint = load_checkpoint(folder, heads, text_version=TEXT_VERSION, weights_dir=weights_dir)
    card = checkpoint.card
    display.begin(f"Held-out mail, checkpoint {card.id}", len(examples))
    classifier = for_scoring(checkpoint, device)
    return card, margins_of_all(classifier, examples, checkpoint.tokenizer, long_mail=card.long_mail, display=display)


def lineage(card: CheckpointCard) -> list[dict[str, Any]]:
    """Tell what a checkpoint and all that it came from were trained on, the oldest first.

    Args:
        card: of the checkpoint.

    Returns:
        For each training its checkpoint, seed, way of splitting and datasets; nothing for a card that names none.
    """
    own = {
        "checkpoint": card.id,
        "seed": card.training.get("seed"),
        "split": card.training.get("split"),
        "datasets": [{"name": source.get("name"), "path": source.get("path")} for source in card.datasets],
    }
    return [*card.training.get("lineage", []), *([own] if card.datasets else [])]


def find_overlap(
    card: CheckpointCard, datasets: Iterable[Mapping[str, Any]], seed: int, method: str = splits.METHOD
) -> str | None:
    """Tell whether a checkpoint may have been trained on mail that is held out now.

    With the same seed and way of splitting, what is held out now was held out then, unless all was shuffled, which begins
    anew with each message more. Otherwise datasets whose paths end alike are taken for the same mail; the same mail under another
    name goes unnoticed.

    Args:
        card: of the checkpoint.
        datasets: the datasets of today, each with its `path`.
        seed: of today's split.
        method: today's way of splitting, as cards record it.

    Returns:
        The path in common, or None.
    """
    today = {source["path"] for source in datasets}
    for training in lineage(card):
        if method != cuts.SHUFFLED and (training["seed"], training["split"]) == (seed, method):
            continue
        for source in training["datasets"]:
            if source["path"] in today:
                return str(source["path"])
    return None
