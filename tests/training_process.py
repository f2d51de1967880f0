"""A retraining in a process of its own, to be killed: `python tests/training_process.py FOLDER [--resume]`.

FOLDER holds `mail/`, which `teaching` wrote, and `base`, a link to the checkpoint to start from. State is saved after every step.
"""

import sys
from pathlib import Path

import torch

from spamd.model.checkpoint import HeadNote
from spamd.training import freezing
from spamd.training.datasets import folder
from spamd.training.gathering import Source, gather
from spamd.training.progress import Lines
from spamd.training.retraining import Plan, retrain
from spamd.training.starts import start_from_checkpoint
from spamd.training.trainer import Recipe


def main(place: Path, *, is_resumed: bool) -> None:
    """Retrain, and print the name of the stored checkpoint."""
    from teaching import HEADS

    torch.set_num_threads(1)
    mail = gather([Source("folder", place / "mail", folder(place / "mail"))], seed=3, balance=False, display=Lines(sys.stderr))
    recipe = Recipe("last-block", freezing.last_block, epochs=4, learning_rate=1e-3, seed=3, accumulate=2, save_seconds=0.0)
    outcome = retrain(
        start_from_checkpoint((place / "base").resolve(), HEADS, HeadNote(name="mean-pool"), seed=3),
        mail,
        Plan(recipe, max_tokens=64, max_ham_lost=0.05),
        current=None,
        checkpoints_dir=place / "stored",
        weights_dir=place / "weights",
        device=torch.device("cpu"),
        display=Lines(sys.stderr),
        work_dir=place / "work",
        is_resumed=is_resumed,
    )
    sys.stdout.write(f"{outcome.folder.name}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), is_resumed="--resume" in sys.argv)
