"""The folder in which one training at a time works: its state, and what memory does not hold.

Called by `cli.candidate`.

Security: for its owner alone; mail lies there as text and token ids, in files without names.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from spamd.errors import TrainingError


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Claim the folder, for as long as a training lasts; a killed process gives it up by itself.

    Args:
        folder: made if missing.

    Raises:
        TrainingError: another training works there.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(f"{folder}: another training works here; wait for it, or set another state_dir.") from None
        yield
