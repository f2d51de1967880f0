"""From labelled messages to train, validation and test parts that share nothing.

Text is taken out of each message once, copies go, and the part of a message is decided by a seeded hash of its text: what
is held out once stays held out in every later training with the same seed, whatever is added. Other ways of parting stand in
`cuts`. Reads no files and knows no tokens. Called by `gathering`, `evaluation` and the recipe of the default checkpoint.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import pandas as pd

from spamd.errors import DatasetError, SpamdError, TrainingError
from spamd.interfaces import LabeledMessage
from spamd.mail.dates import arrival
from spamd.mail.likeness import digest
from spamd.mail.text import message_text
from spamd.training import near_copies
from spamd.verdict import Label

METHOD = "text-hash 70/10/20"
"""How parts are chosen, as checkpoints record it; with another seed or another method other mail is held out."""

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
MIN_HELD_OUT = 2
"""Messages of each label that validation and test get at least."""
MIN_PER_LABEL = 8
"""Messages of each label without which no training starts."""


@dataclass(frozen=True, slots=True)
class Example:
    """One message as the model will read it.

    Attributes:
        text: what `message_text` made of it.
        label: the truth.
        origin: where it came from.
        dataset: which dataset it belongs to, as the operator wrote it.
        is_html: whether its text was taken from a page.
        arrived: seconds since 1970, or None where that is not known.
    """

    text: str
    label: Label
    origin: str
    dataset: str
    is_html: bool = False
    arrived: float | None = None


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """Messages that differ from each other, and what was left out to get there.

    Attributes:
        examples: one of each kind, in the order they came.
        num_duplicates: copies left out, near copies included.
        num_conflicting: messages left out because their copies bear another label.
    """

    examples: list[Example]
    num_duplicates: int
    num_conflicting: int


class Split(NamedTuple):
    """The three parts. Nothing in one has a copy in another."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]


def read_examples(messages: Iterable[LabeledMessage | Example], dataset: str) -> Iterator[Example]:
    """Take the text out of each message, with the function that scoring uses.

    Args:
        messages: labelled messages; of some our own store keeps nothing but the text.
        dataset: which dataset they belong to.

    Yields:
        One example a message.

    Raises:
        DatasetError: a plugin's dataset failed, or yielded something else.
    """
    for message in _checked(messages, dataset):
        if isinstance(message, Example):
            yield replace(message, dataset=dataset)
            continue
        read = message_text(message.raw)
        yield Example(read.text, message.label, message.origin, dataset, read.is_html, arrival(message.raw))


def _checked(messages: Iterable[LabeledMessage | Example], dataset: str) -> Iterator[LabeledMessage | Example]:
    """Yield what a dataset yields; what a plugin does wrong is told as its own fault."""
    try:
        for message in messages:
            yield message if isinstance(message, Example) else _as_promised(message, dataset)
    except (SpamdError, OSError):
        raise
    except Exception as error:
        raise DatasetError(f"Dataset {dataset} failed: {type(error).__name__}: {error}.") from error


def _as_promised(message: LabeledMessage, dataset: str) -> LabeledMessage:
    """Return a message, with a label of ours."""
    if not isinstance(message, LabeledMessage) or not isinstance(message.raw, bytes):
        raise DatasetError(f"Dataset {dataset} yields {message!r:.80}; let it yield LabeledMessage, the message as bytes.")
    if message.label not in tuple(Label):
        raise DatasetError(f"Dataset {dataset} labels {message.origin} as {message.label!r}; labels are ham and spam.")
    return message if isinstance(message.label, Label) else replace(message, label=Label(message.label))


def deduplicate(examples: Iterable[Example], rank: Callable[[Example], float] | None = None) -> Deduplicated:
    """Keep the first of all messages with the same normalised text; keep none where their labels differ.

    With a rank, near copies go too. Those with another label stay: a page that a fraud imitates and the imitation are both worth
    learning from. Ranked by `fraction`, a message that is held out has no near copy in training, whichever came first.

    Args:
        examples: messages in any order.
        rank: of near copies the one that ranks highest stays, the first of equals; None removes no near copies.

    Returns:
        What is left, with counts.
    """
    kinds: dict[bytes, Example] = {}
    labels: dict[bytes, set[Label]] = {}
    counts: Counter[bytes] = Counter()
    signatures: list[near_copies.Signature] = []
    for example in examples:
        key = digest(example.text)
        counts[key] += 1
        labels.setdefault(key, set()).add(example.label)
        if key not in kinds:
            kinds[key] = example
            if rank:
                # Now, while the text is at hand: it may lie on disk.
                signatures.append(near_copies.signature(example.text))
    places = [place for place, key in enumerate(kinds) if len(labels[key]) == 1]
    kept = [example for key, example in kinds.items() if len(labels[key]) == 1]
    num_conflicting = sum(counts[key] for key, found in labels.items() if len(found) > 1)
    if rank and kept:
        kept = _without_near_copies(kept, np.stack(signatures)[places], rank)
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
        ranked = sorted((fraction(e.text, seed), i) for i, e in enumerate(examples) if e.label is label)
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


def fraction(text: str, seed: int) -> float:
    """Map a text to a number from 0.0 up to 1.0, the same for all its copies: below `TEST_SHARE` it is held out for the test."""
    return fraction_of(digest(text), seed)


def fraction_of(key: bytes, seed: int) -> float:
    """Map any key to a number from 0.0 up to 1.0."""
    return int.from_bytes(blake2b(key, key=str(seed).encode(), digest_size=8).digest()) / 2**64


def _without_near_copies(
    examples: Sequence[Example], signatures: np.ndarray[tuple[int, ...], np.dtype[np.uint32]], rank: Callable[[Example], float]
) -> list[Example]:
    """Keep the highest of each group of near copies with one label."""
    chosen: dict[tuple[Label, int], int] = {}
    for label in Label:
        members = np.array([place for place, example in enumerate(examples) if example.label is label], dtype=np.int64)
        groups = near_copies.group(signatures[members])
        sizes = Counter(groups.tolist())
        best: dict[int, float] = {}
        for place, group in zip(members.tolist(), groups.tolist(), strict=True):
            # Few have near copies; the others need not be ranked, which may read the disk.
            height = rank(examples[place]) if sizes[group] > 1 else 0.0
            if group not in best or height > best[group]:
                best[group] = height
                chosen[label, group] = place
    return [examples[place] for place in sorted(chosen.values())]
