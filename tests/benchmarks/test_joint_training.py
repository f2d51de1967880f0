"""Joint training learns, repeats, and goes on where it was stopped."""

import random

import joint_training
import pytest
import torch
from joint_training import JointRecipe, Message, train_jointly

from spamd.model.classifier import Classifier, pad
from spamd.model.gpt2 import GPT2, GPT2Config
from spamd.model.heads import LastToken

CONFIG = GPT2Config(vocab_size=64, n_positions=32, n_embd=16, n_layer=2, n_head=2)
SPAM_TOKEN = 7


@pytest.fixture(autouse=True)
def _one_thread():
    """Two threads may add in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _epoch(number):
    """Messages of random tokens; one token stands in all spam and in no ham."""
    draw = random.Random(number)
    messages = []
    for _ in range(64):
        ids = [draw.randrange(8, 64) for _ in range(draw.randint(10, 24))]
        label = draw.randrange(2)
        if label:
            ids[draw.randrange(len(ids))] = SPAM_TOKEN
        messages.append(Message(ids, label))
    return messages


def _trained(file, num_tokens, **settings):
    """Train from the seed on."""
    torch.manual_seed(5)
    classifier = Classifier(GPT2(CONFIG), LastToken(CONFIG.n_embd, 2))
    # One token decides here, and may not be replaced.
    settings = {"strange_tokens": 0.0} | settings
    recipe = JointRecipe(num_tokens=num_tokens, batch_tokens=256, learning_rate=1e-2, embedding_factor=1.0, warm_up=5, **settings)
    train_jointly(classifier, _epoch, recipe, file)
    return classifier


def test_what_gives_a_class_away_is_learned(tmp_path):
    """After some epochs new mail is told apart by the one token that matters."""
    classifier = _trained(tmp_path / "state.safetensors", 60_000)
    unseen = _epoch(10_000)
    with torch.no_grad():
        logits = classifier(*pad([message.ids for message in unseen], 0))
    right = sum(int(row[1] > row[0]) == label for row, (_, label, _) in zip(logits, unseen, strict=True))

    assert right >= 60


def test_a_share_of_the_tokens_is_replaced():
    """About as many as asked for, with ids of the vocabulary, and the others stay."""
    ids = torch.full((50, 40), 3)
    changed = joint_training._with_strangers(ids, 0.25, 64, torch.Generator().manual_seed(1))

    assert 400 <= int((changed != ids).sum()) <= 600
    assert changed.min() >= 0
    assert changed.max() < 64


def test_doubt_is_taught(tmp_path):
    """Messages taught as half spam are scored in the middle."""
    torch.manual_seed(5)
    classifier = Classifier(GPT2(CONFIG), LastToken(CONFIG.n_embd, 2))
    recipe = JointRecipe(num_tokens=20_000, batch_tokens=256, learning_rate=1e-2, embedding_factor=1.0, warm_up=5)
    train_jointly(
        classifier,
        lambda number: [Message(message.ids, 0.5) for message in _epoch(number)],
        recipe,
        tmp_path / "state.safetensors",
    )
    with torch.no_grad():
        logits = classifier(*pad([message.ids for message in _epoch(10_000)], 0))

    assert logits.softmax(1)[:, 1].sub(0.5).abs().max() < 0.1


def test_prefixes_of_what_was_put_together_are_not_asked():
    """The label of two messages together says nothing of the first alone: only the last token bears the loss."""
    head = LastToken(CONFIG.n_embd, 2)
    hidden = torch.randn(2, 12, CONFIG.n_embd, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    last = joint_training._label_loss(head, hidden, torch.tensor([12, 9]), labels, torch.tensor([0.0, 0.0]))
    both = joint_training._label_loss(head, hidden, torch.tensor([12, 9]), labels, torch.tensor([0.5, 0.0]))

    assert last[0] == last[1]
    assert both[0] != last[0]
    assert both[1] == last[1]


def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path, monkeypatch):
    """A stop in the middle of an epoch changes nothing."""
    whole = _trained(tmp_path / "whole.safetensors", 12_000)
    monkeypatch.setattr("joint_training.SAVE_SECONDS", 0.0)
    count = joint_training._count

    def stop(course, *others):
        count(course, *others)
        if course.num_steps == 13:
            raise KeyboardInterrupt

    monkeypatch.setattr("joint_training._count", stop)
    with pytest.raises(KeyboardInterrupt):
        _trained(tmp_path / "stopped.safetensors", 12_000)
    monkeypatch.undo()
    resumed = _trained(tmp_path / "stopped.safetensors", 12_000)

    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_run_that_had_ended_is_left_as_it_is(tmp_path):
    """Asking again for what is done trains no more."""
    first = _trained(tmp_path / "state.safetensors", 4_000)
    again = _trained(tmp_path / "state.safetensors", 4_000)

    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
