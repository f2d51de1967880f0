"""A linear scan of HTML's tags: how deep a page nests, and its text where a tree would cost too much.

A tree builder takes quadratic time and memory on pages made for that (deep nesting, unclosed `<font>` before each `<p>`); this
one pass tells beforehand, and strips such pages itself. Called by `html`.
"""

import html
import re
from collections import Counter
from collections.abc import Iterator

MAX_NESTING = 1_000
_MAX_REOPENED = 200_000
_MAX_CLIMBED = 20_000_000
_SAFE_TAGS = 1_000

_TAG = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))"
    r"|<(/?)([a-zA-Z][^\s/>]*+)((?>=\s*+(?:\"[^\"]*+\"?+|'[^']*+'?+)|[^>])*+)>?+"
    r"|<[!?/][^>]*+>?+",
    re.DOTALL,
)
_OPENING = re.compile(r"<[a-zA-Z]")
_RAW_TEXT = frozenset({"script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"})
_UNSEEN = frozenset({"script", "style", "title", "iframe", "noembed", "noframes"})
_VOID = frozenset(
    str.split("""area base br col embed hr img input link meta param source track wbr basefont bgsound frame keygen""")
)
_FORMATTING = frozenset(str.split("a b big code em font i nobr s small strike strong tt u"))
_CLOSED_BY_OTHERS = frozenset(str.split("p li dd dt option optgroup tr td th tbody thead tfoot colgroup"))
BLOCKS = frozenset(
    str.split(
        """address article aside blockquote body br button caption center dd details dialog dir div dl dt fieldset figcaption
        figure footer form h1 h2 h3 h4 h5 h6 head header hr html legend li main menu nav ol optgroup option p pre section
        select summary table tbody tfoot thead title tr ul"""
    )
)


def _tags(source: str) -> Iterator[tuple[int, int, str, bool]]:
    """Yield start, end, lower-case name (empty for comments and such) and whether it closes, for each tag.

    The inside of `<script>` and its like is passed over as browsers do.
    """
    position = 0
    while match := _TAG.search(source, position):
        position = match.end()
        name = (match[2] or "").lower()
        yield match.start(), position, name, bool(match[1])
        if name in _RAW_TEXT and not match[1]:
            end = re.compile(f"</{name}", re.IGNORECASE).search(source, position)
            position = end.start() if end else len(source)


def is_tame(source: str) -> bool:
    """Whether a tree of this page costs no more than its length suggests."""
    if sum(1 for _ in _OPENING.finditer(source)) <= _SAFE_TAGS:
        return True
    is_open: Counter[str] = Counter()
    depth = formatting = reopened = climbed = 0
    for _, _, name, closes in _tags(source):
        if not name or name in _VOID:
            continue
        if not closes:
            is_open[name] += 1
            depth += name not in _CLOSED_BY_OTHERS
            formatting += name in _FORMATTING
            reopened += formatting
        elif is_open[name]:
            is_open[name] -= 1
            depth -= name not in _CLOSED_BY_OTHERS
            formatting -= name in _FORMATTING
        climbed += depth
        if depth > MAX_NESTING or reopened > _MAX_REOPENED or climbed > _MAX_CLIMBED:
            return False
    return True


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
            closing = re.compile(f"</{name}", re.IGNORECASE).search(source, end)
            position = closing.start() if closing else len(source)
    pieces.append(source[position:])
    text = "".join(pieces)
    try:
        return html.unescape(text)
    except ValueError:
        # A character reference with thousands of digits.
        return text
