"""HTML to the text that its reader sees.

Leaves out what is hidden (no display, no size, no opacity, letters in the colour of their ground, comments, scripts) but
counts it; keeps line ends where blocks begin; notes links that show one host and lead to another. Fetches nothing, runs nothing,
knows no cascade. Called by `text`. Security: the page is hostile; `tags` refuses pages that would cost a tree builder quadratic
time, and those are stripped of their tags in one pass instead.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from spamd.mail.links import host_of, is_same_site, shown_host
from spamd.mail.styles import MAX_STYLE, Look, is_same_colour, read_colour, read_sheet, read_style
from spamd.mail.tags import BLOCKS, is_tame, strip_tags

MAX_SOURCE = 400_000
"""Characters of a page that are read."""

_MAX_HIDDEN = 5_000
_MAX_HIDDEN_PIECES = 50
_UNSEEN = frozenset(
    str.split("""script style head title template noscript object applet svg math iframe map datalist video audio""")
)
_CELLS = frozenset({"td", "th"})
_SPACES = re.compile(r"[ \t\n\f\r]+")
_BULK = re.compile(r"<!--.*?(?:-->|\Z)|<(style|script)\b.*?(?:</\1[^>]*+>?|\Z)", re.IGNORECASE | re.DOTALL)


@dataclass(slots=True)
class Page:
    """What a reader sees of a page.

    Attributes:
        text: the visible text; lines stand where blocks do.
        num_hidden: characters that the page holds and its reader does not see.
        hidden: the first of those characters.
        num_images: pictures that are not hidden.
        links: (host shown, host behind it) of links that show another host than they lead to, in order, each once.
        is_stripped: whether the page was too wild for a tree.
    """

    text: str
    num_hidden: int = 0
    num_images: int = 0
    hidden: list[str] = field(default_factory=list)
    links: dict[tuple[str, str], None] = field(default_factory=dict)
    is_stripped: bool = False


@dataclass(frozen=True, slots=True)
class _Style:
    """How letters look at one place of the page: what an element takes over from its parent."""

    is_visible: bool = True
    is_tiny: bool = False
    is_preformatted: bool = False
    colour: int | None = None
    ground: int = 0xFFFFFF

    @property
    def is_seen(self) -> bool:
        """Whether letters can be seen here."""
        if self.colour is None or self.ground < 0:
            return self.is_visible and not self.is_tiny
        return self.is_visible and not self.is_tiny and not is_same_colour(self.colour, self.ground)


def read_page(source: str) -> Page:
    """Read the visible text of a page of HTML.

    Args:
        source: the page; of a longer one the first `MAX_SOURCE` characters without comments, scripts and style sheets.

    Returns:
        What its reader sees. Never raises.
    """
    if len(source) > MAX_SOURCE:
        source = _BULK.sub("", source)[:MAX_SOURCE]
    if not is_tame(source):
        return Page(strip_tags(source), is_stripped=True)
    root = LexborHTMLParser(source).root
    if root is None:
        return Page("")
    return _Reader(_rules(root)).read(root)


def _rules(root: LexborNode) -> dict[str, Look]:
    """Read the class and id rules of all `<style>` elements."""
    rules: dict[str, Look] = {}
    for sheet in root.css("style")[:10]:
        rules.update(read_sheet(sheet.text(deep=True)))
    return rules


class _Reader:
    """Walks one page from first node to last without recursion."""

    def __init__(self, rules: Mapping[str, Look]) -> None:
        self.rules = rules
        self.page = Page("")
        self.pieces: list[str] = []

    def read(self, root: LexborNode) -> Page:
        """Walk the tree; a stack holds nodes to enter and, as strings and links, what to do on leaving one."""
        stack: list[tuple[LexborNode | None, _Style, object]] = [(root, _Style(), None)]
        while stack:
            node, style, leaving = stack.pop()
            if node is None:
                self._leave(leaving)
                continue
            if node.next is not None:
                stack.append((node.next, style, None))
            if node.is_text_node:
                self._add_text(node.text_content or "", style)
            elif node.is_element_node:
                self._enter(node, style, stack)
        self.page.text = "".join(self.pieces)
        return self.page

    def _enter(self, node: LexborNode, style: _Style, stack: list[tuple[LexborNode | None, _Style, object]]) -> None:
        """Open one element: skip it if nobody sees it, else queue its end and its children."""
        tag = node.tag or ""
        if tag in _UNSEEN:
            return
        attributes = node.attributes
        if attributes:
            looks = self._looks(attributes)
            if "hidden" in attributes or any(look.is_hidden for look in looks):
                self._hide(node.text(deep=True, separator=" "))
                return
            style = _inherit(style, looks)
        if tag == "pre":
            style = _inherit(style, [], is_preformatted=True)
        self._open(tag, attributes, style)
        leaving: object = "\n" if tag in BLOCKS else " " if tag in _CELLS else None
        if tag == "a" and attributes.get("href"):
            leaving = (len(self.pieces), host_of(attributes["href"] or ""))
        if node.child is not None:
            if leaving is not None:
                stack.append((None, style, leaving))
            stack.append((node.child, style, None))

    def _open(self, tag: str, attributes: Mapping[str, str | None], style: _Style) -> None:
        """Write what stands where an element begins."""
        if tag in BLOCKS:
            self.pieces.append("\n- " if tag == "li" else "\n")
        elif tag in _CELLS:
            self.pieces.append(" ")
        elif tag == "img":
            # A picture covers its ground, so that the colour of its text tells nothing.
            if style.is_visible and not style.is_tiny:
                self.page.num_images += 1
                self.pieces.append(f" {_SPACES.sub(' ', attributes.get('alt') or '')} ")
        elif tag == "input" and attributes.get("type") in {"submit", "button"}:
            self._add_text(f" {attributes.get('value') or ''} ", style)

    def _looks(self, attributes: Mapping[str, str | None]) -> list[Look]:
        """Collect what attributes, classes and inline style say about an element, the strongest last."""
        looks: list[Look] = []
        if ground := attributes.get("background") or attributes.get("bgcolor"):
            looks.append(Look(ground=-1 if attributes.get("background") else read_colour(ground)))
        if colour := attributes.get("color") or attributes.get("text"):
            looks.append(Look(colour=read_colour(colour)))
        if self.rules:
            names = [f".{name}" for name in (attributes.get("class") or "").lower().split()]
            looks += [self.rules[name] for name in [*names, f"#{(attributes.get('id') or '').lower()}"] if name in self.rules]
        if style := attributes.get("style"):
            looks.append(read_style(style[:MAX_STYLE]))
        return looks

    def _leave(self, leaving: object) -> None:
        """Close one element: end its line, or compare a link's text with where it leads."""
        if isinstance(leaving, str):
            self.pieces.append(leaving)
        elif isinstance(leaving, tuple):
            start, host = leaving
            shown = shown_host("".join(self.pieces[start : start + 20])[:200])
            if shown and host and not is_same_site(shown, host):
                self.page.links.setdefault((shown, host))

    def _add_text(self, text: str, style: _Style) -> None:
        """Write a text if it can be seen, count it if not."""
        if not style.is_seen:
            self._hide(text)
            return
        self.pieces.append(text if style.is_preformatted else _SPACES.sub(" ", text))

    def _hide(self, text: str) -> None:
        """Count a text that nobody sees."""
        text = text.strip()
        self.page.num_hidden += len(text)
        if text and len(self.page.hidden) < _MAX_HIDDEN_PIECES:
            self.page.hidden.append(text[:_MAX_HIDDEN])


def _inherit(style: _Style, looks: list[Look], *, is_preformatted: bool | None = None) -> _Style:
    """Put what an element says over what it takes from its parent."""
    visible, tiny, colour, ground = style.is_visible, style.is_tiny, style.colour, style.ground
    for look in looks:
        visible = visible if look.is_visible is None else look.is_visible
        tiny = tiny if look.is_tiny is None else look.is_tiny
        colour = colour if look.colour is None else look.colour
        ground = ground if look.ground is None else look.ground
    preformatted = style.is_preformatted if is_preformatted is None else is_preformatted
    return _Style(visible, tiny, preformatted, colour, ground)
