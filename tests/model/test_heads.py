"""Every built-in head: logits do not depend on company or padding."""

import pytest
import torch

from spamd.model.classifier import Classifier, pad
from spamd.model.gpt2 import GPT2, GPT2Config
from spamd.model.heads import AttentionPool, FirstToken, LastToken, MeanPool, spamd_register_heads

HEADS = sorted(spamd_register_heads())


@pytest.fixture(autouse=True)
def _seeded(_one_thread: None) -> None:
    """Weights are the same in each test."""
    torch.manual_seed(7)


def _classifier(name: str) -> Classifier:
    """A classifier whose positions reach far enough for 900 pads."""
    config = GPT2Config(vocab_size=257, n_positions=1024, n_embd=32, n_layer=2, n_head=4)
    classifier = Classifier(GPT2(config), spamd_register_heads()[name](32, 2))
    # Away from the flat start of the attention pool.
    for parameter in classifier.head.parameters():
        torch.nn.init.normal_(parameter)
    return classifier.eval()


def test_built_in_heads_have_their_names() -> None:
    """Four heads are offered, and the default is among them."""
    assert ["attention-pool", "first-token", "last-token", "mean-pool"] == HEADS


@torch.no_grad()
@pytest.mark.parametrize("num_pads", [0, 1, 900])
@pytest.mark.parametrize("name", HEADS)
def test_pads_do_not_change_the_logits(name: str, num_pads: int) -> None:
    """The same text gives the same logits with 0, 1 and 900 pads, whatever id they have."""
    classifier = _classifier(name)
    ids = torch.randint(0, 256, (1, 20))
    alone = classifier(ids, torch.tensor([20]))

    for pad_id in (256, 0, 17):
        padded = torch.nn.functional.pad(ids, (0, num_pads), value=pad_id)

        torch.testing.assert_close(classifier(padded, torch.tensor([20])), alone, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", HEADS)
def test_company_does_not_change_the_logits(name: str) -> None:
    """Texts of many lengths give the same logits alone and in one batch."""
    classifier = _classifier(name)
    sequences = [torch.randint(0, 256, (length,)).tolist() for length in (1, 2, 3, 50, 400, 1024)]

    together = classifier(*pad(sequences, 256))

    for row, sequence in zip(together, sequences, strict=True):
        torch.testing.assert_close(classifier(*pad([sequence], 256))[0], row, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", HEADS)
def test_heads_never_read_padding(name: str) -> None:
    """Not even infinities in the padding of hidden states reach the logits."""
    head = spamd_register_heads()[name](8, 2)
    hidden, lengths = torch.randn(2, 5, 8), torch.tensor([5, 3])
    spoilt = hidden.clone()
    spoilt[1, 3:] = torch.inf

    assert torch.equal(head(hidden, lengths), head(spoilt, lengths))


def test_first_token_takes_the_first_token() -> None:
    """The head is the linear layer at position 0."""
    head = FirstToken(8, 2)
    hidden = torch.randn(2, 5, 8)

    assert torch.equal(head.linear(hidden[:, 0]), head(hidden, torch.tensor([5, 3])))


def test_last_token_takes_the_last_real_token() -> None:
    """The head is the linear layer at position length - 1."""
    head = LastToken(8, 2)
    hidden = torch.randn(2, 5, 8)

    expected = head.linear(torch.stack([hidden[0, 4], hidden[1, 2]]))
    assert torch.equal(expected, head(hidden, torch.tensor([5, 3])))


def test_mean_pool_takes_the_mean_of_real_tokens() -> None:
    """The head is the linear layer on the mean over the real tokens."""
    head = MeanPool(8, 2)
    hidden = torch.randn(1, 5, 8)

    torch.testing.assert_close(head(hidden, torch.tensor([3])), head.linear(hidden[:, :3].mean(1)))


def test_attention_pool_starts_as_the_mean_and_learns_to_look() -> None:
    """Untrained weights are equal; a query that likes one token gives it all the weight."""
    head = AttentionPool(8, 2)
    hidden = torch.randn(1, 3, 8)
    lengths = torch.tensor([3])
    torch.testing.assert_close(head(hidden, lengths), head.linear(hidden.mean(1)))

    head.query.data = 1000 * hidden[0, 1]

    torch.testing.assert_close(head(hidden, lengths), head.linear(hidden[:, 1]))


@pytest.mark.parametrize("name", HEADS)
def test_every_parameter_of_a_head_trains(name: str) -> None:
    """A step of training reaches each parameter."""
    classifier = _classifier(name)

    classifier(torch.randint(0, 256, (2, 9)), torch.tensor([9, 4])).sum().backward()

    assert all(parameter.grad is not None for parameter in classifier.head.parameters())
