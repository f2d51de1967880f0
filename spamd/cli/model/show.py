"""`spamd-admin model show`: all that is known about one checkpoint. Reads its card only."""

import json
from typing import Annotated

import typer

from spamd.cli.options import ConfigOption
from spamd.config import load_settings
from spamd.service.registry import Registry


def show_checkpoint(
    checkpoint: Annotated[
        str, typer.Argument(metavar="[ID|FOLDER]", help="The checkpoint; without it the one that serves.")
    ] = "",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show a checkpoint's card: model, threshold, training and held-out figures."""
    from spamd.model.checkpoint import read_card

    registry = Registry(load_settings(config).state_dir)
    folder = registry.locate(checkpoint) if checkpoint else registry.current()
    roles = [role for role, path in registry.roles().items() if path == folder]
    card = {"folder": str(folder), "roles": roles} | read_card(folder).model_dump(mode="json")
    if as_json:
        typer.echo(json.dumps(card))
        return
    width = max(map(len, card))
    for key, value in card.items():
        typer.echo(f"{key.ljust(width)}  {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
