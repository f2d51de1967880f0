"""Policies choose names purely; applying a choice is the only thing that touches a parameter."""

import subprocess
import sys

import pytest

from spamd.errors import TrainingError
from spamd.training import freezing

NAMES = (
    "trunk.wte.weight",
    "trunk.wpe.weight",
    *(f"trunk.h.{block}.{part}" for block in range(12) for part in ("ln_1.weight", "attn.c_attn.weight", "mlp.c_proj.bias")),
    "trunk.ln_f.weight",
    "trunk.ln_f.bias",
    "head.linear.weight",
    "head.linear.bias",
)
END = {"trunk.ln_f.weight", "trunk.ln_f.bias", "head.linear.weight", "head.linear.bias"}


def _block(number):
    """Names of one block."""
    return {name for name in NAMES if name.startswith(f"trunk.h.{number}.")}


def test_last_block_is_the_reference():
    """The last block, the final norm and the head train; block 1 is not taken for block 11."""
    expected = _block(11) | END

    assert expected == set(freezing.last_block(NAMES, 0))


def test_last_two_blocks():
    """Two blocks, the final norm and the head train."""
    expected = _block(10) | _block(11) | END

    assert expected == set(freezing.last_two_blocks(NAMES, 3))


def test_head_only_leaves_the_final_norm_frozen():
    """The head alone trains."""
    assert {"head.linear.weight", "head.linear.bias"} == set(freezing.head_only(NAMES, 0))


def test_none_freezes_nothing():
    """Every parameter trains."""
    assert set(NAMES) == set(freezing.none(NAMES, 0))


@pytest.mark.parametrize("name", ["last-block", "last-two-blocks", "head-only", "none"])
def test_policies_are_pure(name):
    """The same names give the same choice at every call, in model order, and in every epoch."""
    policy = freezing.spamd_register_freezing_policies()[name]
    first = list(policy(NAMES, 0))

    assert first == list(policy(NAMES, 0)) == list(policy(tuple(NAMES), 4)) == [n for n in NAMES if n in first]


def test_policies_load_no_torch():
    """Choosing needs no torch, so that plugins test their policies in a blink."""
    code = "import sys, spamd.training.freezing as f; f.last_block(['head.w'], 0); print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert "False\n" == printed


def test_unknown_names_are_refused():
    """A name that the model lacks stops training with a sentence that names policy and parameter."""
    with pytest.raises(TrainingError, match=r"'mine' chose head\.bogus in epoch 2"):
        freezing.choose("mine", lambda names, _epoch: ["head.bogus", names[0]], NAMES, 1)


def test_an_empty_choice_is_refused():
    """A policy that leaves nothing to train is named."""
    with pytest.raises(TrainingError, match="'mine' left nothing to train in epoch 1"):
        freezing.choose("mine", lambda _names, _epoch: [], NAMES, 0)


def test_a_failing_policy_is_named():
    """What a plugin's policy raises becomes a sentence that names it."""

    def policy(names, epoch):
        raise KeyError("h.99")

    with pytest.raises(TrainingError, match=r"'mine' failed in epoch 1: KeyError\('h.99'\)"):
        freezing.choose("mine", policy, NAMES, 0)


def test_apply_policy_sets_requires_grad_both_ways(tiny_classifier):
    """Exactly the chosen parameters train, whatever trained before."""
    names = [name for name, _ in tiny_classifier.named_parameters()]
    for policy in (freezing.none, freezing.head_only, freezing.last_block):
        chosen = freezing.choose("built-in", policy, names, 0)

        freezing.apply_policy(tiny_classifier, chosen)

        assert chosen == {name for name, parameter in tiny_classifier.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(freezing.last_block, 11), (freezing.last_two_blocks, 10), (freezing.head_only, 12), (freezing.none, 0)],
)
def test_first_trainable_block(policy, expected):
    """Blocks before the first that trains stay frozen, none where an embedding trains."""
    assert expected == freezing.first_trainable_block(policy(NAMES, 0), 12)
