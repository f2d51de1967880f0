"""Cut text into tokens now this way, now that: byte-pair merges are left out at random (Provilkov et al. 2020, "BPE-Dropout").

A word that is met in several spellings teaches its parts as well as itself, so that words never met, words in capitals and words
in disguise are not strangers. For training alone: scoring cuts text in the one way of `spamd.model.tokenizer`. Called by
`default_checkpoint.py`.
"""

import itertools

import tokenizers
from tokenizers import models, pre_tokenizers

from spamd.model.tokenizer import Tokenizer, byte_level, read_ranks

CHARACTERS_PER_TOKEN = 12
"""So many characters are cut into tokens at the most for each token of the budget."""


class LooseTokens:
    """Encodes with merges left out.

    Args:
        tokenizer: whose vocabulary it is.
        dropout: share of the merges that are left out, 0.0 to 1.0; with 0.0 the ids are the tokenizer's own.
    """

    def __init__(self, tokenizer: Tokenizer, dropout: float) -> None:
        ranks = read_ranks(tokenizer.content, "the vocabulary")
        written = {token: byte_level(token) for token in ranks}
        vocabulary = {written[token]: rank for token, rank in ranks.items()}
        pairs = (_halves(token, ranks) for token in sorted(ranks, key=ranks.__getitem__) if len(token) > 1)
        merges = [(written[left], written[right]) for left, right in pairs]
        self._model = tokenizers.Tokenizer(models.BPE(vocabulary, merges, dropout=dropout or None))
        self._model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        self._end_of_text = tokenizer.end_of_text

    def encode(self, text: str, max_tokens: int) -> list[int]:
        """Turn text into ids; of long text the first three quarters of the budget and the last quarter are kept."""
        most = max_tokens * CHARACTERS_PER_TOKEN
        if len(text) > most:
            text = text[: most * 3 // 4] + text[-most // 4 :]
        ids: list[int] = self._model.encode(text).ids or [self._end_of_text]
        if len(ids) <= max_tokens:
            return ids
        num_tail = max_tokens // 4
        return ids[: max_tokens - num_tail] + ids[len(ids) - num_tail :]


def _halves(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Find the two tokens that are merged into this one: what is left of it when only merges of lower rank are made.

    Raises:
        ValueError: the vocabulary has no such two, so it was not learned by merging pairs.
    """
    pieces = [bytes([value]) for value in token]
    while len(pieces) > 2:  # noqa: PLR2004
        joined = (left + right for left, right in itertools.pairwise(pieces))
        rank, place = min((ranks.get(piece, ranks[token]), place) for place, piece in enumerate(joined))
        if rank >= ranks[token]:
            raise ValueError(f"the token {token!r} is no merge of two others")
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
    return pieces[0], pieces[1]
