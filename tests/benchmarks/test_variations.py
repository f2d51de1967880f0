"""Mail is varied in ways that change no label."""

import random

import pytest
import variations

from spamd.model.tokenizer import END_OF_TEXT

TEXT = "From: Shop @news.shop.example\nReply-To: @other.test\nSubject: Your order\n\nIt left on Monday.\nSee track.shop.example"


def test_written_hosts_get_one_real_end():
    """Reserved ends go, and a host keeps one name throughout the text."""
    varied = variations.real_ends(TEXT, random.Random(3))

    assert ".example" not in varied
    assert ".test" not in varied
    end = varied.splitlines()[0].rpartition("shop.")[2]
    assert f"track.shop.{end}" in varied


def test_words_that_are_no_hosts_stay():
    """A sentence may end in a reserved word."""
    assert variations.real_ends("See this.Example of . test", random.Random(3)).endswith(" of . test")


def test_the_sender_goes_and_the_rest_stays():
    """From and Reply-To are left out."""
    assert "Subject: Your order\n\nIt left on Monday.\nSee track.shop.example" == variations.without_sender(TEXT)


def test_a_message_of_a_sender_alone_is_kept():
    """Nothing is not a message."""
    assert "From: Shop @shop.example" == variations.without_sender("From: Shop @shop.example")


@pytest.mark.parametrize("seed", range(60))
def test_variation_keeps_the_subject_line_in_place(seed):
    """Whatever is varied, the text keeps its form: fields, an empty line, a body."""
    fields, gap, body = variations.vary(TEXT, random.Random(seed), ["Subject: x\n\n" + "other words " * 50]).partition("\n\n")

    assert gap
    assert body
    assert fields.splitlines()[-1].startswith("Subject: ")


@pytest.mark.parametrize("seed", range(20))
def test_what_is_crossed_keeps_the_form_and_takes_from_both(seed):
    """Fields of either, an empty line, sentences of one or both and of nobody else."""
    other = "Subject: The minutes\n\nWe met. We spoke. We left."
    crossed = variations.cross(TEXT, other, random.Random(seed))
    fields, gap, body = crossed.partition("\n\n")

    assert gap
    assert set(fields.splitlines()) <= set(TEXT.splitlines()) | set(other.splitlines())
    assert body
    assert set(body.split()) <= set(TEXT.split()) | set(other.split())


@pytest.mark.parametrize("seed", range(60))
def test_an_excerpt_is_a_stretch_of_the_body_under_its_fields(seed: int) -> None:
    """It is no longer than three fifths of the body, and nothing is made up."""
    fields = TEXT.partition("\n\n")[0]
    body = " ".join(map(str, range(1000)))
    taken = variations.excerpt(f"{fields}\n\n{body}", random.Random(seed))

    assert taken is not None
    assert taken.startswith(f"{fields}\n\n")
    stretch = taken.removeprefix(f"{fields}\n\n")
    assert stretch in body
    assert 250 <= len(stretch) <= 0.6 * len(body)


def test_excerpts_come_from_all_over_the_body() -> None:
    """Some begin where it begins, some end where it ends, some do neither."""
    body = " ".join(map(str, range(1000)))
    taken = [str(variations.excerpt(f"Subject: x\n\n{body}", random.Random(seed))).partition("\n\n")[2] for seed in range(60)]
    begins, ends = ({body.startswith(one) for one in taken}, {body.endswith(one) for one in taken})

    assert begins == ends == {True, False}
    assert any(not body.startswith(one) and not body.endswith(one) for one in taken)


@pytest.mark.parametrize("text", ["", "Subject: x", TEXT, "Subject: x\n\n" + "a" * 300])
def test_a_short_message_has_no_excerpt(text: str) -> None:
    """It would be the message itself, or nearly."""
    assert all(variations.excerpt(text, random.Random(seed)) is None for seed in range(20))


def test_crossings_differ():
    """What two messages give together is not one text."""
    other = "We met. We spoke. We left.\nWe came back. We slept."
    crossed = {variations.cross(TEXT, other, random.Random(seed)) for seed in range(40)}

    assert len(crossed) > 20


def test_words_of_ham_are_added_before_the_body_or_behind_it():
    """What is lent stands beside the whole body, at most three times as long as the text, and the fields stay."""
    fields, _, body = TEXT.partition("\n\n")
    added = [
        text
        for text in (variations.rewrite(TEXT, random.Random(seed), ["Subject: x\n\n" + "lent " * 400]) for seed in range(200))
        if "lent" in text and body in text
    ]

    assert all(text.startswith(fields + "\n\n") for text in added)
    assert all(len("lent ") * text.count("lent") <= 3 * len(TEXT) + len("lent ") for text in added)
    assert {True, False} == {text.endswith(body) for text in added}


def test_marks_are_strewn_between_words():
    """The words stay in their order."""
    found = [variations.rewrite(TEXT, random.Random(seed), ["Subject: x\n\nlent"]) for seed in range(200)]
    marked = [text for text in found if END_OF_TEXT in text and "lent" not in text]

    assert marked
    assert all(text.replace(END_OF_TEXT, "").split() == TEXT.split() for text in marked)


@pytest.mark.parametrize("seed", range(20))
def test_a_quoted_text_is_all_there_behind_marks(seed: int) -> None:
    """The body's lines are quoted in their order, fields stay, and the subject is that of a reply."""
    fields, _, body = variations.quoted(TEXT, random.Random(seed)).partition("\n\n")
    assert TEXT.partition("\n\n")[0].replace("Subject: ", "Subject: Re: ") == fields
    assert TEXT.partition("\n\n")[2].splitlines() == [
        line.removeprefix("> ") for line in body.splitlines() if line.startswith("> ")
    ]
    assert variations.quoted("no fields", random.Random(seed)).endswith("\n> no fields")
