"""Compare sizes of the trunk that ships, by what they learn from the same training and what they cost.

    python benchmarks/sizes.py --data FOLDER --work FOLDER [--sizes 256x4,384x8,256x4x1024] [--tokens N] [--json FILE]

`--data` and `--work` are those of `default_checkpoint.py`. Each size (width x blocks x context, a head for every 64 of the
width; 256 tokens of context where none is named) gets the joint training of that recipe, with the same vocabulary, seed, lessons
and number of tokens, from token vectors on, and nothing after it: no fine-tuning and no table of n-grams, which would hide how
much the trunk itself knows. The context is the most that is read of a message: of every fourth one in training, of all in
judging. Printed are the loss of the next token on the beginnings of validation mail, the (1-ROCA) on test mail of all corpora
and on held-out written mail, what the weights take on disk, and the time of a message on one CPU thread, of the context too. It
goes on where it was stopped.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import corpora
import default_checkpoint
import model_card
import torch
from joint_training import JointRecipe, Message, train_jointly

from spamd.model.checkpoint import DEFAULT_FOLDER
from spamd.model.classifier import Classifier
from spamd.model.tokenizer import Tokenizer
from spamd.training import metrics
from spamd.training.next_token import next_token_loss
from spamd.training.parts import labels_of, margins_of_all
from spamd.training.splits import Example, Split

SIZES = "256x4,256x6,256x8,384x4,384x6,256x4x512,256x4x1024"
CONTEXT = default_checkpoint.JOINT_BUDGETS[-1]
"""Of a size that names none."""
NUM_TOKENS = 4_000_000
"""After 250,000 the smallest size had a (1-ROCA) of 29 %, which says nothing about sizes yet."""
HEAD_WIDTH = 64
MOST_TEST = 300
"""Messages of each corpus and label that are judged at the most."""
MOST_READ = 100
"""Validation messages of each corpus and label whose next tokens are asked for, at the most."""
READ_TOKENS = 128
"""So many of each; shorter messages are left out."""
ROWS_AT_ONCE = 16
TIMED_LENGTHS = (64, 256, 512)
TIMED_ROUNDS = 20


def main() -> None:
    """Train and judge each size, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the unpacked corpora")
    parser.add_argument("--work", type=Path, required=True, help="folder of texts, and of what is trained")
    parser.add_argument("--sizes", default=SIZES, help="width x blocks x context, several with commas")
    parser.add_argument("--tokens", type=int, default=NUM_TOKENS, help="length of each joint training")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the training; 0 leaves the choice to torch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    parts = corpora.read(options.data, options.work, default_checkpoint.SEED)
    tokenizer = Tokenizer.from_file(DEFAULT_FOLDER / "vocabulary.tiktoken")

    @functools.cache
    def lessons(context: int) -> Callable[[int], list[Message]]:
        """Keep the lessons, since all sizes of a context get the same."""
        budgets = (*default_checkpoint.JOINT_BUDGETS[:-1], context)
        return functools.cache(default_checkpoint.lessons(parts.train, tokenizer, budgets))

    recipe = JointRecipe(num_tokens=options.tokens, learning_rate=default_checkpoint.JOINT_RATE, seed=default_checkpoint.SEED)
    figures: dict[str, Any] = {}
    for size in options.sizes.split(","):
        width, blocks, context = parse(size)
        positions = max(context, default_checkpoint.CONFIG.n_positions)
        config = replace(
            default_checkpoint.CONFIG, n_embd=width, n_layer=blocks, n_head=width // HEAD_WIDTH, n_positions=positions
        )
        classifier = default_checkpoint.untrained(parts.train, tokenizer, config)
        train_jointly(classifier, lessons(context), recipe, options.work / f"size_{size}.safetensors")
        figures[size] = judge(classifier, tokenizer, parts, context)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    print(table(figures))


def parse(size: str) -> tuple[int, int, int]:
    """Read width, blocks and context, such as `256x4` or `256x4x1024`."""
    width, blocks, *context = map(int, size.split("x"))
    return width, blocks, context[0] if context else CONTEXT


def judge(classifier: Classifier, tokenizer: Tokenizer, parts: Split, context: int = CONTEXT) -> dict[str, Any]:
    """Measure what a trunk and its head know where they read so many tokens of a message, and what they cost.

    Returns:
        `next_token` in nats, `one_minus_roca_percent` by part, `parameters`, `mebibytes` at 16 bits, `milliseconds` by length.
    """
    classifier.max_tokens = context
    chosen = model_card.capped(parts.test, MOST_TEST)
    written = [one for one in chosen if one.dataset == "written_mail_held_out"]
    num = sum(parameter.numel() for parameter in classifier.parameters())
    return {
        "next_token": next_token(classifier, tokenizer, model_card.capped(parts.validation, MOST_READ)),
        "one_minus_roca_percent": {
            "all": roca(classifier, tokenizer, chosen),
            "written_mail_held_out": roca(classifier, tokenizer, written),
        },
        "parameters": num,
        "mebibytes": 2 * num / 2**20,
        "milliseconds": {str(length): milliseconds(classifier, length) for length in sorted({*TIMED_LENGTHS, context})},
    }


@torch.no_grad()
def next_token(classifier: Classifier, tokenizer: Tokenizer, examples: list[Example]) -> float:
    """The mean loss of the next token, in nats."""
    ids = [tokenizer.encode(one.text, READ_TOKENS + 1).ids for one in examples]
    rows = torch.tensor([row for row in ids if len(row) == READ_TOKENS + 1])
    losses = [next_token_loss(classifier.trunk, batch).item() for batch in rows.split(ROWS_AT_ONCE)]
    return sum(losses) / (len(rows) * READ_TOKENS)


def roca(classifier: Classifier, tokenizer: Tokenizer, examples: list[Example]) -> float:
    """The (1-ROCA) in per cent."""
    margins = margins_of_all(classifier, examples, tokenizer, long_mail="head-tail")
    return metrics.measure(labels_of(examples), margins, 0.0).roca.value


@torch.inference_mode()
def milliseconds(classifier: Classifier, length: int) -> float:
    """The time of a lone message of so many tokens on one thread: the least of several rounds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ids, lengths = torch.randint(1000, (1, length)), torch.tensor([length])
    classifier.max_tokens = length
    times = []
    for _ in range(TIMED_ROUNDS):
        begun = time.perf_counter()
        classifier(ids, lengths)
        times.append(time.perf_counter() - begun)
    torch.set_num_threads(threads)
    return 1000 * min(times)


def table(figures: dict[str, Any]) -> str:
    """Lay the figures out for people."""
    lines = [
        "| size | parameters | MiB | next token, nats | (1-ROCA) %, all | written, held out | ms at 64 | 256 | 512 | context |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for size, row in figures.items():
        found, times = row["one_minus_roca_percent"], row["milliseconds"]
        cells = [f"{row['parameters'] / 1e6:.1f} M", f"{row['mebibytes']:.1f}", f"{row['next_token']:.3f}"]
        cells += [f"{found['all']:.2f}", f"{found['written_mail_held_out']:.2f}"]
        cells += [f"{times[str(length)]:.1f}" for length in (*TIMED_LENGTHS, parse(size)[2])]
        lines.append(f"| {size} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
