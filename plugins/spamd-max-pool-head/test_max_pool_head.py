"""The head `max-pool` sees every real token and no padding."""

import pytest
import torch
from spamd_max_pool_head import MaxPool

from spamd.hooks.manager import load_plugins


@pytest.mark.parametrize("join_last_token", [True, False])
def test_shape(join_last_token):
    """One row a message, one column a class, with and without the last token."""
    head = MaxPool(8, 2, join_last_token=join_last_token)

    assert (3, 2) == head(torch.randn(3, 5, 8), torch.tensor([5, 2, 1])).shape


@pytest.mark.parametrize("filling", [1e6, -1e6, 0.0, torch.inf])
def test_padding_changes_nothing(filling):
    """A message gets the same logits alone and padded, whatever stands in the padding."""
    head = MaxPool(8, 2)
    hidden = torch.randn(1, 3, 8)
    padded = torch.cat([hidden, torch.full((1, 4, 8), filling)], dim=1)

    assert torch.equal(head(hidden, torch.tensor([3])), head(padded, torch.tensor([3])))


def test_one_strong_token_is_seen_anywhere():
    """Where the strong token stands makes no difference to the maximum."""
    head = MaxPool(8, 2, join_last_token=False)
    early, late = torch.zeros(1, 6, 8), torch.zeros(1, 6, 8)
    early[0, 1] = late[0, 4] = 3.0

    assert torch.equal(head(early, torch.tensor([6])), head(late, torch.tensor([6])))
    assert not torch.equal(head(early, torch.tensor([6])), head(torch.zeros(1, 6, 8), torch.tensor([6])))


def test_gradients_stay_finite():
    """Masked positions bring no NaN into training."""
    head = MaxPool(8, 2)
    hidden = torch.randn(2, 5, 8, requires_grad=True)

    head(hidden, torch.tensor([5, 1])).sum().backward()

    assert torch.isfinite(hidden.grad).all()
    assert 0.0 == hidden.grad[1, 1:].abs().sum()


def test_an_unknown_option_is_refused():
    """A misspelt option is an error and not silently ignored."""
    with pytest.raises(TypeError, match="join_last"):
        MaxPool(8, 2, join_last=True)


def test_spamd_finds_it():
    """The hook offers the head by name, and the factory takes its option."""
    plugins = load_plugins(drop_in_folder=None, use_entry_points=False, kinds=["head"], extra_modules=["spamd_max_pool_head"])

    assert "all" == plugins.heads["max-pool"](8, 2, join_last_token=False).reads
