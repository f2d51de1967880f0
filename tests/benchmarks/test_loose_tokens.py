"""Text is cut into tokens now this way, now that, and always into the same text."""

import pytest
from loose_tokens import LooseTokens

from spamd.model.checkpoint import DEFAULT_FOLDER
from spamd.model.tokenizer import Tokenizer

TEXT = "Subject: Verify your account\n\nÜberprüfen Sie Ihr Konto innerhalb von 24 Stunden. 请立即验证您的帐户 🐉"


@pytest.fixture(scope="module")
def tokenizer():
    """The vocabulary that ships."""
    return Tokenizer.from_file(DEFAULT_FOLDER / "vocabulary.tiktoken")


def test_with_all_merges_the_ids_are_the_tokenizers_own(tokenizer):
    """The merges found again from the ranks are those that the vocabulary was learned with."""
    assert tokenizer.encode(TEXT, 200).ids == LooseTokens(tokenizer, 0.0).encode(TEXT, 200)


def test_with_merges_left_out_the_text_is_the_same(tokenizer):
    """Other tokens, more of them, that spell the same text."""
    ids = LooseTokens(tokenizer, 0.5).encode(TEXT, 200)

    assert len(tokenizer.encode(TEXT, 200).ids) < len(ids)
    assert tokenizer.decode(ids) == TEXT


def test_of_a_long_text_both_ends_are_kept(tokenizer):
    """Three quarters of the budget are for the beginning, one is for the end, as in scoring."""
    text = " first" * 5_000 + " last" * 5_000

    assert tokenizer.encode(text, 64).ids == LooseTokens(tokenizer, 0.0).encode(text, 64)


def test_nothing_is_one_token(tokenizer):
    """Empty text is the end of text, as in scoring."""
    assert [tokenizer.end_of_text] == LooseTokens(tokenizer, 0.1).encode("", 8)


def test_a_vocabulary_that_no_merges_make_is_refused(tokenizer):
    """A token whose parts are no tokens cannot be left out of a merge."""
    content = tokenizer.content + b"/fz9/P3+ %d\n" % tokenizer.end_of_text

    with pytest.raises(ValueError, match="is no merge of two others"):
        LooseTokens(Tokenizer(content, "here"), 0.1)
