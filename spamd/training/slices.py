"""Mail in slices: by corpus, language, form and length, so that a good average hides no kind of mail that fares badly.

Names slices only; `evaluation` and `report` judge them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spamd.training.languages import guess_language
from spamd.training.metrics import Measure, Numbers, measure_roca, wilson
from spamd.training.splits import Example

LENGTHS = ((160, "up to 160 characters"), (1000, "to 1,000"), (4000, "to 4,000"))
LONGER = "longer"


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the mail.

    Attributes:
        kind: `corpus`, `language`, `form` or `length`.
        name: which of them.
        members: positions of its messages, (M,).
    """

    kind: str
    name: str
    members: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Showing:
    """How a checkpoint does on a slice.

    Attributes:
        num_ham: ham in it.
        num_spam: spam in it.
        hm: ham lost, %; None where there is none.
        sm: spam missed, %; None where there is none.
        roca: (1-ROCA)%; None where a label is absent.
    """

    num_ham: int
    num_spam: int
    hm: Measure | None
    sm: Measure | None
    roca: Measure | None


def slices(examples: Sequence[Example]) -> Iterator[Slice]:
    """Cut mail into slices of each kind, the largest of a kind first.

    Args:
        examples: the messages.

    Yields:
        Slices; each message is in one of each kind.
    """
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, example in enumerate(examples):
        text = example.text
        found["corpus"][example.dataset].append(place)
        found["language"][guess_language(text)].append(place)
        found["form"]["HTML" if example.is_html else "plain"].append(place)
        found["length"][_length(text)].append(place)
    for kind, named in found.items():
        for name, members in sorted(named.items(), key=lambda item: (-len(item[1]), item[0])):
            yield Slice(kind, name, np.array(members, dtype=np.int64))


def show(labels: Numbers, scores: Numbers, threshold: float, *, seed: int = 0) -> Showing:
    """Judge a slice.

    Args:
        labels: the truth about its messages.
        scores: what the checkpoint said about them.
        threshold: the score from which a message is spam.
        seed: of the bootstrap.
    """
    ham, spam = scores[labels == 0], scores[labels == 1]
    return Showing(
        len(ham),
        len(spam),
        wilson(int((ham >= threshold).sum()), len(ham)) if len(ham) else None,
        wilson(int((spam < threshold).sum()), len(spam)) if len(spam) else None,
        measure_roca(labels, scores, seed) if len(ham) and len(spam) else None,
    )


def _length(text: str) -> str:
    """Name the length of a text."""
    return next((name for most, name in LENGTHS if len(text) <= most), LONGER)
