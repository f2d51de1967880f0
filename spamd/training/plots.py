"""The plots of a report, drawn with matplotlib: as SVG that takes its ink from the page around it, and as PNG.

Draws what it is given and computes next to nothing. Called by `report`.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from spamd.training.calibration import bins
from spamd.training.metrics import Numbers, by_label
from spamd.training.recipe import Training

Axes = Any
Draw = Callable[[Axes], None]

BLUE, ORANGE, GREY = "#3b82c4", "#d9772b", "#888888"
"""Readable on white and on black, and told apart by the colour-blind."""

_INK = "#010203"
_SIZE = (6.4, 3.6)
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "spamd",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
_MOST_LOST = 0.1


def draw(plot: Draw) -> tuple[str, bytes]:
    """Draw a plot.

    Args:
        plot: draws on axes.

    Returns:
        SVG whose lines and letters have the colour of the text around, and a PNG on white.
    """
    inks = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK)
    # The state of matplotlib is the caller's; no window is ever opened.
    with mpl.rc_context(_STYLE | inks):
        figure = Figure(figsize=_SIZE, layout="constrained")
        plot(figure.subplots())
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", dpi=150, facecolor="white")
    text = svg.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor"), png.getvalue()


def losses(training: Training) -> Draw:
    """Loss of each step, smoothed, and of the validation mail after each epoch."""
    return _course(training, "loss", "validation_loss", "loss", training.best.number)


def accuracies(training: Training) -> Draw:
    """Share on the right side, step by step, smoothed, and of the validation mail after each epoch."""
    return _course(training, "accuracy", "validation_accuracy", "share on the right side", training.best.number)


def roc(labels: Numbers, named: Mapping[str, Numbers], ham_lost: float) -> Draw:
    """Spam caught over ham lost, where little is lost; the share that was allowed is marked."""

    def plot(axes: Axes) -> None:
        for (name, scores), colour in zip(named.items(), (BLUE, ORANGE), strict=False):
            ham, spam = by_label(labels, scores)
            thresholds = np.unique(np.concatenate([ham, [np.inf]]))[::-1]
            lost = [float((ham >= threshold).mean()) for threshold in thresholds]
            caught = [100.0 * float((spam > kept).mean()) for kept in [*thresholds[1:], -np.inf]]
            least = 0.5 / len(ham)
            axes.step([100 * max(share, least) for share in lost], caught, where="post", color=colour, label=name)
        axes.axvline(100 * ham_lost, color=GREY, linestyle=":", label="allowed")
        axes.set_xscale("log")
        axes.set_xlim(100 * least, 100 * max(_MOST_LOST, 10 * least))
        axes.set_xticks([tick for tick in (0.01, 0.1, 1.0, 10.0) if tick >= 100 * least])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel(f"ham lost, % (left edge: none of {len(ham):,})")
        axes.set_ylabel("spam caught, %")
        axes.set_ylim(0, 102)
        axes.legend(loc="lower right")

    return plot


def calibration(labels: Numbers, before: Numbers, after: Numbers) -> Draw:
    """Share of spam among messages of a score, without temperature and with it; on the diagonal, scores mean what they say."""

    def plot(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
        for name, scores, colour in (("without temperature", before, ORANGE), ("with temperature", after, BLUE)):
            score, share, count = zip(*bins(labels, scores), strict=True)
            axes.plot(score, share, color=colour, label=name, linewidth=1)
            axes.scatter(score, share, s=[8 + 60 * number / len(labels) for number in count], color=colour)
        axes.set_xlabel("score (size of a point: share of the messages)")
        axes.set_ylabel("share of spam")
        axes.legend(loc="upper left")

    return plot


def scores(labels: Numbers, found: Numbers, threshold: float) -> Draw:
    """How many messages have which score, in log-odds, ham and spam, with the threshold."""

    def plot(axes: Axes) -> None:
        ham, spam = by_label(labels, _log_odds(found))
        edges = np.linspace(min(ham.min(), spam.min()) - 0.01, max(ham.max(), spam.max()) + 0.01, 41)
        axes.hist([ham, spam], bins=edges, color=[BLUE, ORANGE], label=["ham", "spam"], log=True)
        axes.axvline(float(_log_odds(np.array([threshold]))[0]), color=GREY, linestyle="--", label="threshold")
        axes.set_xlabel("score, in log-odds")
        axes.set_ylabel("messages")
        axes.legend()

    return plot


def _course(training: Training, of_step: str, of_epoch: str, title: str, best: int) -> Draw:
    """Draw a quantity over epochs; the best epoch is marked."""

    def plot(axes: Axes) -> None:
        numbers = [epoch.number for epoch in training.epochs]
        values = np.array([getattr(step, of_step) for step in training.steps])
        if len(values):
            window = max(1, len(values) // 50)
            smooth = np.convolve(values, np.ones(window) / window, mode="valid")
            places = (np.arange(len(smooth)) + window) * len(numbers) / len(values)
            axes.plot(
                places, smooth, color=BLUE, linewidth=1, label=f"training, mean of {window} steps" if window > 1 else "training"
            )
        axes.plot(numbers, [getattr(epoch, of_epoch) for epoch in training.epochs], "o-", color=ORANGE, label="validation")
        axes.axvline(best, color=GREY, linestyle=":", label="kept")
        axes.set_xlabel("epoch")
        axes.set_xticks(_ticks(numbers))
        axes.set_ylabel(title)
        axes.legend()

    return plot


def _ticks(numbers: Sequence[int]) -> list[int]:
    """Choose at most ten epochs to be named."""
    return list(numbers[:: max(1, -(-len(numbers) // 10))])


def _log_odds(found: Numbers) -> Numbers:
    """Turn scores into log-odds, off the ends."""
    kept = np.clip(found, 1e-6, 1 - 1e-6)
    odds: Numbers = np.log(kept / (1 - kept))
    return odds
