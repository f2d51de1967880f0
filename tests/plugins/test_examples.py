"""The examples in plugins/ do their work inside spamd: found through entry points, trained with, stored and loaded again."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from spamd.errors import CheckpointError
from spamd.hooks.manager import Plugins, load_plugins, lookup

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "plugins"
PACKAGES = sorted(folder.name for folder in EXAMPLES.glob("spamd-*"))


@pytest.fixture
def plugins(tmp_path, monkeypatch) -> Plugins:
    """All plugins with all three examples: the packages as if installed, the file in a drop-in folder."""
    site = tmp_path / "site"
    for name in PACKAGES:
        project = tomllib.loads((EXAMPLES / name / "pyproject.toml").read_text())["project"]
        metadata = site / f"{name.replace('-', '_')}-{project['version']}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {project['version']}\n")
        points = "".join(f"{key} = {value}\n" for key, value in project["entry-points"]["spamd"].items())
        (metadata / "entry_points.txt").write_text(f"[spamd]\n{points}")
        monkeypatch.syspath_prepend(str(EXAMPLES / name))
    monkeypatch.syspath_prepend(str(site))
    folder = tmp_path / "drop_in"
    folder.mkdir(mode=0o755)
    shutil.copyfile(EXAMPLES / "jsonl_dataset.py", folder / "jsonl_dataset.py")
    (folder / "jsonl_dataset.py").chmod(0o644)
    return load_plugins(drop_in_folder=folder)


def test_every_example_is_found(plugins):
    """Each example offers its one thing, beside the built-ins, and owns it."""
    owners = plugins.owners

    assert "spamd-max-pool-head 0.1.0" == owners["head", "max-pool"]
    assert "spamd-gradual-unfreezing 0.1.0" == owners["freezing", "gradual-unfreezing"]
    assert "jsonl_dataset.py" == owners["dataset", "jsonl"]
    assert "spamd 0.1.0" == owners["head", "last-token"]


@pytest.mark.usefixtures("_one_thread")
def test_the_head_learns_and_its_checkpoint_names_the_package(plugins, tiny_config, byte_tokenizer, tmp_path):
    """Trained with two plugins, a classifier tells ham from spam; its checkpoint loads with the head's package only."""
    import torch
    from teaching import part

    from spamd.mail.text import TEXT_VERSION
    from spamd.model.checkpoint import BaseNote, CheckpointCard, HeadNote, load_checkpoint, save_checkpoint
    from spamd.model.classifier import Classifier
    from spamd.model.gpt2 import GPT2
    from spamd.training.parts import margins
    from spamd.training.trainer import Recipe, train

    torch.manual_seed(3)
    options = {"join_last_token": True}
    head = lookup(plugins.heads, "head", "max-pool")(tiny_config.n_embd, 2, **options)
    classifier = Classifier(GPT2(tiny_config), head)
    policy = lookup(plugins.freezing_policies, "freezing policy", "gradual-unfreezing")

    training = train(
        classifier,
        part(240, byte_tokenizer, 1),
        part(20, byte_tokenizer, 2),
        Recipe("gradual-unfreezing", policy, epochs=3, learning_rate=1e-3, seed=7),
    )
    unseen = part(50, byte_tokenizer, 3)
    card = CheckpointCard(
        trunk=tiny_config,
        base=BaseNote(name="tiny"),
        head=HeadNote(name="max-pool", options=options, plugin=plugins.owners["head", "max-pool"]),
        text_version=TEXT_VERSION,
        max_tokens=128,
        threshold=0.5,
    )
    folder = save_checkpoint(tmp_path / "checkpoints", classifier, byte_tokenizer, card)
    loaded = load_checkpoint(folder, plugins.heads, text_version=TEXT_VERSION)

    sizes = [epoch.num_trained for epoch in training.epochs]
    assert sizes[0] < sizes[1] < sizes[2] == sum(parameter.numel() for parameter in classifier.parameters())
    assert 0.9 < ((margins(loaded.classifier, unseen) > 0) == (unseen.labels == 1)).mean()
    without = load_plugins(drop_in_folder=None, use_entry_points=False, kinds=["head"])
    with pytest.raises(CheckpointError, match=r"needs the head 'max-pool' of spamd-max-pool-head 0\.1\.0; install that package"):
        load_checkpoint(folder, without.heads, text_version=TEXT_VERSION)


def test_the_dataset_is_read_like_any_other(plugins, tmp_path):
    """`--dataset jsonl:PATH?text=body` gives labelled messages whose text the model can read."""
    from spamd.mail.text import message_text
    from spamd.training.datasets import parse_dataset_spec

    file = tmp_path / "mail.jsonl"
    file.write_text(json.dumps({"label": "spam", "body": "You have won"}) + "\n")
    name, path, options = parse_dataset_spec(f"jsonl:{file}?text=body")

    messages = list(lookup(plugins.datasets, "dataset", name)(path, **options))

    assert [("spam", "You have won")] == [(message.label, message_text(message.raw).text) for message in messages]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "offered"), [(PACKAGES[0], "freezing", "gradual-unfreezing"), (PACKAGES[1], "head", "max-pool")]
)
def test_the_package_installs_and_is_seen(name, kind, offered, tmp_path):
    """Pip builds and installs the package without network, and another Python finds it through its entry point."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
    source = tmp_path / "source"
    shutil.copytree(EXAMPLES / name, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    subprocess.run([*pip, *offline, "--target", tmp_path / "site", source], check=True, timeout=100)
    code = (
        "from spamd.hooks.manager import load_plugins\n"
        f"plugins = load_plugins(drop_in_folder=None, kinds=[{kind!r}])\n"
        f"print(plugins.owners[{kind!r}, {offered!r}])\n"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert f"{name} 0.1.0\n" == ran.stdout
