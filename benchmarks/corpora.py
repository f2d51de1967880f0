"""The mail that the default checkpoint is made from: which corpora, in which parts, varied how.

Every message's text is taken once, by the function that serves scoring, and kept in a file. Of each corpus a fifth is held out
for the test and a tenth for calibration, by a hash of the text; of the written mail whole sittings are held out instead, and of
`phishing_pot` nothing is learned. Called by `default_checkpoint.py`, `peers.py` and `attacks.py`.
"""

import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import dressings
import variations
import written_mail

from spamd.interfaces import LabeledMessage
from spamd.mail.mailboxes import read_messages
from spamd.training import datasets, splits, tables
from spamd.training.splits import Example
from spamd.verdict import Label


@dataclass(frozen=True)
class Source:
    """One corpus.

    Attributes:
        name: its folder below `--data`, or below `--work` for the written mail.
        open: the dataset that reads it.
        file: file below its folder; empty for the folder itself.
        most: messages of each label that an epoch sees at the most; every epoch draws others.
        repeats: how often an epoch sees each.
        finish: messages of each label that fine-tuning is done on.
        is_held_out: whether it is used to judge with alone.
    """

    name: str
    open: Callable[[Path], Iterable[LabeledMessage]]
    file: str = ""
    most: int = 4000
    repeats: int = 1
    finish: int = 0
    is_held_out: bool = False


def only(label: Label) -> Callable[[Path], Iterator[LabeledMessage]]:
    """Read a folder that holds mail of one label."""

    def read(path: Path) -> Iterator[LabeledMessage]:
        for stored in read_messages(path):
            yield LabeledMessage(stored.raw, label, stored.origin)

    return read


SOURCES = (
    Source("spamassassin", datasets.folder, finish=1500),
    Source("csdmc2010", datasets.folder, finish=600),
    Source("sf_lists", datasets.folder, repeats=2, finish=900),
    Source("lists_ham", datasets.folder, most=1200, finish=400),
    Source("newsletters_ham", only(Label.HAM), repeats=5, finish=30),
    Source("ccert_zh_2005", datasets.folder, most=600, finish=150),
    Source("enron_spam", tables.csv, "enron_spam.csv", most=1500, finish=400),
    Source("ling_spam", tables.csv, "ling_spam_bare.csv", most=500, finish=120),
    Source("sms_uci", tables.sms_spam_collection, "SMSSpamCollection", most=500, finish=80),
    Source("sms_tr", tables.csv, "sms_tr.csv", most=300, finish=60),
    Source("sms_id", tables.csv, "sms_id.csv", most=200, finish=60),
    Source("written_mail", datasets.folder, repeats=3, finish=4000),
    Source("written_mail_held_out", datasets.folder, is_held_out=True),
    Source("phishing_pot", only(Label.SPAM), is_held_out=True),
)
QUOTED = 0.15
"""Share of the mail of fine-tuning that stands in a reply, as what that quotes."""
HELD_OUT = frozenset(source.name for source in SOURCES if source.is_held_out)


def read(data: Path, work: Path, seed: int) -> splits.Split:
    """Read the text of every message, without duplicates, in three parts.

    Args:
        data: folder of the unpacked corpora.
        work: keeps the texts of each corpus (`texts/NAME.jsonl`) and the written mail as files.
        seed: of the split.

    Returns:
        The parts. What is held out whole stands in the test part.
    """
    found = [example for source in SOURCES for example in _texts(source, data, work)]
    examples = splits.deduplicate(found).examples
    parts = splits.split([example for example in examples if example.dataset not in HELD_OUT], seed)
    # Whole sittings judge the written mail; nothing else of it need be held out.
    parts.train.extend(example for example in parts.test if example.dataset == "written_mail")
    parts.test[:] = [example for example in parts.test if example.dataset != "written_mail"]
    parts.test.extend(example for example in examples if example.dataset in HELD_OUT)
    for name, part in (("train", parts.train), ("validation", parts.validation), ("test", parts.test)):
        print(name, dict(sorted(Counter((e.dataset, e.label.value) for e in part).items())), flush=True)
    return parts


def epoch(train: Iterable[Example], seed: int, number: int) -> list[Example]:
    """Draw what one epoch of joint training sees: at most so many of each corpus and label, rare kinds repeated, each varied.

    Args:
        train: the training part.
        seed: of the draw.
        number: of the epoch; every number draws anew.

    Returns:
        Messages in a drawn order.
    """
    draw = random.Random(seed * 1000 + number)  # noqa: S311  a seeded draw, not a secret
    grouped = _by_kind(train)
    hams = _hams(grouped)
    chosen: list[Example] = []
    for source in SOURCES:
        for label in Label:
            found = grouped[source.name, label]
            chosen += draw.sample(found, min(len(found), source.most)) * source.repeats
    draw.shuffle(chosen)
    return [replace(example, text=variations.vary(example.text, draw, hams)) for example in chosen]


def finish(train: Iterable[Example], seed: int) -> list[Example]:
    """Draw what fine-tuning is done on: mail with its sender, some rewritten by spammers, some quoted, some in other dress."""
    draw = random.Random(seed)  # noqa: S311  a seeded draw, not a secret
    most = {source.name: source.finish for source in SOURCES}
    grouped = _by_kind(train)
    chosen: list[Example] = []
    for (name, _), found in sorted(grouped.items()):
        chosen += draw.sample(found, min(len(found), most[name]))
    chosen = variations.rewritten(chosen, _hams(grouped), draw)
    chosen = [replace(one, text=variations.quoted(one.text, draw)) if draw.random() < QUOTED else one for one in chosen]
    return dressings.some_dressed(chosen, draw)


def _hams(grouped: Mapping[tuple[str, Label], Iterable[Example]]) -> list[str]:
    """Collect the texts of ham."""
    return [example.text for (_, label), found in sorted(grouped.items()) if label is Label.HAM for example in found]


def _by_kind(examples: Iterable[Example]) -> dict[tuple[str, Label], list[Example]]:
    """Group messages by corpus and label."""
    grouped: dict[tuple[str, Label], list[Example]] = defaultdict(list)
    for example in examples:
        grouped[example.dataset, example.label].append(example)
    return grouped


def _texts(source: Source, data: Path, work: Path) -> list[Example]:
    """Read the texts of one corpus, from the file that keeps them where there is one."""
    file = work / "texts" / f"{source.name}.jsonl"
    if not file.exists():
        start = time.monotonic()
        folder = data / source.name
        if source.name.startswith("written_mail"):
            folder = work / source.name
            written_mail.write(folder, is_held_out=source.is_held_out)
        examples = map(_with_subject, splits.read_examples(source.open(folder / source.file), source.name))
        rows = [json.dumps(asdict(example)) for example in examples]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".partial").write_text("\n".join(rows), encoding="utf-8")
        file.with_suffix(".partial").rename(file)
        print(f"{source.name}: {len(rows)} messages in {time.monotonic() - start:.0f} s", flush=True)
    return [_example(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def _with_subject(example: Example) -> Example:
    """Give a table's text that begins with its subject the form of a message: an empty line follows the subject."""
    first, _, rest = example.text.partition("\n")
    return replace(example, text=f"{first}\n\n{rest}") if first.startswith("Subject: ") and rest[:1] != "\n" else example


def _example(row: dict[str, str]) -> Example:
    """Read one line of the text file back."""
    return Example(row["text"], Label(row["label"]), row["origin"], row["dataset"])
