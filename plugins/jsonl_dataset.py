"""The dataset `jsonl`: one JSON object a line, with a label and a text or a whole message.

A drop-in plugin: copy this file into spamd's `plugins_dir`. See README.md beside it for the keys and the options.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spamd.errors import DatasetError
from spamd.hooks import hookimpl
from spamd.interfaces import DatasetFactory, LabeledMessage, MessageDataset
from spamd.mail.text import text_message
from spamd.verdict import Label

KEYS = ("label", "text", "subject", "message")
LABELS = {"ham": Label.HAM, "false": Label.HAM, "0": Label.HAM, "spam": Label.SPAM, "true": Label.SPAM, "1": Label.SPAM}


@dataclass(frozen=True)
class JsonLines:
    """The lines of one file as labelled messages.

    Attributes:
        path: the file.
        keys: which key of the objects holds the `label`, `text`, `subject` and `message`.
    """

    path: Path
    keys: Mapping[str, str]

    def __iter__(self) -> Iterator[LabeledMessage]:
        """Yield a message a line, in the order of the file; blank lines are passed over."""
        try:
            with self.path.open(encoding="utf-8-sig") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield self._message(line, f"{self.path} line {number}")
        except OSError as error:
            raise DatasetError(f"{self.path}: cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise DatasetError(f"{self.path}: is not UTF-8: {error}.") from error

    def _message(self, line: str, origin: str) -> LabeledMessage:
        """Read one line."""
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{origin}: is not JSON: {error}.") from error
        if not isinstance(entry, dict):
            raise DatasetError(f"{origin}: is not a JSON object but {line.strip()[:40]}.")
        label = LABELS.get(str(entry.get(self.keys["label"])).lower())
        if label is None:
            raise DatasetError(f"{origin}: {self.keys['label']!r} must be ham or spam, not {entry.get(self.keys['label'])!r}.")
        return LabeledMessage(self._raw(entry, origin), label, origin)

    def _raw(self, entry: Mapping[str, Any], origin: str) -> bytes:
        """Take the whole message where there is one, else make one of the text."""
        message, text = entry.get(self.keys["message"]), entry.get(self.keys["text"])
        if isinstance(message, str):
            return message.encode("utf-8", "replace")
        if isinstance(text, str):
            return text_message(text, str(entry.get(self.keys["subject"]) or ""))
        raise DatasetError(f"{origin}: has neither {self.keys['text']!r} nor {self.keys['message']!r} as a string.")


def jsonl(path: Path, **options: str) -> MessageDataset:
    """Open a file of JSON lines.

    Raises:
        DatasetError: there is no such file, or an option is unknown.
    """
    if unknown := sorted(set(options) - set(KEYS)):
        raise DatasetError(f"Dataset jsonl has no option named {unknown[0]!r}; its options are {', '.join(KEYS)}.")
    if not path.is_file():
        raise DatasetError(f"jsonl:{path} is not a file.")
    return JsonLines(path, {key: options.get(key, key) for key in KEYS})


@hookimpl
def spamd_register_datasets() -> Mapping[str, DatasetFactory]:
    """Offer the dataset."""
    return {"jsonl": jsonl}
