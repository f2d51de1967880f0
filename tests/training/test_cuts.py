"""Each way of parting holds out what it says, and the card lets it be told afterwards."""

from dataclasses import replace

import pytest
from teaching import lesson

from spamd.errors import TrainingError
from spamd.training import cuts
from spamd.training.splits import METHOD, Example, deduplicate
from spamd.verdict import Label


def _mail():
    """Mail of 61 senders, one message a day."""
    return [
        replace(example, text=f"From: Name @shop{number % 61}.example\n\n{example.text}", arrived=1e9 + 86_400.0 * number)
        for number, example in enumerate(lesson(120))
    ]


@pytest.mark.parametrize("cut", ["text-hash", "sender", "time"])
def test_it_can_be_told_what_was_held_out(cut):
    """Method and seed, as a card records them, tell the test part from the rest, message by message."""
    examples = _mail()
    parts, method = cuts.part(examples, cut, 5)

    assert 240 == sum(map(len, parts))
    assert {True} == {cuts.was_held_out(example, method, 5) for example in parts.test}
    assert {False} == {cuts.was_held_out(example, method, 5) for example in [*parts.train, *parts.validation]}


def test_text_hash_is_what_it_always_was():
    """The default way bears the old name."""
    assert METHOD == cuts.part(_mail(), "text-hash", 5)[1] == "text-hash 70/10/20"


def test_no_sender_stands_in_two_parts():
    """Parted by sender, all mail of a domain lies together."""
    parts, _ = cuts.part(_mail(), "sender", 5)
    senders = [{cuts.sender_of(example.text) for example in part} for part in parts]

    assert 61 == sum(map(len, senders))


def test_time_holds_the_newest_out():
    """Parted by time, each part is newer than the one before; seeds make no difference."""
    parts, method = cuts.part(_mail(), "time", 5)
    train, validation, test = ([example.arrived for example in part] for part in parts)

    assert max(train) < min(validation)
    assert max(validation) < min(test)
    assert (168, 24, 48) == (len(train), len(validation), len(test))
    assert method.startswith("time 70/10/20, test from 2002-")


def test_mail_without_dates_is_not_parted_by_time():
    """A tenth without a date is too much to be guessed; a little goes to training."""
    examples = _mail()
    undated = [replace(example, arrived=None) for example in examples]

    with pytest.raises(TrainingError, match="24 of 240 messages bear no date"):
        cuts.part([*undated[:24], *examples[24:]], "time", 5)
    assert cuts.was_held_out(undated[0], cuts.part([*undated[230:], *examples[:230]], "time", 5)[1], 5) is False


def test_too_few_senders_are_said():
    """Mail of one sender cannot be parted by sender."""
    one = [replace(example, text=f"From: A @a.example\n\n{example.text}") for example in lesson(20)]

    with pytest.raises(TrainingError, match="different senders; take --split text-hash"):
        cuts.part(one, "sender", 5)


@pytest.mark.parametrize("method", [None, "shuffled 70/10/20", "another", 7, "time 70/10/20, test from never"])
def test_what_cannot_be_told_is_not_told(method):
    """A method that keeps no record, or a card that was damaged, holds nothing out."""
    assert not cuts.was_held_out(_mail()[0], method, 5)


@pytest.mark.parametrize(
    ("text", "sender"),
    [
        ("From: A B @Shop.example\nSubject: x", "shop.example"),
        ("From: @shop.example", "shop.example"),
        ("From: A B @gmail.com\n", "A B @gmail.com"),
        ("From: A @yahoo.co.uk\n", "A @yahoo.co.uk"),
        ("no sender", "no sender"),
        ("From: nobody\n", "From: nobody\n"),
    ],
)
def test_senders_are_domains_but_for_providers(text, sender):
    """Of a provider for all the world each customer is a sender."""
    assert sender == cuts.sender_of(text)


@pytest.mark.parametrize("order", [1, -1])
def test_near_copies_leave_held_out_mail(order):
    """Of near copies the one stays that trains, whichever came first; with another label both stay."""
    words = " ".join(example.text for example in lesson(8))
    variants = [Example(f"{words} {chr(97 + n) * 3}", Label.SPAM, str(n), "x") for n in range(20)][::order]
    ham = Example(f"{words} ham", Label.HAM, "ham", "x")
    found = deduplicate([*variants, ham], lambda example: cuts.height(example, "text-hash", 5))

    best = max(variants, key=lambda example: cuts.height(example, "text-hash", 5))
    assert [best, ham] == found.examples
    assert (19, 0) == (found.num_duplicates, found.num_conflicting)
    assert 21 == len(deduplicate([*variants, ham]).examples)


def test_by_time_the_earliest_copy_stays():
    """What came first trains; its later copies would only flatter."""
    early, late = replace(_mail()[0], arrived=1.0), replace(_mail()[0], arrived=2.0)

    assert cuts.height(late, "time", 1) < cuts.height(early, "time", 1) < cuts.height(replace(early, arrived=None), "time", 1)
