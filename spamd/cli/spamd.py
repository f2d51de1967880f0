"""`spamd`: the daemon's command line. Thin: reads two options and hands over to `spamd.daemon`."""

import signal
from typing import Annotated

import typer

from spamd import __version__
from spamd.cli import run
from spamd.cli.options import ConfigOption

app = typer.Typer(name="spamd", add_completion=False, pretty_exceptions_enable=False)


def _print_version(value: bool) -> None:
    """Print the version and stop."""
    if value:
        typer.echo(f"spamd {__version__}")
        raise typer.Exit


@app.command()
def serve(
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Filter mail: listen for SMTP, tag each message as spam or ham, and hand it to the next hop.

    SIGHUP loads the promoted checkpoint, scoring.threshold and log.level; SIGTERM ends after the messages in flight.
    """
    del version
    # A reload that is asked for before the daemon knows the signal must not kill it; it will read what is promoted then anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from spamd.daemon import run_daemon

    run_daemon(config)


def main() -> None:
    """Run `spamd`."""
    run(app)
