"""The outcome of a retraining in words: a table for people, plain values for programs.

Words and layout only; nothing is computed here and nothing printed. Called by `cli.retrain`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from spamd.training.gathering import Mail
from spamd.training.metrics import HAM_LOST, Figures, Measure
from spamd.training.retraining import Outcome


def table(outcome: Outcome, mail: Mail) -> str:
    """Lay the figures of candidate and current checkpoint side by side.

    Args:
        outcome: what came of the retraining.
        mail: with which it was judged.

    Returns:
        Lines, each with a line end.
    """
    counts = mail.counts["test"]
    head = ["", f"candidate {outcome.folder.name}"]
    columns = [list(cells(outcome.candidate.figures))]
    if outcome.current:
        head.append(f"current {outcome.current.card.id}")
        columns.append(list(cells(outcome.current.answer.figures)))
    rows = [head, *([name, *cells] for name, *cells in zip(names(), *columns, strict=True))]
    title = (
        f"On {sum(counts.values()):,} held-out messages ({counts['ham']:,} ham, {counts['spam']:,} spam), with 95 % intervals:"
    )
    notes = [_note(rate, counts["ham"]) for rate in HAM_LOST if math.floor(rate * counts["ham"]) == 0]
    return "".join(f"{line}\n" for line in (title, *align(rows), *notes[:1]))


def as_json(outcome: Outcome, mail: Mail, *, is_promoted: bool) -> dict[str, Any]:
    """Return all figures as plain values.

    Args:
        outcome: what came of the retraining.
        mail: with which it was made.
        is_promoted: whether the candidate serves now.
    """
    current = outcome.current
    return {
        "candidate": outcome.candidate.figures.as_json() | {"id": outcome.folder.name},
        "current": current.answer.figures.as_json() | {"id": current.card.id} if current else None,
        "decision": asdict(outcome.decision) if outcome.decision else None,
        "promoted": is_promoted,
        "folder": str(outcome.folder),
        "warnings": list(outcome.warnings),
        "datasets": list(mail.datasets),
        "messages": mail.counts,
        "duplicates": mail.num_duplicates,
        "conflicting": mail.num_conflicting,
        "epochs": [asdict(epoch) for epoch in outcome.training.epochs],
        "best_epoch": outcome.training.best.number,
    }


def names() -> Iterator[str]:
    """Name the rows of figures."""
    yield from ("threshold", "ham lost (hm)", "spam missed (sm)", "mean of both in log-odds (lam)", "(1-ROCA)")
    yield from (f"spam caught at {100 * rate:g} % ham lost" for rate in HAM_LOST)


def cells(figures: Figures) -> Iterator[str]:
    """Write the figures, row by row."""
    yield f"{figures.threshold:9.4f}"
    yield from (write(figures.hm, 2), write(figures.sm, 2), f"{figures.lam:7.2f} %", write(figures.roca, 3))
    yield from (write(figures.caught[rate], 1) for rate in HAM_LOST)


def write(measured: Measure, digits: int) -> str:
    """Write a figure with its interval."""
    return f"{measured.value:7.{digits}f} %  [{measured.low:.{digits}f}, {measured.high:.{digits}f}]"


def _note(rate: float, num_ham: int) -> str:
    """Explain a share that is less than one message."""
    return f"Of {num_ham:,} ham, {100 * rate:g} % is less than one: that row allows no ham to be lost."


def align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Give columns a common width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
