"""Messages as they lie on disk."""

import os

import pytest

from spamd.mail.mailboxes import read_messages

POSTMARK = b"From ann@example.org Tue Nov  3 10:00:00 2026\n"


def write(path, content):
    """Write a file, making its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def origins(path):
    """List where messages lie below a path, as names relative to it."""
    return [message.origin.removeprefix(f"{path}/") for message in read_messages(path)]


def test_file_is_one_message(tmp_path):
    """A file is one message, byte for byte."""
    path = write(tmp_path / "a.eml", b"Subject: a\r\n\r\n\0\xff")

    (message,) = read_messages(path)

    assert message.raw == b"Subject: a\r\n\r\n\0\xff"
    assert message.origin == str(path)


def test_eml_with_a_from_line_is_one_message(tmp_path):
    """A file named .eml is one message, even where it begins and goes on like an mbox."""
    content = POSTMARK + b"Subject: a\n\nquoted:\n\n" + POSTMARK + b"\n"
    path = write(tmp_path / "a.EML", content)

    assert [message.raw for message in read_messages(path)] == [content]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_mbox_is_cut_at_its_from_lines(tmp_path, line_end):
    """An mbox gives its messages in order, without From lines; a line of prose that begins with From cuts nothing."""
    content = POSTMARK + b"Subject: 1\n\nFrom here\n\nFrom now on, all is well.\n\n" + POSTMARK + b"Subject: 2\n\nbody\n"
    path = write(tmp_path / "Inbox", content.replace(b"\n", line_end))

    messages = list(read_messages(path))

    assert [message.raw.replace(b"\r\n", b"\n") for message in messages] == [
        b"Subject: 1\n\nFrom here\n\nFrom now on, all is well.\n\n",
        b"Subject: 2\n\nbody\n",
    ]
    assert [message.origin for message in messages] == [f"{path} message 1", f"{path} message 2"]


@pytest.mark.parametrize(
    "postmark",
    [
        b"From MAILER-DAEMON Fri Jul  8 12:08:34 2011\n",
        b"From - Sat Jan  3 01:05:34 1996\n",
        b"From a@b.example  Thu Jan  1 00:00:00 +0000 1970\n",
        b"From a@b.example Thu Aug 22 12:36:23 2002 remote from host\n",
        b"From 1234567890@xxx Sat Jan 03 01:05:34 +0000 2015\n",
    ],
)
def test_known_forms_of_from_lines_are_known(tmp_path, postmark):
    """From lines as various programs write them cut an mbox."""
    path = write(tmp_path / "mbox", postmark + b"a: b\n\none\n\n" + postmark + b"a: b\n\ntwo\n")

    assert len(list(read_messages(path))) == 2


def test_folder_is_searched_in_order_of_names(tmp_path):
    """A folder gives the messages of all its files, sorted, at any depth, but nothing hidden."""
    for name in ("b/2.eml", "b/10.eml", "a.eml", "c/d/e.eml", ".hidden/x.eml", ".DS_Store"):
        write(tmp_path / name, b"Subject: x\n\n")

    assert origins(tmp_path) == ["a.eml", "b/10.eml", "b/2.eml", "c/d/e.eml"]


def test_maildir_gives_what_was_delivered(tmp_path):
    """A Maildir gives cur and new, also of its subfolders, but neither tmp nor files of the mail server."""
    for name in ("cur/1:2,S", "new/2", "tmp/3", "dovecot.index", "sieve/script", ".Junk/cur/4:2,", ".Junk/tmp/5"):
        write(tmp_path / name, b"Subject: x\n\n")

    assert origins(tmp_path) == [".Junk/cur/4:2,", "cur/1:2,S", "new/2"]


def test_mbox_inside_a_folder_is_cut(tmp_path):
    """An mbox that lies in a folder gives its messages."""
    write(tmp_path / "old" / "sent", POSTMARK + b"a: b\n\n1\n\n" + POSTMARK + b"a: b\n\n2\n")

    assert origins(tmp_path) == ["old/sent message 1", "old/sent message 2"]


def test_empty_file_is_an_empty_message(tmp_path):
    """An empty file is a message without content, so that whoever named it gets an answer."""
    path = write(tmp_path / "empty.eml", b"")

    assert [message.raw for message in read_messages(path)] == [b""]


def test_what_is_no_file_is_passed_over(tmp_path):
    """Pipes and dangling links in a folder are passed over, and links to folders are not followed."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    write(tmp_path / "a.eml", b"Subject: x\n\n")

    assert origins(tmp_path) == ["a.eml"]


def test_missing_path_is_named(tmp_path):
    """A path where nothing lies is an error that bears its name."""
    path = tmp_path / "nowhere"

    with pytest.raises(FileNotFoundError) as caught:
        list(read_messages(path))

    assert caught.value.filename == str(path)


def test_long_message_in_an_mbox_is_cut(tmp_path, monkeypatch):
    """No message takes more memory than the limit, and the next one is found behind it."""
    monkeypatch.setattr("spamd.mail.mailboxes.MAX_MESSAGE_BYTES", 1000)
    path = write(tmp_path / "mbox", POSTMARK + b"a: b\n\n" + b"x\n" * 5000 + b"\n" + POSTMARK + b"a: b\n\n2\n")

    lengths = [len(message.raw) for message in read_messages(path)]

    assert lengths == [1000, 8]
