"""The saved state of an unfinished training: what `retrain --resume` goes on from after a power cut.

One safetensors file holds the weights that training changes, the optimizer's moments, torch's random state, and in its header how
far the training is and what it is; the best weights so far lie beside it. Each file is there whole or not at all, and the state
names the best weights that belong to it, so that it may be killed at any moment. Trains nothing. Called by `trainer`.
"""

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spamd.errors import TrainingError
from spamd.model.drafts import replace_file
from spamd.training.recipe import Course, Epoch, Step

FILE = "state.safetensors"

DIGEST_BYTES = 16


class SavedState:
    """The folder of one training's state.

    Args:
        folder: where it lies; made when something is kept. None keeps nothing.
        identity: what a training must have in common with a state to go on from it, plain values by name.
        changing: names of the weights, parameters and buffers, that training may change.
        is_writing: whether this process keeps the state, rather than read a copy of it.
    """

    def __init__(
        self, folder: Path | None, identity: Mapping[str, Any], changing: Collection[str], *, is_writing: bool = True
    ) -> None:
        self._folder = folder
        self._is_writing = is_writing
        self._identity = dict(identity)
        self._changing = frozenset(changing)

    @property
    def file(self) -> Path | None:
        """Where the state lies, or would lie."""
        return self._folder / FILE if self._folder else None

    def keep(self, classifier: nn.Module, optimizer: torch.optim.Optimizer, course: Course) -> None:
        """Write the state; the one before stays until the new one is whole.

        Raises:
            TrainingError: it cannot be written, such as on a full disk.
        """
        if self._folder is None or not self._is_writing:
            return
        tensors = {f"weight.{name}": value for name, value in self.changing(classifier).items()}
        for name, parameter in classifier.named_parameters():
            moments = optimizer.state.get(parameter, {})
            tensors |= {f"{kind}.{name}": value for kind, value in moments.items()}
        tensors["random"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random_cuda"] = torch.cuda.get_rng_state()
        header = {"identity": json.dumps(self._identity), "course": json.dumps(asdict(course))}
        self._write(self._folder / FILE, tensors, header)

    def keep_best(self, weights: Mapping[str, Tensor], epoch: int) -> None:
        """Write the best weights so far, those of an epoch counted from 1; `keep` must follow.

        Raises:
            TrainingError: as `keep`.
        """
        if self._folder is not None and self._is_writing:
            self._write(self._best_file(epoch), weights, {})

    def forget_worse(self, epoch: int) -> None:
        """Remove best weights of other epochs than this one; call it after `keep`."""
        if self._folder is not None and self._is_writing:
            for file in self._folder.glob("best-*.safetensors"):
                if file != self._best_file(epoch):
                    file.unlink(missing_ok=True)

    def restore(self, file: Path, classifier: nn.Module, optimizer: torch.optim.Optimizer) -> Course | None:
        """Read a state back into classifier and optimizer.

        Args:
            file: the state; `file` of this object, or a copy.
            classifier: gets the weights.
            optimizer: gets the moments.

        Returns:
            How far the training was; None where there is no such file.

        Raises:
            TrainingError: the state is damaged, or that of another training.
        """
        if not file.is_file():
            return None
        try:
            with safe_open(file, "pt") as saved:
                header = saved.metadata()
                self._check(file, json.loads(header["identity"]))
                self._fill(classifier, optimizer, {name: saved.get_tensor(name) for name in saved.keys()})  # noqa: SIM118
            return _course(json.loads(header["course"]))
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise TrainingError(f"{file}: the saved state cannot be read ({error}); remove it to start anew.") from None

    def restore_best(self, epoch: int) -> dict[str, Tensor]:
        """Read the best weights back.

        Raises:
            TrainingError: they are gone or damaged.
        """
        if self._folder is None:
            return {}
        file = self._best_file(epoch)
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise TrainingError(
                f"{file}: the best weights cannot be read ({error}); remove {file.parent} to start anew."
            ) from None

    def changing(self, classifier: nn.Module) -> dict[str, Tensor]:
        """Name the weights that training may change."""
        return {name: value for name, value in classifier.state_dict().items() if name in self._changing}

    def clear(self) -> None:
        """Remove the state of an earlier training: this one begins."""
        if self._folder is not None and self._is_writing:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _best_file(self, epoch: int) -> Path:
        """Say where the best weights lie."""
        assert self._folder is not None  # noqa: S101  asked for only where there is a folder
        return self._folder / f"best-{epoch}.safetensors"

    def _check(self, file: Path, found: Mapping[str, Any]) -> None:
        """Refuse the state of another training, naming what differs."""
        if differing := [name for name in self._identity if found.get(name) != self._identity[name]]:
            told = ", ".join(f"{name}{_compare(found.get(name), self._identity[name])}" for name in differing[:3])
            raise TrainingError(f"{file}: is the state of another training: it differs in {told}. Remove it to start anew.")

    def _fill(self, classifier: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
        """Copy a state into classifier, optimizer and torch's random generator."""
        own = self.changing(classifier)
        for name, value in own.items():
            value.copy_(tensors[f"weight.{name}"])
        for name, parameter in classifier.named_parameters():
            if f"exp_avg.{name}" in tensors:
                kinds = ("step", "exp_avg", "exp_avg_sq")
                optimizer.state[parameter] = {kind: tensors[f"{kind}.{name}"].to(parameter.device) for kind in kinds}
        torch.set_rng_state(tensors["random"])
        if "random_cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random_cuda"])

    def _write(self, file: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
        """Write a file, whole or not at all."""
        content = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(file, lambda draft: save_file(content, draft, dict(header)))
        except (SafetensorError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise TrainingError(
                f"{file}: the state of the training cannot be saved ({reason}); make room and run the same command with --resume."
            ) from None


def _compare(there: Any, here: Any) -> str:
    """Word two settings; checksums tell people nothing."""
    is_telling = not isinstance(here, list) and len(str(here)) < 2 * DIGEST_BYTES
    return f" ({there} there, {here} here)" if is_telling else ""


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Tell weights from other weights: a checksum, 32 hexadecimal digits."""
    summed = blake2b(digest_size=DIGEST_BYTES)
    for name, tensor in tensors.items():
        summed.update(name.encode())
        summed.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return summed.hexdigest()


def digest_of_text(values: Any) -> str:
    """Tell plain values from other values: a checksum, 32 hexadecimal digits."""
    return blake2b(json.dumps(values).encode(), digest_size=DIGEST_BYTES).hexdigest()


def _course(values: Mapping[str, Any]) -> Course:
    """Read back how far a training was."""
    epochs = [Epoch(**one) for one in values["epochs"]]
    return Course(values["step"], values["seconds"], epochs, [Step(**one) for one in values["steps"]])
