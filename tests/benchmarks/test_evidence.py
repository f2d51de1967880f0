"""The table of n-grams learns what parts ham from spam, is heard as a stranger, and is as loud as mail unknown to it says."""

import random
from dataclasses import replace

import evidence
import numpy as np
import pytest
import torch

from spamd.model.card import NGramsNote
from spamd.training.parts import Part, margins
from spamd.training.splits import Example
from spamd.verdict import Label

NOTE = NGramsNote(num_buckets=2**14, max_tokens=100, stretch=20, doubt=0.1, doubling=0.05)
WORDS = ["harbour", "lantern", "meadow", "pencil", "quarry", "ribbon", "saddle", "timber"]


def _mail(number, seed):
    """Drawn words, and one more that is spam's alone."""
    draw = random.Random(seed)
    labels = [Label.HAM, Label.SPAM] * (number // 2)
    return [
        Example(
            " ".join([*draw.choices(WORDS, k=8), "casino" if label is Label.SPAM else "garden"]), label, str(n), "written_mail"
        )
        for n, label in enumerate(labels)
    ]


def _word(example):
    """A word that one sitting has for its spam, or for its ham."""
    return "".join(random.Random(f"{example.origin.split('/')[2]}{example.label}").choices("bcdfghjk", k=8))


def _part(mail, tokenizer):
    """Ids and labels."""
    sequences = [tokenizer.encode(one.text, 100).ids for one in mail]
    return Part(sequences, np.array([one.label is Label.SPAM for one in mail], dtype=np.int64), tokenizer.end_of_text)


def test_the_table_parts_unknown_mail(byte_tokenizer):
    """What it learned from some mail holds for other mail."""
    ngrams = evidence.Counted(_mail(60, 1), byte_tokenizer, NOTE, seed=1).table
    part = _part(_mail(40, 2), byte_tokenizer)
    with torch.no_grad():
        said = ngrams.of(part.sequences).numpy()

    assert said[part.labels == 1].min() > said[part.labels == 0].max()


def test_a_training_hears_what_strangers_say(byte_tokenizer):
    """Of a word that its own sitting alone has, evidence knows nothing; of one that all have, much; judges hear it all."""
    everywhere = [replace(one, origin=f"/x/sitting_{int(one.origin) // 20:02d}/{one.origin}") for one in _mail(160, 4)]
    in_one = [replace(one, text=one.text.replace("casino", _word(one)).replace("garden", _word(one))) for one in everywhere]
    judges = _mail(40, 2)
    known, strange = (evidence.Counted(mail, byte_tokenizer, NOTE, seed=1) for mail in (everywhere, in_one))
    (learned, judged), (blind, _) = known.beside(everywhere, judges, 50), strange.beside(in_one, judges, 50)

    assert learned.evidence[learned.labels == 1].min() > 0.0 > learned.evidence[learned.labels == 0].max()
    assert np.abs(blind.evidence).mean() < 0.3 * np.abs(learned.evidence).mean()
    assert judged.evidence[judged.labels == 1].min() > judged.evidence[judged.labels == 0].max()
    assert max(learned.lengths) <= 50


def test_head_and_table_are_weighed(tiny_classifier, byte_tokenizer):
    """Together they are calibrated, and the margin is the weighed sum of both, doubts included."""
    part = _part(_mail(200, 3), byte_tokenizer)
    # A third of the labels are wrong, so that nobody can be certain.
    labels = np.where(np.random.default_rng(1).random(200) < 1 / 3, 1 - part.labels, part.labels)
    part = Part(part.sequences, labels, part.pad_id)
    ngrams = evidence.Counted(_mail(60, 1), byte_tokenizer, NOTE, seed=1).table
    with torch.no_grad():
        tiny_classifier.head.linear.weight[1] += 0.2 * torch.randn(32, generator=torch.Generator().manual_seed(5))
        alone, said = margins(tiny_classifier, part), ngrams.of(part.sequences).numpy()
    # A head that is right more often than not, as a trained one is.
    part = Part(part.sequences, np.where(alone > np.quantile(alone, 0.9), 1, part.labels), part.pad_id)

    evidence.join(tiny_classifier, ngrams, part, np.ones(200))

    found = margins(tiny_classifier, part)
    weights, *_ = np.linalg.lstsq(np.column_stack((alone, said, np.ones(200))), found, rcond=None)
    assert np.column_stack((alone, said, np.ones(200))) @ weights == pytest.approx(found, abs=1e-3)
    assert min(weights[:2]) > 0.0
    assert (1.0 / (1.0 + np.exp(-found))).mean() == pytest.approx(part.labels.mean(), abs=1e-3)


def test_a_head_that_is_worse_than_none_is_mute(tiny_classifier, byte_tokenizer):
    """What it would say the other way round is left out, and the table is weighed alone."""
    part = _part(_mail(200, 3), byte_tokenizer)
    ngrams = evidence.Counted(_mail(60, 1), byte_tokenizer, NOTE, seed=1).table
    with torch.no_grad():
        tiny_classifier.head.linear.weight[1] += 0.2 * torch.randn(32, generator=torch.Generator().manual_seed(5))
        alone, said = margins(tiny_classifier, part), ngrams.of(part.sequences).numpy()
    labels = np.where(alone > np.quantile(alone, 0.8), 0, part.labels)

    evidence.join(tiny_classifier, ngrams, Part(part.sequences, labels, part.pad_id), np.ones(200))

    slope, constant = np.polyfit(said, margins(tiny_classifier, part), 1)
    assert slope > 0.0
    assert slope * said + constant == pytest.approx(margins(tiny_classifier, part), abs=1e-3)


def test_a_table_that_is_always_wrong_is_refused(tiny_classifier, byte_tokenizer):
    """Mail whose labels are the other way round would make it count backwards."""
    mail = _part(_mail(60, 1), byte_tokenizer)
    ngrams = evidence.Counted(_mail(60, 1), byte_tokenizer, NOTE, seed=1).table

    with pytest.raises(ValueError, match="that must be above 0"):
        evidence.join(tiny_classifier, ngrams, Part(mail.sequences, 1 - mail.labels, mail.pad_id), np.ones(60))
