"""The linear scan of HTML's tags."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from spamd.mail import tags
from spamd.mail.tags import MAX_NESTING, is_tame, strip_tags

MANY = MAX_NESTING * 3


@pytest.mark.parametrize(
    "source",
    [
        "<p>" * MANY,
        "<br>" * MANY,
        "<div></div>" * MANY,
        "<table>" + "<tr><td>x</td></tr>" * MANY + "</table>",
        "<ul>" + "<li>x" * MANY,
        "<!--" + "<div>" * MANY + "-->",
        "<script>" + "<div>" * MANY + "</script>",
        '<div a"></div>' * MANY,
        "<font><p>x</p></font>" * MANY,
    ],
)
def test_wide_pages_are_tame(source):
    """Pages that are long but flat are left to the tree builder."""
    assert is_tame(source)


@pytest.mark.parametrize(
    "source",
    [
        "<div>" * MANY,
        "<DIV >" * MANY,
        "<div></x>" * MANY,
        "<div><!--</div>-->" * MANY,
        '<div title="</div>">' * MANY,
        "<div title='></div>'>" * MANY,
        "<div><script></div></script>" * MANY,
        '<div =">' * MANY + '">',
        '<div a==">' * MANY + '">',
        "<div><table></div></table>" * MANY,
        "<div><select></div></select>" * MANY,
        "<form><div></form>" * MANY,
        "<div><textarea></textareax></div></textarea>" * MANY,
        "<div><script><!--<script></script></div>--></script>" * MANY,
        "<svg><style>" + "<g>" * MANY,
        "<svg>" + "<g><![CDATA[></g>]]>" * MANY,
        "<select><style></select>" + "<div>" * MANY,
        "<span><p></span>" * MANY,
        "<lin\u212a>" * MANY,
        "<frameset>" * MANY,
        "".join(f"<p><font size={n}>" for n in range(MANY)),
        "<div>" * (MAX_NESTING - 1) + "<li>" * 20_000,
    ],
)
def test_pages_that_nest_are_not_tame(source):
    """Nesting is seen through closing tags that close nothing: in comments, attributes, scripts, or of other elements."""
    assert not is_tame(source)


def depth_of_tree(source):
    """Measure how deep the counted elements of a page really nest."""
    deepest = 0
    stack = [(LexborHTMLParser(source).root, 0)]
    while stack:
        node, depth = stack.pop()
        if node.next is not None:
            stack.append((node.next, depth))
        depth += node.is_element_node and node.tag not in tags._UNCOUNTED
        deepest = max(deepest, depth)
        if node.child is not None:
            stack.append((node.child, depth))
    return deepest


NAMES = st.sampled_from(
    ["div", "span", "b", "font", "table", "td", "tr", "p", "li", "ul", "a", "form", "button", "h1", "select", "x"]
)
TAGS = st.one_of(NAMES.map("<{}>".format), NAMES.map("</{}>".format), st.sampled_from(["<!--", "-->", "<x a='", "'>", '<x =">']))


@settings(deadline=None, max_examples=500)
@given(st.lists(TAGS, min_size=1, max_size=7).map("".join))
def test_estimate_is_on_the_deep_side(unit):
    """The depth that the scan expects is at least the depth of the tree, give or take what a fixed few tags may add."""
    source = "x" + unit * 12

    assert max((depth for depth, *_ in tags._nesting(source)), default=0) + 6 >= depth_of_tree(source)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a<b>b</b>c", "abc"),
        ("<p>a<p>b", "a b"),
        ("a<script>x</b></script>c<style>y</style>d<title>z", "acd"),
        ("a<!-- > -->b<!-->c--><!--->d-->e", "abc-->d-->e"),
        ("1 < 2 &lt; 3 &amp; &nbsp;4", "1 < 2 < 3 & \xa04"),
        ('<a title="a > b">x</a>', "x"),
        ("<a title='unclosed>x", ""),
        ("a<textarea><b>kept</b></textarea>", "a<b>kept</b>"),
    ],
)
def test_tags_are_stripped(source, expected):
    """The text between tags remains, with line ends for blocks and references resolved."""
    assert " ".join(strip_tags(source).split("\n")).strip() == expected
