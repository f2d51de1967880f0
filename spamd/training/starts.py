"""Where a training starts: a checkpoint, or published weights, under the head that was asked for.

Opens what is there and makes what is new; downloads nothing and trains nothing. Called by `cli.candidate`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from spamd.errors import TrainingError
from spamd.interfaces import HeadFactory
from spamd.mail.text import TEXT_VERSION
from spamd.model.checkpoint import BaseNote, CheckpointCard, HeadNote, LoraNote, load_checkpoint
from spamd.model.classifier import Classifier
from spamd.model.gpt2 import GPT2, GPT2Config
from spamd.model.lora import attach
from spamd.model.ngrams import NGrams
from spamd.model.tokenizer import Tokenizer
from spamd.model.weights import open_published

NUM_CLASSES = 2


@dataclass(frozen=True, slots=True)
class Start:
    """A classifier that is ready to be trained.

    Attributes:
        classifier: trunk and head, on the CPU.
        tokenizer: its vocabulary.
        base: what a card will say that it builds on.
        head: what a card will say of its head.
        name: id of the checkpoint, or name of the published model.
        card: of the checkpoint; None where the start is a published model.
        is_new_head: whether the head knows nothing yet.
        lora: the adapters that were attached, if any.
    """

    classifier: Classifier
    tokenizer: Tokenizer
    base: BaseNote
    head: HeadNote
    name: str
    card: CheckpointCard | None
    is_new_head: bool
    lora: LoraNote | None = None


def start_from_checkpoint(
    folder: Path, heads: Mapping[str, HeadFactory], head: HeadNote, *, seed: int, weights_dir: Path | None = None
) -> Start:
    """Start from a checkpoint; its head goes on learning where it is the one asked for, with the same options.

    Args:
        folder: the checkpoint.
        heads: the heads on offer by name.
        head: the head asked for.
        seed: of the weights of a new head.
        weights_dir: where published weights lie, for a checkpoint that builds on some.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        TrainingError: the head cannot be made.
    """
    checkpoint = load_checkpoint(folder, heads, text_version=TEXT_VERSION, weights_dir=weights_dir)
    card, classifier = checkpoint.card, checkpoint.classifier
    is_new_head = (card.head.name, card.head.options) != (head.name, head.options)
    if is_new_head:
        classifier = _join(classifier.trunk, heads, head, seed, classifier.ngrams)
    # What is stored beside published weights stays so; anything else stands alone from now on.
    base = card.base if card.base.sha256 else BaseNote(name=card.id)
    return Start(classifier, checkpoint.tokenizer, base, head, card.id, card, is_new_head)


def start_from_published(name: str, heads: Mapping[str, HeadFactory], head: HeadNote, *, seed: int, weights_dir: Path) -> Start:
    """Start from a published GPT-2 with a new head.

    Args:
        name: `gpt2`, `gpt2-medium`, `gpt2-large` or `gpt2-xl`.
        heads: the heads on offer by name.
        head: the head asked for.
        seed: of its weights.
        weights_dir: where `model fetch` puts published weights.

    Raises:
        CheckpointError: the weights were not fetched, or are damaged.
        TrainingError: the head cannot be made.
    """
    trunk, tokenizer, sha256 = open_published(name, weights_dir)
    classifier = _join(trunk, heads, head, seed)
    return Start(classifier, tokenizer, BaseNote(name=name, sha256=sha256), head, name, None, is_new_head=True)


def start_at_random(
    name: str, config: GPT2Config, tokenizer: Tokenizer, heads: Mapping[str, HeadFactory], head: HeadNote, *, seed: int
) -> Start:
    """Start from weights that know nothing, GPT-2's random start.

    Args:
        name: whose sizes they have: a published model or a checkpoint.
        config: the sizes.
        tokenizer: a vocabulary of no more ids than the trunk has embeddings.
        heads: the heads on offer by name.
        head: the head asked for.
        seed: of all weights.

    Raises:
        TrainingError: the head cannot be made.
    """
    torch.manual_seed(seed)
    classifier = _join(GPT2(config), heads, head, seed)
    return Start(classifier, tokenizer, BaseNote(name=f"random {name}"), head, f"random {name}", None, is_new_head=True)


def without_causal_mask(start: Start) -> Start:
    """Let every position read every other one, with the same weights."""
    trunk = start.classifier.trunk
    with torch.device("meta"):
        other = GPT2(replace(trunk.config, is_causal=False))
    other.load_state_dict(trunk.state_dict(), assign=True)
    old = start.classifier
    return replace(start, classifier=Classifier(other, old.head, old.ngrams, max_tokens=old.max_tokens).eval())


def with_adapters(start: Start, lora: LoraNote, *, seed: int) -> Start:
    """Attach low-rank adapters, the same ones for the same seed."""
    torch.manual_seed(seed)
    attach(start.classifier.trunk, lora.rank, lora.alpha)
    return replace(start, lora=lora)


def _join(trunk: GPT2, heads: Mapping[str, HeadFactory], head: HeadNote, seed: int, ngrams: NGrams | None = None) -> Classifier:
    """Put a new head on a trunk, the same one for the same seed."""
    torch.manual_seed(seed)
    try:
        made = heads[head.name](trunk.config.n_embd, NUM_CLASSES, **head.options)
    except Exception as error:
        options = f" with [model.head_options] {head.options}" if head.options else ""
        raise TrainingError(f"The head {head.name!r} of {head.plugin} cannot be made{options}: {error!r}.") from error
    return Classifier(trunk, made, ngrams).eval()
