"""The one door through which `spamd-admin` and `spamd` leave: a sentence on standard error and the right exit code."""

import errno
import os
import subprocess
import sys

import pytest
import typer

from spamd import __version__, errors
from spamd.cli import EXIT_CODES, INTERRUPTED, run


@pytest.fixture
def leave(monkeypatch, capsys):
    """Run a program whose only command raises or returns something; give exit code and both streams."""

    def run_it(ending):
        program = typer.Typer()

        @program.command()
        def command() -> int | None:
            if isinstance(ending, BaseException):
                raise ending
            return ending

        monkeypatch.setattr(sys, "argv", ["program"])
        with pytest.raises(SystemExit) as end:
            run(program)
        return end.value.code, *capsys.readouterr()

    return run_it


@pytest.mark.parametrize("kind", EXIT_CODES)
def test_our_errors_leave_with_their_sentence(leave, kind):
    """Each of our errors is one line on standard error, its text unchanged, and its own exit code."""
    assert (EXIT_CODES[kind], "", "error: the sea is dry; add water.\n") == leave(kind("the sea is dry; add water."))


def test_an_error_of_a_plugin_leaves_like_its_kind(leave):
    """A class that a plugin derived from ours has the exit code of what it is derived from."""

    class FlatFileError(errors.DatasetError):
        """A plugin's own error."""

    assert (os.EX_DATAERR, "", "error: flat.\n") == leave(FlatFileError("flat."))


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, os.EX_NOINPUT),
        (errno.ENOTDIR, os.EX_NOINPUT),
        (errno.EACCES, os.EX_NOPERM),
        (errno.EPERM, os.EX_NOPERM),
        (errno.ENOSPC, os.EX_IOERR),
        (errno.EIO, os.EX_IOERR),
        (errno.EISDIR, os.EX_IOERR),
    ],
)
def test_errors_of_the_system_name_the_file(leave, number, code):
    """What the operating system refuses is told with file and reason, as sysexits.h has it."""
    assert (code, "", f"error: /some/file: {os.strerror(number)}.\n") == leave(OSError(number, os.strerror(number), "/some/file"))


def test_errors_of_the_system_without_a_file(leave):
    """Where no file is known, the reason stands alone, without a number."""
    assert (os.EX_IOERR, "", "error: No space left on device.\n") == leave(OSError(errno.ENOSPC, "No space left on device"))
    assert (os.EX_IOERR, "", "error: out of luck.\n") == leave(OSError("out of luck"))


def test_a_fault_of_ours_is_a_sentence_too(leave, monkeypatch):
    """What nobody foresaw is told without a traceback, with a way to get one."""
    code, out, err = leave(ZeroDivisionError("division by zero"))

    assert (os.EX_SOFTWARE, "") == (code, out)
    assert err.startswith("error: spamd itself is at fault (ZeroDivisionError: division by zero);")

    monkeypatch.setenv("SPAMD_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        leave(ZeroDivisionError("division by zero"))


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), typer.Abort()])
def test_interruption(leave, ending):
    """Ctrl-C ends with 130 and a sentence, not with a traceback."""
    assert (INTERRUPTED, "", "error: interrupted; nothing was left half-written.\n") == leave(ending)


def test_interruption_of_several_processes_is_told_once(leave, monkeypatch):
    """One of the processes of a training ends silently: the one that started them tells it."""
    monkeypatch.setenv("LOCAL_RANK", "1")

    assert (INTERRUPTED, "", "") == leave(KeyboardInterrupt())


@pytest.mark.parametrize(("ending", "code"), [(None, 0), (0, 0), (1, 1), (typer.Exit(3), 3), (typer.Exit(), 0)])
def test_a_command_chooses_its_exit_code(leave, ending, code):
    """What a command returns is the exit code, nothing is 0."""
    assert (code, "", "") == leave(ending)


@pytest.mark.parametrize("arguments", [("nonsense",), ("config", "nonsense"), ("config", "check", "--nonsense"), ("score",)])
def test_wrong_usage_is_64(spamd_admin, arguments):
    """An unknown command or option, or a missing argument, is exit code 64 with a way to the help."""
    ran = spamd_admin(*arguments)

    assert (os.EX_USAGE, "") == (ran.code, ran.out)
    assert "Usage: spamd-admin" in ran.err


def test_version(spamd_admin):
    """The version is one line."""
    ran = spamd_admin("--version")

    assert (0, f"spamd {__version__}\n", "") == (ran.code, ran.out, ran.err)


@pytest.mark.parametrize("arguments", [("--help",), ("config", "--help"), ("plugins", "new", "--help")])
def test_help_is_0(spamd_admin, arguments):
    """Help was asked for and given."""
    ran = spamd_admin(*arguments)

    assert (0, "") == (ran.code, ran.err)
    assert "Usage: spamd-admin" in ran.out


def test_a_closed_pipe_is_no_failure():
    """When the reader of our output has gone, as with `| head`, the program ends quietly."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    code = "import sys; from spamd.cli import main; sys.argv = ['spamd-admin', 'config', 'show', '--example']; main()"
    with os.fdopen(write_end, "wb") as pipe:
        ran = subprocess.run([sys.executable, "-c", code], stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=60)

    assert (0, b"") == (ran.returncode, ran.stderr)


@pytest.mark.parametrize(
    ("redirection", "code", "out", "err"),
    [
        ("", 0, "caf\\xe9 \\u6f22\n", ""),
        (">&-", 0, "", ""),
        ("<&-", os.EX_IOERR, "", "error: standard input: Bad file descriptor.\n"),
    ],
)
def test_streams_that_are_poor_or_closed(tmp_path, redirection, code, out, err):
    """A path that the output's encoding lacks is escaped, closed output goes nowhere, and closed input is told."""
    file = tmp_path / "program.py"
    file.write_text(
        "import sys, typer\n"
        "from spamd.cli import run\n"
        "from spamd.cli.score import Reader\n"
        "from pathlib import Path\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def command():\n"
        "    reader = Reader([Path('-')])\n"
        "    len(list(reader)) and sys.stdout.write('caf\\xe9 \\u6f22\\n')\n"
        "    raise typer.Exit(reader.exit_code)\n"
        "run(app)\n"
    )
    ran = subprocess.run(
        ["/bin/sh", "-c", f'"$0" "$1" {redirection}', sys.executable, file],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        input="" if redirection != "<&-" else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (code, out, err) == (ran.returncode, ran.stdout, ran.stderr)
