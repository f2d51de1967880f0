"""Train a trunk and a head from nothing on labelled text: the next token and, at every token, the label.

A causal model has read a prefix at each position. Asking for the label there, and not at the end alone, gives a hundred answers
a message to learn from instead of one; asking for the next token as well keeps the trunk a language model. What comes out is a
classifier to be fine-tuned as any other. Called by `default_checkpoint.py`.

A run that was stopped goes on from its last save and ends with the same weights: everything drawn follows from the seed, the
number of the epoch and that of the step.

Letters: B messages at once, T tokens of the longest, D width of the trunk, V vocabulary.
"""

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from spamd.model.classifier import Classifier, pad
from spamd.training.precision import computing_in

FIRST_ASKED = 6
"""Tokens of a message before the first whose label is asked."""
SORTED_AT_ONCE = 4096
"""Messages among which those of like length are put into one batch."""
MOST_AT_ONCE = 128
PAD_ID = 0
"""Any id will do: a causal model never reads behind the last token."""
SAVE_SECONDS = 180.0
REPORT_STEPS = 50


@dataclass(frozen=True)
class JointRecipe:
    """The settings.

    Attributes:
        num_tokens: length of the run, in tokens of training text.
        batch_tokens: tokens of one step, padding included.
        learning_rate: at its highest, after `warm_up` steps; a cosine takes it down.
        embedding_factor: the token embedding learns so many times as fast: a rare token has few steps to move in.
        prefix_share: share of the label's loss that all prefixes of a message bear; the rest is the last token's.
        next_token_weight: of the next-token loss beside the label's.
        next_tokens: positions of a batch at which the next token is asked.
        strange_tokens: share of the tokens that are replaced by drawn ones before the model reads them.
        weight_decay: on matrices; a tenth of it on the token embedding.
        warm_up: steps.
        seed: of everything drawn.
    """

    num_tokens: int
    batch_tokens: int = 6144
    learning_rate: float = 1.5e-3
    embedding_factor: float = 5.0
    prefix_share: float = 0.5
    next_token_weight: float = 0.2
    next_tokens: int = 384
    strange_tokens: float = 0.05
    weight_decay: float = 0.1
    warm_up: int = 100
    seed: int = 123


@dataclass
class Course:
    """How far a run is."""

    epoch: int = 0
    step: int = 0
    """Within the epoch."""
    num_steps: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    label_loss: float = 0.0
    token_loss: float = 0.0


class Message(NamedTuple):
    """What is learned from.

    Attributes:
        ids: the tokens.
        spam: the probability of spam that is taught: 1 for spam, 0 for ham, or between them where a teacher has doubts.
        is_one: whether every prefix has that label too; what was put together of two messages has it as a whole alone.
    """

    ids: Sequence[int]
    spam: float
    is_one: bool = True


def train_jointly(classifier: Classifier, epoch: Callable[[int], Sequence[Message]], recipe: JointRecipe, file: Path) -> None:
    """Train a classifier in place, all of it.

    Args:
        classifier: trunk and head, on any device.
        epoch: gives the messages of an epoch by its number.
        recipe: the settings.
        file: where the state is saved.
    """
    optimizer = _optimizer(classifier, recipe)
    course = _restore(file, classifier, optimizer)
    resumed = saved = time.monotonic()
    before = course.seconds
    classifier.train()
    while course.num_tokens < recipe.num_tokens:
        batches = _batches(epoch(course.epoch), recipe, course.epoch)
        for batch in batches[course.step :]:
            if course.num_tokens >= recipe.num_tokens:
                break
            losses = _step(classifier, optimizer, batch, recipe, course)
            _count(course, batch, losses, before + time.monotonic() - resumed)
            if course.num_steps % REPORT_STEPS == 0:
                _report(course, recipe)
            if time.monotonic() - saved > SAVE_SECONDS:
                _save(file, classifier, optimizer, course)
                saved = time.monotonic()
        else:
            course.epoch, course.step = course.epoch + 1, 0
    _save(file, classifier, optimizer, course)
    classifier.eval()


def _count(course: Course, batch: Sequence[Message], losses: tuple[float, float], seconds: float) -> None:
    """Count a step that was made; losses are followed slowly, the first are taken as they are."""
    course.label_loss, course.token_loss = (
        0.98 * mean + 0.02 * loss if course.num_steps else loss
        for mean, loss in zip((course.label_loss, course.token_loss), losses, strict=True)
    )
    course.step, course.num_steps = course.step + 1, course.num_steps + 1
    course.num_tokens += sum(len(message.ids) for message in batch)
    course.seconds = seconds


def _report(course: Course, recipe: JointRecipe) -> None:
    """Print a line."""
    print(
        f"joint {course.num_tokens / recipe.num_tokens:.1%} epoch {course.epoch} step {course.num_steps} "
        f"label {course.label_loss:.4f} next token {course.token_loss:.3f} "
        f"{course.num_tokens / course.seconds:,.0f} tokens/s",
        flush=True,
    )


def _batches(messages: Sequence[Message], recipe: JointRecipe, epoch: int) -> list[list[Message]]:
    """Put messages of like length together, and the batches in a drawn order."""
    batches: list[list[Message]] = []
    for start in range(0, len(messages), SORTED_AT_ONCE):
        batch: list[Message] = []
        for message in sorted(messages[start : start + SORTED_AT_ONCE], key=lambda message: len(message.ids)):
            is_full = len(message.ids) * (len(batch) + 1) > recipe.batch_tokens or len(batch) == MOST_AT_ONCE
            if batch and is_full:
                batches.append(batch)
                batch = []
            batch.append(message)
        batches.append(batch)
    random.Random(recipe.seed * 1000 + epoch).shuffle(batches)  # noqa: S311  a seeded draw, not a secret
    return batches


def _step(
    classifier: Classifier, optimizer: torch.optim.Optimizer, batch: Sequence[Message], recipe: JointRecipe, course: Course
) -> tuple[float, float]:
    """Make one step; return the label's loss at the last token and the next-token loss."""
    device = next(classifier.parameters()).device
    ids, lengths = (tensor.to(device) for tensor in pad([message.ids for message in batch], PAD_ID))  # (B, T), (B,)
    spam = torch.tensor([message.spam for message in batch], device=device)  # (B,)
    are_one = torch.tensor([message.is_one for message in batch], device=device)  # (B,)
    labels = torch.stack((1.0 - spam, spam), 1)  # (B, 2)
    with computing_in("auto", device):
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + course.num_steps)
        hidden = classifier.trunk(
            _with_strangers(ids, recipe.strange_tokens, classifier.trunk.config.vocab_size, generator)
        )  # (B, T, D)
        label_loss, last_loss = _label_loss(classifier.head, hidden, lengths, labels, recipe.prefix_share * are_one)
        places = _places(lengths, ids.shape[1], recipe.next_tokens, generator)
        token_loss = _next_token_loss(classifier.trunk.wte.weight, hidden, ids, places)
    (label_loss + recipe.next_token_weight * token_loss).backward()  # type: ignore[no-untyped-call]
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * group["factor"] * _schedule(course, recipe)
    nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return last_loss.item(), token_loss.item()


def _with_strangers(ids: Tensor, share: float, vocab_size: int, generator: torch.Generator) -> Tensor:
    """Put drawn tokens in the place of some, (B, T): no single one may be what a message is known by."""
    is_strange = torch.rand(ids.shape, generator=generator) < share
    strangers = torch.randint(vocab_size, ids.shape, generator=generator)
    return torch.where(is_strange.to(ids.device), strangers.to(ids.device), ids)


def _label_loss(head: nn.Module, hidden: Tensor, lengths: Tensor, labels: Tensor, prefix_shares: Tensor) -> tuple[Tensor, Tensor]:
    """Ask for the label at the last token and at all: the loss with so much of the latter, (B,), and that of the last alone."""
    num_messages, longest, _ = hidden.shape
    linear: nn.Linear = head.linear  # type: ignore[assignment]
    logits = linear(hidden).float()  # (B, T, 2)
    losses = functional.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(longest, 0), reduction="none")
    losses = losses.view(num_messages, longest)  # (B, T)
    places = torch.arange(longest, device=hidden.device)
    asked = (places < lengths[:, None]) & (places >= FIRST_ASKED)  # (B, T)
    prefixes = (losses * asked).sum(1) / asked.sum(1).clamp_min(1)  # (B,)
    last = losses.gather(1, (lengths - 1)[:, None])[:, 0]  # (B,)
    return (prefix_shares * prefixes + (1.0 - prefix_shares) * last).mean(), last.mean()


def _places(lengths: Tensor, longest: int, most: int, generator: torch.Generator) -> Tensor:
    """Draw places, counted through (B, T - 1), that have a next token: at most `most`."""
    has_next = torch.arange(longest - 1, device=lengths.device) < (lengths - 1)[:, None]  # (B, T - 1)
    places = has_next.flatten().nonzero()[:, 0]
    return places[torch.randperm(len(places), generator=generator)[:most].to(places.device)]


def _next_token_loss(embedding: Tensor, hidden: Tensor, ids: Tensor, places: Tensor) -> Tensor:
    """Ask for the next token at some places: the mean loss in nats, (). The output layer is the embedding, (V, D)."""
    if not len(places):
        return hidden.sum() * 0.0
    logits = hidden[:, :-1].flatten(0, 1)[places] @ embedding.T  # (places, V)
    return functional.cross_entropy(logits.float(), ids[:, 1:].flatten()[places])


def _schedule(course: Course, recipe: JointRecipe) -> float:
    """Share of the learning rate at this step: up within the warm-up, then a cosine down to nothing."""
    done = min(course.num_tokens / recipe.num_tokens, 1.0)
    return min((course.num_steps + 1) / recipe.warm_up, 1.0) * 0.5 * (1.0 + math.cos(math.pi * done))


def _optimizer(classifier: Classifier, recipe: JointRecipe) -> torch.optim.AdamW:
    """AdamW; the token embedding learns faster, norms and biases do not decay."""
    embedding = classifier.trunk.wte.weight
    others = [parameter for parameter in classifier.parameters() if parameter is not embedding]
    groups = [
        {"params": [p for p in others if p.dim() > 1], "weight_decay": recipe.weight_decay, "factor": 1.0},
        {"params": [p for p in others if p.dim() <= 1], "weight_decay": 0.0, "factor": 1.0},
        {"params": [embedding], "weight_decay": recipe.weight_decay / 10.0, "factor": recipe.embedding_factor},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)


def _state(classifier: Classifier, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """Name what a saved state holds."""
    for name, parameter in classifier.named_parameters():
        yield f"weight.{name}", parameter
        for kind, moment in optimizer.state.get(parameter, {}).items():
            yield f"{kind}.{name}", moment


def _save(file: Path, classifier: Classifier, optimizer: torch.optim.Optimizer, course: Course) -> None:
    """Write the state; the one before stays until the new one is whole."""
    draft = file.with_suffix(".new")
    tensors = {name: tensor.detach().contiguous() for name, tensor in _state(classifier, optimizer)}
    save_file(tensors, draft, {"course": json.dumps(asdict(course))})
    draft.replace(file)


def _restore(file: Path, classifier: Classifier, optimizer: torch.optim.Optimizer) -> Course:
    """Read a saved state back, if there is one."""
    if not file.exists():
        return Course()
    with safe_open(file, "pt") as opened:
        course = Course(**json.loads(opened.metadata()["course"]))
    tensors = load_file(file)
    for name, parameter in classifier.named_parameters():
        parameter.data.copy_(tensors[f"weight.{name}"])
        moments = {kind: tensors[f"{kind}.{name}"] for kind in ("step", "exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {kind: moment.to(parameter.device) for kind, moment in moments.items()}
    return course
