"""`spamd-admin config check`: tell every fault of the settings, or that there is none. Changes nothing and loads no model.

A next hop that is spamd itself is told here as at start-up, which may ask the resolver for a host's address; so are files for TLS
and a fleet's token that cannot be used, as far as whoever asks may read them.
"""

import typer

from spamd.cli.options import ConfigOption
from spamd.config import load_settings, settings_file
from spamd.service.addresses import refuse_loop


def check_settings(
    *,
    config: ConfigOption = None,
) -> None:
    """Check the settings file and the SPAMD_ variables; exit code 78 with every fault, a line each, if there is any."""
    settings = load_settings(config)
    for listen in filter(None, (settings.smtp.listen, settings.smtp.listen_tls)):
        refuse_loop(listen, settings.smtp.next_hop)
    from spamd.fleet.client import open_fleet
    from spamd.smtp.server import tls_for_clients, tls_for_next_hop

    tls_for_clients(settings.smtp)
    tls_for_next_hop(settings.smtp)
    fleet = open_fleet(settings.scoring)
    if fleet:
        fleet.close()
    typer.echo(f"ok: {settings_file(config) or 'no file, defaults'}")
