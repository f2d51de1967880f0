"""The procedure of the reference, plainly: chapter 6 of "Build a Large Language Model (From Scratch)", in our own words.

    python benchmarks/reference.py --data FOLDER [--base random|mini] [--seed 123] [--epochs 5] [--most 0] [--json FILE]

`--data` holds the UCI file `SMSSpamCollection`. As there: the file is read with pandas' usual quoting, ham is drawn down to the
number of spam, all is shuffled and cut 70/10/20, every message is filled up with `<|endoftext|>` to the longest of the training
part and cut to it, batches of 8 in a drawn order without the last incomplete one, float32, the whole trunk at every step, the
last block, the final norm and a new two-class head trained by AdamW at a constant rate, the loss on the logits of the last
position, which is nearly always padding, and an evaluation of five batches of both parts every 50 steps. There are two
differences: the vocabulary is the shipped one, which needs no download, and attention is torch's fused one, which is faster.

`--read last-real` takes the last token that is text instead: row 16 of its additional experiments. What is compared with this in
speed and accuracy is `trainer.py`, and in all variants `seed_table.py`.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from spamd.mail.text import TEXT_VERSION
from spamd.model.checkpoint import DEFAULT_FOLDER, VOCABULARY, load_checkpoint
from spamd.model.gpt2 import GPT2, PUBLISHED
from spamd.model.heads import spamd_register_heads
from spamd.model.tokenizer import Tokenizer
from spamd.training.splits import Example
from spamd.verdict import Label

LEARNING_RATE = 5e-5
WEIGHT_DECAY = 0.1
BATCH_SIZE = 8
EPOCHS = 5
STEPS_BETWEEN_EVALUATIONS = 50
BATCHES_EVALUATED = 5

Read = Literal["last-position", "last-real"]


@dataclass(frozen=True)
class Padded:
    """One part of the messages, all of the same length.

    Attributes:
        ids: token ids, (N, T).
        lengths: tokens of text among them, (N,).
        labels: the truth, (N,): 0 for ham, 1 for spam.
    """

    ids: Tensor
    lengths: Tensor
    labels: Tensor

    def to(self, device: str) -> "Padded":
        """Copy it to a device."""
        return Padded(self.ids.to(device), self.lengths.to(device), self.labels.to(device))


@dataclass
class Curves:
    """What the reference prints and plots.

    Attributes:
        steps: steps after which it looked.
        train_loss: mean loss of five batches of the training part.
        validation_loss: of the validation part.
        train_accuracy: after each epoch, of five batches.
        validation_accuracy: likewise.
    """

    steps: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)


class Model(nn.Module):
    """Trunk and head; the head is applied to every position.

    Args:
        trunk: GPT-2.
        seed: of the head's weights.
    """

    def __init__(self, trunk: GPT2, seed: int) -> None:
        super().__init__()
        self.trunk = trunk
        torch.manual_seed(seed)
        self.head = nn.Linear(trunk.config.n_embd, 2)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, 2)."""
        return self.head(self.trunk(ids))


def read_messages(folder: Path) -> pd.DataFrame:
    """Read the collection as the reference does: 5,572 rows of its 5,574 messages, since quotation marks swallow two."""
    found = sorted(folder.rglob("SMSSpamCollection"))
    if not found:
        raise SystemExit(f"{folder} holds no file named SMSSpamCollection; unpack the UCI SMS Spam Collection there.")
    return pd.read_csv(found[0], sep="\t", header=None, names=["label", "text"], keep_default_na=False)


def balance(messages: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Draw as many ham as there are spam: 747 of each."""
    spam = messages[messages.label == "spam"]
    ham = messages[messages.label == "ham"].sample(len(spam), random_state=seed)
    return pd.concat([ham, spam])


def cut(messages: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Shuffle, and cut 70/10/20: 1045, 149 and 300 of 1494."""
    shuffled = messages.sample(frac=1, random_state=seed).reset_index(drop=True)
    train, validation = int(0.7 * len(shuffled)), int(0.1 * len(shuffled))
    return shuffled[:train], shuffled[train : train + validation], shuffled[train + validation :]


def parts_of(folder: Path, seed: int, most: int = 0) -> tuple[list[Example], ...]:
    """Read, balance and cut.

    Args:
        folder: holds the collection.
        seed: of both draws; 123 in the reference.
        most: messages of the training part, for a quick look; the others shrink alike. 0 for all.

    Returns:
        Training, validation and test messages.
    """
    parts = [
        [Example(row.text, Label(row.label), f"row {row.Index}", "sms") for row in part.itertuples()]
        for part in cut(balance(read_messages(folder), seed), seed)
    ]
    share = min(1.0, most / len(parts[0])) if most else 1.0
    return tuple(part[: max(8, round(share * len(part)))] for part in parts)


def fill_up(examples: Sequence[Example], tokenizer: Tokenizer, length: int | None = None) -> Padded:
    """Turn texts into ids, cut to a length and filled up to it; without a length, to the longest of them."""
    encoded = [tokenizer.encode(example.text, 1024).ids[:length] for example in examples]
    length = length or max(map(len, encoded))
    rows = [ids + [tokenizer.end_of_text] * (length - len(ids)) for ids in encoded]
    labels = [int(example.label is Label.SPAM) for example in examples]
    return Padded(torch.tensor(rows), torch.tensor([len(ids) for ids in encoded]), torch.tensor(labels))


def freeze(model: Model) -> None:
    """Let the last block, the final norm and the head train."""
    for parameter in model.parameters():
        parameter.requires_grad = False
    for module in (model.trunk.h[-1], model.trunk.ln_f, model.head):
        for parameter in module.parameters():
            parameter.requires_grad = True


def logits_of(model: Model, part: Padded, rows: Tensor, read: Read) -> Tensor:
    """Run the whole model for some rows: (B,) -> (B, 2)."""
    logits = model(part.ids[rows])  # (B, T, 2)
    return (
        logits[:, -1]
        if read == "last-position"
        else logits[torch.arange(len(rows), device=logits.device), part.lengths[rows] - 1]
    )


def batches(part: Padded, *, is_complete: bool = False, draw: torch.Generator | None = None) -> Iterator[Tensor]:
    """Yield row numbers of batches, drawn or in order, without an incomplete last one where asked."""
    order = torch.randperm(len(part.ids), generator=draw) if draw else torch.arange(len(part.ids))
    yield from (rows for rows in order.split(BATCH_SIZE) if len(rows) == BATCH_SIZE or not is_complete)


@torch.no_grad()
def evaluate(model: Model, part: Padded, read: Read, most: int | None = None) -> tuple[float, float]:
    """Compute mean loss and accuracy over batches in order, at most so many."""
    model.eval()
    losses, right, seen = [], 0, 0
    for rows, _ in zip(batches(part), range(most or len(part.ids)), strict=False):
        logits = logits_of(model, part, rows, read)
        losses.append(float(functional.cross_entropy(logits, part.labels[rows], reduction="sum")))
        right, seen = right + int((logits.argmax(-1) == part.labels[rows]).sum()), seen + len(rows)
    model.train()
    return sum(losses) / seen, right / seen


def train(
    model: Model, train_part: Padded, validation: Padded, *, epochs: int = EPOCHS, seed: int = 123, read: Read = "last-position"
) -> Curves:
    """Train as the reference does.

    Returns:
        What it prints on the way.
    """
    freeze(model)
    model.train()
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    curves, step = Curves(), -1
    for _ in range(epochs):
        for rows in batches(train_part, is_complete=True, draw=draw):
            optimizer.zero_grad()
            functional.cross_entropy(logits_of(model, train_part, rows, read), train_part.labels[rows]).backward()
            optimizer.step()
            step += 1
            if step % STEPS_BETWEEN_EVALUATIONS == 0:
                curves.steps.append(step)
                curves.train_loss.append(evaluate(model, train_part, read, BATCHES_EVALUATED)[0])
                curves.validation_loss.append(evaluate(model, validation, read, BATCHES_EVALUATED)[0])
        curves.train_accuracy.append(evaluate(model, train_part, read, BATCHES_EVALUATED)[1])
        curves.validation_accuracy.append(evaluate(model, validation, read, BATCHES_EVALUATED)[1])
    return curves


@torch.no_grad()
def classify(text: str, model: Model, tokenizer: Tokenizer, length: int) -> str:
    """Say of one text whether it is spam, as the reference does: cut, filled up, read at the last position."""
    ids = tokenizer.encode(text, 1024).ids[:length]
    filled = torch.tensor([ids + [tokenizer.end_of_text] * (length - len(ids))], device=model.head.weight.device)
    return "spam" if int(model.eval()(filled)[0, -1].argmax()) else "not spam"


def make_trunk(base: str, seed: int) -> tuple[GPT2, Tokenizer]:
    """Make the trunk: `random` has the sizes of the smallest published GPT-2, `mini` is the one that ships."""
    if base == "mini":
        checkpoint = load_checkpoint(DEFAULT_FOLDER, spamd_register_heads(), text_version=TEXT_VERSION)
        return checkpoint.classifier.trunk, checkpoint.tokenizer
    torch.manual_seed(seed)
    return GPT2(PUBLISHED["gpt2"]), Tokenizer.from_file(DEFAULT_FOLDER / VOCABULARY)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what this and `trainer.py` understand alike."""
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the file SMSSpamCollection")
    parser.add_argument(
        "--base", choices=("random", "mini"), default="random", help="random weights of 124M, or the shipped trunk"
    )
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--most", type=int, default=0, help="training messages, for a quick look; 0 takes all")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves the choice to torch")
    parser.add_argument("--json", type=Path, help="write all figures to this file")


def peak_rss_mib() -> float:
    """Tell the most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--read", choices=("last-position", "last-real"), default="last-position")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    trunk, tokenizer = make_trunk(options.base, options.seed)
    model = Model(trunk, options.seed).to(options.device)
    began = time.monotonic()
    examples = parts_of(options.data, options.seed, options.most)
    train_part = fill_up(examples[0], tokenizer).to(options.device)
    length = train_part.ids.shape[1]
    validation, test = (fill_up(part, tokenizer, length).to(options.device) for part in examples[1:])
    curves = train(model, train_part, validation, epochs=options.epochs, seed=options.seed, read=options.read)
    seconds = time.monotonic() - began
    named = (("train", train_part), ("validation", validation), ("test", test))
    judged = {name: evaluate(model, part, options.read) for name, part in named}
    figures = {
        "seconds": seconds,
        "messages": [len(part.ids) for _, part in named],
        "padded_tokens": length,
        "real_tokens": float(train_part.lengths.float().mean()),
        "peak_rss_mib": peak_rss_mib(),
        "curves": asdict(curves),
        **{f"{name}_loss": loss for name, (loss, _) in judged.items()},
        **{f"{name}_accuracy": accuracy for name, (_, accuracy) in judged.items()},
    }
    print(
        f"{seconds:.1f} s for {options.epochs} epochs of {len(train_part.ids)} messages, each {length} tokens long\n"
        + "".join(f"{name}: loss {loss:.4f}, accuracy {100 * accuracy:.2f} %\n" for name, (loss, accuracy) in judged.items())
        + f"peak memory {figures['peak_rss_mib']:,.0f} MiB"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
