"""Labelled mail is stored once under its last label, by any number of processes, and goes when it is to go."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from spamd.errors import DatasetError
from spamd.mail.mailboxes import StoredMessage
from spamd.service import feedback
from spamd.service.feedback import FeedbackStore, identify
from spamd.verdict import Label

STORE = """
import sys
from pathlib import Path
from spamd.mail.mailboxes import StoredMessage
from spamd.service.feedback import FeedbackStore
from spamd.verdict import Label
own = sys.argv[2]
texts = (f"Subject: {own}\\n\\nmessage {'abcdefghij'[n % 10] * (n // 10 + 1)}" for n in range(100000))
messages = (StoredMessage(text.encode(), text) for text in texts)
for place, _ in enumerate(FeedbackStore(Path(sys.argv[1])).learn(messages, Label.SPAM)):
    print(place, flush=True)
    if place + 1 == int(sys.argv[3]):
        break
"""


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    return FeedbackStore(tmp_path / "state" / "feedback.sqlite3")


def _messages(*texts):
    """Messages with those bodies."""
    return [StoredMessage(f"Subject: hello\n\n{text}".encode(), f"{text}.eml") for text in texts]


def test_a_message_is_stored_once_and_the_last_label_counts(store):
    """Copies count as known; another label replaces the one before."""
    assert ["new", "new", "known"] == list(store.learn(_messages("one", "two", "ONE 7!"), Label.SPAM))
    assert ["relabelled"] == list(store.learn(_messages("one"), Label.HAM))
    assert {("one", Label.HAM), ("two", Label.SPAM)} == {(one.text.split()[-1], one.label) for one in store}


def test_only_text_is_kept_unless_the_message_is_wanted(store):
    """By default the raw message is not on disk at all; with `keeps_raw` it is."""
    message = StoredMessage(b"To: me@private.example\nSubject: x\n\nbody", "x.eml")
    list(store.learn([message], Label.HAM))

    assert [None] == [one.raw for one in store]
    assert b"private.example" not in store.path.read_bytes()

    whole = FeedbackStore(store.path, keeps_raw=True)
    list(whole.learn([message], Label.HAM))

    assert [message.raw] == [one.raw for one in whole]


def test_what_is_forgotten_is_overwritten(store):
    """After --forget no byte of the text is left in the file."""
    list(store.learn(_messages("unforgettable words", "others"), Label.SPAM))
    identifier = next(one.id for one in store if "unforgettable" in one.text)

    assert (1, 0) == (store.forget(identifier), store.forget(identifier))
    assert b"unforgettable" not in store.path.read_bytes()
    assert 1 == len(list(store))
    assert 0 == store.forget("")


def test_old_messages_go(store, monkeypatch):
    """What is older than the retention is gone at the next look; without a retention nothing goes."""
    now = time.time()
    monkeypatch.setattr(feedback.time, "time", lambda: now - 40 * feedback.DAY)
    list(store.learn(_messages("old"), Label.SPAM))
    monkeypatch.setattr(feedback.time, "time", lambda: now)
    list(store.learn(_messages("new"), Label.SPAM))

    assert 2 == len(list(store))
    assert ["new"] == [one.text.split()[-1] for one in FeedbackStore(store.path, retention_days=30)]


def test_the_file_is_its_owners_alone(store):
    """Mode 0600, from the first moment."""
    list(store.learn(_messages("x"), Label.SPAM))

    assert 0o600 == stat.S_IMODE(store.path.stat().st_mode)


def test_an_empty_store_makes_no_file(store):
    """Looking creates nothing."""
    assert [] == list(store)
    assert not store.path.exists()


def test_another_file_is_no_store(store):
    """What is no database is said, and left as it is."""
    store.path.parent.mkdir()
    store.path.write_bytes(b"no database at all, but long enough to be taken for one" * 50)

    with pytest.raises(DatasetError, match=r"The store of labelled mail .* cannot be used: file is not a database"):
        list(store)


def test_ids_follow_from_the_text():
    """The same text has the same id, on every machine."""
    assert identify("Hello, 1") == identify("hello")
    assert 12 == len(identify("x"))


@pytest.mark.slow
def test_two_processes_store_at_once_and_one_is_killed(store):
    """Nothing of the other's is lost, and the one that was killed left whole messages only."""
    command = [sys.executable, "-c", STORE, store.path]
    store.path.parent.mkdir()
    killed = subprocess.Popen([*command, "first", "99999"], stdout=subprocess.PIPE)
    other = subprocess.Popen([*command, "second", "40"], stdout=subprocess.PIPE)
    for _ in range(20):
        assert killed.stdout.readline()
    os.kill(killed.pid, signal.SIGKILL)

    out, _ = other.communicate(timeout=100)
    num_said = 20 + len(killed.communicate()[0].splitlines())
    stored = [one.text for one in store]

    assert (0, 40) == (other.returncode, len(out.splitlines()))
    assert 40 == sum("second" in text for text in stored)
    assert num_said <= sum("first" in text for text in stored) <= num_said + 1
