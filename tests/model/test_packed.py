"""The trunk without padding."""

import pytest
import torch

from spamd.model.classifier import pad
from spamd.model.packed import by_turns, flash, last_hidden

SEQUENCES = [list(b"hello"), list(b"x"), list(range(100)), list(b"no padding here")]


@torch.inference_mode()
def test_hidden_states_are_those_of_padded_batches(tiny_classifier):
    """End to end or padded, each sequence has the same hidden state at its last token."""
    ids, lengths = pad(SEQUENCES, 256)
    expected = tiny_classifier.trunk(ids, lengths, reads="last")

    torch.testing.assert_close(expected, last_hidden(tiny_classifier.trunk, SEQUENCES, by_turns), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_sequence_does_not_see_its_neighbours(tiny_classifier):
    """A sequence has the same hidden state alone and between others."""
    alone = last_hidden(tiny_classifier.trunk, SEQUENCES[3:], by_turns)

    torch.testing.assert_close(alone[0], last_hidden(tiny_classifier.trunk, SEQUENCES, by_turns)[3], rtol=0, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="flash attention over rows of sequences needs a GPU")
@torch.inference_mode()
def test_flash_attention_gives_the_same(tiny_classifier):
    """On a GPU, in bfloat16, flash attention comes near what float32 gives on the CPU."""
    expected = last_hidden(tiny_classifier.trunk, SEQUENCES, by_turns)
    trunk = tiny_classifier.trunk.to("cuda", torch.bfloat16)

    torch.testing.assert_close(expected, last_hidden(trunk, SEQUENCES, flash).float().cpu(), rtol=0, atol=0.1)
