"""`spamd-admin config show`: what is in force, and where each value comes from. There are no secrets among the settings."""

import json
from typing import Annotated

import typer

from spamd.cli.config.layout import as_entries, example, settings_in_force, table
from spamd.cli.options import ConfigOption
from spamd.config import load_with_origins


def show_settings(
    *,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a setting.")] = False,
    as_example: Annotated[
        bool, typer.Option("--example", help="Print a file with every key commented out at its default.")
    ] = False,
    as_table: Annotated[
        bool, typer.Option("--markdown", help="Print every key with unit, default and meaning as a table.")
    ] = False,
) -> None:
    """Print the settings in force as TOML, each with where it comes from: default, the file, or an environment variable."""
    if as_json + as_example + as_table > 1:
        raise typer.BadParameter("--json, --example and --markdown are three ways to print; choose one.")
    if as_example or as_table:
        typer.echo(example() if as_example else table())
        return
    settings, places = load_with_origins(config)
    if as_json:
        for entry in as_entries(settings, places):
            typer.echo(json.dumps(entry))
        return
    typer.echo(settings_in_force(settings, places))
