"""How far fine-tuning moves what ships, and what its table learns from."""

from argparse import Namespace
from dataclasses import replace

import default_checkpoint
import torch

from spamd.model.checkpoint import DEFAULT_FOLDER
from spamd.model.classifier import Classifier
from spamd.model.gpt2 import GPT2
from spamd.model.heads import LastToken
from spamd.training.splits import Example, Split
from spamd.verdict import Label


def _mail(number):
    """Write ham and spam in turn, each of few words."""
    kinds = (("See you at lunch", Label.HAM), ("Buy pills now", Label.SPAM))
    return [Example(f"Subject: {n}\n\n{kinds[n % 2][0]} {n}", kinds[n % 2][1], str(n), "sms_tr") for n in range(number)]


def _moved(work, start):
    """Fine-tune the shipped weights; return how the head's weights differ from before, (2, D)."""
    work.mkdir()
    config = default_checkpoint.CONFIG
    classifier = Classifier(GPT2(config), LastToken(config.n_embd, 2))
    weights = default_checkpoint._started(DEFAULT_FOLDER)
    classifier.load_state_dict(weights)
    options = Namespace(work=work, epochs=1, device="cpu", start=start)
    tokenizer = default_checkpoint.vocabulary([], work, DEFAULT_FOLDER)
    mail = _mail(16)
    default_checkpoint.tuning(Split(mail, _mail(4), []), classifier, default_checkpoint.count(mail, tokenizer), options)
    return classifier.head.linear.weight.detach() - weights["head.linear.weight"]


def test_fine_tuning_goes_part_of_the_way(tmp_path, monkeypatch):
    """So much of it is kept, from a start on and from what joint training made."""
    kept = default_checkpoint.KEPT
    known, first = _moved(tmp_path / "known", DEFAULT_FOLDER), _moved(tmp_path / "first", None)
    monkeypatch.setattr(default_checkpoint, "KEPT", 1.0)
    whole = _moved(tmp_path / "whole", DEFAULT_FOLDER)

    assert 0.0 < kept < 1.0
    assert whole.abs().max() > 0.0
    for moved in (known, first):
        torch.testing.assert_close(moved, whole * kept, rtol=1e-2, atol=1e-7)


def test_the_table_that_ships_learns_from_stretches_too(tmp_path, monkeypatch):
    """A share of the long messages is counted once more, in part; where it learns beside fine-tuning none is."""
    counted = []
    monkeypatch.setattr(default_checkpoint.evidence.Counted, "_learn", lambda self, _: counted.append(self._examples))
    tokenizer = default_checkpoint.vocabulary([], tmp_path, DEFAULT_FOLDER)
    words = " ".join(map(str, range(500)))
    mail = [replace(one, text=f"{one.text} {words}") for one in _mail(200)]

    default_checkpoint.table(mail, tokenizer)
    _ = default_checkpoint.count(mail, tokenizer).table

    with_stretches, without = counted
    assert with_stretches[: len(without)] == without
    stretches = with_stretches[len(without) :]
    assert 0.5 < len(stretches) / len(without) < 0.7
    labels = {one.origin: one.label for one in without}
    assert set(labels.values()) == {one.label for one in stretches} == set(Label)
    assert all(one.label is labels[one.origin] for one in stretches)
    assert all(len(one.text) < 0.7 * len(words) for one in stretches)


def test_without_joint_training_a_start_stays_what_it_is(tmp_path):
    """`--tokens 0` leaves nothing behind that a second run could trip over."""
    options = Namespace(work=tmp_path, device="cpu", tokens=0, start=DEFAULT_FOLDER)

    classifier = default_checkpoint.joint([], default_checkpoint.vocabulary([], tmp_path, DEFAULT_FOLDER), options)

    assert [] == list(tmp_path.iterdir())
    for name, value in default_checkpoint._started(DEFAULT_FOLDER).items():
        assert torch.equal(value, classifier.state_dict()[name]), name
