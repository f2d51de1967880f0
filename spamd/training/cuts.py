"""Ways of holding mail out: by text, by sender, by time, or as the reference does; and whether a message was held out then.

A way is written on the card of a checkpoint, so that it is known later which mail the checkpoint has not seen. Called by
`gathering` and `evaluation`.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import pandas as pd

from spamd.errors import TrainingError
from spamd.training.splits import (
    METHOD,
    MIN_HELD_OUT,
    MIN_PER_LABEL,
    TEST_SHARE,
    VALIDATION_SHARE,
    Example,
    Split,
    count,
    fraction,
    fraction_of,
    split,
)

Cut = Literal["text-hash", "sender", "time", "shuffle", "none"]
"""How mail is parted: by a hash of its text; by a hash of its sender, so that none stands in two parts; the newest held out; or
shuffled and cut with copies and all, as the reference does; or not at all, so that all of it trains and judges in turn."""

SENDER = "sender-hash 70/10/20"
SHUFFLED = "shuffled 70/10/20"
NOTHING_HELD_OUT = "nothing held out, cross-validated"
TIME = "time 70/10/20, test from "
"""Followed by the moment from which mail was held out for the test, ISO 8601."""

MAX_UNDATED = 0.05
"""Share of mail that may lack a date where mail is parted by time."""

_SENDER = re.compile(r"From: (.{0,200}?)@([^\s@]{1,200})(?:\n|\Z)")
_PROVIDERS = re.compile(
    r"(?:gmail|googlemail|yahoo|ymail|hotmail|outlook|live|msn|aol|icloud|me|gmx|web|t-online|freenet|orange|free|laposte|libero|"
    r"mail|yandex|qq|163|126|sina|proton|protonmail|posteo|wp|o2|seznam|uol|bol|terra|comcast|verizon|att)(?:\.co|\.com)?\.[a-z]{2,3}"
)
"""Domains that give addresses to all the world: there the sender is told by name too."""


def part(examples: Sequence[Example], cut: Cut, seed: int) -> tuple[Split, str]:
    """Part messages into 70 % train, 10 % validation and 20 % test.

    Args:
        examples: messages, without copies unless for `shuffle`.
        cut: the way.
        seed: of the hash or of the shuffling; time needs none.

    Returns:
        The parts, and the way for the card.

    Raises:
        TrainingError: there are too few messages of a label, or too few senders or dates.
    """
    if cut == "shuffle":
        return shuffle_and_cut(examples, seed), SHUFFLED
    if cut == "none":
        return Split(list(examples), [], list(examples)), NOTHING_HELD_OUT
    if cut == "sender":
        return _by_sender(examples, seed), SENDER
    if cut == "time":
        return _by_time(examples)
    return split(examples, seed), METHOD


def height(example: Example, cut: Cut, seed: int) -> float:
    """Rank near copies: the one stays that training would get first, so that none of those held out has a copy there."""
    if cut == "time":
        # The earliest; mail without a date goes to training.
        return float("inf") if example.arrived is None else -example.arrived
    return _sender_fraction(example.text, seed) if cut == "sender" else fraction(example.text, seed)


def was_held_out(example: Example, method: object, seed: object) -> bool | None:
    """Tell whether a message was in the test part of a training that had it.

    Of a label with fewer than some twenty messages `splits.split` may have parted otherwise; that cannot be told afterwards.

    Args:
        example: the message.
        method: the way of parting, as a card records it.
        seed: as a card records it.

    Returns:
        True or False; None where the card does not allow to tell.
    """
    if isinstance(seed, int) and method in {METHOD, SENDER}:
        return (fraction if method == METHOD else _sender_fraction)(example.text, seed) < TEST_SHARE
    if method == NOTHING_HELD_OUT:
        return False
    if isinstance(method, str) and method.startswith(TIME):
        return example.arrived is not None and example.arrived >= _moment(method.removeprefix(TIME))
    return None


def sender_of(text: str) -> str:
    """Find the sender in a text: the domain, and where that belongs to a provider for everybody, the name too; else the text."""
    found = _SENDER.match(text)
    if not found:
        return text
    name, domain = found[1].strip(), found[2].lower()
    return f"{name} @{domain}" if _PROVIDERS.fullmatch(domain) else domain


def shuffle_and_cut(examples: Sequence[Example], seed: int) -> Split:
    """Part messages as the reference does: shuffle them all, and cut after 70 % and 80 %, both rounded down.

    Args:
        examples: messages, duplicates included, which may then stand on both sides of a cut.
        seed: pandas' random state; 123 in the reference.

    Raises:
        TrainingError: there are too few messages of a label.
    """
    _require_both(examples)
    return _cut(pd.Series(range(len(examples))).sample(frac=1, random_state=seed).tolist(), examples)


def _sender_fraction(text: str, seed: int) -> float:
    """Map the sender in a text to a number from 0.0 up to 1.0."""
    return fraction_of(sender_of(text).encode("utf-8", "surrogatepass"), seed)


def _by_sender(examples: Sequence[Example], seed: int) -> Split:
    """Let the hash of its sender decide where a message goes."""
    _require_both(examples)
    parts = Split([], [], [])
    for example in examples:
        place = _sender_fraction(example.text, seed)
        chosen = parts.test if place < TEST_SHARE else parts.validation if place < TEST_SHARE + VALIDATION_SHARE else parts.train
        chosen.append(example)
    _require_held_out(parts, "senders")
    return parts


def _by_time(examples: Sequence[Example]) -> tuple[Split, str]:
    """Hold the newest messages out; those without a date train."""
    _require_both(examples)
    num_undated = sum(example.arrived is None for example in examples)
    if num_undated > MAX_UNDATED * len(examples):
        raise TrainingError(
            f"{num_undated:,} of {len(examples):,} messages bear no date, so time cannot part them; take --split text-hash."
        )
    order = sorted(range(len(examples)), key=lambda place: examples[place].arrived or 0.0)
    parts = _cut(order, examples)
    _require_held_out(parts, "days")
    start = datetime.fromtimestamp(parts.test[0].arrived or 0.0, UTC)
    return parts, f"{TIME}{start.isoformat(timespec='seconds')}"


def _cut(order: Sequence[int], examples: Sequence[Example]) -> Split:
    """Cut an order of messages after 70 % and 80 %, both rounded down."""
    end_of_train = len(order) * 7 // 10
    end_of_validation = end_of_train + len(order) // 10
    pieces = (order[:end_of_train], order[end_of_train:end_of_validation], order[end_of_validation:])
    return Split(*([examples[place] for place in piece] for piece in pieces))


def _require_both(examples: Sequence[Example]) -> None:
    """Refuse too few messages of a label."""
    counts = count(examples)
    if min(counts.values()) < MIN_PER_LABEL:
        ham, spam = counts.values()
        raise TrainingError(
            f"There are {ham:,} ham and {spam:,} spam messages; training needs at least {MIN_PER_LABEL} of each. Add messages or "
            "another --dataset."
        )


def _require_held_out(parts: Split, what: str) -> None:
    """Refuse parts that lack a label."""
    for name, examples in parts._asdict().items():
        for label, number in count(examples).items():
            if number < MIN_HELD_OUT:
                raise TrainingError(
                    f"The {name} part gets {number} {label} messages, for ham and spam do not come from enough different {what}; "
                    "take --split text-hash."
                )


def _moment(text: str) -> float:
    """Read a moment back from a card; one that cannot be read holds nothing out."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return float("inf")
