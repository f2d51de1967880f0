"""A report on a training: one page of HTML that needs nothing else, and its plots as PNG.

Lays out what was computed before; judges slices besides. The page quotes mail, so it lies outside the checkpoint, which may be
passed on. Called by `cli.retrain`.

Security: what is quoted is hostile; Jinja escapes it, and the page forbids itself scripts, pictures and connections. Folder and
files are their owner's alone.
"""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from spamd import __version__
from spamd.model.checkpoint import CheckpointCard, read_card
from spamd.training import plots, slices
from spamd.training.account import cells, names
from spamd.training.calibration import expected_calibration_error
from spamd.training.gathering import Mail
from spamd.training.metrics import Measure, Numbers
from spamd.training.parts import labels_of
from spamd.training.retraining import Outcome
from spamd.training.splits import Example
from spamd.verdict import Label

PAGE = "report.html"
NUM_MISTAKES = 15
_PASSAGE = 280
_HEAD = 160
_HIDDEN_SETTINGS = frozenset({"course", "lineage", "messages", "duplicates", "conflicting", "split"})


def write_report(folder: Path, outcome: Outcome, mail: Mail) -> Path:
    """Write the page and its plots.

    Args:
        folder: made if missing; another report in it is replaced.
        outcome: what came of the training.
        mail: with which it was made.

    Returns:
        The page.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    card = read_card(outcome.folder)
    labels, scores = labels_of(mail.parts.test), outcome.candidate.judged.scores
    drawn = dict(_plots(labels, scores, outcome, card))
    for name, (_, (_, png)) in drawn.items():
        _write(folder / f"{name}.png", png)
    shown = [{"svg": svg, "caption": caption} for caption, (svg, _) in drawn.values()]
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        files("spamd.training").joinpath(PAGE).read_text(encoding="utf-8")
    )
    page = template.render(plots=shown, **_values(labels, scores, outcome, mail, card))
    _write(folder / PAGE, page.encode("utf-8", "replace"))
    return folder / PAGE


def _plots(
    labels: Numbers, scores: Numbers, outcome: Outcome, card: CheckpointCard
) -> Iterator[tuple[str, tuple[str, tuple[str, bytes]]]]:
    """Draw everything: file name -> caption and drawing."""
    named = {"candidate": scores} | ({"current": outcome.current.answer.judged.scores} if outcome.current else {})
    allowed = float(card.training.get("max_ham_lost", 0.001))
    yield "roc", ("Spam caught where little ham is lost.", plots.draw(plots.roc(labels, named, allowed)))
    yield "scores", ("Scores of held-out mail.", plots.draw(plots.scores(labels, scores, card.threshold)))
    calibration = plots.calibration(labels, _without_temperature(scores, card.temperature), scores)
    yield "calibration", ("On the diagonal, scores mean what they say.", plots.draw(calibration))
    yield "loss", ("Loss.", plots.draw(plots.losses(outcome.training)))
    yield "accuracy", ("Share on the right side of even odds.", plots.draw(plots.accuracies(outcome.training)))


def _values(labels: Numbers, scores: Numbers, outcome: Outcome, mail: Mail, card: CheckpointCard) -> dict[str, Any]:
    """Name all that the page says."""
    columns = [list(cells(outcome.candidate.figures))]
    head = ["", f"candidate {card.id}"]
    if outcome.current:
        columns.append(list(cells(outcome.current.answer.figures)))
        head.append(f"current {outcome.current.card.id}")
    hm = outcome.candidate.figures.hm
    return {
        "id": card.id,
        "created": card.created,
        "version": __version__,
        "started_from": card.training["started_from"],
        "is_worse": bool(outcome.decision and outcome.decision.is_worse),
        "reason": outcome.decision.reason if outcome.decision else "There was no checkpoint to compare with.",
        "warnings": outcome.warnings,
        "counts": mail.counts["test"],
        "figures": [head, *([name, *row] for name, *row in zip(names(), *columns, strict=True))],
        "threshold": f"{card.threshold:.4f}",
        "note": card.threshold_note,
        "interval": f"{hm.value:.2f} %, with 95 % confidence between {hm.low:.2f} % and {hm.high:.2f} %",
        "ece_before": f"{expected_calibration_error(labels, _without_temperature(scores, card.temperature)):.4f}",
        "ece": f"{expected_calibration_error(labels, scores):.4f}",
        "temperature": f"{card.temperature:.3f}",
        "slices": list(_slices(mail.parts.test, labels, scores, card.threshold)),
        "mistakes": [
            ("Ham taken for spam", _mistakes(mail.parts.test, scores, card.threshold, Label.HAM)),
            ("Spam taken for ham", _mistakes(mail.parts.test, scores, card.threshold, Label.SPAM)),
        ],
        "sources": mail.datasets,
        "parts": mail.counts,
        "duplicates": mail.num_duplicates,
        "conflicting": mail.num_conflicting,
        "split": mail.method,
        "settings": {name: value for name, value in card.training.items() if name not in _HIDDEN_SETTINGS},
    }


def _slices(examples: Sequence[Example], labels: Numbers, scores: Numbers, threshold: float) -> Iterator[list[str]]:
    """Judge and word each slice."""
    kind = ""
    for part in slices.slices(examples):
        shown = slices.show(labels[part.members], scores[part.members], threshold)
        counts = [f"{shown.num_ham:,}", f"{shown.num_spam:,}"]
        yield ["" if part.kind == kind else part.kind, part.name, *counts, *map(_cell, (shown.hm, shown.sm, shown.roca))]
        kind = part.kind


def _mistakes(examples: Sequence[Example], scores: Numbers, threshold: float, label: Label) -> list[dict[str, str]]:
    """Quote the messages of a label that are furthest on the wrong side."""
    wrong = [
        (score, example)
        for score, example in zip(scores.tolist(), examples, strict=True)
        if example.label is label and (score >= threshold) != (label is Label.SPAM)
    ]
    wrong.sort(key=lambda pair: pair[0], reverse=label is Label.HAM)
    return [_quote(score, example) for score, example in wrong[:NUM_MISTAKES]]


def _quote(score: float, example: Example) -> dict[str, str]:
    """Quote a message: who, what about, and how it begins."""
    head, gap, body = example.text.partition("\n\n")
    if not gap or not head.startswith(("From: ", "Reply-To: ", "Subject: ")):
        head, body = "", example.text
    return {
        "score": f"{score:.4f}",
        "head": _shorten(head.replace("\n", " · "), _HEAD),
        "passage": _shorten(" ".join(body.split()), _PASSAGE),
        "origin": example.origin,
    }


def _shorten(text: str, most: int) -> str:
    """Cut a text, and say so."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _cell(measured: Measure | None) -> str:
    """Word a figure of a slice."""
    return "" if measured is None else f"{measured.value:.2f} [{measured.low:.2f}, {measured.high:.2f}]"


def _without_temperature(scores: Numbers, temperature: float) -> Numbers:
    """Compute what scores would be without their temperature."""
    kept = np.clip(scores, 1e-15, 1 - 1e-15)
    plain: Numbers = 1.0 / (1.0 + np.exp(-temperature * np.log(kept / (1.0 - kept))))
    return plain


def _write(file: Path, content: bytes) -> None:
    """Write a file for its owner alone, whole or not at all."""
    draft = file.with_name(f".{file.name}.partial")
    draft.touch(mode=0o600)
    draft.write_bytes(content)
    draft.replace(file)
