"""What CSS says about being seen: which declarations hide an element, and which colours letters and ground have.

Reads inline styles and the plain class and id rules of `<style>` elements; no cascade, no media queries (rules for small
screens do not apply). Called by `html`, once for each distinct style text.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

MAX_STYLE = 2_000
"""Characters of one style that are read; `read_style` keeps what it was given."""

_MAX_SHEET = 65_536

_BRACE = re.compile(r"([{}])")
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)|<!--|-->", re.DOTALL)
_SELECTOR = re.compile(r"[a-z0-9]*([.#][\w-]+)")
_NUMBER = re.compile(r"\s*(-?\d{0,6}\.?\d{0,6})\s*(px|pt|em|rem|%)?")
_RGB = re.compile(r"rgba?\(\s*(\d{1,3})\D{1,4}(\d{1,3})\D{1,4}(\d{1,3})")
_HEX = re.compile(r"#([0-9a-f]{6}|[0-9a-f]{3})\b")
_NAMED = {"white": 0xFFFFFF, "black": 0x000000, "red": 0xFF0000, "blue": 0x0000FF, "green": 0x008000, "yellow": 0xFFFF00}
_NAMED |= {"gray": 0x808080, "grey": 0x808080, "silver": 0xC0C0C0, "snow": 0xFFFAFA, "ivory": 0xFFFFF0}
_TINY_PIXELS = 1.0
_OUTSIDE_PIXELS = -900.0


@dataclass(frozen=True, slots=True)
class Look:
    """What one style says.

    Attributes:
        is_hidden: the element and all it holds cannot be seen.
        is_visible: value of `visibility`, None where the style is silent; children may set it anew.
        is_tiny: whether letters have no size, None where the style is silent; children may set it anew.
        colour: colour of the letters as 0xRRGGBB, or None.
        ground: colour behind them, -1 where it is a picture, or None.
    """

    is_hidden: bool = False
    is_visible: bool | None = None
    is_tiny: bool | None = None
    colour: int | None = None
    ground: int | None = None


@lru_cache(maxsize=4096)
def read_style(style: str) -> Look:
    """Read the declarations of one `style` attribute, of which callers cut what is too long."""
    declared: dict[str, str] = {}
    for declaration in style.lower().split(";"):
        name, _, value = declaration.partition(":")
        declared[name.strip()] = value.strip()
    font_size = _pixels(declared.get("font-size", ""))
    ground = declared.get("background-color") or declared.get("background", "")
    visibility = declared.get("visibility")
    return Look(
        is_hidden=_is_hidden(declared),
        is_visible=None if visibility is None else not visibility.startswith(("hidden", "collapse")),
        is_tiny=None if font_size is None else font_size <= _TINY_PIXELS,
        colour=read_colour(declared.get("color", "")),
        ground=-1 if "url(" in declared.get("background", "") or "background-image" in declared else read_colour(ground),
    )


def _is_hidden(declared: dict[str, str]) -> bool:
    """Whether the declarations put an element out of sight together with its children."""
    if declared.get("display", "").startswith("none") or _pixels(declared.get("opacity", "")) == 0.0:
        return True
    if declared.get("overflow", "").startswith("hidden"):
        sizes = (_pixels(declared.get(name, "")) for name in ("height", "width", "max-height", "max-width"))
        if any(size is not None and size <= _TINY_PIXELS for size in sizes):
            return True
    offsets = (_pixels(declared.get(name, "")) for name in ("left", "top", "text-indent"))
    return any(offset is not None and offset <= _OUTSIDE_PIXELS for offset in offsets)


def _pixels(value: str) -> float | None:
    """Read a length, in pixels as far as smallness goes; None where there is none."""
    match = _NUMBER.match(value)
    if not match or match[1] in {"", "-", ".", "-."}:
        return None
    return float(match[1]) * (16.0 if match[2] in {"em", "rem"} else 1.0)


def read_colour(value: str) -> int | None:
    """Read a colour as 0xRRGGBB; None where it is not a plain one."""
    value = value.strip().lower()
    if match := _HEX.search(value):
        digits = match[1] if len(match[1]) == 6 else "".join(digit * 2 for digit in match[1])  # noqa: PLR2004  six digits
        return int(digits, 16)
    if match := _RGB.match(value):
        red, green, blue = (min(int(part), 255) for part in match.groups())
        return red << 16 | green << 8 | blue
    return _NAMED.get(value.partition(" ")[0])


def is_same_colour(first: int, second: int) -> bool:
    """Whether two colours cannot be told apart by eye."""
    return all(abs((first >> shift & 255) - (second >> shift & 255)) <= 6 for shift in (0, 8, 16))  # noqa: PLR2004  of 255


def read_sheet(sheet: str) -> dict[str, Look]:
    """Read the rules of a style sheet that name one class or id: `.name` or `#name` -> what it says."""
    rules: dict[str, Look] = {}
    selectors: list[str] = []
    depth = 0
    pieces = _BRACE.split(_COMMENT.sub("", sheet[:_MAX_SHEET]).lower())
    for text, brace in zip(pieces[::2], pieces[1::2], strict=False):
        if brace == "{":
            selectors.append(text)
            depth += 1
            continue
        if depth == 1:
            _add_rule(rules, selectors[-1], text)
        if depth:
            depth -= 1
            selectors.pop()
    return rules


def _add_rule(rules: dict[str, Look], selectors: str, declarations: str) -> None:
    """Keep what a rule says for each plain class or id that it names."""
    for selector in selectors.split(",")[:20]:
        match = _SELECTOR.fullmatch(selector.strip())
        if match:
            rules[match[1]] = read_style(declarations[:MAX_STYLE])
