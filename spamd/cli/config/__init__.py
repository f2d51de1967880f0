"""`spamd-admin config`: look the settings over before the daemon reads them."""

import typer

from spamd.cli.config.check import check_settings
from spamd.cli.config.show import show_settings

app = typer.Typer(no_args_is_help=True, help="Check the settings, and show what is in force.")
app.command("check")(check_settings)
app.command("show")(show_settings)
