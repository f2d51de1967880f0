"""What the frozen part of the trunk makes of each message, computed once instead of in every epoch.

With the last block training, eleven of twelve blocks give the same hidden states every time; here they wait in memory, in
float32, in bfloat16 where that does not fit, then in a file that memory shows, and where that is not to be had either they are
computed anew for each batch. Several processes share the work. Decides nothing about what is frozen. Called by `inputs`.

Shape letters: B messages in a batch, T tokens of the longest, D width of the trunk.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from spamd.model.classifier import Classifier, cut_rows
from spamd.training import ranks
from spamd.training.batches import by_length
from spamd.training.parts import BATCH_TOKENS, Part
from spamd.training.precision import computing_in
from spamd.training.progress import SILENT, Display
from spamd.training.recipe import Precision

MAX_BYTES = 2 * 1024**3

DISK_SHARE = 0.5
"""Share of the free disk that hidden states may take."""


class TrunkCache:
    """Gives the input of the first trainable block for any batch of a part.

    Args:
        classifier: its trunk computes; nothing of it is changed.
        part: the messages.
        block: number of the first block that trains; 0 keeps nothing, since nothing before it is frozen, and the number of
            blocks keeps what the final norm reads.
        max_bytes: memory that may be used.
        display: told of each message done.
        spill_dir: folder on whose disk a file without a name may hold what memory may not; None for nowhere.
        precision: of the frozen part's multiplications.

    Attributes:
        num_bytes: memory that is used.
    """

    def __init__(
        self,
        classifier: Classifier,
        part: Part,
        block: int,
        *,
        max_bytes: int = MAX_BYTES,
        display: Display = SILENT,
        spill_dir: Path | None = None,
        precision: Precision = "float32",
    ) -> None:
        self._trunk = classifier.trunk
        self._max_tokens = classifier.max_tokens
        self._part = part
        self._block = block
        self._precision = precision
        self._device = next(classifier.parameters()).device
        # Behind the last block nothing mixes positions, so a head that reads the last one needs no other.
        self._is_last_only = block == self._trunk.config.n_layer and classifier.head.reads == "last"
        lengths = [1] * len(part.sequences) if self._is_last_only else part.lengths_within(self._max_tokens)
        # Message `i` has the rows from `ends[i]` up to `ends[i + 1]`.
        self._ends = [0, *accumulate(lengths)]
        num_numbers = self._ends[-1] * self._trunk.config.n_embd
        kind = choose_type(num_numbers, max_bytes) if block else None
        self.num_bytes = num_numbers * kind.itemsize if kind else 0
        room = self._make_room(kind, spill_dir, display) if block else None
        # Processes fill their rooms together, or each computes for itself.
        (num_rooms,) = ranks.current().total(float(room is not None))
        self._kept = self._compute(room, display) if room is not None and num_rooms == ranks.current().size else None

    @property
    def is_kept(self) -> bool:
        """Whether hidden states are in memory or on disk, rather than computed for each batch."""
        return self._kept is not None

    def batch(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the input of the block for some messages.

        Args:
            positions: positions in the part.

        Returns:
            Hidden states, (B, T, D) float32, and lengths, (B,) int64, on the device of the classifier.
        """
        if self._kept is None:
            return self._run(positions)
        kept = [self._kept[self._ends[position] : self._ends[position + 1]] for position in positions]
        lengths = torch.tensor([len(hidden) for hidden in kept])
        return pad_sequence(kept, batch_first=True).to(self._device).float(), lengths.to(self._device)

    def _run(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Run the frozen part for some messages."""
        ids, lengths = (tensor.to(self._device) for tensor in cut_rows(*self._part.pad(positions), self._max_tokens))
        # Before block 0 stand only embeddings, which may train.
        is_learning = self._block == 0 and torch.is_grad_enabled()
        with torch.set_grad_enabled(is_learning), computing_in(self._precision, self._device):
            hidden = self._trunk.hidden_before(ids, self._block, lengths)  # (B, T, D)
        if not self._is_last_only:
            return hidden, lengths
        last = hidden[torch.arange(len(lengths), device=self._device), lengths - 1]  # (B, D)
        return last[:, None], torch.ones_like(lengths)  # (B, 1, D)

    def _make_room(self, kind: torch.dtype | None, spill_dir: Path | None, display: Display) -> Tensor | None:
        """Make a tensor for all positions, (all positions, D), in memory or on disk; None where there is no room."""
        shape = (self._ends[-1], self._trunk.config.n_embd)
        if kind:
            # One piece: thousands of small ones between large temporary ones would double the memory.
            return torch.zeros(shape, dtype=kind)
        try:
            return spill(shape, spill_dir) if spill_dir else None
        except OSError as error:
            display.say(f"Hidden states do not fit on the disk of {spill_dir} ({error.strerror}); each is computed when needed.")
            return None

    @torch.no_grad()
    def _compute(self, kept: Tensor, display: Display) -> Tensor:
        """Run the frozen part for all messages: (all their positions, D)."""
        world = ranks.current()
        display.begin("Reading mail with the frozen part of the model", len(self._part.sequences))
        for positions in world.share(by_length(self._part.lengths_within(self._max_tokens), BATCH_TOKENS)):
            hidden, lengths = self._run(positions)
            for row, position in enumerate(positions):
                kept[self._ends[position] : self._ends[position + 1]] = hidden[row, : int(lengths[row])]
            display.advance(len(positions) * world.size)
        world.join_rows(kept)
        return kept


def choose_type(num_numbers: int, max_bytes: int) -> torch.dtype | None:
    """Choose the most precise type in which so many numbers fit, or None where none does."""
    return next((kind for kind in (torch.float32, torch.bfloat16) if num_numbers * kind.itemsize <= max_bytes), None)


def spill(shape: tuple[int, int], folder: Path) -> Tensor:
    """Make a bfloat16 tensor of zeros that lies in a file, which is gone with the tensor.

    Args:
        shape: rows and columns.
        folder: where; made if missing.

    Raises:
        OSError: the disk has no room to spare.
    """
    num_bytes = shape[0] * shape[1] * torch.bfloat16.itemsize
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if num_bytes > DISK_SHARE * shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        # Claimed beforehand: a disk that fills up under a mapping kills the process.
        os.posix_fallocate(file.fileno(), 0, num_bytes)
        flat = torch.from_file(file.name, shared=True, size=shape[0] * shape[1], dtype=torch.bfloat16)
    return flat.view(shape)


def affordable_bytes() -> int:
    """Tell how much memory hidden states may take: 2 GiB, and no more than a quarter of what this machine has."""
    return min(MAX_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)
