"""Parts share nothing, stay what they are when mail is added, and hold both labels."""

import random

import pytest

from spamd.errors import TrainingError
from spamd.interfaces import LabeledMessage
from spamd.mail.likeness import normalise
from spamd.training.splits import Example, count, deduplicate, read_examples, split, undersample
from spamd.verdict import Label

HAM, SPAM = Label.HAM, Label.SPAM


def _examples(num_ham, num_spam, seed=1):
    """Messages of random words."""
    chance = random.Random(seed)

    def words():
        return " ".join("".join(chance.choices("abcdefghijklmnop", k=6)) for _ in range(8))

    labels = [HAM] * num_ham + [SPAM] * num_spam
    chance.shuffle(labels)
    return [Example(words(), label, f"mail {number}", "folder:x") for number, label in enumerate(labels)]


def _texts(examples):
    """Texts as a set."""
    return {example.text for example in examples}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Win £100 now!!!", "WIN £999 NOW"),
        ("Straße  7", "STRASSE 8"),
        ("免费 1", "免费 2!"),
        ("12 345", "12345"),
    ],
)
def test_near_duplicates_look_alike(one, other):
    """Digits, punctuation, spacing and case make no difference; a text without letters keeps its characters."""
    assert normalise(one) == normalise(other)


def test_texts_without_letters_are_not_all_the_same():
    """Two numbers are two messages."""
    assert normalise("111") != normalise("222")


def test_the_first_of_duplicates_stays():
    """Exact and near copies go, the first of each kind stays in its place, and copies are counted."""
    examples = [Example(text, SPAM, str(n), "x") for n, text in enumerate(["Win 1", "Hello", "win 2!", "Win 1"])]
    found = deduplicate(examples)

    assert ["0", "1"] == [example.origin for example in found.examples]
    assert (2, 0) == (found.num_duplicates, found.num_conflicting)


def test_conflicting_labels_leave_nothing():
    """A text that is ham here and spam there teaches nothing: all of its copies go, and are counted apart."""
    examples = [
        Example("Hi", HAM, "0", "x"),
        Example("hi!", SPAM, "1", "x"),
        Example("HI", HAM, "2", "x"),
        Example("Yo", HAM, "3", "x"),
    ]
    found = deduplicate(examples)

    assert ["3"] == [example.origin for example in found.examples]
    assert (0, 3) == (found.num_duplicates, found.num_conflicting)


def test_undersampling_takes_as_many_ham_as_spam():
    """4,827 ham and 747 spam become 747 of each, as in the reference, the same for the same seed and in their order."""
    examples = _examples(4827, 747)
    drawn = undersample(examples, 123)

    assert {HAM: 747, SPAM: 747} == count(drawn)
    assert drawn == undersample(examples, 123) != undersample(examples, 124)
    assert [example for example in examples if example in set(drawn)] == drawn


def test_undersampling_without_a_label_leaves_nothing():
    """Balance with nothing is nothing; splitting then says so."""
    assert [] == undersample(_examples(5, 0), 123)


def test_parts_are_seventy_ten_twenty():
    """Of many messages 70 % train, 10 % validate and 20 % test, in both labels alike."""
    parts = split(_examples(6000, 3000), 123)

    for part, share in ((parts.train, 0.7), (parts.validation, 0.1), (parts.test, 0.2)):
        assert 6000 * share == pytest.approx(count(part)[HAM], rel=0.1)
        assert 3000 * share == pytest.approx(count(part)[SPAM], rel=0.15)


def test_no_message_is_lost_or_shared():
    """Every message is in exactly one part."""
    examples = _examples(500, 500)
    parts = split(examples, 123)

    assert sorted(e.origin for e in examples) == sorted(e.origin for e in (*parts.train, *parts.validation, *parts.test))


def test_held_out_mail_stays_held_out():
    """With more mail, or less, or in another order, no message moves between parts."""
    examples = _examples(2000, 2000)
    before, after = split(examples[:1000], 123), split(list(reversed(examples)), 123)

    assert _texts(before.test) <= _texts(after.test)
    assert _texts(before.validation) <= _texts(after.validation)
    assert _texts(before.train) <= _texts(after.train)


def test_near_duplicates_across_trainings_share_a_part():
    """A changed digit does not let a held-out message into training."""
    examples = _examples(300, 300)
    changed = [Example(f"{e.text} {n}!", e.label, e.origin, e.dataset) for n, e in enumerate(examples)]

    assert [e.origin for e in split(examples, 5).test] == [e.origin for e in split(changed, 5).test]


def test_another_seed_holds_out_other_mail():
    """The seed decides what is held out."""
    examples = _examples(300, 300)

    assert _texts(split(examples, 1).test) != _texts(split(examples, 2).test)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("num_each", [8, 32])
def test_few_messages_still_fill_each_part(num_each, seed):
    """With 32 and even 8 of each label all parts hold both, and training keeps half."""
    parts = split(_examples(num_each, num_each, seed), seed)

    for part in (parts.train, parts.validation, parts.test):
        assert min(count(part).values()) >= 2
    assert len(parts.train) >= num_each / 2


def test_too_few_messages_are_refused_with_counts():
    """The sentence says what there is and what is needed."""
    with pytest.raises(TrainingError, match=r"There are 200 ham and 7 spam messages .* needs at least 8 of each"):
        split(_examples(200, 7), 123)


def test_a_missing_label_is_refused():
    """Mail of one label trains nothing."""
    with pytest.raises(TrainingError, match="There are 50 ham and 0 spam"):
        split(_examples(50, 0), 123)


def test_text_is_what_scoring_reads():
    """Examples hold the text of the one function that serves training and scoring."""
    raw = b"From: Ann <ann@example.org>\nSubject: Hello\n\nDear Bob\n"
    (example,) = read_examples([LabeledMessage(raw, HAM, "1.eml")], "folder:x")

    assert "Dear Bob" in example.text
    assert ("1.eml", "folder:x", HAM) == (example.origin, example.dataset, example.label)
