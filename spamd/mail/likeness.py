"""What texts of messages have in common that are copies of one another, as a string and as a digest.

Exact but for digits, punctuation, spacing and case; near copies are the business of `training.near_copies`. Called by
`training.splits` and `service.feedback`, which must agree on what the same message is.
"""

import re
from hashlib import blake2b

_NOT_LETTERS = re.compile(r"[\W\d_]+")


def normalise(text: str) -> str:
    """Reduce a text to what copies share: its letters, in one case; where it has none, its visible characters."""
    return _NOT_LETTERS.sub("", text).casefold() or "".join(text.split())


def digest(text: str) -> bytes:
    """Hash what copies share: 16 bytes."""
    return blake2b(normalise(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()
