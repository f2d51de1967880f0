"""The text that the model reads."""

import re
import resource
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spamd.mail.message import parse_message
from spamd.mail.text import MAX_CHARACTERS, message_text, text_message

MESSAGES = Path(__file__).parent.parent / "messages"
SPECIMENS = sorted(path.stem for path in MESSAGES.glob("*.eml"))
DEFECTS = {
    "bad_content_type": ("bad-type",),
    "base64_garbage": ("charset",),
    "begins_with_empty_line": ("no-header",),
    "begins_with_white_space": ("bad-header",),
    "boundary_not_found": ("multipart-empty",),
    "codec_charset": ("charset",),
    "cp1251_undeclared": ("charset",),
    "iso_2022_jp_undeclared": ("charset",),
    "koi8_r_undeclared": ("charset",),
    "line_without_colon": ("bad-header",),
    "lost_content_type": ("no-boundary",),
    "no_boundary": ("no-boundary",),
    "no_header": ("no-header",),
    "nul_bytes": ("nul",),
    "unclosed_multipart": ("unclosed",),
    "unknown_charset": ("charset",),
}


def specimen(name: str) -> bytes:
    """Read one message of tests/messages."""
    return (MESSAGES / f"{name}.eml").read_bytes()


def page(html: str) -> bytes:
    """Make a message of a page of HTML."""
    return b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html.encode()


@pytest.mark.parametrize("name", SPECIMENS)
def test_specimen_gives_the_text_beside_it(name):
    """Every specimen gives the text that stands beside it, and the defects listed above."""
    text = message_text(specimen(name))

    assert (MESSAGES / f"{name}.txt").read_text(encoding="utf-8") == text.text + "\n"
    assert DEFECTS.get(name, ()) == text.defects


@pytest.mark.parametrize("name", SPECIMENS)
def test_line_ends_change_nothing(name):
    """A message gives the same text whether its lines end in CRLF or LF."""
    raw = specimen(name)

    assert message_text(raw).text == message_text(raw.replace(b"\r\n", b"\n")).text


def test_hidden_and_disguised_characters_are_counted():
    """What a reader does not see is counted beside the text."""
    assert message_text(specimen("hidden_text")).num_hidden > 200
    assert message_text(specimen("zero_width")).num_invisible == 5
    assert message_text(specimen("lookalikes")).num_lookalikes == 7
    assert message_text(specimen("picture_only")).num_images == 2


def test_fields_that_leak_the_class_stay_out():
    """Trace, list and filter fields and the date leave no trace in the text."""
    fields = (
        b"Received: from leak1\nList-Id: leak2\nX-Spam-Status: Yes leak3\nDate: leak4\nX-Mailer: leak5\nTo: leak6@b.example\n"
    )

    text = message_text(b"From leak0@x Mon Jan  1 00:00:00 2026\n" + fields + b"Subject: s\n\nbody").text

    assert text == "Subject: s\n\nbody"


def test_verdict_fields_change_nothing():
    """A message that we tagged reads as it did before, so that training on tagged mail learns nothing from the tag."""
    raw = specimen("alternative")
    tagged = b"X-Spam-Flag: YES\r\nX-Spam-Status: Yes, score=9\r\n" + raw.replace(b"Subject: ", b"Subject: [SPAM] ")

    assert message_text(raw).text == message_text(tagged).text


def test_bare_text_stands_alone():
    """A message made of a bare text reads as that text, without lines for fields that it lacks."""
    assert message_text(text_message("call  now\nü")).text == "call now\nü"


def test_bare_text_may_have_a_subject():
    """A subject given with a bare text comes back whatever stands in it."""
    assert message_text(text_message("t", "=?x? ü\r\nBcc: a")).text == "Subject: =?x? ü Bcc: a\n\nt"


@given(st.text(), st.text(max_size=50))
def test_bare_text_never_becomes_header(text, subject):
    """No text or subject slips into another field of the message made of it."""
    root = parse_message(text_message(text, subject)).root

    assert set(root.fields) <= {"subject", "mime-version", "content-type", "content-transfer-encoding"}
    assert root.encoded == re.sub(b"\r\n?", b"\n", text.encode("utf-8", "replace").replace(b"\0", b""))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=2000))
@example(b"")
@example(b"Content-Type: multipart/mixed; boundary=\n\n--")
def test_arbitrary_bytes_never_raise(raw):
    """Any bytes at all give a text."""
    assert isinstance(message_text(raw).text, str)


FRAGMENTS = [
    *(b"From: ", b"Subject: ", b"Content-Type: ", b"multipart/mixed", b"multipart/alternative", b"message/rfc822", b"text/html"),
    *(b"; boundary=b", b'; boundary="b', b"; charset=utf-7", b"; charset=iso-2022-jp", b"; name*0*=utf-8''%41", b"--b", b"--b--"),
    *(
        b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: quoted-printable",
        b"=?utf-8?b?",
        b"=?utf-8?q?=41",
        b"?=",
    ),
    *(
        b"\n",
        b"\n\n",
        b"\r",
        b"\r\n",
        b"\0",
        b"=3D",
        b"\xe4\xb8\xad",
        b"\xff\xfe",
        b"\x1b$B",
        b" ",
        b"@",
        b"<",
        b">",
        b"a",
        b"www.",
    ),
    *(
        b"<div>",
        b"</div>",
        b"<a href='//x.y'>",
        b"<b style='display:none'>",
        b"<style>.a{",
        b"<!--",
        b"&#",
        b"&amp;",
        b"http://a.b/",
    ),
]


@settings(deadline=None, max_examples=500)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=60))
def test_mixtures_of_mail_never_raise(fragments):
    """Pieces of mail in any order give a text without control characters, within its length."""
    text = message_text(b"".join(fragments)).text

    assert len(text) <= MAX_CHARACTERS
    assert not any(ord(character) < 32 and character != "\n" for character in text.encode("utf-8").decode("utf-8"))


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=200))
def test_text_is_settled(text):
    """Text that was made plain once stays as it is when it is read again."""
    once = message_text(text_message(text)).text

    assert message_text(text_message(once)).text == once


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: text/plain; charset=utf-7\n\n+2AA-x",
        b"Content-Type: text/html; charset=utf-7\n\n<a href='http://+2AA-.example'>a.example</a>",
        b"Subject: =?utf-7?q?+3AA-?=\n\n",
    ],
)
def test_half_characters_go(raw):
    """Lone surrogates, which some charsets can smuggle in, never reach the text, for nobody could encode them."""
    text = message_text(raw).text

    assert text.encode("utf-8").decode("utf-8") == text


def test_long_text_keeps_head_and_tail():
    """Of a text that is too long, head and tail stay."""
    text = message_text(b"Subject: s\n\nfirst " + b"word " * 100_000 + b"last").text

    assert len(text) <= MAX_CHARACTERS
    assert text.startswith("Subject: s\n\nfirst word")
    assert text.endswith("word last")


@pytest.mark.parametrize("padding", [b"\r\n", b" \n", b"-", b"\xe2\x80\x8b", b"= ", b"<br>", b"&nbsp; "])
def test_padding_does_not_hide_text(padding):
    """Text between two walls of padding is still read."""
    wall = padding * (700_000 // len(padding))
    raw = page("") + wall[:300_000] + b" buy now " + wall[:300_000]

    assert "buy now" in message_text(raw).text


MULTIPART = b"Content-Type: multipart/mixed; boundary=b%d\n\n"
HOSTILE = {
    "empty lines": lambda: b"Subject: x\r\n\r\n" + b"\r\n" * (15 << 20),
    "one line": lambda: b"Subject: x\r\n\r\n" + b"x" * (5 << 20),
    "nested div": lambda: page("<div>" * 100_000),
    "deep and wide": lambda: page("<div>" * 990 + "<li>" * 90_000),
    "fonts reopened": lambda: page("".join(f"<font size={n}>" for n in range(900)) + "<p>x" * 50_000),
    "misnested": lambda: page("".join(f"<font id={n}><div></font>" for n in range(15_000))),
    "scripts": lambda: page("<script " * 200_000),
    "attributes": lambda: page("<div " + " ".join(f"a{n}={n}" for n in range(100_000)) + ">x"),
    "quotes": lambda: page('<a b="' * 200_000),
    "comments": lambda: page("<!-- -" * 200_000),
    "references": lambda: page("<div>" * 2000 + "&#" + "9" * 100_000),
    "table": lambda: page("<table>" + "<tr><td>x<td>y" * 60_000),
    "style": lambda: page("<style>" + ".a{" * 200_000 + "</style>x"),
    "style tail": lambda: page("<style>" + "a" * 400_000 + "</style>x"),
    "subject": lambda: b"Subject: " + b"x " * 500_000 + b"\n\nhi",
    "encoded words": lambda: b"Subject: " + b"=?utf-8?q?x?=" * 80_000 + b"\n\nhi",
    "address": lambda: b"From: " + b"<" * 1_000_000 + b"\n\nhi",
    "recipients": lambda: b"To: " + b"a@b.c " * 1000 + b"\n\n" + b"aaaa@" * 300_000,
    "parameters": lambda: b'Content-Type: a;"b;' + b'"b;' * 300_000 + b"\n\nhi",
    "header lines": lambda: b"a:\n" * 700_000,
    "parts": lambda: MULTIPART % 1 + b"--b1\n\nx\n" * 40_000,
    "nested multiparts": lambda: b"".join(MULTIPART % n + b"--b%d\n" % n for n in range(10_000)),
    "nested messages": lambda: b"Content-Type: message/rfc822\n\n" * 10_000,
    "delimiters": lambda: MULTIPART % 1 + b"--b1x\n" * 300_000,
    "uuencode": lambda: b"Content-Transfer-Encoding: uuencode\n\n" + b"M\n" * 1_000_000,
    "soft breaks": lambda: b"Content-Transfer-Encoding: quoted-printable\n\n" + b"=\n" * 1_000_000,
    "ligatures": lambda: b"Subject: x\n\n" + "\ufdfa".encode() * 600_000,
    "mixed scripts": lambda: b"Subject: x\n\n" + "a\u0430".encode() * 500_000,
    "dots": lambda: b"Subject: x\n\n" + b"a.@" * 400_000,
    "urls": lambda: b"Subject: x\n\n" + b"http://" * 200_000,
    "marks": lambda: b"Subject: x\n\n" + ("\u0301" * 100_000 + "\u0316" * 100_000).encode(),
    "attributes apart": lambda: page("<p " + " ".join(f"a{number}" for number in range(50_000)) + ">x"),
    "few fonts reopened": lambda: page(few_fonts(200, 100) + "<p>x" * 790),
    "more fonts reopened": lambda: page(few_fonts(20, 400) + "<p>x" * 1_200),
    "fonts in a drawing": lambda: page("<svg><style>" + few_fonts(200, 100) + "<p>x" * 790),
    "styles": lambda: "".join(f"<p style='{number}{'x' * 5_000}'>y" for number in range(70)).encode(),
    "boundary": lambda: (
        b"Content-Type: multipart/mixed; boundary=b\n\n"
        + (b"--b\nContent-Type: multipart/mixed\n\n--a" + b"\t" * 9_000 + b"x\n") * 198
    ),
}


def few_fonts(num_tags, num_attributes):
    """Write formatting tags that stay open, each with many attributes and different from the others."""
    attributes = " ".join(f"a{number}" for number in range(num_attributes))
    return "".join(f"<font {attributes} z{number}>" for number in range(num_tags))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_message_takes_little_time(name):
    """Messages made to be slow are not: linear patterns, and limits before trees."""
    raw = HOSTILE[name]()
    start = time.process_time()

    message_text(raw)

    assert time.process_time() - start < 2.0


def test_hostile_messages_take_little_memory():
    """The worst of the messages above stay within a quarter of a gibibyte beyond themselves."""
    names = ["deep and wide", "empty lines", "fonts reopened", "ligatures", "one line", "uuencode"]
    names += ["few fonts reopened", "more fonts reopened", "fonts in a drawing", "attributes apart"]
    raws = [HOSTILE[name]() for name in names]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for raw in raws:
        message_text(raw)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024


def test_pages_are_told_from_plain_text():
    """A message whose page was read is HTML, also where plain text stands beside it."""
    page = b"Content-Type: text/html\n\n<p>Hello</p>"

    assert message_text(page).is_html
    assert not message_text(b"Subject: x\n\nHello").is_html
