"""What `checkpoint.json` says: everything about a checkpoint but its weights.

Fields and their checks only; files are opened in `checkpoint`. Written by `training`, read by `inference`, `service` and `cli`.
"""

from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from spamd import __version__
from spamd.model.gpt2 import GPT2Config
from spamd.model.tokenizer import SPLITTING
from spamd.model.windows import LongMail

FORMAT: Final = 1
"""Version of the folder's layout and of these fields; another one is refused."""

CLASS_NAMES = ("ham", "spam")

MOST_IN_A_RUN = 8
"""Characters or tokens of an n-gram."""

LEAST_STRETCH = 16
"""Tokens of a stretch; shorter ones would be many and say nothing."""
MOST_DOUBTED = 100.0
"""Logits; more would silence the table."""

MOST_COUNTED = 16_384
"""Tokens of a message that a table of n-grams reads, at the most: what a message costs stays bounded."""


class _Part(BaseModel):
    """A part of the card; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BaseNote(_Part):
    """What the training started from.

    Attributes:
        name: a published model, or the id of a checkpoint.
        sha256: of the published weights that the stored tensors complete; None where the checkpoint stands alone. What is trained
            from a checkpoint with such a base keeps both name and sha256.
    """

    name: str
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class HeadNote(_Part):
    """Which head it is.

    Attributes:
        name: the name it is registered under.
        options: what its factory was called with.
        plugin: name and version of the package that registered it, to be named where it is missing.
    """

    name: str = "last-token"
    options: dict[str, Any] = Field(default_factory=dict)
    plugin: str = f"spamd {__version__}"


class LoraNote(_Part):
    """Low-rank adapters that are stored beside the weights they change (Hu et al. 2021, arXiv 2106.09685).

    Attributes:
        rank: of each adapter.
        alpha: an adapter's output is multiplied by alpha / rank.
    """

    rank: int = Field(default=16, ge=1, le=65_536)
    alpha: float = Field(default=16.0, gt=0.0)


class NGramsNote(_Part):
    """A table of n-grams that speaks beside the head, see `ngrams`.

    Attributes:
        num_buckets: numbers in the table, a power of two.
        characters: lengths of the runs of characters, rising.
        tokens: lengths of the runs of tokens, rising.
        max_tokens: tokens of a message that are read for it, head and tail; never fewer than the trunk reads. It costs little,
            so it may read on where the trunk would take long. With windows it reads what they hold.
        stretch: tokens of a stretch; where one, less the doubt, says more for spam than the whole, it counts instead. 0 for
            the whole alone.
        opening: tokens of a message's beginning that stand before each stretch: sender and subject say what it is about.
        doubt: what the stretch that says most is doubted by, in logits.
        doubling: what a message loses, in logits, for each doubling of its length beyond a stretch's: in mail of a kind that was
            never seen much of what is new looks like spam, and in a long message there is more of it.
    """

    num_buckets: int = Field(default=2**21, ge=2, le=2**26)
    characters: tuple[int, ...] = Field(default=(2, 3, 4, 5, 6), min_length=1)
    tokens: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    max_tokens: int = Field(default=0, ge=0, le=MOST_COUNTED)
    stretch: int = Field(default=0, ge=0, le=MOST_COUNTED)
    opening: int = Field(default=0, ge=0, le=MOST_COUNTED)
    doubt: float = Field(default=0.0, ge=0.0, le=MOST_DOUBTED)
    doubling: float = Field(default=0.0, ge=0.0, le=MOST_DOUBTED)

    @model_validator(mode="after")
    def _fits_itself(self) -> Self:
        """Refuse sizes that no table has."""
        if self.num_buckets.bit_count() != 1:
            raise ValueError(f"num_buckets {self.num_buckets} is not a power of two")
        if 0 < self.stretch < LEAST_STRETCH:
            raise ValueError(f"stretch {self.stretch} must be 0 or at least {LEAST_STRETCH}")
        for name, orders in (("characters", self.characters), ("tokens", self.tokens)):
            if orders[0] < 1 or orders != tuple(sorted(set(orders))) or orders[-1] > MOST_IN_A_RUN:
                raise ValueError(f"{name} {orders} must rise from 1 or more to {MOST_IN_A_RUN} at the most")
        return self


class CheckpointCard(_Part):
    """The card of a checkpoint.

    Attributes:
        format: version of the layout.
        id: name of the checkpoint and of its folder, `YYYY-MM-DD-xxxxxx`; given when it is saved.
        created: when it was saved, ISO 8601 with the zone.
        spamd_version: of the program that saved it.
        trunk: sizes of the trunk.
        base: what the training started from.
        head: which head, and whose.
        ngrams: the table of n-grams that speaks beside it, or None where there is none.
        class_names: of the logits, in order.
        text_version: of the text that it was trained on; another text is refused.
        max_tokens: what the trunk reads of one message, or of one window of it.
        pad_to: tokens that every message is filled up to with `<|endoftext|>`, which the model then reads like text; 0 for
            none, as it should be: the reference recipe does it, and its verdicts depend on it.
        lora: the adapters, or None where there are none; loading joins them with the weights.
        long_mail: what is read of longer messages; temperature and threshold hold for this way alone.
        arithmetic: how a CPU computes it: `float`, or `int8`, whole numbers made of the stored weights.
        splitting: name of the pattern that splits text before it is tokenised.
        vocabulary_sha256: of `vocabulary.tiktoken`.
        weights_sha256: of `model.safetensors`.
        temperature: what logits are divided by, found by calibration.
        threshold: the score from which a message is spam, both ends excluded.
        threshold_interval: what the threshold lost of held-out ham: lower and upper end of the 95 % interval, as fractions.
        threshold_note: how the threshold was chosen, for people.
        datasets: what it was trained on, one mapping for each source, with counts.
        metrics: held-out figures.
        training: settings of the training, so that it can be repeated.
    """

    format: Literal[1] = FORMAT
    id: str = Field(default="", pattern=r"^(\d{4}-\d\d-\d\d-[0-9a-f]{6})?$")
    created: str = ""
    spamd_version: str = __version__
    trunk: GPT2Config
    base: BaseNote
    head: HeadNote = HeadNote()
    ngrams: NGramsNote | None = None
    class_names: tuple[str, ...] = CLASS_NAMES
    text_version: int
    max_tokens: int = Field(gt=0)
    pad_to: int = Field(default=0, ge=0)
    lora: LoraNote | None = None
    long_mail: LongMail = "head-tail"
    arithmetic: Literal["float", "int8"] = "float"
    splitting: Literal["gpt2"] = SPLITTING
    vocabulary_sha256: str = ""
    weights_sha256: str = ""
    temperature: float = Field(default=1.0, gt=0.0)
    threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    threshold_interval: tuple[float, float] | None = None
    threshold_note: str = ""
    datasets: tuple[dict[str, Any], ...] = ()
    metrics: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_itself(self) -> Self:
        """Refuse a card whose parts contradict each other."""
        if self.max_tokens > self.trunk.n_positions:
            raise ValueError(f"max_tokens {self.max_tokens} is more than the {self.trunk.n_positions} positions of the trunk")
        if self.class_names[: len(CLASS_NAMES)] != CLASS_NAMES:
            raise ValueError(f"class_names {self.class_names} must begin with {CLASS_NAMES}, as the logits are read")
        return self
