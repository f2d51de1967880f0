"""Published weights give the hidden states that transformers computes from the same file."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from spamd.errors import CheckpointError, UnknownNameError
from spamd.model import gpt2, weights
from spamd.model.gpt2 import GPT2, GPT2Config
from spamd.model.tokenizer import Tokenizer
from spamd.model.weights import load_published, open_published

SHAPES = {
    "small": GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2),
    "many heads": GPT2Config(vocab_size=300, n_positions=64, n_embd=48, n_layer=1, n_head=12),
    "deep": GPT2Config(vocab_size=97, n_positions=33, n_embd=20, n_layer=5, n_head=1, layer_norm_epsilon=1e-3),
}


@pytest.fixture(autouse=True)
def _seeded(_one_thread: None) -> None:
    """Weights and inputs are the same in each test."""
    torch.manual_seed(13)


def _reference(config: GPT2Config, kind: str = "GPT2Model") -> Any:
    """A GPT-2 of transformers with random weights, of which none is zero or one."""
    transformers = pytest.importorskip("transformers", reason="a development dependency: the yardstick of these tests")
    settings = transformers.GPT2Config(
        vocab_size=config.vocab_size,
        n_positions=config.n_positions,
        n_embd=config.n_embd,
        n_layer=config.n_layer,
        n_head=config.n_head,
        layer_norm_epsilon=config.layer_norm_epsilon,
    )
    model = getattr(transformers, kind)(settings).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def _difference(reference: Any, state: dict[str, torch.Tensor], config: GPT2Config) -> float:
    """Largest difference of the hidden states that the two compute."""
    trunk = GPT2(config).eval()
    trunk.load_state_dict(state)
    ids = torch.randint(0, config.vocab_size, (3, config.n_positions))
    with torch.no_grad():
        return (trunk(ids) - reference(ids).last_hidden_state).abs().max().item()


@pytest.mark.parametrize("shape", SHAPES)
def test_hidden_states_equal_those_of_transformers(tmp_path: Path, shape: str) -> None:
    """A file that transformers saved gives its hidden states to 1e-5."""
    config = SHAPES[shape]
    reference = _reference(config)
    reference.save_pretrained(tmp_path)

    assert _difference(reference, load_published(tmp_path / "model.safetensors", config), config) < 1e-5


def test_whole_language_model_gives_the_same(tmp_path: Path) -> None:
    """The `transformer.` prefix of a saved language model is taken off, and its logits are reached through the tied embedding."""
    config = SHAPES["small"]
    reference = _reference(config, "GPT2LMHeadModel")
    reference.save_pretrained(tmp_path)
    assert any(name.startswith("transformer.") for name in load_file(tmp_path / "model.safetensors"))

    state = load_published(tmp_path / "model.safetensors", config)

    assert _difference(reference.transformer, state, config) < 1e-5
    trunk = GPT2(config).eval()
    trunk.load_state_dict(state)
    ids = torch.randint(0, config.vocab_size, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(trunk(ids) @ trunk.wte.weight.T, reference(ids).logits, rtol=0, atol=1e-5)


def test_stored_masks_are_skipped(tmp_path: Path) -> None:
    """Causal masks of old files are no weights, and biases of the projections are."""
    config = SHAPES["small"]
    reference = _reference(config)
    masks = {f"h.{block}.attn.bias": torch.ones(1, 1, 16, 16).tril() for block in range(2)}
    masks |= {f"h.{block}.attn.masked_bias": torch.tensor(-1e4) for block in range(2)}
    save_file(
        {name: tensor.contiguous() for name, tensor in reference.state_dict().items()} | masks, tmp_path / "old.safetensors"
    )

    state = load_published(tmp_path / "old.safetensors", config)

    assert _difference(reference, state, config) < 1e-5
    assert not any(name.endswith(weights.SKIPPED) for name in state)


@pytest.mark.parametrize("forgotten", ["attn.c_proj.weight"])
def test_forgotten_transpose_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    """The square projection, left unturned, loads without an error and is far outside the tolerance."""
    config = SHAPES["small"]
    reference = _reference(config)
    reference.save_pretrained(tmp_path)
    monkeypatch.setattr(weights, "TRANSPOSED", tuple(name for name in weights.TRANSPOSED if name != forgotten))

    state = load_published(tmp_path / "model.safetensors", config)

    assert _difference(reference, state, config) > 1e-2


@pytest.mark.parametrize("forgotten", [name for name in weights.TRANSPOSED if "attn.c_proj" not in name])
def test_other_forgotten_transposes_do_not_even_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    """The oblong projections, left unturned, have the wrong shape, and the sentence shows both shapes."""
    config = SHAPES["small"]
    _reference(config).save_pretrained(tmp_path)
    monkeypatch.setattr(weights, "TRANSPOSED", tuple(name for name in weights.TRANSPOSED if name != forgotten))

    with pytest.raises(
        CheckpointError, match=rf"h\.0\.{forgotten} has the shape \(\d+, \d+\), and this trunk needs \(\d+, \d+\)"
    ):
        load_published(tmp_path / "model.safetensors", config)


def test_wrong_shape_names_tensor_and_both_shapes(tmp_path: Path) -> None:
    """Weights of another size are refused at the first tensor that differs."""
    _reference(SHAPES["small"]).save_pretrained(tmp_path)
    larger = GPT2Config(vocab_size=51, n_positions=16, n_embd=32, n_layer=2, n_head=2)

    with pytest.raises(CheckpointError, match=r"wte\.weight has the shape \(50, 32\), and this trunk needs \(51, 32\)"):
        load_published(tmp_path / "model.safetensors", larger)


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    """Weights of fewer blocks are refused."""
    _reference(SHAPES["small"]).save_pretrained(tmp_path)
    deeper = GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=3, n_head=2)

    with pytest.raises(CheckpointError, match=r"lacks the tensor h\.2\.ln_1\.weight"):
        load_published(tmp_path / "model.safetensors", deeper)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_file_that_holds_no_weights_is_named(tmp_path: Path, content: bytes) -> None:
    """An empty file, an error page and an empty safetensors file are one sentence each."""
    (tmp_path / "model.safetensors").write_bytes(content)

    with pytest.raises(CheckpointError, match=r"model\.safetensors: (is no safetensors file|lacks the tensor)"):
        load_published(tmp_path / "model.safetensors", SHAPES["small"])


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there is one sentence."""
    with pytest.raises(CheckpointError, match=r"nothing\.safetensors: cannot be read: No such file"):
        load_published(tmp_path / "nothing.safetensors", SHAPES["small"])


def test_half_precision_files_become_float32(tmp_path: Path) -> None:
    """Weights stored in float16 are used in float32."""
    _reference(SHAPES["small"]).half().save_pretrained(tmp_path)

    state = load_published(tmp_path / "model.safetensors", SHAPES["small"])

    assert {torch.float32} == {tensor.dtype for tensor in state.values()}


def test_published_model_opens_for_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, byte_tokenizer: Tokenizer) -> None:
    """A fetched model comes as trunk, tokenizer and the checksum for the card."""
    monkeypatch.setitem(gpt2.PUBLISHED, "gpt2", SHAPES["small"])
    folder = tmp_path / "gpt2"
    reference = _reference(SHAPES["small"])
    reference.save_pretrained(folder)
    (folder / "vocabulary.tiktoken").write_bytes(byte_tokenizer.content)

    trunk, tokenizer, sha256 = open_published("gpt2", tmp_path)

    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == sha256
    assert byte_tokenizer.sha256 == tokenizer.sha256
    assert torch.equal(reference.state_dict()["wte.weight"], trunk.wte.weight)
    assert not any(parameter.is_meta for parameter in trunk.parameters())


def test_unknown_published_model_lists_the_names(tmp_path: Path) -> None:
    """A name that is none of the four is answered with the four."""
    with pytest.raises(UnknownNameError, match="no published model 'gpt5'; there are: gpt2, gpt2-medium, gpt2-large, gpt2-xl"):
        open_published("gpt5", tmp_path)


def test_model_that_was_not_fetched_says_how(tmp_path: Path) -> None:
    """A published model that is not here is answered with the command that fetches it."""
    with pytest.raises(CheckpointError, match="get it with `spamd-admin model fetch gpt2-xl`"):
        open_published("gpt2-xl", tmp_path)
