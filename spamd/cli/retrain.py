"""`spamd-admin retrain`: train a candidate on the operator's mail, judge it, promote it if it is not worse.

Takes options, prints, and switches; what they name is opened in `candidate`, and the work is done in `spamd.training`. Exit
codes: 0 where the candidate was promoted, or was not to be; 1 where it was judged worse and only stored; else those of the
error. Called by Typer.
"""

import errno
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spamd.cli.candidate import WORK, Wishes, train_candidate
from spamd.cli.model.promote import HOW_TO_RELOAD, check_checkpoint
from spamd.cli.options import ConfigOption
from spamd.cli.sources import FEEDBACK
from spamd.config import Settings, load_settings
from spamd.service.registry import Registry

if TYPE_CHECKING:
    from spamd.training.gathering import Mail
    from spamd.training.retraining import Outcome

EXIT_WORSE = 1
FOR_FEEDBACK = frozenset(str.split("datasets base seed max_ham_lost promote force report threads json_file config"))
"""Parameters that mean something where the feedback alone is learned from."""

REPORTS = "reports"
"""The folder below the state folder that holds a report on each training."""


def _parse_pad(text: str) -> str:
    """Refuse what is neither none, longest nor a number of tokens."""
    if text not in {"none", "longest"} and not (text.isdecimal() and int(text) > 0):
        raise typer.BadParameter(f"{text!r} is neither none, longest nor a number of tokens.")
    return text


def retrain(
    context: typer.Context,
    datasets: Annotated[
        list[str],
        typer.Option(
            "--dataset",
            metavar="NAME:PATH[?OPTION=VALUE]",
            help="Labelled mail; may be given often: folder, maildir, mbox, csv, sms-spam-collection, feedback, or a plugin's.",
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
        str | None,
        typer.Option(metavar="NAME", help="What trains: last-block, last-two-blocks, head-only, none, lora, a plugin's."),
    ] = None,
    lora_rank: Annotated[int, typer.Option(min=1, help="With --freeze lora: rank of the adapters.")] = 16,
    lora_alpha: Annotated[float, typer.Option(min=1e-3, help="With --freeze lora: they weigh alpha / rank.")] = 16.0,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Take only the sizes of the base, and weights that know nothing.")
    ] = False,
    no_causal_mask: Annotated[
        bool, typer.Option("--no-causal-mask", help="Let every token read every other one. For comparison.")
    ] = False,
    pad: Annotated[
        str,
        typer.Option(
            metavar="none|longest|TOKENS",
            callback=_parse_pad,
            help="Fill messages up with <|endoftext|> that is read like text, as the reference does. For comparison.",
        ),
    ] = "none",
    keep_table: Annotated[
        bool, typer.Option("--keep-table", help="Leave the table of n-grams as it is, if the base has one.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training mail.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Messages computed at once.")] = None,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches a step.")] = 1,
    learning_rate: Annotated[float | None, typer.Option(min=1e-12, max=10.0, help="Learning rate at its highest.")] = None,
    schedule: Annotated[
        Literal["linear", "constant"], typer.Option(help="Of the learning rate: falling to zero, or as in the reference.")
    ] = "linear",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option(help="Of multiplications; auto: bfloat16 where it is native.")
    ] = "auto",
    patience: Annotated[
        int, typer.Option(min=0, help="Stop after so many epochs without a better validation loss; 0: never.")
    ] = 0,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**32 - 1, help="Decides what is held out, the batches, and the weights of a new head."),
    ] = None,
    max_ham_lost: Annotated[
        float | None, typer.Option(min=1e-6, max=0.5, help="Share of ham that the threshold may lose, 0.001 for 1 in 1000.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=8, help="Tokens of a message that are read.")] = None,
    balance: Annotated[
        bool, typer.Option("--balance", help="Draw as many ham as there are spam, or the other way round.")
    ] = False,
    class_weights: Annotated[
        bool, typer.Option("--class-weights", help="Let each label weigh the same in the loss; leaves no mail out.")
    ] = False,
    spam_share: Annotated[
        float | None, typer.Option(min=1e-4, max=0.9999, help="Share of spam that probabilities expect; else the mail's.")
    ] = None,
    split: Annotated[
        Literal["text-hash", "sender", "time", "shuffle"],
        typer.Option(help="What is held out: by text, whole senders, the newest, or as in the reference, with copies."),
    ] = "text-hash",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from where the same command was killed; begin where there is nothing.")
    ] = False,
    processes: Annotated[
        int, typer.Option(min=1, help="Train in so many processes of this machine; for several machines see torchrun.")
    ] = 1,
    promote: Annotated[
        bool, typer.Option("--promote/--no-promote", help="Let the candidate serve if it is not worse, or only store it.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Promote the candidate even if it is worse.")] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write a page with plots, slices and the worst mistakes.")
    ] = True,
    threads: Annotated[int | None, typer.Option(min=0, help="Threads to compute with; 0 takes all.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures to this file.")] = None,
    config: ConfigOption = None,
) -> None:
    """Train on labelled mail, compare with the current checkpoint on held-out mail, and promote unless it is worse."""
    if datasets == [FEEDBACK]:
        _refuse_idle_options(context)
    if processes > 1:
        _share_the_work(processes)
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
    make_room(registry)
    refuse_unwritable(json_file)
    wishes = Wishes(
        datasets,
        max_tokens=max_tokens,
        is_balanced=balance,
        is_weighted=class_weights,
        spam_share=spam_share,
        split=split,
        pad="longest" if pad == "longest" else 0 if pad == "none" else int(pad),
        lora_rank=lora_rank,
        lora_alpha=lora_alpha,
        is_causal=not no_causal_mask,
        is_random=random_weights,
        accumulate=accumulate,
        schedule=schedule,
        precision=precision,
        patience=patience,
        is_resumed=resume,
        is_table_kept=keep_table,
    )
    trained = train_candidate(settings, registry, wishes, must_compare=promote and not force)
    if trained is None:
        return
    outcome, mail = trained

    from spamd.training.account import as_json, table
    from spamd.training.retraining import clear_state

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
    clear_state(settings.state_dir / WORK)
    if report:
        typer.echo(_report(settings, outcome, mail))
    if promote and not is_promoted:
        raise typer.Exit(EXIT_WORSE)


def _report(settings: Settings, outcome: "Outcome", mail: "Mail") -> str:
    """Write the report, and say where; the training has succeeded whatever becomes of it."""
    from spamd.training.report import write_report

    try:
        return (
            f"Report, with quotations of mail: {write_report(settings.state_dir / REPORTS / outcome.folder.name, outcome, mail)}"
        )
    except OSError as error:
        return f"Warning: the report could not be written: {error}."


def _refuse_idle_options(context: typer.Context) -> None:
    """Refuse what learning from feedback has no use for, rather than ignore it."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source and source.name == "COMMANDLINE" and parameter.name not in FOR_FEEDBACK:
            reason = f"has no effect with --dataset {FEEDBACK} alone, which teaches the table of n-grams or bends the last layer."
            raise typer.BadParameter(reason, ctx=context, param_hint=parameter.opts[0])


def _share_the_work(processes: int) -> None:
    """Run this very command in several processes, and leave as they do; return where this is one of them."""
    from spamd.training.launching import is_launched, launch

    if not is_launched():
        raise typer.Exit(launch(processes, sys.argv[1:]))


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


def make_room(registry: Registry) -> None:
    """Find out before the work, rather than after it, whether there is a place for what comes of it.

    Raises:
        OSError: there is none.
    """
    folder = registry.checkpoints_dir
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # whatever the umask: another user's daemon reads what is trained here
    _refuse(folder, os.W_OK | os.X_OK)


def refuse_unwritable(file: Path | None) -> None:
    """Find out before the work whether a file can be written; None always can.

    Raises:
        OSError: it cannot.
    """
    if file is None:
        return
    _refuse(file.absolute().parent, os.W_OK | os.X_OK)
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    if file.exists():
        _refuse(file, os.W_OK)


def _refuse(path: Path, access: int) -> None:
    """Raise an OSError where a path is not there or not ours to use."""
    if not os.access(path, access):
        number = errno.EACCES if path.exists() else errno.ENOENT
        raise OSError(number, os.strerror(number), str(path))


def _conclude(outcome: "Outcome", *, is_promoted: bool) -> str:
    """Say what was decided and what to do next."""
    identifier = outcome.folder.name
    reason = outcome.decision.reason if outcome.decision else "There was no checkpoint to compare with."
    if is_promoted:
        return f"{reason}\n{identifier} serves now.\n{HOW_TO_RELOAD}"
    return f"{reason}\n{identifier} is stored, not promoted; `spamd-admin model promote {identifier}` lets it serve."
