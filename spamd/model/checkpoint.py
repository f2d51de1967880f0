"""A checkpoint folder: written whole or not at all, and read without trusting it.

    <id>/checkpoint.json        the card, see `card`
    <id>/model.safetensors      weights; of a trunk that builds on published weights only what training changed
    <id>/vocabulary.tiktoken    the vocabulary
    <id>/training.json          where it was trained here: the curves

Numbers and text only, no pickle: reading a checkpoint runs nothing that it brings along. Whatever does not fit is one
CheckpointError. Which checkpoint serves is decided in `service.registry`, and nothing here downloads. Called by `training`
(saving), `inference` and `cli` (loading).

Security: a folder is trusted to be what its owner wants to run, not to be undamaged or made for this version.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from spamd.errors import CheckpointError
from spamd.interfaces import Head, HeadFactory
from spamd.model.card import CLASS_NAMES, FORMAT, BaseNote, CheckpointCard, HeadNote, LoraNote
from spamd.model.checksum import sha256_of
from spamd.model.classifier import Classifier
from spamd.model.drafts import FILE_MODE, FOLDER_MODE, draft_folder, to_disk
from spamd.model.gpt2 import GPT2
from spamd.model.lora import attach, merge
from spamd.model.ngrams import NGrams
from spamd.model.tokenizer import Tokenizer
from spamd.model.weights import load_published, published_file

__all__ = [
    "CLASS_NAMES",
    "DEFAULT_FOLDER",
    "BaseNote",
    "Checkpoint",
    "CheckpointCard",
    "HeadNote",
    "LoraNote",
    "load_checkpoint",
    "read_card",
    "save_checkpoint",
    "save_variant",
]

DEFAULT_FOLDER = Path(__file__).parent / "default"
"""The checkpoint that ships with spamd."""

CARD, WEIGHTS, VOCABULARY = "checkpoint.json", "model.safetensors", "vocabulary.tiktoken"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint: its card, its classifier (float32, on the CPU, evaluating) and its tokenizer."""

    card: CheckpointCard
    classifier: Classifier
    tokenizer: Tokenizer


def read_card(folder: Path) -> CheckpointCard:
    """Read the card of a checkpoint.

    Args:
        folder: the checkpoint.

    Returns:
        The checked card.

    Raises:
        CheckpointError: it is missing, damaged or of another format.
    """
    file = folder / CARD
    try:
        values = json.loads(file.read_bytes())
        written = values["format"]
    except OSError as error:
        raise CheckpointError(f"{folder}: is no checkpoint: {file.name} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(f"{file}: is damaged: it is not a JSON object with a format number.") from None
    if written != FORMAT:
        raise CheckpointError(f"{file}: has format {written!r}, this spamd reads format {FORMAT}; use the spamd that wrote it.")
    if not values.get("id"):
        raise CheckpointError(f"{file}: is damaged: it has no id, which every header and log line names.")
    try:
        return CheckpointCard.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'card'}: {fault['msg']}" for fault in error.errors())
        raise CheckpointError(f"{file}: is damaged: {faults}.") from None


def load_checkpoint(
    folder: Path, heads: Mapping[str, HeadFactory], *, text_version: int, weights_dir: Path | None = None
) -> Checkpoint:
    """Load a checkpoint.

    Args:
        folder: the checkpoint.
        heads: the heads on offer, name -> factory.
        text_version: of the text that will be scored (`spamd.mail.text.TEXT_VERSION`).
        weights_dir: where `model fetch` put published weights; needed only by checkpoints that build on some.

    Returns:
        The checkpoint, ready to score.

    Raises:
        CheckpointError: something is missing, damaged, or made for another text, trunk or head.
    """
    card = read_card(folder)
    if card.text_version != text_version:
        raise CheckpointError(
            f"{folder}: was trained on version {card.text_version} of the text, and this spamd makes version {text_version}; "
            "train it again with `spamd-admin retrain`."
        )
    tokenizer = _load_tokenizer(folder, card)
    with torch.device("meta"):
        trunk = GPT2(card.trunk)
        if card.lora:
            attach(trunk, card.lora.rank, card.lora.alpha)
    ngrams = NGrams(card.ngrams, tokenizer) if card.ngrams else None
    classifier = Classifier(trunk, _make_head(folder, card, heads), ngrams, max_tokens=card.max_tokens)
    tensors = _load_weights(folder, card)
    if card.base.sha256 and any(name not in tensors for name in classifier.state_dict()):
        tensors = _load_base(folder, card, weights_dir) | tensors
    _check_tensors(folder / WEIGHTS, tensors, classifier)
    classifier.load_state_dict(tensors, assign=True)
    merge(classifier.trunk)
    return Checkpoint(card, classifier.eval(), tokenizer)


def save_checkpoint(
    parent: Path,
    classifier: Classifier,
    tokenizer: Tokenizer,
    card: CheckpointCard,
    *,
    weights_dir: Path | None = None,
    is_float16: bool = False,
    notes: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a checkpoint; it is there whole, under its final name, or not at all.

    Args:
        parent: the folder of checkpoints; made if missing.
        classifier: the weights, on any device.
        tokenizer: the vocabulary.
        card: everything else; id, creation time and checksums are filled in here.
        weights_dir: where published weights lie; needed where `card.base.sha256` is set, since only what differs is stored.
        is_float16: store half of the bytes and half of the digits; loading gives float32 either way.
        notes: further files for people and reports, name -> content; loading ignores them.

    Returns:
        The new folder, named after the id: today's date and six hexadecimal digits of the content. Where the very same content
        was saved today already, that folder.

    Raises:
        CheckpointError: a weight is not finite, the vocabulary does not fit the trunk, or the folder cannot be written.
    """
    if tokenizer.vocab_size > card.trunk.vocab_size:
        raise CheckpointError(
            f"the vocabulary has {tokenizer.vocab_size} ids, more than the {card.trunk.vocab_size} embeddings of the trunk."
        )
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.state_dict().items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"the weights of {name} are not finite; the training has failed, and nothing was saved.")
    if card.base.sha256:
        base = _load_base(parent, card, weights_dir)
        tensors = {name: tensor for name, tensor in tensors.items() if name not in base or not tensor.equal(base[name])}
    if is_float16:
        tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    try:
        with draft_folder(parent) as draft:
            for name, content in (notes or {}).items():
                (draft / name).write_bytes(content)
            return _write(draft, tensors, tokenizer, card)
    except SafetensorError as error:
        raise CheckpointError(f"{parent}: the checkpoint cannot be written: {error}.") from None
    except OSError as error:
        raise CheckpointError(f"{parent}: the checkpoint cannot be written: {error.strerror}.") from None


def _write(draft: Path, tensors: Mapping[str, Tensor], tokenizer: Tokenizer, card: CheckpointCard) -> Path:
    """Fill a draft folder and give it its final name."""
    save_file(dict(tensors), draft / WEIGHTS)
    (draft / VOCABULARY).write_bytes(tokenizer.content)
    return _finish(draft, card)


def save_variant(folder: Path, parent: Path, card: CheckpointCard) -> Path:
    """Write a checkpoint with weights and vocabulary of another one, `folder`, and a card of its own; as `save_checkpoint`.

    Raises:
        CheckpointError: it cannot be written.
    """
    try:
        with draft_folder(parent) as draft:
            for name in (WEIGHTS, VOCABULARY):
                shutil.copyfile(folder / name, draft / name)
            return _finish(draft, card)
    except OSError as error:
        raise CheckpointError(f"{parent}: the checkpoint cannot be written: {error.strerror}.") from None


def _finish(draft: Path, card: CheckpointCard) -> Path:
    """Give a draft that holds weights and vocabulary its card and its final name, and bring it to the disk."""
    checksums = {"weights_sha256": sha256_of(draft / WEIGHTS), "vocabulary_sha256": sha256_of(draft / VOCABULARY)}
    card = card.model_copy(update={"id": "", "created": "", **checksums})
    now = datetime.now(UTC)
    digest = hashlib.sha256(card.model_dump_json().encode()).hexdigest()
    card = card.model_copy(update={"id": f"{now:%Y-%m-%d}-{digest[:6]}", "created": now.isoformat(timespec="seconds")})
    (draft / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for path in draft.iterdir():
        path.chmod(FILE_MODE)
        to_disk(path)
    draft.chmod(FOLDER_MODE)
    to_disk(draft)
    folder = draft.parent / card.id
    if not folder.exists():
        draft.rename(folder)
        to_disk(folder.parent)
    return folder


def _load_tokenizer(folder: Path, card: CheckpointCard) -> Tokenizer:
    """Read the vocabulary and check that it is the one that the card names."""
    tokenizer = Tokenizer.from_file(folder / VOCABULARY, pad_to=card.pad_to)
    if tokenizer.sha256 != card.vocabulary_sha256:
        raise CheckpointError(
            f"{folder / VOCABULARY}: is not the vocabulary of this checkpoint: its sha256 is {tokenizer.sha256}."
        )
    if tokenizer.vocab_size > card.trunk.vocab_size:
        raise CheckpointError(f"{folder}: the vocabulary has more ids than the {card.trunk.vocab_size} embeddings of the trunk.")
    return tokenizer


def _make_head(folder: Path, card: CheckpointCard, heads: Mapping[str, HeadFactory]) -> Head:
    """Make the head that the card names, or name the package that would bring it."""
    note = card.head
    if note.name not in heads:
        raise CheckpointError(f"{folder}: needs the head {note.name!r} of {note.plugin}; install that package, or enable it.")
    try:
        return heads[note.name](card.trunk.n_embd, len(card.class_names), **note.options)
    except Exception as error:
        raise CheckpointError(f"{folder}: the head {note.name!r} of {note.plugin} cannot be made: {error!r}.") from error


def _load_weights(folder: Path, card: CheckpointCard) -> dict[str, Tensor]:
    """Read the stored tensors as float32, after checking that the file is the one that was written."""
    file = folder / WEIGHTS
    try:
        found = sha256_of(file)
        if found != card.weights_sha256:
            raise CheckpointError(f"{file}: is damaged: its sha256 is {found}, and the card says {card.weights_sha256}.")
        return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in load_file(file).items()}
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}.") from None
    except SafetensorError as error:
        raise CheckpointError(f"{file}: is no safetensors file: {error}.") from None


def _load_base(folder: Path, card: CheckpointCard, weights_dir: Path | None) -> dict[str, Tensor]:
    """Read the published weights that a checkpoint builds on, under our names."""
    name = card.base.name
    file = published_file(weights_dir, name) if weights_dir else None
    if file is None or not file.is_file():
        where = f"{file} is missing" if file else "no folder of published weights is known"
        raise CheckpointError(
            f"{folder}: builds on the published weights of {name}, and {where}; get them with `spamd-admin model fetch {name}`."
        )
    found = sha256_of(file)
    if found != card.base.sha256:
        raise CheckpointError(
            f"{file}: is not what {folder} builds on: its sha256 is {found}, and {card.base.sha256} is needed; "
            f"fetch it again with `spamd-admin model fetch {name}`."
        )
    return {f"trunk.{key}": tensor for key, tensor in load_published(file, card.trunk).items()}


def _check_tensors(file: Path, tensors: Mapping[str, Tensor], classifier: Classifier) -> None:
    """Compare names and shapes with what the classifier has; name the first that does not fit."""
    wanted = classifier.state_dict()
    for name, tensor in wanted.items():
        if name not in tensors:
            raise CheckpointError(f"{file}: lacks the tensor {name}, which this trunk and head need.")
        if tensors[name].shape != tensor.shape:
            shapes = f"{tuple(tensors[name].shape)}, and the card asks for {tuple(tensor.shape)}"
            raise CheckpointError(f"{file}: the tensor {name} has the shape {shapes}.")
    for name in tensors:
        if name not in wanted:
            raise CheckpointError(f"{file}: holds the tensor {name}, which this trunk and head do not have.")
