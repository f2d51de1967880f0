"""`spamd-admin evaluate`: compare checkpoints on labelled mail that none of them was trained on.

Takes options and prints; the work is done in `spamd.training.evaluation`. Writes nothing but the file asked for. Called by Typer.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from spamd.cli.options import ConfigOption
from spamd.config import load_settings
from spamd.service.registry import Registry

STDOUT = Path("-")


def evaluate(
    datasets: Annotated[
        list[str],
        typer.Option(
            "--dataset",
            metavar="NAME:PATH[?OPTION=VALUE]",
            help="Labelled mail, as for retrain; may be given often. Or: feedback.",
        ),
    ],
    *,
    checkpoints: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint", metavar="ID|FOLDER", help="May be given often; the first is compared with. Default: the promoted one."
        ),
    ] = None,
    use_all: Annotated[
        bool, typer.Option("--all", help="Judge by all mail, also by what a checkpoint was trained on: flatters it.")
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write all figures to this file; - prints them instead of tables."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=0, help="Threads to compute with; 0 takes all.")] = None,
    config: ConfigOption = None,
) -> None:
    """Compare checkpoints on labelled mail, whole and by slice, with intervals.

    Of a dataset that a checkpoint was trained on, only what was held out then is judged by.
    """
    from spamd.cli.retrain import override, refuse_unwritable
    from spamd.cli.sources import open_sources

    settings = load_settings(config)
    settings = override(settings, model={}, training={}, scoring={"threads": threads})
    registry = Registry(settings.state_dir)
    if json_file and json_file != STDOUT:
        refuse_unwritable(json_file)
    folders = [registry.current() if name == "current" else registry.locate(name) for name in checkpoints or ["current"]]

    from spamd.hooks.manager import load_plugins
    from spamd.inference.devices import choose_device, set_threads
    from spamd.model.checkpoint import read_card
    from spamd.training import comparing, evaluation
    from spamd.training.progress import show_on
    from spamd.training.splits import deduplicate, read_examples

    plugins = load_plugins(drop_in_folder=settings.plugins_dir, disabled=settings.disabled_plugins)
    sources = open_sources(datasets, plugins, settings)
    cards = [read_card(folder) for folder in folders]
    seed = evaluation.rank_for(cards, settings.training.seed)
    device = choose_device(settings.scoring.device)
    set_threads(settings.scoring.threads)
    with show_on(sys.stderr) as display:
        found = []
        for spec, source in zip(datasets, sources, strict=True):
            display.begin(f"Reading {source.name}:{source.path}")
            found += list(read_examples(source.messages, spec))
        mail = deduplicate(found, lambda example: evaluation.height(seed, example))
        display.say(f"Left out: {mail.num_duplicates:,} copies, {mail.num_conflicting:,} messages labelled both ham and spam")
        compared = evaluation.evaluate(
            folders,
            plugins.heads,
            mail.examples,
            {spec: evaluation.names_of(source.path) for spec, source in zip(datasets, sources, strict=True)},
            weights_dir=settings.state_dir / "weights",
            device=device,
            seed=settings.training.seed,
            is_all=use_all,
            display=display,
        )
    text = json.dumps(comparing.as_json(compared), indent=2) + "\n"
    if json_file == STDOUT:
        typer.echo(text, nl=False)
        return
    typer.echo(comparing.table(compared), nl=False)
    if json_file:
        json_file.write_text(text, encoding="utf-8")
