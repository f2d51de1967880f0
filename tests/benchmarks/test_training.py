"""The plain procedure of the reference does each of its steps, and what is compared with it counts what it says."""

import json
import sys

import pandas as pd
import pytest
import reference
import seed_table
import torch
import trainer
from teaching import lesson

from spamd.model.gpt2 import GPT2, PUBLISHED, GPT2Config
from spamd.verdict import Label

CONFIG = GPT2Config(vocab_size=257, n_positions=128, n_embd=32, n_layer=2, n_head=4)


@pytest.fixture
def collection(tmp_path):
    """A folder with a small collection: 120 ham and 60 spam."""
    lines = [f"{example.label}\t{example.text}" for example in lesson(120)]
    spam = [line for line in lines if line.startswith("spam")][:60]
    (tmp_path / "SMSSpamCollection").write_text("\n".join([*(line for line in lines if line.startswith("ham")), *spam]) + "\n")
    return tmp_path


def test_labels_are_balanced_and_mail_is_cut(collection):
    """Ham is drawn down to the number of spam, and 70/10/20 are cut, by seed."""
    messages = reference.balance(reference.read_messages(collection), 123)
    parts, again, other = (reference.parts_of(collection, seed) for seed in (123, 123, 124))

    assert {"ham": 60, "spam": 60} == messages.label.value_counts().to_dict()
    assert [84, 12, 24] == [len(part) for part in parts]
    assert parts == again != other


def test_747_of_each_are_cut_as_published():
    """1,494 messages give 1,045, 149 and 300."""
    assert [1045, 149, 300] == [len(part) for part in reference.cut(pd.DataFrame({"label": ["ham"] * 1494}), 123)]


def test_a_missing_collection_is_named(tmp_path):
    """The sentence says which file is wanted."""
    with pytest.raises(SystemExit, match="holds no file named SMSSpamCollection"):
        reference.read_messages(tmp_path)


def test_messages_are_filled_up_to_the_longest(byte_tokenizer):
    """All have one length, the longest's or the one given; what fills is the end of text; lengths tell the text."""
    examples = lesson(4)
    train = reference.fill_up(examples, byte_tokenizer)
    cut = reference.fill_up(examples, byte_tokenizer, 10)
    longest = max(len(example.text) for example in examples)

    assert (8, longest) == tuple(train.ids.shape)
    assert (8, 10) == tuple(cut.ids.shape)
    assert [len(example.text) for example in examples] == train.lengths.tolist()
    assert all(row[length:].eq(256).all() for row, length in zip(train.ids, train.lengths, strict=True))
    assert [int(example.label is Label.SPAM) for example in examples] == train.labels.tolist()


@pytest.mark.parametrize("read", ["last-position", "last-real"])
def test_it_learns_what_is_not_frozen(byte_tokenizer, read, monkeypatch):
    """The last block, the final norm and the head move, nothing else does, the loss falls, and a text can be classified."""
    torch.manual_seed(1)
    model = reference.Model(GPT2(CONFIG), seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train = reference.fill_up(lesson(40), byte_tokenizer)
    validation = reference.fill_up(lesson(10, 2), byte_tokenizer, train.ids.shape[1])
    monkeypatch.setattr(reference, "LEARNING_RATE", 3e-3)
    curves = reference.train(model, train, validation, epochs=6, seed=1, read=read)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}

    assert all(name.startswith(("trunk.h.1.", "trunk.ln_f.", "head.")) for name in moved)
    assert {"trunk.h.1.attn.c_attn.weight", "trunk.ln_f.weight", "head.weight"} <= moved
    assert [0, 50] == curves.steps
    assert 6 == len(curves.validation_accuracy)
    assert reference.evaluate(model, validation, read)[0] < curves.validation_loss[0]
    assert reference.classify("casino pills", model, byte_tokenizer, 40) in {"spam", "not spam"}


def test_the_last_incomplete_batch_is_left_out(byte_tokenizer):
    """Of 20 messages a drawn epoch has two batches of 8; looking on takes all."""
    part = reference.fill_up(lesson(10), byte_tokenizer)
    drawn = list(reference.batches(part, is_complete=True, draw=torch.Generator().manual_seed(1)))

    assert [8, 8] == [len(rows) for rows in drawn]
    assert [8, 8, 4] == [len(rows) for rows in reference.batches(part)]


def test_the_comparison_names_its_figures():
    """The ratio, the losses and the memory of either are in the JSON under their names, and operations are counted."""
    curves = {"steps": [0, 50, 100]}
    plain = {"seconds": 700.0, "validation_loss": 0.3, "peak_rss_mib": 900, "test_accuracy": 0.9, "padded_tokens": 129}
    plain |= {"messages": [1045, 149, 300], "curves": curves}
    ours = {"seconds": 35.0, "validation_loss": 0.29, "peak_rss_mib": 800, "test_accuracy": 0.9, "tokens": 37_000}
    ours |= {"best_validation_loss": 0.25, "validation_tokens": 5_000, "messages": [1045, 149, 300]}
    figures = trainer.compare({"reference": [plain], "ours": [ours]}, 5, PUBLISHED["gpt2"])

    assert 20.0 == pytest.approx(figures["speedup_vs_reference"])
    assert (0.29, 0.3) == (figures["validation_loss_ours"], figures["validation_loss_reference"])
    assert {"reference": 900, "ours": 800} == figures["peak_rss_mib"]
    # 5 epochs of 130 steps of 8 messages of 129 tokens through 85 million weights, and back through the last block.
    assert 140 < figures["teraflop"]["reference"] < 190
    assert 6 < figures["teraflop"]["ours"] < 10
    assert "20.0 times as fast" in trainer.describe(figures)
    assert "validation loss 0.2500" in trainer.describe(figures)


def test_every_row_names_options_that_exist():
    """Nineteen rows, each with a policy and a head of ours."""
    assert list(range(1, 20)) == [row.number for row in seed_table.ROWS]
    assert {row.options.get("policy", "last-block") for row in seed_table.ROWS} <= set(seed_table.POLICIES)
    assert {row.options.get("head", "last-token") for row in seed_table.ROWS} <= set(seed_table.HEADS)
    assert [10] == [row.number for row in seed_table.ROWS if seed_table.can_run(row, "random")]
    assert [6] == [row.number for row in seed_table.ROWS if seed_table.can_run(row, "gpt2-medium")]


def test_one_seed_says_nothing_about_others():
    """The interval of a single seed is all there is; of several it lies about their mean, within 0 to 100 %."""
    row, one = seed_table.ROWS[9], {"train": 1.0, "validation": 0.96, "test": 0.94, "seconds": 1.0}

    alone = seed_table.summary(row, [one])["test"]
    several = seed_table.summary(row, [one, {**one, "test": 0.92}])["test"]

    assert (94.0, 0.0, 100.0) == (alone["value"], alone["low"], alone["high"])
    assert several["low"] < several["value"] < several["high"] <= 100.0


@pytest.mark.slow
def test_the_table_goes_on_where_it_was(collection, tmp_path, monkeypatch, capsys):
    """Rows over two seeds print means with intervals beside published figures; nothing is trained twice, nor what is the same."""
    options = ["--data", collection, "--rows", "1,16,18", "--seeds", "2", "--epochs", "1", "--most", "8", "--threads", "1"]
    arguments = ["seed_table", *map(str, options), "--work", str(tmp_path / "work"), "--json", str(tmp_path / "table.json")]
    monkeypatch.setattr(sys, "argv", arguments)
    seed_table.main()
    first = json.loads((tmp_path / "table.json").read_text())
    printed = capsys.readouterr().out
    monkeypatch.setattr(seed_table, "train", lambda *_, **__: pytest.fail("trained twice"))
    seed_table.main()

    assert first == json.loads((tmp_path / "table.json").read_text())
    assert 95.0 == first["rows"]["1"]["test"]["published"]
    assert first["rows"]["1"]["test"] == first["rows"]["18"]["test"]
    assert 4 == len(list((tmp_path / "work").glob("*.json")))
    assert first["rows"]["16"]["test"]["low"] <= first["rows"]["16"]["test"]["value"]
    assert "last real token" in printed
