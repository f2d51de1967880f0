"""Rewrite mail as spammers do who read our code, and see what the filter says then.

    python benchmarks/attacks.py --data FOLDER --work FOLDER [--checkpoint FOLDER] [--messages 300] [--json FILE]

Takes raw messages that no stage of training has seen (`--data` and `--work` are those of `default_checkpoint.py`): of each corpus
that keeps whole messages, and of the held-out sittings of the written mail, as many of each label. Each message is rewritten as
mail, as a sender would do it, and read out and scored as the daemon does. Printed is, by attack: how much spam the shipped
threshold catches before and after, with 95 % intervals, and how much ham it takes for spam before and after.

An attack keeps what a reader sees, or nearly so; how each works stands with it in `disguises.py`.
"""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import corpora
import default_checkpoint
import disguises
import numpy as np

from spamd.hooks.manager import load_plugins
from spamd.inference.engine import Engine
from spamd.mail.mailboxes import read_messages
from spamd.mail.text import message_text
from spamd.model.checkpoint import DEFAULT_FOLDER
from spamd.training import metrics
from spamd.training.metrics import Numbers
from spamd.training.splits import Example
from spamd.verdict import Label

SEED = default_checkpoint.SEED
CORPORA = ("spamassassin", "csdmc2010", "sf_lists", "written_mail_held_out", "phishing_pot", "lists_ham", "newsletters_ham")
"""Those that keep whole messages in a language whose letters can be disguised."""
SCORED_AT_ONCE = 256
NUM_BORROWED = 4
"""Ham whose words an attack may borrow."""


@dataclass(frozen=True)
class Judged:
    """What one attack does to one label.

    Attributes:
        before: share taken for spam as it was, %.
        after: share taken for spam once rewritten, %.
        num_turned: messages whose verdict changed to ham.
        num_condemned: messages whose verdict changed to spam.
    """

    before: metrics.Measure
    after: metrics.Measure
    num_turned: int
    num_condemned: int


def main() -> None:
    """Rewrite, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the unpacked corpora")
    parser.add_argument("--work", type=Path, required=True, help="folder of the texts")
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_FOLDER, help="what is attacked; the shipped one")
    parser.add_argument("--messages", type=int, default=300, help="messages of each label, drawn evenly from the corpora")
    parser.add_argument("--attacks", default=",".join(disguises.ATTACKS), help="which; all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    options = parser.parse_args()
    test = corpora.read(options.data, options.work, SEED).test
    heads = load_plugins(drop_in_folder=None, use_entry_points=False).heads
    engine = Engine.load(options.checkpoint, heads, device="cpu")
    mail = {label: [read_raw(one) for one in draw(test, label, options.messages)] for label in Label}
    before = {label: is_spam(engine, raws) for label, raws in mail.items()}
    figures: dict[str, Any] = {"checkpoint": engine.checkpoint, "threshold": engine.threshold, "attacks": {}}
    print(f"{len(mail[Label.SPAM])} spam, {len(mail[Label.HAM])} ham; threshold {engine.threshold:.4f}")
    print("| attack | spam caught before % | after % | falls by | ham lost before % | after % | rises by |")
    print("|---|---|---|---|---|---|---|")
    for name in options.attacks.split(","):
        found = {label: attack(engine, name, raws, mail[Label.HAM], before[label]) for label, raws in mail.items()}
        figures["attacks"][name] = _figures(found)
        print(_row(name, found), flush=True)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def draw(test: Sequence[Example], label: Label, number: int) -> list[Example]:
    """Draw messages of a label, from each corpus as many; where one has fewer, the others give more."""
    chance = random.Random(SEED)  # noqa: S311  a seeded draw, not a secret
    pools = [[one for one in test if one.dataset == corpus and one.label is label and read_raw(one)] for corpus in CORPORA]
    for pool in pools:
        chance.shuffle(pool)
    chosen: list[Example] = []
    while len(chosen) < number and any(pools):
        chosen += [pool.pop() for pool in pools if pool]
    return chosen[:number]


def read_raw(example: Example) -> bytes:
    """Read a message as it is stored; empty where it is not there any more."""
    file = Path(example.origin)
    return next((stored.raw for stored in read_messages(file)), b"") if file.is_file() else b""


def is_spam(engine: Engine, raws: Sequence[bytes]) -> Numbers:
    """Say which messages are taken for spam at the shipped threshold, (N,) of yes and no."""
    texts = [message_text(raw).text for raw in raws]
    chunks = [texts[start : start + SCORED_AT_ONCE] for start in range(0, len(texts), SCORED_AT_ONCE)]
    return np.array([scored.score >= scored.threshold for chunk in chunks for scored in engine.score(chunk)])


def attack(engine: Engine, name: str, raws: Sequence[bytes], hams: Sequence[bytes], before: Numbers) -> Judged:
    """Rewrite messages and ask again; what is borrowed from ham comes from other ham than the message itself."""
    rewritten = []
    for number, raw in enumerate(raws):
        chance = random.Random(f"{SEED} {name} {number}")  # noqa: S311  a seeded draw, not a secret
        others = [ham for ham in chance.sample(list(hams), min(NUM_BORROWED + 1, len(hams))) if ham is not raw]
        borrowed = " ".join(message_text(ham).text.partition("\n\n")[2] for ham in others[:NUM_BORROWED])
        try:
            rewritten.append(disguises.ATTACKS[name](raw, borrowed, chance))
        except (ValueError, LookupError, TypeError, AttributeError):
            # The standard library cannot write every message that it has read.
            rewritten.append(raw)
    after = is_spam(engine, rewritten)
    return Judged(
        before=metrics.wilson(int(before.sum()), len(before)),
        after=metrics.wilson(int(after.sum()), len(after)),
        num_turned=int((before & ~after).sum()),
        num_condemned=int((~before & after).sum()),
    )


def _figures(found: dict[Label, Judged]) -> dict[str, Any]:
    """Write the figures of one attack for the file."""
    spam, ham = found[Label.SPAM], found[Label.HAM]
    return {
        "recall_before_percent": asdict(spam.before),
        "recall_percent": asdict(spam.after),
        "recall_falls_by": spam.before.value - spam.after.value,
        "ham_lost_before_percent": asdict(ham.before),
        "ham_lost_percent": asdict(ham.after),
        "ham_lost_rises_by": ham.after.value - ham.before.value,
        "spam_turned": spam.num_turned,
        "ham_condemned": ham.num_condemned,
    }


def _row(name: str, found: dict[Label, Judged]) -> str:
    """Word one line of the table."""
    spam, ham = found[Label.SPAM], found[Label.HAM]
    cells = [_cell(spam.before), _cell(spam.after), f"{spam.before.value - spam.after.value:+.1f}"]
    cells += [_cell(ham.before), _cell(ham.after), f"{ham.after.value - ham.before.value:+.1f}"]
    return f"| {name} | {' | '.join(cells)} |"


def _cell(measured: metrics.Measure) -> str:
    """Word one figure."""
    return f"{measured.value:.1f} ({measured.low:.1f} to {measured.high:.1f})"


if __name__ == "__main__":
    main()
