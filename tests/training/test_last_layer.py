"""The last layer bends no further than labels demand."""

import numpy as np
import pytest
from teaching import part

from spamd.errors import TrainingError
from spamd.model.heads import MeanPool
from spamd.training import last_layer
from spamd.training.logistic import fit
from spamd.training.parts import margins


def test_margins_are_those_of_the_whole_model(tiny_classifier, byte_tokenizer):
    """Read in two steps, a message gets the margin that it gets in one; after bending too."""
    mail = part(10, byte_tokenizer)
    found = last_layer.read(tiny_classifier, mail)

    assert margins(tiny_classifier, mail).tolist() == pytest.approx(found.margins.tolist(), abs=1e-4)

    change = fit(found.features, found.margins, mail.labels, temperature=1.0, width=0.3)
    last_layer.bend(tiny_classifier, found, change)

    assert margins(tiny_classifier, mail).tolist() == pytest.approx((found.margins + found.features @ change).tolist(), abs=1e-4)


def test_a_narrow_prior_changes_little(tiny_classifier, byte_tokenizer):
    """The narrower the prior, the less the last layer moves."""
    mail = part(10, byte_tokenizer)
    found = last_layer.read(tiny_classifier, mail)
    moved = [
        float(np.abs(fit(found.features, found.margins, mail.labels, temperature=1.0, width=width)).sum())
        for width in (1e-4, 1e-2, 1.0)
    ]

    assert sorted(moved) == moved
    assert moved[0] < 0.01 < moved[2]


def test_another_head_is_refused(tiny_classifier, byte_tokenizer):
    """A head whose last layer is not ours to bend is named."""
    tiny_classifier.head = MeanPool(32, 2)

    with pytest.raises(TrainingError, match="not MeanPool"):
        last_layer.read(tiny_classifier, part(4, byte_tokenizer))
