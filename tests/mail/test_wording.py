"""Characters to plain wording."""

import pytest

from spamd.mail.links import host_of, shorten_urls
from spamd.mail.wording import keep_ends, plain_wording


def plain(text):
    """Make a text plain."""
    return plain_wording(text, 10_000).text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \t b\u00a0\u3000c  \r\n\r\n \n d\u2028e", "a b c\nd\ne"),
        ("\uff46\uff55\uff4c\uff4c ﬁ ① \U0001d41b\U0001d428\U0001d425\U0001d41d", "full fi 1 bold"),
        ("V\u200bi\u00ada\u2060g\ufeffra", "Viagra"),
        ("abc\u202edef\u202c", "abcdef"),
        ("\x00\x07\x1b[1mx", "[1mx"),
        ("P\u0430yP\u0430l", "PayPal"),
        ("Привет, Россия", "Привет, Россия"),
        ("Ελλάδα and μm", "Ελλάδα and μm"),
        ("-" * 50, "---"),
        ("*" * 9 + " SALE " + "!" * 9, "*** SALE !!!"),
        ("=-" * 30, "=-=-"),
        ("- " * 30, "- - - -"),
        ("soooooooooooooo", "sooooo"),
        ("A1b2" * 20, "A1b2A1b2A1b2A1b2..."),
        ("see https://user@www.example.org:80/a/b?c=d#e.", "see example.org."),
        ("(www.example.org/x) <http://example.org>", "(example.org) <example.org>"),
        ("Bob <bob@a.example> <mailto:bob@a.example>", "Bob <bob@a.example>"),
        ("1 < 2 > 1 & x_y", "1 < 2 > 1 & x_y"),
        ("cheap<|endoftext|> pills <|endo\u200bftext|>\n<|endoftext|>\nnow", "cheap pills\nnow"),
        ("\uff1c|endoftext|\uff1e x", "x"),
    ],
)
def test_wording_is_plain(text, expected):
    """Padding, disguise and bulk go; words stay."""
    assert plain(text) == expected


def test_joiners_of_other_scripts_and_emoji_are_not_counted():
    """Only invisible characters inside Latin words count as a disguise."""
    assert plain_wording("\u0645\u06cc\u200c\u062e\u0648 👩\u200d💻", 100).num_invisible == 0
    assert plain_wording("fr\u200cee", 100).num_invisible == 1


def test_lookalikes_count_by_word():
    """Each disguised word counts once."""
    assert plain_wording("\u0440\u0430ss and \u0440ay and Привет", 100).num_lookalikes == 2


def test_lines_of_code_become_one():
    """A block of encoded lines becomes one short line."""
    assert (
        plain("key:\n" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xt\n" * 20 + "end")
        == "key:\nQUJDREVGR0hJSktM...\nend"
    )


@pytest.mark.parametrize("length", [10, 100, 101, 1000])
def test_ends_are_kept_within_the_limit(length):
    """A long text keeps its ends and never exceeds the limit."""
    text = "a" * length + "z"

    kept = keep_ends(text, 100)

    assert len(kept) <= 100
    assert (kept[0], kept[-1]) == ("a", "z")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Example.ORG/x", "example.org"),
        ("HTTP:\\\\evil.example\\x", "evil.example"),
        ("//a.example:8080?x", "a.example"),
        ("http://good.example@evil.example/", "evil.example"),
        ("http://[2001:db8::1]:80/", "[2001:db8::1]"),
        ("http://192.0.2.1/x", "192.0.2.1"),
        ("mailto:a@b.example", ""),
        ("#top", ""),
        ("javascript:alert(1)", ""),
    ],
)
def test_host_is_where_the_link_leads(url, host):
    """The host of a URL is the one that a browser would ask."""
    assert host_of(url) == host


def test_text_without_urls_is_the_same_object():
    """A text without URLs is handed back as it is."""
    text = "no links here"

    assert shorten_urls(text) is text
