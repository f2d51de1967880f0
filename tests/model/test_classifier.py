"""Trunk and head together, padding, and the way from logits to scores."""

import math
from typing import Any

import pytest
import torch

from spamd.errors import PluginError
from spamd.model.classifier import Classifier, cut_rows, pad, scores
from spamd.model.gpt2 import GPT2, GPT2Config
from spamd.model.heads import LastToken
from spamd.model.tokenizer import cut


def test_parameter_names_say_trunk_and_head(tiny_classifier: Classifier) -> None:
    """Freezing policies and checkpoints see `trunk.` and `head.` names in model order."""
    names = [name for name, _ in tiny_classifier.named_parameters()]

    assert "trunk.wte.weight" == names[0]
    assert ["trunk.ln_f.weight", "trunk.ln_f.bias", "head.linear.weight", "head.linear.bias"] == names[-4:]


@torch.no_grad()
def test_upper_part_alone_gives_the_same_logits(tiny_classifier: Classifier) -> None:
    """Logits from a kept lower part equal those of a whole run, wherever it was cut."""
    ids, lengths = torch.randint(0, 256, (3, 30)), torch.tensor([30, 12, 1])
    expected = tiny_classifier(ids, lengths)

    for block in range(3):
        hidden = tiny_classifier.trunk.hidden_before(ids, block)

        torch.testing.assert_close(tiny_classifier.from_block(hidden, block, lengths), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_logits_are_float32_under_autocast(tiny_classifier: Classifier) -> None:
    """Heads compute in float32 whatever the trunk computes in, and come close to the exact logits."""
    ids, lengths = torch.randint(0, 256, (2, 30)), torch.tensor([30, 12])
    exact = tiny_classifier(ids, lengths)

    with torch.autocast("cpu", torch.bfloat16):
        short = tiny_classifier(ids, lengths)

    assert torch.float32 == short.dtype
    torch.testing.assert_close(short, exact, rtol=0, atol=0.1)


@pytest.mark.parametrize("reads", [None, "first"])
def test_head_that_breaks_its_contract_is_named(reads: Any) -> None:
    """A head that is no module, or says nothing usable about what it reads, is a PluginError with its class."""
    trunk = GPT2(GPT2Config(8, 4, 4, 1, 1))
    head = LastToken(4, 2)
    head.reads = reads

    with pytest.raises(PluginError, match=r"heads\.LastToken breaks its contract"):
        Classifier(trunk, head)
    with pytest.raises(PluginError, match="function breaks its contract"):
        Classifier(trunk, lambda hidden, _lengths: hidden)


def test_pad_fills_on_the_right() -> None:
    """Sequences become one table with their lengths."""
    ids, lengths = pad([[1, 2, 3], [4]], 9)

    assert [[1, 2, 3], [4, 9, 9]] == ids.tolist()
    assert [3, 1] == lengths.tolist()
    assert (torch.int64, torch.int64) == (ids.dtype, lengths.dtype)


@pytest.mark.parametrize("sequences", [[], [[1], []]])
def test_pad_refuses_what_has_no_last_token(sequences: list[list[int]]) -> None:
    """No sequence, or an empty one, is a programmer's mistake."""
    with pytest.raises(ValueError, match="cannot pad"):
        pad(sequences, 0)


def test_scores_are_calibrated_probabilities_of_spam() -> None:
    """A score is the softmax of the logits over the temperature, at the spam class."""
    got = scores(torch.tensor([[0.0, 0.0], [0.0, 4.0], [4.0, 0.0]]), temperature=2.0).tolist()

    assert [0.5, 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))] == pytest.approx(got)


def test_scores_of_extreme_logits_stay_probabilities() -> None:
    """Huge logits give 0 and 1, never something that is not a number."""
    assert [1.0, 0.0] == scores(torch.tensor([[-1e30, 1e30], [1e30, -1e30]]), temperature=0.1).tolist()


@pytest.mark.parametrize("max_tokens", [1, 3, 4, 8, 20, 29, 30, 40])
def test_rows_are_cut_as_texts_are(max_tokens: int) -> None:
    """What the trunk reads of padded rows is head and tail of each, whatever its neighbours are."""
    sequences = [list(range(length)) for length in (30, 12, 1, max_tokens)]
    kept = [cut(sequence, max_tokens) for sequence in sequences]

    ids, lengths = cut_rows(*pad(sequences, 99), max_tokens)

    assert ids.shape[1] <= max(30, max_tokens)
    assert kept == [row[:length] for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)]
