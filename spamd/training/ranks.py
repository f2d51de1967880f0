"""Several processes, on one machine or many, that train one model together: torch's own DistributedDataParallel.

`torchrun`, or `retrain --processes N`, which does the same on one machine, starts the processes and tells each its rank. They
hold the same weights and the same mail, take turns at the messages of each batch, and average their gradients. Rank 0 alone
keeps state, saves and speaks. Starts no process (`launching` does) and knows no recipe. Called by `trainer`, `inputs` and
`trunk_cache`.

Security: whoever reaches the port of rank 0 can disturb a training; torchrun leaves it open on the network it is told to use.
"""

import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from spamd.errors import TrainingError

WAIT = timedelta(minutes=30)
"""How long ranks wait for each other: rank 0 may be reading the disk, and one of them may be slow."""

ROWS_AT_ONCE = 65_536

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class World:
    """Which one of how many processes this is.

    Attributes:
        rank: from 0.
        size: how many there are.
        neighbours: how many of them share this machine.
    """

    rank: int = 0
    size: int = 1
    neighbours: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process keeps state, saves and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Take this process's items of what all do together."""
        return list(items[self.rank :: self.size])

    def total(self, *values: float) -> tuple[float, ...]:
        """Sum numbers over all processes."""
        if self.size == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64)
        _all_reduce(sums)
        return tuple(sums.tolist())

    def join_rows(self, rows: Tensor) -> None:
        """Fill a tensor, (N, D), in which each process has computed other rows and left zeros in the rest."""
        if self.size == 1:
            return
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE].float()
            # Only zeros are added to what each computed, so this is exact.
            _all_reduce(some)
            rows[start : start + ROWS_AT_ONCE] = some

    def wrap(self, module: nn.Module) -> nn.Module:
        """Make a module average its gradients over all processes."""
        return module if self.size == 1 else DistributedDataParallel(module)

    def check_agreement(self, identity: str) -> None:
        """Find out whether all processes are about to train the same.

        Raises:
            TrainingError: they are not.
        """
        if self.size == 1:
            return
        own = torch.frombuffer(bytearray(blake2b(identity.encode(), digest_size=16).digest()), dtype=torch.uint8)
        others = [torch.empty_like(own) for _ in range(self.size)]
        distributed.all_gather(others, own)
        if any(not torch.equal(own, other) for other in others):
            raise TrainingError(
                f"The {self.size} processes of this training do not hold the same mail, settings and weights; give every machine "
                "the same command, files and version of spamd."
            )

    def give_file(self, file: Path) -> Path:
        """Give every process a copy of a file of the first one.

        Args:
            file: where it lies on the machine of the first process; need not exist.

        Returns:
            Where this process finds it; the path does not exist where the first process has no such file.
        """
        if self.size == 1:
            return file
        content = torch.from_file(str(file), size=file.stat().st_size, dtype=torch.uint8) if self._has(file) else torch.empty(0)
        length = torch.tensor([len(content)])
        distributed.broadcast(length, 0)
        copy = file if self.is_first else file.with_name(f"{file.stem}-rank-{self.rank}{file.suffix}")
        if not int(length):
            if not self.is_first:
                # One that was killed may have left its copy, which the others would not go on from.
                copy.unlink(missing_ok=True)
            return copy
        content = content if self.is_first else torch.empty(int(length), dtype=torch.uint8)
        distributed.broadcast(content, 0)
        if not self.is_first:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content.numpy().tobytes())
        return copy

    def _has(self, file: Path) -> bool:
        """Tell whether this is the first process, and it has a file."""
        return self.is_first and file.is_file()


ALONE = World()


def current() -> World:
    """Tell which process this is; alone where none was started by torchrun or `retrain --processes`."""
    if not distributed.is_available() or not distributed.is_initialized():
        return ALONE
    return World(distributed.get_rank(), distributed.get_world_size(), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Meet the other processes, for as long as the training lasts.

    Args:
        device: where this process computes.

    Yields:
        Which process this is; `ALONE` where there are no others.

    Raises:
        TrainingError: another process is gone.
    """
    if not distributed.is_available() or not distributed.is_torchelastic_launched():
        yield ALONE
        return
    # Imported while a group exists (torch's optimizers do so), it keeps that group as a default argument, and with it Gloo's
    # threads; one that lets go of a tensor while Python ends aborts a training that has succeeded.
    importlib.import_module("torch.distributed.nn")
    # Gloo carries what lies in memory, NCCL what lies on a GPU.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=WAIT)
    try:
        yield current()
    except (distributed.DistError, RuntimeError) as error:
        raise TrainingError(
            f"Process {current().rank + 1} of {current().size} lost the others ({str(error).splitlines()[0]}); "
            "run the same command with --resume to go on from the last saved state."
        ) from error
    finally:
        distributed.destroy_process_group()


def _all_reduce(tensor: Tensor) -> None:
    """Sum a tensor over all processes, in place."""
    distributed.all_reduce(tensor)
