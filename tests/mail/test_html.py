"""HTML to what its reader sees."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spamd.mail.html import MAX_SOURCE, read_page


def words(source):
    """Read a page as one line."""
    return " ".join(read_page(source).text.split())


@pytest.mark.parametrize(
    "source",
    [
        '<p style="display:none">no</p>',
        '<p style="DISPLAY : NONE !important">no</p>',
        "<p hidden>no</p>",
        '<p style="visibility:hidden">no</p>',
        '<p style="opacity:0">no</p>',
        '<p style="font-size:0">no</p>',
        '<p style="font-size:1px">no</p>',
        '<p style="height:0;overflow:hidden">no</p>',
        '<p style="text-indent:-9999px">no</p>',
        '<p style="position:absolute;left:-5000px">no</p>',
        '<font color="white">no</font>',
        '<body bgcolor="#000"><font color="#010101">no</font></body>',
        '<div style="background:#fafafa;color:rgb(250, 250, 250)">no</div>',
        '<div style="color:#fff"><b><i>no</i></b></div>',
        "<style>.x{display:none}</style><p class='y x'>no</p>",
        "<style>#x{font-size:0}</style><p id=x>no</p>",
        "<style>p.a, .b{visibility:hidden}</style><p class=b>no</p>",
        "<!-- no -->",
        "<!--[if mso]>no<![endif]-->",
        "<script>no</script>",
        "<style>no</style>",
        "<title>no</title>",
        "<template>no</template>",
        "<noscript>no</noscript>",
    ],
)
def test_hidden_text_is_left_out(source):
    """What a reader cannot see is not read."""
    assert words(f"<p>one</p>{source}<p>two</p>") == "one two"


@pytest.mark.parametrize(
    "source",
    [
        '<p style="font-size:0"><b style="font-size:12px">yes</b></p>',
        '<p style="visibility:hidden"><b style="visibility:visible">yes</b></p>',
        '<p style="height:0">yes</p>',
        '<table bgcolor="red"><tr><td><font color="white">yes</font></table>',
        '<table background="x.png"><tr><td><font color="white">yes</font></table>',
        '<div style="background:url(x.png) #fff;color:#fff">yes</div>',
        '<body bgcolor="#000000">yes</body>',
        '<p style="color:inherit">yes</p>',
        "<style>@media (max-width:600px){.x{display:none}}</style><p class=x>yes</p>",
        "<style>.x .y{display:none}</style><p class=y>yes</p>",
        "<!--[if !mso]><!-->yes<!--<![endif]-->",
        '<p style="color:">yes</p>',
        '<img alt="yes">',
        '<input type=submit value="yes">',
    ],
)
def test_visible_text_is_read(source):
    """What a reader sees is read, however odd its style."""
    assert words(f"<p>one</p>{source}<p>two</p>") == "one yes two"


def test_blocks_end_lines_and_inline_elements_do_not():
    """Lines stand where blocks do; letters apart only by inline tags stay together."""
    page = read_page("<h1>Top</h1><p>V<b>ia</b>gr<!-- x -->a<br>now</p><table><tr><td>a<td>b<tr><td>c</table><ul><li>x</ul>")

    lines = [" ".join(line.split()) for line in page.text.split("\n")]

    assert [line for line in lines if line] == ["Top", "Viagra", "now", "a b", "c", "- x"]


def test_preformatted_lines_stay():
    """Lines of <pre> are lines."""
    assert [line for line in read_page("<pre>a\nb</pre>c\nd").text.split("\n") if line] == ["a", "b", "c d"]


@pytest.mark.parametrize(
    ("source", "links"),
    [
        ('<a href="http://evil.example/x">http://bank.example/y</a>', [("bank.example", "evil.example")]),
        ('<a href="http://bank.example@evil.example">bank.example</a>', [("bank.example", "evil.example")]),
        ('<a href="//evil.example:8080">www.<b>bank.example</b></a>', [("bank.example", "evil.example")]),
        ('<a href="https://mail.bank.example/">https://www.bank.example</a>', []),
        ('<a href="https://a.co.uk/">b.co.uk</a>', [("b.co.uk", "a.co.uk")]),
        ('<a href="http://evil.example">Click bank.example now</a>', []),
        ('<a href="http://evil.example">notes.txt</a>', []),
        ('<a href="mailto:x@evil.example">bank.example</a>', []),
        ('<a href="">bank.example</a>', []),
        ("<a>bank.example</a>", []),
    ],
)
def test_links_that_lead_elsewhere_are_noted(source, links):
    """A link whose text is an address of another site is noted, others are not."""
    assert list(read_page(source).links) == links


def test_wild_page_is_stripped():
    """A page nested too deeply for a tree still gives its text."""
    page = read_page("<div>" * 5000 + "<p>deep &amp; down<script>no</script><style>no</style></p>")

    assert page.is_stripped
    assert page.text.split() == ["deep", "&", "down"]


def test_bulk_before_the_text_hides_nothing():
    """Comments and style sheets longer than the limit are skipped, not read instead of the text."""
    assert words(f"<!--{'x' * MAX_SOURCE}--><style>{'y' * MAX_SOURCE}</style><p>here</p>") == "here"


@settings(deadline=None)
@given(st.text(alphabet="<>/!-=\"' abpdivstyle&#;x\n", max_size=200))
def test_any_page_is_read(source):
    """Nothing that looks like HTML raises."""
    assert isinstance(read_page(source).text, str)
