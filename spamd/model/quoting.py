"""What a reply quotes, without what shows that it is a quotation.

Mail programs put a mark before each line that is quoted, and a line above that names who wrote it. Real spam is seldom quoted, so
that both speak for ham; but whoever writes spam can write them too. What the reply says for itself stays. Called by `ngrams`.
"""

import re

WROTE = (
    *("wrote", "writes", "schrieb", "schrieben", "schreef", "schrijft", "skrev", "skrifaði", "kirjoitti", "írta", "yazd\u0131"),
    *("escribió", "escreveu", "scritto", "écrit", "scris", "escrigué", "pisze", "napisał", "napisała", "napsal", "napsala"),
    *("napísal", "napísala", "написал", "написала", "пишет", "пише", "написав", "έγραψε", "menulis", "viết", "작성"),
)
"""What such lines say before their colon, in the languages of common mail programs."""
WROTE_WITHIN_WORDS = ("写道", "寫道", "写了", "書きました", "のメール", "כתב", "كتب")
"""The same, where words are not set apart, or have beginnings and ends of their own."""

_MARKS = re.compile(r"^(?:> ?)+", re.MULTILINE)
_BEFORE_COLON = re.compile(r"^[^\n]{1,240}[:\uff1a][ \t]*$", re.MULTILINE)
_WROTE = re.compile(rf"(?:(?<!\w)(?:{'|'.join(WROTE)})(?!\w)|{'|'.join(WROTE_WITHIN_WORDS)})[^:\uff1a]{{0,60}}[:\uff1a][ \t]*$")


def unquoted(text: str) -> str:
    """Leave out the marks before quoted lines, and the lines that say who wrote what follows.

    Args:
        text: any text.

    Returns:
        The rest; where nothing was quoted, the text. Linear time.
    """
    return _BEFORE_COLON.sub(lambda line: "" if _WROTE.search(line[0]) else line[0], _MARKS.sub("", text))
