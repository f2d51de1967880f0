"""Let a checkpoint's table of n-grams learn what the words of a site's own mail say there.

A support vector machine learns from the mail what its n-grams say, beside what the classifier thinks already, and what it finds
is added to the table. How far it trusts the classifier is chosen by validation mail: of mail like that which the classifier knows
it pays to trust it, other mail is better learned anew. Where what was learned does not make the labels of validation mail
likelier, the table stays as it was. Touches neither trunk nor head, and chooses no threshold. Called by `retraining`, after the
trainer; from few labels the table learns in `local_words`.

Shape letters: N messages of the training part, V of the validation part.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from spamd.model.card import MOST_DOUBTED
from spamd.model.classifier import Classifier
from spamd.model.ngrams import NGrams
from spamd.model.tokenizer import Tokenizer
from spamd.training import svm
from spamd.training.calibration import fit_temperature, probabilities
from spamd.training.metrics import Numbers
from spamd.training.parts import Part, margins
from spamd.training.progress import SILENT, Display

COST = 3.0
"""What a training message on the wrong side of the margin costs (C)."""
TRUSTS = (0.03, 0.1, 0.3)
"""How much what the classifier thinks may count beside all n-grams of a message, to choose from."""
LOUDEST = 20.0
"""So many times as much as the classifier thinks what is learned may say, on the mean."""
MOST_MESSAGES = 30_000
"""Messages that are learned from at the most; of more as many are drawn. Each takes some 20 to 40 kB of a file on disk."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What the table has learned.

    Attributes:
        num_messages: that it learned from.
        trust: the one of `TRUSTS` that was chosen.
        loss: mean negative logarithm of the probability of validation mail's labels, before.
        new_loss: the same, after.
    """

    num_messages: int
    trust: float
    loss: float
    new_loss: float


@dataclass(frozen=True, slots=True)
class _Choice:
    """What was learned with one trust: what it says of each n-gram, and what it is worth."""

    trust: float
    weight: npt.NDArray[np.float32]
    temperature: float
    loss: float


def learn(
    classifier: Classifier,
    tokenizer: Tokenizer,
    parts: tuple[Part, Part],
    *,
    seed: int,
    folder: Path | None = None,
    display: Display = SILENT,
) -> Learned | None:
    """Let the table learn, in place.

    Args:
        classifier: with a table.
        tokenizer: of it.
        parts: training and validation mail, as much of each message as the classifier reads.
        seed: of the draw of messages, and of their order.
        folder: where a file without a name holds the n-grams of the mail; None for where such files usually lie.
        display: told how it goes.

    Returns:
        What was learned; None where it was no gain.

    Raises:
        ValueError: the classifier has no table.
        OSError: the disk is full.
    """
    ngrams = classifier.ngrams
    if ngrams is None:
        raise ValueError("a classifier without a table of n-grams can learn nothing with it")
    train_part, validation = (_drawn(part, seed) for part in parts)
    display.begin("What the classifier thinks of the mail", len(train_part.labels) + len(validation.labels))
    thought, judged = (margins(classifier, part, display) for part in (train_part, validation))
    temperature, loss = _worth(validation.labels, judged)

    display.begin("N-grams of the mail", len(train_part.labels))
    rows = svm.read_rows(ngrams, train_part.sequences, folder=folder, display=display)
    factors = svm.weigh_by_rarity(rows, ngrams.note.num_buckets)
    local = NGrams(ngrams.note.model_copy(update={"stretch": 0, "doubt": 0.0, "doubling": 0.0}), tokenizer)
    choices = []
    for trust in TRUSTS:
        display.begin(f"What n-grams say here, trust {trust:g}", svm.MOST_PASSES)
        beside = trust / max(float(np.sqrt(np.square(thought).mean())), 1e-6)
        costs = np.full(len(rows), COST)
        weights, counts = svm.learn(
            rows, train_part.labels, costs, beside * thought, num_buckets=len(factors), seed=seed, display=display
        )
        # In the classifier's units, so that trunk, head and what the table knew stay as they are.
        said = _sums(local, weights * factors, validation)
        counts = max(counts * beside, float(np.abs(said).mean() / np.abs(judged).mean()) / LOUDEST, 1e-6)
        choices.append(_Choice(trust, weights * factors / np.float32(counts), *_worth(validation.labels, judged + said / counts)))
    best = min(choices, key=lambda choice: choice.loss)
    new_loss = _take_over(classifier, ngrams, best, best.temperature / temperature, (validation, loss))
    return None if new_loss is None else Learned(len(rows), best.trust, loss, new_loss)


def _drawn(part: Part, seed: int) -> Part:
    """Draw as many messages as are learned from at the most, in their order."""
    if len(part.labels) <= MOST_MESSAGES:
        return part
    chosen = np.sort(np.random.default_rng(seed).permutation(len(part.labels))[:MOST_MESSAGES])
    return Part([part.sequences[place] for place in chosen.tolist()], part.labels[chosen], part.pad_id)


def _worth(labels: Numbers, found: Numbers) -> tuple[float, float]:
    """Tell the temperature that makes margins honest, and how unlikely they then make the labels."""
    temperature = fit_temperature(labels, found)
    scores = np.clip(probabilities(found, temperature), 1e-6, 1.0 - 1e-6)
    return temperature, float(-np.log(np.where(labels == 1, scores, 1.0 - scores)).mean())


@torch.inference_mode()
def _sums(local: NGrams, weight: npt.NDArray[np.float32], part: Part) -> Numbers:
    """Sum up what new numbers say of messages, (V,)."""
    local.weight.copy_(torch.from_numpy(weight))
    return local.of(part.sequences).double().numpy()


def _take_over(
    classifier: Classifier, ngrams: NGrams, choice: _Choice, louder: float, judged_by: tuple[Part, float]
) -> float | None:
    """Add what was learned to the table, and doubt stretches and length as much as before beside it.

    Args:
        classifier: changed in place, unless that would be no gain.
        ngrams: its table.
        choice: what is added.
        louder: how many times as loud the classifier speaks then.
        judged_by: validation mail, and how unlikely its labels are without.

    Returns:
        How unlikely its labels are with it; None where they are not likelier.
    """
    validation, loss = judged_by
    before, note = ngrams.weight.detach().clone(), ngrams.note
    doubts = {name: min(getattr(note, name) * max(louder, 1.0), MOST_DOUBTED) for name in ("doubt", "doubling")}
    ngrams.note = note.model_copy(update=doubts)
    with torch.no_grad():
        ngrams.weight.add_(torch.from_numpy(choice.weight).to(ngrams.weight.device))
    _, new_loss = _worth(validation.labels, margins(classifier, validation))
    if new_loss < loss:
        return new_loss
    ngrams.note = note
    with torch.no_grad():
        ngrams.weight.copy_(before)
    return None
