"""A linear scan of HTML's tags: how deep a page nests, and its text where a tree would cost too much.

A tree builder takes quadratic time and memory on pages made for that (deep nesting, unclosed `<font>` before each `<p>`, a tag of
a hundred thousand attributes). One pass tells beforehand, and strips such pages itself. It follows the tokenizer of the HTML
standard to the letter, so that nothing can be hidden from it. Of the tree builder it knows which closing tags close something,
and errs on the deep side where that depends; a last limit on the number of tags bounds what it may have missed. Called by `html`.
"""

import html
import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_NESTING = 1_000
_MAX_REOPENED = 200_000
_MAX_CLIMBED = 20_000_000
_MAX_COPIED = 1_000_000
"""Attributes, and fifties of characters, that reopened tags bring anew: some 150 bytes each."""

_MAX_WEIGHT = 10_000
"""As many attributes a tag may have: each is compared with all before it."""

_SEPARATORS = " \t\n\f\r/\"'"
_SAFE_TAGS = 1_000
_MAX_TAGS = 15_000
_LOOK_BELOW = 100

_TAG = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))"
    r"|<(/?)([a-zA-Z][^\t\n\f\r />]*+)"
    r"(?:[\t\n\f\r /]*+[^\t\n\f\r />][^\t\n\f\r />=]*+"
    r"(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z)|[^\t\n\f\r >\"'][^\t\n\f\r >]*+|(?=>)|\Z))?+)*+"
    r"[\t\n\f\r /]*+>?+"
    r"|<[!?/][^>]*+>?+",
    re.DOTALL,
)
_OPENING = re.compile(r"<[a-zA-Z]")
_RAW_TEXT = {
    name: re.compile(rf"</{name}(?=[\t\n\f\r />])", re.IGNORECASE | re.ASCII)
    for name in ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")
}
_SCRIPT_IN_SCRIPT = re.compile(r"<script", re.IGNORECASE | re.ASCII)
_UNSEEN = frozenset({"script", "style", "title", "iframe", "noembed", "noframes"})
_OTHER_RULES = frozenset({"svg", "math", "frameset"})
_VOID = frozenset(str.split("area base br col embed hr img input link meta param source track wbr basefont bgsound frame keygen"))
# Open once or never, or closed by the next of their kind: their own nesting comes with that of other elements.
_UNCOUNTED = _VOID | frozenset(str.split("html head body p li dd dt option optgroup tr td th tbody thead tfoot colgroup caption"))
_FORMATTING = frozenset(str.split("a b big code em font i nobr s small strike strong tt u"))
_BARRIERS = frozenset(str.split("applet button marquee object select table template"))
BLOCKS = frozenset(
    str.split(
        """address article aside blockquote body br button caption center dd details dialog dir div dl dt fieldset figcaption
        figure footer form h1 h2 h3 h4 h5 h6 head header hr html legend li main menu nav ol optgroup option p pre section
        select summary table tbody tfoot thead title tr ul"""
    )
)
# Closing tags of these reach through any open element but a barrier, all others only to the nearest block.
_REACHING = BLOCKS | _BARRIERS | frozenset(str.split("hgroup listing search"))
_SPECIAL = (
    BLOCKS | _BARRIERS | frozenset(str.split("frameset hgroup iframe listing noembed noframes noscript plaintext search xmp"))
)


class _Open(NamedTuple):
    """An element that is open: how many uncounted ones were opened before it, and what it weighs where it is formatting."""

    name: str
    uncounted: int
    weight: int


def _tags(source: str) -> Iterator[tuple[int, int, str, bool]]:
    """Yield start, end, lower-case name (empty for comments and such) and whether it closes, for each tag.

    The inside of `<script>` and its like is passed over as browsers do.
    """
    position = 0
    while match := _TAG.search(source, position):
        position = match.end()
        name = match[2] or ""
        name = name.lower() if name.isascii() else name
        yield match.start(), position, name, bool(match[1])
        if name in _RAW_TEXT and not match[1]:
            end = _RAW_TEXT[name].search(source, position)
            position = end.start() if end else len(source)


def is_tame(source: str) -> bool:
    """Whether a tree of this page costs no more than its length suggests."""
    num_tags, weight = sum(1 for _ in _OPENING.finditer(source)), _weigh(source)
    is_small = num_tags <= _SAFE_TAGS
    if num_tags > _MAX_TAGS or (is_small and weight <= _MAX_WEIGHT and num_tags * weight <= _MAX_COPIED):
        return is_small
    if any(_weigh(source[start:end]) > _MAX_WEIGHT for start, end, _, _ in _tags(source)):
        return False
    reopened = copied = climbed = 0
    for depth, formatting, brought in _nesting(source):
        reopened += formatting
        copied += brought
        climbed += depth
        if copied > _MAX_COPIED or depth > MAX_NESTING or (not is_small and (reopened > _MAX_REOPENED or climbed > _MAX_CLIMBED)):
            return False
    return True


def _weigh(source: str) -> int:
    """How many attributes the tags of a source may have at most, and their lengths."""
    return 1 + sum(map(source.count, _SEPARATORS)) + len(source) // 50


def _nesting(source: str) -> Iterator[tuple[int, int, int]]:
    """Yield, for each tag, how many elements are open at most behind it, how many of them it reopens, and what these weigh.

    Counts a page that switches to other rules of parsing as too deep: foreign content, frames, scripts in scripts, raw
    text in a select.
    """
    is_open: list[_Open] = []
    formatting = weight = uncounted = 0
    for start, end, name, closes in _tags(source):
        if not closes and _changes_the_rules(source, end, name, is_open):
            yield MAX_NESTING + 1, 0, 0
            return
        if name in _UNCOUNTED:
            uncounted += name not in _VOID
        elif name and not closes:
            is_formatting = name in _FORMATTING
            is_open.append(_Open(name, uncounted, _weigh(source[start:end]) if is_formatting else 0))
            formatting, weight = formatting + is_formatting, weight + is_open[-1].weight
        elif name and (closed := _close(is_open, name, uncounted)):
            formatting, weight = formatting - (name in _FORMATTING), weight - closed.weight
        yield (len(is_open), 0, 0) if closes else (len(is_open), formatting, weight)


def _changes_the_rules(source: str, end: int, name: str, is_open: list[_Open]) -> bool:
    """Whether what follows an opening tag is parsed in a way that is not followed here."""
    if name in _OTHER_RULES:
        return True
    if name not in _RAW_TEXT:
        return False
    closing = _RAW_TEXT[name].search(source, end)
    content_end = closing.start() if closing else len(source)
    return any(element.name == "select" for element in is_open) or (
        name == "script" and _SCRIPT_IN_SCRIPT.search(source, end, content_end) is not None
    )


def _close(is_open: list[_Open], name: str, uncounted: int) -> _Open | None:
    """Take out the element that a closing tag surely closes, if any; what stands above it stays, for it may come again.

    Args:
        is_open: open elements.
        name: name of the closing tag.
        uncounted: number of uncounted elements opened by now.
    """
    for index in range(len(is_open) - 1, max(len(is_open) - _LOOK_BELOW, 0) - 1, -1):
        found, before, _ = is_open[index]
        if found == name:
            # Of a form only the element's place among the open ones would go, not what was put inside it.
            is_kept = name == "form" and index < len(is_open) - 1
            if is_kept or (name not in _REACHING and name not in _FORMATTING and before != uncounted):
                break
            return is_open.pop(index)
        if found in _BARRIERS or (name not in _REACHING and found in _SPECIAL):
            break
    return None


def strip_tags(source: str) -> str:
    """Take the tags out of a page, with a line end where a block begins or ends."""
    pieces: list[str] = []
    position = 0
    for start, end, name, closes in _tags(source):
        if start > position:
            pieces.append(source[position:start])
        position = end
        if name in BLOCKS:
            pieces.append("\n")
        if name in _UNSEEN and not closes:
            closing = _RAW_TEXT[name].search(source, end)
            position = closing.start() if closing else len(source)
    pieces.append(source[position:])
    text = "".join(pieces)
    try:
        return html.unescape(text)
    except ValueError:
        # A character reference with thousands of digits.
        return text
