"""Built-in datasets: labelled messages from files, one message at a time.

`folder`, `maildir` and `mbox` live here, the two that come from tables in `tables`. They label and name messages; reading mail
files is `mail.mailboxes`' job, removing duplicates and splitting are `splits`'. Called by `gathering` through the hook, as a
plugin's datasets are.
"""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from spamd.errors import DatasetError
from spamd.hooks import hookimpl
from spamd.interfaces import DatasetFactory, LabeledMessage, MessageDataset
from spamd.mail.mailboxes import read_messages
from spamd.training.tables import csv, sms_spam_collection
from spamd.verdict import Label

_JUNK = re.compile(r"(?:junk|spam|bulk)(?:[ _-]?(?:e-?mails?|mails?|folder|box))?", re.IGNORECASE)
_UNJUDGED = re.compile(
    r"trash|bin|deleted(?:[ _-](?:items|messages))?|drafts?|templates?|outbox|sent(?:[ _-](?:items|mail|messages))?",
    re.IGNORECASE,
)
"""Folders whose mail nobody judged, or that its owner wrote."""


@hookimpl
def spamd_register_datasets() -> Mapping[str, DatasetFactory]:
    """Offer the built-in datasets through the same hook that plugins use."""
    return {"folder": folder, "maildir": maildir, "mbox": mbox, "csv": csv, "sms-spam-collection": sms_spam_collection}


def parse_dataset_spec(spec: str) -> tuple[str, Path, dict[str, str]]:
    """Take `NAME:PATH?key=value&key=value` apart.

    What follows the last question mark is options only where it holds an equals sign, so that paths may hold question marks.

    Args:
        spec: as the operator typed it; `%09` and the like stand for characters in values.

    Returns:
        Name of the dataset, path, options.

    Raises:
        DatasetError: the name or the path is missing, or an option is not `key=value`.
    """
    name, colon, rest = spec.partition(":")
    if not colon or not rest or not re.fullmatch(r"[a-z0-9-]+", name):
        raise DatasetError(
            f"--dataset {spec!r} does not name a kind of dataset and a path; write NAME:PATH, such as folder:/srv/mail/sorted."
        )
    path, mark, query = rest.rpartition("?")
    if not mark or "=" not in query:
        path, query = rest, ""
    try:
        options = dict(parse_qsl(query, strict_parsing=True, keep_blank_values=True)) if query else {}
    except ValueError:
        raise DatasetError(f"--dataset {spec!r}: {query!r} is not key=value or key=value&key=value.") from None
    try:
        return name, Path(path).expanduser(), options
    except RuntimeError:
        raise DatasetError(
            f"--dataset {spec!r}: the path names the home of a user who is not known here; write an absolute one."
        ) from None


def folder(path: Path, **options: str) -> MessageDataset:
    """Open a folder that holds, at any depth, folders named `ham` and `spam`; all below those bears their label."""
    refuse_unknown("folder", options, ())
    return _Mail("folder", path, _find_label_folders(path))


def maildir(path: Path, **options: str) -> MessageDataset:
    """Open a Maildir with its subfolders.

    Folders with names such as Junk and Spam hold spam, Trash, Drafts and Sent are left out, all others hold ham. With
    `label=ham` or `label=spam` the Maildir at `path` itself bears that label, and subfolders are not looked at.
    """
    refuse_unknown("maildir", options, ("label",))
    _require("maildir", path, path.is_dir(), "is not a folder")
    if "label" in options:
        _require("maildir", path, _is_maildir(path), "is not a Maildir: it has no folder named cur or new")
        return _Mail("maildir", path, _contents(path, _label("maildir", path, options["label"])))
    found = [mailbox for mailbox in _walk(path) if _is_maildir(mailbox)]
    _require("maildir", path, bool(found), "holds no Maildir: no folder in it has a folder named cur or new")
    sources = [source for mailbox in found if (label := _label_by_name(path, mailbox)) for source in _contents(mailbox, label)]
    return _Mail("maildir", path, sources)


def mbox(path: Path, **options: str) -> MessageDataset:
    """Open an mbox file whose messages all bear the label of the option `label`."""
    refuse_unknown("mbox", options, ("label",))
    _require("mbox", path, path.is_file(), "is not a file")
    if "label" not in options:
        raise DatasetError(f"mbox:{path}: an mbox file does not say what it holds; write mbox:{path}?label=ham or ?label=spam.")
    try:
        with path.open("rb") as file:
            _require(
                "mbox", path, file.read(5) == b"From ", "is not an mbox: its first line does not begin with From and a space"
            )
    except OSError as error:
        raise DatasetError(f"mbox:{path} cannot be read: {error.strerror}.") from error
    return _Mail("mbox", path, [(path, _label("mbox", path, options["label"]))])


def refuse_unknown(dataset: str, options: Collection[str], known: Collection[str]) -> None:
    """Refuse options that a dataset does not have.

    Raises:
        DatasetError: names the option and those on offer.
    """
    if unknown := sorted(set(options) - set(known)):
        offer = f"its options are {', '.join(known)}" if known else "it has no options"
        raise DatasetError(f"Dataset {dataset} has no option named {unknown[0]!r}; {offer}.")


@dataclass(frozen=True, slots=True)
class _Mail:
    """Messages in files and folders, each source with one label.

    Attributes:
        name: name of the dataset, for error texts.
        path: where the operator pointed.
        sources: files and folders to read, in order, with their labels.
    """

    name: str
    path: Path
    sources: list[tuple[Path, Label]]

    def __iter__(self) -> Iterator[LabeledMessage]:
        """Yield every message."""
        for source, label in self.sources:
            try:
                for message in read_messages(source):
                    yield LabeledMessage(message.raw, label, message.origin)
            except OSError as error:
                raise DatasetError(
                    f"{self.name}:{self.path}: {error.filename or source} cannot be read: {error.strerror}."
                ) from error


def _find_label_folders(path: Path) -> list[tuple[Path, Label]]:
    """Find the folders named ham and spam.

    Raises:
        DatasetError: one of them is missing or empty, or one lies in the other.
    """
    _require("folder", path, path.is_dir(), "is not a folder")
    names = {label.value: label for label in Label}
    found = [(below, names[below.name.lower()]) for below in _walk(path) if below != path and below.name.lower() in names]
    for outer, label in found:
        for inner, other in found:
            if inner != outer and inner.is_relative_to(outer) and label is not other:
                raise DatasetError(f"folder:{path}: {inner} lies inside {outer}, so that its label is unclear; move one of them.")
    outermost = [
        (below, label) for below, label in found if not any(below != other and below.is_relative_to(other) for other, _ in found)
    ]
    for label in Label:
        mine = [below for below, its in outermost if its is label]
        _require(
            "folder", path, bool(mine), f"holds no folder named {label}; it needs one named ham and one named spam, at any depth"
        )
        _require("folder", path, any(_has_files(below) for below in mine), f"holds no message in its folder named {label}")
    return outermost


def _label_by_name(root: Path, mailbox: Path) -> Label | None:
    """Judge a Maildir by its own name, which Maildir++ writes as `.Parent.Child`; None where its mail is not to be learned."""
    if mailbox == root:
        return Label.HAM
    names = [name for part in mailbox.relative_to(root).parts for name in part.split(".") if name]
    if any(_UNJUDGED.fullmatch(name) for name in names):
        return None
    return Label.SPAM if any(_JUNK.fullmatch(name) for name in names) else Label.HAM


def _contents(mailbox: Path, label: Label) -> list[tuple[Path, Label]]:
    """Name the two folders of a Maildir that hold delivered mail; `tmp` holds what is still being written."""
    return [(mailbox / name, label) for name in ("cur", "new") if (mailbox / name).is_dir()]


def _is_maildir(path: Path) -> bool:
    """Tell a Maildir from other folders."""
    return (path / "cur").is_dir() or (path / "new").is_dir()


def _has_files(path: Path) -> bool:
    """Tell whether any file lies below."""
    return any(files for _, _, files in os.walk(path))


def _walk(path: Path) -> Iterator[Path]:
    """Yield a folder and all folders below, sorted, without following links.

    Raises:
        DatasetError: a folder cannot be read.
    """
    for folder_name, below, _ in os.walk(path, onerror=_refuse):
        below.sort()
        yield Path(folder_name)


def _refuse(error: OSError) -> None:
    """Turn a failure to list a folder into an error; os.walk would pass over it in silence."""
    raise DatasetError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _label(dataset: str, path: Path, value: str) -> Label:
    """Read the option `label`."""
    try:
        return Label(value.lower())
    except ValueError:
        raise DatasetError(f"{dataset}:{path}: label={value} is neither ham nor spam.") from None


def _require(dataset: str, path: Path, is_so: bool, otherwise: str) -> None:
    """Raise a DatasetError that names dataset and path unless a condition holds."""
    if not is_so:
        raise DatasetError(f"{dataset}:{path} {otherwise}.")
