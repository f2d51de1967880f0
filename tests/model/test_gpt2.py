"""The trunk: its names and sizes, and that every shortcut gives what the long way gives."""

import pytest
import torch

from spamd.model.gpt2 import GPT2, PUBLISHED, GPT2Config

CONFIG = GPT2Config(vocab_size=61, n_positions=40, n_embd=24, n_layer=3, n_head=4)


@pytest.fixture(autouse=True)
def _seeded(_one_thread: None) -> None:
    """Weights and inputs are the same in each test."""
    torch.manual_seed(11)


@pytest.fixture
def trunk() -> GPT2:
    """A trunk with larger weights than a fresh one, so that differences show."""
    trunk = GPT2(CONFIG).eval()
    for parameter in trunk.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return trunk


@pytest.mark.parametrize(
    ("name", "millions"), [("gpt2", 124.4), ("gpt2-medium", 354.8), ("gpt2-large", 774.0), ("gpt2-xl", 1557.6)]
)
def test_published_sizes_have_their_parameters(name: str, millions: float) -> None:
    """Each published model has as many parameters as its name in the paper says."""
    with torch.device("meta"):
        trunk = GPT2(PUBLISHED[name])

    assert millions == round(sum(parameter.numel() for parameter in trunk.parameters()) / 1e6, 1)


def test_parameters_bear_the_published_names() -> None:
    """Names and order are those of the published checkpoint."""
    block = [
        f"h.0.{name}.{kind}"
        for name in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
        for kind in ("weight", "bias")
    ]
    names = [name for name, _ in GPT2(GPT2Config(8, 4, 4, 1, 1)).named_parameters()]

    assert ["wte.weight", "wpe.weight", *block, "ln_f.weight", "ln_f.bias"] == names


def test_random_start_is_that_of_gpt2() -> None:
    """Matrices start at 0.02, residual projections at less, biases at zero and norms at one."""
    trunk = GPT2(GPT2Config(vocab_size=2000, n_positions=200, n_embd=128, n_layer=8, n_head=4))

    assert 0.02 == pytest.approx(trunk.wte.weight.std().item(), rel=0.05)
    assert 0.02 == pytest.approx(trunk.h[3].attn.c_attn.weight.std().item(), rel=0.05)
    for projection in (trunk.h[3].attn.c_proj, trunk.h[3].mlp.c_proj):
        assert 0.005 == pytest.approx(projection.weight.std().item(), rel=0.05)
    assert 0 == trunk.h[3].mlp.c_fc.bias.abs().max()
    assert torch.equal(trunk.ln_f.weight, torch.ones(128))


def test_same_seed_gives_the_same_trunk() -> None:
    """The random start comes from torch's generator."""
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(GPT2(CONFIG).h[2].mlp.c_fc.weight)

    assert torch.equal(*weights)


@torch.no_grad()
def test_tokens_do_not_see_what_follows(trunk: GPT2) -> None:
    """Changing a token changes its position and later ones only."""
    ids = torch.randint(0, 61, (1, 30))
    changed = ids.clone()
    changed[0, 17] = (ids[0, 17] + 1) % 61

    before, after = trunk(ids)[0], trunk(changed)[0]

    torch.testing.assert_close(before[:17], after[:17], rtol=0, atol=1e-5)
    assert (before[17:] - after[17:]).abs().amax(1).min() > 1e-3


@torch.no_grad()
def test_reading_the_last_equals_reading_all(trunk: GPT2) -> None:
    """The shortcut in the last block gives the hidden state of the last real token, whatever the padding."""
    ids, lengths = torch.randint(0, 61, (4, 40)), torch.tensor([40, 39, 7, 1])

    everything, last = trunk(ids, lengths), trunk(ids, lengths, reads="last")

    assert (4, 1, 24) == last.shape
    torch.testing.assert_close(last[:, 0], everything[torch.arange(4), lengths - 1], rtol=0, atol=1e-5)


@torch.no_grad()
def test_without_lengths_nothing_is_padding(trunk: GPT2) -> None:
    """Without lengths the last position is read."""
    ids = torch.randint(0, 61, (2, 9))

    torch.testing.assert_close(trunk(ids, reads="last")[:, 0], trunk(ids)[:, -1], rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("reads", ["last", "all"])
@pytest.mark.parametrize("block", range(4))
def test_two_parts_equal_the_whole(trunk: GPT2, block: int, reads: str) -> None:
    """Wherever the trunk is cut, running both parts gives what one run gives."""
    ids, lengths = torch.randint(0, 61, (3, 20)), torch.tensor([20, 11, 2])

    parts = trunk.from_block(trunk.hidden_before(ids, block), block, lengths, reads=reads)

    torch.testing.assert_close(parts, trunk(ids, lengths, reads=reads), rtol=0, atol=1e-5)


def test_shortcut_has_the_same_gradients(trunk: GPT2) -> None:
    """Training through the shortcut moves every weight as training through the long way."""
    ids, lengths = torch.randint(0, 61, (3, 20)), torch.tensor([20, 11, 2])
    gradients = []
    for reads in ("all", "last"):
        hidden = trunk(ids, lengths, reads=reads)
        chosen = hidden[:, 0] if reads == "last" else hidden[torch.arange(3), lengths - 1]
        trunk.zero_grad()
        chosen.pow(3).sum().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in trunk.named_parameters()})

    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-3, msg=name)


def test_too_long_a_sequence_says_both_numbers(trunk: GPT2) -> None:
    """More tokens than positions is a ValueError with both."""
    with pytest.raises(ValueError, match="41 tokens is longer than the 40 positions"):
        trunk(torch.zeros(1, 41, dtype=torch.int64))


@pytest.mark.parametrize("block", [-1, 4])
def test_block_that_is_not_there_is_refused(trunk: GPT2, block: int) -> None:
    """A block number that slicing would bend is a ValueError."""
    with pytest.raises(ValueError, match=f"no block {block} .* this trunk has 3"):
        trunk.hidden_before(torch.zeros(1, 4, dtype=torch.int64), block)
    with pytest.raises(ValueError, match=f"no block {block} .* this trunk has 3"):
        trunk.from_block(torch.zeros(1, 4, 24), block)


@pytest.mark.parametrize("sizes", [{"n_head": 7}, {"n_layer": 0}, {"vocab_size": -1}])
def test_impossible_sizes_are_refused(sizes: dict[str, int]) -> None:
    """Sizes of which no network can be built are a ValueError that shows them."""
    with pytest.raises(ValueError, match="is no network"):
        GPT2Config(**sizes)


@torch.no_grad()
@pytest.mark.parametrize("reads", ["last", "all"])
def test_without_the_causal_mask_every_token_is_read_and_no_padding(reads) -> None:
    """A later token changes an earlier position, what stands in the padding changes nothing, and both readers agree."""
    torch.manual_seed(1)
    trunk = GPT2(GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, is_causal=False)).eval()
    ids, lengths = torch.randint(0, 50, (2, 9)), torch.tensor([9, 5])
    hidden = trunk.from_block(trunk.hidden_before(ids, 1, lengths), 1, lengths, reads="all")
    other = ids.clone()
    other[0, 8], other[1, 5:] = (ids[0, 8] + 1) % 50, 7
    found = trunk.from_block(trunk.hidden_before(other, 1, lengths), 1, lengths, reads=reads)

    wanted = hidden[1, 4:5] if reads == "last" else hidden[1, :5]
    torch.testing.assert_close(found[1, : len(wanted)], wanted, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(hidden[0, 0], found[0, 0], atol=1e-4)
