"""`spamd-admin explain` with the tiny checkpoint."""

import json
import os
from html.parser import HTMLParser

import pytest

from spamd.verdict import GTUBE

KEYS = [
    *("path", "label", "probability", "score", "required", "threshold", "checkpoint", "tokens", "truncated", "gtube"),
    *("passages", "milliseconds"),
]


@pytest.fixture
def explain(spamd_admin, settings):
    """Run `spamd-admin explain` with those settings."""
    return lambda *arguments, stdin=b"": spamd_admin("explain", "--config", settings, *arguments, stdin=stdin)


@pytest.fixture
def message(tmp_path):
    """Write a message; returns its file."""

    def write(body="One sentence of a message. And <b>another</b> one.", name="a.eml"):
        file = tmp_path / name
        file.write_bytes(f"From: Ada <a@example.com>\r\nSubject: greetings\r\n\r\n{body}\r\n".encode())
        return file

    return write


def test_one_line_a_passage(explain, message):
    """Below the line that `score` prints, each passage stands behind its points."""
    file = message()
    ran = explain(file)
    first, *lines = ran.out.splitlines()

    assert (0, "") == (ran.code, ran.err)
    assert first.endswith(f" {file}")
    assert ["From: Ada @example.com", "Subject: greetings", "One sentence of a message.", "And <b>another</b> one.", ""] == [
        line[8:] for line in lines
    ]
    assert all(float(line[:6]) == pytest.approx(0.0, abs=20) for line in lines[:-1])


def test_the_verdict_is_that_of_score(explain, spamd_admin, settings, message):
    """`explain` and `score` never disagree, threshold of the settings included."""
    settings.write_text(settings.read_text() + "threshold = 0.999999\n")
    file = message()

    assert spamd_admin("score", "--config", settings, file).out.strip() == explain(file).out.splitlines()[0]


def test_json_says_everything(explain, message, registry):
    """A JSON line bears the verdict and the passages, which joined are the text."""
    (line,) = map(json.loads, explain("--json", message("word " * 60)).out.splitlines())

    assert KEYS == list(line)
    assert registry.current().name == line["checkpoint"]
    assert (True, 128) == (line["truncated"], line["tokens"])
    assert ("word " * 60).strip() in "".join(passage["text"] for passage in line["passages"])
    assert [None] == [passage["points"] for passage in line["passages"] if passage["points"] is None]


class _Text(HTMLParser):
    """Collects the text of the passages and the names of the tags."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags = "", set()
        self.feed(page)

    def handle_starttag(self, tag, _attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


def test_html_is_one_safe_page(explain, message):
    """The page shows the text, needs nothing else, and markup in a message stays text."""
    page = explain("--html", message("<script>alert(1)</script> and more words of some length.")).out
    read = _Text(page)

    assert "<script>alert(1)</script> and more words" in read.text
    assert not {"script", "link", "img", "b"} & read.tags
    assert "http" not in page


def test_standard_input(explain, message):
    """A message may come on standard input."""
    body = message().read_bytes()

    assert explain("-", stdin=body).out.splitlines()[0].endswith(" -")


def test_gtube_is_said(explain, message):
    """A message with the test string is spam whatever its passages say, and that is told."""
    assert explain(message(GTUBE)).out.splitlines()[0].endswith("(the GTUBE test string decided)")


def test_a_missing_file_is_told_and_the_others_are_explained(explain, message, tmp_path):
    """A path that is not there is a sentence and exit code 66; the rest is explained."""
    ran = explain("--json", tmp_path / "absent.eml", message())

    assert (os.EX_NOINPUT, 1) == (ran.code, len(ran.out.splitlines()))
    assert f"error: {tmp_path / 'absent.eml'}: No such file or directory.\n" == ran.err


def test_json_and_html_exclude_each_other(explain, message):
    """Both forms at once are a usage error."""
    assert os.EX_USAGE == explain("--json", "--html", message()).code


def test_colours_on_a_terminal_alone(explain, message, monkeypatch):
    """Escape sequences are printed where a terminal is, and not into a file."""
    plain = explain(message()).out
    monkeypatch.setenv("FORCE_COLOR", "1")

    assert "\x1b[" not in plain
    assert "\x1b[" in explain(message()).out
