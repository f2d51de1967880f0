"""The checksum by which weights are known: in checkpoints, in published files and in what is fetched. Loads no torch."""

import hashlib
from pathlib import Path


def sha256_of(file: Path) -> str:
    """Compute the sha256 of a file, in lower-case hex.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
