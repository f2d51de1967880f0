"""`spamd-admin retrain`: train a candidate on the operator's mail, judge it, promote it if it is not worse.

Chooses what to start from and what to compare with, prints, and switches; the work is done in `spamd.training`. Exit codes: 0
where the candidate was promoted, or was not to be; 1 where it was judged worse and only stored; else those of the error. Called
by Typer.
"""

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spamd.cli.model.promote import HOW_TO_RELOAD, check_checkpoint
from spamd.config import Settings, load_settings
from spamd.errors import CheckpointError
from spamd.service.registry import CARD, Registry

if TYPE_CHECKING:
    import torch

    from spamd.hooks.manager import Plugins
    from spamd.training.gathering import Mail
    from spamd.training.progress import Display
    from spamd.training.retraining import Current, Outcome
    from spamd.training.starts import Start

EXIT_WORSE = 1


def retrain(
    datasets: Annotated[
        list[str],
        typer.Option(
            "--dataset",
            metavar="NAME:PATH[?OPTION=VALUE]",
            help="Labelled mail; may be given often. NAME: folder, maildir, mbox, csv, sms-spam-collection, or a plugin's.",
        ),
    ],
    *,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="BASE", help="Start from: current, mini (the shipped one), gpt2, ..., or a checkpoint's id or folder."
        ),
    ] = None,
    head: Annotated[
        str | None, typer.Option(metavar="NAME", help="Classification head; another than the base's starts anew.")
    ] = None,
    freeze: Annotated[
        str | None, typer.Option(metavar="NAME", help="What trains: last-block, last-two-blocks, head-only, none, or a plugin's.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training mail.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Messages a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=1e-12, max=10.0, help="Learning rate at its highest.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides what is held out, the batches, and the weights of a new head.")
    ] = None,
    max_ham_lost: Annotated[
        float | None, typer.Option(min=1e-6, max=0.5, help="Share of ham that the threshold may lose, 0.001 for 1 in 1000.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=8, help="Tokens of a message that are read.")] = None,
    balance: Annotated[
        bool, typer.Option("--balance", help="Draw as many ham as there are spam, or the other way round.")
    ] = False,
    promote: Annotated[
        bool, typer.Option("--promote/--no-promote", help="Let the candidate serve if it is not worse, or only store it.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Promote the candidate even if it is worse.")] = False,
    threads: Annotated[int | None, typer.Option(min=0, help="Threads to compute with; 0 takes all.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures to this file.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings; without it /etc/spamd/spamd.toml.")] = None,
) -> None:
    """Train on labelled mail, compare with the current checkpoint on held-out mail, and promote if it is not worse."""
    settings = override(
        load_settings(config),
        model={"base": base, "head": head},
        training={
            "freeze": freeze,
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "seed": seed,
            "max_ham_lost": max_ham_lost,
        },
        scoring={"threads": threads},
    )
    registry = Registry(settings.state_dir)
    refuse_early(registry, json_file)
    outcome, mail = train_candidate(
        settings, registry, datasets, max_tokens=max_tokens, is_balanced=balance, must_compare=promote and not force
    )

    from spamd.training.account import as_json, table

    typer.echo(table(outcome, mail), nl=False)
    for warning in outcome.warnings:
        typer.echo(f"Warning: {warning}")
    is_worse = outcome.decision is not None and outcome.decision.is_worse
    is_promoted = promote and (force or not is_worse)
    if is_promoted:
        registry.promote(outcome.folder.name, check=lambda folder: check_checkpoint(settings, folder))
    typer.echo(_conclude(outcome, is_promoted=is_promoted))
    if json_file:
        values = as_json(outcome, mail, is_promoted=is_promoted)
        json_file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    if promote and not is_promoted:
        raise typer.Exit(EXIT_WORSE)


def override(settings: Settings, **sections: Mapping[str, Any]) -> Settings:
    """Let options of the command line win over settings.

    Args:
        settings: as file and environment say.
        sections: for each section what was given; None stands for what was not.

    Returns:
        The settings of this call. Options of the head go with the head that they were written for.
    """
    given = {section: {key: value for key, value in values.items() if value is not None} for section, values in sections.items()}
    if given["model"].get("head", settings.model.head) != settings.model.head:
        given["model"]["head_options"] = {}
    changed = {section: getattr(settings, section).model_copy(update=values) for section, values in given.items()}
    return settings.model_copy(update=changed)


def refuse_early(registry: Registry, json_file: Path | None) -> None:
    """Find out before the work, rather than after it, whether there is a place for what comes of it.

    Raises:
        OSError: there is none.
    """
    if not registry.checkpoints_dir.is_dir():
        registry.checkpoints_dir.mkdir(parents=True, exist_ok=True)
        registry.checkpoints_dir.chmod(0o755)  # whatever the umask: another user's daemon reads what is trained here
    for folder in (registry.checkpoints_dir, *([json_file.absolute().parent] if json_file else [])):
        if not os.access(folder, os.W_OK | os.X_OK):
            number = errno.EACCES if folder.is_dir() else errno.ENOENT
            raise OSError(number, os.strerror(number), str(folder))


def train_candidate(
    settings: Settings,
    registry: Registry,
    datasets: Sequence[str],
    *,
    max_tokens: int | None,
    is_balanced: bool,
    must_compare: bool,
) -> "tuple[Outcome, Mail]":
    """Load what is needed, read the mail, and train.

    Args:
        settings: those of this call.
        registry: the checkpoints.
        datasets: as the operator named them.
        max_tokens: what the operator asked for, or None.
        is_balanced: whether labels are to be balanced.
        must_compare: whether a current checkpoint that cannot be loaded stops the training.

    Returns:
        What came of it, and the mail.
    """
    from spamd.hooks.manager import load_plugins, lookup
    from spamd.inference.devices import choose_device, set_threads
    from spamd.training.gathering import gather, open_source
    from spamd.training.progress import show_on
    from spamd.training.retraining import Plan, choose_max_tokens
    from spamd.training.retraining import retrain as train
    from spamd.training.trainer import Recipe

    plugins = load_plugins(drop_in_folder=settings.plugins_dir, disabled=settings.disabled_plugins)
    wanted = settings.training
    policy = lookup(plugins.freezing_policies, "freezing policy", wanted.freeze)
    sources = [open_source(spec, lambda name: lookup(plugins.datasets, "dataset", name)) for spec in datasets]
    device = choose_device(settings.scoring.device)
    set_threads(settings.scoring.threads)
    start = find_start(settings, registry, plugins)
    recipe = Recipe(
        wanted.freeze,
        policy,
        epochs=wanted.epochs,
        batch_size=wanted.batch_size,
        learning_rate=wanted.learning_rate,
        weight_decay=wanted.weight_decay,
        seed=wanted.seed,
    )
    plan = Plan(recipe, choose_max_tokens(max_tokens, settings.model.max_tokens, start), wanted.max_ham_lost, is_balanced)
    with show_on(sys.stderr) as display:
        mail = gather(sources, seed=wanted.seed, balance=is_balanced, display=display)
        current = ask_current(settings, registry, plugins, mail, must_compare=must_compare, device=device, display=display)
        outcome = train(
            start,
            mail,
            plan,
            current=current,
            checkpoints_dir=registry.checkpoints_dir,
            weights_dir=_weights_dir(settings),
            device=device,
            display=display,
        )
    return outcome, mail


def find_start(settings: Settings, registry: Registry, plugins: "Plugins") -> "Start":
    """Open what the operator wants to start from, with the head that is wanted.

    Raises:
        UnknownNameError: nobody registered the head.
        CheckpointError: there is no such checkpoint, its weights are missing, or it is damaged.
    """
    from spamd.hooks.manager import lookup
    from spamd.model.checkpoint import HeadNote
    from spamd.model.gpt2 import PUBLISHED
    from spamd.training.starts import start_from_checkpoint, start_from_published

    base, name, seed = settings.model.base, settings.model.head, settings.training.seed
    lookup(plugins.heads, "head", name)
    head = HeadNote(name=name, options=settings.model.head_options, plugin=plugins.owners["head", name])
    if base in PUBLISHED:
        return start_from_published(base, plugins.heads, head, seed=seed, weights_dir=_weights_dir(settings))
    match base:
        case "current":
            folder = registry.current()
        case "mini":
            folder = registry.shipped
        case _:
            folder = registry.locate(base)
    return start_from_checkpoint(folder, plugins.heads, head, seed=seed, weights_dir=_weights_dir(settings))


def ask_current(
    settings: Settings,
    registry: Registry,
    plugins: "Plugins",
    mail: "Mail",
    *,
    must_compare: bool,
    device: "torch.device",
    display: "Display",
) -> "Current | None":
    """Let the checkpoint that serves score the held-out mail.

    Args:
        settings: those of this call.
        registry: knows which one serves.
        plugins: the heads on offer.
        mail: holds the held-out mail.
        must_compare: whether a checkpoint that cannot be loaded is an error.
        device: where to compute.
        display: told of each message.

    Returns:
        Its answer; None where nothing serves yet, or where it cannot be loaded and need not be.

    Raises:
        CheckpointError: it cannot be loaded.
    """
    from spamd.training.judging import answer_of
    from spamd.training.retraining import Current

    try:
        folder = registry.current()
        if folder == registry.shipped and not (folder / CARD).is_file():
            return None
        card, answer = answer_of(
            folder,
            plugins.heads,
            mail.parts.test,
            weights_dir=_weights_dir(settings),
            device=device,
            seed=settings.training.seed,
            display=display,
        )
    except CheckpointError as error:
        if must_compare:
            raise CheckpointError(f"{error} The candidate could not be compared with it; --force promotes without.") from error
        display.say(f"Not compared with the current checkpoint: {error}")
        return None
    return Current(card, answer)


def _weights_dir(settings: Settings) -> Path:
    """Say where `model fetch` puts published weights."""
    return settings.state_dir / "weights"


def _conclude(outcome: "Outcome", *, is_promoted: bool) -> str:
    """Say what was decided and what to do next."""
    identifier = outcome.folder.name
    reason = outcome.decision.reason if outcome.decision else "There was no checkpoint to compare with."
    if is_promoted:
        return f"{reason}\n{identifier} serves now.\n{HOW_TO_RELOAD}"
    return f"{reason}\n{identifier} is stored, not promoted; `spamd-admin model promote {identifier}` lets it serve."
