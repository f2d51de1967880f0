"""Options that several commands share. Parses nothing itself; imported by the commands."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    # Whether the file can be read is for the settings to say: what is wrong with them has an exit code of its own.
    typer.Option("--config", metavar="FILE", readable=False, help="Settings; without it /etc/spamd/spamd.toml, if there is one."),
]
"""Where the settings are."""

MessagePaths = Annotated[
    list[Path],
    # Typer would refuse the whole call for one file that may not be read.
    typer.Argument(metavar="FILE|DIR|MAILDIR|MBOX|-", help="Messages, or what holds them; - is standard input.", readable=False),
]
"""The messages that are asked about."""
