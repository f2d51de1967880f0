"""`spamd-admin config check`: tell every fault of the settings, or that there is none. Changes nothing and loads no model."""

from pathlib import Path
from typing import Annotated

import typer

from spamd.config import load_settings, settings_file


def check_settings(
    *,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings; without it /etc/spamd/spamd.toml.")] = None,
) -> None:
    """Check the settings file and the SPAMD_ variables; exit code 78 with every fault, a line each, if there is any."""
    load_settings(config)
    typer.echo(f"ok: {settings_file(config) or 'no file, defaults'}")
