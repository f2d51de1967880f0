"""The dataset `jsonl` yields a message a line and names the line that it cannot read."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from spamd.errors import DatasetError
from spamd.hooks.manager import load_plugins
from spamd.mail.text import message_text

FILE = Path(__file__).with_name("jsonl_dataset.py")


@pytest.fixture(scope="module")
def jsonl():
    """The factory, by a plain import of the file."""
    spec = importlib.util.spec_from_file_location("jsonl_dataset", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.jsonl


@pytest.fixture
def write(tmp_path):
    """Write a file of lines; what is no string is written as JSON."""

    def write(*lines) -> Path:
        file = tmp_path / "mail.jsonl"
        file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), encoding="utf-8")
        return file

    return write


def test_texts_become_messages(jsonl, write):
    """Each line is a message with subject, text, label and origin."""
    file = write({"label": "spam", "subject": "Prize", "text": "You have won"}, "", {"label": "ham", "text": "Noon?"})

    messages = list(jsonl(file))

    assert [("spam", f"{file} line 1"), ("ham", f"{file} line 3")] == [(message.label, message.origin) for message in messages]
    assert "Prize" in message_text(messages[0].raw).text
    assert "You have won" in message_text(messages[0].raw).text


def test_whole_messages_are_kept(jsonl, write):
    """A message with headers is passed on as it stands."""
    raw = "From: Ann <ann@example.org>\nSubject: Noon\n\nSee you there."

    assert [raw.encode()] == [message.raw for message in jsonl(write({"label": "ham", "message": raw}))]


@pytest.mark.parametrize(
    ("label", "expected"),
    [("spam", "spam"), ("Ham", "ham"), (True, "spam"), (False, "ham"), (1, "spam"), (0, "ham"), ("1", "spam")],
)
def test_labels(jsonl, write, label, expected):
    """Words, numbers and booleans are labels."""
    assert [expected] == [message.label for message in jsonl(write({"label": label, "text": "x"}))]


def test_other_keys(jsonl, write):
    """Options name the keys of somebody else's file."""
    (message,) = jsonl(write({"class": 1, "body": "You have won"}), label="class", text="body")

    assert "You have won" in message_text(message.raw).text


def test_the_order_is_the_same_at_each_call(jsonl, write):
    """A dataset can be read twice."""
    dataset = jsonl(write(*({"label": "ham", "text": f"message {number}"} for number in range(5))))

    assert list(dataset) == list(dataset)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "is not a JSON object but [1]"),
        ({"label": "eggs", "text": "x"}, "'label' must be ham or spam, not 'eggs'"),
        ({"text": "x"}, "'label' must be ham or spam, not None"),
        ({"label": "ham"}, "has neither 'text' nor 'message'"),
        ({"label": "ham", "text": 7}, "has neither 'text' nor 'message'"),
    ],
)
def test_a_wrong_line_is_named(jsonl, write, line, reason):
    """The error says which line of which file, and why."""
    file = write({"label": "ham", "text": "fine"}, line)

    with pytest.raises(DatasetError) as raised:
        list(jsonl(file))

    assert str(raised.value).startswith(f"{file} line 2: ")
    assert reason in str(raised.value)


def test_other_encodings_are_refused(jsonl, tmp_path):
    """JSON is UTF-8; what is not is told, not guessed."""
    (tmp_path / "mail.jsonl").write_bytes(b'{"label": "ham", "text": "\xff"}\n')

    with pytest.raises(DatasetError, match="is not UTF-8"):
        list(jsonl(tmp_path / "mail.jsonl"))


def test_wrong_use_is_told_at_once(jsonl, write, tmp_path):
    """A missing file and an unknown option stop the training before it starts."""
    with pytest.raises(DatasetError, match=r"jsonl:.*absent is not a file"):
        jsonl(tmp_path / "absent")
    with pytest.raises(DatasetError, match="no option named 'colour'; its options are label, text, subject, message"):
        jsonl(write(), colour="red")


def test_the_file_works_as_a_drop_in(tmp_path, write):
    """Copied into the drop-in folder, the file offers the dataset, and this test beside it is left alone."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    for file in (FILE, Path(__file__)):
        shutil.copyfile(file, folder / file.name)
        (folder / file.name).chmod(0o644)

    plugins = load_plugins(drop_in_folder=folder, use_entry_points=False, kinds=["dataset"])

    assert "jsonl_dataset.py" == plugins.owners["dataset", "jsonl"]
    assert 1 == len(list(plugins.datasets["jsonl"](write({"label": "ham", "text": "Noon?"}))))
