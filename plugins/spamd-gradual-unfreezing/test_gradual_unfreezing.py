"""The policy `gradual-unfreezing` opens the trunk from the end, a block an epoch."""

from itertools import pairwise

import pytest
from spamd_gradual_unfreezing import gradual_unfreezing

from spamd.hooks.manager import load_plugins

NAMES = [
    "trunk.wte.weight",
    "trunk.wpe.weight",
    *(f"trunk.h.{block}.{part}" for block in range(12) for part in ("ln_1.weight", "attn.c_attn.weight", "mlp.c_fc.bias")),
    "trunk.ln_f.weight",
    "trunk.ln_f.bias",
    "head.linear.weight",
    "head.linear.bias",
]


@pytest.mark.parametrize("epoch", [0, 1, 2, 10, 11])
def test_one_more_block_an_epoch(epoch):
    """After n epochs the last n + 1 blocks train, with what comes after them."""
    chosen = gradual_unfreezing(NAMES, epoch)

    assert set(range(11 - epoch, 12)) == {int(name.split(".")[2]) for name in chosen if name.startswith("trunk.h.")}
    assert NAMES[-4:] == list(chosen)[-4:]


def test_embeddings_come_last():
    """The embeddings stay frozen while any block is, and then everything trains."""
    assert "trunk.wte.weight" not in gradual_unfreezing(NAMES, 11)
    assert NAMES == list(gradual_unfreezing(NAMES, 12)) == list(gradual_unfreezing(NAMES, 500))


def test_what_trains_goes_on_training():
    """No parameter freezes again in a later epoch."""
    choices = [set(gradual_unfreezing(NAMES, epoch)) for epoch in range(14)]

    assert all(earlier <= later for earlier, later in pairwise(choices))


def test_spamd_finds_it():
    """The hook offers the policy by name."""
    plugins = load_plugins(
        drop_in_folder=None, use_entry_points=False, kinds=["freezing"], extra_modules=["spamd_gradual_unfreezing"]
    )

    assert gradual_unfreezing is plugins.freezing_policies["gradual-unfreezing"]
