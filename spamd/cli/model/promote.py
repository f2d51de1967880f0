"""`spamd-admin model promote`: choose the checkpoint that serves. Loads it first, so that a broken one never does."""

from pathlib import Path
from typing import Annotated

import typer

from spamd.cli.options import ConfigOption
from spamd.config import Settings, load_settings
from spamd.service.registry import Registry

HOW_TO_RELOAD = "A running daemon takes it up on SIGHUP: systemctl reload spamd"


def promote_checkpoint(
    checkpoint: Annotated[str, typer.Argument(metavar="ID", help="The checkpoint's id, or the beginning of it; or shipped.")],
    *,
    config: ConfigOption = None,
) -> None:
    """Make a checkpoint the one that serves; the one that served becomes the previous one."""
    settings = load_settings(config)
    registry = Registry(settings.state_dir)
    before = registry.roles()["current"]
    folder = registry.promote(checkpoint, check=lambda folder: check_checkpoint(settings, folder))
    say_switched(before, folder)


def check_checkpoint(settings: Settings, folder: Path) -> None:
    """Load a checkpoint and score with it once.

    Raises:
        CheckpointError: it cannot be used.
    """
    from spamd.loading import load_engine, load_heads

    load_engine(settings, load_heads(settings), folder)


def say_switched(before: Path, now: Path) -> None:
    """Tell what serves now, and how the daemon learns of it."""
    from spamd.model.checkpoint import read_card

    if before == now:
        typer.echo(f"{read_card(now).id} serves already; nothing was changed.")
    else:
        typer.echo(f"{read_card(now).id} serves now.\n{HOW_TO_RELOAD}")
