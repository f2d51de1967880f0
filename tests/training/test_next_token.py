"""The loss of the next token equals the plain formula, slice by slice, in either precision."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from spamd.model.gpt2 import GPT2, GPT2Config
from spamd.training import next_token
from spamd.training.next_token import cut_windows, heldout_loss, next_token_loss

CONFIG = GPT2Config(vocab_size=50, n_positions=12, n_embd=16, n_layer=1, n_head=2)


@pytest.mark.parametrize(("is_short", "tolerance"), [(False, 1e-5), (True, 3e-2)])
def test_loss_and_gradients_equal_the_plain_form(monkeypatch: pytest.MonkeyPatch, is_short: bool, tolerance: float) -> None:
    """Slices give the loss and every gradient that the whole logits give."""
    monkeypatch.setattr(next_token, "uses_bfloat16", lambda _device: is_short)
    monkeypatch.setattr(next_token, "_SLICE_LOGITS", {"cpu": 50 * 7})
    torch.manual_seed(3)
    sliced, plain = GPT2(CONFIG), GPT2(CONFIG)
    plain.load_state_dict(sliced.state_dict())
    windows = torch.randint(0, 50, (3, 13))

    loss = next_token_loss(sliced, windows)
    loss.backward()
    logits = plain(windows[:, :-1]) @ plain.wte.weight.T
    expected = functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="sum")
    expected.backward()

    torch.testing.assert_close(loss, expected, rtol=tolerance, atol=0)
    for (name, got), wanted in zip(sliced.named_parameters(), plain.parameters(), strict=True):
        difference = (got.grad - wanted.grad).abs().max() / wanted.grad.abs().max()
        assert difference < tolerance, name


def test_held_out_loss_is_a_mean_over_windows() -> None:
    """An untrained trunk is about as surprised as by a fair draw from the vocabulary."""
    torch.manual_seed(3)
    stream = np.random.default_rng(0).integers(0, 50, 500)

    assert np.log(50) == pytest.approx(heldout_loss(GPT2(CONFIG), stream), abs=0.1)


def test_windows_carry_the_token_that_follows() -> None:
    """A window of T tokens comes with its T targets, as one row of T + 1."""
    assert [[2, 3, 4], [5, 6, 7]] == cut_windows(np.arange(10), [2, 5], 2).tolist()
