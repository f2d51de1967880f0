"""What the model card of the shipped checkpoint says is what its weights do."""

import json

import model_card
import numpy as np
import pytest
import written_mail

from spamd.hooks.manager import load_plugins
from spamd.inference.engine import Engine
from spamd.mail.text import message_text
from spamd.model.checkpoint import DEFAULT_FOLDER
from spamd.model.classifier import SPAM, Classifier
from spamd.model.gpt2 import GPT2, GPT2Config
from spamd.model.heads import LastToken
from spamd.training.calibration import probabilities

pytestmark = pytest.mark.slow


def test_the_sample_is_judged_as_the_card_says():
    """The held-out sitting that the repository holds gets as many right verdicts as the card claims."""
    claimed = json.loads((DEFAULT_FOLDER / "checkpoint.json").read_text(encoding="utf-8"))["metrics"]["sample"]
    messages = list(written_mail.read_sitting(written_mail.FOLDER / "sitting_03.txt"))
    heads = load_plugins(drop_in_folder=None, use_entry_points=False).heads
    engine = Engine.load(DEFAULT_FOLDER, heads, device="cpu")
    scored = engine.score([message_text(written_mail.build(message)).text for message in messages])
    is_spam = [message.fields["label"] == "spam" for message in messages]
    is_tagged = [one.score >= engine.threshold for one in scored]
    ham_lost = sum(tagged and not spam for tagged, spam in zip(is_tagged, is_spam, strict=True))
    spam_caught = sum(tagged and spam for tagged, spam in zip(is_tagged, is_spam, strict=True))

    assert (claimed["num_ham"], claimed["num_spam"]) == (is_spam.count(False), is_spam.count(True))
    # Another processor may round the one score otherwise that stands at the threshold.
    assert abs(claimed["ham_lost"] - ham_lost) <= 1
    assert abs(claimed["spam_caught"] - spam_caught) <= 1
    card = (DEFAULT_FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"{claimed['ham_lost']} of {claimed['num_ham']} ham are lost" in card


def test_as_much_spam_is_expected_as_there_is():
    """The head's bias moves so far that the mean score of validation mail is its share of spam, and so do all margins."""
    sizes = GPT2Config(vocab_size=8, n_positions=4, n_embd=4, n_layer=1, n_head=1)
    classifier = Classifier(GPT2(sizes), LastToken(sizes.n_embd, 2))
    before = classifier.head.linear.bias[SPAM].item()
    labels = np.arange(50) % 5 == 0
    raw = np.linspace(-2.0, 5.0, 50)

    moved = model_card.centre(classifier, raw, labels)

    assert classifier.head.linear.bias[SPAM].item() == pytest.approx(before + moved)
    assert probabilities(raw + moved, 1.0).mean() == pytest.approx(0.2, abs=1e-3)
    assert probabilities(raw, 1.0).mean() > 0.5
