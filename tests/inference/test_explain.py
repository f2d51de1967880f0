"""Explanations: how a text is cut into passages, and what the engine is asked about them."""

import math

import pytest

from spamd.inference.engine import Engine
from spamd.inference.explain import explain, passages, without
from spamd.inference.scored import Scored
from spamd.model.heads import LastToken


class WordCounter:
    """Each `win` adds a point and each `minutes` takes one; reads so many characters of head and tail."""

    checkpoint = "counter"
    threshold = 0.5

    def __init__(self, head=10_000, tail=0):
        self.head, self.tail = head, tail
        self.batches = []

    def estimate_tokens(self, text):
        """One token a character."""
        return len(text)

    def extent(self, text):
        """All, or head and tail of a longer text."""
        return (len(text), 0) if len(text) <= self.head + self.tail else (self.head, self.tail)

    def score(self, texts):
        """Score by the words that are read."""
        self.batches.append(list(texts))
        scores = []
        for text in texts:
            head, tail = self.extent(text)
            read = text[:head] + text[len(text) - tail :]
            points = read.count("win") - read.count("minutes")
            scores.append(Scored(1.0 / (1.0 + math.exp(-points)), 0.5, "counter", len(read), head < len(text)))
        return scores


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("one", ["one"]),
        ("A sentence of some length. Another sentence!", ["A sentence of some length. ", "Another sentence!"]),
        (
            "From: Mr. A @x.example\nSubject: Hi. You won. Yes\n\nshort",
            ["From: Mr. A @x.example\n", "Subject: Hi. You won. Yes\n\n", "short"],
        ),
        ("Dear Mrs. Adele Whitcombe", ["Dear Mrs. Adele Whitcombe"]),
        (
            "お客様のカードのご利用を一時停止しました。至急ご確認ください",
            ["お客様のカードのご利用を一時停止しました。", "至急ご確認ください"],
        ),
        ("\nnot stripped", ["\nnot stripped"]),
    ],
)
def test_passages_are_lines_and_sentences(text, expected):
    """Fields and short lines stay whole, longer lines are cut behind sentences, in any script."""
    assert expected == passages(text, 40)


@pytest.mark.parametrize("most", [1, 2, 7, 40])
def test_passages_joined_are_the_text(most):
    """However few passages are wanted, nothing of the text is lost, and no piece is empty."""
    text = "Subject: x\n\n" + "A sentence of some length. " * 30 + "\n" + "word " * 200 + "\n\n\nx" + "y" * 500
    found = passages(text, most)

    assert text == "".join(found)
    assert len(found) <= most
    assert all(found)


def test_points_are_what_a_passage_does():
    """A passage has the points by which the score falls without it, on either side of zero."""
    text = "Subject: you win, win\n\nThe minutes are attached to this.\nNothing here matters at all."
    found = explain(text, WordCounter())

    assert text == "".join(passage.text for passage in found.passages)
    assert [pytest.approx(2.0), pytest.approx(-1.0), pytest.approx(0.0)] == [passage.points for passage in found.passages]
    assert pytest.approx(1.0) == math.log(found.scored.score / (1.0 - found.scored.score))


def test_everything_is_asked_at_once():
    """All variants go to the engine in one call, so that it can batch them: one for each passage, and two whole ones."""
    engine = WordCounter()
    found = explain("win\n" * 100, engine, max_passages=10)

    assert [12] == [len(batch) for batch in engine.batches]
    assert 10 == len(found.passages)


def test_what_was_not_read_has_no_points():
    """The middle that the budget left out is marked as unread, and leaving a passage out lets nothing of it in."""
    engine = WordCounter(head=20, tail=20)
    text = "one win here and on\n" + "win " * 100 + "\nthe end of it all\n"
    found = explain(text, engine)
    unread = [passage for passage in found.passages if passage.points is None]

    assert text == "".join(passage.text for passage in found.passages)
    assert [text[20:-20]] == [passage.text for passage in unread]
    assert not any("win win" in variant for variant in engine.batches[0][1:])
    assert pytest.approx(1.0) == found.passages[0].points


def test_certain_scores_have_finite_points():
    """Where a score rounds to certainty, points stay numbers."""
    found = explain("win " * 900, WordCounter())

    assert all(math.isfinite(passage.points) for passage in found.passages)


def test_an_empty_text_has_no_passages():
    """A message without text has a score and no passages."""
    assert () == explain("", WordCounter()).passages


def test_leaving_out_keeps_the_order():
    """Left-out pieces leave the others as they were."""
    assert "a c" == without(["a ", "b ", "c"], {1})


def test_the_engine_knows_what_it_reads(tiny_checkpoint):
    """The tiny model reads 96 bytes of the head and 32 of the tail; letters cut in two by that do not count."""
    engine = Engine.load(tiny_checkpoint, {"last-token": LastToken}, device="cpu", threads=1)

    assert (5, 0) == engine.extent("hello")
    assert (128, 0) == engine.extent("a" * 128)
    assert (96, 32) == engine.extent("a" * 1000)
    assert (48, 16) == engine.extent("x" + "é" * 1000)
    assert 128 >= sum(len(passage.text) for passage in explain("word and " * 90, engine).passages if passage.points is not None)
