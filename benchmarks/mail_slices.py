"""What kind of mail a message of the corpora is: its year, its language, plain or HTML, commercial or not.

Years and languages of the public corpora stand in their MANIFEST.tsv; those of the written mail, and its kinds, in its sittings.
Called by `peers.py`.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import written_mail

from spamd.mail.likeness import normalise
from spamd.mail.text import message_text
from spamd.training.splits import Example
from spamd.verdict import Label

COMMERCIAL = frozenset(
    {
        *(
            "order confirmation",
            "shipping notice",
            "receipt",
            "invoice",
            "payment reminder",
            "subscription renewal",
            "terms update",
        ),
        *("newsletter", "shop promotion", "travel booking", "hotel booking", "ticket", "survey", "review request", "streaming"),
        *("auction and marketplace", "crypto exchange", "loan and debt", "bank notice", "account statement", "terms update"),
        "delivery problem",
    }
)
"""Kinds of ham that a firm sends to a customer."""
FEWEST = 20
"""A slice of fewer messages shows nothing."""


def years(manifest: Path) -> dict[str, int]:
    """Read the year of each message of the public corpora; 0 where it is not known."""
    return {row["path"]: int(row["year"] or 0) for row in _rows(manifest)}


def path_below(origin: str, corpus: str) -> str:
    """Cut the path of a message down to how the manifest names it."""
    _, found, rest = origin.rpartition(f"/{corpus}/")
    return f"{corpus}/{rest}" if found else origin


def slices(examples: Sequence[Example], manifest: Path) -> dict[str, list[int]]:
    """Sort messages into slices.

    Args:
        examples: messages of the test part.
        manifest: of the public corpora.

    Returns:
        Name of a slice -> positions; a message may be in several, and slices of fewer than 20 messages are left out.
    """
    languages = {row["path"]: row["language"].rstrip("?") for row in _rows(manifest)}
    written = _written_fields() if any(example.dataset.startswith("written_mail") for example in examples) else {}
    found: dict[str, list[int]] = defaultdict(list)
    for position, example in enumerate(examples):
        fields = written.get(normalise(example.text), {}) if example.dataset.startswith("written_mail") else {}
        language = fields.get("language") or languages.get(path_below(example.origin, example.dataset), "")
        if language:
            found["in English" if language == "en" else "in other languages or short"].append(position)
        if (form := _form(example.origin)) is not None:
            found[form].append(position)
        is_commercial = fields.get("kind") in COMMERCIAL or example.dataset == "newsletters_ham"
        if example.label is Label.HAM and is_commercial:
            found["commercial ham"].append(position)
        elif example.label is Label.HAM and fields:
            found["other written ham"].append(position)
    return {name: positions for name, positions in sorted(found.items()) if len(positions) >= FEWEST}


def _written_fields() -> dict[str, dict[str, str]]:
    """Find the fields of each written message by its text; takes a minute, since each is built and read."""
    return {normalise(message_text(written_mail.build(one)).text): one.fields for _, _, one in written_mail.read_all()}


def _form(origin: str) -> str | None:
    """Tell whether a stored message has a page; None where there is no message, but a row of a table."""
    file = Path(origin)
    if not file.is_file():
        return None
    raw = file.read_bytes().lower()
    return "HTML" if b"text/html" in raw or b"<html" in raw else "plain"


def _rows(manifest: Path) -> list[dict[str, str]]:
    """Read the manifest."""
    with manifest.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened, delimiter="\t", quoting=csv.QUOTE_NONE))
