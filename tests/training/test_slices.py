"""Slices hold each message once a kind, and figures only where there is a label to judge by."""

from dataclasses import replace

import numpy as np
from teaching import lesson

from spamd.training.slices import show, slices

EXAMPLES = [
    replace(example, dataset="a" if place < 4 else "b", is_html=place % 4 == 0, text=example.text * (1 + 40 * (place == 9)))
    for place, example in enumerate(lesson(5))
]


def test_each_message_is_in_one_slice_of_each_kind():
    """Sizes of each kind add up; the largest slice of a kind comes first."""
    found = list(slices(EXAMPLES))

    assert dict.fromkeys(("corpus", "language", "form", "length"), 10) == {
        kind: sum(len(part.members) for part in found if part.kind == kind) for kind in ("corpus", "language", "form", "length")
    }
    assert [("corpus", "b", 6), ("corpus", "a", 4)] == [(part.kind, part.name, len(part.members)) for part in found[:2]]
    assert {"plain", "HTML"} == {part.name for part in found if part.kind == "form"}
    assert [9] == [int(part.members[0]) for part in found if part.kind == "length" and len(part.members) == 1]


def test_a_slice_without_a_label_has_no_figure_for_it():
    """Ham alone shows ham lost, and nothing else."""
    shown = show(np.array([0, 0]), np.array([0.1, 0.9]), 0.5)

    assert (2, 0, 50.0, None, None) == (shown.num_ham, shown.num_spam, shown.hm.value, shown.sm, shown.roca)


def test_both_labels_are_judged():
    """A slice with both has all figures."""
    shown = show(np.array([0, 1]), np.array([0.1, 0.4]), 0.5)

    assert (0.0, 100.0, 0.0) == (shown.hm.value, shown.sm.value, shown.roca.value)
