"""Mail that is longer than the model reads: head and tail, or windows whose answers are pooled.

With `head-tail` the model reads the first three quarters of its budget from the beginning and the last quarter from the end. With
`windows` it reads up to four budgets of text, one after another, and what it says about them is averaged; of even longer mail the
tail is in the last one. The first window alone holds sender and subject. A threshold found for one way means nothing for the
other, so the card names the way, and calibration comes after pooling. Called by `inference` and `training`.
"""

from typing import Literal

LongMail = Literal["head-tail", "windows"]

MAX_WINDOWS = 4
"""Bounds the time for one message; checkpoints that read windows are calibrated with it."""


def budget(max_tokens: int, long_mail: LongMail, num_counted: int = 0) -> int:
    """Tell how many tokens of a message are read in all.

    Args:
        max_tokens: what the trunk reads of a message, or of a window.
        long_mail: the way.
        num_counted: what a table of n-grams reads of a message.
    """
    return max_tokens * MAX_WINDOWS if long_mail == "windows" else max(max_tokens, num_counted)


def split(ids: list[int], max_tokens: int, long_mail: LongMail) -> list[list[int]]:
    """Divide what is read of a message into what is computed at a time.

    Args:
        ids: of one message, at least one.
        max_tokens: tokens of a window, at least 1.
        long_mail: the way.

    Returns:
        Everything at once, or the windows in order, all full where there are several: the last one reaches back into the one
        before it.
    """
    if long_mail == "head-tail":
        return [ids]
    starts = [*range(0, len(ids) - max_tokens, max_tokens), max(0, len(ids) - max_tokens)]
    return [ids[start : start + max_tokens] for start in starts]
