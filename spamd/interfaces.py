"""What a plugin implements: heads, freezing policies and datasets.

Protocols only, so that a plugin inherits nothing and a test needs no base class. `hooks/specs.py` says how they are offered
by name; `model`, `training` and `cli` use them. Torch appears in annotations alone: importing this module does not load it.

Shape letters: B messages in a batch, T tokens of the longest one, D width of the trunk, C classes (2: ham, spam).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from spamd.verdict import Label

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Head(Protocol):
    """A classification head: a `torch.nn.Module` that maps hidden states to class logits.

    Attributes:
        reads: the positions that it needs. With `last`, the trunk computes its last block at the last real token only and
            hands the head T = 1 and lengths of one; with `all` it hands over every position.
    """

    reads: Literal["last", "all"]

    def __call__(self, hidden: "torch.Tensor", lengths: "torch.Tensor") -> "torch.Tensor":
        """Compute class logits.

        Args:
            hidden: hidden states after the final norm, (B, T, D) float32; positions from `lengths` on are padding.
            lengths: number of real tokens, (B,) int64, each at least 1.

        Returns:
            Class logits, (B, C) float32. They must not depend on what stands in the padding.
        """
        ...


HeadFactory = Callable[..., Head]
"""Makes a head for a trunk of a width: `factory(width, num_classes, **options)`; options come from `[model.head_options]`."""


@runtime_checkable
class FreezingPolicy(Protocol):
    """Chooses the parameters that train: a pure function of names, testable without torch."""

    def __call__(self, names: Sequence[str], epoch: int) -> Collection[str]:
        """Choose.

        Args:
            names: names of all parameters in model order: `trunk.wte.weight`, `trunk.h.0.attn.c_attn.weight`, ...,
                `trunk.ln_f.bias`, then the head's, which begin with `head.`, and of a model with n-grams `ngrams.weight`.
            epoch: the epoch about to start, counted from 0.

        Returns:
            The names that train in this epoch, each one of `names`.
        """
        ...


@dataclass(frozen=True, slots=True)
class LabeledMessage:
    """One message and the truth about it.

    Attributes:
        raw: the message as bytes, headers first. Sources that have only text make a minimal message of it.
        label: the truth.
        origin: where it came from, for error texts and reports (a path, or `file.csv line 17`).
    """

    raw: bytes
    label: Label
    origin: str


class MessageDataset(Protocol):
    """A source of labelled messages. It yields all of them; splitting stays in the core, so that no plugin can leak."""

    def __iter__(self) -> Iterator[LabeledMessage]:
        """Yield every message, in an order that is the same at each call.

        Raises:
            DatasetError: something cannot be read; names the file.
        """
        ...


class DatasetFactory(Protocol):
    """Opens a dataset at a path."""

    def __call__(self, path: Path, **options: str) -> MessageDataset:
        """Return the dataset at `path`; `options` come from `NAME:PATH?key=value&...`.

        Raises:
            DatasetError: the path does not hold such a dataset, or an option is unknown.
        """
        ...
