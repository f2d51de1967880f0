"""Datasets label what they find by where it lies, in the same order at each call, and refuse what they cannot tell."""

import os

import pytest

from spamd.errors import DatasetError
from spamd.training.datasets import folder, maildir, mbox, parse_dataset_spec, spamd_register_datasets


def _message(subject):
    """A small message."""
    return f"From: a@example.org\nSubject: {subject}\n\nBody of {subject}.\n".encode()


@pytest.fixture
def put(tmp_path):
    """Write a small message at a path below the test's folder."""

    def put_message(path, subject=""):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_message(subject or path))
        return file

    return put_message


def _found(dataset, root):
    """Labels by path below a folder."""
    return {message.origin.removeprefix(f"{root}/"): message.label.value for message in dataset}


def test_folder_finds_ham_and_spam_at_any_depth(put, tmp_path):
    """Folders named ham and spam label all below them, in any case and at any depth; other folders are left alone."""
    for path in ("2004/ham/1.eml", "2004/Spam/x/2.eml", "2005/deep/ham/3", "unsorted/4.eml"):
        put(path)
    expected = {"2004/ham/1.eml": "ham", "2004/Spam/x/2.eml": "spam", "2005/deep/ham/3": "ham"}

    assert expected == _found(folder(tmp_path), tmp_path)


def test_folder_yields_the_same_order_each_time(put, tmp_path):
    """Two passes agree, and names decide the order."""
    for path in ("ham/b.eml", "ham/a.eml", "spam/c.eml"):
        put(path)
    dataset = folder(tmp_path)

    assert ["a.eml", "b.eml", "c.eml"] == [os.path.basename(message.origin) for message in dataset]  # noqa: PTH119
    assert list(dataset) == list(dataset)


def test_folder_takes_one_label_within_itself(put, tmp_path):
    """A folder named ham inside a folder named ham is read once."""
    put("ham/ham/1.eml")
    put("spam/2.eml")

    assert 2 == len(list(folder(tmp_path)))


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        (["ham/1.eml"], "holds no folder named spam; it needs one named ham and one named spam, at any depth"),
        (["1.eml"], "holds no folder named ham"),
        (["ham/1.eml", "ham/spam/2.eml"], "so that its label is unclear"),
    ],
)
def test_folder_says_what_is_missing(put, tmp_path, paths, sentence):
    """A folder without both labels is refused by name."""
    for path in paths:
        put(path)

    with pytest.raises(DatasetError, match=sentence) as caught:
        folder(tmp_path)

    assert str(tmp_path) in str(caught.value)


def test_folder_says_what_is_empty(put, tmp_path):
    """An empty spam folder is told from a missing one."""
    put("ham/1.eml")
    (tmp_path / "spam").mkdir()

    with pytest.raises(DatasetError, match="holds no message in its folder named spam"):
        folder(tmp_path)


def test_a_missing_path_is_named(tmp_path):
    """A path that is not there is a DatasetError in every dataset."""
    for factory in (folder, maildir, mbox):
        with pytest.raises(DatasetError, match="nowhere is not a f"):
            factory(tmp_path / "nowhere", **({"label": "ham"} if factory is mbox else {}))


def test_unreadable_mail_names_the_file(put, tmp_path, monkeypatch):
    """A message that cannot be read stops reading with its name, not with a traceback."""
    put("ham/1.eml")
    put("spam/2.eml")

    def fail(path):
        raise PermissionError(13, "Permission denied", str(path / "1.eml"))

    monkeypatch.setattr("spamd.training.datasets.read_messages", fail)

    with pytest.raises(DatasetError, match=r"folder:.*: .*/ham/1\.eml cannot be read: Permission denied\."):
        list(folder(tmp_path))


def test_maildir_labels_by_folder_name(put, tmp_path):
    """Junk-like folders hold spam, the rest ham; what nobody judged and what is being written stay out."""
    expected = {
        "cur/1:2,S": "ham",
        "new/2": "ham",
        ".Junk/cur/3:2,S": "spam",
        ".INBOX.Spam/cur/4:2,S": "spam",
        ".Archive.2020/cur/5:2,S": "ham",
        ".Junk E-mail/new/6": "spam",
        ".Spam reports/cur/7": "ham",
    }
    for path in (*expected, ".Trash/cur/8", ".Sent/cur/9", ".Drafts/cur/10", "tmp/11", ".Deleted Items/cur/12"):
        put(path)

    assert expected == _found(maildir(tmp_path), tmp_path)


def test_maildirs_in_a_plain_folder_are_found(put, tmp_path):
    """A folder that holds Maildirs, one for each user, serves as well."""
    put("ann/Maildir/cur/1")
    put("bob/Maildir/.Junk/cur/2")

    assert {"ann/Maildir/cur/1": "ham", "bob/Maildir/.Junk/cur/2": "spam"} == _found(maildir(tmp_path), tmp_path)


def test_maildir_label_reads_that_folder_alone(put, tmp_path):
    """With a label the subfolders are not looked at: ham never takes Junk along."""
    put("cur/1")
    put(".Junk/cur/2")

    assert {"cur/1": "ham"} == _found(maildir(tmp_path, label="ham"), tmp_path)
    assert {".Junk/cur/2": "spam"} == _found(maildir(tmp_path / ".Junk", label="spam"), tmp_path)


def test_maildir_refuses_other_folders(put, tmp_path):
    """A folder without a Maildir, or a label that is none, is refused."""
    put("plain/1.eml")
    for options, sentence in (({}, "holds no Maildir"), ({"label": "ham"}, "is not a Maildir")):
        with pytest.raises(DatasetError, match=sentence):
            maildir(tmp_path, **options)
    (tmp_path / "cur").mkdir()
    with pytest.raises(DatasetError, match="label=junk is neither ham nor spam"):
        maildir(tmp_path, label="junk")


def test_mbox_bears_one_label(tmp_path):
    """Every message of the file gets the label; origins count them."""
    file = tmp_path / "inbox"
    file.write_bytes(b"".join(b"From a@b Thu Aug 22 13:17:22 2002\n" + _message(str(number)) + b"\n" for number in range(3)))

    messages = list(mbox(file, label="spam"))

    assert ["spam"] * 3 == [message.label for message in messages]
    assert f"{file} message 3" == messages[-1].origin


def test_mbox_needs_a_label_and_an_mbox(tmp_path):
    """Without a label nobody knows what an mbox holds, and a file of another kind is not one message by mistake."""
    file = tmp_path / "inbox"
    file.write_bytes(_message("x"))

    with pytest.raises(DatasetError, match=r"write mbox:.*\?label=ham or \?label=spam"):
        mbox(file)
    with pytest.raises(DatasetError, match="is not an mbox"):
        mbox(file, label="ham")


@pytest.mark.parametrize(
    ("factory", "offer"), [(folder, "it has no options"), (maildir, "its options are label"), (mbox, "its options are label")]
)
def test_unknown_options_are_refused(factory, offer, tmp_path):
    """A misspelt option is not passed over."""
    with pytest.raises(DatasetError, match=f"no option named 'lable'; {offer}"):
        factory(tmp_path, lable="ham")


@pytest.mark.parametrize(
    ("spec", "name", "path", "options"),
    [
        ("folder:/srv/mail", "folder", "/srv/mail", {}),
        ("mbox:/srv/a:b?label=ham", "mbox", "/srv/a:b", {"label": "ham"}),
        ("csv:x.csv?text=my%20text&delimiter=%09", "csv", "x.csv", {"text": "my text", "delimiter": "\t"}),
        ("folder:what?", "folder", "what?", {}),
        ("csv:odd?name.csv?label=v1", "csv", "odd?name.csv", {"label": "v1"}),
    ],
)
def test_specs_are_taken_apart(spec, name, path, options):
    """Name, path and options are told apart, question marks and colons in paths included."""
    found = parse_dataset_spec(spec)

    assert (name, path, options) == (found[0], str(found[1]), found[2])


@pytest.mark.parametrize("spec", ["/srv/mail", "folder", "folder:", ":/srv", "C:/mail", "csv:x?a=1&b"])
def test_specs_without_a_name_or_path_are_refused(spec):
    """Nothing is guessed from a bare path."""
    with pytest.raises(DatasetError, match="--dataset"):
        parse_dataset_spec(spec)


def test_home_folders_are_known():
    """A tilde stands for the home folder, as the shell does not expand it behind a colon."""
    assert os.path.expanduser("~/mail") == str(parse_dataset_spec("folder:~/mail")[1])  # noqa: PTH111
    with pytest.raises(DatasetError, match="the home of a user who is not known here"):
        parse_dataset_spec("folder:~nobody-of-that-name/mail")


def test_the_built_in_names():
    """The five names of the documentation are registered."""
    assert {"folder", "maildir", "mbox", "csv", "sms-spam-collection"} == set(spamd_register_datasets())
