"""Words whose letters are set apart (`f r e e`) or played by figures (`fr33`), spelled as their reader reads them.

Figures play Latin letters alone; letters set apart may be of any alphabet. Lookalikes and invisible characters are gone before,
in `mail.wording`. Called by `ngrams`, whose table would know none of these words.
"""

import re

FIGURES = "013457"
"""Figures that play letters: `LETTERS`, in this order."""
LETTERS = "oieast"

_FEW = 3
_APART = re.compile(r"(?<!\w)[^\W\d_]([ .*_-])[^\W\d_](?:\1[^\W\d_])+(?!\w)")
_HINT_OF_APART = re.compile(r"([ .*_-])[^\W\d_]\1[^\W\d_](?!\w)")
"""What such a run ends with; a text is sooner searched for it than for a letter that may begin one."""
_BETWEEN = re.compile(rf"[{FIGURES}](?:(?<=[A-Za-z].)[{FIGURES}]*[A-Za-z]|[A-Za-z]+[{FIGURES}])")
_MIXED = re.compile(rf"(?<![^\W_])(?=[A-Za-z]*[{FIGURES}])[A-Za-z{FIGURES}]{{3,20}}(?![^\W_])")
_TO_LETTERS = str.maketrans(FIGURES, LETTERS)


def spelled(text: str) -> str:
    """Undo both disguises.

    A figure between letters plays a letter. One at the end of a word may be a figure (`mp3`, `5pm`), and is taken for a letter
    only where several words of the text are disguised.

    Args:
        text: any text.

    Returns:
        The text with such words spelled; most texts have none and stay as they are. Linear time.
    """
    if _HINT_OF_APART.search(text):
        text = _APART.sub(lambda match: match[0].replace(match[1], ""), text)
    if not _BETWEEN.search(text):
        return text
    is_few = sum(1 for word in _MIXED.findall(text) if _BETWEEN.search(word)) < _FEW

    def spell(match: re.Match[str]) -> str:
        word = match[0]
        if word.isdigit() or (is_few and not _BETWEEN.search(word)):
            return word
        plain = word.translate(_TO_LETTERS)
        return plain.upper() if word.isupper() else plain

    return _MIXED.sub(spell, text)
