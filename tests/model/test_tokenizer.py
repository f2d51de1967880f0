"""Text to ids: the same as the trainer of the vocabulary, within the budget, and in bounded time for hostile text."""

import base64
import json
import time
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from spamd.errors import CheckpointError
from spamd.model.tokenizer import (
    END_OF_TEXT,
    MAX_CHARACTERS_PER_TOKEN,
    MAX_TOKEN_CHARACTERS,
    Tokenizer,
    _byte_level_values,
    convert_published,
    train_vocabulary,
    vocabulary_bytes,
)

TEXTS = [
    "Dear customer, your parcel could not be delivered. Please confirm your address within 24 hours.",
    "Hi Anna, shall we meet at 10:30 on Tuesday? I'll bring the minutes, they're ready; we've time.",
    "Liebe Grüße aus Köln, und vielen Dank für die schönen Blumen! Ça va? Où êtes-vous?",
    "尊敬的客户您的账户已被锁定。请立即点击链接。",
    "Уважаемый клиент! Ваш счёт заблокирован, перейдите по ссылке.",
    "FREE!!! $$$ 100% risk-free ===> http://example.com/win?id=42&x=%20 <=== 💰💰💰",
    "\tdef f(x):\n\t\treturn x  # indented\r\n\r\n   \n\n\n",
] * 20


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small vocabulary, trained on a few texts in several scripts."""
    file = tmp_path_factory.mktemp("vocabulary") / "small.tiktoken"
    train_vocabulary(TEXTS, 600, file)
    return file


@pytest.fixture(scope="module")
def tokenizer(vocabulary: Path) -> Tokenizer:
    """The tokenizer of that vocabulary."""
    return Tokenizer.from_file(vocabulary)


@pytest.fixture(scope="module")
def reference() -> tokenizers.Tokenizer:
    """The same vocabulary, trained anew and encoded by the library that trained it."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=599,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=MAX_TOKEN_CHARACTERS,
        show_progress=False,
    )
    model.train_from_iterator(TEXTS, trainer)
    return model


@pytest.mark.parametrize(
    "text", [*TEXTS[:7], " ".join(TEXTS[:7]), "'s 't're  'LL x's", "a\u0301\u200d\ufeff\u00a0\u3000b", "\x00\x01"]
)
def test_ids_equal_those_of_the_trainer(tokenizer: Tokenizer, reference: tokenizers.Tokenizer, text: str) -> None:
    """Encoder (tiktoken) and trainer (tokenizers) agree on texts in many scripts."""
    assert reference.encode(text).ids == tokenizer.encode(text, 10_000).ids


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(min_size=1), st.lists(st.sampled_from(TEXTS[:7] + list(" \n\t'aä漢!"))).map("".join)))
def test_ids_equal_those_of_the_trainer_on_any_text(tokenizer: Tokenizer, reference: tokenizers.Tokenizer, text: str) -> None:
    """Encoder (tiktoken) and trainer (tokenizers) agree on made-up Unicode."""
    assert reference.encode(text).ids == (tokenizer.encode(text, 100_000).ids if text else [])


@settings(deadline=None)
@given(text=st.text())
def test_short_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    """Within the budget, decoding the ids gives the text."""
    encoded = tokenizer.encode(text, 10_000)

    assert text == tokenizer.decode(encoded.ids)
    assert not encoded.is_truncated


@settings(deadline=None)
@given(text=st.text(st.characters(categories=["Cs", "Lu", "Zs"])), budget=st.integers(1, 20))
def test_any_text_gives_between_one_and_the_budget(tokenizer: Tokenizer, text: str, budget: int) -> None:
    """Even lone surrogates and nothing at all give at least one id, and never more than the budget."""
    ids = tokenizer.encode(text, budget).ids

    assert 1 <= len(ids) <= budget
    assert all(0 <= number < tokenizer.vocab_size for number in ids)


def test_empty_text_is_one_end_of_text(tokenizer: Tokenizer) -> None:
    """The model always has a last token to read."""
    encoded = tokenizer.encode("", 8)

    assert [tokenizer.end_of_text] == encoded.ids
    assert not encoded.is_truncated
    assert "" == tokenizer.decode(encoded.ids)


def test_special_tokens_in_a_message_are_text(tokenizer: Tokenizer) -> None:
    """A message cannot write the id that ends a text."""
    ids = tokenizer.encode(f"a {END_OF_TEXT} b", 100).ids

    assert tokenizer.end_of_text not in ids
    assert f"a {END_OF_TEXT} b" == tokenizer.decode(ids)


@pytest.mark.parametrize(("budget", "head", "tail"), [(8, 6, 2), (10, 8, 2), (4, 3, 1), (3, 3, 0), (1, 1, 0)])
def test_long_text_keeps_head_and_tail(byte_tokenizer: Tokenizer, budget: int, head: int, tail: int) -> None:
    """Three quarters of the budget read the beginning, one quarter reads the end."""
    text = "abcdefghijklmnopqrstuvwxyz"

    encoded = byte_tokenizer.encode(text, budget)

    assert text[:head] + text[len(text) - tail :] == byte_tokenizer.decode(encoded.ids)
    assert encoded.is_truncated


@pytest.mark.parametrize("length", [8 * MAX_CHARACTERS_PER_TOKEN, 8 * MAX_CHARACTERS_PER_TOKEN + 1, 10_000])
def test_cutting_characters_first_changes_nothing(byte_tokenizer: Tokenizer, length: int) -> None:
    """Text cut before it is tokenised gives the head and tail that the whole text gives."""
    text = "".join(chr(97 + number % 26) for number in range(length))

    encoded = byte_tokenizer.encode(text, 8)

    assert text[:6] + text[-2:] == byte_tokenizer.decode(encoded.ids)
    assert encoded.is_truncated


def test_text_that_just_fits_is_whole(byte_tokenizer: Tokenizer) -> None:
    """A text of exactly the budget is not truncated."""
    assert not byte_tokenizer.encode("x" * 8, 8).is_truncated
    assert byte_tokenizer.encode("x" * 9, 8).is_truncated


@pytest.mark.parametrize(
    "piece", ["a", " ", "\n", "=", "é", "漢", "\u200d", "\ud800", "a ", " \t", "'s", "1", "aA1!", "\U0001f4b0", "\u0301"]
)
def test_hostile_text_takes_bounded_time(tokenizer: Tokenizer, piece: str) -> None:
    """A megabyte of anything is tokenised in a moment, since it is cut first."""
    text = piece * (1_000_000 // len(piece))

    start = time.perf_counter()
    ids = tokenizer.encode(text, 1024).ids

    assert time.perf_counter() - start < 0.5
    assert len(ids) <= 1024


def test_budget_below_one_is_refused(tokenizer: Tokenizer) -> None:
    """A budget that leaves nothing to read is a programmer's mistake."""
    with pytest.raises(ValueError, match="budget of 0 tokens"):
        tokenizer.encode("text", 0)


def test_vocabulary_has_the_size_asked_for(tokenizer: Tokenizer) -> None:
    """The size counts the end of text; ids are the ranks, bytes first."""
    assert 600 == tokenizer.vocab_size
    assert 599 == tokenizer.end_of_text


def test_tokens_are_not_longer_than_allowed(vocabulary: Path) -> None:
    """No boilerplate line becomes a single token."""
    tokens = [base64.b64decode(line.split()[0]) for line in vocabulary.read_bytes().splitlines()]

    assert max(map(len, tokens)) <= MAX_TOKEN_CHARACTERS


def test_training_twice_gives_the_same_file(vocabulary: Path, tmp_path: Path) -> None:
    """The same texts give the same vocabulary, byte for byte."""
    train_vocabulary(iter(TEXTS), 600, tmp_path / "again.tiktoken")

    assert vocabulary.read_bytes() == (tmp_path / "again.tiktoken").read_bytes()


def test_few_texts_give_a_smaller_vocabulary(tmp_path: Path) -> None:
    """Where there is nothing more to merge, fewer ids come out."""
    train_vocabulary(["ab ab"], 5000, tmp_path / "v.tiktoken")

    assert 256 < Tokenizer.from_file(tmp_path / "v.tiktoken").vocab_size < 270


def test_vocabulary_without_room_is_refused(tmp_path: Path) -> None:
    """A size that does not even hold the bytes is a programmer's mistake."""
    with pytest.raises(ValueError, match="vocabulary of 256 has no room"):
        train_vocabulary(["x"], 256, tmp_path / "v.tiktoken")


def test_sha256_is_that_of_the_file(vocabulary: Path, tokenizer: Tokenizer) -> None:
    """The content and its checksum can be stored with a checkpoint."""
    assert vocabulary.read_bytes() == tokenizer.content
    assert Tokenizer(tokenizer.content, "copy").sha256 == tokenizer.sha256


# Published vocabularies


def _published(ranks: dict[bytes, int]) -> bytes:
    """Write ranks as the `vocab.json` of a published model."""
    characters = {value: character for character, value in _byte_level_values().items()}
    tokens = {"".join(characters[value] for value in token): rank for token, rank in ranks.items()}
    return json.dumps(tokens | {END_OF_TEXT: len(ranks)}).encode()


def test_byte_level_alphabet_is_that_of_the_trainer() -> None:
    """Our table of stand-ins has the characters of the library's alphabet, one for each byte."""
    values = _byte_level_values()

    assert set(tokenizers.pre_tokenizers.ByteLevel.alphabet()) == set(values)
    assert set(range(256)) == set(values.values())
    assert (32, 0, 65, 0xAD) == (values["Ġ"], values["Ā"], values["A"], values["Ń"])


def test_published_vocabulary_converts(tokenizer: Tokenizer, vocabulary: Path) -> None:
    """A `vocab.json` gives the same ids as the file that it was made from, and the end of text is the id after the last."""
    lines = (line.split() for line in vocabulary.read_bytes().splitlines())
    published = _published({base64.b64decode(token): int(rank) for token, rank in lines})

    converted = Tokenizer(convert_published(published), "vocab.json")

    assert tokenizer.content == converted.content
    assert 599 == converted.end_of_text


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": "b"}', b'{"\xe6\xbc\xa2": 1}', b'{"a": {}}', b"\xff"])
def test_file_that_is_no_published_vocabulary_is_one_sentence(content: bytes) -> None:
    """Anything but a byte-level `vocab.json` is refused."""
    with pytest.raises(CheckpointError, match=r"vocab\.json: is not"):
        convert_published(content)


BYTES = {bytes([value]): value for value in range(256)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no byte-level vocabulary"),
        (vocabulary_bytes({**BYTES, b"ab": 257}), "is no byte-level vocabulary"),
        (vocabulary_bytes(BYTES) + vocabulary_bytes(BYTES), "is no byte-level vocabulary"),
        (vocabulary_bytes({**{k: v for k, v in BYTES.items() if k != b"z"}, b"zz": 122}), "is no byte-level vocabulary"),
        (b"YQ==\n", "line 1 is not"),
        (b"YQ== one\n", "line 1 is not"),
        (b"YQ== 0\n\n", "line 2 is not"),
        (b"Y 0\n", "line 1 is not"),
    ],
)
def test_damaged_vocabulary_is_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    """Gaps, doublets, missing bytes and broken lines are refused, and the file is named."""
    (tmp_path / "v.tiktoken").write_bytes(content)

    with pytest.raises(CheckpointError, match=rf"v\.tiktoken: {words}"):
        Tokenizer.from_file(tmp_path / "v.tiktoken")


def test_missing_vocabulary_is_one_sentence(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(CheckpointError, match=r"v\.tiktoken: the vocabulary cannot be read: No such file"):
        Tokenizer.from_file(tmp_path / "v.tiktoken")


def test_padding_is_read_like_text_where_it_is_asked_for(byte_tokenizer: Tokenizer) -> None:
    """Short texts are filled up with the end of text, long ones are not, and the budget is kept."""
    padded = byte_tokenizer.padding_to(6)

    assert [*b"ab", 256, 256, 256, 256] == padded.encode("ab", 100).ids
    assert [*b"abcdefgh"] == padded.encode("abcdefgh", 100).ids
    assert 4 == len(padded.encode("ab", 4).ids)
    assert not padded.encode("ab", 100).is_truncated
    assert [*b"ab"] == padded.padding_to(0).encode("ab", 100).ids
