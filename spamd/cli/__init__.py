"""The `spamd-admin` program: one file a command, named as it is typed.

Parses nothing itself and computes nothing: it joins the commands and is the one door through which failure leaves, as a sentence
on standard error and an exit code from sysexits.h. Torch and the rest of the machinery load inside the commands that need them.
"""

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from spamd import __version__, errors

EXIT_CODES: dict[type[errors.SpamdError], int] = {
    errors.SpamdError: os.EX_SOFTWARE,
    errors.ConfigError: os.EX_CONFIG,
    errors.PluginError: os.EX_CONFIG,
    errors.UnknownNameError: os.EX_USAGE,
    errors.DuplicateNameError: os.EX_CONFIG,
    errors.DatasetError: os.EX_DATAERR,
    errors.CheckpointError: os.EX_DATAERR,
    errors.FetchError: os.EX_UNAVAILABLE,
    errors.TrainingError: os.EX_DATAERR,
    errors.ScoringError: os.EX_SOFTWARE,
    errors.ScoringTimeout: os.EX_TEMPFAIL,
    errors.RelayError: os.EX_TEMPFAIL,
}
"""Exit code of each error class; a test walks the tree so that none is missing."""

OS_EXIT_CODES: tuple[tuple[type[OSError], int], ...] = (
    (FileNotFoundError, os.EX_NOINPUT),
    (NotADirectoryError, os.EX_NOINPUT),
    (PermissionError, os.EX_NOPERM),
    (OSError, os.EX_IOERR),
)
"""Exit code of each error of the operating system; the first match counts."""

INTERRUPTED = 130

app = typer.Typer(
    name="spamd-admin",
    help="Train, judge and look after the spamd mail filter.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(value: bool) -> None:
    """Print the version and stop."""
    if value:
        typer.echo(f"spamd {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train, judge and look after the spamd mail filter."""


def main() -> None:
    """Run `spamd-admin`."""
    run(app)


def run(program: typer.Typer) -> None:
    """Run a Typer program; whatever happens, leave with a sentence and the right exit code.

    Args:
        program: the program; reads its arguments from the command line.
    """
    _mend_output()
    try:
        code = program(prog_name=program.info.name, standalone_mode=False)
    except BrokenPipeError:
        _leave_quietly()
    except (errors.SpamdError, OSError) as error:
        abort(*worded(error))
    except typer.TyperException as error:
        cast("Any", error).show()  # every usage error has it; Typer's public base class does not say so
        sys.exit(os.EX_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except SystemExit as end:
        # Typer makes exit code 1, which is the verdict of `score --exit-code`, of a broken pipe.
        if isinstance(end.__context__, BrokenPipeError):
            _leave_quietly()
        raise
    except Exception as error:
        if os.environ.get("SPAMD_TRACEBACK"):
            raise
        kind = type(error).__name__
        abort(f"spamd itself is at fault ({kind}: {error}); run it again with SPAMD_TRACEBACK=1 and report it.", os.EX_SOFTWARE)
    if code == INTERRUPTED and "LOCAL_RANK" not in os.environ:
        # Typer makes a silent exit code of Ctrl-C. Of several processes of a training the one that started them tells it.
        abort("interrupted; nothing was left half-written.", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else os.EX_OK)


def _mend_output() -> None:
    """Let a path be printed that the terminal's encoding lacks, and let output that was closed (`>&-`) go nowhere."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  open until the end
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _leave_quietly() -> NoReturn:
    """Leave because the reader of our output has gone (`spamd-admin score ... | head`): nobody is left to tell."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(os.EX_OK)


def worded(error: errors.SpamdError | OSError) -> tuple[str, int]:
    """Put an error into words for the operator.

    Args:
        error: what was raised.

    Returns:
        The sentence and the exit code.
    """
    if isinstance(error, errors.SpamdError):
        # A plugin may derive a class of its own from ours.
        return str(error), next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)
    code = next(code for kind, code in OS_EXIT_CODES if isinstance(error, kind))
    reason = error.strerror or str(error)
    return (f"{error.filename}: {reason}." if error.filename else f"{reason}."), code


def abort(sentence: str, code: int) -> None:
    """Print one sentence for the operator on standard error and exit.

    Args:
        sentence: what, where, which value, what to do.
        code: exit code, from sysexits.h.
    """
    typer.echo(f"error: {sentence}", err=True)
    sys.exit(code)


# The commands stand last: they import what is defined above.
from spamd.cli import bench, config, evaluate, explain, fleet, learn, model, plugins, retrain, score  # noqa: E402

app.command("score")(score.score)
app.command("explain")(explain.explain_messages)
app.command("learn")(learn.learn)
app.command("retrain")(retrain.retrain)
app.command("evaluate")(evaluate.evaluate)
app.command("bench")(bench.bench)
app.add_typer(model.app, name="model")
app.add_typer(plugins.app, name="plugins")
app.add_typer(fleet.app, name="fleet")
app.add_typer(config.app, name="config")
