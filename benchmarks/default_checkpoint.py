"""Make the checkpoint that ships: vocabulary, joint training, fine-tuning, calibration, model card.

    python benchmarks/default_checkpoint.py --data FOLDER --work FOLDER [--start FOLDER] [--device cpu] [--install]

`--data` holds the unpacked corpora, one folder each (`corpora.py` says which are used and how); `--work` keeps what each stage
made, so that a run that was stopped goes on where it was. Stages: `texts` (what `message_text` makes of every message, without
duplicates, split by hash), `vocabulary`, `joint` (next token and label at every prefix, from token vectors or, with `--start`,
from a checkpoint on; half of each label is what `teachers.py` thinks, and half of the texts are crossed from two messages,
where that is the whole label), `tuning` (the product's own trainer on mail as people get it, some of it as spammers rewrite
theirs, beside what tables of n-grams say that have not seen it; then part of the way back, with `--start` to that), `evidence`
(the table of all mail and of stretches of it, and how much it and the head count), `judgement` (calibration, threshold,
figures, model card) and, with `--install`, the copy into `spamd/model/default/`.

Nothing of the validation and test parts is trained on, in any stage. Same seed, same machine, same checkpoint.
"""

import argparse
import functools
import random
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import corpora
import dressings
import evidence
import model_card
import teachers
import torch
import variations
from joint_training import JointRecipe, Message, train_jointly
from loose_tokens import LooseTokens
from safetensors.torch import load_file, save_file
from token_vectors import token_vectors

from spamd.model.card import NGramsNote
from spamd.model.checkpoint import DEFAULT_FOLDER
from spamd.model.classifier import Classifier
from spamd.model.gpt2 import GPT2, INITIAL_DEVIATION, GPT2Config
from spamd.model.heads import LastToken
from spamd.model.ngrams import NGrams
from spamd.model.tokenizer import Tokenizer, train_vocabulary
from spamd.training import freezing, splits
from spamd.training.parts import labels_of, tokenise
from spamd.training.progress import Lines
from spamd.training.splits import Example
from spamd.training.trainer import Recipe, train
from spamd.verdict import Label

SEED = 123
VOCABULARY_SIZE = 16_384
CONFIG = GPT2Config(vocab_size=VOCABULARY_SIZE, n_positions=512, n_embd=256, n_layer=4, n_head=4)
VECTOR_TOKENS = 256
"""Token vectors are made from this much of each message, head and tail."""
MAX_TOKENS = 64
"""The trunk reads this much, head and tail, where it is fine-tuned, judges and serves: beside the table of n-grams more of it
adds nothing but time."""
COUNTED_TOKENS = 1024
"""The table of n-grams reads this much."""
NUM_BUCKETS = 2**22
"""Numbers in the table, of two bytes each. With half as many the (1-ROCA) on unseen mail was larger, by corpus by 1 to 45 %."""
STRETCH_TOKENS, OPENING_TOKENS = 128, 32
"""Of a longer message the table believes its opening and a stretch instead, where they say more for spam than the whole."""
DOUBT, DOUBLING = 0.25, 0.08
"""How much less it believes the stretch, and a longer message, before head and table are weighed (`NGramsNote`). Less of both
finds more spam that hides behind ham, and loses more ham of a corpus that nothing was learned from."""
JOINT_BUDGETS = (96, 128, 128, 256)
"""Joint training reads one of these of each message, drawn: most of the time is spent on its beginning and end."""
JOINT_TOKENS = 12_000_000
JOINT_RATE = 1e-3
TAUGHT = 0.5
"""So much of a label in joint training is what linear models think that have not seen the message; the rest is the truth."""
MOST_ASKED_ABOUT = 2500
"""Messages of each corpus and label that those models learn from and are asked about, at the most."""
MOST_COUNTED = 5000
"""Messages of each public corpus and label whose n-grams are counted, at the most."""
QUOTED = 0.3
"""Share of them that is counted once more as what a reply quotes: neither quoting nor being answered is an excuse for spam."""
EXCERPTS = 0.6
"""Share of what is counted that is counted once more in part, where the table that ships learns: it reads long messages in parts
too, and every part of a good one has to pass for ham."""
EXCERPTS_SEED = 77
"""Of the draw of these parts; the other draws are the same with and without them."""
MERGES_LEFT_OUT = 0.1
"""Share of byte-pair merges that joint training leaves out in every other message."""
TUNING_RATE = 2e-4
MAX_HAM_LOST = 1 / 450
"""Share of validation ham that the threshold may lose; for `peers.py` the same. Chosen so that about as much of the test
parts' ham is lost as by the checkpoint of before, with those in view."""
BATCH_SIZE = 32
EPOCHS = 5
"""Draws of the mail of fine-tuning, each read once; of the written mail a third is drawn at a time."""
KEPT = 0.4
"""Share of the way of fine-tuning that is kept. More of it knows more of the written mail, and less of corpora that nothing was
learned from."""
VOCABULARY_SHARES = {"written_mail": 3.0, "sf_lists": 1.0, "ccert_zh_2005": 0.3, "lists_ham": 0.3, "enron_spam": 0.2}
"""How much of each corpus the vocabulary is made from; of the others half."""


def main() -> None:
    """Run the stages that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the unpacked corpora")
    parser.add_argument("--work", type=Path, required=True, help="folder for what the stages make")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves the choice to torch")
    parser.add_argument("--until", choices=("texts", "vocabulary", "joint", "tuning"), default="tuning", help="last stage to run")
    parser.add_argument("--start", type=Path, help="checkpoint folder to go on from, vocabulary and weights; else from nothing")
    parser.add_argument("--tokens", type=int, default=JOINT_TOKENS, help="length of joint training; 0 leaves it out")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="how often the mail of fine-tuning is drawn and read")
    parser.add_argument(
        "--max-ham-lost", type=float, default=MAX_HAM_LOST, help="share of validation ham that the threshold may lose"
    )
    parser.add_argument("--install", action="store_true", help="make the outcome the checkpoint that ships")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    parts = corpora.read(options.data, options.work, SEED)
    if options.until == "texts":
        return
    tokenizer = vocabulary(parts.train, options.work, options.start)
    if options.until == "vocabulary":
        return
    classifier = joint(parts.train, tokenizer, options)
    if options.until == "joint":
        return
    tuning(parts, classifier, count(parts.train, tokenizer), options)
    join_evidence(classifier, table(parts.train, tokenizer), tokenizer, parts.validation)
    folder = judgement(parts, classifier, tokenizer, options)
    print((folder / "README.md").read_text(encoding="utf-8"))
    if options.install:
        shutil.rmtree(DEFAULT_FOLDER, ignore_errors=True)
        shutil.copytree(folder, DEFAULT_FOLDER)


def vocabulary(train_part: Iterable[Example], work: Path, start: Path | None) -> Tokenizer:
    """Stage 2: a byte-level vocabulary, trained on so much of each corpus that none rules it; or that of the start."""
    if start:
        return Tokenizer.from_file(start / "vocabulary.tiktoken")
    file = work / "vocabulary.tiktoken"
    if not file.exists():
        by_corpus: dict[str, list[str]] = defaultdict(list)
        for example in train_part:
            by_corpus[example.dataset].append(example.text[:4000])
        draw = random.Random(SEED)  # noqa: S311  a seeded draw, not a secret
        chosen: list[str] = []
        for corpus, found in by_corpus.items():
            share = VOCABULARY_SHARES.get(corpus, 0.5)
            chosen += found * int(share) + draw.sample(found, int(len(found) * (share % 1.0)))
        train_vocabulary(chosen, VOCABULARY_SIZE - 1, file)
    return Tokenizer.from_file(file)


def joint(train_part: list[Example], tokenizer: Tokenizer, options: argparse.Namespace) -> Classifier:
    """Stage 3: joint training of trunk and head, from token vectors on."""
    if options.start:
        classifier = Classifier(GPT2(CONFIG), LastToken(CONFIG.n_embd, 2))
        classifier.load_state_dict(_started(options.start))
    else:
        classifier = untrained(train_part, tokenizer, CONFIG)
    if options.tokens:
        recipe = JointRecipe(num_tokens=options.tokens, learning_rate=JOINT_RATE, seed=SEED)
        train_jointly(classifier.to(options.device), lessons(train_part, tokenizer), recipe, options.work / "joint.safetensors")
    return classifier


def untrained(train_part: Iterable[Example], tokenizer: Tokenizer, config: GPT2Config) -> Classifier:
    """Make a trunk and a head that know nothing but which tokens have like neighbours."""
    torch.manual_seed(SEED)
    classifier = Classifier(GPT2(config), LastToken(config.n_embd, 2))
    texts = [tokenizer.encode(example.text, VECTOR_TOKENS).ids for example in train_part]
    vectors = token_vectors(texts, VOCABULARY_SIZE, config.n_embd, deviation=INITIAL_DEVIATION, seed=SEED)
    with torch.no_grad():
        classifier.trunk.wte.weight.copy_(vectors)
    return classifier


def lessons(
    train_part: Sequence[Example], tokenizer: Tokenizer, budgets: Sequence[int] = JOINT_BUDGETS
) -> Callable[[int], list[Message]]:
    """Return what gives the messages of an epoch of joint training by its number; teachers learn when it is first asked."""
    teach = functools.cache(lambda: _teach(train_part, tokenizer))
    cuts = (LooseTokens(tokenizer, 0.0), LooseTokens(tokenizer, MERGES_LEFT_OUT))

    def epoch(number: int) -> list[Message]:
        """Vary, cross, cut and tokenise what an epoch sees."""
        draw = random.Random(SEED + number)  # noqa: S311  a seeded draw, not a secret
        taught, targets = teach()
        varied = corpora.epoch(train_part, SEED, number)
        taken = [(example.text, targets[example.dataset, example.origin], True) for example in varied]
        taken += [(text, target, False) for text, target in _crossings(varied, taught, draw)]
        draw.shuffle(taken)
        return [Message(draw.choice(cuts).encode(text, draw.choice(budgets)), *label) for text, *label in taken]

    return epoch


def _teach(train_part: Sequence[Example], tokenizer: Tokenizer) -> tuple[teachers.Teachers, dict[tuple[str, str], float]]:
    """Let the teachers learn; return them and the probability of spam that each message is taught with, by corpus and origin."""
    draw = random.Random(SEED)  # noqa: S311  a seeded draw, not a secret
    chosen = model_card.capped(train_part, MOST_ASKED_ABOUT)
    examples = [replace(example, text=variations.real_ends(example.text, draw)) for example in chosen]
    taught = teachers.Teachers(examples, tokenizer, SEED)
    mixed = (1.0 - TAUGHT) * labels_of(examples) + TAUGHT * taught.doubts
    # Of the few large corpora only so many are asked about; of the others the label is all that is known.
    targets = {(one.dataset, one.origin): float(label) for one, label in zip(train_part, labels_of(train_part), strict=True)}
    targets |= {(one.dataset, one.origin): float(target) for one, target in zip(examples, mixed, strict=True)}
    print(f"teachers have learned from {len(examples):,} messages", flush=True)
    return taught, targets


def _crossings(varied: Sequence[Example], taught: teachers.Teachers, draw: random.Random) -> list[tuple[str, float]]:
    """Cross each message of an epoch with a drawn one of its fold: half of them with written mail, which is the scarcer."""
    by_fold: dict[tuple[int, bool], list[str]] = defaultdict(list)
    for example in varied:
        by_fold[teachers.fold_of(example), example.dataset == teachers.WRITTEN].append(example.text)
    found: list[tuple[str, float]] = []
    for (fold, is_written), texts in sorted(by_fold.items()):
        others = [by_fold[fold, one] or texts for one in (True, False)]
        crossed = [variations.cross(text, draw.choice(draw.choice(others)), draw) for text in texts]
        targets = taught.ask(crossed, [fold] * len(crossed), is_written=is_written)
        found += zip(crossed, map(float, targets), strict=True)
    return found


def table(train_part: Sequence[Example], tokenizer: Tokenizer) -> NGrams:
    """Let the table that ships learn: from what is counted for fine-tuning, and from stretches of the longer messages."""
    chosen = _counted(train_part)
    draw = random.Random(EXCERPTS_SEED)  # noqa: S311  a seeded draw, not a secret
    cut = [(one, variations.excerpt(one.text, draw)) for one in chosen if draw.random() < EXCERPTS]
    chosen += [replace(one, text=text) for one, text in cut if text]
    return evidence.Counted(chosen, tokenizer, _note(), seed=SEED).table


def count(train_part: Sequence[Example], tokenizer: Tokenizer) -> evidence.Counted:
    """Choose what the tables learn from that fine-tuning hears: no stretches, for they are six."""
    return evidence.Counted(_counted(train_part), tokenizer, _note(), seed=SEED)


def _counted(train_part: Sequence[Example]) -> list[Example]:
    """Choose the mail whose n-grams are counted: all that the caps let through, some once more as quoted, some in other dress."""
    chosen = model_card.capped((one for one in train_part if one.dataset != teachers.WRITTEN), MOST_COUNTED)
    chosen += [one for one in train_part if one.dataset == teachers.WRITTEN]
    draw = random.Random(SEED)  # noqa: S311  a seeded draw, not a secret
    chosen = [replace(one, text=variations.real_ends(one.text, draw)) for one in chosen]
    chosen += [replace(one, text=variations.quoted(one.text, draw)) for one in chosen if draw.random() < QUOTED]
    return dressings.some_dressed(chosen, draw)


def _note() -> NGramsNote:
    """Write the sizes of the tables, and how they read."""
    return NGramsNote(
        num_buckets=NUM_BUCKETS,
        max_tokens=COUNTED_TOKENS,
        stretch=STRETCH_TOKENS,
        opening=OPENING_TOKENS,
        doubt=DOUBT,
        doubling=DOUBLING,
    )


def tuning(parts: splits.Split, classifier: Classifier, counted: evidence.Counted, options: argparse.Namespace) -> None:
    """Stage 4: fine-tuning of all layers by the product's own trainer, in place, beside what n-grams say already."""
    file = options.work / "tuned.safetensors"
    if file.exists():
        classifier.load_state_dict(load_file(file))
        return
    chosen = [one for number in range(options.epochs) for one in corpora.finish(parts.train, SEED + number)]
    judges = model_card.capped(parts.validation, model_card.MOST_VALIDATION)
    recipe = Recipe(
        "none",
        freezing.none,
        epochs=1,
        batch_size=BATCH_SIZE,
        learning_rate=TUNING_RATE,
        seed=SEED,
        cache_bytes=0,
        precision="auto",
    )
    print(f"tuning: {len(chosen):,} messages, {options.epochs} times drawn", flush=True)
    train_part, validation = counted.beside(chosen, judges, MAX_TOKENS)
    before = {name: value.detach().cpu().clone() for name, value in classifier.state_dict().items()}
    train(classifier.to(options.device), train_part, validation, recipe, Lines(sys.stdout))
    weights = {name: value.cpu() for name, value in classifier.state_dict().items()}
    # More than half-way back: what was bent to the mail at hand knows less of other mail (Wortsman et al. 2022, "Robust
    # fine-tuning of zero-shot models"). From a start on, back to that: joint training on new mail costs some of what was known.
    known = _started(options.start) if options.start else before
    weights = {name: torch.lerp(known[name], value, KEPT) for name, value in weights.items()}
    classifier.to("cpu").load_state_dict(weights)
    save_file(classifier.state_dict(), file)


def _started(folder: Path) -> dict[str, torch.Tensor]:
    """Read trunk and head of a checkpoint; its table of n-grams is learned anew."""
    tensors = load_file(folder / "model.safetensors")
    return {name: tensor.float() for name, tensor in tensors.items() if not name.startswith("ngrams.")}


def join_evidence(classifier: Classifier, ngrams: NGrams, tokenizer: Tokenizer, weighed_on: Sequence[Example]) -> None:
    """Stage 5: the table of n-grams joined with the classifier in place.

    Args:
        classifier: gets the table.
        ngrams: the table.
        tokenizer: of both.
        weighed_on: the mail that says how much head and table count, which neither has learned from.
    """
    judges = model_card.capped(weighed_on, model_card.MOST_VALIDATION)
    draw = random.Random(SEED)  # noqa: S311  a seeded draw, not a secret
    # As it is, and once more as spammers rewrite theirs: head and table are believed for what they say of both.
    judges += variations.rewritten(judges, [one.text for one in judges if one.label is Label.HAM], draw)
    classifier.max_tokens = MAX_TOKENS
    evidence.join(classifier, ngrams, tokenise(judges, tokenizer, COUNTED_TOKENS), teachers.weights_of(judges))
    # What ships has half the digits: calibrate and judge what ships.
    classifier.half().float()


def judgement(parts: splits.Split, classifier: Classifier, tokenizer: Tokenizer, options: argparse.Namespace) -> Path:
    """Stage 6: calibration, threshold, judgement and card; returns the checkpoint's folder."""
    return model_card.write(
        classifier,
        tokenizer,
        parts,
        work=options.work,
        max_ham_lost=options.max_ham_lost,
        settings={
            "seed": SEED,
            "split": splits.METHOD,
            "joint_tokens": options.tokens,
            "freeze": "none",
            "epochs": options.epochs,
            "batch_size": BATCH_SIZE,
            "learning_rate": TUNING_RATE,
        },
    )


if __name__ == "__main__":
    sys.exit(main())
