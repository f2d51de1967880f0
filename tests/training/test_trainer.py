"""The loop learns, repeats itself, keeps its best epoch, touches only what the policy names, and stops at nonsense."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from teaching import part

from spamd.errors import TrainingError
from spamd.model.card import NGramsNote
from spamd.model.heads import MeanPool
from spamd.model.ngrams import NGrams
from spamd.training import freezing, trainer
from spamd.training.parts import accuracy, margins
from spamd.training.trainer import Recipe, schedule, train


def _recipe(policy="last-block", **options):
    """A recipe that a tiny model learns with."""
    policies = freezing.spamd_register_freezing_policies()
    settings = {"epochs": 3, "learning_rate": 3e-3, "seed": 7, **options}
    return Recipe(policy, policies[policy], **settings)


@pytest.fixture
def mail(byte_tokenizer):
    """Training and validation mail."""
    return part(60, byte_tokenizer, 1), part(20, byte_tokenizer, 2)


def _weights(classifier):
    """A copy of all weights."""
    return {name: value.clone() for name, value in classifier.state_dict().items()}


def _changed(before, classifier):
    """Names of the weights that differ."""
    return {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("policy", ["last-block", "last-two-blocks", "none"])
def test_it_learns(tiny_classifier, mail, byte_tokenizer, policy):
    """After three epochs most mail that it has never seen lies on the right side."""
    found = train(tiny_classifier, *mail, _recipe(policy))
    unseen = part(50, byte_tokenizer, 3)
    right = (margins(tiny_classifier, unseen) > 0) == (unseen.labels == 1)

    assert right.mean() > 0.8
    assert found.epochs[-1].train_loss < found.epochs[0].train_loss


@pytest.mark.parametrize("policy", ["last-block", "last-two-blocks", "head-only", "none"])
def test_exactly_the_chosen_weights_change(tiny_classifier, mail, policy):
    """What the policy names moves, everything else stays bit for bit."""
    names = [name for name, _ in tiny_classifier.named_parameters()]
    before = _weights(tiny_classifier)
    chosen = set(_recipe(policy).policy(names, 0))
    # Of each embedding table only the rows that occur move, which is a change all the same.

    train(tiny_classifier, *mail, _recipe(policy, epochs=1))

    assert chosen == _changed(before, tiny_classifier)


def test_the_same_seed_gives_the_same_weights(tiny_classifier, mail):
    """Two trainings agree to the last bit, and another seed gives others."""
    start = _weights(tiny_classifier)
    trained = []
    for seed in (7, 7, 8):
        tiny_classifier.load_state_dict(start)
        train(tiny_classifier, *mail, _recipe(seed=seed))
        trained.append(_weights(tiny_classifier))

    assert all(torch.equal(trained[0][name], trained[1][name]) for name in start)
    assert any(not torch.equal(trained[0][name], trained[2][name]) for name in start)


def test_what_is_known_already_is_not_learned(tiny_classifier, mail):
    """Beside evidence that is certain of each label nothing is left to learn; beside silence as much as without it."""
    start = _weights(tiny_classifier)
    moved = []
    for loudness in (None, 0.0, 50.0):
        tiny_classifier.load_state_dict(start)
        evidence = [None if loudness is None else np.float32(loudness) * (2 * one.labels - 1).astype(np.float32) for one in mail]
        parts = [replace(one, evidence=known) for one, known in zip(mail, evidence, strict=True)]
        train(tiny_classifier, *parts, _recipe(weight_decay=0.0))
        moved.append(float((tiny_classifier.head.linear.weight - start["head.linear.weight"]).detach().abs().max()))

    assert moved[0] == moved[1]
    assert moved[2] < 0.01 * moved[0]


def test_evidence_stands_for_the_table(tiny_classifier, mail, byte_tokenizer):
    """A table beside the head is not asked where evidence is given."""
    note = NGramsNote(num_buckets=2**10, max_tokens=64)
    tiny_classifier.ngrams = NGrams(note, byte_tokenizer)
    torch.nn.init.constant_(tiny_classifier.ngrams.weight, 100.0)
    silent = [replace(one, evidence=np.zeros(len(one.labels), np.float32)) for one in mail]
    beside_table, beside_silence = (train(tiny_classifier, *parts, _recipe("head-only", epochs=1)) for parts in (mail, silent))

    assert beside_table.steps[0].loss > 10.0
    assert beside_silence.steps[0].loss < 1.0


def test_the_cache_changes_nothing_but_time(tiny_classifier, mail):
    """With and without kept hidden states the scores agree to rounding."""
    start = _weights(tiny_classifier)
    found = []
    for cache_bytes in (10**9, 0):
        tiny_classifier.load_state_dict(start)
        train(tiny_classifier, *mail, _recipe(cache_bytes=cache_bytes))
        found.append(margins(tiny_classifier, mail[1]))

    assert found[0] == pytest.approx(found[1], abs=1e-2)


def test_the_best_epoch_is_kept(tiny_classifier, mail, monkeypatch):
    """Where validation gets worse again, the weights of the epoch before come back, those of all trained blocks included."""
    seen = []
    losses = iter([0.5, 0.2, 0.9])

    def validate(inputs, recipe, number):
        seen.append(_weights(tiny_classifier))
        return next(losses), 0.5

    monkeypatch.setattr(trainer, "_validate", validate)

    def widening(names, epoch):
        return freezing.last_block(names, epoch) if epoch < 2 else freezing.none(names, epoch)

    found = train(tiny_classifier, *mail, Recipe("widening", widening, epochs=3))

    assert (2, 0.2) == (found.best.number, found.best.validation_loss)
    assert set() == _changed(seen[1], tiny_classifier)


def test_a_policy_is_asked_for_each_epoch(tiny_classifier, mail):
    """A gradual policy trains the head first and more later, and hidden states follow."""
    before = _weights(tiny_classifier)

    def gradual(names, epoch):
        return [freezing.head_only, freezing.last_block, freezing.none][epoch](names, epoch)

    found = train(tiny_classifier, *mail, Recipe("gradual", gradual, epochs=3, learning_rate=1e-3))

    sizes = [epoch.num_trained for epoch in found.epochs]
    assert sorted(sizes) == sizes
    assert 66 == sizes[0]
    assert "trunk.wte.weight" in _changed(before, tiny_classifier)


def test_a_policy_that_fails_later_fails_before_the_first_step(tiny_classifier, mail):
    """Nothing is trained for hours before a policy's last epoch turns out to be empty."""
    before = _weights(tiny_classifier)
    policy = lambda names, epoch: names if epoch < 2 else []  # noqa: E731

    with pytest.raises(TrainingError, match="'late' left nothing to train in epoch 3"):
        train(tiny_classifier, *mail, Recipe("late", policy, epochs=3))

    assert set() == _changed(before, tiny_classifier)


def test_a_loss_that_is_no_number_stops_the_training(tiny_classifier, mail):
    """A learning rate that destroys the weights ends in a sentence, not in a checkpoint."""
    with torch.no_grad():
        tiny_classifier.head.linear.weight[0, 0] = torch.nan

    with pytest.raises(TrainingError, match=r"The loss became nan in epoch 1, training; nothing was saved\. Train with a"):
        train(tiny_classifier, *mail, _recipe())


def test_class_weights_move_the_balance(tiny_classifier, byte_tokenizer):
    """A label that weighs more pulls scores its way."""
    mail = part(12, byte_tokenizer, 1), part(6, byte_tokenizer, 2)
    start = _weights(tiny_classifier)
    means = []
    for weights in ((10.0, 1.0), (1.0, 10.0)):
        tiny_classifier.load_state_dict(start)
        train(tiny_classifier, *mail, _recipe(class_weights=weights, epochs=1))
        means.append(np.mean(margins(tiny_classifier, mail[1])))

    assert means[0] < means[1]


def test_heads_that_read_everything_train_as_well(tiny_classifier, mail):
    """A pooling head gets every position, kept or not."""
    torch.manual_seed(1)
    tiny_classifier.head = MeanPool(32, 2)
    found = train(tiny_classifier, *mail, _recipe())

    assert found.best.validation_loss < 0.5


def test_margins_do_not_depend_on_batches(tiny_classifier, mail, monkeypatch):
    """A message scores the same alone and among others, in the order of the part."""
    together = margins(tiny_classifier, mail[1])
    monkeypatch.setattr("spamd.training.parts.BATCH_TOKENS", 1)

    assert together == pytest.approx(margins(tiny_classifier, mail[1]), abs=1e-5)


def test_the_learning_rate_rises_and_falls():
    """It starts above zero, reaches its height early, and falls straight towards zero."""
    rates = [schedule(step / 1000) for step in range(1000)]

    assert 0.0 < rates[0] < 0.2
    assert 1.0 == max(rates)
    assert rates.index(1.0) < 100
    assert sorted(rates[100:], reverse=True) == rates[100:]
    assert 0.0 < rates[-1] < 0.01


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_accumulated_batches_are_one_step(tiny_classifier, mail, batch_size):
    """The same messages in small pieces give the step that they give together, the last and smaller one of an epoch included."""
    start = _weights(tiny_classifier)
    options = {"epochs": 1, "cache_bytes": 0}
    whole = train(tiny_classifier, *mail, _recipe(batch_size=24, **options))
    expected = _weights(tiny_classifier)
    tiny_classifier.load_state_dict(start)
    pieces = train(tiny_classifier, *mail, _recipe(batch_size=batch_size, accumulate=24 // batch_size, **options))

    assert [step.loss for step in whole.steps] == pytest.approx([step.loss for step in pieces.steps], abs=1e-4)
    for name, value in tiny_classifier.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-3)


def test_it_stops_early(tiny_classifier, mail, monkeypatch):
    """After so many epochs without a better loss no other begins, and the best one's weights come back."""
    losses = iter([0.5, 0.2, 0.9, 0.3, 0.1])
    monkeypatch.setattr(trainer, "_validate", lambda *_: (next(losses), 0.5))
    found = train(tiny_classifier, *mail, _recipe(epochs=5, patience=2))

    assert [1, 2, 3, 4] == [epoch.number for epoch in found.epochs]
    assert 2 == found.best.number


def test_a_constant_learning_rate_stays(tiny_classifier, mail):
    """The reference has no schedule."""
    found = train(tiny_classifier, *mail, _recipe(schedule="constant", epochs=1))

    assert {3e-3} == {step.learning_rate for step in found.steps}


def test_bfloat16_learns_as_well(tiny_classifier, mail):
    """In the fast precision the loss falls alike, and the weights stay float32."""
    found = train(tiny_classifier, *mail, _recipe(precision="bfloat16"))

    assert found.best.validation_loss < 0.5
    assert {torch.float32} == {value.dtype for value in tiny_classifier.state_dict().values()}


def test_the_course_tells_losses_and_accuracies(tiny_classifier, mail):
    """An epoch's training figures are the means over its messages, and its validation figures those of the model after it."""
    found = train(tiny_classifier, *mail, _recipe(epochs=2))
    last = [step for step in found.steps if step.epoch == 2]

    assert 2 * 15 == len(found.steps)
    assert sum(step.loss for step in last) / 15 == pytest.approx(found.epochs[1].train_loss)
    assert sum(step.accuracy for step in last) / 15 == pytest.approx(found.epochs[1].train_accuracy)
    assert accuracy(tiny_classifier, mail[1]) == pytest.approx(found.best.validation_accuracy)
