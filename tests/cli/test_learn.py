"""`spamd-admin learn` as its user meets it."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def message(tmp_path):
    """A message in a file."""
    file = tmp_path / "m.eml"
    file.write_text("From: a@example.org\nSubject: Cheap pills\n\nBuy them now\n")
    return file


@pytest.fixture
def learn(spamd_admin, tmp_path):
    """Run `spamd-admin learn`."""
    config = tmp_path / "c.toml"
    config.write_text("")
    return lambda *arguments, stdin=b"": spamd_admin("learn", "--config", config, *arguments, stdin=stdin)


def test_learning_says_what_is_stored(learn, message):
    """Counts of this call and of the store, and the next step."""
    ran = learn("--spam", message)

    assert 0 == ran.code
    assert (
        "Learned 1 spam, relabelled 0, knew 0. Stored are 0 ham and 1 spam; `spamd-admin retrain --dataset feedback` trains on "
        "them.\n"
    ) == ran.out
    assert learn("--ham", message).out.startswith("Learned 0 ham, relabelled 1, knew 0. Stored are 1 ham and 0 spam;")


def test_listing_shows_id_day_label_and_subject(learn, message):
    """One line a message."""
    learn("--spam", message)
    words = learn("--list").out.split()

    assert ["spam", "Cheap", "pills"] == words[2:]
    assert 12 == len(words[0])


@pytest.mark.parametrize("by_file", [True, False])
def test_forgetting_takes_files_and_ids(learn, message, by_file):
    """A message is forgotten by its file or by its id; what was not there is exit 66."""
    learn("--spam", message)
    name = message if by_file else learn("--list").out.split()[0]

    assert f"{name}: 1 forgotten\n" == learn("--forget", name).out
    assert "" == learn("--list").out

    ran = learn("--forget", "nothing")

    assert (66, "nothing: 0 forgotten\n") == (ran.code, ran.out)


def test_the_beginning_of_several_ids_forgets_nothing(learn, tmp_path):
    """An id may be cut short, but not so short that it could mean another message."""
    for number in range(40):
        word = chr(97 + number // 26) * 3 + chr(97 + number % 26)
        (tmp_path / f"{number}.eml").write_text(f"Subject: {word}\n\nWe write about {word} and nothing else.\n")
    learn("--spam", *tmp_path.glob("*.eml"))
    ids = [line.split()[0] for line in learn("--list").out.splitlines()]
    first = next(one[0] for one in ids if 1 < sum(other[0] == one[0] for other in ids))

    ran = learn("--forget", ids[0], first)

    assert 64 == ran.code
    assert "is the beginning of several ids" in ran.err
    assert len(ids) == len(learn("--list").out.splitlines())


def test_odd_names_are_learned_and_empty_ones_refused(learn, tmp_path):
    """A file name that is no UTF-8 stops nothing; an unset variable of a shell does not mean the folder one stands in."""
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in (b"na\xffme.eml", b"z.eml"):
        Path(folder, os.fsdecode(name)).write_text(f"Subject: x\n\n{name}\n")

    assert "Learned 2 ham" in learn("--ham", folder).out
    assert (64, True) == ((ran := learn("--spam", "")).code, "'' is no path" in ran.err)


def test_an_empty_file_is_no_message(learn, message, tmp_path):
    """What has no bytes is told and not stored, be it a file or standard input; the rest is learned."""
    empty = tmp_path / "empty.eml"
    empty.touch()
    ran, piped = learn("--spam", empty, message), learn("--spam", "-")

    assert (0, 0) == (ran.code, piped.code)
    assert f"{empty}: is empty, and was not stored.\n" == ran.err
    assert piped.err.startswith("-: is empty")
    assert "Learned 1 spam, relabelled 0, knew 0. Stored are 0 ham and 1 spam" in ran.out
    assert 1 == len(learn("--list").out.splitlines())


def test_a_message_on_standard_input_is_forgotten(learn, message):
    """`-` is the message that comes on standard input, not the beginning of an id."""
    learn("--spam", message)

    ran = learn("--forget", "-", stdin=message.read_bytes())

    assert (0, "-: 1 forgotten\n") == (ran.code, ran.out)
    assert "" == learn("--list").out


@pytest.mark.parametrize("arguments", [(), ("--spam",), ("--spam", "--ham", "x"), ("--list", "--forget", "x")])
def test_what_to_do_must_be_said(learn, arguments):
    """None, two at once, or no message: a usage error."""
    assert 64 == learn(*arguments).code


def test_a_missing_file_is_told_and_the_rest_is_learned(learn, message, tmp_path):
    """Exit 66 for the one that is not there; the other is stored."""
    ran = learn("--spam", tmp_path / "gone", message)

    assert 66 == ran.code
    assert "gone: No such file" in ran.err
    assert "Stored are 0 ham and 1 spam" in ran.out
