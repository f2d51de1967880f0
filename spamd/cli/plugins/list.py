"""`spamd-admin plugins list`: every plugin that start-up finds, and what it offers.

A plugin that does not fit is told as at start-up. Loads what plugins import, torch among it, and no weights.
"""

import json
from collections.abc import Iterable
from typing import Annotated

import typer

from spamd.cli.options import ConfigOption
from spamd.config import load_settings
from spamd.hooks.manager import KIND_WORDS, Kind, load_plugins

COLUMNS = ("PLUGIN", "VERSION", "SOURCE", "OFFERS")


def list_plugins(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a plugin.")] = False,
    config: ConfigOption = None,
) -> None:
    """List the plugins: those that came with spamd, installed packages, and files of the drop-in folder.

    SPAMD_DISABLED_PLUGINS=a,b leaves plugins out by the names in the first column; SPAMD_TRACE_HOOKS=1 prints every hook call.
    """
    settings = load_settings(config)
    plugins = load_plugins(drop_in_folder=settings.plugins_dir, disabled=settings.disabled_plugins)
    rows = [COLUMNS]
    for plugin in plugins.found:
        offers = plugins.offers[plugin.name]
        if as_json:
            entry = {
                "plugin": plugin.name,
                "version": plugin.version or None,
                "source": plugin.source,
                "origin": plugin.origin,
                "disabled": plugin.is_disabled,
                "offers": [{"kind": kind, "name": name} for kind, name in offers],
            }
            typer.echo(json.dumps(entry))
        rows.append((plugin.name, plugin.version or "-", plugin.source, "disabled" if plugin.is_disabled else _words(offers)))
    if not as_json:
        widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
        for row in rows:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _words(offers: Iterable[tuple[Kind, str]]) -> str:
    """What a plugin offers, kind by kind."""
    by_kind: dict[Kind, list[str]] = {}
    for kind, name in offers:
        by_kind.setdefault(kind, []).append(name)
    return "; ".join(f"{KIND_WORDS[kind]} {', '.join(names)}" for kind, names in by_kind.items()) or "nothing"
