"""Learning from few labels: a checkpoint is adapted to local mail, no further than the mail demands.

Where it has a table of n-grams, that learns (`local_words`), else the last layer (`last_layer`); all the rest stays as it is, so
that nothing is forgotten. The judgement is cross-validated: each message is scored by what was learned without it. Eight messages
are enough to begin. The threshold stays the checkpoint's: few messages cannot say where one ham in a thousand is lost. Called by
`cli.adapting` (`feedback`) and `benchmarks/few_shot.py`.

Shape letters: N messages.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from spamd.errors import TrainingError
from spamd.mail.text import TEXT_VERSION
from spamd.model.checkpoint import CheckpointCard, save_checkpoint
from spamd.model.classifier import Classifier
from spamd.training import gate, last_layer, local_words, metrics
from spamd.training.calibration import probabilities
from spamd.training.cuts import NOTHING_HELD_OUT
from spamd.training.gathering import Mail
from spamd.training.judging import Answer, lineage
from spamd.training.logistic import fit, losses
from spamd.training.metrics import Numbers
from spamd.training.parts import Part, margins, tokenise
from spamd.training.progress import SILENT, Display
from spamd.training.recipe import Epoch, Training
from spamd.training.retraining import Current, Outcome
from spamd.training.starts import Start

TABLE_TAUGHT, LAYER_BENT = "table of n-grams taught", "last layer bent"
"""How a card says that a checkpoint was adapted, by what has learned."""
METHODS = frozenset({TABLE_TAUGHT, LAYER_BENT})

MIN_PER_LABEL = 4


@dataclass(frozen=True, slots=True)
class Learned:
    """What a classifier has learned from few labels.

    Attributes:
        before: what it thought of the messages, (N,): logit of spam minus logit of ham.
        margins: what it thinks of each when it has learned from the others, (N,).
        temperature: what these are divided by, as are the margins that it gives from now on.
        num_weights: that changed.
        settings: how it learned, as the card says it.
    """

    before: Numbers
    margins: Numbers
    temperature: float
    num_weights: int
    settings: Mapping[str, str | float]


def learn(
    classifier: Classifier,
    part: Part,
    *,
    temperature: float,
    seed: int,
    folder: Path | None = None,
    display: Display = SILENT,
) -> Learned:
    """Let a classifier learn from few labels, in place.

    Args:
        classifier: left evaluating.
        part: the messages, `MIN_PER_LABEL` of each label or more.
        temperature: what its margins are divided by.
        seed: of the folds.
        folder: where files without names hold what memory need not; None for where such files usually lie.
        display: told how it goes.

    Raises:
        TrainingError: there is no table, and the head is not `last-token`.
        OSError: the disk is full.
    """
    display.begin("Reading labelled mail", len(part.labels))
    if classifier.ngrams:
        thought = margins(classifier, part, display)
        taught = local_words.teach(classifier, part, thought, temperature=temperature, seed=seed, folder=folder, display=display)
        settings: dict[str, str | float] = {"method": TABLE_TAUGHT, "trust": taught.trust, "learned_from": taught.num_messages}
        return Learned(thought, taught.margins, temperature * taught.louder, taught.num_weights, settings)
    found = last_layer.read(classifier.eval(), part, display)
    width, judged = last_layer.choose_width(found, part.labels, temperature=temperature, seed=seed)
    change = fit(found.features, found.margins, part.labels, temperature=temperature, width=width)
    last_layer.bend(classifier, found, change)
    return Learned(found.margins, judged, temperature, len(change), {"method": LAYER_BENT, "prior_width": width})


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
    work_dir: Path | None = None,
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
        work_dir: where files without names hold what memory need not; None for where such files usually lie.

    Returns:
        The candidate, and how it compares with the checkpoint that it came from.

    Raises:
        TrainingError: there are too few messages, nothing that could learn, or the checkpoint reads long mail in windows.
        CheckpointError: the candidate cannot be stored.
        OSError: the disk is full.
    """
    card, started = start.card, time.monotonic()
    if card is None:
        raise TrainingError(
            f"{start.name} has judged no mail yet, so it cannot be adapted by --dataset feedback; retrain it first."
        )
    if card.long_mail != "head-tail":
        raise TrainingError(
            f"{card.id} reads long mail in {card.long_mail}, and --dataset feedback alone teaches only what reads head and tail; "
            "name mail that can be held out as well, such as --dataset folder:PATH."
        )
    classifier = start.classifier.to(device).eval()
    part = tokenise(mail.parts.train, start.tokenizer, classifier.budget())
    _require_enough(part.labels)
    learned = learn(classifier, part, temperature=card.temperature, seed=seed, folder=work_dir, display=display)
    before = _answer(part.labels, learned.before, card.temperature, card, seed)
    after = _answer(part.labels, learned.margins, learned.temperature, card, seed)
    loss = float(losses(learned.margins, part.labels, learned.temperature).mean())
    share_right = float(((learned.margins > 0.0) == (part.labels == 1)).mean())
    epoch = Epoch(1, loss, loss, learned.num_weights, time.monotonic() - started, share_right, share_right)
    folder = save_checkpoint(
        checkpoints_dir,
        classifier,
        start.tokenizer,
        _make_card(start, card, mail, after, learned, seed=seed),
        weights_dir=weights_dir,
    )
    decision = gate.judge(part.labels, after.judged, before.judged, max_ham_lost=max_ham_lost, seed=seed)
    return Outcome(folder, after, Current(card, before), decision, Training((epoch,), epoch), _warnings(card))


def root_of(card: CheckpointCard) -> str:
    """Name the checkpoint that is to be adapted: of one that was adapted itself, where it came from, so that nothing adds up."""
    return str(card.training["started_from"]) if card.training.get("method") in METHODS else card.id


def _make_card(start: Start, card: CheckpointCard, mail: Mail, answer: Answer, learned: Learned, *, seed: int) -> CheckpointCard:
    """Write the candidate's card: the old one with what has changed."""
    ngrams = start.classifier.ngrams
    note = f"That of {card.id}, kept: few messages cannot say more. The interval is that of the labelled ham, cross-validated."
    return card.model_copy(
        update={
            "id": "",
            "created": "",
            "base": start.base,
            "ngrams": ngrams.note if ngrams else None,
            "text_version": TEXT_VERSION,
            "temperature": learned.temperature,
            "threshold_interval": (answer.figures.hm.low / 100.0, answer.figures.hm.high / 100.0),
            "threshold_note": note,
            "datasets": mail.datasets,
            "metrics": answer.figures.as_json(),
            "training": {
                "started_from": card.id,
                **learned.settings,
                "seed": seed,
                "split": NOTHING_HELD_OUT,
                "messages": mail.counts,
                "lineage": lineage(card),
            },
        }
    )


def _answer(labels: Numbers, found: Numbers, temperature: float, card: CheckpointCard, seed: int) -> Answer:
    """Judge margins by the threshold of the checkpoint."""
    judged = gate.Judged(probabilities(found, temperature), card.threshold)
    return Answer(judged, metrics.measure(labels, judged.scores, judged.threshold, seed=seed))


def _warnings(card: CheckpointCard) -> tuple[str, ...]:
    """Say what the figures are."""
    sentence = (
        f"Figures are cross-validated on the labelled mail itself, and compared with {card.id}, whence the candidate came and "
        "which learned none of it. People label mistakes rather than all mail, so on all mail both are better."
    )
    return (sentence,)


def _require_enough(labels: Numbers) -> None:
    """Refuse to learn from next to nothing."""
    num_spam = int(labels.sum())
    num_ham = len(labels) - num_spam
    if min(num_ham, num_spam) < MIN_PER_LABEL:
        raise TrainingError(
            f"{num_ham:,} ham and {num_spam:,} spam are labelled; it takes {MIN_PER_LABEL} of each, for spam alone says nothing "
            "of ham. Label more with `spamd-admin learn --ham PATH` and `--spam PATH`."
        )
