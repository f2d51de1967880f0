"""Learning from few labels: spamd adapted to 8, 32, 128 and 512 local messages, beside filters that count words in the same ones.

    python benchmarks/few_shot.py --dataset NAME:PATH [--checkpoint FOLDER] [--shots 8,32,128,512] [--draws 10] [--last-block]
                                  [--json FILE]

The dataset plays a site's own mail. Of it only what the checkpoint has not seen is used, by its card. Half of that, at most
1,000 messages of each label, judges throughout; from the other half each draw takes as many ham as spam to learn from. Printed
are means over draws with 95 % intervals (Student's t) of (1-ROCA) % and of spam caught at 0.5 % ham lost. `spamd, shipped` has
learned none of the messages, `spamd` is what `spamd-admin retrain --dataset feedback` makes, and `--last-block` also trains the
last block with the trainer's defaults, which takes longer.
"""

import argparse
import copy
import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import word_counters

from spamd.hooks.manager import load_plugins, lookup
from spamd.mail.text import TEXT_VERSION
from spamd.model.checkpoint import DEFAULT_FOLDER, Checkpoint, load_checkpoint
from spamd.training import adapting, evaluation, freezing
from spamd.training.gathering import open_source
from spamd.training.metrics import Numbers, by_label, caught_at, one_minus_roca
from spamd.training.parts import labels_of, margins, tokenise
from spamd.training.splits import Example, deduplicate, read_examples
from spamd.training.trainer import Recipe, train

CAUGHT_AT = 0.005
MOST_JUDGES = 1000
"""Messages of each label that judge at the most."""
FEWEST_JUDGES = 50
SEED = 123
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""97.5 % quantile of Student's t for so many draws; beyond, 2.262 is taken, a little too much."""

Scorer = Callable[[Sequence[int]], Numbers]
"""From positions of messages to learn from to scores of the judging ones."""


def main() -> None:
    """Draw, learn, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dataset", required=True, help="the local mail, NAME:PATH?OPTION=VALUE")
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_FOLDER, help="folder of the checkpoint; else the shipped one")
    parser.add_argument("--shots", default="8,32,128,512", help="numbers of messages to learn from")
    parser.add_argument("--draws", type=int, default=10, help="how often messages to learn from are drawn, at least 2")
    parser.add_argument("--last-block", action="store_true", help="also train the last block")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    plugins = load_plugins(drop_in_folder=None, use_entry_points=False)
    checkpoint = load_checkpoint(options.checkpoint, plugins.heads, text_version=TEXT_VERSION, weights_dir=None)
    source = open_source(options.dataset, lambda name: lookup(plugins.datasets, "dataset", name))
    examples = unseen(list(read_examples(source.messages, options.dataset)), checkpoint, evaluation.names_of(source.path))
    pool, judges = halves(examples)
    print(f"{options.dataset}, unseen by {checkpoint.card.id}: {describe(pool)} to draw from, {describe(judges)} to judge by")
    figures: dict[str, Any] = {"dataset": options.dataset, "checkpoint": checkpoint.card.id, "draws": options.draws, "shots": {}}
    filters = scorers(pool, judges, checkpoint, with_last_block=options.last_block)
    for shots in map(int, options.shots.split(",")):
        found = run(filters, pool, judges, shots, options.draws)
        figures["shots"][shots] = found
        print_row(shots, found)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def unseen(examples: list[Example], checkpoint: Checkpoint, names: frozenset[str]) -> list[Example]:
    """Leave out copies, and what the checkpoint was trained on."""
    seed = evaluation.rank_for([checkpoint.card], SEED)
    found = deduplicate(examples, lambda example: evaluation.height(seed, example)).examples
    kept, unclear = evaluation.keep_unseen(found, [checkpoint.card], {example.dataset: names for example in found})
    if unclear[checkpoint.card.id]:
        print(f"the card does not tell whether {checkpoint.card.id} has seen {unclear[checkpoint.card.id]:,} of these messages")
    return kept


def halves(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Part messages into those to draw from and those that judge."""
    draw = np.random.default_rng(SEED)
    labels = labels_of(examples)
    pool: list[Example] = []
    judges: list[Example] = []
    for label in (0, 1):
        members = draw.permutation(np.flatnonzero(labels == label)).tolist()
        num_judges = min(len(members) // 2, MOST_JUDGES)
        if num_judges < FEWEST_JUDGES:
            raise SystemExit(
                f"{len(members)} unseen messages of label {label} are too few; it takes {2 * FEWEST_JUDGES} of each."
            )
        judges += [examples[place] for place in members[:num_judges]]
        pool += [examples[place] for place in members[num_judges:]]
    return pool, judges


def scorers(
    pool: Sequence[Example], judges: Sequence[Example], checkpoint: Checkpoint, *, with_last_block: bool
) -> dict[str, Scorer]:
    """Name the filters, each as a function of what it learns from."""
    truth, budget = labels_of(pool), checkpoint.classifier.budget()
    judging = tokenise(judges, checkpoint.tokenizer, budget)
    shipped = margins(checkpoint.classifier, judging)

    def adapted(shots: Sequence[int]) -> Numbers:
        classifier = copy.deepcopy(checkpoint.classifier)
        part = tokenise([pool[place] for place in shots], checkpoint.tokenizer, budget)
        adapting.learn(classifier, part, temperature=checkpoint.card.temperature, seed=SEED)
        return margins(classifier, judging)

    def last_block(shots: Sequence[int]) -> Numbers:
        classifier = copy.deepcopy(checkpoint.classifier)
        part = tokenise([pool[place] for place in shots], checkpoint.tokenizer, budget)
        train(classifier, part, part, Recipe("last-block", freezing.last_block, seed=SEED))
        return margins(classifier, judging)

    def counting(make: Callable[[], word_counters.Peer]) -> Scorer:
        def learned(shots: Sequence[int]) -> Numbers:
            peer = make()
            peer.fit([pool[place].text for place in shots], truth[shots])
            return peer.scores([example.text for example in judges])

        return learned

    found: dict[str, Scorer] = {"spamd, shipped": lambda _: shipped, "spamd": adapted}
    if with_last_block:
        found["spamd, last block"] = last_block
    return found | {name: counting(make) for name, make in word_counters.peers().items() if name != "tfidf_svm"}


def run(filters: dict[str, Scorer], pool: Sequence[Example], judges: Sequence[Example], shots: int, draws: int) -> dict[str, Any]:
    """Judge each filter after learning from so many messages, draw by draw; nothing where there are not so many."""
    labels, truth = labels_of(pool), labels_of(judges)
    if min((labels == label).sum() for label in (0, 1)) < shots // 2:
        return {}
    measured: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number in range(draws):
        draw = np.random.default_rng([SEED, shots, number])
        chosen = np.concatenate(
            [draw.choice(np.flatnonzero(labels == label), shots // 2, replace=False) for label in (0, 1)]
        ).tolist()
        for name, scorer in filters.items():
            ham, spam = by_label(truth, scorer(chosen))
            measured[name]["roca"].append(one_minus_roca(ham, spam))
            measured[name]["caught_at_0.5"].append(caught_at(ham, spam, CAUGHT_AT))
    return {name: {figure: interval(values) for figure, values in one.items()} for name, one in measured.items()}


def interval(values: Sequence[float]) -> dict[str, float]:
    """Put a mean over draws into its 95 % interval."""
    mean = statistics.fmean(values)
    half = T_95.get(len(values), 2.262) * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return {"value": mean, "low": max(mean - half, 0.0), "high": min(mean + half, 100.0)}


def print_row(shots: int, found: dict[str, Any]) -> None:
    """Print what one number of messages came to."""
    if not found:
        print(f"{shots} messages: there are not so many to draw from")
        return
    print(f"{shots} messages to learn from: (1-ROCA) %, and % of spam caught at 0.5 % ham lost")
    for name, one in found.items():
        cells = ["{value:8.3f} [{low:.3f}, {high:.3f}]".format(**one[figure]) for figure in ("roca", "caught_at_0.5")]
        print(f"  {name:18} {cells[0]:28} {cells[1]}", flush=True)


def describe(examples: Sequence[Example]) -> str:
    """Count messages by label."""
    num_spam = int(labels_of(examples).sum())
    return f"{len(examples) - num_spam:,} ham and {num_spam:,} spam"


if __name__ == "__main__":
    main()
