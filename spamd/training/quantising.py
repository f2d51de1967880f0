"""Whether a checkpoint says the same in whole numbers: its verdicts on mail that it has not seen, in float32 and in int8.

Compares and decides; stores nothing. Called by `cli.model.quantise`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spamd.errors import CheckpointError, DatasetError
from spamd.interfaces import HeadFactory
from spamd.mail.text import TEXT_VERSION
from spamd.model.checkpoint import load_checkpoint
from spamd.model.int8 import for_scoring, is_exact
from spamd.training.calibration import probabilities
from spamd.training.parts import margins_of_all
from spamd.training.progress import Display
from spamd.training.splits import Example

MOST_CHANGED = 0.001
"""Share of verdicts that may change."""

MIN_MESSAGES = 1000
"""With fewer, not one verdict might change and yet show nothing of the share."""

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What whole numbers change.

    Attributes:
        num_messages: messages that were judged twice.
        num_changed: messages whose verdict changed.
        largest: the largest change of a score, 0.0 to 1.0.
    """

    num_messages: int
    num_changed: int
    largest: float

    @property
    def is_passed(self) -> bool:
        """Whether so few verdicts change that the int8 checkpoint may serve."""
        return self.num_changed <= MOST_CHANGED * self.num_messages

    def as_json(self) -> dict[str, Any]:
        """Write it down for the card."""
        return {"messages": self.num_messages, "verdicts_changed": self.num_changed, "largest_change_of_score": self.largest}


def compare(
    folder: Path, heads: Mapping[str, HeadFactory], examples: Sequence[Example], *, weights_dir: Path, display: Display
) -> Comparison:
    """Let a checkpoint judge mail in float32 and in int8, on the CPU.

    Args:
        folder: the checkpoint.
        heads: the heads on offer by name.
        examples: mail that it has not seen.
        weights_dir: where published weights lie.
        display: told of each message.

    Raises:
        CheckpointError: it cannot be loaded, or this processor cannot compute in int8.
        DatasetError: the mail is too little.
    """
    if not is_exact():
        raise CheckpointError(
            f"torch {torch.__version__} multiplies whole numbers slowly, wrongly or not at all on this processor, so that "
            "nothing can be compared; make the int8 checkpoint on another one."
        )
    if len(examples) < MIN_MESSAGES:
        raise DatasetError(
            f"{len(examples):,} messages that the checkpoint has not seen are too few to tell whether {MOST_CHANGED:.1%} of "
            f"verdicts change; give {MIN_MESSAGES:,} or more."
        )
    scores = []
    for arithmetic in ("float", "int8"):
        loaded = load_checkpoint(folder, heads, text_version=TEXT_VERSION, weights_dir=weights_dir)
        card = loaded.card.model_copy(update={"arithmetic": arithmetic})
        display.begin(f"Held-out mail in {arithmetic}", len(examples))
        margins = margins_of_all(
            for_scoring(replace(loaded, card=card), CPU),
            examples,
            loaded.tokenizer,
            long_mail=card.long_mail,
            display=display,
        )
        scores.append(probabilities(margins, card.temperature))
    verdicts = [found >= card.threshold for found in scores]
    return Comparison(len(examples), int((verdicts[0] != verdicts[1]).sum()), float(np.abs(scores[0] - scores[1]).max()))
