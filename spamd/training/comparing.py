"""A comparison of checkpoints in words: tables for people, plain values for programs.

Words and layout only; nothing is computed here and nothing printed. Called by `cli.evaluate`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from spamd.training.account import align, cells, names, write
from spamd.training.evaluation import Evaluation, Judgement
from spamd.training.metrics import Measure
from spamd.training.slices import Showing

DIFFERENCES = {
    "hm": "ham lost (hm)",
    "sm": "spam missed (sm)",
    "roca": "(1-ROCA)",
    "caught_at_0.5": "spam caught at 0.5 % ham lost",
}


def table(evaluation: Evaluation) -> str:
    """Lay out figures, differences and slices.

    Args:
        evaluation: what came of the comparison.

    Returns:
        Lines, each with a line end.
    """
    blocks = [list(_figures(evaluation))]
    if len(evaluation.judgements) > 1:
        blocks.append(list(_differences(evaluation)))
    blocks.append(list(_slices(evaluation)))
    warnings = [warning for judgement in evaluation.judgements for warning in judgement.warnings]
    blocks.append([f"Warning: {warning}" for warning in dict.fromkeys(warnings)])
    return "\n".join("".join(f"{line}\n" for line in block) for block in blocks if block)


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return all figures as plain values."""
    return {
        "messages": {"ham": evaluation.num_ham, "spam": evaluation.num_spam, "left_out_as_trained_on": evaluation.num_known},
        "checkpoints": [_values(judgement, evaluation) for judgement in evaluation.judgements],
    }


def _values(judgement: Judgement, evaluation: Evaluation) -> dict[str, Any]:
    """Return one checkpoint's figures."""
    return {
        "id": judgement.card.id,
        **judgement.figures.as_json(),
        "ece_before_temperature": judgement.ece_raw,
        "ece": judgement.ece,
        "temperature": judgement.card.temperature,
        "difference_from_first": {name: asdict(measured) for name, measured in judgement.differences.items()},
        "slices": [
            {"kind": part.kind, "name": part.name} | asdict(showing)
            for part, showing in zip(evaluation.slices, judgement.showings, strict=True)
        ],
        "warnings": list(judgement.warnings),
    }


def _figures(evaluation: Evaluation) -> Iterator[str]:
    """Lay the figures of all checkpoints side by side."""
    num = evaluation.num_ham + evaluation.num_spam
    yield f"On {num:,} messages ({evaluation.num_ham:,} ham, {evaluation.num_spam:,} spam), with 95 % intervals:"
    if evaluation.num_known:
        yield f"({evaluation.num_known:,} messages are left out, on which a checkpoint was trained, or its threshold chosen.)"
    columns = [[*cells(one.figures), _error(one.ece_raw), _error(one.ece)] for one in evaluation.judgements]
    rows = [["", *(one.card.id for one in evaluation.judgements)]]
    titles = [*names(), "calibration error, no temperature", "calibration error (ECE)"]
    yield from align([*rows, *([title, *row] for title, *row in zip(titles, *columns, strict=True))])


def _differences(evaluation: Evaluation) -> Iterator[str]:
    """Lay out how the others differ from the first."""
    first, *others = evaluation.judgements
    yield f"In points, minus {first.card.id} on the same messages; * is beyond chance:"
    rows = [["", *(one.card.id for one in others)]]
    for name, title in DIFFERENCES.items():
        rows.append([title, *(_signed(one.differences[name]) for one in others)])
    yield from align(rows)


def _slices(evaluation: Evaluation) -> Iterator[str]:
    """Lay out ham lost and spam missed by slice."""
    yield "By slice, ham lost % and spam missed % at each one's threshold, and (1-ROCA) %:"
    rows: list[Sequence[str]] = [["", "", "ham", "spam", *(one.card.id for one in evaluation.judgements)]]
    kind = ""
    for place, part in enumerate(evaluation.slices):
        shown = [one.showings[place] for one in evaluation.judgements]
        label = part.kind if part.kind != kind else ""
        kind = part.kind
        rows.append([label, part.name, f"{shown[0].num_ham:,}", f"{shown[0].num_spam:,}", *map(_cell, shown)])
    yield from align(rows)


def _cell(shown: Showing) -> str:
    """Write one slice's figures."""
    return "  ".join(
        (_short(shown.hm, 1), _short(shown.sm, 1), "" if shown.roca is None else f"{shown.roca.value:7.2f}")
    ).rstrip()


def _short(measured: Measure | None, digits: int) -> str:
    """Write a figure with its interval, closely; blanks where there is none."""
    if measured is None:
        return f"{'-':>5} {'':13}"
    interval = f"[{measured.low:.{digits}f}, {measured.high:.{digits}f}]"
    return f"{measured.value:5.{digits}f} {interval:13}"


def _error(value: float) -> str:
    """Write a calibration error, in points."""
    return write(Measure(100.0 * value, 0.0, 0.0), 2).partition("[")[0].rstrip()


def _signed(measured: Measure) -> str:
    """Write a difference; a star where its interval leaves zero out."""
    star = "*" if measured.low > 0.0 or measured.high < 0.0 else " "
    return f"{measured.value:+8.3f} {star} [{measured.low:+.3f}, {measured.high:+.3f}]"
