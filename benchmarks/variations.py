"""Vary texts in ways that change no label, and cross two of them, so that no text is learned by heart.

Hosts get ends as in life, senders go, and what spammers do to their mail is done to ham and spam alike. Each function takes a
source of chance; nothing here knows of corpora. Called by `corpora.py`, `default_checkpoint.py` and `peers.py`.
"""

import calendar
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest

from spamd.model.tokenizer import END_OF_TEXT
from spamd.training.splits import Example

NO_SENDER = 0.35
"""Share of messages whose sender lines are left out, so that the body must be read too."""
WITH_STRANGER = 0.3
"""Share of messages to which words of ham are added, before or behind: they are no excuse for spam."""
MOST_STRANGE = 3.0
"""What is added is so many times as long as the message at the most, and a ninth of it at the least."""
DISGUISED = 0.12
"""Share of messages, of both labels alike, whose letters are disguised, or that are quoted or strewn with marks."""
REAL_ENDS = (
    *("com", "com", "com", "com", "net", "org", "de", "fr", "es", "it", "nl", "pl", "ru", "cn", "jp", "in", "io", "xyz", "shop"),
    *("co.uk", "com.br", "info", "biz"),
)
"""What stands for the reserved ends of written hosts while training; whether a name is written does not give a class away."""
REPLIES = (
    *("Hi,\n", "FYI\n", "See below.\n", "Thanks!\n", "Any news on this?\n", "Please advise.\n", "Danke!\n", "Merci.\n", ""),
    *("Dear all,\n\nplease read what follows.\n", "Noted, thank you.\n", "As agreed this morning:\n", "Fine with me.\n\nBest,\n"),
    *("Could you look at this?\n\nThanks\n", "Hello again,\n\nI am coming back to this.\n", "Kannst du da mal schauen?\n"),
    "Ok.\n",
)
"""What a reply says above what it quotes."""
QUOTED_BY = (
    *("On {day}/{month}/{year}, {name} wrote:", "On Mon, {day}.{month}.{year} at {hour}:20, {name} wrote:", "{name} wrote:"),
    *("On {name_of_month} {day}, {year}, at {hour}:20, {name} wrote:", "On {day} {name_of_month} {year} {name} wrote:"),
    *("Am {day}.{month}.{year} um {hour}:20 schrieb {name}:", "Le {day}/{month}/{year}, {name} a \u00e9crit :"),
    *("El {day}/{month}/{year}, {name} escribi\u00f3:", "Il giorno {day}/{month}/{year} {name} ha scritto:"),
    *("Op {day}-{month}-{year} schreef {name}:", "W dniu {day}.{month}.{year} {name} pisze:"),
    "{name} skrev {year}-{month}-{day}:",
    "-----Original Message-----\nFrom: {name}\nSent: {day} {name_of_month} {year} {hour}:20\n",
    "---------- Forwarded message ---------\nFrom: {name}\nDate: {name_of_month} {day}, {year}\n",
)
"""How programs of mail begin a quotation."""
QUOTED_NAMES = (
    *("Anna", "J. Novak", "Info", "Support", "M. Rossi", "Li Wei", "Sales", "Petra", "someone", "Tom Harris", "Sarah Jones"),
    *("Lena Fischer", "Paul Martin", "David Cohen", "Maria Lopez", "Office", "K. Tanaka", "Emma Brown"),
)

_RESERVED_END = re.compile(r"(?<=[a-z0-9])\.(?:example|test|invalid)\b", re.IGNORECASE)
_SUBJECT = re.compile(r"^Subject: (?!Re: )", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z]{3,}")
_FIGURES = str.maketrans("aeiostAEIOST", "431057431057")
_NUM_LENDERS = 4
_MOST_MARKS = 40
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+|(?<=[\u3002\uff01\uff1f])|\n+")
_MOST_SENTENCES = 8
_LEAST_EXCERPT = 250
_MOST_OF_IT = 0.8
_MOST_CHARACTERS_CROSSED = 4000


def rewritten(examples: Iterable[Example], hams: Sequence[str], draw: random.Random) -> list[Example]:
    """Let messages, of both labels alike, have hosts as in life, and some of them a stranger's words or letters in disguise."""
    return [replace(example, text=rewrite(real_ends(example.text, draw), draw, hams)) for example in examples]


def vary(text: str, draw: random.Random, hams: Sequence[str]) -> str:
    """Vary a text in ways that change no label: other hosts, no sender, and what spammers do."""
    text = real_ends(text, draw)
    if draw.random() < NO_SENDER:
        text = without_sender(text)
    return rewrite(text, draw, hams)


def rewrite(text: str, draw: random.Random, hams: Sequence[str]) -> str:
    """Do to some texts what spammers do to theirs: a stranger's words, letters in disguise, a quotation, marks.

    Args:
        text: of either label, which does not change.
        draw: chance.
        hams: texts whose bodies lend words.
    """
    if draw.random() < WITH_STRANGER:
        lent = " ".join(draw.choice(hams).partition("\n\n")[2] for _ in range(_NUM_LENDERS))
        number = int(len(text) * MOST_STRANGE ** draw.uniform(-2.0, 1.0))
        start = draw.randrange(max(len(lent) - number, 1))
        text = _add(text, lent[start : start + number], draw)
    if draw.random() < DISGUISED:
        head, gap, body = text.partition("\n\n")
        change = draw.choice((_figures_for_letters, _spaced_letters, _quoted, _quoted, _in_one_case, _marked))
        text = head + gap + change(body, draw)
    return text


def cross(first: str, second: str, draw: random.Random) -> str:
    """Put a stretch of one text and a stretch of another together, under fields of either: nobody can know that by heart."""
    (head, body), (other_head, other_body) = (_head_and_body(text) for text in (first, second))
    fields = [draw.choice(lines) for lines in zip_longest(head.splitlines(), other_head.splitlines(), fillvalue="")]
    stretches = [_stretch(body, draw), _stretch(other_body, draw)]
    draw.shuffle(stretches)
    return "\n".join(filter(None, fields)) + "\n\n" + "\n".join(stretches[: draw.choice((1, 2, 2, 2))])


def _head_and_body(text: str) -> tuple[str, str]:
    """Part a text after its fields; a text without any is all body."""
    head, gap, body = text.partition("\n\n")
    return (head, body) if gap and head.startswith(("From: ", "Reply-To: ", "Subject: ")) else ("", text)


def _stretch(body: str, draw: random.Random) -> str:
    """Take some sentences that follow each other."""
    sentences = _SENTENCE_END.split(body[:_MOST_CHARACTERS_CROSSED])
    start = draw.randrange(len(sentences))
    return " ".join(sentences[start : start + draw.randint(1, _MOST_SENTENCES)])


def excerpt(text: str, draw: random.Random) -> str | None:
    """Take a stretch of a message's body, its beginning, its end or one in between, under what stands above the body.

    Args:
        text: as `message_text` makes it.
        draw: chance.

    Returns:
        An eighth to three fifths of what follows the first empty line, 250 characters at the least; None where that is nearly
        all of it.
    """
    head, gap, body = text.partition("\n\n")
    length = max(_LEAST_EXCERPT, int(len(body) * draw.uniform(0.12, 0.6)))
    left = len(body) - length
    if length >= _MOST_OF_IT * len(body):
        return None
    start = draw.choice((0, left, draw.randrange(left + 1), draw.randrange(left + 1)))
    return head + gap + body[start : start + length]


def real_ends(text: str, draw: random.Random) -> str:
    """Give each written host an end as in life, the same one throughout the text."""
    end = draw.choice(REAL_ENDS)
    return _RESERVED_END.sub(f".{end}", text)


def quoted(text: str, draw: random.Random) -> str:
    """Make a text what a reply quotes: under a word of its own, and with `Re:` before the subject."""
    head, gap, body = text.partition("\n\n")
    return _SUBJECT.sub("Subject: Re: ", head) + gap + _quoted(body, draw) if gap else _quoted(text, draw)


def without_sender(text: str) -> str:
    """Leave the lines about the sender out, unless nothing would be left."""
    lines = text.splitlines()
    kept = [line for line in lines[:3] if not line.startswith(("From: ", "Reply-To: "))]
    return "\n".join([*kept, *lines[3:]]).strip() or text


def _add(text: str, words: str, draw: random.Random) -> str:
    """Put words before the body or behind it."""
    if draw.random() < 0.5:  # noqa: PLR2004
        return f"{text}\n{words}"
    head, gap, body = text.partition("\n\n")
    return f"{head}{gap}{words}\n{body}" if gap else f"{words}\n{text}"


def _figures_for_letters(text: str, draw: random.Random) -> str:
    """Write figures for some letters in a share of the words."""
    share = draw.uniform(0.2, 1.0)
    return _WORD.sub(lambda word: word[0].translate(_FIGURES) if draw.random() < share else word[0], text)


def _spaced_letters(text: str, draw: random.Random) -> str:
    """Put spaces between the letters of a share of the words."""
    share = draw.uniform(0.1, 0.6)
    return _WORD.sub(lambda word: " ".join(word[0]) if draw.random() < share else word[0], text)


def _quoted(text: str, draw: random.Random) -> str:
    """Make a body a quotation in a reply."""
    date = {
        "day": draw.randint(1, 28),
        "month": (month := draw.randint(1, 12)),
        "name_of_month": draw.choice((calendar.month_name, calendar.month_abbr))[month],
        "year": draw.randint(2015, 2026),
        "hour": draw.randint(7, 21),
    }
    begin = draw.choice(QUOTED_BY).format(**date, name=draw.choice(QUOTED_NAMES))
    lines = "\n".join(f"> {line}" for line in text.splitlines())
    return f"{draw.choice(REPLIES)}\n{begin}\n{lines}"


def _marked(text: str, draw: random.Random) -> str:
    """Strew the mark that ends a text in training in between the words."""
    words = text.split(" ")
    for _ in range(draw.randint(1, _MOST_MARKS)):
        words.insert(draw.randint(0, len(words)), END_OF_TEXT)
    return " ".join(words)


def _in_one_case(text: str, draw: random.Random) -> str:
    """Write everything small, or large."""
    return text.lower() if draw.random() < 0.5 else text.upper()  # noqa: PLR2004
