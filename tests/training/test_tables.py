"""Tables become messages: no word is lost to quoting or to a notion of missing values, and each fault names file and line."""

import pytest

from spamd.errors import DatasetError
from spamd.mail.text import message_text
from spamd.training.tables import csv, sms_spam_collection
from spamd.verdict import Label


def _read(dataset):
    """Labels and texts of a dataset."""
    return [(message.label.value, message_text(message.raw).text) for message in dataset]


@pytest.fixture
def write(tmp_path):
    """Write a file."""

    def write_file(content, name="mail.csv", encoding="utf-8"):
        file = tmp_path / name
        file.write_bytes(content.encode(encoding))
        return file

    return write_file


def test_usual_columns_are_found(write):
    """Columns named label and text, in any order and case, need no option."""
    file = write("id,Text,LABEL\n1,Hello there,ham\n2,Win now,spam\n")

    assert [("ham", "Hello there"), ("spam", "Win now")] == _read(csv(file))


def test_words_that_look_like_missing_values_stay(write):
    """NA, null, nan and an empty cell are text, not holes."""
    file = write("label,text\nham,NA\nham,null\nspam,nan\nham,\nspam,None\n")

    assert ["NA", "null", "nan", "", "None"] == [text for _, text in _read(csv(file))]


def test_quoted_cells_keep_delimiters_quotes_and_lines(write):
    """A quoted cell may hold commas, doubled quotation marks and line breaks; origins still count lines of the file."""
    file = write('label,text\nham,"a, ""b""\nc"\n\nspam,last\n')
    messages = list(csv(file))

    assert ["ham", "spam"] == [message.label for message in messages]
    assert b'a, "b"\nc' in messages[0].raw
    assert [f"{file} line 2", f"{file} line 5"] == [message.origin for message in messages]


def test_lines_count_on_across_chunks(write):
    """Line numbers stay right in files that are read in several pieces."""
    file = write("label,text\n" + 'ham,"x\ny"\n' * 1500 + "spam,end\n")
    messages = list(csv(file))

    assert 1501 == len(messages)
    assert f"{file} line 3002" == messages[-1].origin


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found(write, delimiter):
    """Comma, semicolon, tab and bar need no option."""
    file = write(f"label{delimiter}text\nham{delimiter}Hello\n")

    assert [("ham", "Hello")] == _read(csv(file))


def test_the_subject_becomes_the_subject(write):
    """A column named subject goes into the Subject field, whatever characters it holds."""
    file = write("subject,body,label\nÄrger: ja,Text,1\n")

    (message,) = csv(file)

    assert message.raw.startswith(b"Subject: ")
    assert "Ärger: ja" in message_text(message.raw).text


def test_options_name_columns_and_values(write):
    """Any column and any value can be named; what is not the named value is the other label."""
    file = write("kind,words,note\njunk,Buy,x\nfine,Hello,y\nother,Hi,z\n")
    dataset = csv(file, label="kind", text="words", subject="note", spam="junk")

    assert ["spam", "ham", "ham"] == [message.label for message in dataset]


def test_both_values_named_refuse_a_third(write):
    """With both values named, any other is an error."""
    file = write("label,text\nA,x\nB,y\nC,z\n")

    with pytest.raises(DatasetError, match=r"mail\.csv line 4: the label 'c' is none of a, b;"):
        list(csv(file, spam="A", ham="B"))


@pytest.mark.parametrize(("ham", "spam"), [("0", "1"), ("Ham", "SPAM"), ("0.0", "1.0"), ("not spam", "spam"), ("False", "True")])
def test_usual_values_are_known(write, ham, spam):
    """Ham and spam are known by their usual spellings."""
    file = write(f"text,label\na,{ham}\nb,{spam}\n")

    assert ["ham", "spam"] == [message.label for message in csv(file)]


def test_a_column_of_zero_and_one_may_be_called_spam(write):
    """A header that says `text,spam` is a header, not a message."""
    assert [("spam", "Win"), ("ham", "Hello")] == _read(csv(write("text,spam\nWin,1\nHello,0\n")))


def test_a_file_without_header_is_understood(write):
    """Where a cell of the first line is a label there is no header, and no line is lost."""
    assert [("ham", "Hello, you"), ("spam", "Win")] == _read(csv(write('ham,"Hello, you"\nspam,Win\n')))


def test_columns_without_header_are_counted(write):
    """`header=no` makes columns known by their number."""
    assert [("ham", "Hello"), ("spam", "Win")] == _read(csv(write("0,Hello\n1,Win\n"), header="no", label="1", text="2"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings_are_found(write, encoding):
    """A byte order mark is no part of the first column's name, and Latin-1 is read where UTF-8 fails."""
    assert [("ham", "Grüße")] == _read(csv(write("label,text\nham,Grüße\n", encoding=encoding)))


def test_quoting_can_be_switched_off(write):
    """With quoting=none a quotation mark is a character like any other."""
    file = write('label\ttext\nham\t"open\nspam\tWin"\n')

    assert ["ham", "spam"] == [message.label for message in csv(file, quoting="none")]


def test_short_and_blank_lines_do_no_harm(write):
    """Missing cells are empty, blank lines are passed over."""
    assert [("ham", "a"), ("spam", "b")] == _read(csv(write("label,text,note\nham,a\n,,\n\nspam,b,c\n")))


def test_it_reads_twice_the_same(write):
    """Each pass yields the same messages."""
    dataset = csv(write("label,text\nham,a\nspam,b\n"))

    assert list(dataset) == list(dataset)


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        ("label,words\nham,a\n", {}, "no column that is known to hold the text; its columns are label, words"),
        ("label,text\nham,a\n", {"label": "class"}, "no column named 'class'; its columns are label, text"),
        ("label,text\nmaybe,a\n", {}, r"mail\.csv line 2: the label 'maybe' is none of"),
        ("label,text\n,a\n", {}, "line 2: the label '' is none of"),
        ("label,text\nham,a\nham,a,b,c\n", {}, r"mail\.csv: is not a table"),
        ('label,text\nham,"open\n', {}, r"mail\.csv: is not a table"),
        ("", {}, "has no two columns"),
        ("one\ntwo\n", {}, "has no two columns"),
        ("label,text\nham,a\n", {"delimiter": "::"}, "delimiter=:: is not one character"),
        ("label,text\nham,a\n", {"colour": "red"}, "no option named 'colour'; its options are text, label"),
        ("label,text\nham,a\n", {"encoding": "klingon"}, "encoding='klingon' is not known"),
        ("label,text\nham,a\n", {"encoding": "base64"}, "encoding='base64' is not known"),
        ("label,text\nham,a\n", {"encoding": "utf-8\0"}, r"encoding='utf-8\\x00' is not known; write utf-8, latin-1 or another"),
        ("label,text\nham,a\n", {"quoting": "all"}, "quoting=all is not known"),
    ],
)
def test_faults_are_named(write, content, options, sentence):
    """What cannot be read is one sentence with the file and the reason."""
    with pytest.raises(DatasetError, match=sentence):
        list(csv(write(content), **options))


def test_a_missing_file_is_named(tmp_path):
    """A file that is not there is a DatasetError."""
    with pytest.raises(DatasetError, match=r"none\.csv is not a file"):
        csv(tmp_path / "none.csv")


def test_sms_collection_has_no_quoting(write):
    """Quotation marks join no lines: as many messages come out as the file has lines."""
    file = write('ham\tHe said "yes\nspam\tWIN "now\nham\tNA\n', name="SMSSpamCollection")
    dataset = sms_spam_collection(file)

    assert [("ham", 'He said "yes'), ("spam", 'WIN "now'), ("ham", "NA")] == _read(dataset)
    assert f"{file} line 3" == [message.origin for message in dataset][-1]


def test_sms_collection_may_be_named_by_its_folder(write):
    """The folder that the archive unpacks into serves as well."""
    file = write("ham\tHello\n", name="SMSSpamCollection")

    assert [("ham", "Hello")] == _read(sms_spam_collection(file.parent))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("ham\tHello\nmaybe\tHi\n", "line 2: the label 'maybe' is none of ham, spam"),
        ("ham\tb\tc\n", "line 1: is not a label, a tab and a text"),
        ("ham\tb\nspam\ta\tb\n", "is not a table"),
    ],
)
def test_other_files_are_no_sms_collection(write, content, sentence):
    """A file of another kind is refused with the line."""
    with pytest.raises(DatasetError, match=sentence):
        list(sms_spam_collection(write(content)))


def test_sms_collection_must_be_there(tmp_path):
    """Neither a missing file nor an unknown option goes unnoticed."""
    with pytest.raises(DatasetError, match="neither the file SMSSpamCollection nor a folder that holds it"):
        sms_spam_collection(tmp_path)
    with pytest.raises(DatasetError, match="no option named 'label'"):
        sms_spam_collection(tmp_path, label="ham")


def test_labels_are_labels(write):
    """What comes out is typed."""
    (message,) = csv(write("label,text\nham,a\n"))

    assert Label.HAM is message.label
