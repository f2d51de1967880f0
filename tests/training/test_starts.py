"""A training starts from a checkpoint or from published weights, with the head asked for."""

import pytest
import torch
from teaching import HEADS

from spamd.errors import CheckpointError, TrainingError
from spamd.model.checkpoint import HeadNote, read_card
from spamd.training.starts import start_from_checkpoint, start_from_published


def _weights(start):
    """All weights of a start."""
    return start.classifier.state_dict()


def test_the_same_head_goes_on(tiny_checkpoint, tiny_classifier):
    """Trunk and head keep their weights, and the card of what comes names the checkpoint as its base."""
    start = start_from_checkpoint(tiny_checkpoint, HEADS, HeadNote(), seed=1)

    assert not start.is_new_head
    assert all(torch.equal(value, _weights(start)[name]) for name, value in tiny_classifier.state_dict().items())
    assert (read_card(tiny_checkpoint).id, None) == (start.base.name, start.base.sha256)


def test_another_head_starts_anew_by_seed(tiny_checkpoint, tiny_classifier):
    """The trunk stays, the head is drawn, the same one for the same seed."""
    starts = [start_from_checkpoint(tiny_checkpoint, HEADS, HeadNote(name="mean-pool"), seed=seed) for seed in (1, 1, 2)]
    heads = [_weights(start)["head.linear.weight"] for start in starts]

    assert starts[0].is_new_head
    assert torch.equal(tiny_classifier.trunk.wte.weight, starts[0].classifier.trunk.wte.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_head_that_cannot_be_made_is_one_sentence(tiny_checkpoint):
    """Options that the head does not take are named with the settings that they come from."""
    head = HeadNote(name="mean-pool", options={"colour": "red"})

    with pytest.raises(TrainingError, match=r"'mean-pool' of spamd .* with \[model.head_options\] \{'colour': 'red'\}"):
        start_from_checkpoint(tiny_checkpoint, HEADS, head, seed=1)


def test_published_weights_must_be_there(tmp_path):
    """Without them the sentence names the command that fetches them."""
    with pytest.raises(CheckpointError, match="spamd-admin model fetch gpt2"):
        start_from_published("gpt2", HEADS, HeadNote(), seed=1, weights_dir=tmp_path)


def test_published_weights_get_a_new_head(tiny_classifier, byte_tokenizer, monkeypatch, tmp_path):
    """A published trunk starts with a fresh head; its checksum goes on the card, so that only what changed is stored."""
    opened = (tiny_classifier.trunk, byte_tokenizer, "a" * 64)
    monkeypatch.setattr(
        "spamd.training.starts.open_published", lambda _name, weights_dir: opened if weights_dir == tmp_path else None
    )
    start = start_from_published("gpt2", HEADS, HeadNote(), seed=1, weights_dir=tmp_path)

    assert start.is_new_head
    assert start.card is None
    assert ("gpt2", "a" * 64) == (start.base.name, start.base.sha256)
