"""Datasets that come as tables: CSV files, and the UCI SMS Spam Collection.

A row has text and perhaps a subject, no message, so each becomes a minimal message that the rest reads like any other. pandas
parses, a thousand rows at a time and every cell as text: no word, such as NA, null or nan, is taken for a missing value.
Called by `datasets`, which registers both.
"""

import codecs
import csv as plain_csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from spamd.errors import DatasetError
from spamd.interfaces import LabeledMessage, MessageDataset
from spamd.mail.text import text_message
from spamd.verdict import Label

ROWS_AT_ONCE = 1000
OPTIONS = ("text", "label", "subject", "spam", "ham", "header", "delimiter", "encoding", "quoting")

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "label": ("label", "class", "category", "target", "is_spam", "isspam", "spam", "type", "v1"),
    "text": ("text", "message", "body", "content", "email", "mail", "sms", "msg", "v2"),
    "subject": ("subject", "title"),
}
"""Names, lower-case, by which a column is known where no option names it; the first found counts."""

_VALUES: Mapping[str, Label] = {
    **dict.fromkeys(("ham", "0", "0.0", "not spam", "not_spam", "no", "false", "legitimate"), Label.HAM),
    **dict.fromkeys(("spam", "1", "1.0", "yes", "true"), Label.SPAM),
}
_DELIMITERS = (",", ";", "\t", "|")
_DELIMITER_NAMES = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", r"\t": "\t"}


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows of a file as labelled messages.

    Attributes:
        file: the file.
        reading: arguments for pandas.
        num_lines_before: lines above the first row.
        columns: position of the columns `label` and `text`, and of `subject` where there is one.
        values: label by cell, lower-case; the key "" stands for every other cell.
    """

    file: Path
    reading: Mapping[str, Any]
    num_lines_before: int
    columns: Mapping[str, int]
    values: Mapping[str, Label]

    def __iter__(self) -> Iterator[LabeledMessage]:
        """Yield a message a row; rows that are blank throughout are passed over."""
        for line, cells in self._rows():
            if any(cell.strip() for cell in cells):
                subject = cells[self.columns["subject"]] if "subject" in self.columns else ""
                yield LabeledMessage(
                    text_message(cells[self.columns["text"]], subject), self._label(line, cells), f"{self.file} line {line}"
                )

    def _rows(self) -> Iterator[tuple[int, Sequence[str]]]:
        """Yield the line on which a row begins, and its cells; quoted cells may run over several lines."""
        line = self.num_lines_before + 1
        try:
            with pd.read_csv(self.file, chunksize=ROWS_AT_ONCE, **self.reading) as chunks:
                for chunk in chunks:
                    for row in chunk.itertuples(index=False, name=None):
                        cells = [cell if isinstance(cell, str) else "" for cell in row]
                        yield line, cells
                        line += 1 + sum(cell.count("\n") for cell in cells)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise DatasetError(
                f"{self.file}: is not a table that can be read after line {line - 1}: {str(error).strip()}."
            ) from error
        except OSError as error:
            raise DatasetError(f"{self.file}: cannot be read: {error.strerror}.") from error

    def _label(self, line: int, cells: Sequence[str]) -> Label:
        """Read a row's label."""
        cell = cells[self.columns["label"]].strip().lower()
        label = self.values.get(cell, self.values.get(""))
        if label is None:
            known = ", ".join(sorted(value for value in self.values if value))
            raise DatasetError(
                f"{self.file} line {line}: the label {cell!r} is none of {known}; name the one that means spam with ?spam=VALUE."
            )
        return label


def csv(path: Path, **options: str) -> MessageDataset:
    """Open a CSV file with a column of labels and a column of texts.

    Options: `text`, `label` and `subject` name columns (or count them from 1 where the file has no header), `spam` and `ham` the
    cells that mean spam and ham (with one of them alone, every other cell means the opposite), `header=no` says that there is no
    header, `delimiter` the character between cells (or tab, comma, semicolon, pipe), `quoting=none` reads quotation marks as
    text, `encoding` is found out where it is not given.

    Raises:
        DatasetError: the file is missing or empty, or its columns cannot be told.
    """
    _check_options(path, options)
    encoding = options.get("encoding") or _find_encoding(path)
    quoting = plain_csv.QUOTE_NONE if options.get("quoting") == "none" else plain_csv.QUOTE_MINIMAL
    delimiter, header = _find_header(path, encoding, quoting, options.get("delimiter", ""))
    has_header = _has_header(header, options)
    reading = _reading(delimiter, encoding, quoting, num_columns=len(header), has_header=has_header)
    num_lines_before = 1 + sum(cell.count("\n") for cell in header) if has_header else 0
    columns = _find_columns(path, header, options) if has_header else _guess_columns(path, header, options)
    return _Table(path, reading, num_lines_before, columns, _find_values(options))


def sms_spam_collection(path: Path, **options: str) -> MessageDataset:
    """Open the UCI SMS Spam Collection: `ham` or `spam`, a tab, a text, and no quoting, one message a line.

    Raises:
        DatasetError: the file is missing, or an option was given.
    """
    if options:
        raise DatasetError(f"Dataset sms-spam-collection has no option named {min(options)!r}; it has no options.")
    file = path / "SMSSpamCollection" if path.is_dir() else path
    if not file.is_file():
        raise DatasetError(f"sms-spam-collection:{path} is neither the file SMSSpamCollection nor a folder that holds it.")
    if len(_first_record(file, "utf-8", plain_csv.QUOTE_NONE, "\t")) != 2:  # noqa: PLR2004  a label and a text
        raise DatasetError(f"{file} line 1: is not a label, a tab and a text; this is not the SMS Spam Collection.")
    reading = _reading("\t", "utf-8", plain_csv.QUOTE_NONE, num_columns=2, has_header=False)
    return _Table(file, reading, 0, {"label": 0, "text": 1}, {"ham": Label.HAM, "spam": Label.SPAM})


def _reading(delimiter: str, encoding: str, quoting: int, *, num_columns: int, has_header: bool) -> dict[str, Any]:
    """Choose pandas' arguments: cells stay as they stand in the file, and numbers name the columns."""
    lines = {"lineterminator": "\n"} if quoting == plain_csv.QUOTE_NONE else {}
    return {
        "sep": delimiter,
        "encoding": encoding,
        "quoting": quoting,
        "header": 0 if has_header else None,
        "names": range(num_columns),
        "index_col": False,
        "dtype": str,
        "na_filter": False,
        "skip_blank_lines": False,
        **lines,
    }


def _check_options(path: Path, options: Mapping[str, str]) -> None:
    """Refuse options that cannot be used."""
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise DatasetError(f"Dataset csv has no option named {unknown[0]!r}; its options are {', '.join(OPTIONS)}.")
    if not path.is_file():
        raise DatasetError(f"csv:{path} is not a file.")
    if options.get("quoting", "none") != "none":
        raise DatasetError(f"csv:{path}: quoting={options['quoting']} is not known; write quoting=none, or leave it out.")
    if "encoding" in options:
        try:
            # Not `codecs.lookup`, which finds base64 too.
            "".encode(options["encoding"])
        except (LookupError, ValueError):
            raise DatasetError(
                f"csv:{path}: encoding={options['encoding']!r} is not known; write utf-8, latin-1 or another encoding of text."
            ) from None


def _find_encoding(file: Path) -> str:
    """Tell UTF-16 by its mark, UTF-8 by its being valid; everything else counts as Latin-1, in which no byte is wrong."""
    with file.open("rb") as stream:
        start = stream.read(4)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        stream.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while block := stream.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8-sig"


def _find_header(file: Path, encoding: str, quoting: int, delimiter: str) -> tuple[str, list[str]]:
    """Read the first record with the delimiter given, or the one that cuts it into most cells.

    Returns:
        The delimiter, and the cells of the first record.
    """
    given = _DELIMITER_NAMES.get(delimiter, delimiter)
    if len(given) > 1:
        raise DatasetError(f"csv:{file}: delimiter={delimiter} is not one character; write it, or tab, comma, semicolon or pipe.")
    records = {candidate: _first_record(file, encoding, quoting, candidate) for candidate in ((given,) if given else _DELIMITERS)}
    best = max(records, key=lambda candidate: len(records[candidate]))
    if len(records[best]) < 2:  # noqa: PLR2004  a label and a text
        raise DatasetError(f"csv:{file}: its first line has no two columns; name the character between them with ?delimiter=.")
    return best, records[best]


def _first_record(file: Path, encoding: str, quoting: int, delimiter: str) -> list[str]:
    """Read the first record; empty where there is none."""
    try:
        with file.open(encoding=encoding, newline="") as stream:
            reader: Iterator[list[str]] = plain_csv.reader(stream, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
            return next(reader, [])
    except (plain_csv.Error, UnicodeError) as error:
        raise DatasetError(f"csv:{file}: its first line cannot be read: {error}.") from error


def _find_columns(file: Path, names: Sequence[str], options: Mapping[str, str]) -> dict[str, int]:
    """Find the columns by the names that options give, or by those that are usual.

    Raises:
        DatasetError: a named column is absent, or none is recognised; lists those there are.
    """
    plain = [name.strip().lower() for name in names]
    columns: dict[str, int] = {}
    for role, usual in _COLUMNS.items():
        wanted = (options[role].strip().lower(),) if role in options else usual
        position = next((plain.index(name) for name in wanted if name in plain), None)
        if position is not None:
            columns[role] = position
        elif role in options or role != "subject":
            missing = f"no column named {options[role]!r}" if role in options else f"no column that is known to hold the {role}"
            raise DatasetError(f"csv:{file}: has {missing}; its columns are {', '.join(names)}. Name one with ?{role}=COLUMN.")
    return columns


def _has_header(first: Sequence[str], options: Mapping[str, str]) -> bool:
    """Tell whether the first record names columns: it does unless a cell is a label and none is the name of a column of texts."""
    plain = {cell.strip().lower() for cell in first}
    if "header" in options:
        return options["header"].lower() not in ("no", "0", "false", "none")
    names_text = plain & {options.get("text", "").strip().lower(), *_COLUMNS["text"]}
    return bool(names_text) or not plain & set(Label)


def _guess_columns(file: Path, first: Sequence[str], options: Mapping[str, str]) -> dict[str, int]:
    """Find the columns of a file without a header, counted from 1: a label in one cell, the text in the longest other."""
    numbers = [str(number) for number in range(1, len(first) + 1)]
    label = next((number for number, cell in zip(numbers, first, strict=True) if cell.strip().lower() in set(Label)), None)
    if label is None:
        return _find_columns(file, numbers, options)
    text = max((number for number in numbers if number != label), key=lambda number: len(first[int(number) - 1]))
    return _find_columns(file, numbers, {"label": label, "text": text, **options})


def _find_values(options: Mapping[str, str]) -> dict[str, Label]:
    """Choose which cells mean what."""
    named = {options[label.value].strip().lower(): label for label in Label if label.value in options}
    if len(named) == 1:
        (label,) = named.values()
        return {**named, "": Label.HAM if label is Label.SPAM else Label.SPAM}
    return named or dict(_VALUES)
