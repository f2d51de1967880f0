"""The table of n-grams: what it counts, that nothing but the ids decides, and that it goes wherever its classifier goes."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from teaching import part

from spamd.errors import CheckpointError
from spamd.inference.engine import Engine
from spamd.mail.text import TEXT_VERSION
from spamd.model.card import BaseNote, CheckpointCard, HeadNote, NGramsNote
from spamd.model.checkpoint import load_checkpoint, save_checkpoint
from spamd.model.classifier import SPAM, Classifier, pad
from spamd.model.heads import spamd_register_heads
from spamd.model.ngrams import NGrams, stretches
from spamd.model.tokenizer import Tokenizer
from spamd.training import freezing, parts
from spamd.training.recipe import Recipe
from spamd.training.splits import Example
from spamd.training.trainer import train
from spamd.verdict import Label

NOTE = NGramsNote(num_buckets=2**16, characters=(2, 3), tokens=(1, 2))
END = 256


@pytest.fixture
def ngrams(byte_tokenizer: Tokenizer) -> NGrams:
    """A table of drawn numbers."""
    table = NGrams(NOTE, byte_tokenizer)
    with torch.no_grad():
        table.weight.copy_(torch.randn(NOTE.num_buckets, generator=torch.Generator().manual_seed(1)))
    return table


@pytest.fixture
def classifier(tiny_classifier: Classifier, ngrams: NGrams) -> Classifier:
    """The tiny classifier with that table."""
    tiny_classifier.ngrams = ngrams
    return tiny_classifier


def _says(ngrams: NGrams, text: bytes) -> float:
    """What the table says of a text."""
    return float(ngrams.of([list(text)]).detach())


def test_each_ngram_counts_once_a_message(ngrams: NGrams) -> None:
    """Repeating what was said says nothing more, and a text is what its n-grams are, in any order."""
    assert _says(ngrams, b"abababab") == pytest.approx(_says(ngrams, b"ababab"), rel=1e-6)
    assert _says(ngrams, b"abababab") != pytest.approx(_says(ngrams, b"ab"), rel=1e-3)


def test_the_more_kinds_the_less_each_says(byte_tokenizer: Tokenizer) -> None:
    """The squares of the shares are one in all: half for characters, half for tokens."""
    table = NGrams(NOTE, byte_tokenizer)
    for text in (b"ab", b"a longer text of more n-grams"):
        buckets, shares, ends = table.rows([list(text)])
        assert float((shares**2).sum()) == pytest.approx(1.0, rel=1e-5)
        assert [0, len(buckets)] == ends.tolist()
        assert 0 <= buckets.min() <= buckets.max() < NOTE.num_buckets


def test_sums_are_those_of_the_table(ngrams: NGrams) -> None:
    """A text of two letters has one run of two characters, two tokens and a pair of them; the sum is taken by hand."""
    buckets, shares, _ = ngrams.rows([list(b"ab")])
    weights = ngrams.weight.detach()[torch.from_numpy(buckets)]

    assert 4 == len(buckets)
    assert float((weights * torch.from_numpy(shares)).sum()) == pytest.approx(_says(ngrams, b"ab"), rel=1e-5)


def test_capitals_are_small_letters_to_characters_alone(ngrams: NGrams) -> None:
    """Runs of characters ignore case; tokens do not."""
    small, large = (set(ngrams.rows([list(text)])[0].tolist()) for text in (b"free", b"FREE"))

    assert 5 == len(small & large)
    assert small != large


def test_hashes_stay_what_they_are(byte_tokenizer: Tokenizer) -> None:
    """Checkpoints are tables of these buckets: another hash would make noise of them."""
    buckets, _, _ = NGrams(NOTE, byte_tokenizer).rows([list("Grüße".encode())])

    assert [
        24192,
        34294,
        42400,
        44249,
        49086,
        55211,
        64511,
        5319,
        5943,
        7777,
        12017,
        17173,
        20715,
        22048,
        36714,
        42082,
        60321,
        63629,
        64757,
    ] == buckets.tolist()


@pytest.mark.parametrize("text", [b"", b"x", "\N{GRINNING FACE}".encode(), b"\xff\xfe", b"\x00" * 100])
def test_any_ids_will_do(ngrams: NGrams, text: bytes) -> None:
    """Nothing at all, one letter, halves of characters: a finite number; nothing at all says nothing."""
    said = float(ngrams.of([[*text, END]]).detach())

    assert torch.tensor(said).isfinite()
    assert (said == 0.0) is (text == b"")


def test_ids_without_a_token_say_nothing(byte_tokenizer: Tokenizer, ngrams: NGrams) -> None:
    """Embeddings that the vocabulary does not use may be asked for, by `spamd-admin bench` for one."""
    strange = [byte_tokenizer.end_of_text, byte_tokenizer.end_of_text + 5]

    assert torch.equal(ngrams.of([[*b"a text", *strange]]), ngrams.of([list(b"a text")]))


@pytest.mark.parametrize(
    ("number", "cuts"), [(0, []), (20, []), (21, [(0, 20), (1, 21)]), (45, [(0, 20), (10, 30), (20, 40), (25, 45)])]
)
def test_stretches_overlap_by_half(number: int, cuts: list[tuple[int, int]]) -> None:
    """The whole comes first, the last stretch ends where the message does, and what fits into one has none."""
    ids = list(range(number))

    assert [ids, *(ids[start:end] for start, end in cuts)] == stretches(ids, 20)
    assert [ids] == stretches(ids, 0)


def test_an_opening_stands_before_each_stretch() -> None:
    """It belongs to no stretch, and what it and one stretch hold is all there is."""
    ids = list(range(30))

    assert [ids, ids[:25], [*ids[:5], *ids[10:30]]] == stretches(ids, 20, 5)
    assert [ids[:25]] == stretches(ids[:25], 20, 5)


@torch.no_grad()
def test_the_stretch_that_says_most_counts(byte_tokenizer: Tokenizer) -> None:
    """Good words around it do not hide a bad stretch, and lift no good one."""
    note = NOTE.model_copy(update={"stretch": 32})
    table = NGrams(note, byte_tokenizer)
    for text, weight in ((b"buy these pills", 1.0), (b"minutes of the meeting", -1.0)):
        table.weight[torch.from_numpy(table.rows([list(text)])[0])] = weight
    spam, ham = b"buy these pills " * 4, b"minutes of the meeting " * 8

    alone, drowned, good = table.of([list(text) for text in (spam, ham + spam + ham, ham)]).tolist()
    table.note = NOTE
    without = table.of([list(ham + spam + ham)]).item()

    assert good < 0.0 < drowned
    assert drowned == pytest.approx(alone, rel=0.5)
    assert without < drowned


@torch.no_grad()
@pytest.mark.parametrize("doubt", [0.0, 0.01, 100.0])
def test_a_stretch_counts_where_it_is_more_than_whole_and_doubt(ngrams: NGrams, doubt: float) -> None:
    """What is left of the stretch counts instead of the whole where it is more; length costs by its doublings."""
    text = list(bytes(range(64, 192)))
    pieces = [float(ngrams.of([piece])) for piece in stretches(text, 32)]
    whole, most, short = pieces[0], max(pieces), float(ngrams.of([text[:16]]))
    ngrams.note = NOTE.model_copy(update={"stretch": 32, "doubt": doubt, "doubling": 0.5})

    assert whole < most - 0.02
    assert max(whole, most - doubt) - 0.5 * 2 == pytest.approx(float(ngrams.of([text])), abs=1e-5)
    assert pieces[1] == pytest.approx(float(ngrams.of([text[:32]])), abs=1e-5)
    assert short == pytest.approx(float(ngrams.of([text[:16]])), abs=1e-5)


@torch.no_grad()
def test_padding_and_neighbours_change_nothing(classifier: Classifier) -> None:
    """A message gets the same logits alone and in a batch, padded with whatever."""
    sequences = [list(b"one message"), list(b"x"), list(b"another, and a longer one")]
    together = classifier(*pad(sequences, END))

    for sequence, row in zip(sequences, together, strict=True):
        torch.testing.assert_close(classifier(*pad([sequence], END))[0], row, rtol=0, atol=1e-5)
    torch.testing.assert_close(classifier(*pad(sequences, 65)), together, rtol=0, atol=1e-5)


@torch.no_grad()
def test_only_the_logit_of_spam_is_raised(classifier: Classifier, ngrams: NGrams) -> None:
    """The table adds to the head's logits and takes the place of nothing."""
    ids, lengths = pad([list(b"some text"), list(b"other")], END)
    with_table = classifier(ids, lengths)
    classifier.ngrams = None

    difference = with_table - classifier(ids, lengths)

    torch.testing.assert_close(difference[:, SPAM], ngrams(ids, lengths))
    assert not difference[:, 1 - SPAM].any()


def _save(folder: Path, classifier: Classifier, tokenizer: Tokenizer, note: NGramsNote | None) -> Path:
    """Store a checkpoint."""
    card = CheckpointCard(
        trunk=classifier.trunk.config,
        base=BaseNote(name="tiny"),
        head=HeadNote(name="last-token"),
        ngrams=note,
        text_version=TEXT_VERSION,
        max_tokens=100,
    )
    return save_checkpoint(folder, classifier, tokenizer, card)


def test_a_checkpoint_brings_its_table_along(tmp_path: Path, classifier: Classifier, byte_tokenizer: Tokenizer) -> None:
    """Stored and loaded, by the daemon's engine too, it says the same."""
    folder = _save(tmp_path, classifier, byte_tokenizer, NOTE)
    heads = spamd_register_heads()
    loaded = load_checkpoint(folder, heads, text_version=TEXT_VERSION)
    inputs = pad([list(b"some text")], END)

    assert loaded.card.ngrams == NOTE
    torch.testing.assert_close(loaded.classifier(*inputs), classifier(*inputs))
    torch.testing.assert_close(
        Engine.load(folder, heads, device="cpu").logits([list(b"some text")]), classifier(*inputs).detach()
    )


@pytest.mark.parametrize(("note", "fault"), [(NOTE, "lacks the tensor ngrams.weight"), (None, "holds the tensor ngrams.weight")])
def test_card_and_table_must_agree(
    tmp_path: Path, classifier: Classifier, byte_tokenizer: Tokenizer, note: NGramsNote | None, fault: str
) -> None:
    """A table that the card does not know, or one that is missing, is one sentence."""
    folder = _save(tmp_path, classifier, byte_tokenizer, note)
    if note:
        file = folder / "model.safetensors"
        save_file({name: tensor for name, tensor in load_file(file).items() if name != "ngrams.weight"}, file)
        _mend_checksum(folder)

    with pytest.raises(CheckpointError, match=fault):
        load_checkpoint(folder, spamd_register_heads(), text_version=TEXT_VERSION)


def _mend_checksum(folder: Path) -> None:
    """Let the card name the weights that are there."""
    values = json.loads((folder / "checkpoint.json").read_text())
    values["weights_sha256"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "checkpoint.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    "sizes",
    [
        {"num_buckets": 1000},
        {"num_buckets": 1},
        {"num_buckets": 2**27},
        {"characters": ()},
        {"characters": (3, 2)},
        {"tokens": (0,)},
        {"tokens": (9,)},
        {"max_tokens": -1},
        {"max_tokens": 16_385},
        {"stretch": -1},
        {"stretch": 15},
        {"opening": -1},
        {"doubt": -0.1},
        {"doubling": float("nan")},
    ],
)
def test_sizes_that_no_table_has_are_refused(sizes: dict[str, object]) -> None:
    """A damaged card is not worked with."""
    with pytest.raises(ValidationError):
        NGramsNote.model_validate(sizes)


@pytest.mark.parametrize(("policy", "is_trained"), [("last-block", False), ("none", True), ("head-only", False)])
def test_training_goes_by_the_sum(classifier: Classifier, byte_tokenizer: Tokenizer, policy: str, is_trained: bool) -> None:
    """Whatever is kept of the trunk, training sees head and table together; the table itself trains with `none` alone."""
    mail = part(24, byte_tokenizer)
    before = classifier.ngrams.weight.detach().clone()  # type: ignore[union-attr]
    policies = freezing.spamd_register_freezing_policies()
    recipe = Recipe(policy, policies[policy], epochs=1, batch_size=8, learning_rate=1e-9, seed=1)
    expected = parts.margins(classifier, mail)

    training = train(classifier, mail, mail, recipe)

    signs = torch.tensor(mail.labels) * 2.0 - 1.0
    loss = torch.nn.functional.softplus(-signs * torch.from_numpy(expected)).mean()
    assert training.epochs[0].validation_loss == pytest.approx(float(loss), rel=1e-4)
    assert is_trained is not torch.equal(before, classifier.ngrams.weight)  # type: ignore[union-attr]


@pytest.fixture
def far_reader(tmp_path: Path, tiny_classifier: Classifier, byte_tokenizer: Tokenizer) -> Path:
    """A checkpoint whose trunk reads 100 tokens and whose table reads 400."""
    note = NOTE.model_copy(update={"max_tokens": 400})
    tiny_classifier.ngrams = NGrams(note, byte_tokenizer)
    with torch.no_grad():
        tiny_classifier.ngrams.weight.copy_(torch.randn(NOTE.num_buckets, generator=torch.Generator().manual_seed(1)))
    return _save(tmp_path, tiny_classifier, byte_tokenizer, note)


TEXTS = ["short", "a middling text " * 10, "".join(f"{number} of a long text. " for number in range(60))]


@torch.no_grad()
def test_the_table_reads_on_where_the_trunk_stops(far_reader: Path) -> None:
    """Each gets head and tail of its own budget, and their sum is the answer: of forward, of judging and of the engine."""
    heads = spamd_register_heads()
    loaded = load_checkpoint(far_reader, heads, text_version=TEXT_VERSION)
    classifier, tokenizer = loaded.classifier, loaded.tokenizer
    ngrams, classifier.ngrams = classifier.ngrams, None
    trunk_says = classifier(*pad([tokenizer.encode(text, 100).ids for text in TEXTS], END))
    table_says = ngrams.of([tokenizer.encode(text, 400).ids for text in TEXTS])  # type: ignore[union-attr]
    classifier.ngrams = ngrams
    expected = trunk_says[:, SPAM] + table_says - trunk_says[:, 1 - SPAM]

    examples = [Example(text, Label.HAM, "here", "long") for text in TEXTS]
    judged = parts.margins_of_all(classifier, examples, tokenizer, long_mail="head-tail")
    engine = Engine.load(far_reader, heads, device="cpu")
    scored = engine.score(TEXTS)

    assert judged == pytest.approx(expected.numpy(), abs=1e-4)
    assert [one.score for one in scored] == pytest.approx(expected.double().sigmoid().tolist(), abs=1e-5)
    assert [5, 160, 400] == [one.num_tokens for one in scored]
    assert [False, False, True] == [one.is_truncated for one in scored]
    assert (300, 100) == engine.extent(TEXTS[-1])
    assert 100 == engine.estimate_tokens(TEXTS[-1])


@pytest.mark.parametrize("policy", ["last-block", "head-only", "none"])
def test_training_reads_both_budgets(far_reader: Path, policy: str) -> None:
    """The frozen part is kept for what the trunk reads, and the table beside it hears the whole."""
    loaded = load_checkpoint(far_reader, spamd_register_heads(), text_version=TEXT_VERSION)
    labels = [Label.HAM, Label.SPAM] * 6
    examples = [Example(f"{label} {text}", label, "here", "long") for label, text in zip(labels, TEXTS * 4, strict=True)]
    mail = parts.tokenise(examples, loaded.tokenizer, loaded.classifier.budget())
    expected = parts.margins(loaded.classifier, mail)
    policies = freezing.spamd_register_freezing_policies()

    training = train(loaded.classifier, mail, mail, Recipe(policy, policies[policy], epochs=1, learning_rate=1e-9, seed=1))

    signs = torch.tensor(mail.labels) * 2.0 - 1.0
    loss = torch.nn.functional.softplus(-signs * torch.from_numpy(expected)).mean()
    assert 400 == max(mail.lengths)
    assert training.epochs[0].validation_loss == pytest.approx(float(loss), rel=1e-4)


def test_the_last_block_is_still_the_first_to_train() -> None:
    """A table that trains forces no frozen block to be computed anew."""
    assert 2 == freezing.first_trainable_block({"ngrams.weight", "head.linear.bias"}, 2)


def test_disguised_words_count_as_what_they_spell(ngrams: NGrams) -> None:
    """Figures that play letters and letters set apart hide nothing, whatever tokens they make."""
    assert _says(ngrams, b"you won today, lottery") == _says(ngrams, b"y0u w0n 70d4y, l o t t e r y")


@pytest.mark.parametrize("quoted", ["> a prize\n> for you", ">> a prize\n>> for you", "> > a prize\n>for you"])
def test_quoted_lines_count_as_what_they_quote(ngrams: NGrams, quoted: str) -> None:
    """Spam in the dress of a reply says what it says without."""
    plain, rewritten, other = (
        set(ngrams.rows([list(text.encode())])[0].tolist()) for text in ("a prize\nfor you", quoted, "5 > 4")
    )
    assert plain == rewritten
    assert set(ngrams.rows([list(b"5  4")])[0].tolist()) != other


def test_who_wrote_what_is_quoted_says_nothing(ngrams: NGrams) -> None:
    """The line above a quotation is as easily forged as its marks."""
    assert _says(ngrams, b"\na prize\nfor you") == _says(ngrams, b"On 2/3/2026, Mia Berg wrote:\n> a prize\n> for you")


def test_no_letter_is_lost_by_spelling(ngrams: NGrams) -> None:
    """Letters of several bytes, each a token here, are all there when they have moved together."""
    assert _says(ngrams, "шлюз 12".encode()) == _says(ngrams, "ш л ю з 12".encode())
