"""From the datasets that the operator names to the three parts of their mail, with an account of what was left out.

Reads through datasets and splits through `splits`; knows no model. Texts may wait on disk, so that a dataset may be larger than
memory. Called by `cli.candidate`.

Security: texts on disk lie in a file without a name, readable by its owner alone and gone with the process.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from spamd.errors import DatasetError, SpamdError
from spamd.interfaces import DatasetFactory, MessageDataset
from spamd.training import cuts
from spamd.training.cuts import Cut
from spamd.training.datasets import parse_dataset_spec
from spamd.training.progress import Display
from spamd.training.splits import METHOD, Deduplicated, Example, Split, count, deduplicate, read_examples, undersample
from spamd.training.spool import Spool
from spamd.verdict import Label


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset that the operator named.

    Attributes:
        name: kind of the dataset.
        path: where it lies.
        messages: what it yields.
    """

    name: str
    path: Path
    messages: MessageDataset


@dataclass(frozen=True, slots=True)
class Mail:
    """All mail of a training, in three parts.

    Attributes:
        parts: train, validation and test.
        datasets: for the card: name, last part of the path, ham and spam as read.
        num_duplicates: copies left out.
        num_conflicting: messages left out because a copy bears the other label.
        method: how parts were chosen, for the card.
    """

    parts: Split
    datasets: tuple[dict[str, Any], ...]
    num_duplicates: int
    num_conflicting: int
    method: str = METHOD

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Messages by part and label."""
        found = {name: count(part) for name, part in self.parts._asdict().items()}
        return {name: {label.value: number for label, number in counts.items()} for name, counts in found.items()}


def open_source(spec: str, find: Callable[[str], DatasetFactory]) -> Source:
    """Open a dataset by what the operator typed.

    Args:
        spec: `NAME:PATH?key=value`.
        find: returns the dataset of a name, or raises where there is none.

    Raises:
        DatasetError: the path does not hold such a dataset, or an option is unknown.
    """
    name, path, options = parse_dataset_spec(spec)
    try:
        return Source(name, path, find(name)(path, **options))
    except (SpamdError, OSError):
        raise
    except Exception as error:
        # A plugin's factory: one that takes no such keyword, for one.
        raise DatasetError(f"Dataset {spec!r} cannot be opened: {type(error).__name__}: {error}.") from error


def printable(name: str) -> str:
    """Return the name of a file as a card can hold it, whatever its bytes are."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def gather(
    sources: Sequence[Source],
    *,
    seed: int,
    balance: bool,
    display: Display,
    cut: Cut = "text-hash",
    spool_dir: Path | None = None,
) -> Mail:
    """Read all datasets, remove duplicates, balance if asked to, and split.

    Args:
        sources: the datasets.
        seed: of the split and of the balancing.
        balance: whether to draw as many ham as there are spam, or the other way round.
        display: told of each message and of what was left out.
        cut: how to part; `shuffle` keeps duplicates.
        spool_dir: folder on whose disk texts wait; None keeps them in memory.

    Raises:
        DatasetError: mail cannot be read.
        TrainingError: there are too few messages.
        OSError: the disk is full.
    """
    counts: Counter[tuple[int, Label]] = Counter()
    read = _read(sources, counts, display)
    if spool_dir:
        spool = Spool(spool_dir)
        # Has all that an example has; its text comes from the disk.
        read = (cast("Example", spool.keep(example)) for example in read)
    found = (
        Deduplicated(list(read), 0, 0) if cut == "shuffle" else deduplicate(read, lambda example: cuts.height(example, cut, seed))
    )
    examples = undersample(found.examples, seed) if balance else found.examples
    datasets = tuple(
        {"name": source.name, "path": printable(source.path.resolve().name)}
        | {label.value: counts[number, label] for label in Label}
        for number, source in enumerate(sources)
    )
    parts, method = cuts.part(examples, cut, seed)
    mail = Mail(parts, datasets, found.num_duplicates, found.num_conflicting, method)
    _say(mail, len(found.examples) - len(examples), display)
    return mail


def _read(sources: Sequence[Source], counts: Counter[tuple[int, Label]], display: Display) -> Iterator[Example]:
    """Yield the messages of all datasets, and count them."""
    for number, source in enumerate(sources):
        display.begin(f"Reading {source.name}:{source.path}")
        for example in read_examples(source.messages, source.name):
            counts[number, example.label] += 1
            display.advance()
            yield example


def _say(mail: Mail, num_undrawn: int, display: Display) -> None:
    """Tell what there is and what was left out."""
    for source in mail.datasets:
        display.say(f"{source['name']}:{source['path']}: {source['ham']:,} ham, {source['spam']:,} spam")
    left_out = [
        (mail.num_duplicates, "copies of other messages"),
        (mail.num_conflicting, "messages that are labelled both ham and spam"),
        (num_undrawn, "messages to balance the labels"),
    ]
    if any(number for number, _ in left_out):
        display.say("Left out: " + ", ".join(f"{number:,} {what}" for number, what in left_out if number))
    for name, counts in mail.counts.items():
        display.say(f"{name.capitalize()}: {counts['ham']:,} ham, {counts['spam']:,} spam")
