"""What `spamd-admin retrain` works with: opens what settings and options name, and trains a candidate with it.

Prints nothing and promotes nothing. Called by `cli.retrain`; torch and the rest load when it is called.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from spamd.cli.adapting import adapt_candidate
from spamd.cli.sources import FEEDBACK, open_sources
from spamd.config import Settings
from spamd.errors import CheckpointError
from spamd.service.registry import CARD, Registry

if TYPE_CHECKING:
    import torch

    from spamd.hooks.manager import Plugins
    from spamd.model.gpt2 import GPT2Config
    from spamd.model.tokenizer import Tokenizer
    from spamd.training.gathering import Mail
    from spamd.training.progress import Display
    from spamd.training.retraining import Current, Outcome, Plan
    from spamd.training.starts import Start

WORK = "training"
"""The folder below the state folder in which a training works."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the options of `retrain` say that no setting does.

    Attributes:
        datasets: labelled mail, `NAME:PATH?OPTION=VALUE`.
        max_tokens: tokens of a message; None for what settings say.
        is_balanced: whether to draw as many ham as there are spam.
        is_weighted: whether labels weigh the same in the loss.
        spam_share: share of spam that scores expect; None for that of the mail.
        split: how to part mail.
        pad: tokens that messages are filled up to; 0 for none.
        lora_rank: rank of adapters, for the policy `lora`.
        lora_alpha: their strength.
        is_causal: whether the trunk is.
        is_random: whether to start from random weights.
        accumulate: batches a step.
        schedule: of the learning rate.
        precision: of multiplications.
        patience: epochs without progress; 0 for all.
        is_resumed: whether to go on from a saved state.
        is_table_kept: whether the table of n-grams stays as it is.
    """

    datasets: Sequence[str]
    max_tokens: int | None = None
    is_balanced: bool = False
    is_weighted: bool = False
    spam_share: float | None = None
    split: Literal["text-hash", "sender", "time", "shuffle"] = "text-hash"
    pad: int | Literal["longest"] = 0
    lora_rank: int = 16
    lora_alpha: float = 16.0
    is_causal: bool = True
    is_random: bool = False
    accumulate: int = 1
    schedule: Literal["linear", "constant"] = "linear"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    patience: int = 0
    is_resumed: bool = False
    is_table_kept: bool = False


def train_candidate(
    settings: Settings, registry: Registry, wishes: Wishes, *, must_compare: bool
) -> "tuple[Outcome, Mail] | None":
    """Load what is needed, read the mail, and train.

    Args:
        settings: those of this call.
        registry: the checkpoints.
        wishes: what else the operator wants.
        must_compare: whether a current checkpoint that cannot be loaded stops the training.

    Returns:
        What came of it, and the mail; None in a process that only helped another one to train.
    """
    from spamd.hooks.manager import load_plugins
    from spamd.model.drafts import remove_left_drafts
    from spamd.training.gathering import gather
    from spamd.training.progress import SILENT, show_on
    from spamd.training.retraining import retrain as train
    from spamd.training.workplace import working_in

    plugins = load_plugins(drop_in_folder=settings.plugins_dir, disabled=settings.disabled_plugins)
    sources = open_sources(wishes.datasets, plugins, settings)
    rank = int(os.environ.get("RANK", "0"))
    device = _place(settings)
    if list(wishes.datasets) == [FEEDBACK]:
        return adapt_candidate(settings, registry, plugins, sources[0], device=device)
    work_dir = settings.state_dir / WORK / (f"rank-{rank}" if rank else "")
    start = find_start(settings, registry, plugins, wishes)
    plan = _plan(settings, plugins, wishes, start, work_dir)
    with working_in(work_dir), show_on(sys.stderr) as shown:
        display = SILENT if rank else shown
        remove_left_drafts(registry.checkpoints_dir)
        mail = gather(
            sources,
            seed=plan.recipe.seed,
            balance=wishes.is_balanced,
            display=display,
            cut=wishes.split,
            spool_dir=work_dir,
        )
        current = None
        if not rank:
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
            work_dir=work_dir,
            is_resumed=wishes.is_resumed,
        )
    return (outcome, mail) if outcome else None


def _place(settings: Settings) -> "torch.device":
    """Choose this process's device and threads, with respect to its neighbours on the same machine."""
    from spamd.inference.devices import choose_device, set_threads, usable_cpus

    device = choose_device(settings.scoring.device)
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
    neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    set_threads(settings.scoring.threads or max(1, usable_cpus() // neighbours))
    return device


def _plan(settings: Settings, plugins: "Plugins", wishes: Wishes, start: "Start", work_dir: Path) -> "Plan":
    """Join settings and options into a plan."""
    from spamd.hooks.manager import lookup
    from spamd.training.retraining import Plan, choose_max_tokens
    from spamd.training.trainer import Recipe

    wanted = settings.training
    recipe = Recipe(
        wanted.freeze,
        lookup(plugins.freezing_policies, "freezing policy", wanted.freeze),
        epochs=wanted.epochs,
        batch_size=wanted.batch_size,
        learning_rate=wanted.learning_rate,
        weight_decay=wanted.weight_decay,
        seed=wanted.seed,
        accumulate=wishes.accumulate,
        schedule=wishes.schedule,
        precision=wishes.precision,
        patience=wishes.patience,
        spill_dir=work_dir,
    )
    return Plan(
        recipe,
        choose_max_tokens(wishes.max_tokens, settings.model.max_tokens, start),
        wanted.max_ham_lost,
        wishes.is_balanced,
        pad=wishes.pad,
        is_weighted=wishes.is_weighted,
        spam_share=wishes.spam_share,
        long_mail=settings.model.long_mail,
        is_table_kept=wishes.is_table_kept,
    )


def find_start(settings: Settings, registry: Registry, plugins: "Plugins", wishes: Wishes) -> "Start":
    """Open what the operator wants to start from, with the head that is wanted.

    Raises:
        UnknownNameError: nobody registered the head or the policy.
        CheckpointError: there is no such checkpoint, its weights are missing, or it is damaged.
    """
    from spamd.hooks.manager import lookup
    from spamd.model.checkpoint import HeadNote, LoraNote
    from spamd.model.gpt2 import PUBLISHED
    from spamd.training import starts

    base, name, seed = settings.model.base, settings.model.head, settings.training.seed
    lookup(plugins.heads, "head", name)
    lookup(plugins.freezing_policies, "freezing policy", settings.training.freeze)
    head = HeadNote(name=name, options=settings.model.head_options, plugin=plugins.owners["head", name])
    weights_dir = _weights_dir(settings)
    if wishes.is_random:
        config, tokenizer = _sizes(registry, base, weights_dir)
        start = starts.start_at_random(base, config, tokenizer, plugins.heads, head, seed=seed)
    elif base in PUBLISHED:
        start = starts.start_from_published(base, plugins.heads, head, seed=seed, weights_dir=weights_dir)
    else:
        folder = base_folder(registry, base)
        start = starts.start_from_checkpoint(folder, plugins.heads, head, seed=seed, weights_dir=weights_dir)
    if not wishes.is_causal:
        start = starts.without_causal_mask(start)
    if settings.training.freeze == "lora":
        start = starts.with_adapters(start, LoraNote(rank=wishes.lora_rank, alpha=wishes.lora_alpha), seed=seed)
    return start


def base_folder(registry: Registry, base: str) -> Path:
    """Find the checkpoint that is called so."""
    match base:
        case "current":
            return registry.current()
        case "mini":
            return registry.shipped
        case _:
            return registry.locate(base)


def _sizes(registry: Registry, base: str, weights_dir: Path) -> "tuple[GPT2Config, Tokenizer]":
    """Tell the sizes of a base, and a vocabulary that fits: its own, or the shipped one where GPT-2's was not fetched."""
    from spamd.model.checkpoint import VOCABULARY, read_card
    from spamd.model.gpt2 import PUBLISHED
    from spamd.model.tokenizer import Tokenizer

    if base not in PUBLISHED:
        folder = base_folder(registry, base)
        return read_card(folder).trunk, Tokenizer.from_file(folder / VOCABULARY)
    fetched = weights_dir / base / VOCABULARY
    return PUBLISHED[base], Tokenizer.from_file(fetched if fetched.is_file() else registry.shipped / VOCABULARY)


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
