"""The attacks: what a reader sees stays, and what they are meant to do happens."""

import random
from email.message import EmailMessage

import disguises
import pytest

from spamd.mail.text import message_text

HAM = "Thanks for the minutes of the meeting, see you on Monday at six. "


@pytest.fixture
def message():
    """A message with a plain part and a page, in another script too."""
    mail = EmailMessage()
    mail["From"] = "Ada <ada@shop.example>"
    mail["Subject"] = "Your pécule waits"
    mail.set_content("Dear customer,\n\nyour account is frozen, confirm it now. Ваш счёт ждёт.\n")
    mail.add_alternative(
        "<html><body><p>Dear customer,</p><p>your account is frozen, <b>confirm</b> it now. Ваш счёт ждёт.</p></body></html>",
        subtype="html",
    )
    return mail.as_bytes()


def attack(name, raw, ham=HAM):
    """Rewrite a message."""
    return disguises.ATTACKS[name](raw, ham, random.Random(1))


@pytest.mark.parametrize("name", ["unchanged", "zero-width", "encodings", "hidden ham"])
def test_the_reader_is_not_fooled(name, message):
    """Tricks with bytes, invisible letters and hidden words leave the text that the model reads as it was."""
    before, after = message_text(message).text, message_text(attack(name, message)).text

    assert before == after.replace("\n\n[disguised letters]", "").replace("\n\n[hidden text]", "").replace("\n[hidden text]", "")


@pytest.mark.parametrize("name", disguises.ATTACKS)
def test_the_same_chance_gives_the_same_bytes(name, message):
    """Attacks follow from message, ham and seed, and differ from the message."""
    assert attack(name, message) == attack(name, message) != message


@pytest.mark.parametrize("name", disguises.ATTACKS)
def test_the_sender_stays(name, message):
    """However a message is rewritten, it comes from the same sender."""
    fields = message_text(attack(name, message)).text.partition("\n\n")[0].splitlines()

    assert fields[0] == "From: Ada @shop.example"
    assert fields[-1].startswith("Subject: ")
    assert [line for line in fields[1:-1] if not line.startswith("Reply-To: ")] == []


def test_replies_go_elsewhere(message):
    """The address for replies is another one than the sender's."""
    assert "Ada @shop.example\nReply-To: @" in message_text(attack("reply address", message)).text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("l33t", "4cc0un7"),
        ("spaced letters", "a c c o u n t"),
        ("quoted reply", "wrote:"),
        ("quoted reply", "Subject: Re: Your pécule waits"),
        ("picture", "your account is frozen, confirm it now. Ваш счёт ждёт."),
        ("ham appended 1x", "Ваш счёт ждёт.\nThanks for the minutes"),
        ("ham prepended 3x", "\n\nThanks for the minutes"),
        ("footer", "Ваш счёт ждёт.\nKind regards,\nThe customer service team"),
        ("attached file", "Ваш счёт ждёт.\n\n[attachment application/zip drawings.zip]"),
    ],
)
def test_attacks_do_what_they_say(name, expected, message):
    """Each attack leaves its mark in the text that the model reads."""
    seen = {message_text(disguises.ATTACKS[name](message, HAM, random.Random(seed))).text for seed in range(9)}

    assert any(expected in text for text in seen)


def test_marks_are_strewn_in(message):
    """The mark that ends a text stands in the message; the text that the model reads lacks it."""
    rewritten = disguises.ATTACKS["end of text"](message, HAM, random.Random(1))

    assert b"<|endoftext|>" in rewritten
    assert "endoftext" not in message_text(rewritten).text


def test_homoglyphs_are_in_the_bytes(message):
    """Lookalike letters stand in the message, also where reading it out folds them back."""
    rewritten = disguises.homoglyphs(message, HAM, random.Random(1))

    assert b"=D0=" in rewritten
    assert message_text(rewritten).num_lookalikes > 0


@pytest.mark.parametrize("times", [1, 3])
def test_added_ham_has_the_length_asked_for(times, message):
    """Ham is added in proportion to the message."""
    before = len(message_text(message).text)
    after = len(message_text(attack(f"ham appended {times}x", message)).text)

    assert times * before == pytest.approx(after - before, rel=0.1)
