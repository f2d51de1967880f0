"""`spamd-admin model quantise` with the tiny checkpoint."""

import pytest
from teaching import write_folder

from spamd.model import int8
from spamd.model.card import CheckpointCard
from spamd.model.checkpoint import read_card
from spamd.model.int8 import is_exact
from spamd.training import quantising

pytestmark = pytest.mark.skipif(not is_exact(), reason="this torch cannot multiply whole numbers on this processor")


@pytest.fixture
def quantise(spamd_admin, settings, tmp_path, monkeypatch):
    """Run `spamd-admin model quantise` with those settings and a little mail, which is enough here."""
    monkeypatch.setattr(quantising, "MIN_MESSAGES", 20)
    mail = write_folder(tmp_path / "mail", 20)
    return lambda *arguments: spamd_admin("model", "quantise", "--config", settings, "--dataset", f"folder:{mail}", *arguments)


def test_a_checkpoint_that_says_the_same_is_written(quantise, registry, spamd_admin, settings):
    """Where verdicts stay, an int8 checkpoint with the same weights and the comparison on its card lies beside, and can serve."""
    before = read_card(registry.current())
    ran = quantise()
    made = read_card(registry.checkpoints_dir / ran.out.split("Written: ")[1].split(". ")[0])

    assert 0 == ran.code, ran.err
    assert "0 of 40 verdicts change" in ran.out
    assert ("int8", before.weights_sha256) == (made.arithmetic, made.weights_sha256)
    assert (before.id, 40, 0) == tuple(made.training["quantised"][key] for key in ("from", "messages", "verdicts_changed"))
    assert before.id == registry.current().name
    assert 0 == spamd_admin("model", "promote", made.id, "--config", settings).code


def test_nothing_is_written_where_verdicts_change(quantise, registry, monkeypatch):
    """Where whole numbers change verdicts, the command says so, exits with 1 and leaves no checkpoint."""
    monkeypatch.setattr(int8, "quantise", lambda classifier: [one.data.neg_() for one in classifier.head.parameters()])
    ran = quantise()

    assert 1 == ran.code
    assert "40 of 40 verdicts change" in ran.out
    assert "That is more than 0.1%: nothing was written." in ran.out
    assert [registry.current()] == [path for path in registry.checkpoints_dir.iterdir() if path.is_dir()]


@pytest.mark.parametrize(("changed", "is_passed"), [(0, True), (1, True), (2, False)])
def test_one_verdict_in_a_thousand_may_change(changed, is_passed):
    """The gate holds at 0.1 % of verdicts."""
    assert is_passed is quantising.Comparison(1000, changed, 0.1).is_passed


def test_little_mail_shows_nothing(quantise, monkeypatch):
    """Less mail than can show a change of 0.1 % is refused."""
    monkeypatch.setattr(quantising, "MIN_MESSAGES", 1000)
    ran = quantise()

    assert 65 == ran.code
    assert "40 messages that the checkpoint has not seen are too few" in ran.err


def test_int8_of_int8_is_refused(quantise, registry):
    """A checkpoint that computes in int8 already is not made again."""
    made = quantise().out.split("Written: ")[1].split(". ")[0]
    ran = quantise(made)

    assert 65 == ran.code
    assert f"{made} computes in int8 already" in ran.err


def test_cards_say_float_by_default():
    """A card that does not say how it computes computes in float32."""
    assert "float" == CheckpointCard.model_fields["arithmetic"].default
