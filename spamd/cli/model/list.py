"""`spamd-admin model list`: all checkpoints, and which of them serves. Reads cards only, no weights."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from spamd.cli.options import ConfigOption
from spamd.config import load_settings
from spamd.errors import CheckpointError
from spamd.service.registry import Registry

COLUMNS = ("ROLE", "ID", "CREATED", "HEAD", "BASE", "THRESHOLD", "HM%", "SM%", "(1-ROCA)%")
FIGURES = ("hm", "sm", "roca")


def list_checkpoints(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a checkpoint.")] = False,
    config: ConfigOption = None,
) -> None:
    """List the checkpoints, oldest first: current serves, previous is what a rollback brings back, shipped came with spamd.

    HM% is ham misclassified, SM% spam misclassified, each on the mail that was held out when the checkpoint was trained.
    """
    entries = list(describe_all(Registry(load_settings(config).state_dir)))
    if as_json:
        for entry in entries:
            typer.echo(json.dumps(entry))
        return
    rows = [COLUMNS, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def describe_all(registry: Registry) -> Iterator[dict[str, Any]]:
    """Describe every checkpoint, the shipped one first, the others by time.

    Args:
        registry: the checkpoints.

    Yields:
        Mappings with `id`, `roles`, `folder`, and either `card_id` (not `id` where the folder was renamed) with the `created`,
        `head`, `base`, `threshold` and `metrics` of its card or, for a checkpoint that cannot be read, `error`.
    """
    roles = registry.roles()
    # A checkpoint outside the state folder, or one that is gone, is told about where it still has a role.
    folders = dict.fromkeys([registry.shipped, *registry.folders(), *roles.values()])
    entries = [_describe(folder, [role for role, path in roles.items() if path == folder]) for folder in folders]
    for entry in entries:
        # The shipped one lies in a folder that is named for its place; every other goes by the name of its folder.
        if "shipped" not in entry["roles"]:
            entry["id"] = Path(entry["folder"]).name
    yield from sorted(entries, key=lambda entry: ("shipped" not in entry["roles"], entry.get("created", ""), entry["id"]))


def _describe(folder: Path, roles: list[str]) -> dict[str, Any]:
    """Describe one checkpoint from its card."""
    from spamd.model.checkpoint import read_card

    try:
        card = read_card(folder)
    except CheckpointError as error:
        return {"id": folder.name, "roles": roles, "folder": str(folder), "error": str(error)}
    return {
        "id": card.id,
        "card_id": card.id,
        "roles": roles,
        "folder": str(folder),
        "created": card.created,
        "head": card.head.name,
        "base": card.base.name,
        "threshold": card.threshold,
        "metrics": card.metrics,
    }


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the list."""
    renamed = f" (was {entry['card_id']})" if entry.get("card_id", entry["id"]) != entry["id"] else ""
    start = (",".join(entry["roles"]) or "-", entry["id"] + renamed)
    if "error" in entry:
        return (*start, "cannot be read", *[""] * (len(COLUMNS) - 3))
    created = entry["created"][:16].replace("T", " ")
    figures = [_figure(entry["metrics"], name) for name in FIGURES]
    return (*start, created, entry["head"], entry["base"], f"{entry['threshold']:.4f}", *figures)


def _figure(metrics: Mapping[str, Any], name: str) -> str:
    """A held-out figure in per cent, or a dash where it was not measured."""
    figure = metrics.get(name)
    value = figure.get("value") if isinstance(figure, Mapping) else figure
    return f"{value:.2f}" if isinstance(value, int | float) else "-"
