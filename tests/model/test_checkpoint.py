"""Checkpoints come back as they were saved, appear whole or not at all, and every fault is one sentence."""

import hashlib
import itertools
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from spamd.errors import CheckpointError
from spamd.mail.text import TEXT_VERSION
from spamd.model import checkpoint as checkpoint_module
from spamd.model.checkpoint import BaseNote, Checkpoint, CheckpointCard, HeadNote, load_checkpoint, read_card, save_checkpoint
from spamd.model.classifier import Classifier
from spamd.model.gpt2 import GPT2, GPT2Config
from spamd.model.heads import AttentionPool, spamd_register_heads
from spamd.model.tokenizer import Tokenizer
from spamd.model.weights import TRANSPOSED

HEADS = spamd_register_heads()


def _load(folder: Path, heads: Mapping[str, Any] = HEADS, **options: Any) -> Checkpoint:
    """Load with what the running spamd would pass."""
    return load_checkpoint(folder, heads, **{"text_version": TEXT_VERSION, **options})


def _card(classifier: Classifier, **fields: Any) -> CheckpointCard:
    """A card for a classifier, as a trainer would fill it in."""
    given = {"base": BaseNote(name="tiny"), "text_version": TEXT_VERSION, "max_tokens": 100, **fields}
    return CheckpointCard(trunk=classifier.trunk.config, **given)


def _edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change values of a card."""
    file = folder / "checkpoint.json"
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def _replace_weights(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Store other tensors, with the right checksum."""
    save_file(tensors, folder / "model.safetensors")
    _set_sha256(folder)


def _set_sha256(folder: Path) -> None:
    """Let the card name the checksum that the weights have."""
    sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    _edit(folder, lambda values: values.update(weights_sha256=sha256))


def test_checkpoint_comes_back(tiny_checkpoint: Path, tiny_classifier: Classifier, byte_tokenizer: Tokenizer) -> None:
    """Weights, vocabulary and card are the same after loading, and the id is the folder's name."""
    loaded = _load(tiny_checkpoint)

    for name, tensor in tiny_classifier.state_dict().items():
        assert torch.equal(tensor, loaded.classifier.state_dict()[name]), name
    assert byte_tokenizer.encode("straße", 50) == loaded.tokenizer.encode("straße", 50)
    assert tiny_checkpoint.name == loaded.card.id
    assert not loaded.classifier.training
    assert {torch.float32} == {parameter.dtype for parameter in loaded.classifier.parameters()}
    assert all(parameter.requires_grad for parameter in loaded.classifier.parameters())


def test_loaded_checkpoint_can_be_trained(tiny_checkpoint: Path) -> None:
    """A step changes the weights in memory and not the file, although the file is mapped."""
    before = (tiny_checkpoint / "model.safetensors").read_bytes()
    classifier = _load(tiny_checkpoint).classifier
    optimizer = torch.optim.SGD(classifier.parameters(), lr=1.0)

    classifier(torch.tensor([[1, 2, 3]]), torch.tensor([3]))[0, 0].backward()
    optimizer.step()

    assert before == (tiny_checkpoint / "model.safetensors").read_bytes()
    assert not torch.equal(classifier.head.linear.bias, _load(tiny_checkpoint).classifier.head.linear.bias)


def test_card_comes_back_with_every_field(tmp_path: Path, tiny_classifier: Classifier, byte_tokenizer: Tokenizer) -> None:
    """What a trainer notes is in the card that is read."""
    card = _card(
        tiny_classifier,
        head=HeadNote(name="last-token", options={}, plugin="elsewhere 2.0"),
        temperature=1.7,
        threshold=0.93,
        threshold_interval=(0.0, 0.004),
        threshold_note="at most 0.1 % of 900 ham",
        datasets=({"name": "folder", "ham": 3, "spam": 2},),
        metrics={"hm": 0.1},
        training={"seed": 1, "freeze": "last-block"},
    )

    read = read_card(save_checkpoint(tmp_path, tiny_classifier, byte_tokenizer, card))

    given_on_saving = {"id", "created", "vocabulary_sha256", "weights_sha256"}
    assert card.model_dump(exclude=given_on_saving) == read.model_dump(exclude=given_on_saving)
    assert byte_tokenizer.sha256 == read.vocabulary_sha256
    assert read.created.startswith(read.id[:10])


def test_id_is_the_day_and_six_digits_of_the_content(
    tmp_path: Path, tiny_classifier: Classifier, byte_tokenizer: Tokenizer
) -> None:
    """The same content has one id and one folder; another threshold or another weight has another."""
    first = save_checkpoint(tmp_path, tiny_classifier, byte_tokenizer, _card(tiny_classifier))
    again = save_checkpoint(tmp_path, tiny_classifier, byte_tokenizer, _card(tiny_classifier))
    stricter = save_checkpoint(tmp_path, tiny_classifier, byte_tokenizer, _card(tiny_classifier, threshold=0.9))
    tiny_classifier.head.linear.bias.data += 1
    trained = save_checkpoint(tmp_path, tiny_classifier, byte_tokenizer, _card(tiny_classifier))

    assert first == again
    assert 3 == len({first, stricter, trained})
    assert {first, stricter, trained} == set(tmp_path.iterdir())


def test_half_precision_halves_the_file(tmp_path: Path, tiny_classifier: Classifier, byte_tokenizer: Tokenizer) -> None:
    """float16 storage takes half of the bytes, loads as float32, and scores nearly the same."""
    whole = save_checkpoint(tmp_path, tiny_classifier, byte_tokenizer, _card(tiny_classifier))
    half = save_checkpoint(tmp_path, tiny_classifier, byte_tokenizer, _card(tiny_classifier), is_float16=True)

    loaded = _load(half).classifier

    sizes = [(folder / "model.safetensors").stat().st_size for folder in (half, whole)]
    assert sizes[0] < 0.6 * sizes[1]
    assert {torch.float32} == {parameter.dtype for parameter in loaded.parameters()}
    inputs = torch.randint(0, 256, (1, 50)), torch.tensor([50])
    torch.testing.assert_close(loaded(*inputs), tiny_classifier(*inputs), rtol=0, atol=1e-2)


@pytest.mark.parametrize("name", sorted(HEADS))
def test_every_built_in_head_comes_back(tmp_path: Path, tiny_config: GPT2Config, byte_tokenizer: Tokenizer, name: str) -> None:
    """A checkpoint with any built-in head scores as before."""
    classifier = Classifier(GPT2(tiny_config), HEADS[name](tiny_config.n_embd, 2)).eval()
    folder = save_checkpoint(tmp_path, classifier, byte_tokenizer, _card(classifier, head=HeadNote(name=name)))

    inputs = torch.randint(0, 256, (2, 50)), torch.tensor([50, 3])
    assert torch.equal(classifier(*inputs), _load(folder).classifier(*inputs))


def test_everybody_who_gets_there_may_read(tmp_path: Path, tiny_classifier: Classifier, byte_tokenizer: Tokenizer) -> None:
    """What root saves with a strict umask can be read by the user that the daemon runs as; nobody else may write it."""
    strict = os.umask(0o077)
    try:
        folder = save_checkpoint(tmp_path / "checkpoints", tiny_classifier, byte_tokenizer, _card(tiny_classifier))
    finally:
        os.umask(strict)

    assert [0o755, 0o755] == [stat.S_IMODE(path.stat().st_mode) for path in (folder.parent, folder)]
    assert {0o644} == {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


# Published bases


@pytest.fixture
def published(tmp_path: Path, tiny_classifier: Classifier) -> Path:
    """A folder of published weights that holds the trunk of `tiny_classifier` as `tiny`."""
    stored = {
        name: (tensor.T if name.endswith(TRANSPOSED) else tensor).contiguous().clone()
        for name, tensor in tiny_classifier.trunk.state_dict().items()
    }
    (tmp_path / "weights" / "tiny").mkdir(parents=True)
    save_file(stored, tmp_path / "weights" / "tiny" / "model.safetensors")
    return tmp_path / "weights"


@pytest.fixture
def delta(tmp_path: Path, published: Path, tiny_classifier: Classifier, byte_tokenizer: Tokenizer) -> Path:
    """A checkpoint that builds on `published`, with its last block trained."""
    tiny_classifier.trunk.h[1].mlp.c_fc.weight.data += 0.01
    card = _card(tiny_classifier, base=BaseNote(name="tiny", sha256=_sha256(published)))
    return save_checkpoint(tmp_path / "checkpoints", tiny_classifier, byte_tokenizer, card, weights_dir=published)


def _sha256(weights_dir: Path) -> str:
    """Checksum of the published weights."""
    return hashlib.sha256((weights_dir / "tiny" / "model.safetensors").read_bytes()).hexdigest()


def test_only_trained_tensors_are_stored_over_a_published_base(delta: Path) -> None:
    """What equals the published weights is left out."""
    assert {"trunk.h.1.mlp.c_fc.weight", "head.linear.weight", "head.linear.bias"} == set(load_file(delta / "model.safetensors"))


def test_checkpoint_over_a_published_base_comes_back(delta: Path, published: Path, tiny_classifier: Classifier) -> None:
    """Published and stored tensors together are the trained classifier."""
    loaded = _load(delta, weights_dir=published).classifier

    for name, tensor in tiny_classifier.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name


@pytest.mark.parametrize("is_known", [False, True])
def test_missing_base_says_how_to_get_it(delta: Path, tmp_path: Path, is_known: bool) -> None:
    """Without the published weights, the sentence names them and the command that fetches them."""
    with pytest.raises(CheckpointError, match=r"published weights of tiny, and .* get them with `spamd-admin model fetch tiny`"):
        _load(delta, weights_dir=tmp_path / "nowhere" if is_known else None)


def test_another_base_is_refused(delta: Path, published: Path) -> None:
    """Published weights with another checksum are not what the checkpoint builds on."""
    weights = load_file(published / "tiny" / "model.safetensors")
    weights["ln_f.bias"] += 1
    save_file(weights, published / "tiny" / "model.safetensors")

    with pytest.raises(CheckpointError, match=r"is not what .* builds on: its sha256 is"):
        _load(delta, weights_dir=published)


def test_fully_trained_trunk_needs_no_base(
    tmp_path: Path, published: Path, tiny_classifier: Classifier, byte_tokenizer: Tokenizer
) -> None:
    """Where every tensor was trained, all are stored and the published weights are not asked for."""
    for parameter in tiny_classifier.parameters():
        parameter.data += 0.01
    card = _card(tiny_classifier, base=BaseNote(name="tiny", sha256=_sha256(published)))
    folder = save_checkpoint(tmp_path / "checkpoints", tiny_classifier, byte_tokenizer, card, weights_dir=published)

    assert torch.equal(tiny_classifier.trunk.wte.weight, _load(folder).classifier.trunk.wte.weight)


# Saving


@pytest.mark.parametrize(
    "fault",
    list(itertools.product(["save_file", "sha256_of", "to_disk"], [OSError(28, "No space left on device"), KeyboardInterrupt()])),
    ids=repr,
)
def test_failed_saving_leaves_nothing(
    tmp_path: Path,
    tiny_classifier: Classifier,
    byte_tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    fault: tuple[str, BaseException],
) -> None:
    """A full disk is one sentence, Ctrl-C stays itself, and neither leaves a folder behind."""
    step, error = fault

    def fail(*_arguments: Any) -> None:
        raise error

    monkeypatch.setattr(checkpoint_module, step, fail)
    expected = CheckpointError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if isinstance(error, OSError) else None):
        save_checkpoint(tmp_path / "checkpoints", tiny_classifier, byte_tokenizer, _card(tiny_classifier))

    assert [] == list((tmp_path / "checkpoints").iterdir())


def test_unfinished_checkpoint_never_bears_its_name(
    tmp_path: Path, tiny_classifier: Classifier, byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every file that goes to the disk, nothing but a hidden draft is there."""
    seen: list[str] = []
    to_disk = checkpoint_module.to_disk

    def watch(path: Path) -> None:
        seen.extend(entry.name for entry in tmp_path.iterdir() if path != tmp_path)
        to_disk(path)

    monkeypatch.setattr(checkpoint_module, "to_disk", watch)
    save_checkpoint(tmp_path, tiny_classifier, byte_tokenizer, _card(tiny_classifier))

    assert 4 == len(seen)
    assert all(name.startswith(".draft-") for name in seen)


def test_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, tiny_classifier: Classifier, byte_tokenizer: Tokenizer
) -> None:
    """A file in place of the folder of checkpoints is named."""
    (tmp_path / "file").write_text("")

    with pytest.raises(CheckpointError, match="file: the checkpoint cannot be written"):
        save_checkpoint(tmp_path / "file", tiny_classifier, byte_tokenizer, _card(tiny_classifier))


def test_weights_that_are_not_finite_are_not_saved(
    tmp_path: Path, tiny_classifier: Classifier, byte_tokenizer: Tokenizer
) -> None:
    """A failed training cannot become a checkpoint."""
    tiny_classifier.head.linear.bias.data[0] = torch.nan

    with pytest.raises(CheckpointError, match=r"head\.linear\.bias are not finite"):
        save_checkpoint(tmp_path, tiny_classifier, byte_tokenizer, _card(tiny_classifier))


def test_vocabulary_larger_than_the_trunk_is_not_saved(tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    """Ids without an embedding would crash the first score."""
    classifier = Classifier(GPT2(GPT2Config(200, 8, 8, 1, 1)), HEADS["last-token"](8, 2))

    with pytest.raises(CheckpointError, match="vocabulary has 257 ids, more than the 200 embeddings"):
        save_checkpoint(tmp_path, classifier, byte_tokenizer, _card(classifier, max_tokens=8))


# Faults on loading: what is done to a good checkpoint, and the words that the sentence must hold.


def _drop(name: str) -> Callable[[Path], None]:
    """Remove a file."""
    return lambda folder: (folder / name).unlink()


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    """Overwrite a file."""
    return lambda folder: (folder / name).write_bytes(content) and None


def _set(**values: Any) -> Callable[[Path], None]:
    """Change values of the card."""
    return lambda folder: _edit(folder, lambda card: card.update(values))


def _set_trunk(**values: Any) -> Callable[[Path], None]:
    """Change sizes of the trunk in the card."""
    return lambda folder: _edit(folder, lambda card: card["trunk"].update(values))


def _flip_weight(folder: Path) -> None:
    """Turn one bit of the last weight."""
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _cut_weights(folder: Path) -> None:
    """Lose the end of the weights, with a card that knows."""
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    _set_sha256(folder)


def _change_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    """Store other tensors, with a card that knows."""

    def do(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        _replace_weights(folder, tensors)

    return do


FAULTS = {
    "no folder": (shutil.rmtree, r"is no checkpoint: checkpoint\.json cannot be read: No such file"),
    "no card": (_drop("checkpoint.json"), r"is no checkpoint: checkpoint\.json cannot be read: No such file"),
    "no weights": (_drop("model.safetensors"), r"model\.safetensors: cannot be read: No such file"),
    "no vocabulary": (_drop("vocabulary.tiktoken"), r"vocabulary\.tiktoken: the vocabulary cannot be read: No such file"),
    "card is no JSON": (_write("checkpoint.json", b'{"format": 1,'), "is damaged: it is not a JSON object"),
    "card is no UTF-8": (_write("checkpoint.json", b"\xff\xfe\xfd"), "is damaged: it is not a JSON object"),
    "card is a list": (_write("checkpoint.json", b"[1]"), "is damaged: it is not a JSON object"),
    "card is empty": (_write("checkpoint.json", b"{}"), "is damaged: it is not a JSON object with a format"),
    "card is deep": (_write("checkpoint.json", b"[" * 100_000), "is damaged: it is not a JSON object"),
    "format": (_set(format=2), "has format 2, this spamd reads format 1"),
    "unknown key": (_set(colour="red"), "is damaged: colour: Extra inputs"),
    "bad value": (_set(temperature=-1), "is damaged: temperature: Input should be greater than 0"),
    "bad threshold": (_set(threshold=1.0), "is damaged: threshold"),
    "no id": (_set(id=""), "is damaged: it has no id"),
    "bad id": (_set(id="../../etc"), "is damaged: id"),
    "no trunk": (_set(trunk={"n_head": 5}), "is damaged: trunk"),
    "one class": (_set(class_names=["ham"]), r"class_names \('ham',\) must begin with \('ham', 'spam'\)"),
    "classes in another order": (_set(class_names=["spam", "ham"]), r"must begin with \('ham', 'spam'\)"),
    "endless vocabulary": (_set_trunk(vocab_size=2**63), "is no network: sizes must be from 1 to"),
    "endless trunk": (_set_trunk(n_layer=100_000), "is no network: sizes must be from 1 to"),
    "budget": (_set(max_tokens=129), "max_tokens 129 is more than the 128 positions"),
    "text version": (_set(text_version=99), "trained on version 99 of the text, and this spamd makes version"),
    "vocabulary sum": (_set(vocabulary_sha256="0" * 64), "is not the vocabulary of this checkpoint"),
    "vocabulary": (_write("vocabulary.tiktoken", b"!!! 3\n"), r"vocabulary\.tiktoken: line 1 is not a base64 token"),
    "vocabulary gap": (_write("vocabulary.tiktoken", b"YQ== 0\n"), "is no byte-level vocabulary"),
    "small trunk": (_set_trunk(vocab_size=100), "more ids than the 100 embeddings"),
    "head": (
        _set(head={"name": "crystal-ball", "plugin": "spamd-magic 1.2"}),
        "needs the head 'crystal-ball' of spamd-magic 1.2",
    ),
    "head options": (_set(head={"name": "last-token", "options": {"depth": 3}}), "head 'last-token' .* cannot be made"),
    "weights sum": (_flip_weight, "is damaged: its sha256 is"),
    "cut weights": (_cut_weights, "is no safetensors file"),
    "tensor missing": (_change_tensors(lambda tensors: tensors.pop("trunk.ln_f.bias")), r"lacks the tensor trunk\.ln_f\.bias"),
    "tensor too many": (
        _change_tensors(lambda tensors: tensors.update(extra=torch.ones(1))),
        "holds the tensor extra, which this trunk and head do not have",
    ),
    "tensor shape": (
        _change_tensors(lambda tensors: tensors.update({"head.linear.bias": torch.ones(3)})),
        r"head\.linear\.bias has the shape \(3,\), and the card asks for \(2,\)",
    ),
    "more blocks": (_set_trunk(n_layer=3), r"lacks the tensor trunk\.h\.2"),
    "wider": (_set_trunk(n_embd=64), r"trunk\.wte\.weight has the shape \(257, 32\), and the card asks for \(257, 64\)"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_every_fault_is_one_sentence(tiny_checkpoint: Path, fault: str) -> None:
    """Whatever is wrong with a checkpoint, the operator reads one sentence that names the place."""
    damage, words = FAULTS[fault]
    damage(tiny_checkpoint)

    with pytest.raises(CheckpointError, match=words) as caught:
        _load(tiny_checkpoint)

    assert str(tiny_checkpoint) in str(caught.value)
    assert 1 == len(str(caught.value).splitlines())


def test_head_with_another_layout_is_refused(tiny_checkpoint: Path) -> None:
    """A plugin that took over the name of a head does not get its weights."""
    with pytest.raises(CheckpointError, match=r"lacks the tensor head\.query"):
        _load(tiny_checkpoint, {"last-token": AttentionPool})


def test_card_is_readable_json(tiny_checkpoint: Path) -> None:
    """An operator can read the card in a pager."""
    text = (tiny_checkpoint / "checkpoint.json").read_text()

    assert text.startswith('{\n  "format": 1,\n  "id": "')
