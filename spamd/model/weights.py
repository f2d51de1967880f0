"""Published GPT-2 weights, as `model fetch` left them, under the names and layouts of our trunk.

Reads safetensors files with Hugging Face names; downloads nothing (`fetch` does) and reads no other format. Called by
`checkpoint`, and by `training` where it starts from published weights.

Published linear layers are stored [in, out], the transpose of torch's. One of them, attn.c_proj, is square: forgetting to turn it
raises no error anywhere and ruins every score, so a test compares hidden states with another implementation.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from spamd.errors import CheckpointError, UnknownNameError
from spamd.model.checksum import sha256_of
from spamd.model.gpt2 import GPT2, PUBLISHED, GPT2Config
from spamd.model.tokenizer import Tokenizer

TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
"""Ends of the names of the tensors that are stored the other way round."""

SKIPPED = (".attn.bias", ".attn.masked_bias")
"""Causal masks that old versions stored beside the weights; `.attn.c_attn.bias` is none of them."""

PREFIX = "transformer."
"""Some files put it before every name: those of a whole language model or classifier."""


def published_file(weights_dir: Path, name: str) -> Path:
    """Say where the weights of a published model lie."""
    return weights_dir / name / "model.safetensors"


def open_published(name: str, weights_dir: Path) -> tuple[GPT2, Tokenizer, str]:
    """Open a published model for training.

    Args:
        name: one of `PUBLISHED`.
        weights_dir: where `model fetch` put it.

    Returns:
        Its trunk, its tokenizer and the sha256 of its weights file, for the card of what is trained on it.

    Raises:
        UnknownNameError: no model has this name.
        CheckpointError: it was not fetched, or is damaged.
    """
    if name not in PUBLISHED:
        raise UnknownNameError(f"there is no published model {name!r}; there are: {', '.join(PUBLISHED)}.")
    file = published_file(weights_dir, name)
    if not file.is_file():
        raise CheckpointError(f"{file}: is missing; get it with `spamd-admin model fetch {name}`.")
    with torch.device("meta"):
        trunk = GPT2(PUBLISHED[name])
    trunk.load_state_dict(load_published(file, PUBLISHED[name]), assign=True)
    return trunk, Tokenizer.from_file(file.parent / "vocabulary.tiktoken"), sha256_of(file)


def load_published(file: Path, config: GPT2Config) -> dict[str, Tensor]:
    """Read published weights.

    Args:
        file: safetensors with published names, with or without `transformer.` before them.
        config: sizes of the trunk that they are for.

    Returns:
        State of a trunk: name -> float32 tensor, each of the right shape.

    Raises:
        CheckpointError: the file cannot be read, or a tensor is missing or has another shape.
    """
    try:
        stored = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(file).items() if not name.endswith(SKIPPED)}
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}.") from None
    except SafetensorError as error:
        raise CheckpointError(f"{file}: is no safetensors file: {error}.") from None
    with torch.device("meta"):
        wanted = GPT2(config).state_dict()
    return {name: _fitting(file, name, stored.get(name), tensor) for name, tensor in wanted.items()}


def _fitting(file: Path, name: str, stored: Tensor | None, wanted: Tensor) -> Tensor:
    """Turn one stored tensor the way that ours lies, and check its shape."""
    if stored is None:
        raise CheckpointError(f"{file}: lacks the tensor {name}.")
    if name.endswith(TRANSPOSED) and stored.dim() == 2:  # noqa: PLR2004  a matrix
        stored = stored.T
    if stored.shape != wanted.shape:
        shapes = f"{tuple(stored.shape)}, and this trunk needs {tuple(wanted.shape)}"
        raise CheckpointError(f"{file}: the tensor {name} has the shape {shapes}.")
    return stored.float().contiguous()
