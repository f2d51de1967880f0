"""Folders and files that appear under their names whole or not at all, whatever is killed or full in between.

Knows nothing of what it writes. Called by `checkpoint`, `training.state` and `cli.candidate`.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER_MODE, FILE_MODE = 0o755, 0o644
"""Whatever the umask: root trains, and another user's daemon must read. The state folder above says who gets this far."""


@contextlib.contextmanager
def draft_folder(parent: Path) -> Iterator[Path]:
    """Give a hidden folder beside the final one; whatever is left of it goes away.

    Args:
        parent: the folder that gets it; made if missing.
    """
    if not parent.is_dir():
        parent.mkdir(parents=True, exist_ok=True)
        parent.chmod(FOLDER_MODE)
    draft = parent / f".draft-{secrets.token_hex(8)}"
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def remove_left_drafts(parent: Path) -> None:
    """Remove what killed processes left; call it where no other process is writing.

    Args:
        parent: as for `draft_folder`.
    """
    for draft in parent.glob(".draft-*"):
        shutil.rmtree(draft, ignore_errors=True)


def replace_file(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file anew; the one before stays until the new one is whole and on the disk.

    Args:
        file: what to replace; its folder exists.
        write: writes to the path that it is given.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the old file is as it was.
    """
    draft = file.with_name(f".{file.name}.draft")
    try:
        write(draft)
        to_disk(draft)
        draft.replace(file)
        to_disk(file.parent)
    finally:
        draft.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
