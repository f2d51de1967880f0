"""Texts get other dress, and what they say stays."""

import random
import re
from collections import Counter
from dataclasses import replace

import dressings
import pytest
from teachers import WRITTEN

from spamd.training.splits import Example
from spamd.verdict import Label

TEXT = "From: Shop @shop.example\nReply-To: @other.test\nSubject: Your {order}\n\nIt left on Monday.\n\n[link a.test -> b.test]"


def dressed(text=TEXT, num=300):
    """Dress a text with many chances."""
    return [dressings.dressed(text, random.Random(seed)) for seed in range(num)]


@pytest.mark.parametrize("seed", range(60))
def test_the_form_of_a_text_stays(seed):
    """Fields in their order, then the body unless parts say all, then links before parts before notes of pages."""
    text = dressings.dressed(TEXT, random.Random(seed))
    fields, *rest = text.split("\n\n")
    names = [line.partition(":")[0] for line in fields.splitlines()]
    notes = [line.partition(" ")[0] for line in rest[-1].splitlines()]

    assert ["From", "Reply-To", "Subject"] == names
    assert "Your {order}" in fields
    assert "[link" == notes[0]
    assert notes == sorted(notes, key=["[link", "[attachment", "[hidden", "[picture", "[plain"].index)
    assert "It left on Monday." in rest[0] or (1 == len(rest) and "[attachment " in rest[0])


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        ("reply to", "\nReply-To: @gmail.com\n"),
        ("subject", "\nSubject: Fwd: Your {order}\n"),
        ("banner", "\n\nView this email in your browser\nIt left on Monday."),
        ("footer", "It left on Monday.\nSent from my phone\n\n"),
        ("parts", "\n[attachment application/pgp-signature signature.asc]"),
        ("parts", "]\n[picture only]"),
        ("notes", "\n[plain part differs]"),
    ],
)
def test_each_piece_of_dress_is_worn(piece, expected, monkeypatch):
    """Every piece is seen."""
    monkeypatch.setattr(dressings, "SHARES", dict.fromkeys(dressings.SHARES, 0.0) | {piece: 1.0})
    monkeypatch.setattr(dressings, "WITHOUT_BODY", 0.5)

    assert any(expected in text for text in dressed(num=1000)), piece


def test_without_shares_nothing_changes(monkeypatch):
    """Nobody is dressed against his will."""
    monkeypatch.setattr(dressings, "SHARES", dict.fromkeys(dressings.SHARES, 0.0))

    assert {TEXT} == set(dressed(num=5))


def test_a_text_without_fields_is_all_body(monkeypatch):
    """Text messages have neither sender nor subject; they can be dressed all the same."""
    monkeypatch.setattr(dressings, "SHARES", dict.fromkeys(dressings.SHARES, 0.0) | {"footer": 1.0})

    assert all(text.startswith("See you\n\nat six\n") for text in dressed("See you\n\nat six", 20))


def test_brackets_in_a_row_are_no_notes(monkeypatch):
    """A line of them that goes on with words is body, and takes no longer than any other."""
    monkeypatch.setattr(dressings, "SHARES", dict.fromkeys(dressings.SHARES, 0.0) | {"footer": 1.0})
    body = "Subject: x\n\n" + "[x]" * 1000 + " y"

    assert all(text.startswith(f"{body}\n") for text in dressed(body, 3))


def test_everything_in_the_wardrobe_can_be_worn():
    """No line of it asks for what nobody fills in, and every line is drawn."""
    worn = "\n".join(dressed(num=8000))

    for line in dressings._wardrobe()["footers"] + dressings._wardrobe()["banners"]:
        assert line.partition("{")[0] in worn
    for content_type, *_ in dressings._wardrobe()["parts"]:
        assert f"[attachment {content_type}" in worn


def test_some_of_the_written_mail_is_dressed_and_of_the_others_replies_go_elsewhere():
    """Of both labels as much as was meant; mail of other corpora gets nothing else, and what has no fields not that."""
    mail = [
        Example(TEXT, label, str(number), dataset) for dataset in (WRITTEN, "other") for label in Label for number in range(400)
    ]
    found = dressings.some_dressed(mail, random.Random(1))
    changed = Counter((a.dataset, a.label) for a, b in zip(mail, found, strict=True) if a.text != b.text)
    others = [one.text for one in found if one.dataset != WRITTEN]
    elsewhere = dressings.REPLIES_ELSEWHERE

    assert all(changed["other", label] / 400 == pytest.approx(elsewhere, abs=0.05) for label in Label)
    assert all(changed[WRITTEN, label] / 400 > dressings.DRESSED for label in Label)
    assert {TEXT.replace("@other.test", "@")} == {re.sub(r"(?<=Reply-To: @)[^\n]+", "", text) for text in others}
    assert dressings.some_dressed([replace(one, text="No fields.") for one in mail[800:]], random.Random(1)) == [
        replace(one, text="No fields.") for one in mail[800:]
    ]
