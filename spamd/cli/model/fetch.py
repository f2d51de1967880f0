"""`spamd-admin model fetch`: bring published GPT-2 weights here, for a training that starts from them. Loads no torch."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from spamd.cli.options import ConfigOption
from spamd.config import load_settings

_MEGABYTE = 10**6


def fetch_published(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="gpt2 (0.5 GB), gpt2-medium (1.5), gpt2-large (3.2) or gpt2-xl (6.4).")
    ],
    *,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL", envvar="HF_ENDPOINT", help="A mirror; without it https://huggingface.co.", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Fetch published GPT-2 weights and their vocabulary, pinned by revision and checksum, into the state folder.

    A fetch that was cut off goes on where it was. No other command downloads anything, and the daemon never does.
    """
    from spamd.model.fetch import ENDPOINT, fetch_weights

    weights_dir = load_settings(config).state_dir / "weights"
    with _progress(name) as progress:
        folder = fetch_weights(name, weights_dir, endpoint=endpoint or ENDPOINT, progress=progress)
    typer.echo(f"{folder}: complete, checksums right; train on it with `spamd-admin retrain --base {name}`.")


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Give what shows progress on standard error: a bar on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines(name)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    """Prints a line for each further tenth.

    Args:
        name: what is fetched.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._printed = -1

    def __call__(self, done: int, total: int) -> None:
        """Print, if a tenth is full."""
        tenth = 10 * done // total
        if tenth > self._printed:
            self._printed = tenth
            typer.echo(f"{self._name}: {done // _MEGABYTE:,} of {total // _MEGABYTE:,} MB", err=True)
