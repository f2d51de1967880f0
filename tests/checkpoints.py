"""Checkpoints for tests that need several: copies of a real one under other ids, sound or damaged."""

import json
import shutil
from pathlib import Path


def copy_checkpoint(folder: Path, parent: Path, identifier: str, **changes) -> Path:
    """Copy a checkpoint.

    Args:
        folder: the checkpoint to copy.
        parent: the folder that gets the copy.
        identifier: id of the copy, which becomes its folder's name.
        changes: fields of the card that get other values.

    Returns:
        The copy's folder.
    """
    copy = Path(shutil.copytree(folder, parent / identifier))
    card = json.loads((copy / "checkpoint.json").read_text())
    (copy / "checkpoint.json").write_text(json.dumps(card | {"id": identifier} | changes))
    return copy


def damage(folder: Path) -> None:
    """Cut a checkpoint's weights short."""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
