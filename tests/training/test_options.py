"""Every variant of the reference can be asked for by name, is written on the card, and is there again when that loads."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from teaching import HEADS, lesson, write_folder

from spamd.errors import TrainingError
from spamd.model.checkpoint import HeadNote, LoraNote, read_card
from spamd.training import freezing, starts
from spamd.training.cuts import SHUFFLED, shuffle_and_cut
from spamd.training.datasets import folder
from spamd.training.gathering import Source, gather
from spamd.training.judging import answer_of
from spamd.training.parts import Part, tokenise
from spamd.training.plans import Plan, fit_to_part, shift_to
from spamd.training.progress import SILENT
from spamd.training.retraining import retrain
from spamd.training.trainer import Recipe
from spamd.verdict import Label

POLICIES = freezing.spamd_register_freezing_policies()


@pytest.fixture
def mail(tmp_path):
    """Plain mail in three parts."""
    path = write_folder(tmp_path / "mail", 40)
    return gather([Source("folder", path, folder(path))], seed=3, balance=False, display=SILENT)


@pytest.fixture
def start(tiny_checkpoint):
    """Open the tiny checkpoint, with a head by name."""
    return lambda name="last-token": starts.start_from_checkpoint(tiny_checkpoint, HEADS, HeadNote(name=name), seed=3)


def _plan(policy="last-block", **changes):
    """A plan that a tiny model learns with."""
    recipe = Recipe(policy, POLICIES[policy], epochs=2, learning_rate=3e-3, seed=3, schedule="constant")
    return replace(Plan(recipe, max_tokens=64, max_ham_lost=0.05), **changes)


def _retrain(start, mail, tmp_path, plan):
    """Retrain, and ask the stored checkpoint again."""
    places = {"checkpoints_dir": tmp_path / "stored", "weights_dir": tmp_path / "weights"}
    device = torch.device("cpu")
    outcome = retrain(start, mail, plan, current=None, device=device, display=SILENT, **places)
    card, again = answer_of(outcome.folder, HEADS, mail.parts.test, weights_dir=None, device=device, seed=3, display=SILENT)
    assert outcome.candidate.judged.scores.tolist() == pytest.approx(again.judged.scores.tolist(), abs=1e-5)
    return outcome, card


@pytest.mark.parametrize("head", ["first-token", "last-token", "mean-pool"])
@pytest.mark.parametrize("pad", [0, "longest", 100])
def test_the_position_read_and_the_padding_are_on_the_card(start, mail, tmp_path, head, pad):
    """First, last padded, last real and mean: what was trained is what loads."""
    _, card = _retrain(start(head), mail, tmp_path, _plan(pad=pad))
    longest = max(len(example.text) for example in mail.parts.train)
    expected = {0: 0, "longest": min(longest, 64), 100: 100}[pad]

    assert (head, expected) == (card.head.name, card.pad_to)
    assert pad == card.training["pad"]


@pytest.mark.parametrize("policy", ["head-only", "last-block", "last-two-blocks", "none"])
def test_the_layers_trained_are_on_the_card(start, mail, tmp_path, policy):
    """Each policy is named with the number of weights that it trained."""
    _, card = _retrain(start(), mail, tmp_path, _plan(policy))

    assert policy == card.training["freeze"]
    assert card.training["course"][0]["num_trained"] > 0


def test_adapters_are_on_the_card(start, mail, tmp_path):
    """LoRA trains its adapters and the head, leaves all else as it was, and loads as plain weights."""
    adapted = starts.with_adapters(start(), LoraNote(rank=2, alpha=4.0), seed=3)
    before = {name: value.clone() for name, value in adapted.classifier.state_dict().items()}
    _, card = _retrain(adapted, mail, tmp_path, _plan("lora"))
    changed = {name for name, value in adapted.classifier.state_dict().items() if not torch.equal(value, before[name])}

    assert (2, 4.0) == (card.lora.rank, card.lora.alpha)
    assert all(".lora." in name or name.startswith("head.") for name in changed)
    assert {name for name in before if ".lora." in name} < changed


def test_lora_without_adapters_is_refused(start, mail, tmp_path):
    """The policy alone would train the head in silence."""
    with pytest.raises(TrainingError, match="'lora' left nothing to train in epoch 1"):
        _retrain(start(), mail, tmp_path, _plan("lora"))


def test_a_trunk_without_causal_mask_is_on_the_card(start, mail, tmp_path):
    """The same weights read both ways, and go on doing so."""
    _, card = _retrain(starts.without_causal_mask(start()), mail, tmp_path, _plan("none"))

    assert card.trunk.is_causal is False


def test_random_weights_have_the_sizes_alone(start, byte_tokenizer, mail, tmp_path):
    """The same seed draws the same weights, none of them the base's, and the card says so."""
    base = start().classifier
    drawn = [
        starts.start_at_random("tiny", base.trunk.config, byte_tokenizer, HEADS, HeadNote(), seed=seed) for seed in (1, 1, 2)
    ]
    weights = [one.classifier.trunk.h[0].mlp.c_fc.weight.clone() for one in drawn]
    _, card = _retrain(drawn[0], mail, tmp_path, _plan("none"))

    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], base.trunk.h[0].mlp.c_fc.weight)
    assert "random tiny" == card.base.name == card.training["started_from"]


def test_the_curves_lie_in_the_checkpoint(start, mail, tmp_path):
    """Loss, accuracy and learning rate of each step, and both losses and accuracies of each epoch, as JSON."""
    outcome, card = _retrain(start(), mail, tmp_path, _plan())
    curves = json.loads((outcome.folder / "training.json").read_text())

    assert len(outcome.training.steps) == len(curves["steps"]["loss"]) == len(curves["steps"]["accuracy"])
    assert {3e-3} == set(curves["steps"]["learning_rate"])
    assert [1, 2] == [epoch["number"] for epoch in curves["epochs"]]
    assert curves["epochs"] == card.training["course"]
    assert curves["epochs"][1]["validation_accuracy"] > 0.5
    assert curves["steps"]["loss"][-1] < curves["steps"]["loss"][0]


def test_a_padding_beyond_the_trunk_is_refused(start, mail, tmp_path):
    """The sentence names the option."""
    with pytest.raises(TrainingError, match="--pad 4096 is more than "):
        _retrain(start(), mail, tmp_path, _plan(pad=4096))


def test_shuffled_parts_are_cut_as_in_the_reference():
    """747 ham and 747 spam give 1045, 149 and 300, copies included, and the same seed gives the same parts."""
    examples = lesson(747)
    parts, again, other = (shuffle_and_cut(examples, seed) for seed in (123, 123, 124))

    assert [1045, 149, 300] == [len(part) for part in parts]
    assert parts == again != other
    assert {id(example) for example in examples} == {id(example) for part in parts for example in part}


def test_the_shuffled_split_keeps_copies(tmp_path):
    """Gathered that way, copies stay, and the method is told."""
    path = write_folder(tmp_path / "mail", 20)
    (path / "ham" / "copy.eml").write_bytes((path / "ham" / "0000.eml").read_bytes())
    mail = gather([Source("folder", path, folder(path))], seed=1, balance=False, display=SILENT, cut="shuffle")

    assert 41 == sum(map(len, mail.parts))
    assert (0, SHUFFLED) == (mail.num_duplicates, mail.method)


def test_too_little_mail_is_not_shuffled():
    """Mail of one label is refused with its counts."""
    with pytest.raises(TrainingError, match="There are 9 ham and 0 spam messages; training needs at least 8 of each"):
        shuffle_and_cut([example for example in lesson(9) if example.label is Label.HAM], 1)


def _part(num_ham, num_spam):
    """A part of which only labels count."""
    return Part([[1]] * (num_ham + num_spam), np.array([0] * num_ham + [1] * num_spam), 0)


def test_labels_can_weigh_the_same():
    """Nine ham for a spam: a ham weighs 5/9 and a spam 5."""
    plan = fit_to_part(_plan(is_weighted=True), _part(90, 10))

    assert plan.recipe.class_weights == pytest.approx((0.5 / 0.9, 0.5 / 0.1))
    assert 0.0 == plan.recipe.log_odds_shift


@pytest.mark.parametrize(("is_weighted", "expected"), [(False, np.log(0.1 / 0.9)), (True, 0.0)])
def test_scores_can_expect_another_share_of_spam(is_weighted, expected):
    """What is added while learning, and is missing afterwards, is the difference of log-odds; calibration takes it back."""
    learned = _part(90, 10)
    plan = fit_to_part(_plan(is_weighted=is_weighted, spam_share=0.25), learned)

    assert expected - np.log(0.25 / 0.75) == pytest.approx(plan.recipe.log_odds_shift)
    assert np.log(0.5 / 0.5) - np.log(0.25 / 0.75) == pytest.approx(shift_to(_part(5, 5), plan, learned))


def test_a_share_that_is_expected_moves_scores(start, mail, tmp_path):
    """Scores of a model that expects much spam are higher."""
    means = []
    for share in (0.02, 0.98):
        outcome, card = _retrain(start(), mail, tmp_path, _plan(spam_share=share))
        means.append(outcome.candidate.judged.scores.mean())
        assert share == card.training["spam_share"]

    assert means[0] < means[1]


def test_tokens_on_disk_train_the_same(start, mail, tmp_path, byte_tokenizer):
    """Ids that lie in a file are those that lie in memory."""
    there, here = (tokenise(mail.parts.train, byte_tokenizer, 64, folder=place) for place in (tmp_path / "ids", None))

    assert list(there.sequences) == list(here.sequences)
    assert there.digest() == here.digest()
    assert [] == list((tmp_path / "ids").iterdir())
    assert "folder" == read_card(_retrain(start(), mail, tmp_path, _plan())[0].folder).datasets[0]["name"]
