"""Learning from few labels: a checkpoint's last layer is bent towards local mail, no further than the mail demands.

Trunk and n-grams stay as they are, so nothing is forgotten. To the margin that the checkpoint gives a message a linear
function of the last token's hidden state is added, which costs the more the larger it is: the most likely one under a normal
prior around no change at all. How wide the prior is, is chosen by cross-validation, and so is the judgement made: each message
is scored by what was learned without it. Eight messages are enough to begin. Temperature and threshold stay the checkpoint's:
few messages cannot say where one ham in a thousand is lost. Called by `cli.adapting` (`feedback`) and `benchmarks/few_shot.py`.

Shape letters: N messages, D width of the trunk.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from spamd.errors import TrainingError
from spamd.mail.text import TEXT_VERSION
from spamd.model.checkpoint import CheckpointCard, save_checkpoint
from spamd.model.classifier import SPAM, Classifier, cut_rows
from spamd.model.heads import LastToken
from spamd.training import gate, metrics
from spamd.training.batches import by_length
from spamd.training.calibration import probabilities
from spamd.training.cuts import NOTHING_HELD_OUT
from spamd.training.gathering import Mail
from spamd.training.judging import Answer, lineage
from spamd.training.metrics import Numbers
from spamd.training.parts import BATCH_TOKENS, Part, tokenise
from spamd.training.progress import SILENT, Display
from spamd.training.recipe import Epoch, Training
from spamd.training.retraining import Current, Outcome
from spamd.training.starts import Start

METHOD = "last layer bent"
"""How a card says that a checkpoint was adapted."""

MIN_PER_LABEL = 4
NUM_FOLDS = 5
WIDTHS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Widths of the prior to choose from: standard deviations of a weight, where features have mean square one."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a checkpoint makes of messages.

    Attributes:
        features: hidden state of the last token and a one, (N, D + 1), float64, of mean square one.
        margins: logit of spam minus logit of ham, (N,).
        scale: what features were divided by.
    """

    features: Numbers
    margins: Numbers
    scale: float


@torch.inference_mode()
def read(classifier: Classifier, part: Part, display: Display = SILENT) -> Read:
    """Let a classifier read messages.

    Args:
        classifier: with the head `last-token`.
        part: the messages.
        display: told of each.

    Raises:
        TrainingError: it has another head.
    """
    head = _linear(classifier)
    hidden, margins = np.empty((len(part.labels), head.in_features)), np.zeros(len(part.labels))
    for batch in by_length(part.lengths_within(classifier.max_tokens), BATCH_TOKENS):
        ids, lengths = (tensor.to(head.weight.device) for tensor in part.pad(batch))
        if (evidence := classifier.evidence(ids, lengths)) is not None:
            margins[batch] = evidence.double().cpu().numpy()
        ids, lengths = cut_rows(ids, lengths, classifier.max_tokens)
        states = classifier.trunk.from_block(classifier.trunk.hidden_before(ids, 0, lengths), 0, lengths, reads="last")
        hidden[batch] = states[:, 0].double().cpu().numpy()
        display.advance(len(batch))
    weight, bias = (values.detach().double().cpu().numpy() for values in (head.weight, head.bias))
    margins += hidden @ (weight[SPAM] - weight[1 - SPAM]) + (bias[SPAM] - bias[1 - SPAM])
    scale = float(np.sqrt((hidden**2).mean())) or 1.0
    return Read(np.hstack([hidden / scale, np.ones((len(hidden), 1))]), margins, scale)


def fit(features: Numbers, margins: Numbers, labels: Numbers, *, temperature: float, width: float) -> Numbers:
    """Find the most likely change under a normal prior.

    Args:
        features: (N, D + 1).
        margins: what the checkpoint says, (N,).
        labels: the truth, (N,) of 0 and 1.
        temperature: what margins are divided by.
        width: of the prior.

    Returns:
        The change, (D + 1,): `features @ change` is to be added to margins.
    """
    inputs, offset, truth = (torch.from_numpy(np.asarray(values, np.float64)) for values in (features, margins, labels))
    change = torch.zeros(inputs.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([change], max_iter=100, tolerance_grad=1e-8, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        logits = (offset + inputs @ change) / temperature
        loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="sum") + (change**2).sum() / (2 * width**2)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(step)  # type: ignore[no-untyped-call]
    found: Numbers = change.detach().numpy()
    return found


def cross_fit(found: Read, labels: Numbers, *, temperature: float, width: float, seed: int) -> Numbers:
    """Score each message by what is learned without it.

    Returns:
        Margins, (N,).
    """
    folds = _folds(labels, seed)
    margins = found.margins.copy()
    for fold in range(NUM_FOLDS):
        rest, mine = folds != fold, folds == fold
        change = fit(found.features[rest], found.margins[rest], labels[rest], temperature=temperature, width=width)
        margins[mine] += found.features[mine] @ change
    return margins


def choose_width(found: Read, labels: Numbers, *, temperature: float, seed: int) -> tuple[float, Numbers]:
    """Choose the width of the prior by cross-validated loss, and return it with the margins that go with it."""
    tried = {width: cross_fit(found, labels, temperature=temperature, width=width, seed=seed) for width in WIDTHS}
    width = min(WIDTHS, key=lambda width: _loss(tried[width], labels, temperature))
    return width, tried[width]


def bend(classifier: Classifier, found: Read, change: Numbers) -> None:
    """Add a change to the last layer.

    Args:
        classifier: changed in place.
        found: what the change was found with.
        change: (D + 1,).
    """
    head = _linear(classifier)
    with torch.no_grad():
        head.weight[SPAM] += torch.from_numpy(change[:-1] / found.scale).to(head.weight)
        head.bias[SPAM] += float(change[-1])


def adapt(
    start: Start,
    mail: Mail,
    *,
    max_ham_lost: float,
    seed: int,
    checkpoints_dir: Path,
    weights_dir: Path,
    device: torch.device,
    display: Display,
) -> Outcome:
    """Adapt a checkpoint to labelled mail, judge it by cross-validation, and store it.

    Args:
        start: the checkpoint, one with a card; changed in place.
        mail: the mail, all of it in its first part.
        max_ham_lost: share of ham that may be lost.
        seed: of the folds.
        checkpoints_dir: the folder that gets the candidate's folder.
        weights_dir: where published weights lie.
        device: where to compute.
        display: told how it goes.

    Returns:
        The candidate, and how it compares with the checkpoint that it came from.

    Raises:
        TrainingError: there are too few messages, or the head is another.
        CheckpointError: the candidate cannot be stored.
    """
    card, started = start.card, time.monotonic()
    if card is None:
        raise TrainingError(
            f"{start.name} has judged no mail yet, so it cannot be adapted by --dataset feedback; retrain it first."
        )
    classifier = start.classifier.to(device).eval()
    part = tokenise(mail.parts.train, start.tokenizer, classifier.budget())
    _require_enough(part.labels)
    display.begin("Reading labelled mail", len(part.labels))
    found = read(classifier, part, display)
    width, margins = choose_width(found, part.labels, temperature=card.temperature, seed=seed)
    before, after = (_answer(part.labels, values, card, seed) for values in (found.margins, margins))
    change = fit(found.features, found.margins, part.labels, temperature=card.temperature, width=width)
    bend(classifier, found, change)
    loss = _loss(margins, part.labels, card.temperature)
    share_right = float(((margins > 0.0) == (part.labels == 1)).mean())
    epoch = Epoch(1, loss, loss, len(change), time.monotonic() - started, share_right, share_right)
    folder = save_checkpoint(
        checkpoints_dir,
        classifier,
        start.tokenizer,
        _make_card(start, card, mail, after, width=width, seed=seed),
        weights_dir=weights_dir,
    )
    decision = gate.judge(part.labels, after.judged, before.judged, max_ham_lost=max_ham_lost, seed=seed)
    return Outcome(folder, after, Current(card, before), decision, Training((epoch,), epoch), _warnings(card))


def root_of(card: CheckpointCard) -> str:
    """Name the checkpoint that is to be adapted: of one that was adapted itself, where it came from, so that nothing adds up."""
    return str(card.training["started_from"]) if card.training.get("method") == METHOD else card.id


def _make_card(start: Start, card: CheckpointCard, mail: Mail, answer: Answer, *, width: float, seed: int) -> CheckpointCard:
    """Write the candidate's card: the old one with what has changed."""
    note = f"That of {card.id}, kept: few messages cannot say more. The interval is that of the labelled ham, cross-validated."
    return card.model_copy(
        update={
            "id": "",
            "created": "",
            "base": start.base,
            "text_version": TEXT_VERSION,
            "threshold_interval": (answer.figures.hm.low / 100.0, answer.figures.hm.high / 100.0),
            "threshold_note": note,
            "datasets": mail.datasets,
            "metrics": answer.figures.as_json(),
            "training": {
                "started_from": card.id,
                "method": METHOD,
                "prior_width": width,
                "seed": seed,
                "split": NOTHING_HELD_OUT,
                "messages": mail.counts,
                "lineage": lineage(card),
            },
        }
    )


def _answer(labels: Numbers, margins: Numbers, card: CheckpointCard, seed: int) -> Answer:
    """Judge margins with the temperature and threshold of the checkpoint."""
    judged = gate.Judged(probabilities(margins, card.temperature), card.threshold)
    return Answer(judged, metrics.measure(labels, judged.scores, judged.threshold, seed=seed))


def _warnings(card: CheckpointCard) -> tuple[str, ...]:
    """Say what the figures are."""
    sentence = (
        f"Figures are cross-validated on the labelled mail itself, and compared with {card.id}, whence the candidate came and "
        "which learned none of it. People label mistakes rather than all mail, so on all mail both are better."
    )
    return (sentence,)


def _linear(classifier: Classifier) -> torch.nn.Linear:
    """Return the last layer.

    Raises:
        TrainingError: the head is not `last-token`.
    """
    if not isinstance(classifier.head, LastToken):
        raise TrainingError(
            f"Only the head last-token can be adapted by --dataset feedback, not {type(classifier.head).__name__}; name mail "
            "that can be held out as well, such as --dataset folder:PATH."
        )
    return classifier.head.linear


def _require_enough(labels: Numbers) -> None:
    """Refuse to learn from next to nothing."""
    num_spam = int(labels.sum())
    num_ham = len(labels) - num_spam
    if min(num_ham, num_spam) < MIN_PER_LABEL:
        raise TrainingError(
            f"{num_ham:,} ham and {num_spam:,} spam are labelled; it takes {MIN_PER_LABEL} of each, for spam alone says nothing "
            "of ham. Label more with `spamd-admin learn --ham PATH` and `--spam PATH`."
        )


def _folds(labels: Numbers, seed: int) -> Numbers:
    """Deal messages of each label into folds, (N,)."""
    folds = np.empty(len(labels), dtype=np.int64)
    drawn = np.random.default_rng(seed)
    for label in (0, 1):
        members = drawn.permutation(np.flatnonzero(labels == label))
        folds[members] = np.arange(len(members)) % NUM_FOLDS
    return folds


def _loss(margins: Numbers, labels: Sequence[int] | Numbers, temperature: float) -> float:
    """Compute the mean cross-entropy of calibrated scores."""
    signs = np.where(np.asarray(labels) == 1, -1.0, 1.0)
    return float(np.logaddexp(0.0, signs * margins / temperature).mean())
