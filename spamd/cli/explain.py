"""`spamd-admin explain`: show which passages of a message made its verdict.

Prints each passage with the points that it adds to the score, coloured on a terminal, or the same as JSON or as a page of HTML
that needs nothing else. Reads messages as `score` does, of any path that it takes. Called by Typer.
"""

import html
import json
import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from spamd.cli.options import ConfigOption, MessagePaths
from spamd.cli.score import Reader
from spamd.config import load_settings
from spamd.inference.explain import Explanation, Passage, explain
from spamd.mail.text import message_text
from spamd.service.filter import verdict_of
from spamd.service.registry import Registry
from spamd.verdict import REQUIRED_POINTS, Verdict

FULL_COLOUR_POINTS = 0.5
"""The strongest passage of a message bears its full colour, if it has as many points."""
WEAK = 0.1
"""A passage bears no colour up to this share of the strongest one's points, and bright colour from half of them."""

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>spamd: why</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em; color: #111; background: #fff }}
.text {{ white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #ccc; padding: 1em }}
.unread {{ color: #767676 }}
</style></head><body>
{sections}</body></html>
"""
SECTION = """<h1>{label} {points:.1f}</h1>
<p>{path}: probability of spam {score:.4f}, threshold {threshold:.4f}, checkpoint {checkpoint}.
Red passages speak for spam, green ones for ham; point at one for its points.</p>
<div class="text">{passages}</div>
"""


def explain_messages(
    paths: MessagePaths,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a message.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="Print a page of HTML that needs nothing else.")] = False,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="ID|FOLDER", help="Ask this checkpoint instead of the promoted one.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Show which passages made a message's verdict: + speaks for spam, - for ham, in points of the score."""
    if as_json and as_html:
        raise typer.BadParameter("--json and --html exclude each other")
    settings = load_settings(config)
    registry = Registry(settings.state_dir)
    folder = registry.locate(checkpoint) if checkpoint else registry.current()
    reader = Reader(paths)
    sections: list[str] = []

    from spamd.loading import load_engine, load_heads

    engine = load_engine(settings, load_heads(settings), folder)
    for stored in reader:
        text = message_text(stored.raw).text
        started = time.perf_counter()
        found = explain(text, engine)
        milliseconds = 1000 * (time.perf_counter() - started)
        verdict = verdict_of(text, found.scored, settings.scoring.threshold)
        if as_html:
            sections.append(_section(stored.origin, verdict, found))
        elif as_json:
            sys.stdout.write(_json_line(stored.origin, verdict, found, milliseconds) + "\n")
        else:
            _print(stored.origin, verdict, found)
    if as_html:
        sys.stdout.write(PAGE.format(sections="".join(sections)))
    sys.stdout.flush()
    if reader.exit_code:
        raise typer.Exit(reader.exit_code)


def _print(path: str, verdict: Verdict, found: Explanation) -> None:
    """Print one passage a line, behind its points."""
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)
    shown = path.encode("unicode_escape").decode("ascii") if not path.isprintable() else path
    console.print(
        Text(f"{verdict.label} {verdict.points:.1f} {verdict.score:.4f} {shown}", style="bold"),
        Text(_note(verdict)),
        sep="",
    )
    full = _full(found)
    for passage in found.passages:
        style = "dim" if passage.points is None else _colour(passage.points / full)
        for number, line in enumerate(passage.text.strip().splitlines()):
            column = _column(passage) if number == 0 else " " * 6
            console.print(Text.assemble(column, "  ", (line, style)))
    console.print()


def _note(verdict: Verdict) -> str:
    """Say what the passages cannot show."""
    return " (the GTUBE test string decided)" if verdict.is_gtube else ""


def _column(passage: Passage) -> str:
    """Points of a passage, six characters; `unread` where the model did not read it."""
    return "unread" if passage.points is None else f"{passage.points:+6.1f}"


def _full(found: Explanation) -> float:
    """Points of full colour."""
    return max([FULL_COLOUR_POINTS, *(abs(passage.points) for passage in found.passages if passage.points is not None)])


def _colour(share: float) -> str:
    """Choose a terminal's colour for a share of the full points, -1.0 to 1.0."""
    if abs(share) <= WEAK:
        return ""
    strength = "bold " if abs(share) >= 0.5 else ""  # noqa: PLR2004
    return f"{strength}red" if share > 0 else f"{strength}green"


def _section(path: str, verdict: Verdict, found: Explanation) -> str:
    """Write one message for the page."""
    return SECTION.format(
        label=verdict.label,
        points=verdict.points,
        path=html.escape(path),
        score=verdict.score,
        threshold=verdict.threshold,
        checkpoint=html.escape(verdict.checkpoint) + html.escape(_note(verdict)),
        passages="".join(_marked(passage, _full(found)) for passage in found.passages),
    )


def _marked(passage: Passage, full: float) -> str:
    """Write one passage for the page; `full` is the number of points of full colour."""
    text = html.escape(passage.text)
    if passage.points is None:
        return f'<span class="unread" title="not read">{text}</span>'
    share = passage.points / full
    if abs(share) <= WEAK:
        return text
    colour = "220, 30, 30" if share > 0 else "20, 150, 60"
    return f'<mark style="background: rgba({colour}, {0.6 * abs(share):.2f})" title="{passage.points:+.1f}">{text}</mark>'


def _json_line(path: str, verdict: Verdict, found: Explanation, milliseconds: float) -> str:
    """Everything that is known, as one JSON object."""
    return json.dumps(
        {
            "path": path,
            "label": verdict.label,
            "probability": verdict.score,
            "score": verdict.points,
            "required": REQUIRED_POINTS,
            "threshold": verdict.threshold,
            "checkpoint": verdict.checkpoint,
            "tokens": verdict.num_tokens,
            "truncated": verdict.is_truncated,
            "gtube": verdict.is_gtube,
            "passages": [asdict(passage) for passage in found.passages],
            "milliseconds": round(milliseconds, 3),
        }
    )
