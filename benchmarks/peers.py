"""Judge spamd beside the filters that count words, on the same texts and the same split.

    python benchmarks/peers.py --data FOLDER --work FOLDER [--checkpoint FOLDER] [--protocols a,d,e,w] [--json FILE]
    python benchmarks/peers.py --data FOLDER --work FOLDER --protocols b,c --train [--tokens N] [--json FILE]

`--data` and `--work` are those of `default_checkpoint.py`. The protocols:

a  spamassassin, 70/10/20 without duplicates: what `spamd-admin retrain` makes of the checkpoint with its training part, beside
   peers that learn from that part alone; and the checkpoint as it is, beside peers that learn from all that it learned from
b  sf_lists by time: learned up to 2021, tested on 2022
c  one corpus left out of all training and tested on: spamassassin, csdmc2010, sf_lists, enron_spam in turn
d  phishing_pot: spam of 2022 to 2024, no corpus that anything learns from
e  slices of all test mail: by language, by plain or HTML, commercial ham
w  the held-out sittings of the written mail

d, e and w ask the checkpoint that ships (or `--checkpoint`), which has learned nothing of what they test on. b and c need
checkpoints that have not seen the corpus; `--train` makes them by the same recipe, shorter, below `--work`, and goes on where it
was stopped. To save time they share one trunk, which has seen none of the four corpora; table, weighing and threshold are learned
from all but the one that is left out, as the peers are. Every filter is judged at a threshold of its own as well, chosen by the
same rule.
"""

import argparse
import copy
import json
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import corpora
import default_checkpoint
import mail_slices
import model_card
import numpy as np
import variations
import word_counters

from spamd.config.sections import TrainingSettings
from spamd.hooks.manager import load_plugins
from spamd.inference.devices import choose_device
from spamd.inference.engine import Engine
from spamd.model.checkpoint import DEFAULT_FOLDER, HeadNote
from spamd.model.classifier import Classifier
from spamd.model.gpt2 import GPT2
from spamd.model.heads import LastToken
from spamd.model.tokenizer import Tokenizer
from spamd.training import freezing, metrics
from spamd.training.calibration import choose_threshold
from spamd.training.gathering import Mail
from spamd.training.metrics import Numbers
from spamd.training.parts import labels_of
from spamd.training.progress import Lines
from spamd.training.recipe import Recipe
from spamd.training.retraining import Plan, choose_max_tokens, retrain
from spamd.training.splits import Example, Split
from spamd.training.starts import start_from_checkpoint
from spamd.verdict import Label

SEED = default_checkpoint.SEED
LEFT_OUT = ("spamassassin", "csdmc2010", "sf_lists", "enron_spam")
LAST_YEAR = 2021
MOST_TEST = 3000
"""Messages of each label of a corpus that is left out that are tested on at the most."""
SCORED_AT_ONCE = 512
TRAIN_TOKENS = 16_000_000


@dataclass(frozen=True)
class Filter:
    """A filter that has learned.

    Attributes:
        scores: gives texts scores from 0 to 1.
        threshold: its own.
    """

    scores: Callable[[Sequence[str]], Numbers]
    threshold: float


def main() -> None:
    """Run the protocols and print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the unpacked corpora")
    parser.add_argument("--work", type=Path, required=True, help="folder of texts, and of the checkpoints that --train makes")
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_FOLDER, help="asked in a, d, e and w; the shipped one")
    parser.add_argument("--protocols", default="a,d,e,w", help="which, by their letters")
    parser.add_argument("--corpora", default=",".join(LEFT_OUT), help="which corpora c leaves out")
    parser.add_argument("--train", action="store_true", help="make the checkpoints of b and c that are not there yet")
    parser.add_argument("--tokens", type=int, default=TRAIN_TOKENS, help="length of their joint training")
    parser.add_argument("--device", default="cpu", help="where --train computes: cpu or cuda")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    options = parser.parse_args()
    parts = corpora.read(options.data, options.work, SEED)
    wanted = options.protocols.split(",")
    figures: dict[str, Any] = {}
    for name, run in (("b", by_time), ("c", left_out)):
        if name in wanted:
            figures[name] = run(parts, options)
            _save(figures, options.json)
    if set(wanted) & set("adew"):
        everything = filters(parts, [checkpoint_filter(options.checkpoint)])
        for name, found in shipped(parts, everything, wanted, options):
            figures[name] = found
            _save(figures, options.json)


def _save(figures: dict[str, Any], file: Path | None) -> None:
    """Write what is known so far."""
    if file:
        file.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def shipped(
    parts: Split, everything: dict[str, Filter], wanted: Sequence[str], options: argparse.Namespace
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Run the protocols that the shipped checkpoint is honest for; yields name and figures of each."""
    if "a" in wanted:
        own = Split(*([one for one in part if one.dataset == "spamassassin"] for part in parts))
        with_all = {"spamd_as_it_is" if name == "spamd" else f"{name}_same_data": one for name, one in everything.items()}
        yield "a", table("a: spamassassin", own.test, filters(own, [retrained_filter(own, options)]) | with_all)
    if "d" in wanted:
        yield "d", table("d: phishing_pot", of(parts.test, "phishing_pot"), everything)
    if "w" in wanted:
        yield "w", table("w: written mail, held-out sittings", of(parts.test, "written_mail_held_out"), everything)
    if "e" in wanted:
        chosen = drawn(parts.test, MOST_TEST // 5)
        slices = mail_slices.slices(chosen, options.data / "MANIFEST.tsv")
        scored = {name: one.scores([example.text for example in chosen]) for name, one in everything.items()}
        found = {}
        for name, positions in slices.items():
            members = [chosen[position] for position in positions]
            known = {key: _known(scored[key][positions], one.threshold) for key, one in everything.items()}
            found[name] = table(f"e: {name}", members, known)
        yield "e", found


def _known(scores: Numbers, threshold: float) -> Filter:
    """Make a filter of scores that it gave already."""
    return Filter(lambda _: scores, threshold)


def by_time(parts: Split, options: argparse.Namespace) -> dict[str, Any]:
    """Protocol b: sf_lists up to 2021 and after."""
    years = mail_slices.years(options.data / "MANIFEST.tsv")

    def is_late(example: Example) -> bool:
        return example.dataset == "sf_lists" and years[mail_slices.path_below(example.origin, "sf_lists")] > LAST_YEAR

    late = [example for part in parts for example in part if is_late(example)]
    early = Split(*([example for example in part if not is_late(example)] for part in parts))
    own = Split(*([one for one in part if one.dataset == "sf_lists"] for part in early))
    everything = filters(early, unseen_filter("sf_lists_2022", early._replace(test=late), options))
    with_all = {name if name == "spamd" else f"{name}_same_data": one for name, one in everything.items()}
    return table("b: sf_lists, learned to 2021, tested on 2022", late, with_all | filters(own))


def left_out(parts: Split, options: argparse.Namespace) -> dict[str, Any]:
    """Protocol c: each corpus as mail that nothing like was learned from."""
    found: dict[str, Any] = {}
    for corpus in options.corpora.split(","):
        test = drawn((example for part in parts for example in part if example.dataset == corpus), MOST_TEST)
        others = Split(*([example for example in part if example.dataset != corpus] for part in parts))
        everything = filters(others, unseen_filter(corpus, others._replace(test=test), options))
        found[corpus] = table(f"c: {corpus} left out", test, everything)
    return found


def of(examples: Iterable[Example], corpus: str) -> list[Example]:
    """Choose the messages of one corpus."""
    return [example for example in examples if example.dataset == corpus]


def drawn(examples: Iterable[Example], most: int) -> list[Example]:
    """Draw at most so many of each corpus and label; the first ones alone would all be of one folder."""
    shuffled = list(examples)
    random.Random(SEED).shuffle(shuffled)  # noqa: S311  a seeded draw, not a secret
    return model_card.capped(shuffled, most)


def checkpoint_filter(folder: Path) -> Filter:
    """Load a checkpoint as the daemon does."""
    heads = load_plugins(drop_in_folder=None, use_entry_points=False).heads
    engine = Engine.load(folder, heads, device="cpu")

    def scores(texts: Sequence[str]) -> Numbers:
        chunks = [texts[start : start + SCORED_AT_ONCE] for start in range(0, len(texts), SCORED_AT_ONCE)]
        return np.array([scored.score for chunk in chunks for scored in engine.score(chunk)])

    return Filter(scores, engine.threshold)


def retrained_filter(parts: Split, options: argparse.Namespace) -> Filter:
    """Train on a corpus as `spamd-admin retrain` does where nothing else is said, from the checkpoint on; below `--work`."""
    folder = options.work / "retrained"
    heads = load_plugins(drop_in_folder=None, use_entry_points=False).heads
    start = start_from_checkpoint(options.checkpoint, heads, HeadNote(), seed=SEED)
    recipe = Recipe("last-block", freezing.last_block, seed=SEED, precision="auto")
    outcome = retrain(
        start,
        Mail(parts, (), 0, 0),
        Plan(recipe, choose_max_tokens(None, None, start), TrainingSettings().max_ham_lost),
        current=None,
        checkpoints_dir=folder / "checkpoints",
        weights_dir=folder,
        device=choose_device(options.device),
        display=Lines(sys.stdout),
    )
    if outcome is None:
        raise RuntimeError("another process stores what is trained here; run one alone")
    return checkpoint_filter(outcome.folder)


def unseen_filter(name: str, parts: Split, options: argparse.Namespace) -> list[Filter]:
    """Find the checkpoint that has not seen a corpus, or make it.

    Returns:
        It alone, or nothing where it is not there and is not to be made.
    """
    work = options.work / f"without_{name}"
    folders = sorted((work / "checkpoints").glob("*/checkpoint.json"))
    if not folders and not options.train:
        print(f"no checkpoint in {work}/checkpoints; --train makes it")
        return []
    if folders:
        return [checkpoint_filter(folders[-1].parent)]
    settings = copy.copy(options)
    settings.work, settings.epochs, settings.start = work, default_checkpoint.EPOCHS, None
    settings.max_ham_lost = default_checkpoint.MAX_HAM_LOST
    work.mkdir(parents=True, exist_ok=True)
    tokenizer, classifier = unseen_trunk(parts, settings)
    # The table has seen three of the corpora in question, the trunk none: they are compared where they are equals.
    equal = [example for example in parts.validation if example.dataset not in LEFT_OUT]
    default_checkpoint.join_evidence(classifier, default_checkpoint.table(parts.train, tokenizer), tokenizer, equal)
    return [checkpoint_filter(default_checkpoint.judgement(parts, classifier, tokenizer, settings))]


def unseen_trunk(parts: Split, options: argparse.Namespace) -> tuple[Tokenizer, Classifier]:
    """Find or make vocabulary, trunk and head of all checkpoints of b and c; they have seen none of the corpora in question."""
    settings = copy.copy(options)
    settings.work = options.work.parent / "without_any"
    settings.work.mkdir(parents=True, exist_ok=True)
    others = Split(*([example for example in part if example.dataset not in LEFT_OUT] for part in parts))
    tokenizer = default_checkpoint.vocabulary(others.train, settings.work, settings.start)
    config = default_checkpoint.CONFIG
    classifier = Classifier(GPT2(config), LastToken(config.n_embd, 2))
    if not (settings.work / "tuned.safetensors").exists():
        classifier = default_checkpoint.joint(others.train, tokenizer, settings)
    default_checkpoint.tuning(others, classifier, default_checkpoint.count(others.train, tokenizer), settings)
    return tokenizer, classifier


def filters(parts: Split, spamd: Sequence[Filter] = ()) -> dict[str, Filter]:
    """Let the peers learn from the training part, and choose their thresholds on the validation part.

    Args:
        parts: of what they learn at most as much as an epoch of spamd's training draws.
        spamd: stands beside them where there is one.
    """
    most = {source.name: source.most for source in corpora.SOURCES}
    grouped: dict[tuple[str, Label], list[Example]] = defaultdict(list)
    for example in parts.train:
        grouped[example.dataset, example.label].append(example)
    draw = random.Random(SEED)  # noqa: S311  a seeded draw, not a secret
    chosen = [one for (name, _), found in sorted(grouped.items()) for one in draw.sample(found, min(len(found), most[name]))]
    # Whether a host is a written one gives no class away, for them as for spamd.
    chosen = [replace(one, text=variations.real_ends(one.text, draw)) for one in chosen]
    judges = drawn(parts.validation, model_card.MOST_VALIDATION)
    found: dict[str, Filter] = dict.fromkeys(["spamd"], spamd[0]) if spamd else {}
    for name, make in word_counters.peers().items():
        peer = make()
        peer.fit([example.text for example in chosen], labels_of(chosen))
        scores = peer.scores([example.text for example in judges])
        found[name] = Filter(peer.scores, own_threshold(judges, scores))
        print(f"{name} learned from {len(chosen):,} messages", flush=True)
    return found


def own_threshold(judges: Sequence[Example], scores: Numbers) -> float:
    """Choose a threshold by the rule of the shipped checkpoint: so much ham of all, and so much written ham, may be lost."""
    labels = labels_of(judges)
    threshold = choose_threshold(labels, scores, default_checkpoint.MAX_HAM_LOST).threshold
    written = [place for place, example in enumerate(judges) if example.dataset == "written_mail"]
    if not written:
        return threshold
    return max(threshold, choose_threshold(labels[written], scores[written], model_card.MOST_WRITTEN_HAM_LOST).threshold)


def table(title: str, test: Sequence[Example], asked: dict[str, Filter]) -> dict[str, Any]:
    """Judge filters on the same messages and print a table.

    Returns:
        Figures by filter.
    """
    labels = labels_of(test)
    texts = [example.text for example in test]
    found = {name: judge(labels, one.scores(texts), one.threshold) for name, one in asked.items()}
    columns = ("ham_lost_percent", "spam_caught_percent", "one_minus_roca_percent", "caught_at_0.1", "caught_at_0.5")
    print(f"\n{title}: {int((labels == 0).sum()):,} ham, {int((labels == 1).sum()):,} spam")
    print("| filter | ham lost % | spam caught % | (1-ROCA) % | caught at 0.1 % | at 0.5 % |\n|---|---|---|---|---|---|")
    for name, figures in found.items():
        print(f"| {name} | " + " | ".join(_cell(figures, column) for column in columns) + " |", flush=True)
    return found


def judge(labels: Numbers, scores: Numbers, threshold: float) -> dict[str, Any]:
    """Judge one filter; where a label is absent there are fewer figures.

    Returns:
        Each figure in per cent, and `NAME_interval` with its 95 % interval.
    """
    ham, spam = scores[labels == 0], scores[labels == 1]
    measured = {}
    if len(ham):
        measured["ham_lost_percent"] = metrics.wilson(int((ham >= threshold).sum()), len(ham))
    if len(spam):
        measured["spam_caught_percent"] = metrics.wilson(int((spam >= threshold).sum()), len(spam))
    if len(ham) and len(spam):
        figures = metrics.measure(labels, scores, threshold)
        measured |= {"one_minus_roca_percent": figures.roca}
        measured |= {f"caught_at_{100 * rate:g}": one for rate, one in figures.caught.items()}
    found: dict[str, Any] = {"num_ham": len(ham), "num_spam": len(spam), "threshold": threshold}
    for name, one in measured.items():
        values = asdict(one)
        found |= {name: values["value"], f"{name}_interval": [values["low"], values["high"]]}
    return found


def _cell(figures: dict[str, Any], column: str) -> str:
    """Word one figure."""
    if column not in figures:
        return ""
    low, high = figures[f"{column}_interval"]
    return f"{figures[column]:.3g} ({low:.3g} to {high:.3g})"


if __name__ == "__main__":
    main()
