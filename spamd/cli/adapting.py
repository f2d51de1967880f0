"""What `spamd-admin retrain --dataset feedback` does: the checkpoint that serves is adapted to what people labelled.

Opens things and prints nothing; the work is done in `spamd.training.adapting`. Called by `cli.candidate`.
"""

import sys
from typing import TYPE_CHECKING

from spamd.config import Settings
from spamd.errors import CheckpointError
from spamd.service.registry import Registry

if TYPE_CHECKING:
    import torch

    from spamd.hooks.manager import Plugins
    from spamd.training.gathering import Mail, Source
    from spamd.training.retraining import Outcome


def adapt_candidate(
    settings: Settings, registry: Registry, plugins: "Plugins", source: "Source", *, device: "torch.device"
) -> "tuple[Outcome, Mail]":
    """Adapt a checkpoint to the labelled mail.

    Args:
        settings: those of this call.
        registry: the checkpoints.
        plugins: the heads on offer.
        source: the labelled mail.
        device: where to compute.

    Raises:
        CheckpointError: the checkpoint cannot be used, or is none of ours.
        TrainingError: there are too few messages.
    """
    from spamd.cli.candidate import WORK, base_folder
    from spamd.model.checkpoint import read_card
    from spamd.model.gpt2 import PUBLISHED
    from spamd.training.adapting import adapt
    from spamd.training.gathering import gather
    from spamd.training.progress import show_on
    from spamd.training.starts import start_from_checkpoint
    from spamd.training.workplace import working_in

    base = _base(settings, registry)
    if base in PUBLISHED:
        raise CheckpointError(
            f"{base} has learned nothing that could be adapted to feedback; train on other mail first, or name another --base."
        )
    folder, weights_dir = base_folder(registry, base), settings.state_dir / "weights"
    # With its own head, whatever the settings want of a training: that is what is saved and compared.
    head = read_card(folder).head
    start = start_from_checkpoint(folder, plugins.heads, head, seed=settings.training.seed, weights_dir=weights_dir)
    with working_in(settings.state_dir / WORK), show_on(sys.stderr) as display:
        mail = gather([source], seed=settings.training.seed, balance=False, display=display, cut="none")
        outcome = adapt(
            start,
            mail,
            max_ham_lost=settings.training.max_ham_lost,
            seed=settings.training.seed,
            checkpoints_dir=registry.checkpoints_dir,
            weights_dir=weights_dir,
            device=device,
            display=display,
            work_dir=settings.state_dir / WORK,
        )
    return outcome, mail


def _base(settings: Settings, registry: Registry) -> str:
    """Name the checkpoint to adapt: the one asked for, or where that was adapted itself, the one that it came from."""
    from spamd.model.checkpoint import read_card
    from spamd.training.adapting import root_of

    if settings.model.base != "current":
        return settings.model.base
    current = registry.current()
    try:
        return str(registry.find(root_of(read_card(current))))
    except CheckpointError:
        return "current"
