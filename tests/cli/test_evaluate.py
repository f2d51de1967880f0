"""`spamd-admin evaluate` and `retrain --dataset feedback` with the tiny checkpoint."""

import json

import pytest
from teaching import write_folder

from spamd.model.checkpoint import read_card


@pytest.fixture
def mail(tmp_path):
    """A folder of plain mail."""
    return write_folder(tmp_path / "mail", 40)


@pytest.fixture
def admin(spamd_admin, settings):
    """Run `spamd-admin` with those settings."""
    return lambda command, *arguments: spamd_admin(command, "--config", settings, *arguments)


def test_checkpoints_are_compared(admin, mail, registry, tmp_path):
    """Tables for people, the same figures as JSON in a file."""
    current = registry.current().name
    file = tmp_path / "figures.json"
    ran = admin("evaluate", "--dataset", f"folder:{mail}", "--checkpoint", "current", "--checkpoint", current, "--json", file)

    assert 0 == ran.code
    assert "On 80 messages (40 ham, 40 spam), with 95 % intervals:\n" in ran.out
    assert f"In points, minus {current} on the same messages" in ran.out
    assert [current, current] == [one["id"] for one in json.loads(file.read_text())["checkpoints"]]


def test_json_alone_can_be_printed(admin, mail):
    """With - standard output holds JSON and nothing else."""
    assert 40 == json.loads(admin("evaluate", "--dataset", f"folder:{mail}", "--json", "-").out)["messages"]["ham"]


def test_what_a_candidate_was_trained_on_is_left_out(admin, mail, registry):
    """After a retraining, which leaves its report, the same folder judges by its test part alone, without being told."""
    trained = admin("retrain", "--dataset", f"folder:{mail}", "--epochs", "1", "--force")
    report = registry.state_dir / "reports" / registry.current().name / "report.html"

    assert f"Report, with quotations of mail: {report}\n" in trained.out
    assert report.is_file()

    counts = read_card(registry.current()).training["messages"]["test"]
    ran = admin("evaluate", "--dataset", f"folder:{mail}")

    assert f"({counts['ham']} ham, {counts['spam']} spam)" in ran.out
    assert "messages are left out, on which a checkpoint was trained" in ran.out


def test_feedback_is_learned_without_a_path(admin, mail, registry):
    """Labelled mail adapts the checkpoint that serves; done again, it starts from the same one, not from the adapted one."""
    root = registry.current().name
    for label in ("ham", "spam"):
        admin("learn", f"--{label}", mail / label)
    assert 0 == admin("retrain", "--dataset", "feedback", "--force").code
    first = read_card(registry.current())
    assert 0 == admin("retrain", "--dataset", "feedback", "--force").code
    second = read_card(registry.current())

    assert [root, root] == [card.training["started_from"] for card in (first, second)]
    assert first.weights_sha256 == second.weights_sha256
    assert ({"name": "feedback", "path": "feedback.sqlite3", "ham": 40, "spam": 40},) == second.datasets


def test_no_feedback_is_said(admin):
    """An empty store is a sentence and exit 65."""
    ran = admin("retrain", "--dataset", "feedback")

    assert 65 == ran.code
    assert "0 ham and 0 spam are labelled; it takes 4 of each" in ran.err


def test_another_head_is_not_exchanged_for_feedback(admin, mail, registry):
    """A checkpoint whose head cannot be bent is left as it is, whatever head the settings want for trainings."""
    assert 0 == admin("retrain", "--dataset", f"folder:{mail}", "--head", "mean-pool", "--epochs", "1", "--force").code
    served = registry.current().name
    for label in ("ham", "spam"):
        admin("learn", f"--{label}", mail / label)

    ran = admin("retrain", "--dataset", "feedback", "--force")

    assert 65 == ran.code
    assert "not MeanPool" in ran.err
    assert served == registry.current().name


@pytest.mark.parametrize("option", [["--epochs", "3"], ["--no-causal-mask"], ["--freeze", "lora"], ["--processes", "2"]])
def test_options_without_effect_on_feedback_are_refused(admin, option):
    """What learns from few labels has no use for them, and says so."""
    ran = admin("retrain", "--dataset", "feedback", *option)

    assert 64 == ran.code
    assert f"{option[0]}" in ran.err
    assert "has no effect with --dataset feedback alone" in ran.err
