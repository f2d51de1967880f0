"""Options that several commands share; imported by the commands."""

from pathlib import Path
from typing import Annotated

import typer


def path_of(text: str) -> Path:
    """Read a path; an empty one, as an unset variable of a shell leaves it, would mean the folder that one stands in."""
    if not text:
        raise typer.BadParameter("'' is no path; name a file or folder, or . for this one.")
    return Path(text)


ConfigOption = Annotated[
    Path | None,
    # Whether the file can be read is for the settings to say: what is wrong with them has an exit code of its own.
    typer.Option("--config", metavar="FILE", readable=False, help="Settings; without it /etc/spamd/spamd.toml, if there is one."),
]
"""Where the settings are."""

MessagePaths = Annotated[
    list[Path],
    # Not looked at by Typer, which would refuse the whole call for one file that may not be read.
    typer.Argument(metavar="FILE|DIR|MAILDIR|MBOX|-", help="Messages, or what holds them; - is standard input.", parser=path_of),
]
"""The messages that are asked about."""
