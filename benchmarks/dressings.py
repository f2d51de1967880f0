"""Dress texts as programs, gateways and lists dress mail, whatever it says, so that dress gives no class away.

Where replies go, marks in the subject, banners above, footers below, attached parts, and what `message_text` notes of pages: in
life each of these goes with ham and spam alike, in corpora often with one of them. What a message says stays as it is, and so
does its label. The wardrobe is `dressings.toml`. Called by `corpora.py` and `default_checkpoint.py`.
"""

import functools
import random
import re
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from teachers import WRITTEN

from spamd.training.splits import Example

DRESSED = 0.2
"""Share of the written messages that are put into other dress: neither a footer nor an attached file makes spam of ham. What the
mail of older corpora wears is part of what they teach."""
REPLIES_ELSEWHERE = 0.12
"""Share of all others, whatever their corpus, whose replies go to another address than the sender's."""
WARDROBE = Path(__file__).with_suffix(".toml")
SHARES = {"reply to": 0.25, "subject": 0.05, "banner": 0.1, "footer": 0.4, "parts": 0.5, "notes": 0.05}
"""How much of what is dressed gets each piece of dress; some get none of them, and stay as they are."""
WITHOUT_BODY = 0.1
"""Share of those with attached parts that say nothing else."""
PICTURE_SHOWN = 0.2
"""Share of those, where a picture is attached, that show it on a page: more of them would be no sign of spam any longer."""
NUM_PARTS = (1, 1, 1, 2, 3)
"""How many parts are attached; one of these is drawn."""

_TAIL = re.compile(r"(?:\A|\n\n)((?:\[[^\n]*\](?:\n|\Z))+)\Z")
_SUBJECT = re.compile(r"^Subject: (.*)$", re.MULTILINE)
_FIELDS = ("From: ", "Reply-To: ", "Subject: ")


def some_dressed(examples: Iterable[Example], draw: random.Random) -> list[Example]:
    """Put some written messages into other dress, and let replies to some others go elsewhere, of both labels alike."""
    found = []
    for one in examples:
        if one.dataset == WRITTEN and draw.random() < DRESSED:
            found.append(replace(one, text=dressed(one.text, draw)))
        elif one.text.startswith(_FIELDS) and draw.random() < REPLIES_ELSEWHERE:
            head, gap, rest = one.text.partition("\n\n")
            found.append(replace(one, text=_with_reply_to(head, draw) + gap + rest))
        else:
            found.append(one)
    return found


def dressed(text: str, draw: random.Random) -> str:
    """Put a message's text into other dress.

    Args:
        text: as `message_text` makes it.
        draw: chance.

    Returns:
        The same message, as another program might have sent it or another gateway passed it on.
    """
    wardrobe = _wardrobe()
    head, body, notes = _parted(text)
    has = {piece: draw.random() < share for piece, share in SHARES.items()}
    if has["reply to"]:
        head = _with_reply_to(head, draw)
    if has["subject"]:
        form = draw.choice(wardrobe["subjects"])
        head = _SUBJECT.sub(lambda line: f"Subject: {_filled(form, draw, line[1])}", head, count=1)
    if has["banner"]:
        body = f"{_filled(draw.choice(wardrobe['banners']), draw)}\n{body}"
    if has["footer"]:
        body = f"{body}\n{_filled(draw.choice(wardrobe['footers']), draw)}"
    if has["parts"]:
        notes += [_part(draw) for _ in range(draw.choice(NUM_PARTS))]
        if draw.random() < WITHOUT_BODY:
            body = ""
            if any(note.startswith("[attachment image/") for note in notes) and draw.random() < PICTURE_SHOWN:
                notes.append("[picture only]")
    if has["notes"]:
        notes.append(draw.choice(wardrobe["notes"]))
    paragraphs = (head, body.strip("\n"), "\n".join(sorted(dict.fromkeys(notes), key=_order)))
    return "\n\n".join(filter(None, paragraphs))


@functools.cache
def _wardrobe() -> dict[str, Any]:
    """Read what there is to wear."""
    return tomllib.loads(WARDROBE.read_text(encoding="utf-8"))


def _parted(text: str) -> tuple[str, str, list[str]]:
    """Part a text into its fields, its body, and the lines of notes below it."""
    notes: list[str] = []
    if tail := _TAIL.search(text):
        text, notes = text[: tail.start()], tail[1].splitlines()
    head, _, body = text.partition("\n\n")
    return (head, body, notes) if head.startswith(_FIELDS) else ("", text, notes)


def _order(note: str) -> tuple[int, str]:
    """Say where a note stands: links, then parts, both as they came, then the others by name."""
    if note.startswith("[link "):
        return 0, ""
    return (1, "") if note.startswith("[attachment ") else (2, note)


def _with_reply_to(head: str, draw: random.Random) -> str:
    """Let replies go elsewhere: to a freemail address or to some host."""
    wardrobe = _wardrobe()
    host = draw.choice((draw.choice(wardrobe["freemail"]), _filled("{word}.{other}{word}.{end}", draw)))
    lines = [line for line in head.splitlines() if not line.startswith("Reply-To: ")]
    place = next((number for number, line in enumerate(lines) if line.startswith("Subject: ")), len(lines))
    return "\n".join([*lines[:place], f"Reply-To: @{host}", *lines[place:]])


def _part(draw: random.Random) -> str:
    """Make up the line of an attached part."""
    content_type, *names = draw.choice(_wardrobe()["parts"])
    return f"[attachment {content_type} {_filled(draw.choice(names), draw)}".rstrip() + "]"


def _filled(form: str, draw: random.Random, *subject: str) -> str:
    """Fill in what differs from one message to the next."""
    wardrobe = _wardrobe()
    return form.format(
        *subject,
        word=draw.choice(wardrobe["words"]),
        other=draw.choice(wardrobe["words"]),
        end=draw.choice(wardrobe["ends"]),
        file=draw.choice((str.lower, str.upper, str.capitalize, str))(draw.choice(wardrobe["files"])),
        number=draw.randint(100, 99_999),
        digit=draw.randint(1, 9),
        year=draw.randint(2018, 2026),
    )
