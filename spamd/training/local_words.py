"""Few labelled messages teach a checkpoint's table of n-grams what words say here; trunk and head stay as they are.

Beside a share of what the checkpoint thinks already, the table learns by logistic regression under a normal prior. There are far
fewer messages than n-grams, so it looks at what messages have in common with each other instead (Schölkopf, Herbrich and Smola
2001, "A Generalized Representer Theorem"): that is the same, and quick. Both labels weigh the same, and nothing moves all mail
alike: people label mistakes rather than all mail, so how much of the labelled mail is spam says nothing.

How far the checkpoint is trusted is chosen by cross-validation. Of mail like that which it knows it pays to trust it, and mail
of another kind is better learned anew; where the difference may be chance, the greater trust is taken. What is learned speaks as
loud as the checkpoint did before, and louder only as far as the labels bear out, so that its threshold keeps its meaning: few
messages cannot say where one ham in a thousand is lost. Stores nothing, and chooses no threshold. `ngrams` does the same for mail
of which a part can be held out. Called by `adapting`.

Shape letters: N messages, L those that are learned from, R directions in which these differ.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import embedding_bag

from spamd.model.card import MOST_DOUBTED
from spamd.model.classifier import Classifier
from spamd.model.ngrams import AT_ONCE, NGrams
from spamd.training import svm
from spamd.training.logistic import NUM_FOLDS, deal, fit, losses
from spamd.training.metrics import Numbers
from spamd.training.parts import Part
from spamd.training.progress import SILENT, Display

TRUSTS = (1.0, 0.3, 0.1)
"""How much of what the checkpoint thinks may count beside what is learned, to choose from, the most first."""
WIDTH = 100.0
"""Of the prior: the standard deviation of what is learned of a message, in logits. So wide a one hardly resists the labels."""
MOST_MESSAGES = 2000
"""Messages that are learned from at the most; of more as many are drawn. Time and memory grow with their square."""
_COMPARED = 8
"""Messages that are compared with all others at once."""
_NEXT_TO_NOTHING = 1e-8
"""A direction in which messages differ less than this, beside the one in which they differ most, is an error of rounding."""


@dataclass(frozen=True, slots=True)
class Taught:
    """What the table has learned.

    Attributes:
        margins: cross-validated, in the classifier's units: each message judged by what was learned without it, (N,).
        louder: how many times as loud as before the classifier speaks in these units; its temperature is to grow as much.
        trust: the one of `TRUSTS` that was chosen.
        num_messages: that were learned from.
        num_weights: numbers of the table that changed.
    """

    margins: Numbers
    louder: float
    trust: float
    num_messages: int
    num_weights: int


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What is learned from: features (L, R), what the classifier thinks (L,), labels (L,), how often each message counts (L,)."""

    features: Numbers
    thought: Numbers
    labels: Numbers
    weights: Numbers
    temperature: float

    def learned(self, trust: float, chosen: Numbers) -> Numbers:
        """Learn from some of the messages: a change, (R,)."""
        return fit(
            self.features[chosen],
            trust * self.thought[chosen],
            self.labels[chosen],
            temperature=self.temperature,
            width=WIDTH,
            weights=self.weights[chosen],
        )


@dataclass(frozen=True, slots=True)
class _Choice:
    """What comes of one trust: how loud it is, what each fold is judged by, and each message's loss."""

    trust: float
    louder: float
    changes: list[Numbers]
    losses: Numbers


def teach(
    classifier: Classifier,
    part: Part,
    thought: Numbers,
    *,
    temperature: float,
    seed: int,
    folder: Path | None = None,
    display: Display = SILENT,
) -> Taught:
    """Let the table learn, in place.

    Args:
        classifier: with a table.
        part: the labelled mail, some of each label.
        thought: what the classifier thinks of it, (N,).
        temperature: of the classifier.
        seed: of the draw of messages and of the folds.
        folder: where a file without a name holds the n-grams of the mail; None for where such files usually lie.
        display: told how it goes.

    Raises:
        ValueError: the classifier has no table.
        OSError: the disk is full.
    """
    ngrams = classifier.ngrams
    if ngrams is None:
        raise ValueError("a classifier without a table of n-grams can learn nothing with it")
    chosen = _draw(part.labels, seed)
    labels = part.labels[chosen]
    display.begin("N-grams of the mail", len(chosen))
    rows = svm.read_rows(ngrams, [part.sequences[place] for place in chosen.tolist()], folder=folder, display=display)
    factors = svm.weigh_by_rarity(rows, ngrams.note.num_buckets)
    display.begin("What messages have in common", len(chosen))
    features, back = _directions(_products(rows, display))

    display.begin("What n-grams say here", len(TRUSTS))
    weights = len(labels) / (2.0 * np.bincount(labels, minlength=2))[labels]
    lesson, folds = _Lesson(features, thought[chosen], labels, weights, temperature), deal(labels, seed)
    tried = []
    for trust in TRUSTS:
        tried.append(_try(trust, lesson, folds))
        display.advance()
    choice = _choose(tried)
    changes = [*choice.changes, lesson.learned(choice.trust, folds >= 0)]
    says = (_told(rows, factors, back @ change / choice.trust) for change in changes)
    # What was not drawn is judged by the last, from all that was.
    judges = np.full(len(thought), NUM_FOLDS)
    judges[chosen] = folds
    display.begin("Judging what was learned", len(thought))
    margins, num_weights = _take_over(ngrams, part, thought, says, judges, louder=choice.louder, display=display)
    return Taught(margins, choice.louder, choice.trust, len(chosen), num_weights)


def _draw(labels: Numbers, seed: int) -> npt.NDArray[np.int64]:
    """Draw the places of what is learned from, (L,), in their order: of the rarer label all there is, up to a half."""
    draw = np.random.default_rng(seed)
    members = [draw.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
    fewest = min(MOST_MESSAGES // 2, *map(len, members))
    return np.sort(np.concatenate([found[: MOST_MESSAGES - fewest] for found in members]))


def _products(rows: svm.Rows, display: Display) -> Numbers:
    """Multiply each row by each, (L, L): how much two messages have in common."""
    used = np.bincount(rows.entries["bucket"]) > 0
    columns = torch.from_numpy((used.cumsum(dtype=np.int32) - np.int32(1))[rows.entries["bucket"]])
    values, ends = torch.from_numpy(np.ascontiguousarray(rows.entries["value"])), torch.from_numpy(rows.ends)
    products = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for first in range(0, len(rows), _COMPARED):
        last, begin = min(first + _COMPARED, len(rows)), rows.ends[first]
        own = slice(begin, rows.ends[last])
        dense = torch.zeros(int(used.sum()), last - first)
        owners = torch.arange(last - first).repeat_interleave(ends[first : last + 1].diff())
        # A run of characters and a token may share a bucket.
        dense.index_put_((columns[own].long(), owners), values[own], accumulate=True)
        # The rows before have been multiplied with these already.
        offsets = (ends[first:-1] - begin).int()
        summed = embedding_bag(columns[begin:], dense, offsets, mode="sum", per_sample_weights=values[begin:])
        products[first:, first:last] = summed.double()
        products[first:last, first:] = summed.double().T
        display.advance(last - first)
    return products.numpy()


def _directions(products: Numbers) -> tuple[Numbers, Numbers]:
    """Lay out messages along the directions in which they differ.

    Args:
        products: of their rows, (L, L).

    Returns:
        Features of which the products are the same, (L, R), and a matrix that makes of a change of these what each row counts
        in the sum of rows that does the same, (L, R).
    """
    squares, vectors = np.linalg.eigh(products)
    is_kept = squares > _NEXT_TO_NOTHING * squares[-1]
    # Messages may all be empty.
    is_kept[-1] = True
    lengths = np.sqrt(np.maximum(squares[is_kept], _NEXT_TO_NOTHING))
    return vectors[:, is_kept] * lengths, vectors[:, is_kept] / lengths


def _try(trust: float, lesson: _Lesson, folds: Numbers) -> _Choice:
    """Learn each fold's judge from the other folds."""
    changes = [lesson.learned(trust, folds != fold) for fold in range(NUM_FOLDS)]
    margins = trust * lesson.thought + (lesson.features * np.stack(changes)[folds]).sum(1)
    # No quieter than the labels bear out, no louder than with the checkpoint's whole voice, and between these as loud as it was.
    mean_squares = [max(float(np.square(values).mean()), 1e-12) for values in (lesson.thought, margins)]
    loudness = float(np.clip((mean_squares[0] / mean_squares[1]) ** 0.5, 1.0, 1.0 / trust))
    found = lesson.weights * losses(loudness * margins, lesson.labels, lesson.temperature)
    return _Choice(trust, 1.0 / (trust * loudness), changes, found)


def _choose(tried: Sequence[_Choice]) -> _Choice:
    """Choose the greatest trust whose loss is not above the least beyond its standard error."""
    best = min(tried, key=lambda choice: float(choice.losses.mean()))
    for choice in tried:
        more = choice.losses - best.losses
        if more.mean() <= more.std(ddof=1) / len(more) ** 0.5:
            return choice
    return best


def _told(rows: svm.Rows, factors: npt.NDArray[np.float32], counts: Numbers) -> npt.NDArray[np.float32]:
    """Sum up rows, each so many times, to numbers of a table, (num_buckets,)."""
    values = rows.entries["value"] * np.repeat(counts.astype(np.float32), np.diff(rows.ends))
    summed = np.bincount(rows.entries["bucket"], values, minlength=len(factors))
    return (summed * factors).astype(np.float32)


def _take_over(
    ngrams: NGrams, part: Part, thought: Numbers, says: Iterable[Numbers], judges: Numbers, *, louder: float, display: Display
) -> tuple[Numbers, int]:
    """Add what was learned to the table, and judge each message by it.

    Args:
        ngrams: gets the last of `says`, and doubts stretches and length as much as before beside what it says now.
        part: the messages.
        thought: what the whole classifier thought of them, (N,).
        says: what may be added, (num_buckets,) each.
        judges: by which of these each message is judged, (N,).
        louder: how many times as loud the classifier speaks then.
        display: told of each message.

    Returns:
        What the classifier thinks of them, (N,), and how many numbers of the table have changed.
    """
    everything = np.arange(len(thought))
    margins = thought - _said(ngrams, part, everything)
    doubts = {name: min(getattr(ngrams.note, name) * louder, MOST_DOUBTED) for name in ("doubt", "doubling")}
    ngrams.note = ngrams.note.model_copy(update=doubts)
    before = ngrams.weight.detach().clone()
    for judge, added in enumerate(says):
        with torch.no_grad():
            ngrams.weight.copy_(before + torch.from_numpy(added).to(before.device))
        mine = everything[judges == judge]
        margins[mine] += _said(ngrams, part, mine)
        display.advance(len(mine))
    return margins, int((ngrams.weight.detach() != before).sum())


@torch.inference_mode()
def _said(ngrams: NGrams, part: Part, places: npt.NDArray[np.int64]) -> Numbers:
    """Ask the table about some messages, a few at a time: their stretches may be many."""
    pieces = [places[start : start + AT_ONCE].tolist() for start in range(0, len(places), AT_ONCE)]
    said = [ngrams.of([part.sequences[place] for place in piece]).double().cpu().numpy() for piece in pieces]
    return np.concatenate([np.zeros(0), *said])
