"""From labelled messages to train, validation and test parts that share nothing.

Text is taken out of each message once, duplicates go, and the part of a message is decided by a seeded hash of its text: what
is held out once stays held out in every later training with the same seed, whatever is added. Reads no files and knows no
tokens. Called by `retraining`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import pandas as pd

from spamd.errors import TrainingError
from spamd.interfaces import LabeledMessage
from spamd.mail.text import message_text
from spamd.verdict import Label

METHOD = "text-hash 70/10/20"
"""How parts are chosen, as checkpoints record it; with another seed or another method other mail is held out."""

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
MIN_HELD_OUT = 2
"""Messages of each label that validation and test get at least."""
MIN_PER_LABEL = 8
"""Messages of each label without which no training starts."""

_NOT_LETTERS = re.compile(r"[\W\d_]+")


@dataclass(frozen=True, slots=True)
class Example:
    """One message as the model will read it.

    Attributes:
        text: what `message_text` made of it.
        label: the truth.
        origin: where it came from.
        dataset: which dataset it belongs to, as the operator wrote it.
    """

    text: str
    label: Label
    origin: str
    dataset: str


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """Messages that differ from each other, and what was left out to get there.

    Attributes:
        examples: the first of each kind, in the order they came.
        num_duplicates: copies left out.
        num_conflicting: messages left out because their copies bear another label.
    """

    examples: list[Example]
    num_duplicates: int
    num_conflicting: int


class Split(NamedTuple):
    """The three parts. Nothing in one has a near-duplicate in another."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]


def read_examples(messages: Iterable[LabeledMessage], dataset: str) -> Iterator[Example]:
    """Take the text out of each message, with the function that scoring uses.

    Args:
        messages: labelled messages.
        dataset: which dataset they belong to.

    Yields:
        One example a message.
    """
    for message in messages:
        yield Example(message_text(message.raw).text, message.label, message.origin, dataset)


def normalise(text: str) -> str:
    """Reduce a text to what near-duplicates share: its letters, in one case; where it has none, its visible characters."""
    return _NOT_LETTERS.sub("", text).casefold() or "".join(text.split())


def deduplicate(examples: Iterable[Example]) -> Deduplicated:
    """Keep the first of all messages with the same normalised text; keep none where their labels differ.

    Args:
        examples: messages in any order.

    Returns:
        What is left, with counts.
    """
    kinds: dict[bytes, list[Example]] = {}
    labels: dict[bytes, set[Label]] = {}
    counts: Counter[bytes] = Counter()
    for example in examples:
        key = _digest(example.text)
        counts[key] += 1
        labels.setdefault(key, set()).add(example.label)
        kinds.setdefault(key, [example])
    kept = [first for key, (first,) in kinds.items() if len(labels[key]) == 1]
    num_conflicting = sum(counts[key] for key, found in labels.items() if len(found) > 1)
    return Deduplicated(kept, counts.total() - num_conflicting - len(kept), num_conflicting)


def undersample(examples: Sequence[Example], seed: int) -> list[Example]:
    """Draw as many messages of the larger label as there are of the smaller, as the reference does.

    Args:
        examples: messages of both labels.
        seed: pandas' random state; 123 in the reference.

    Returns:
        The same number of each label, in the order they came.
    """
    labels = pd.Series([example.label.value for example in examples], dtype=str)
    smallest = int(labels.value_counts().reindex([label.value for label in Label], fill_value=0).min())
    drawn = [group.sample(smallest, random_state=seed) for _, group in labels.groupby(labels)]
    chosen = sorted(position for group in drawn for position in group.index)
    return [examples[position] for position in chosen]


def split(examples: Sequence[Example], seed: int) -> Split:
    """Part messages into 70 % train, 10 % validation and 20 % test.

    The hash of its text alone decides where a message goes. Where that leaves validation or test with fewer than two messages of
    a label, as may happen with few messages, those of the training part whose hash comes next are taken.

    Args:
        examples: messages without duplicates.
        seed: part of the hash; the same seed gives the same parts.

    Returns:
        The parts, each in the order the messages came.

    Raises:
        TrainingError: there are too few messages of a label.
    """
    counts = count(examples)
    if min(counts.values()) < MIN_PER_LABEL:
        raise TrainingError(
            f"There are {counts[Label.HAM]:,} ham and {counts[Label.SPAM]:,} spam messages after removing duplicates; training "
            f"needs at least {MIN_PER_LABEL} of each, and is worth while from 32 of each. Add messages or another --dataset."
        )
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for label in Label:
        ranked = sorted((_fraction(e.text, seed), i) for i, e in enumerate(examples) if e.label is label)
        _deal(ranked, parts)
    return Split(**{name: [examples[i] for i in sorted(members)] for name, members in parts.items()})


def count(examples: Iterable[Example]) -> dict[Label, int]:
    """Count messages by label; a label that is absent counts 0."""
    counts = Counter(example.label for example in examples)
    return {label: counts[label] for label in Label}


def _deal(ranked: Sequence[tuple[float, int]], parts: dict[str, list[int]]) -> None:
    """Put one label's messages, sorted by their hash as a fraction, into the parts."""
    num_test = max(sum(fraction < TEST_SHARE for fraction, _ in ranked), MIN_HELD_OUT)
    num_held_out = max(sum(fraction < TEST_SHARE + VALIDATION_SHARE for fraction, _ in ranked), num_test + MIN_HELD_OUT)
    # However the hashes fall, training keeps its minimum too.
    num_held_out = min(num_held_out, len(ranked) - MIN_HELD_OUT)
    num_test = min(num_test, num_held_out - MIN_HELD_OUT)
    members = [position for _, position in ranked]
    parts["test"] += members[:num_test]
    parts["validation"] += members[num_test:num_held_out]
    parts["train"] += members[num_held_out:]


def _fraction(text: str, seed: int) -> float:
    """Map a text to a number from 0.0 up to 1.0, the same for all its near-duplicates."""
    keyed = blake2b(_digest(text), key=str(seed).encode(), digest_size=8).digest()
    return int.from_bytes(keyed) / 2**64


def _digest(text: str) -> bytes:
    """Hash what near-duplicates share."""
    return blake2b(normalise(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()
