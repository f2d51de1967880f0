"""Built-in freezing policies, and the only code that sets `requires_grad`.

A policy chooses names and touches no tensor, so it is tested without torch. `choose` checks a choice, `apply_policy` carries it
out, `first_trainable_block` tells the trunk cache how much of the trunk stays frozen. Called by `trainer`; the names of the
policies reach it through the hook, as a plugin's do.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from spamd.errors import TrainingError
from spamd.hooks import hookimpl
from spamd.interfaces import FreezingPolicy

if TYPE_CHECKING:
    import torch

_BLOCK = re.compile(r"trunk\.h\.(\d+)\.")
MARK = ".lora."
"""What the names of adapters' parameters contain, see `model.lora`."""
_AFTER_THE_BLOCKS = ("trunk.ln_f.", "head.")
_BESIDE_THE_TRUNK = "ngrams."


@hookimpl
def spamd_register_freezing_policies() -> Mapping[str, FreezingPolicy]:
    """Offer the built-in policies through the same hook that plugins use."""
    return {
        "last-block": last_block,
        "last-two-blocks": last_two_blocks,
        "head-only": head_only,
        "none": none,
        "lora": lora,
    }


def last_block(names: Sequence[str], epoch: int) -> Collection[str]:
    """Train the last block, the final norm and the head: the reference recipe."""
    del epoch
    return _from_the_end(names, 1)


def last_two_blocks(names: Sequence[str], epoch: int) -> Collection[str]:
    """Train the last two blocks, the final norm and the head."""
    del epoch
    return _from_the_end(names, 2)


def head_only(names: Sequence[str], epoch: int) -> Collection[str]:
    """Train the head alone."""
    del epoch
    return [name for name in names if name.startswith("head.")]


def none(names: Sequence[str], epoch: int) -> Collection[str]:
    """Freeze nothing: every parameter trains."""
    del epoch
    return list(names)


def lora(names: Sequence[str], epoch: int) -> Collection[str]:
    """Train low-rank adapters (`--lora-rank`, `--lora-alpha`) of all blocks, and the head."""
    del epoch
    adapters = [name for name in names if MARK in name]
    # Without adapters nothing is chosen, so that the head is not trained alone in silence.
    return [*adapters, *(name for name in names if name.startswith("head."))] if adapters else []


def choose(policy_name: str, policy: FreezingPolicy, names: Sequence[str], epoch: int) -> frozenset[str]:
    """Ask a policy and check its answer.

    Args:
        policy_name: its name, for error texts.
        policy: the policy.
        names: names of all parameters, in model order.
        epoch: the epoch about to start, counted from 0.

    Returns:
        The names that train.

    Raises:
        TrainingError: the policy failed, chose nothing, or chose a name that the model lacks.
    """
    try:
        chosen = frozenset(policy(names, epoch))
    except Exception as error:
        raise TrainingError(f"Freezing policy {policy_name!r} failed in epoch {epoch + 1}: {error!r}.") from error
    if unknown := sorted(map(str, chosen - set(names))):
        raise TrainingError(
            f"Freezing policy {policy_name!r} chose {', '.join(unknown[:3])} in epoch {epoch + 1}, which the model does not have."
        )
    if not chosen:
        raise TrainingError(f"Freezing policy {policy_name!r} left nothing to train in epoch {epoch + 1}; choose another one.")
    return chosen


def apply_policy(model: "torch.nn.Module", chosen: Collection[str]) -> None:
    """Let exactly the chosen parameters train.

    Args:
        model: the classifier.
        chosen: names as `choose` returned them.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)


def first_trainable_block(chosen: Collection[str], num_blocks: int) -> int:
    """Tell how many blocks at the front of the trunk stay frozen, embeddings included.

    Args:
        chosen: names that train.
        num_blocks: blocks of the trunk.

    Returns:
        The number of the first block that trains; `num_blocks` where none does; 0 where an embedding trains, since nothing
        behind it can be computed in advance.
    """
    in_trunk = [name for name in chosen if not name.startswith((*_AFTER_THE_BLOCKS, _BESIDE_THE_TRUNK))]
    blocks = [int(match[1]) if (match := _BLOCK.match(name)) else 0 for name in in_trunk]
    return min(blocks, default=num_blocks)


def _from_the_end(names: Sequence[str], num_blocks: int) -> list[str]:
    """Choose the last blocks and all that comes after them."""
    blocks = sorted({int(match[1]) for name in names if (match := _BLOCK.match(name))})
    prefixes = (*(f"trunk.h.{block}." for block in blocks[-num_blocks:]), *_AFTER_THE_BLOCKS)
    return [name for name in names if name.startswith(prefixes)]
