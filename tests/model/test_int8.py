"""Linear layers in whole numbers."""

import pytest
import torch
from torch import nn

from spamd.errors import CheckpointError
from spamd.mail.text import TEXT_VERSION
from spamd.model import int8
from spamd.model.checkpoint import load_checkpoint
from spamd.model.heads import LastToken
from spamd.model.int8 import Int8Linear, for_scoring, is_exact, quantise

needs_int8 = pytest.mark.skipif(not is_exact(), reason="this torch cannot multiply whole numbers on this processor")


@pytest.fixture
def linear():
    """A seeded layer from 48 to 24."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Linear(48, 24)


def _hidden(*shape):
    """Seeded hidden states."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


@needs_int8
@torch.inference_mode()
def test_outputs_are_those_of_rounded_numbers(linear):
    """The layer gives what weights of 8 bits and hidden states of 7 give, and comes near the layer itself."""
    hidden = _hidden(5, 48)
    scales = linear.weight.abs().amax(1, keepdim=True) / 127
    largest = hidden.abs().amax(1, keepdim=True)
    rounded = (hidden * 63 / largest).round() @ (linear.weight / scales).round().T * scales.T * largest / 63 + linear.bias

    torch.testing.assert_close(rounded, Int8Linear(linear)(hidden), rtol=0, atol=1e-5)
    torch.testing.assert_close(linear(hidden), Int8Linear(linear)(hidden), rtol=0, atol=0.05)


@needs_int8
@torch.inference_mode()
def test_a_token_does_not_depend_on_its_neighbours(linear):
    """What comes out for a token is the same, bit for bit, alone and beside others of any size, in any shape."""
    hidden = _hidden(2, 3, 48)
    hidden[0, 0] *= 1e4
    layer = Int8Linear(linear)

    assert (2, 3, 24) == tuple(layer(hidden).shape)
    assert torch.equal(layer(hidden[1, 2:]), layer(hidden)[1, 2:])


@needs_int8
@torch.inference_mode()
def test_zeros_stay_zeros(linear):
    """A hidden state of zeros gives the bias, and nothing is divided by zero."""
    assert torch.equal(linear.bias.expand(2, -1), Int8Linear(linear)(torch.zeros(2, 48)))


@needs_int8
@torch.inference_mode()
def test_all_blocks_but_the_last_are_rounded(tiny_classifier):
    """The last block and the head keep their float weights, and logits come near those of the float classifier."""
    ids, lengths = torch.tensor([list(b"hello world")]), torch.tensor([11])
    expected = tiny_classifier(ids, lengths)
    quantise(tiny_classifier)
    kinds = [{type(layer) for layer in (*block.attn.children(), *block.mlp.children())} for block in tiny_classifier.trunk.h]

    assert [{Int8Linear}, {nn.Linear}] == kinds
    torch.testing.assert_close(expected, tiny_classifier(ids, lengths), rtol=0, atol=0.02)


def test_processors_that_cannot_are_told(tiny_checkpoint, monkeypatch):
    """Where whole numbers do not multiply as they should, an int8 checkpoint is refused, and a float one is not."""
    checkpoint = load_checkpoint(tiny_checkpoint, {"last-token": LastToken}, text_version=TEXT_VERSION)
    monkeypatch.setattr(int8, "is_exact", lambda: False)

    assert for_scoring(checkpoint, torch.device("cpu")) is checkpoint.classifier
    rounded = type(checkpoint)(checkpoint.card.model_copy(update={"arithmetic": "int8"}), *_rest(checkpoint))
    with pytest.raises(CheckpointError, match="computes in int8, which torch"):
        for_scoring(rounded, torch.device("cpu"))


def _rest(checkpoint):
    """All of a checkpoint but its card."""
    return checkpoint.classifier, checkpoint.tokenizer


@pytest.mark.parametrize("error", [AttributeError, RuntimeError])
def test_operators_that_are_not_there_are_no_error(monkeypatch, error):
    """A torch without the operators is one that cannot, whatever it raises."""

    def fail(_linear):
        raise error

    monkeypatch.setattr(int8, "Int8Linear", fail)

    assert not is_exact()
