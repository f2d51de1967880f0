"""What is looked for in the written mail."""

import numpy as np
import pytest
import written_check
import written_mail

from spamd.mail.text import message_text

BODY = (
    "We have moved your appointment to Tuesday at nine, please bring the form that you were sent with the letter in May, and "
    "come ten minutes early so that we can find your file."
)


def test_runs_ignore_case_and_digits():
    """Texts that differ in numbers and case have the same runs of words."""
    assert written_check.runs("Order 12 is on its WAY to you") == written_check.runs("order 9913 is on its way to you")


def test_scripts_without_blanks_count_by_letters():
    """A Chinese text has as many runs as letters, near enough."""
    assert 6 == len(written_check.runs("您的邮箱将于今晚停"[:10]).union(written_check.runs("停用")))


def test_a_copy_is_found():
    """A text that repeats another with a few words changed is named with the one that it repeats."""
    texts = [BODY, "Something else altogether, about a boat and a dog and their friends.", BODY.replace("Tuesday", "Friday")]

    assert [(2, 0)] == [(later, earlier) for later, earlier, _ in written_check.near_duplicates(texts)]


def test_short_texts_repeat_only_themselves():
    """One-liners are copies where they are the same, and not where they share a word."""
    assert [(2, 0, 1.0)] == written_check.near_duplicates(["ok see you", "ok thanks", "OK, see you!"])


@pytest.fixture
def message():
    """A written message."""
    return written_mail.WrittenMessage(
        "here",
        {"label": "ham", "kind": "receipt", "language": "en", "from": "Shop 24 <no-reply@shop.example>", "subject": "RE: paid!"},
        [("See it", "https://shop.example/1")],
        [("application/pdf", "a.pdf")],
        f"{BODY}\n",
    )


def test_surface_holds_no_words(message):
    """What is described of a message is numbers and names of formats, none of its words."""
    described = written_check.surface(written_mail.build(message))
    words = {word for value in described.values() if isinstance(value, str) for word in value.lower().split()}

    assert not words & set(BODY.lower().split())
    assert (1, 1, True) == (described["links"], described["attachments"], described["is reply"])


@pytest.mark.parametrize("label", ["ham", "spam"])
def test_pages_show_the_pictures_that_come_with_them(message, label):
    """Of messages with a picture some pages show it, whatever the label; every picture stays a part of its name."""
    message.fields["label"], message.attachments = label, [("image/png", "shot.png"), ("application/pdf", "a.pdf")]
    shown = 0
    for number in range(60):
        message.fields["subject"], message.body = f"look {number}", "Here.\n"
        raw = written_mail.build(message)
        text = message_text(raw).text
        assert "[attachment image/png shot.png]\n[attachment application/pdf a.pdf]" in text
        assert raw == written_mail.build(message)
        assert ("[picture only]" in text) == (b"Content-ID: <0@picture.example>" in raw)
        shown += "[picture only]" in text

    assert 12 <= shown <= 34


def test_surface_that_tells_is_found():
    """Where ham and spam differ in a count, the judgement is far below chance and names it."""
    described = [{"links": number % 2 * 3, "hour": number % 7} for number in range(200)]
    labels = np.array([number % 2 for number in range(200)])
    sittings = [f"sitting_{number % 5}" for number in range(200)]

    assert 0.0 == written_check.surface_judgement(described, labels, sittings, {"links", "hour"}).value
    assert 50.0 == pytest.approx(written_check.surface_judgement(described, labels, sittings, {"hour"}).value, abs=15.0)
    assert ("links", 0.0) == written_check.telling(described, labels)[0]


def test_kinds_are_from_the_list():
    """Every written message bears a kind of the fixed list of its label."""
    allowed = written_mail.kinds()
    unknown = [
        (sitting, number, message.fields["kind"])
        for sitting, number, message in written_mail.read_all()
        if message.fields["kind"] not in allowed[message.fields["label"]]
    ]

    assert [] == unknown
    assert {"ham": 75, "spam": 65} == {label: len(names) for label, names in allowed.items()}


def test_a_third_is_held_out():
    """Of all messages, and of ham and spam alike, about a third is never trained on."""
    held_out = {True: [], False: []}
    for sitting, _, message in written_mail.read_all():
        held_out[written_mail.is_never_trained_on(sitting)].append(message.fields["label"])
    num, num_held_out = sum(map(len, held_out.values())), len(held_out[True])

    assert num_held_out >= num / 3
    for label in ("ham", "spam"):
        assert held_out[True].count(label) == pytest.approx(
            num_held_out * held_out[False].count(label) / (num - num_held_out), rel=0.1
        )


def test_the_kind_is_no_part_of_the_message(message):
    """The same message under another kind has the same bytes."""
    before = written_mail.build(message)
    message.fields["kind"] = "invoice"

    assert before == written_mail.build(message)
