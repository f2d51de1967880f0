"""Calibrate a classifier, judge it on mail that it has never seen, and write its checkpoint with a model card.

What ships computes in whole numbers, if that changes at most one verdict in a thousand, and is judged as it computes.
Temperature and threshold come from the validation part, figures from the test part alone, one line for each corpus; corpora with
one label get the one figure that they allow. Called by `default_checkpoint.py`.
"""

import copy
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from scipy.optimize import brentq
from teachers import WRITTEN

from spamd.mail.text import TEXT_VERSION
from spamd.model.card import NGramsNote
from spamd.model.checkpoint import BaseNote, CheckpointCard, HeadNote, save_checkpoint
from spamd.model.classifier import SPAM, Classifier
from spamd.model.heads import LastToken
from spamd.model.int8 import quantise
from spamd.model.tokenizer import Tokenizer
from spamd.training import metrics
from spamd.training.calibration import (
    CONFIDENCE,
    OperatingPoint,
    choose_threshold,
    expected_calibration_error,
    fit_temperature,
    probabilities,
)
from spamd.training.metrics import Numbers, upper_bound
from spamd.training.parts import labels_of, margins, tokenise
from spamd.training.quantising import Comparison
from spamd.training.splits import Example, Split
from spamd.verdict import Label

MOST_VALIDATION = 400
"""Messages of each corpus and label that the threshold is chosen on at the most, so that no corpus rules it."""
MOST_WRITTEN_HAM_LOST = 0.03
"""Share of the written ham in the validation mail that the threshold may lose."""

TODAY = 2
"""So often a written message counts where scores are made to mean what they say: they are to be right about mail of today."""
MOST_SHIFT = 20.0
"""A head may be so far off, in logits."""
SAMPLE = "sitting_03"
"""Sitting whose verdicts are counted on the card."""
ONE_CLASS = frozenset({"phishing_pot", "lists_ham", "newsletters_ham"})
"""Corpora of one class: together with others they would say nothing about calibration."""

CARD = """# The checkpoint that ships

A GPT-2 of {parameters:,} parameters ({n_layer} blocks, width {n_embd}, {vocab_size:,} tokens, {n_positions} positions) with a
two-class head on the last token. Beside it stands a table of {num_buckets:,} numbers: the logit of spam gets what the message's
runs of {characters} characters and of {runs} tokens say, or those of its first {opening} tokens and {stretch} others in a row,
less {doubt:.2f}, where that is more; and less {doubling:.2f} for each doubling of the length beyond {stretch} tokens.

Made from public and written mail by `benchmarks/default_checkpoint.py`, which makes this page too: token vectors from
neighbourhoods first; then the next token and, at every token, a label that is half the truth and half what linear models think
that have not seen the message, beside texts crossed from two messages, for which what those models think is all of the label;
then the label at the last token, beside what tables say that have not seen the message, so that the trunk learns what they do not
tell, with some of the mail as spammers rewrite theirs, and some in other dress: banners, footers, attached files, addresses for
replies. The table is a linear model over the same mail, some of it once more as what a reply quotes, some of it once more in
part, and some in other dress; how much it and the head count was found on validation mail, as it is and rewritten.

- **Reads** version {text_version} of the text: the trunk at most {max_tokens} tokens of a message, the table {counted:,}.
- **Threshold** {threshold:.4f}: {note}
- **Computes** in {arithmetic} on a CPU: of {num_messages:,} verdicts on the mail below, int8 changes {num_changed}.
- **Trained on** {num_train:,} messages of public corpora and of `benchmarks/written_mail/`. Nothing below was trained on, in any
  stage.

## On mail that it has not seen

95 % intervals in brackets. *hm* is the share of ham taken for spam, *sm* the share of spam taken for ham, at the shipped
threshold; *caught* is the share of spam found where at most so much ham is lost. The test part of a corpus is a fifth of it,
drawn by a hash of the text after texts of the same letters were removed. `written_mail_held_out` is mail of sittings that were
not trained on; `phishing_pot` is spam of 2022 to 2024 from a corpus that is never trained on.

| corpus | ham | spam | hm % | sm % | (1-ROCA) % | caught at 0.1 % | at 0.5 % | at 1 % |
|---|---|---|---|---|---|---|---|---|
{rows}

**Calibration**: on the test mail of all corpora that have both classes, scores are {ece:.2%} away from the share of spam among
messages with such scores, on the average (expected calibration error); it was {raw_ece:.2%}
before the temperature, {temperature:.3f}.

**To check**: of `benchmarks/written_mail/{sample}.txt`, held out like all of its kind, {ham_lost} of {num_ham} ham are lost and
{spam_caught} of {num_spam} spam are caught. A test of the project counts them again.

## What it is not good at

The public corpora are old, mostly English and technical. Commercial and private ham, and ham in other languages, it knows from
the written mail alone; the line `written_mail_held_out` says how far that carries. Retrain it on your own mail.
Of a message of a few words, such as `Here they are` or `Your mailbox is full`, it is often unsure, and then lets it pass.
"""


def write(
    classifier: Classifier,
    tokenizer: Tokenizer,
    parts: Split,
    *,
    work: Path,
    max_ham_lost: float,
    settings: dict[str, Any],
) -> Path:
    """Calibrate, judge and write.

    Returns:
        The folder of the checkpoint, with `README.md` as its model card.

    Raises:
        ValueError: the classifier has no table of n-grams.
    """
    if classifier.ngrams is None:
        raise ValueError("the card tells of a table of n-grams, and this classifier has none")
    validation = capped(parts.validation, MOST_VALIDATION)
    # Scores mean what they say of all validation mail, not of as much of each corpus; the threshold is chosen on the latter.
    raw, truth = margins(classifier, tokenise(parts.validation, tokenizer, classifier.budget())), labels_of(parts.validation)
    repeated = [place for place, one in enumerate(parts.validation) for _ in range(TODAY if one.dataset == WRITTEN else 1)]
    raw += centre(classifier, raw[repeated], truth[repeated])
    temperature = fit_temperature(truth[repeated], raw[repeated])
    places = {id(one): place for place, one in enumerate(parts.validation)}
    scores = probabilities(raw[[places[id(one)] for one in validation]], temperature)
    point = _choose_threshold(validation, scores, max_ham_lost)
    test = tokenise(parts.test, tokenizer, classifier.budget())
    rounded = copy.deepcopy(classifier)
    quantise(rounded)
    both_margins = {"float": margins(classifier, test), "int8": margins(rounded, test)}
    whole, found = (probabilities(values, temperature) for values in both_margins.values())
    changed = int(((whole >= point.threshold) != (found >= point.threshold)).sum())
    compared = Comparison(len(parts.test), changed, float(np.abs(whole - found).max()))
    arithmetic = "int8" if compared.is_passed else "float"
    test_margins = both_margins[arithmetic]
    scores = probabilities(test_margins, temperature)
    rows, figures = judge(parts.test, scores, point.threshold)
    sample = count_sample(parts.test, scores, point.threshold)
    both = [place for place, example in enumerate(parts.test) if example.dataset not in ONE_CLASS]
    ece, raw_ece = (
        expected_calibration_error(labels_of(parts.test)[both], probabilities(test_margins, by)[both])
        for by in (temperature, 1.0)
    )
    card = CheckpointCard(
        trunk=classifier.trunk.config,
        base=BaseNote(name="mini"),
        head=HeadNote(name="last-token"),
        ngrams=classifier.ngrams.note,
        text_version=TEXT_VERSION,
        max_tokens=classifier.max_tokens,
        arithmetic=arithmetic,
        temperature=temperature,
        threshold=point.threshold,
        threshold_interval=(0.0, point.bound),
        threshold_note=_note(point, max_ham_lost),
        datasets=tuple(_counts(parts.train)),
        metrics=figures | {"expected_calibration_error": ece, "sample": sample},
        training=settings | {"quantised": compared.as_json()},
    )
    folder = save_checkpoint(work / "checkpoints", classifier, tokenizer, card, is_float16=True)
    values = {
        "parameters": sum(parameter.numel() for part in (classifier.trunk, classifier.head) for parameter in part.parameters()),
        **_ngrams_words(classifier.ngrams.note),
        "note": card.threshold_note,
        **asdict(compared),
        "num_train": len(parts.train),
        "rows": "\n".join(rows),
        "ece": ece,
        "raw_ece": raw_ece,
        "temperature": temperature,
        "sample": SAMPLE,
        **sample,
        **vars(card.trunk),
        **{name: getattr(card, name) for name in ("text_version", "max_tokens", "threshold", "arithmetic")},
    }
    (folder / "README.md").write_text(CARD.format(**values), encoding="utf-8")
    return folder


def centre(classifier: Classifier, raw: Numbers, labels: Numbers) -> float:
    """Shift the head's bias so that of validation mail as much is expected to be spam as is spam.

    Head and table were weighed on mail of which half was rewritten; what ships judges mail as it comes.

    Args:
        classifier: with the head `last-token`; changed in place, to half the digits, as it ships.
        raw: its margins, (N,).
        labels: 0 for ham, 1 for spam, (N,).

    Returns:
        What all its margins have got more.
    """
    wanted = brentq(lambda shift: (probabilities(raw + shift, 1.0) - labels).mean(), -MOST_SHIFT, MOST_SHIFT)
    bias = cast("LastToken", classifier.head).linear.bias
    with torch.no_grad():
        before = bias[SPAM].item()
        bias[SPAM] = (bias[SPAM] + wanted).half().float()
        return bias[SPAM].item() - before


def _ngrams_words(note: NGramsNote) -> dict[str, object]:
    """Word the sizes of the table of n-grams."""
    characters, runs = (f"{orders[0]} to {orders[-1]}" for orders in (note.characters, note.tokens))
    return {
        "num_buckets": note.num_buckets,
        "characters": characters,
        "runs": runs,
        "counted": note.max_tokens,
        "stretch": note.stretch,
        "opening": note.opening,
        "doubt": note.doubt,
        "doubling": note.doubling,
    }


def capped(examples: Iterable[Example], most: int) -> list[Example]:
    """Draw `most` of each corpus and label at the most, in an order that nothing but the draw decides."""
    shuffled = list(examples)
    random.Random(most).shuffle(shuffled)  # noqa: S311  a seeded draw, not a secret
    seen: Counter[tuple[str, Label]] = Counter()
    kept = []
    for example in shuffled:
        seen[example.dataset, example.label] += 1
        if seen[example.dataset, example.label] <= most:
            kept.append(example)
    return kept


def _choose_threshold(validation: Sequence[Example], scores: Numbers, max_ham_lost: float) -> OperatingPoint:
    """Choose the lowest threshold that loses no more ham than allowed, neither of all nor of what people get today."""
    labels = labels_of(validation)
    written = [place for place, example in enumerate(validation) if example.dataset == WRITTEN]
    everything = choose_threshold(labels, scores, max_ham_lost)
    today = choose_threshold(labels[written], scores[written], MOST_WRITTEN_HAM_LOST)
    threshold = max(everything.threshold, today.threshold)
    lost = int((scores[labels == 0] >= threshold).sum())
    return replace(everything, threshold=threshold, ham_lost=lost, bound=upper_bound(lost, everything.num_ham, CONFIDENCE))


def count_sample(test: Sequence[Example], scores: Numbers, threshold: float) -> dict[str, int]:
    """Count the verdicts about one sitting, which the repository holds, so that anybody can count them again."""
    places = [place for place, example in enumerate(test) if SAMPLE in Path(example.origin).parts]
    labels, is_spam = labels_of(test)[places], scores[places] >= threshold
    return {
        "num_ham": int((labels == 0).sum()),
        "num_spam": int((labels == 1).sum()),
        "ham_lost": int((is_spam & (labels == 0)).sum()),
        "spam_caught": int((is_spam & (labels == 1)).sum()),
    }


def judge(test: Sequence[Example], scores: Numbers, threshold: float) -> tuple[list[str], dict[str, Any]]:
    """Judge each corpus on its own, and all of them together.

    Returns:
        The rows of the table, and the figures for `checkpoint.json`: those of all together, and `corpora` with those of each.
    """
    positions: dict[str, list[int]] = defaultdict(list)
    for position, example in enumerate(test):
        positions[example.dataset].append(position)
    labels = labels_of(test)
    found = {corpus: _judge_corpus(labels[members], scores[members], threshold) for corpus, members in positions.items()}
    rows = [_row(corpus, figures) for corpus, figures in found.items()]
    return rows, metrics.measure(labels, scores, threshold).as_json() | {"corpora": found}


def _judge_corpus(labels: Numbers, scores: Numbers, threshold: float) -> dict[str, Any]:
    """Judge one corpus; one that lacks a label allows fewer figures."""
    num_ham, num_spam = int((labels == 0).sum()), int((labels == 1).sum())
    counts = {"ham": num_ham, "spam": num_spam}
    if num_ham and num_spam:
        return counts | metrics.measure(labels, scores, threshold).as_json()
    if num_ham:
        return counts | {"hm": asdict(metrics.wilson(int((scores >= threshold).sum()), num_ham))}
    return counts | {"sm": asdict(metrics.wilson(int((scores < threshold).sum()), num_spam))}


def _row(corpus: str, figures: dict[str, Any]) -> str:
    """Word one line of the table."""
    columns = ("hm", "sm", "roca", "caught_at_0.1", "caught_at_0.5", "caught_at_1")
    cells = [_cell(figures.get(name)) for name in columns]
    return f"| {corpus} | {figures['ham']:,} | {figures['spam']:,} | {' | '.join(cells)} |"


def _cell(measure: dict[str, float] | None) -> str:
    """Word one figure."""
    return "" if measure is None else "{value:.3g} ({low:.3g} to {high:.3g})".format(**measure)


def _note(point: OperatingPoint, max_ham_lost: float) -> str:
    """Say how the threshold was chosen."""
    return (
        f"the lowest that loses at most {max_ham_lost:.2%} of validation ham and {MOST_WRITTEN_HAM_LOST:.0%} of the written "
        f"ham in it; it lost {point.ham_lost:,} of {point.num_ham:,}, which shows that it loses at most {point.bound:.2%} "
        f"of such ham, with 95 % confidence."
    )


def _counts(examples: Iterable[Example]) -> Iterable[dict[str, Any]]:
    """Count what was trained on, by corpus."""
    counts = Counter((example.dataset, example.label.value) for example in examples)
    for corpus in dict.fromkeys(name for name, _ in counts):
        yield {"name": corpus, "path": corpus, "ham": counts[corpus, "ham"], "spam": counts[corpus, "spam"]}
