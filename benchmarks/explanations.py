"""Measure whether explanations are true, and how long they take.

    python benchmarks/explanations.py [--checkpoint FOLDER] [--messages 200] [--json FILE]

For each message of the written mail's held-out sittings, the fifth of its passages that says most for its verdict is deleted, and
as many passages drawn at random, several times. A true explanation names passages whose loss moves the score further towards the
other verdict than that of random ones does; the mean of both, in points of the score, and the difference with its 95 % interval
are printed, and how often the explanation wins. The time is that of a text of 500 tokens, cut to what the model reads.
"""

import argparse
import json
import math
import random
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import written_mail

from spamd.hooks.manager import load_plugins
from spamd.inference.engine import Engine
from spamd.inference.explain import explain, without
from spamd.inference.scored import Scored
from spamd.mail.text import message_text
from spamd.model.checkpoint import DEFAULT_FOLDER

SEED = 123
SHARE = 0.2
MIN_PASSAGES = 5
"""Of fewer no fifth can be taken."""
NUM_DRAWS = 5
NUM_TIMED = 9
ROUNDS = 2000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_FOLDER, help="checkpoint to explain; the shipped one")
    parser.add_argument("--messages", type=int, default=200, help="how many messages, drawn")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes all that may be used")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    options = parser.parse_args()
    plugins = load_plugins(drop_in_folder=None, use_entry_points=False)
    engine = Engine.load(options.checkpoint, plugins.heads, device="cpu", threads=options.threads)
    texts = held_out_texts()
    random.Random(SEED).shuffle(texts)  # noqa: S311  a seeded draw, not a secret
    figures = {"checkpoint": engine.checkpoint} | faithfulness(engine, texts[: options.messages]) | speed(engine, texts)
    print(
        "{num_messages} messages: without the passages named the score moves {explained:.2f} points towards the other verdict, "
        "without random ones {at_random:.2f}; difference {difference:.2f} ({low:.2f} to {high:.2f}); the explanation wins in "
        "{wins:.0%}".format(**figures)
    )
    print("a text of 500 tokens takes {median_milliseconds:.0f} ms (at most {longest_milliseconds:.0f})".format(**figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def held_out_texts() -> list[str]:
    """Read the held-out sittings of the written mail as the model does."""
    return [
        message_text(written_mail.build(message)).text
        for sitting, _, message in written_mail.read_all()
        if written_mail.is_never_trained_on(sitting)
    ]


def faithfulness(engine: Engine, texts: list[str]) -> dict[str, Any]:
    """Delete what explanations name, and as much at random.

    Returns:
        Means in points, their difference with its interval, and the share of messages in which the explanation wins.
    """
    draw = random.Random(SEED)  # noqa: S311  a seeded draw, not a secret
    moved = [both for text in texts if (both := _moved(engine, text, draw))]
    named, drawn = np.array(moved).T
    differences = named - drawn
    generator = np.random.default_rng(SEED)
    means = [generator.choice(differences, len(differences)).mean() for _ in range(ROUNDS)]
    low, high = np.percentile(means, (2.5, 97.5))
    return {
        "num_messages": len(moved),
        "explained": float(named.mean()),
        "at_random": float(drawn.mean()),
        "difference": float(differences.mean()),
        "low": float(low),
        "high": float(high),
        "wins": float((differences > 0).mean()),
    }


def _moved(engine: Engine, text: str, draw: random.Random) -> tuple[float, float] | None:
    """Tell how far the score moves towards the other verdict without what is named, and in the mean without random passages."""
    found = explain(text, engine)
    read = [passage for passage in found.passages if passage.points is not None]
    if len(read) < MIN_PASSAGES:
        return None
    sign = 1.0 if found.scored.score >= found.scored.threshold else -1.0
    number = max(1, round(SHARE * len(read)))
    ranked = sorted(range(len(read)), key=lambda position: -sign * (read[position].points or 0.0))
    left_out = [set(ranked[:number]), *(set(draw.sample(range(len(read)), number)) for _ in range(NUM_DRAWS))]
    pieces = [passage.text for passage in read]
    whole, *others = map(_points, engine.score([without(pieces, set()), *(without(pieces, one) for one in left_out)]))
    named, *drawn = (sign * (whole - other) for other in others)
    return named, statistics.fmean(drawn)


def _points(scored: Scored) -> float:
    """Log-odds of a score."""
    return math.log(max(scored.score, 1e-12) / max(1.0 - scored.score, 1e-12))


def speed(engine: Engine, texts: list[str]) -> dict[str, float]:
    """Time the explanation of a text of 500 tokens."""
    text, longest = "", 0
    for one in texts:
        if longest >= 500:  # noqa: PLR2004
            break
        longest += engine.estimate_tokens(one)
        text += f"{one}\n"
    taken = []
    for _ in range(NUM_TIMED):
        start = time.perf_counter()
        explain(text, engine)
        taken.append(1000 * (time.perf_counter() - start))
    return {"median_milliseconds": statistics.median(taken), "longest_milliseconds": max(taken)}


if __name__ == "__main__":
    main()
