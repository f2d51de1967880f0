"""What is measured of a trunk's size."""

import math

import default_checkpoint
import pytest
import sizes
import torch

from spamd.model.checkpoint import DEFAULT_FOLDER
from spamd.model.classifier import Classifier
from spamd.model.gpt2 import GPT2, GPT2Config
from spamd.model.heads import LastToken
from spamd.model.tokenizer import Tokenizer
from spamd.training.splits import Example, Split
from spamd.verdict import Label


def _mail(number):
    """Write long ham and spam in turn."""
    kinds = (("See you at lunch. ", Label.HAM), ("Buy pills now! ", Label.SPAM))
    return [Example(kinds[n % 2][0] * 60, kinds[n % 2][1], str(n), "written_mail_held_out") for n in range(number)]


@pytest.fixture
def tokenizer():
    """The vocabulary that ships."""
    return Tokenizer.from_file(DEFAULT_FOLDER / "vocabulary.tiktoken")


def test_a_trunk_that_knows_nothing(tokenizer):
    """Every token is as likely as any other, and the figures name all that the weights take."""
    config = GPT2Config(vocab_size=default_checkpoint.VOCABULARY_SIZE, n_positions=512, n_embd=64, n_layer=1, n_head=1)
    classifier = Classifier(GPT2(config), LastToken(64, 2))
    with torch.no_grad():
        for parameter in classifier.trunk.parameters():
            parameter.mul_(0.01)

    found = sizes.judge(classifier, tokenizer, Split([], _mail(4), _mail(6)))

    assert math.log(config.vocab_size) == pytest.approx(found["next_token"], rel=0.02)
    assert sum(parameter.numel() for parameter in classifier.parameters()) == found["parameters"]
    assert {"64", "256", "512"} == set(found["milliseconds"])
    assert "| 64x1 | 1.1 M | 2.2 |" in sizes.table({"64x1": found})


def test_a_context_is_read_whole(tokenizer):
    """Where the context is named, so much of a message is read, and the time of so much is told."""
    config = GPT2Config(vocab_size=default_checkpoint.VOCABULARY_SIZE, n_positions=1024, n_embd=64, n_layer=1, n_head=1)
    classifier = Classifier(GPT2(config), LastToken(64, 2))

    found = sizes.judge(classifier, tokenizer, Split([], _mail(4), _mail(6)), 1024)

    assert (64, 1, 256) == sizes.parse("64x1")
    assert 1024 == classifier.max_tokens
    assert 1 == sizes.table({"64x1x1024": found}).count(f" {found['milliseconds']['1024']:.1f} |")


def test_the_better_trunk_has_the_smaller_roca(tokenizer):
    """A head that says spam of spam is right about all, one that says the opposite about none."""
    config = GPT2Config(vocab_size=default_checkpoint.VOCABULARY_SIZE, n_positions=512, n_embd=64, n_layer=1, n_head=1)
    classifier = Classifier(GPT2(config), LastToken(64, 2))
    mail = _mail(6)
    right = sizes.roca(classifier, tokenizer, mail)
    with torch.no_grad():
        classifier.head.linear.weight.neg_()
        classifier.head.linear.bias.neg_()

    assert {0.0, 100.0} == {right, sizes.roca(classifier, tokenizer, mail)}
