"""The report is one page that needs nothing else, says what was found, and lets no mail run in it."""

import re
import stat
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from teaching import HEADS, lesson, write_folder

from spamd.model.checkpoint import HeadNote
from spamd.training import freezing, plots, report
from spamd.training.datasets import folder
from spamd.training.gathering import Source, gather
from spamd.training.judging import answer_of
from spamd.training.progress import SILENT
from spamd.training.report import write_report
from spamd.training.retraining import Current, Plan, retrain
from spamd.training.starts import start_from_checkpoint
from spamd.training.trainer import Recipe
from spamd.verdict import Label

CPU = torch.device("cpu")


@pytest.fixture
def trained(tiny_checkpoint, tmp_path):
    """What came of a small training, and its mail; one subject is hostile."""
    path = write_folder(tmp_path / "mail", 60)
    mail = gather([Source("folder", path, folder(path))], seed=3, balance=False, display=SILENT)
    hostile = "From: <script>alert(1)</script> @x.example\nSubject: <img src=x onerror=alert(2)>\n\n<a href='x'>{{ 7*7 }}</a>"
    mail.parts.test[:] = [replace(example, text=f"{hostile} {example.text}") for example in mail.parts.test]
    current = Current(*answer_of(tiny_checkpoint, HEADS, mail.parts.test, weights_dir=None, device=CPU, seed=3, display=SILENT))
    recipe = Recipe("last-block", freezing.last_block, epochs=2, learning_rate=1e-5, seed=3)
    start = start_from_checkpoint(tiny_checkpoint, HEADS, HeadNote(), seed=3)
    places = {"checkpoints_dir": tmp_path / "stored", "weights_dir": tmp_path / "weights"}
    outcome = retrain(start, mail, Plan(recipe, 128, 0.05), current=current, device=CPU, display=SILENT, **places)
    return outcome, mail


def test_the_page_stands_alone(trained, tmp_path):
    """No script, no address to fetch, every section, PNGs beside it, all for the owner alone."""
    page = write_report(tmp_path / "report", *trained)
    text = page.read_text()

    assert ["accuracy.png", "calibration.png", "loss.png", "report.html", "roc.png", "scores.png"] == sorted(
        file.name for file in page.parent.iterdir()
    )
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in page.parent.iterdir()}
    assert 0o700 == stat.S_IMODE(page.parent.stat().st_mode)
    assert 5 == text.count("<svg")
    for title in ("Threshold", "Calibration", "Course", "Slices", "Worst mistakes", "Private: ", "Mail", "Settings"):
        assert title in text
    fetched = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!#)([^\"' >)]+)", re.sub(r"&#?\w+;[^<]*", "", text))
    assert [] == [address for address in fetched if not address.startswith("#")]


def test_mail_is_quoted_not_run(trained, tmp_path):
    """Tags of a message are letters on the page, and its braces are no template."""
    text = write_report(tmp_path / "report", *trained).read_text()

    assert "&lt;img src=x onerror=alert(2)&gt;" in text
    assert "{{ 7*7 }}" in text
    assert "<script" not in text
    assert "<img" not in text


def test_plots_take_the_ink_of_the_page(trained):
    """Lines and letters of an SVG have no colour of their own, so that they can be read in the dark."""
    svg, png = plots.draw(plots.losses(trained[0].training))

    assert "currentColor" in svg
    assert "#010203" not in svg
    assert b"\x89PNG" == png[:4]


@pytest.mark.parametrize("num_ham", [4, 5])
def test_a_curve_of_very_few_ham_runs_from_left_to_right(num_ham):
    """A tenth of the ham is the least there is then, and no axis is drawn backwards or to nothing."""
    figure = Figure()
    axes = figure.subplots()
    labels, scores = np.array([0] * num_ham + [1] * 5), np.linspace(0.0, 1.0, num_ham + 5)

    plots.roc(labels, {"one": scores}, 0.001)(axes)

    left, right = axes.get_xlim()
    assert left < right


def test_mistakes_are_on_the_wrong_side():
    """Ham at or above the threshold, the highest first; spam below it, the lowest first; nothing else."""
    examples = lesson(3)
    found = {
        label: [quote["score"] for quote in report._mistakes(examples, np.array([0.9, 0.2, 0.1, 0.7, 0.6, 0.4]), 0.5, label)]
        for label in Label
    }

    assert {Label.HAM: ["0.9000", "0.6000"], Label.SPAM: ["0.2000", "0.4000"]} == found
