"""Linear layers in whole numbers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from spamd.mail.text import TEXT_VERSION
from spamd.model import int8
from spamd.model.checkpoint import load_checkpoint
from spamd.model.heads import LastToken
from spamd.model.int8 import Int8Linear, for_scoring, is_exact, is_quantised, quantise

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
    """The layer gives what weights of 7 bits and hidden states of 8 give, and comes near the layer itself."""
    hidden = _hidden(5, 48)
    scales = linear.weight.abs().amax(1, keepdim=True) / 63
    least = hidden.amin(1, keepdim=True)
    step = (hidden.amax(1, keepdim=True) - least) / 255
    rounded = ((hidden - least) / step).round() * step + least
    expected = rounded @ ((linear.weight / scales).round() * scales).T + linear.bias

    torch.testing.assert_close(expected, Int8Linear(linear)(hidden), rtol=0, atol=1e-5)
    torch.testing.assert_close(linear(hidden), Int8Linear(linear)(hidden), rtol=0, atol=0.05)


@needs_int8
@torch.inference_mode()
def test_a_token_does_not_depend_on_its_neighbours(linear):
    """What comes out for a token is the same alone and beside others of any size, in any shape."""
    hidden = _hidden(2, 3, 48)
    hidden[0, 0] *= 1e4
    layer = Int8Linear(linear)

    assert (2, 3, 24) == tuple(layer(hidden).shape)
    torch.testing.assert_close(layer(hidden[1, 2:]), layer(hidden)[1, 2:], rtol=0, atol=1e-6)


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


@pytest.mark.parametrize("can", [pytest.param(True, marks=needs_int8), False])
@pytest.mark.parametrize("arithmetic", ["float", "int8"])
def test_a_card_says_how_it_is_computed(tiny_checkpoint, monkeypatch, arithmetic, can):
    """Whole numbers serve where the card says so and the processor can; everywhere else the float weights do."""
    checkpoint = load_checkpoint(tiny_checkpoint, {"last-token": LastToken}, text_version=TEXT_VERSION)
    card = checkpoint.card.model_copy(update={"arithmetic": arithmetic})
    monkeypatch.setattr(int8, "is_exact", lambda: can)
    classifier = for_scoring(replace(checkpoint, card=card), torch.device("cpu"))

    assert (can and arithmetic == "int8") == is_quantised(classifier)


@pytest.mark.parametrize("error", [AttributeError, RuntimeError])
def test_operators_that_are_not_there_are_no_error(monkeypatch, error):
    """A torch without the operators is one that cannot, whatever it raises."""

    def fail(_linear):
        raise error

    monkeypatch.setattr(int8, "Int8Linear", fail)

    assert not is_exact.__wrapped__()


def test_other_processors_stay_float(monkeypatch):
    """Where there are no vector instructions of x86, torch has the operators and takes its time over them."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "SVE256")

    assert not is_exact.__wrapped__()
