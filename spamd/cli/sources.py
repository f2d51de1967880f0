"""What `--dataset` names, opened: a plugin's or built-in dataset at a path, or what people labelled with `learn`.

Reads nothing yet. Called by `candidate` and `evaluate`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from spamd.config import Settings
from spamd.interfaces import LabeledMessage, MessageDataset
from spamd.service.feedback import FILE, FeedbackStore

if TYPE_CHECKING:
    from spamd.hooks.manager import Plugins
    from spamd.training.gathering import Source
    from spamd.training.splits import Example

FEEDBACK = "feedback"
"""Name of the dataset that needs no path."""


def open_sources(specs: Sequence[str], plugins: "Plugins", settings: Settings) -> "list[Source]":
    """Open datasets.

    Args:
        specs: `NAME:PATH?OPTION=VALUE`, or `feedback`.
        plugins: the datasets on offer.
        settings: where the state folder lies.

    Raises:
        DatasetError: a path does not hold such a dataset, or an option is unknown.
        UnknownNameError: nobody registered a dataset of that name.
    """
    from spamd.hooks.manager import lookup
    from spamd.training.gathering import Source, open_source

    return [
        Source(FEEDBACK, settings.state_dir / FILE, cast("MessageDataset", _Labelled(open_store(settings))))
        if spec == FEEDBACK
        else open_source(spec, lambda name: lookup(plugins.datasets, "dataset", name))
        for spec in specs
    ]


def open_store(settings: Settings) -> FeedbackStore:
    """Open the store of labelled mail."""
    wanted = settings.feedback
    return FeedbackStore(settings.state_dir / FILE, keeps_raw=wanted.keep == "raw", retention_days=wanted.retention_days)


@dataclass(frozen=True, slots=True)
class _Labelled:
    """The store as a dataset."""

    store: FeedbackStore

    def __iter__(self) -> "Iterator[LabeledMessage | Example]":
        """Yield every message; of those that were not kept whole, the text as it was read."""
        from spamd.training.splits import Example

        for one in self.store:
            origin = f"{one.id} ({one.origin})"
            if one.raw is not None:
                yield LabeledMessage(one.raw, one.label, origin)
            else:
                yield Example(one.text, one.label, origin, FEEDBACK, one.is_html, one.learned)
