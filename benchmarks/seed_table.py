"""The reference's additional experiments, row by row, over several seeds.

    python benchmarks/seed_table.py --data FOLDER [--base mini|gpt2|gpt2-medium|gpt2-large|gpt2-xl|random] [--rows 1,2,16]
                                    [--seeds 5] [--work FOLDER] [--weights FOLDER] [--json FILE]

Each row is a set of options of `spamd-admin retrain`, run by the same trainer on the SMS collection, drawn down and cut as the
reference does it (1045, 149 and 300 messages). The seed decides what is drawn and cut, the order, and new weights; published
figures are of one seed. Printed are the means with 95 % intervals (Student's t over seeds) beside what was published.

`--base mini` is the shipped trunk. It has seen part of this collection, test messages included, when it was made, so its
figures show what options do, not how good the model is. `--base gpt2` and larger need `spamd-admin model fetch`; `--weights` is
its folder. `--base random` is row 10: 124M weights that know nothing, all of them trained, with the shipped vocabulary. What is
done is kept in `--work`: a run that was stopped goes on where it was, in the middle of a training too.
"""

import argparse
import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import reference
import torch

from spamd.model.checkpoint import BaseNote, HeadNote, LoraNote
from spamd.model.classifier import Classifier
from spamd.model.gpt2 import PUBLISHED
from spamd.model.heads import spamd_register_heads
from spamd.training import freezing, starts
from spamd.training.parts import accuracy, tokenise
from spamd.training.splits import Example
from spamd.training.starts import Start
from spamd.training.trainer import Recipe, train

HEADS = spamd_register_heads()
POLICIES = freezing.spamd_register_freezing_policies()
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""97.5 % quantile of Student's t for so many seeds."""

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Row:
    """One experiment.

    Attributes:
        number: as published.
        name: what it changes.
        base: which published sizes it uses.
        published: accuracies in % of train, validation and test.
        options: what it asks for.
        same_as: number of the row that it repeats, whose trainings count for it too.
    """

    number: int
    name: str
    base: str
    published: tuple[float, float, float]
    options: Mapping[str, Any] = field(default_factory=dict)
    same_as: int = 0


LORA = {"policy": "lora", "learning_rate": 8e-4}
ROWS = (
    Row(1, "last position, last block", "gpt2", (96.63, 99.33, 95.00)),
    Row(2, "first token", "gpt2", (78.46, 80.54, 75.00), {"head": "first-token"}),
    Row(3, "head only", "gpt2", (78.65, 79.87, 72.00), {"policy": "head-only"}),
    Row(4, "last two blocks", "gpt2", (98.85, 98.66, 98.33), {"policy": "last-two-blocks"}),
    Row(5, "all layers", "gpt2", (99.62, 96.64, 96.67), {"policy": "none"}),
    Row(6, "355M", "gpt2-medium", (87.50, 91.28, 84.67)),
    Row(7, "774M", "gpt2-large", (99.52, 98.66, 96.67)),
    Row(8, "1558M", "gpt2-xl", (99.81, 99.81, 98.33)),
    Row(9, "1558M, all layers", "gpt2-xl", (100.0, 98.66, 98.67), {"policy": "none"}),
    Row(10, "random weights, all layers", "random", (100.0, 96.64, 93.67), {"policy": "none"}),
    Row(11, "LoRA, rank 16, times 16", "gpt2", (100.0, 97.32, 96.67), {**LORA, "rank": 16, "alpha": 256.0}),
    Row(12, "1558M, LoRA, rank 16, times 8", "gpt2-xl", (100.0, 98.66, 98.33), {**LORA, "rank": 16, "alpha": 128.0}),
    Row(13, "padded to all positions", "gpt2", (83.08, 87.92, 78.33), {"pad": "most"}),
    Row(14, "no padding, one at a time", "gpt2", (100.0, 98.66, 98.00), {"pad": 0, "batch_size": 1}),
    Row(15, "the same, 8 a step", "gpt2", (99.33, 98.66, 98.33), {"pad": 0, "batch_size": 1, "accumulate": 8}),
    Row(16, "last real token", "gpt2", (99.42, 98.66, 98.33), {"pad": 0}),
    Row(17, "no causal mask", "gpt2", (99.23, 98.66, 95.33), {"is_causal": False}),
    Row(18, "padding left out of the loss", "gpt2", (96.63, 99.33, 95.00), same_as=1),
    Row(19, "mean of all positions", "gpt2", (97.79, 99.33, 96.33), {"head": "mean-pool"}),
)
"""Row 18 is row 1 once more: there is one label a message and nothing to leave out, which the published figures show as well."""


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the file SMSSpamCollection")
    parser.add_argument("--base", choices=("mini", "random", *PUBLISHED), default="mini")
    parser.add_argument("--rows", default="", help="numbers, separated by commas; without it all that the base can run")
    parser.add_argument("--seeds", type=int, default=5, choices=range(1, 11), metavar="1..10")
    parser.add_argument("--seed", type=int, default=123, help="the first seed")
    parser.add_argument("--epochs", type=int, default=reference.EPOCHS)
    parser.add_argument("--learning-rate", type=float, default=0.0, help="instead of each row's own, which is made for 124M")
    parser.add_argument("--most", type=int, default=0, help="training messages, for a quick look; 0 takes all")
    parser.add_argument("--work", type=Path, default=Path("seed_table"), help="folder for what is done")
    parser.add_argument("--weights", type=Path, default=Path("/var/lib/spamd/weights"), help="folder of published weights")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves the choice to torch")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    wanted = [int(number) for number in options.rows.split(",") if number]
    rows = [row for row in ROWS if row.number in (wanted or [row.number]) and can_run(row, options.base)]
    found: dict[int, list[dict[str, float]]] = {row.number: [] for row in rows}
    # Seed by seed, so that a table of all rows is there early.
    for seed in range(options.seed, options.seed + options.seeds):
        examples = reference.parts_of(options.data, seed, options.most)
        for row in rows:
            found[row.number].append(run(row, examples, seed, options))
            print(f"seed {seed}, row {row.number}: test {100 * found[row.number][-1]['test']:.2f} %", flush=True)
    print(table(rows, found, options.base))
    if options.json:
        figures = {str(row.number): summary(row, found[row.number]) for row in rows}
        content = {"base": options.base, "seeds": options.seeds, "rows": figures}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def can_run(row: Row, base: str) -> bool:
    """Tell whether a row can be run on a base: on the shipped trunk all that do not ask for other sizes."""
    return row.base == base or (base == "mini" and row.base in {"gpt2", "random"})


def run(row: Row, examples: Sequence[Sequence[Example]], seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Train one row with one seed, unless that was done before; return accuracies and seconds."""
    place = options.work / f"{options.base}-row{row.same_as or row.number}-seed{seed}"
    done = place.with_suffix(".json")
    settings = {"epochs": options.epochs, "most": options.most, "learning_rate": options.learning_rate}
    if done.is_file() and (kept := json.loads(done.read_text(encoding="utf-8")))["settings"] == settings:
        accuracies: dict[str, float] = kept["figures"]
        return accuracies
    asked = {"policy": "last-block", "pad": "longest", "batch_size": reference.BATCH_SIZE, "accumulate": 1, **row.options}
    start = open_start(row, asked, seed, options)
    classifier, most = start.classifier.to(options.device), start.classifier.trunk.config.n_positions
    plain = start.tokenizer.padding_to(0)
    longest = max(len(plain.encode(example.text, most).ids) for example in examples[0])
    pad_to = {"longest": longest, "most": most}.get(asked["pad"], 0)
    parts = [tokenise(part, plain.padding_to(pad_to), pad_to or most) for part in examples]
    recipe = Recipe(
        asked["policy"],
        POLICIES[asked["policy"]],
        epochs=options.epochs,
        batch_size=asked["batch_size"],
        accumulate=asked["accumulate"],
        learning_rate=options.learning_rate or asked.get("learning_rate", reference.LEARNING_RATE),
        weight_decay=reference.WEIGHT_DECAY,
        seed=seed,
        schedule="constant",
        precision="auto",
        save_seconds=600.0,
    )
    training = train(classifier, parts[0], parts[1], recipe, folder=place, is_resumed=True)
    figures = {name: accuracy(classifier, part) for name, part in zip(PARTS, parts, strict=True)}
    figures["seconds"] = sum(epoch.seconds for epoch in training.epochs)
    done.parent.mkdir(parents=True, exist_ok=True)
    done.write_text(json.dumps({"settings": settings, "figures": figures}), encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    return figures


def open_start(row: Row, asked: Mapping[str, Any], seed: int, options: argparse.Namespace) -> Start:
    """Make what a row starts from, with a new head."""
    head = HeadNote(name=asked.get("head", "last-token"))
    if options.base in PUBLISHED:
        start = starts.start_from_published(options.base, HEADS, head, seed=seed, weights_dir=options.weights)
    else:
        trunk, tokenizer = reference.make_trunk(options.base, seed)
        if row.base == "random":
            start = starts.start_at_random(options.base, trunk.config, tokenizer, HEADS, head, seed=seed)
        else:
            torch.manual_seed(seed)
            classifier = Classifier(trunk, HEADS[head.name](trunk.config.n_embd, starts.NUM_CLASSES))
            start = Start(classifier, tokenizer, BaseNote(name="mini"), head, "mini", None, is_new_head=True)
    if not asked.get("is_causal", True):
        start = starts.without_causal_mask(start)
    if asked["policy"] == "lora":
        start = starts.with_adapters(start, LoraNote(rank=asked["rank"], alpha=asked["alpha"]), seed=seed)
    return start


def summary(row: Row, found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Compute means and 95 % intervals over seeds, in %."""
    figures: dict[str, Any] = {"name": row.name, "seconds": statistics.mean(one["seconds"] for one in found)}
    for part, published in zip(PARTS, row.published, strict=True):
        values = [100 * one[part] for one in found]
        # One seed says nothing about others; its interval is all there is.
        half = T_95[len(values)] * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 100.0
        mean = statistics.mean(values)
        figures[part] = {
            "value": mean,
            "low": max(mean - half, 0.0),
            "high": min(mean + half, 100.0),
            "published": published,
            "all": values,
        }
    return figures


def table(rows: Sequence[Row], found: Mapping[int, Sequence[Mapping[str, float]]], base: str) -> str:
    """Lay ours beside the published figures."""
    ours = "test %, ours with 95 % interval"
    lines = [f"row  {base:<30}{ours:<32}{'published':>9}{'validation %':>14}{'published':>11}{'s':>8}"]
    for row in rows:
        figures = summary(row, found[row.number])
        test, validation = figures["test"], figures["validation"]
        interval = f"{test['value']:6.2f}  [{test['low']:.2f}, {test['high']:.2f}]"
        lines.append(
            f"{row.number:>3}  {row.name:<30}{interval:<32}{test['published']:>9.2f}{validation['value']:>14.2f}"
            f"{validation['published']:>11.2f}{figures['seconds']:>8.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
