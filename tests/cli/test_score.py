"""`spamd-admin score` with the tiny checkpoint."""

import errno
import json
import os
from pathlib import Path

import pytest

from spamd import loading
from spamd.cli.score import CHUNK_MESSAGES
from spamd.verdict import GTUBE

KEYS = ["path", "label", "probability", "score", "threshold", "checkpoint", "tokens", "truncated", "defects", "milliseconds"]


def _write(file, body="hello", subject="greetings"):
    """Write a message to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(
        f"From: a@example.com\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\nSubject: {subject}\r\n\r\n{body}\r\n".encode()
    )
    return file


@pytest.fixture
def score(spamd_admin, settings):
    """Run `spamd-admin score` with those settings."""
    return lambda *arguments, stdin=b"": spamd_admin("score", "--config", settings, *arguments, stdin=stdin)


def test_one_line_a_message(score, tmp_path):
    """A line bears label, score, probability and path."""
    ran = score(_write(tmp_path / "a.eml"))
    label, points, probability, path = ran.out.split()

    assert (0, "") == (ran.code, ran.err)
    assert str(tmp_path / "a.eml") == path
    assert ("spam" if float(points) >= 5.0 else "ham") == label
    assert 0.0 < float(probability) < 1.0


def test_json_says_everything(score, tmp_path, registry):
    """A JSON line bears all that is known about a message, under fixed keys."""
    (line,) = map(json.loads, score("--json", _write(tmp_path / "a.eml", "word " * 200)).out.splitlines())

    assert KEYS == list(line)
    assert registry.current().name == line["checkpoint"]
    assert (128, True, 0.5) == (line["tokens"], line["truncated"], line["threshold"])
    assert {"extract", "score"} == set(line["milliseconds"])


def test_the_settings_threshold_wins(score, settings, tmp_path):
    """The threshold of the settings replaces the checkpoint's."""
    settings.write_text(settings.read_text() + "threshold = 0.999999\n")
    (line,) = map(json.loads, score("--json", _write(tmp_path / "a.eml")).out.splitlines())

    assert ("ham", 0.999999) == (line["label"], line["threshold"])


def test_every_kind_of_input(score, tmp_path):
    """Files, folders, Maildirs, mboxes and standard input are read in the order of the arguments."""
    single = _write(tmp_path / "single.eml")
    folder = _write(tmp_path / "folder" / "in" / "x.eml").parent.parent
    maildir = _write(tmp_path / "maildir" / "cur" / "1:2,S").parent.parent
    (maildir / "new").mkdir()
    mbox = tmp_path / "mbox"
    message = single.read_bytes()
    mbox.write_bytes(b"".join(b"From a@example.com Sun Nov 22 10:00:00 2026\n" + message + b"\n" for _ in range(2)))
    ran = score(single, folder, maildir, mbox, "-", stdin=message)
    paths = [line.split(maxsplit=3)[3] for line in ran.out.splitlines()]

    assert [
        str(single),
        str(folder / "in/x.eml"),
        str(maildir / "cur/1:2,S"),
        f"{mbox} message 1",
        f"{mbox} message 2",
        "-",
    ] == paths
    assert 1 == len({line.split()[2] for line in ran.out.splitlines()})


def test_standard_input_may_be_an_mbox(score, tmp_path):
    """An mbox on standard input is as many lines as it holds messages."""
    message = _write(tmp_path / "a.eml").read_bytes()
    mbox = b"".join(b"From a@example.com Sun Nov 22 10:00:00 2026\n" + message + b"\n" for _ in range(2))

    assert ["- message 1", "- message 2"] == [line.split(maxsplit=3)[3] for line in score("-", stdin=mbox).out.splitlines()]


def test_many_files_load_the_model_once(score, tmp_path, monkeypatch):
    """More files than fit a chunk load the checkpoint once, and their lines keep the order of the files."""
    loads = []
    load = loading.load_engine
    monkeypatch.setattr(loading, "load_engine", lambda *arguments: loads.append(1) or load(*arguments))
    files = [_write(tmp_path / "many" / f"{number:04}.eml", f"message {number}") for number in range(2 * CHUNK_MESSAGES + 1)]
    paths = [line.split()[3] for line in score(tmp_path / "many").out.splitlines()]

    assert [1] == loads
    assert [str(file) for file in files] == paths


def test_scores_do_not_depend_on_the_company(score, tmp_path):
    """A message scores the same alone and among others."""
    files = [_write(tmp_path / "many" / f"{number}.eml", "word " * number) for number in range(10)]
    together = score(tmp_path / "many").out

    assert together == "".join(score(file).out for file in files)


def test_exit_code_only_when_asked(score, tmp_path):
    """Spam makes the exit code 1 with `--exit-code` and not without."""
    spam = _write(tmp_path / "gtube.eml", GTUBE)
    ran = score(spam)

    assert (0, "spam 1000.0") == (ran.code, ran.out[:11])
    assert 1 == score("--exit-code", spam).code


def test_ham_leaves_the_exit_code_alone(score, settings, tmp_path):
    """Without any spam `--exit-code` is 0."""
    settings.write_text(settings.read_text() + "threshold = 0.999999\n")

    assert 0 == score("--exit-code", _write(tmp_path / "a.eml")).code


def test_a_missing_file_is_told_and_the_others_are_scored(score, tmp_path):
    """A path that is not there is a sentence and exit code 66, even with spam; the rest is scored."""
    ran = score("--exit-code", tmp_path / "absent.eml", _write(tmp_path / "a.eml", GTUBE))

    assert 66 == ran.code
    assert f"error: {tmp_path / 'absent.eml'}: No such file or directory.\n" == ran.err
    assert 1 == len(ran.out.splitlines())


def test_an_empty_path_is_refused(score, tmp_path, monkeypatch):
    """An unset variable of a shell does not mean the folder that one stands in, whatever lies there."""
    monkeypatch.chdir(_write(tmp_path / "here" / "a.eml").parent)
    ran = score("")

    assert (64, "") == (ran.code, ran.out)
    assert "'' is no path; name a file or folder" in ran.err


def test_an_unreadable_file_does_not_hide_its_neighbours(score, tmp_path, monkeypatch):
    """A file of a folder that cannot be read is a sentence and its exit code; the files around it are scored."""
    files = [_write(tmp_path / "folder" / name) for name in ("1.eml", "2.eml", "3.eml")]
    opened = Path.open

    def refuse(self, *arguments, **options):
        if self == files[1]:
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    ran = score(tmp_path / "folder")

    assert 77 == ran.code
    assert f"error: {files[1]}: Permission denied.\n" == ran.err
    assert [str(files[0]), str(files[2])] == [line.split()[3] for line in ran.out.splitlines()]


def test_a_checkpoint_by_folder_or_id(score, tmp_path, registry):
    """A checkpoint is named by its folder or by the beginning of its id; an unknown one is exit code 65 and lists the ids."""
    file = _write(tmp_path / "a.eml")
    folder = registry.current()
    ran = score("--checkpoint", "1999", file)

    assert score(file).out == score("--checkpoint", folder, file).out
    assert score(file).out == score("--checkpoint", folder.name[:15], file).out
    assert (65, "") == (ran.code, ran.out)
    assert folder.name in ran.err


def test_a_path_cannot_break_the_line(score, tmp_path):
    """A line end in a file name is escaped."""
    ran = score(_write(tmp_path / "a\nham 0.0.eml"))

    assert 1 == len(ran.out.splitlines())
    assert "a\\nham 0.0.eml" in ran.out


def test_a_faulty_setting_is_told(spamd_admin, tmp_path):
    """A settings file that is not there is exit code 78."""
    assert 78 == spamd_admin("score", "--config", tmp_path / "absent.toml", tmp_path).code


def test_a_file_that_may_not_be_read_does_not_stop_the_others(score, tmp_path, monkeypatch):
    """One file without permission is told with its name and exit code 77, and the next file is judged."""
    locked, other = _write(tmp_path / "locked.eml"), _write(tmp_path / "other.eml")
    is_readable, open_file = os.access, Path.open

    def refuse(path, *arguments, **options):
        if path == locked:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_file(path, *arguments, **options)

    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(locked) and is_readable(path, mode))
    monkeypatch.setattr(Path, "open", refuse)
    ran = score(locked, other)

    assert (os.EX_NOPERM, f"error: {locked}: Permission denied.\n") == (ran.code, ran.err)
    assert ran.out.endswith(f" {other}\n")
