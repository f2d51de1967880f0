"""`spamd-admin learn` as its user meets it."""

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
    return lambda *arguments: spamd_admin("learn", "--config", config, *arguments)


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
