"""Characters to plain wording: what readers cannot see goes, disguised letters become the letters they play, padding shrinks.

Everything is linear in the length of the text. Called by `text`.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from spamd.mail.links import shorten_urls

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff9-\ufffb\U000e0000-\U000e0fff\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]"
)
_IN_WORD = re.compile("(?<=[A-Za-z])[\u00ad\u034f\u180e\u200b-\u200f\u2060-\u2064\ufeff]+(?=[A-Za-z])")
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_ASCII_LINE_ENDS = bytes.maketrans(b"\r\x0b\x0c", b"\n\n\n")
_ASCII_INVISIBLE = bytes(code for code in range(128) if code not in range(0x20, 0x7F) and code not in b"\t\n\r\x0b\x0c")
_MAX_MARKS = 30
_DECORATION = re.compile(r"([^\w\s] ?)\1{3,}")
_PAIRED_DECORATION = re.compile(r"([^\w\s]{2})\1{3,}")
_SAME_LETTER = re.compile(r"(\w)\1{7,}")
_MAILTO = re.compile(r" ?[<\[]mailto:[^<>\[\]\s]{1,200}[>\]]")
_LEAST_CODE = 40
_CODE = re.compile(rf"[A-Za-z0-9+/=_-]{{{_LEAST_CODE},}}")
_LONG_WORD = re.compile(r"[!-~]{81,}")
_CODE_LINES = re.compile(r"(?:(?:^|\n)[>| ]*[A-Za-z0-9+/=_-]{16}\.\.\.(?=\n|\Z)){2,}")
_END_OF_TEXT = "<|endoftext|>"
"""The mark behind each text that a GPT-2 was trained on: nobody writes it to a reader, and strewn in it takes up the budget."""
_OTHER = "\u0370-\u03ff\u0400-\u052f"
_MIXED_WORD = re.compile(
    f"(?<![A-Za-z{_OTHER}])(?:[A-Za-z]++[{_OTHER}]|[{_OTHER}]++[A-Za-z])[A-Za-z{_OTHER}]*+",
)

# Cyrillic and Greek letters that look like a Latin one.
_LOOKALIKES = str.maketrans(
    "АВЕКМНОРСТУХІЈЅЗԌаеорсухіјѕԁԛԝһѵӏкмтпгиΑΒΕΖΗΙΚΜΝΟΡΤΥΧαινορτυχκηωıɑɡ",
    "ABEKMHOPCTYXIJS3GaeopcyxijsdqwhvlkmtnruABEZHIKMNOPTYXaivoptuxknwiag",
)


@dataclass(frozen=True, slots=True)
class Wording:
    """A text made plain.

    Attributes:
        text: what remains.
        num_invisible: invisible characters that stood inside Latin words.
        num_lookalikes: words in which letters of another script played Latin ones.
    """

    text: str
    num_invisible: int = 0
    num_lookalikes: int = 0


def plain_wording(text: str, max_characters: int) -> Wording:
    """Make a text plain.

    Args:
        text: any text.
        max_characters: longer texts lose their middle, three quarters of what is kept being the head.

    Returns:
        The plain text: NFKC, lines stripped, none of them empty, URLs cut to hosts.
    """
    num_invisible = 0
    if text.isascii():
        text = text.replace("\r\n", "\n").encode("ascii").translate(_ASCII_LINE_ENDS, _ASCII_INVISIBLE).decode("ascii")
    else:
        text, num_invisible = _without_invisible(_LINE_END.sub("\n", text))
    text = _squeeze(text)
    if len(text) > 4 * max_characters:
        text = keep_ends(_shorten(text), 4 * max_characters)
    if not text.isascii():
        text = _squeeze(keep_ends(_compose(text), 4 * max_characters))
    if _END_OF_TEXT in text:
        text = _squeeze(text.replace(_END_OF_TEXT, " "))
    text, num_lookalikes = (text, 0) if text.isascii() else _unmask(text)
    text = _shorten(text)
    return Wording(keep_ends(text, max_characters), num_invisible, num_lookalikes)


@cache
def _marks() -> frozenset[str]:
    """Characters that are, or become, marks on the one before them."""
    return frozenset(
        code for code in map(chr, range(0x300, 0x20000)) if unicodedata.combining(unicodedata.normalize("NFKD", code)[0])
    )


@cache
def _too_many_marks() -> re.Pattern[str]:
    """Find runs of marks that are longer than any script's."""
    marks = "".join(_marks())
    return re.compile(f"([{marks}]{{{_MAX_MARKS}}})[{marks}]+")


def _compose(text: str) -> str:
    """Bring a text to NFKC; of long runs of marks, which that takes quadratic time to sort, the rest goes."""
    if max(map(len, text.split()), default=0) > _MAX_MARKS and not _marks().isdisjoint(text):
        text = _too_many_marks().sub(r"\1", text)
    return unicodedata.normalize("NFKC", text)


def drop_invisible(text: str) -> str:
    """Drop characters that nobody sees or that no encoding can carry."""
    return _INVISIBLE.sub("", text)


def _without_invisible(text: str) -> tuple[str, int]:
    """Drop invisible characters, counting those that split a Latin word."""
    text, num_invisible = _IN_WORD.subn("", text)
    return drop_invisible(text), num_invisible


def _squeeze(text: str) -> str:
    """Make every run of blanks one blank, and drop empty lines."""
    return "\n".join(filter(None, [" ".join(line.split()) for line in text.split("\n")]))


def _unmask(text: str) -> tuple[str, int]:
    """Replace lookalikes inside words that are otherwise Latin; words of other scripts stay as they are."""
    num_words = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal num_words
        word = match[0]
        plain = word.translate(_LOOKALIKES)
        if not plain.isascii():
            return word
        num_words += 1
        return plain

    return _MIXED_WORD.sub(replace, text), num_words


def _shorten(text: str) -> str:
    """Cut URLs to hosts, and decoration and codes to a few characters."""
    text = shorten_urls(_MAILTO.sub("", text) if "mailto:" in text else text)
    text = _DECORATION.sub(r"\1\1\1", text)
    text = _PAIRED_DECORATION.sub(r"\1\1", text)
    text = _SAME_LETTER.sub(r"\1\1\1\1\1", text)
    # No word is so long in most texts, and to look at each place for one would take longer than all the rest.
    if max(map(len, text.split()), default=0) < _LEAST_CODE:
        return text
    text = _LONG_WORD.sub(lambda match: f"{match[0][:40]}...", text)
    text, num_codes = _CODE.subn(lambda match: f"{match[0][:16]}...", text)
    return _CODE_LINES.sub(lambda match: match[0][: match[0].find("...") + 3], text) if num_codes > 1 else text


def keep_ends(text: str, max_characters: int) -> str:
    """Cut the middle out of a text that is too long: three quarters of what stays are head, one quarter tail."""
    if len(text) <= max_characters:
        return text
    tail = max_characters // 4
    return f"{text[: max_characters - tail - 5]}\n...\n{text[-tail:]}"
