"""`spamd-admin bench`: what this machine does with a checkpoint, and what that means for the settings. Writes nothing."""

import dataclasses
import json
from typing import Annotated

import typer

from spamd.cli.options import ConfigOption
from spamd.config import load_settings
from spamd.service.registry import Registry


def bench(
    checkpoint: Annotated[
        str, typer.Argument(metavar="[ID|FOLDER]", help="The checkpoint; without it the one that serves.")
    ] = "",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    seconds: Annotated[float, typer.Option(min=0.01, help="Time for each figure.")] = 1.0,
    config: ConfigOption = None,
) -> None:
    """Measure messages a second and the time for one, by length, device and precision; recommend settings."""
    settings = load_settings(config)
    registry = Registry(settings.state_dir)
    folder = registry.locate(checkpoint) if checkpoint else registry.current()

    from spamd.inference.devices import set_threads
    from spamd.inference.speed import devices, measure, recommend
    from spamd.loading import load_heads
    from spamd.mail.text import TEXT_VERSION
    from spamd.model.checkpoint import Checkpoint, load_checkpoint, read_card

    heads, weights_dir = load_heads(settings), settings.state_dir / "weights"

    def load() -> Checkpoint:
        return load_checkpoint(folder, heads, text_version=TEXT_VERSION, weights_dir=weights_dir)

    threads = set_threads(settings.scoring.threads)
    if not as_json:
        typer.echo(f"checkpoint {folder.name}, {threads} threads\n")
        typer.echo(f"{'device':10}{'precision':>10}{'tokens':>8}{'one takes':>14}{'messages/s':>12}")
    rows = []
    for row in measure(load, devices(), seconds=seconds):
        rows.append(row)
        if not as_json:
            took = f"{row.lone_milliseconds:.1f} ms"
            typer.echo(f"{row.device:10}{row.precision:>10}{row.num_tokens:8}{took:>14}{row.messages_per_second:12.1f}")
    said = recommend(rows, settings.scoring.deadline_seconds, read_card(folder).arithmetic)
    if as_json:
        figures = [dataclasses.asdict(row) for row in rows]
        typer.echo(json.dumps({"checkpoint": folder.name, "threads": threads, "figures": figures, "recommendation": said}))
        return
    typer.echo("\n" + "\n".join(said))
