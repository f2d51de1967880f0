"""A linear scan of HTML's tags: how deep a page nests, and its text where a tree would cost too much.

A tree builder takes quadratic time and memory on pages made for that (deep nesting, unclosed `<font>` before each `<p>`). One
pass tells beforehand, and strips such pages itself. It follows the tokenizer of the HTML standard to the letter, so that nothing
can be hidden from it. Of the tree builder it knows which closing tags close something, and errs on the deep side where that
depends; a last limit on the number of tags bounds what it may have missed. Called by `html`.
"""

import html
import re
from collections.abc import Iterator

MAX_NESTING = 1_000
_MAX_REOPENED = 200_000
_MAX_CLIMBED = 20_000_000
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
    num_tags = sum(1 for _ in _OPENING.finditer(source))
    if num_tags <= _SAFE_TAGS or num_tags > _MAX_TAGS:
        return num_tags <= _SAFE_TAGS
    reopened = climbed = 0
    for depth, formatting in _nesting(source):
        reopened += formatting
        climbed += depth
        if depth > MAX_NESTING or reopened > _MAX_REOPENED or climbed > _MAX_CLIMBED:
            return False
    return True


def _nesting(source: str) -> Iterator[tuple[int, int]]:
    """Yield, for each tag, how many elements are open at most behind it, and how many of them are formatting.

    Counts a page that switches to other rules of parsing as too deep: foreign content, frames, scripts in scripts, raw
    text in a select.
    """
    is_open: list[tuple[str, int]] = []
    formatting = uncounted = 0
    for _, end, name, closes in _tags(source):
        if not closes and _changes_the_rules(source, end, name, is_open):
            yield MAX_NESTING + 1, 0
            return
        if name in _UNCOUNTED:
            uncounted += name not in _VOID
        elif name and not closes:
            is_open.append((name, uncounted))
            formatting += name in _FORMATTING
        elif name:
            formatting -= _close(is_open, name, uncounted) and name in _FORMATTING
        yield len(is_open), formatting if not closes else 0


def _changes_the_rules(source: str, end: int, name: str, is_open: list[tuple[str, int]]) -> bool:
    """Whether what follows an opening tag is parsed in a way that is not followed here."""
    if name in _OTHER_RULES:
        return True
    if name not in _RAW_TEXT:
        return False
    closing = _RAW_TEXT[name].search(source, end)
    content_end = closing.start() if closing else len(source)
    return any(open_name == "select" for open_name, _ in is_open) or (
        name == "script" and _SCRIPT_IN_SCRIPT.search(source, end, content_end) is not None
    )


def _close(is_open: list[tuple[str, int]], name: str, uncounted: int) -> bool:
    """Take out the element that a closing tag surely closes, if any; what stands above it stays, for it may come again.

    Args:
        is_open: names of open elements, each with the number of uncounted ones opened before it.
        name: name of the closing tag.
        uncounted: number of uncounted elements opened by now.
    """
    for index in range(len(is_open) - 1, max(len(is_open) - _LOOK_BELOW, 0) - 1, -1):
        found, before = is_open[index]
        if found == name:
            # Of a form only the element's place among the open ones would go, not what was put inside it.
            is_kept = name == "form" and index < len(is_open) - 1
            if is_kept or (name not in _REACHING and name not in _FORMATTING and before != uncounted):
                break
            del is_open[index]
            return True
        if found in _BARRIERS or (name not in _REACHING and found in _SPECIAL):
            break
    return False


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
