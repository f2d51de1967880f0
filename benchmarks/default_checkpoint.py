"""Make the checkpoint that ships: vocabulary, pretraining, fine-tuning, calibration, model card.

    python benchmarks/default_checkpoint.py --data FOLDER --work FOLDER [--minutes 60] [--device cpu] [--install]

`--data` holds the unpacked corpora, one folder each (`SOURCES` below says which are used and how); `--work` keeps what each stage
made, so that a run that was stopped goes on where it was. Stages: `texts` (what `message_text` makes of every message, without
duplicates, split 70/10/20 by hash), `vocabulary`, `pretraining` (next token, on the training part alone), `tuning` (two classes,
all layers, then the product's own calibration and judgement) and, with `--install`, the copy into `spamd/model/default/`.

Nothing of the validation and test parts is trained on, in any stage. Same seed and same machine, same checkpoint, but for the
time that `--minutes` gives to pretraining.
"""

import argparse
import json
import random
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import model_card
import numpy as np
import torch
import written_mail

from spamd.interfaces import LabeledMessage
from spamd.mail.mailboxes import read_messages
from spamd.model.checkpoint import DEFAULT_FOLDER
from spamd.model.classifier import Classifier
from spamd.model.gpt2 import GPT2, GPT2Config
from spamd.model.heads import LastToken
from spamd.model.tokenizer import Tokenizer, train_vocabulary
from spamd.training import datasets, freezing, splits, tables
from spamd.training.parts import tokenise
from spamd.training.pretraining import Progress, pack, pretrain
from spamd.training.progress import Lines
from spamd.training.splits import Example
from spamd.training.trainer import Recipe, train
from spamd.verdict import Label

SEED = 123
BATCH_SIZE = 32
VOCABULARY_SIZE = 10_240
CONFIG = GPT2Config(vocab_size=VOCABULARY_SIZE, n_positions=512, n_embd=256, n_layer=4, n_head=4)
MAX_TOKENS = 256
"""Fine-tuning, judging and serving read this much of each message, head and tail; pretraining reads windows of 512."""


@dataclass(frozen=True)
class Source:
    """One corpus.

    Attributes:
        name: its folder below `--data`, or below `--work` for the written mail.
        open: the dataset that reads it.
        file: file below its folder; empty for the folder itself.
        most: messages of each label that are fine-tuned on at the most; pretraining reads all.
        repeats: how often each is seen in an epoch of fine-tuning.
        finish: messages of each label that the second, shorter fine-tuning is done on: mail as people get it, header and all.
        is_held_out: whether it is used to judge with alone.
    """

    name: str
    open: Callable[[Path], Iterable[LabeledMessage]]
    file: str = ""
    most: int = 3000
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
    Source("spamassassin", datasets.folder, finish=4000),
    Source("csdmc2010", datasets.folder, finish=1000),
    Source("sf_lists", datasets.folder, finish=750),
    Source("lists_ham", datasets.folder, most=1500, finish=300),
    Source("newsletters_ham", only(Label.HAM), repeats=4, finish=30),
    Source("ccert_zh_2005", datasets.folder, most=700),
    Source("enron_spam", tables.csv, "enron_spam.csv", most=2000),
    Source("ling_spam", tables.csv, "ling_spam_bare.csv", most=600),
    Source("sms_uci", tables.sms_spam_collection, "SMSSpamCollection", most=500),
    Source("sms_tr", tables.csv, "sms_tr.csv", most=400),
    Source("sms_id", tables.csv, "sms_id.csv", most=300),
    Source("written_mail", datasets.folder, repeats=3, finish=1000),
    Source("written_mail_held_out", datasets.folder, is_held_out=True),
    Source("phishing_pot", only(Label.SPAM), is_held_out=True),
)
HELD_OUT = frozenset(source.name for source in SOURCES if source.is_held_out)
NO_SENDER = 0.25
"""Share of fine-tuning messages whose sender lines are left out, so that the body must be read too."""


def main() -> None:
    """Run the stages that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the unpacked corpora")
    parser.add_argument("--work", type=Path, required=True, help="folder for what the stages make")
    parser.add_argument("--minutes", type=float, default=60.0, help="time for pretraining")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves the choice to torch")
    parser.add_argument(
        "--until", choices=("texts", "vocabulary", "pretraining", "tuning"), default="tuning", help="last stage to run"
    )
    parser.add_argument("--epochs", type=int, default=2, help="passes over the mail of each fine-tuning")
    parser.add_argument("--max-ham-lost", type=float, default=0.005, help="share of validation ham that the threshold may lose")
    parser.add_argument("--bfloat16", action="store_true", help="fine-tune in bfloat16, on hardware that multiplies it natively")
    parser.add_argument("--install", action="store_true", help="make the outcome the checkpoint that ships")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    parts = texts(options.data, options.work)
    if options.until == "texts":
        return
    tokenizer = vocabulary(parts.train, options.work)
    if options.until == "vocabulary":
        return
    trunk = pretraining(parts, tokenizer, options.work, options.minutes, options.device)
    if options.until == "pretraining":
        return
    folder = tuning(parts, trunk, tokenizer, options)
    print((folder / "README.md").read_text(encoding="utf-8"))
    if options.install:
        shutil.rmtree(DEFAULT_FOLDER, ignore_errors=True)
        shutil.copytree(folder, DEFAULT_FOLDER)


def texts(data: Path, work: Path) -> splits.Split:
    """Stage 1: the text of every message, without duplicates, in three parts."""
    file = work / "texts.jsonl"
    if not file.exists():
        for name, wanted in (("written_mail", False), ("written_mail_held_out", True)):
            written_mail.write(work / name, is_held_out=wanted)
        examples = splits.deduplicate(_read_sources(data, work)).examples
        rows = (json.dumps(asdict(example)) for example in examples)
        file.with_suffix(".partial").write_text("\n".join(rows), encoding="utf-8")
        file.with_suffix(".partial").rename(file)
    examples = [_example(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    parts = splits.split([example for example in examples if example.dataset not in HELD_OUT], SEED)
    parts.test.extend(example for example in examples if example.dataset in HELD_OUT)
    for name, part in (("train", parts.train), ("validation", parts.validation), ("test", parts.test)):
        print(name, dict(sorted(Counter((e.dataset, e.label.value) for e in part).items())))
    return parts


def _read_sources(data: Path, work: Path) -> Iterator[Example]:
    """Read every corpus, telling how long it took."""
    for source in SOURCES:
        start, num = time.monotonic(), 0
        folder = (work if source.name.startswith("written_mail") else data) / source.name
        for example in splits.read_examples(source.open(folder / source.file), source.name):
            num += 1
            yield _with_subject(example)
        print(f"{source.name}: {num} messages in {time.monotonic() - start:.0f} s", flush=True)


def _with_subject(example: Example) -> Example:
    """Give a table's text that begins with its subject the form of a message: an empty line follows the subject."""
    first, _, rest = example.text.partition("\n")
    return replace(example, text=f"{first}\n\n{rest}") if first.startswith("Subject: ") and rest[:1] != "\n" else example


def _example(row: dict[str, str]) -> Example:
    """Read one line of the text file back."""
    return Example(row["text"], Label(row["label"]), row["origin"], row["dataset"])


def vocabulary(train: Iterable[Example], work: Path) -> Tokenizer:
    """Stage 2: a byte-level vocabulary, trained on as much of each corpus so that none rules it."""
    file = work / "vocabulary.tiktoken"
    if not file.exists():
        by_corpus: dict[str, list[str]] = defaultdict(list)
        for example in train:
            by_corpus[example.dataset].append(example.text[:4000])
        draw = random.Random(SEED)  # noqa: S311  a seeded draw, not a secret
        chosen = [text for found in by_corpus.values() for text in draw.sample(found, min(len(found), 3000))]
        train_vocabulary(chosen, VOCABULARY_SIZE - 1, file)
    return Tokenizer.from_file(file)


def pretraining(parts: splits.Split, tokenizer: Tokenizer, work: Path, minutes: float, device: str) -> GPT2:
    """Stage 3: next-token training of the trunk on the training part."""
    torch.manual_seed(SEED)
    trunk = GPT2(CONFIG)
    stream = _stream(parts.train, tokenizer, work / "stream.npy")
    heldout = _stream(parts.validation, tokenizer, work / "heldout.npy")
    print(f"pretraining: {len(stream):,} tokens, {sum(p.numel() for p in trunk.parameters()):,} parameters", flush=True)
    pretrain(
        trunk,
        stream,
        seconds=minutes * 60,
        heldout=heldout,
        batch_tokens=8192,
        learning_rate=2e-3,
        seed=SEED,
        device=device,
        folder=work / "pretraining",
        report=_tell,
        evaluate_every=250,
    )
    return trunk.to("cpu")


def _stream(examples: list[Example], tokenizer: Tokenizer, file: Path) -> np.ndarray:
    """Encode documents in a drawn order, cut at four windows each, and keep the stream."""
    if not file.exists():
        shuffled = random.Random(SEED).sample(examples, len(examples))  # noqa: S311  a seeded draw, not a secret
        documents = (tokenizer.encode(example.text, 4 * CONFIG.n_positions).ids for example in shuffled)
        np.save(file, pack(documents, tokenizer.end_of_text))
    return np.load(file, mmap_mode="r")


def tuning(parts: splits.Split, trunk: GPT2, tokenizer: Tokenizer, options: argparse.Namespace) -> Path:
    """Stage 4: fine-tuning of all layers, calibration, threshold, judgement and card.

    Returns:
        The checkpoint's folder.
    """
    torch.manual_seed(SEED)
    classifier = Classifier(trunk, LastToken(CONFIG.n_embd, 2)).to(options.device)
    for chosen, rate in ((_chosen(parts.train), 6e-4), (_finish(parts.train), 3e-4)):
        _train(classifier, tokenizer, chosen, parts.validation, rate=rate, options=options)
    # What ships has half the digits: calibrate and judge what ships.
    classifier.to("cpu").half().float()
    return model_card.write(
        classifier,
        tokenizer,
        parts,
        work=options.work,
        max_tokens=MAX_TOKENS,
        max_ham_lost=options.max_ham_lost,
        settings={
            "seed": SEED,
            "split": splits.METHOD,
            "pretraining_minutes": options.minutes,
            "freeze": "none",
            "epochs": options.epochs,
            "batch_size": BATCH_SIZE,
        },
    )


def _train(
    classifier: Classifier,
    tokenizer: Tokenizer,
    chosen: list[Example],
    validation: list[Example],
    *,
    rate: float,
    options: argparse.Namespace,
) -> None:
    """Fine-tune all layers with the product's own trainer; the best epoch by validation mail of the same corpora is kept."""
    corpora = {example.dataset for example in chosen}
    judges = model_card.capped((example for example in validation if example.dataset in corpora), model_card.MOST_VALIDATION)
    recipe = Recipe(
        "none", freezing.none, epochs=options.epochs, batch_size=BATCH_SIZE, learning_rate=rate, seed=SEED, cache_bytes=0
    )
    print(f"tuning: {len(chosen):,} messages an epoch", flush=True)
    kind = torch.device(options.device).type
    # Without the cache: it would hold on to the weights of the first step.
    with torch.autocast(kind, torch.bfloat16, enabled=options.bfloat16, cache_enabled=False):
        train(
            classifier,
            tokenise(chosen, tokenizer, MAX_TOKENS),
            tokenise(judges, tokenizer, MAX_TOKENS),
            recipe,
            Lines(sys.stdout),
        )


def _finish(train: Iterable[Example]) -> list[Example]:
    """Draw what the second fine-tuning is done on."""
    draw = random.Random(SEED)  # noqa: S311  a seeded draw, not a secret
    most = {source.name: source.finish for source in SOURCES}
    shuffled = sorted(train, key=lambda example: (example.dataset, example.label, draw.random()))
    seen: Counter[tuple[str, Label]] = Counter()
    chosen = []
    for example in shuffled:
        seen[example.dataset, example.label] += 1
        if seen[example.dataset, example.label] <= most[example.dataset]:
            chosen.append(example)
    return chosen


def _chosen(train: Iterable[Example]) -> list[Example]:
    """Draw what is fine-tuned on: at most so many of each corpus and label, rare kinds repeated, some without their sender."""
    draw = random.Random(SEED)  # noqa: S311  a seeded draw, not a secret
    grouped: dict[tuple[str, Label], list[Example]] = defaultdict(list)
    for example in train:
        grouped[example.dataset, example.label].append(example)
    chosen: list[Example] = []
    for source in SOURCES:
        for label in Label:
            found = grouped[source.name, label]
            chosen += draw.sample(found, min(len(found), source.most)) * source.repeats
    return [_without_sender(example) if draw.random() < NO_SENDER else example for example in chosen]


def _without_sender(example: Example) -> Example:
    """Leave the lines about the sender out, unless nothing would be left."""
    lines = example.text.splitlines()
    kept = "\n".join(line for line in lines[:3] if not line.startswith(("From: ", "Reply-To: "))) + "\n" + "\n".join(lines[3:])
    return replace(example, text=kept.strip() or example.text)


def _tell(progress: Progress) -> None:
    """Print a line of progress."""
    heldout = f" held out {progress.heldout_loss:.3f}" if progress.heldout_loss is not None else ""
    print(
        f"pretraining {progress.fraction:.1%} step {progress.step} loss {progress.loss:.3f}{heldout} "
        f"{progress.tokens_per_second:,.0f} tokens/s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
