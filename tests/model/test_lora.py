"""Adapters bend a frozen model, change nothing at first, and become weights again."""

import pytest
import torch

from spamd.mail.text import TEXT_VERSION
from spamd.model.checkpoint import BaseNote, CheckpointCard, LoraNote, load_checkpoint, save_checkpoint
from spamd.model.heads import LastToken
from spamd.model.lora import attach, merge

IDS = torch.arange(40).view(2, 20)
LENGTHS = torch.tensor([20, 7])


def _bent(classifier, rank=4, alpha=8.0):
    """The classifier with adapters that do something."""
    attach(classifier.trunk, rank, alpha)
    for name, parameter in classifier.named_parameters():
        if ".lora." in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return classifier


@torch.no_grad()
def test_fresh_adapters_change_nothing(tiny_classifier):
    """The up-projection starts at zero, and eight small matrices a block are new."""
    before, names = tiny_classifier(IDS, LENGTHS), dict(tiny_classifier.named_parameters())
    attach(tiny_classifier.trunk, rank=4, alpha=4.0)
    new = {name for name, _ in tiny_classifier.named_parameters()} - set(names)

    assert torch.equal(before, tiny_classifier(IDS, LENGTHS))
    assert 2 * 4 * 2 == len(new)
    assert "trunk.h.0.attn.c_attn.lora.down" in new


@torch.no_grad()
@pytest.mark.parametrize("reads", ["last", "all"])
def test_merged_adapters_give_the_same_logits(tiny_classifier, reads):
    """As weights they do what they did beside them, at one position and at all, and leave no trace."""
    tiny_classifier.head.reads = reads
    names = list(tiny_classifier.state_dict())
    plain = tiny_classifier(IDS, LENGTHS)
    bent = _bent(tiny_classifier)(IDS, LENGTHS)
    merge(tiny_classifier.trunk)

    assert not torch.allclose(plain, bent, atol=1e-3)
    torch.testing.assert_close(tiny_classifier(IDS, LENGTHS), bent, rtol=1e-5, atol=1e-5)
    assert names == list(tiny_classifier.state_dict())


@torch.no_grad()
def test_alpha_over_rank_is_the_strength(tiny_classifier):
    """Twice the alpha bends twice as much."""
    linear = tiny_classifier.trunk.h[0].mlp.c_fc
    _bent(tiny_classifier, rank=4, alpha=8.0)

    torch.testing.assert_close(2.0 * linear.lora.up @ linear.lora.down, linear.lora.weight())


@torch.no_grad()
def test_a_checkpoint_with_adapters_loads_as_plain_weights(tiny_classifier, byte_tokenizer, tmp_path):
    """Adapters are stored as they are and named on the card; what is loaded has none and scores the same."""
    _bent(tiny_classifier)
    expected = tiny_classifier(IDS, LENGTHS)
    card = CheckpointCard(
        trunk=tiny_classifier.trunk.config,
        base=BaseNote(name="tiny"),
        lora=LoraNote(rank=4, alpha=8.0),
        text_version=TEXT_VERSION,
        max_tokens=128,
    )
    folder = save_checkpoint(tmp_path, tiny_classifier, byte_tokenizer, card)
    loaded = load_checkpoint(folder, {"last-token": LastToken}, text_version=TEXT_VERSION)

    torch.testing.assert_close(loaded.classifier(IDS, LENGTHS), expected, rtol=1e-5, atol=1e-5)
    assert not [name for name, _ in loaded.classifier.named_parameters() if "lora" in name]
    assert (4, 8.0) == (loaded.card.lora.rank, loaded.card.lora.alpha)
