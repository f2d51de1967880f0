"""Text to token ids within a budget, and vocabularies made and converted.

A vocabulary is one `.tiktoken` file (a line for each token: base64 of its bytes, a space, its rank) that lies in the checkpoint
folder; nothing is ever downloaded here. Splitting into pieces before merging is always GPT-2's (`SPLITTING` names it in
checkpoints). Text is cut to a number of characters first, so that hostile text costs no more than long text. Called by
`inference` and `training` (encoding), `checkpoint` (loading), `fetch` (the published vocabulary) and the recipe of the
default checkpoint (training one).
"""

import base64
import binascii
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Self

import tiktoken
import tokenizers

from spamd.errors import CheckpointError

SPLITTING: Final = "gpt2"
"""Name of the pattern below, as checkpoints record it."""

_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""

MAX_CHARACTERS_PER_TOKEN = 12
"""Text is cut to this many characters for each token of the budget; real mail has 2 to 5 a token."""

MAX_TOKEN_CHARACTERS = 32
"""Longest token that `train_vocabulary` makes: enough for words and rulers, too short to learn a boilerplate line."""

END_OF_TEXT = "<|endoftext|>"
"""How published vocabularies spell the id beyond the ranks; never looked for in text."""

_NUM_BYTES = 256


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the model reads of one text.

    Attributes:
        ids: token ids, at least one.
        is_truncated: whether some of the text was left out.
    """

    ids: list[int]
    is_truncated: bool


class Tokenizer:
    """A byte-level vocabulary at work.

    Args:
        content: a vocabulary as a `.tiktoken` file holds it; ranks count from 0 without a gap, every single byte is a token.
        origin: where it came from, for error texts.
        pad_to: tokens that every text is filled up to with `end_of_text`, as far as its budget allows; 0 for none.

    Attributes:
        content: the same, to be stored with a checkpoint.
        sha256: of the content, lower-case hex.
        end_of_text: the one id beyond the ranks: it separates documents, fills padding and stands for empty text.
        vocab_size: number of ids, `end_of_text` included.
        pad_to: as given.

    Raises:
        CheckpointError: it is no such vocabulary.
    """

    def __init__(self, content: bytes, origin: str, *, pad_to: int = 0) -> None:
        ranks = read_ranks(content, origin)
        self.content = content
        self.pad_to = pad_to
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.end_of_text = len(ranks)
        self.vocab_size = len(ranks) + 1
        # No special tokens: END_OF_TEXT in a message is text like any other.
        self._encoding = tiktoken.Encoding(self.sha256, pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens={})

    @classmethod
    def from_file(cls, file: Path, *, pad_to: int = 0) -> Self:
        """Read a `.tiktoken` file.

        Args:
            file: the vocabulary.
            pad_to: as in the class.

        Returns:
            A tokenizer for it.

        Raises:
            CheckpointError: the file cannot be read or is no byte-level vocabulary.
        """
        try:
            return cls(file.read_bytes(), str(file), pad_to=pad_to)
        except OSError as error:
            raise CheckpointError(f"{file}: the vocabulary cannot be read: {error.strerror}.") from None

    def padding_to(self, pad_to: int) -> "Tokenizer":
        """Return the same vocabulary that fills texts up to so many tokens."""
        return Tokenizer(self.content, "the same vocabulary", pad_to=pad_to)

    def encode(self, text: str, max_tokens: int) -> Encoded:
        """Turn text into ids; of long text keep the first three quarters of the budget and the last quarter.

        Args:
            text: any string; lone surrogates become replacement characters.
            max_tokens: the budget, at least 1.

        Returns:
            Between 1 and `max_tokens` ids. Text is not searched for special tokens.

        Raises:
            ValueError: the budget is below 1.
        """
        if max_tokens < 1:
            raise ValueError(f"a budget of {max_tokens} tokens leaves nothing to read")
        num_tail = tail_of(max_tokens)
        num_head = max_tokens - num_tail
        if len(text) <= max_tokens * MAX_CHARACTERS_PER_TOKEN:
            ids = self._encoding.encode_ordinary(text) or [self.end_of_text]
            is_truncated = len(ids) > max_tokens
            return self._fill(cut(ids, max_tokens), max_tokens, is_truncated)
        head = self._encoding.encode_ordinary(text[: num_head * MAX_CHARACTERS_PER_TOKEN])
        tail = self._encoding.encode_ordinary(text[len(text) - num_tail * MAX_CHARACTERS_PER_TOKEN :])
        return self._fill(head[:num_head] + tail[max(len(tail) - num_tail, 0) :], max_tokens, is_truncated=True)

    def _fill(self, ids: list[int], max_tokens: int, is_truncated: bool) -> Encoded:
        """Fill ids up to `pad_to`."""
        return Encoded(ids + [self.end_of_text] * (min(self.pad_to, max_tokens) - len(ids)), is_truncated)

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids back into text, for people to read; `end_of_text` gives nothing, broken UTF-8 replacement characters."""
        return self._encoding.decode([number for number in ids if number != self.end_of_text])

    def extent(self, text: str, max_tokens: int) -> tuple[int, int]:
        """Tell how much of a text a budget keeps.

        Args:
            text: as for `encode`.
            max_tokens: likewise.

        Returns:
            Characters from the beginning and characters at the end; all and 0 where the text fits the budget.
        """
        encoded = self.encode(text, max_tokens)
        if not encoded.is_truncated:
            return len(text), 0
        num_head = max_tokens - tail_of(max_tokens)
        # Of a character that the budget cuts in two no part counts.
        head, tail = (self.decode(ids).strip("\ufffd") for ids in (encoded.ids[:num_head], encoded.ids[num_head:]))
        return len(head), len(tail)


def cut(ids: list[int], max_tokens: int) -> list[int]:
    """Keep the first three quarters of a budget and the last quarter of ids that are more."""
    if len(ids) <= max_tokens:
        return ids
    num_tail = tail_of(max_tokens)
    return ids[: max_tokens - num_tail] + ids[len(ids) - num_tail :]


def tail_of(max_tokens: int) -> int:
    """Tell how much of a budget is for the end of longer text: a quarter."""
    return max_tokens // 4


def read_ranks(content: bytes, origin: str) -> dict[bytes, int]:
    """Read the lines of a `.tiktoken` file.

    Args:
        content: of the file.
        origin: where it came from, for the error alone.

    Returns:
        Bytes of a token -> rank, which is its id.

    Raises:
        CheckpointError: it is no such vocabulary.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise CheckpointError(f"{origin}: line {number} is not a base64 token and its rank.") from None
    has_every_byte = all(bytes([value]) in ranks for value in range(_NUM_BYTES))
    if not has_every_byte or sorted(ranks.values()) != list(range(len(content.splitlines()))):
        raise CheckpointError(f"{origin}: is no byte-level vocabulary, which has ranks from 0 without gaps and all 256 bytes.")
    return ranks


def vocabulary_bytes(ranks: Mapping[bytes, int]) -> bytes:
    """Write ranks as the content of a `.tiktoken` file, in rank order."""
    ordered = sorted(ranks.items(), key=lambda item: item[1])
    return b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in ordered)


def convert_published(vocab_json: bytes) -> bytes:
    """Turn the `vocab.json` that published models come with into the content of a `.tiktoken` file.

    The ids in it count up in the order of the merges, so they are the ranks, and `merges.txt` adds nothing.

    Args:
        vocab_json: byte-level token -> id, with `<|endoftext|>` as the last one.

    Returns:
        The vocabulary without `<|endoftext|>`.

    Raises:
        CheckpointError: it is no such file.
    """
    try:
        ids = {token: number for token, number in json.loads(vocab_json).items() if token != END_OF_TEXT}
        return vocabulary_bytes(_as_bytes(ids))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise CheckpointError("vocab.json: is not a byte-level vocabulary as published with GPT-2.") from None


def train_vocabulary(texts: Iterable[str], vocab_size: int, file: Path) -> None:
    """Learn a byte-pair vocabulary and write it as a `.tiktoken` file.

    Args:
        texts: the texts, as the model will read them.
        vocab_size: ids wanted, `end_of_text` included; above 256. Fewer come out where the texts give no more merges.
        file: where to write; replaced if it exists.

    Raises:
        ValueError: the size leaves no room for the single bytes.
    """
    if vocab_size <= _NUM_BYTES:
        raise ValueError(f"a vocabulary of {vocab_size} has no room for the {_NUM_BYTES} single bytes and the end of text")
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=MAX_TOKEN_CHARACTERS,
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    file.write_bytes(vocabulary_bytes(_as_bytes(model.get_vocab())))


def _as_bytes(vocabulary: Mapping[str, int]) -> dict[bytes, int]:
    """Map byte-level characters, in which published vocabularies are written, back to the bytes that they stand for."""
    values = _byte_level_values()
    return {bytes(values[character] for character in token): number for token, number in vocabulary.items()}


def byte_level(token: bytes) -> str:
    """Write bytes in the characters that published vocabularies are written in."""
    return "".join(_byte_level_characters()[value] for value in token)


@cache
def _byte_level_characters() -> dict[int, str]:
    """GPT-2's alphabet the other way round."""
    return {value: character for character, value in _byte_level_values().items()}


def _byte_level_values() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 characters stand for their own byte, U+0100 and up for the others in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(_NUM_BYTES) if value not in printable]
    stand_ins = zip(itertools.count(_NUM_BYTES), others, strict=False)
    return {chr(value): value for value in printable} | {chr(character): value for character, value in stand_ins}
