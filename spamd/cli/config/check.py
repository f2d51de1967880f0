"""`spamd-admin config check`: tell every fault of the settings, or that there is none. Changes nothing and loads no model.

A next hop that is spamd itself is told here as at start-up, which may ask the resolver for a host's address.
"""

from pathlib import Path
from typing import Annotated

import typer

from spamd.config import load_settings, settings_file
from spamd.service.addresses import refuse_loop


def check_settings(
    *,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings; without it /etc/spamd/spamd.toml.")] = None,
) -> None:
    """Check the settings file and the SPAMD_ variables; exit code 78 with every fault, a line each, if there is any."""
    settings = load_settings(config)
    refuse_loop(settings.smtp.listen, settings.smtp.next_hop)
    typer.echo(f"ok: {settings_file(config) or 'no file, defaults'}")
