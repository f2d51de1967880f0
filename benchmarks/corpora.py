"""The mail that the default checkpoint is made from: which corpora, in which parts, varied how.

Every message's text is taken once, by the function that serves scoring, and kept in a file. Of each corpus a fifth is held out
for the test and a tenth for calibration, by a hash of the text; of the written mail whole sittings are held out instead, and of
`phishing_pot` nothing is learned. Called by `default_checkpoint.py`, `peers.py` and `attacks.py`.
"""

import json
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path

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
HELD_OUT = frozenset(source.name for source in SOURCES if source.is_held_out)

NO_SENDER = 0.35
"""Share of messages whose sender lines are left out, so that the body must be read too."""
WITH_STRANGER = 0.15
"""Share of messages to which a ham's words are added, before or behind: they are no excuse for spam."""
DISGUISED = 0.08
"""Share of messages, of both labels alike, whose letters are disguised or that are quoted."""
REAL_ENDS = (
    *("com", "com", "com", "com", "net", "org", "de", "fr", "es", "it", "nl", "pl", "ru", "cn", "jp", "in", "io", "xyz", "shop"),
    *("co.uk", "com.br", "info", "biz"),
)
"""What stands for the reserved ends of written hosts while training; whether a name is written does not give a class away."""

_RESERVED_END = re.compile(r"(?<=[a-z0-9])\.(?:example|test|invalid)\b", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]{3,}")
_FIGURES = str.maketrans("aeiostAEIOST", "431057431057")
_MOST_STRANGE_WORDS = 150
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+|(?<=[\u3002\uff01\uff1f])|\n+")
_MOST_SENTENCES = 8
_MOST_CHARACTERS_CROSSED = 4000


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
    hams = [example.text for (_, label), found in sorted(grouped.items()) if label is Label.HAM for example in found]
    chosen: list[Example] = []
    for source in SOURCES:
        for label in Label:
            found = grouped[source.name, label]
            chosen += draw.sample(found, min(len(found), source.most)) * source.repeats
    draw.shuffle(chosen)
    return [replace(example, text=vary(example.text, draw, hams)) for example in chosen]


def finish(train: Iterable[Example], seed: int) -> list[Example]:
    """Draw what fine-tuning is done on: mail as people get it, whole."""
    draw = random.Random(seed)  # noqa: S311  a seeded draw, not a secret
    most = {source.name: source.finish for source in SOURCES}
    chosen: list[Example] = []
    for (name, _), found in sorted(_by_kind(train).items()):
        chosen += draw.sample(found, min(len(found), most[name]))
    return [replace(example, text=real_ends(example.text, draw)) for example in chosen]


def vary(text: str, draw: random.Random, hams: list[str]) -> str:
    """Vary a text in ways that change no label: other hosts, no sender, a stranger's words, letters in disguise, a quotation."""
    text = real_ends(text, draw)
    if draw.random() < NO_SENDER:
        text = without_sender(text)
    if draw.random() < WITH_STRANGER:
        words = draw.choice(hams).partition("\n\n")[2].split()
        start = draw.randrange(max(len(words) - _MOST_STRANGE_WORDS, 1))
        text = _add(text, " ".join(words[start : start + int(10 * (_MOST_STRANGE_WORDS / 10) ** draw.random())]), draw)
    if draw.random() < DISGUISED:
        head, gap, body = text.partition("\n\n")
        text = head + gap + draw.choice((_figures_for_letters, _spaced_letters, _quoted, _in_one_case))(body, draw)
    return text


def cross(first: str, second: str, draw: random.Random) -> str:
    """Put a stretch of one text and a stretch of another together, under fields of either: nobody can know that by heart."""
    (head, body), (other_head, other_body) = (_head_and_body(text) for text in (first, second))
    fields = [draw.choice(lines) for lines in zip_longest(head.splitlines(), other_head.splitlines(), fillvalue="")]
    stretches = [_stretch(body, draw), _stretch(other_body, draw)]
    draw.shuffle(stretches)
    return "\n".join(filter(None, fields)) + "\n\n" + "\n".join(stretches[: draw.choice((1, 2, 2, 2))])


def _head_and_body(text: str) -> tuple[str, str]:
    """Part a text after its fields; a text without any is all body."""
    head, gap, body = text.partition("\n\n")
    return (head, body) if gap and head.startswith(("From: ", "Reply-To: ", "Subject: ")) else ("", text)


def _stretch(body: str, draw: random.Random) -> str:
    """Take some sentences that follow each other."""
    sentences = _SENTENCE_END.split(body[:_MOST_CHARACTERS_CROSSED])
    start = draw.randrange(len(sentences))
    return " ".join(sentences[start : start + draw.randint(1, _MOST_SENTENCES)])


def real_ends(text: str, draw: random.Random) -> str:
    """Give each written host an end as in life, the same one throughout the text."""
    end = draw.choice(REAL_ENDS)
    return _RESERVED_END.sub(f".{end}", text)


def without_sender(text: str) -> str:
    """Leave the lines about the sender out, unless nothing would be left."""
    lines = text.splitlines()
    kept = [line for line in lines[:3] if not line.startswith(("From: ", "Reply-To: "))]
    return "\n".join([*kept, *lines[3:]]).strip() or text


def _add(text: str, words: str, draw: random.Random) -> str:
    """Put words before the body or behind it."""
    if draw.random() < 0.5:  # noqa: PLR2004
        return f"{text}\n{words}"
    head, gap, body = text.partition("\n\n")
    return f"{head}{gap}{words}\n{body}" if gap else f"{words}\n{text}"


def _figures_for_letters(text: str, draw: random.Random) -> str:
    """Write figures for some letters in a share of the words."""
    share = draw.uniform(0.2, 1.0)
    return _WORD.sub(lambda word: word[0].translate(_FIGURES) if draw.random() < share else word[0], text)


def _spaced_letters(text: str, draw: random.Random) -> str:
    """Put spaces between the letters of a share of the words."""
    share = draw.uniform(0.1, 0.6)
    return _WORD.sub(lambda word: " ".join(word[0]) if draw.random() < share else word[0], text)


def _quoted(text: str, draw: random.Random) -> str:
    """Make a body a quotation in a reply."""
    above = draw.choice(("", "Hi,\n", "FYI\n", "See below.\n", "Thanks!\n"))
    lines = "\n".join(f"> {line}" for line in text.splitlines())
    return f"{above}On {draw.randint(1, 28)} May, someone wrote:\n{lines}"


def _in_one_case(text: str, draw: random.Random) -> str:
    """Write everything small, or large."""
    return text.lower() if draw.random() < 0.5 else text.upper()  # noqa: PLR2004


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
