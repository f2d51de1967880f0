"""`spamd-admin plugins`: what can be plugged in, and how to begin a plugin."""

import typer

from spamd.cli.plugins.list import list_plugins
from spamd.cli.plugins.new import new_plugin

app = typer.Typer(no_args_is_help=True, help="List what plugins offer, and write a new plugin.")
app.command("list")(list_plugins)
app.command("new")(new_plugin)
