"""What each way of reading long mail costs, and what it catches: `head-tail` and `windows` with the same checkpoint.

    python benchmarks/long_mail.py --dataset NAME:PATH [--dataset ...] [--checkpoint ID|FOLDER] [--most 600] [--json FILE]

Only messages that are longer than the model reads at once count, and none that the checkpoint was trained on. A hash of the text
puts each into one of two halves. Temperature and threshold (at most 1 % of ham lost) are found on one half, after pooling, and
tried on the other; then the halves change places. Printed: messages a second, (1-ROCA) %, and ham lost and spam caught with 95 %
intervals.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spamd.config import load_settings
from spamd.hooks.manager import load_plugins
from spamd.inference.devices import set_threads
from spamd.mail.text import TEXT_VERSION
from spamd.model.checkpoint import load_checkpoint
from spamd.model.int8 import for_scoring
from spamd.service.registry import Registry
from spamd.training import calibration, evaluation, metrics
from spamd.training.parts import labels_of, margins_of_all
from spamd.training.splits import Example, deduplicate, fraction, read_examples

MOST_HAM_LOST = 0.01
SEED = 123
"""What orders and halves are drawn from; other numbers than training draws from, which has parted the mail already."""


def judge(labels: metrics.Numbers, margins: metrics.Numbers, is_first: metrics.Numbers) -> dict[str, Any]:
    """Calibrate on each half and try on the other; returns figures over both."""
    verdicts = np.zeros(len(labels))
    scores = np.zeros(len(labels))
    for learned in (is_first, ~is_first):
        temperature = calibration.fit_temperature(labels[learned], margins[learned])
        known = calibration.probabilities(margins[learned], temperature)
        point = calibration.choose_threshold(labels[learned], known, MOST_HAM_LOST)
        scores[~learned] = calibration.probabilities(margins[~learned], temperature)
        verdicts[~learned] = scores[~learned] >= point.threshold
    figures = metrics.measure(labels, verdicts, 0.5, seed=SEED).as_json()
    return {
        "ham_lost": figures["hm"],
        "spam_missed": figures["sm"],
        "roca": metrics.measure(labels, scores, 0.5, seed=SEED).as_json()["roca"],
    }


def long_ones(found: list[Example], tokenizer: Any, max_tokens: int, most: int) -> list[Example]:
    """Keep messages that are longer than the model reads at once; of many, those that a hash chooses."""
    found.sort(key=lambda example: fraction(example.text, SEED + 1))
    kept: list[Example] = []
    for example in found:
        if len(kept) == most:
            break
        if tokenizer.encode(example.text, max_tokens).is_truncated:
            kept.append(example)
    return kept


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Measure the ways of reading long mail.")
    parser.add_argument("--dataset", action="append", required=True, help="labelled mail, as for spamd-admin retrain")
    parser.add_argument("--checkpoint", help="id or folder; without it, the one that serves")
    parser.add_argument("--most", type=int, default=600, help="messages that are judged at the most")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    from spamd.cli.sources import open_sources

    settings = load_settings(None)
    registry = Registry(settings.state_dir)
    plugins = load_plugins(drop_in_folder=settings.plugins_dir, disabled=settings.disabled_plugins)
    folder = registry.locate(arguments.checkpoint) if arguments.checkpoint else registry.current()
    loaded = load_checkpoint(folder, plugins.heads, text_version=TEXT_VERSION, weights_dir=settings.state_dir / "weights")
    card = loaded.card
    opened = dict(zip(arguments.dataset, open_sources(arguments.dataset, plugins, settings), strict=True))
    found = [example for spec, source in opened.items() for example in read_examples(source.messages, spec)]
    mail = deduplicate(found, lambda example: evaluation.height(SEED, example))
    names = {spec: evaluation.names_of(source.path) for spec, source in opened.items()}
    unseen, _ = evaluation.keep_unseen(mail.examples, [card], names)
    kept = long_ones(unseen, loaded.tokenizer, card.max_tokens, arguments.most)
    labels = labels_of(kept)
    print(f"{len(kept)} messages of more than {card.max_tokens} tokens: {int((labels == 0).sum())} ham, {int(labels.sum())} spam")
    is_first = np.array([fraction(example.text, SEED + 2) < 1 / 2 for example in kept])
    set_threads(0)
    classifier = for_scoring(loaded, torch.device("cpu"))
    figures: dict[str, Any] = {}
    for way in ("head-tail", "windows"):
        started = time.perf_counter()
        margins = margins_of_all(classifier, kept, loaded.tokenizer, long_mail=way)
        rate = len(kept) / (time.perf_counter() - started)
        row = figures[way] = {"messages_per_second": rate, **judge(labels, margins, is_first)}
        shown = ", ".join(
            f"{name} {row[name]['value']:.2f} % ({row[name]['low']:.2f} to {row[name]['high']:.2f})"
            for name in ("ham_lost", "spam_missed", "roca")
        )
        print(f"{way:10}{rate:8.1f} messages/s; {shown}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
