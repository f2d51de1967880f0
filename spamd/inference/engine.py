"""One checkpoint on one device: texts in, scores out.

Blocking, and to be called from as many threads at a time as it has lanes; `batching` puts it behind the event loop. It tokenises,
sorts by length so that little is padded, and keeps each batch within a token budget. Knows nothing of SMTP. Built by `loading`.
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import structlog
import torch

from spamd.errors import CheckpointError, ScoringError
from spamd.inference.devices import choose_device, set_threads, workers
from spamd.inference.dividing import budgeted, put_together, shared_out
from spamd.inference.scored import Scored, estimate_tokens
from spamd.interfaces import HeadFactory
from spamd.mail.text import TEXT_VERSION
from spamd.model import windows
from spamd.model.checkpoint import Checkpoint, CheckpointCard, load_checkpoint
from spamd.model.classifier import pad, scores
from spamd.model.int8 import for_scoring, is_quantised
from spamd.model.packed import flash, last_hidden
from spamd.model.precision import uses_bfloat16
from spamd.model.tokenizer import cut

log = structlog.get_logger(__name__)

Precision = Literal["auto", "float32", "bfloat16"]

CPU_BATCH_TOKENS = 1024
"""Tokens that a CPU computes at once at the most: what lies between two layers then fits its caches. On an AMD EPYC 8,192 at
once took 30 % more time for the checkpoint that ships, and 4,096 took 34 % more for the published 124M; 512 differs little."""

SHARED_OPERATIONS = 10e9
"""A lone sequence of more floating-point operations than these, an eighth of a second of one thread's time, is shared by all. For
less it does not pay: where others want the CPU too, threads that wait for each other took ten times as long for a short one."""

LEAST_OPERATIONS = 2e9
"""A share of fewer is not made: larger batches take fewer steps, for each of which threads wait for each other's Python."""


class Engine:
    """Scores texts with one checkpoint.

    Args:
        checkpoint: what scores.
        device: where it computes.
        max_batch_tokens: tokens computed at once, padding included; a longer text goes alone. A CPU takes `CPU_BATCH_TOKENS`.
        precision: what the trunk computes in; `auto` is bfloat16 where the device multiplies it natively.
        spare: loads the checkpoint anew, for the CPU, where a GPU is lost; without it, scoring fails then.

    Attributes:
        card: of the checkpoint.
        most_computed: tokens of a message that the trunk computes at the most.
        has_lost_gpu: whether it has gone on by the CPU since its GPU was lost.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: torch.device,
        max_batch_tokens: int = 8192,
        precision: Precision = "float32",
        spare: Callable[[], Checkpoint] | None = None,
    ) -> None:
        self.card: CheckpointCard = checkpoint.card
        self.has_lost_gpu = False
        self._tokenizer = checkpoint.tokenizer
        self._budget = checkpoint.classifier.budget(self.card.long_mail)
        self.most_computed = windows.budget(self.card.max_tokens, self.card.long_mail)
        self._num_parameters = sum(parameter.numel() for parameter in checkpoint.classifier.trunk.h.parameters())
        self._precision = precision
        self._spare = spare
        self._max_batch_tokens = max_batch_tokens
        self._num_threads = torch.get_num_threads()
        self._first_call = threading.Lock()
        self._move_to(checkpoint, device)

    @classmethod
    def load(
        cls,
        folder: Path,
        heads: Mapping[str, HeadFactory],
        *,
        device: str = "auto",
        threads: int = 0,
        max_batch_tokens: int = 8192,
        precision: Precision = "float32",
        weights_dir: Path | None = None,
    ) -> Self:
        """Load a checkpoint and try it out.

        Args:
            folder: the checkpoint.
            heads: the heads on offer by name.
            device: `auto`, `cpu`, `cuda`, `cuda:N` or `cuda:all`, which is the first one here.
            threads: threads for the CPU; 0 takes as many as this process may use. Holds for the whole process.
            max_batch_tokens: tokens computed at once, padding included.
            precision: as in the class.
            weights_dir: where published weights lie, for checkpoints that build on them.

        Returns:
            An engine that has scored once, so that the first message does not wait for what torch sets up on first use.

        Raises:
            CheckpointError: the checkpoint is missing or damaged, needs what is not there, or computes no score.
            ConfigError: the device cannot be used.
        """
        chosen = choose_device(device)
        set_threads(threads)

        def load() -> Checkpoint:
            return load_checkpoint(folder, heads, text_version=TEXT_VERSION, weights_dir=weights_dir)

        engine = cls(load(), device=chosen, max_batch_tokens=max_batch_tokens, precision=precision, spare=load)
        engine.warm_up()
        return engine

    @property
    def checkpoint(self) -> str:
        """Id of the loaded checkpoint."""
        return self.card.id

    @property
    def threshold(self) -> float:
        """Operating point of the loaded checkpoint."""
        return self.card.threshold

    @property
    def num_lanes(self) -> int:
        """Two calls at once on a CPU of several threads: while one gets ready or ends, the other keeps them busy."""
        return 2 if self.device.type == "cpu" and self._num_threads > 1 else 1

    def estimate_tokens(self, text: str) -> int:
        """Tell roughly, and at no cost, how many tokens of a text the trunk will compute."""
        return estimate_tokens(text, self.most_computed)

    def extent(self, text: str) -> tuple[int, int]:
        """Tell how many characters from the beginning of a text, and how many at its end, the model reads."""
        return self._tokenizer.extent(text, self._budget)

    def warm_up(self) -> None:
        """Score a text alone, and a short and a long one together: each is computed in its own way.

        Raises:
            CheckpointError: what came out is no score.
        """
        try:
            self.score(["warm"])
            self.score(["warm", "up " * self.card.max_tokens])
        except ScoringError as error:
            raise CheckpointError(str(error)) from None

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Score texts; on a CPU each thread takes a share, from the text to the score, and half of them a second call at once.

        Args:
            texts: what the model reads, each the text of one message.

        Returns:
            One answer a text, in the same order.

        Raises:
            ScoringError: the model computed something that is not a probability.
        """
        if self.num_lanes == 1:
            return self._score(texts)
        is_alone = self._first_call.acquire(blocking=False)
        try:
            return self._score_in_shares(texts, is_alone=is_alone)
        finally:
            if is_alone:
                self._first_call.release()

    def _score_in_shares(self, texts: Sequence[str], *, is_alone: bool) -> list[Scored]:
        """Divide texts among threads; a lone one that takes long gets all of them."""
        num_tokens = [self.estimate_tokens(text) for text in texts]
        if is_alone and self._is_shared(num_tokens):
            return self._score(texts)
        most = self._num_threads if is_alone else self._num_threads // self.num_lanes
        shares = shared_out(num_tokens, max(1, min(most, int(self._operations(num_tokens) / LEAST_OPERATIONS))))
        parts = [[texts[number] for number in share] for share in shares]
        return put_together(shares, workers(self._num_threads).map(self._score, parts, chunksize=1))

    def _score(self, texts: Sequence[str]) -> list[Scored]:
        """Score texts, as `score` does, in this thread."""
        encoded = [self._tokenizer.encode(text, self._budget) for text in texts]
        read = [windows.split(one.ids, self.card.max_tokens, self.card.long_mail) for one in encoded]
        parts = torch.split(self.logits([window for found in read for window in found]), [len(found) for found in read])
        probabilities = [float(scores(part.mean(0, keepdim=True), self.card.temperature)) for part in parts]
        # A broken weight makes NaN, which is below any threshold: it must not pass for ham.
        if not all(math.isfinite(probability) for probability in probabilities):
            raise ScoringError(f"checkpoint {self.checkpoint} computed a score that is not a number; its weights are damaged.")
        return [
            Scored(probability, self.threshold, self.checkpoint, len(one.ids), one.is_truncated)
            for probability, one in zip(probabilities, encoded, strict=True)
        ]

    def logits(self, sequences: Sequence[list[int]]) -> torch.Tensor:
        """Compute what the head says about token sequences, in batches of similar length.

        On a CPU each of several batches has a thread of its own: that has no step at which all wait for the slowest, as there is
        after every layer where several threads share one batch. Only a lone sequence that takes long is shared.

        Args:
            sequences: ids of each, N in all, none empty.

        Returns:
            Class logits, (N, C) float32 on the CPU, in the same order.
        """
        found = torch.empty(len(sequences), len(self.card.class_names))
        lengths = [min(len(sequence), self.card.max_tokens) for sequence in sequences]
        num_threads = torch.get_num_threads() if self.device.type == "cpu" and not self._is_shared(lengths) else 1
        budget = self._max_batch_tokens
        if num_threads > 1:
            budget = min(budget, math.ceil(sum(lengths) / num_threads))
        batches = list(budgeted(lengths, budget))
        # The longest come first, so that at the end no thread is left alone with one of them.
        compute = map if num_threads == 1 else workers(num_threads).imap
        batches.reverse()
        parts = ([sequences[index] for index in batch] for batch in batches)
        for batch, rows in zip(batches, compute(self._persist, parts), strict=True):
            found[batch] = rows
        return found

    def _persist(self, sequences: Sequence[list[int]]) -> torch.Tensor:
        """Compute one batch as `_forward` does: in halves where memory is short, on the CPU where the GPU is lost.

        Raises:
            ScoringError: not even one sequence fits into memory.
        """
        try:
            return self._forward(sequences)
        except torch.OutOfMemoryError:
            # What follows stands outside, since the error holds on to all that the failed attempt had in memory.
            is_lost = False
        except RuntimeError as error:
            if self.device.type == "cpu" or self._spare is None:
                raise
            is_lost = True
            log.error("GPU lost, scoring goes on by CPU", device=str(self.device), reason=str(error).partition("\n")[0])  # noqa: TRY400
        if is_lost and self._spare:
            self.has_lost_gpu = True
            self._move_to(self._spare(), torch.device("cpu"))
            return self.logits(sequences)
        if len(sequences) == 1:
            raise ScoringError(f"a message of {len(sequences[0])} tokens does not fit into the memory of {self.device}.")
        half = len(sequences) // 2
        self._max_batch_tokens = max(1, self._max_batch_tokens // 2)
        log.warning("out of memory, batches are halved", device=str(self.device), max_batch_tokens=self._max_batch_tokens)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return torch.cat([self._persist(sequences[:half]), self._persist(sequences[half:])])

    def _move_to(self, checkpoint: Checkpoint, device: torch.device) -> None:
        """Compute with a checkpoint on a device from now on."""
        self.device = device
        self._classifier = for_scoring(checkpoint, device)
        if device.type == "cpu":
            self._max_batch_tokens = min(self._max_batch_tokens, CPU_BATCH_TOKENS)
        if not is_quantised(self._classifier) and (
            self._precision == "bfloat16" or (self._precision == "auto" and uses_bfloat16(device))
        ):
            self._classifier.trunk.bfloat16()
        trunk = self._classifier.trunk
        is_short = trunk.wte.weight.dtype == torch.bfloat16
        self._is_packed = device.type == "cuda" and is_short and trunk.config.is_causal and self._classifier.head.reads == "last"

    def _is_shared(self, lengths: Sequence[int]) -> bool:
        """Whether all threads work on one sequence, because it is alone and takes long."""
        return len(lengths) == 1 and self._operations(lengths) > SHARED_OPERATIONS

    def _operations(self, lengths: Sequence[int]) -> float:
        """Count, roughly, the floating-point operations of sequences."""
        return 2.0 * self._num_parameters * sum(lengths)

    @torch.inference_mode()
    def _forward(self, sequences: Sequence[list[int]]) -> torch.Tensor:
        """Compute one batch: class logits, (B, C) float32 on the CPU."""
        classifier = self._classifier
        evidence = classifier.ngrams.of(sequences) if classifier.ngrams else None
        read = [cut(sequence, self.card.max_tokens) for sequence in sequences]
        if self._is_packed:
            hidden = last_hidden(classifier.trunk, read, flash).float()
            lone = torch.ones(len(hidden), dtype=torch.int64, device=hidden.device)
            return classifier.head_logits(hidden, lone, evidence).cpu()
        ids, lengths = (part.to(self.device) for part in pad(read, self._tokenizer.end_of_text))
        return classifier.from_block(classifier.trunk.hidden_before(ids, 0, lengths), 0, lengths, evidence).cpu()
