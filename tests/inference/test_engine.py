"""The engine, with a model small enough for a blink."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file, save_file
from structlog.testing import capture_logs

from spamd.errors import CheckpointError, ScoringError
from spamd.inference.engine import Engine
from spamd.mail.text import TEXT_VERSION
from spamd.model.checkpoint import load_checkpoint
from spamd.model.checksum import sha256_of
from spamd.model.heads import LastToken

HEADS = {"last-token": LastToken}


@pytest.fixture
def engine(tiny_checkpoint):
    """An engine with the tiny checkpoint on one thread."""
    return Engine.load(tiny_checkpoint, HEADS, device="cpu", threads=1)


def test_scores_are_probabilities_with_their_source(engine, tiny_checkpoint):
    """Each score lies between 0 and 1 and names checkpoint, threshold, tokens and truncation."""
    short, long = engine.score(["hello", "x y " * 100])

    assert tiny_checkpoint.name == short.checkpoint == engine.checkpoint
    assert 0.5 == short.threshold == engine.threshold
    assert (5, False) == (short.num_tokens, short.is_truncated)
    assert (128, True) == (long.num_tokens, long.is_truncated)
    assert 0.0 < short.score < 1.0


def test_the_order_of_the_texts_is_kept(engine):
    """Texts of any lengths, sorted for the batches, get their scores in the order in which they came."""
    texts = ["a" * length for length in (50, 3, 90, 1, 20)]
    alone = [engine.score([text])[0].score for text in texts]

    assert [pytest.approx(score, abs=1e-6) for score in alone] == [scored.score for scored in engine.score(texts)]


def test_small_batches_score_alike(tiny_checkpoint, engine):
    """A token budget that forces every text into a batch of its own changes no score."""
    texts = ["a" * length for length in (50, 3, 90, 1, 20)]
    careful = Engine.load(tiny_checkpoint, HEADS, device="cpu", threads=1, max_batch_tokens=1)
    expected = [pytest.approx(scored.score, abs=1e-6) for scored in engine.score(texts)]

    assert expected == [scored.score for scored in careful.score(texts)]


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("num_texts", [1, 2, 5])
def test_threads_of_their_own_score_alike(tiny_checkpoint, engine, num_texts, is_shared, monkeypatch):
    """Batches that are computed at once, or a text that threads share, give the scores that one thread gives, in order."""
    monkeypatch.setattr("spamd.inference.engine.SHARED_OPERATIONS", 0 if is_shared else 1e12)
    monkeypatch.setattr("spamd.inference.engine.LEAST_OPERATIONS", 1.0)
    texts = ["a" * length for length in (50, 3, 90, 1, 20)][:num_texts]
    expected = [pytest.approx(scored.score, abs=1e-6) for scored in engine.score(texts)]
    shared = Engine.load(tiny_checkpoint, HEADS, device="cpu", threads=2)

    assert expected == [scored.score for scored in shared.score(texts)]


def _failing(monkeypatch, error, fails):
    """Let batches fail with an error as long as `fails` says so; returns the sizes of all that were tried."""
    forward, tried = Engine._forward, []

    def attempt(self, sequences):
        tried.append(len(sequences))
        if fails(self, sequences):
            raise error
        return forward(self, sequences)

    monkeypatch.setattr(Engine, "_forward", attempt)
    return tried


def test_small_shares_are_not_made(tiny_checkpoint, monkeypatch):
    """Texts are divided among threads as long as each gets so much to do that it is worth it."""
    engine = Engine.load(tiny_checkpoint, HEADS, device="cpu", threads=3)
    worth = engine._operations([engine.estimate_tokens("a" * 60)])
    monkeypatch.setattr("spamd.inference.engine.LEAST_OPERATIONS", 2 * worth)
    plain, shares = Engine._score, []
    monkeypatch.setattr(Engine, "_score", lambda self, texts: shares.append(len(texts)) or plain(self, texts))
    for number in (1, 3, 4, 12):
        engine.score(["a" * 60] * number)

    assert [1, 3, 2, 2, 4, 4, 4] == shares


def test_calls_at_once_score_alike(tiny_checkpoint, engine, monkeypatch):
    """Two calls at once, each with some of the threads, give the scores of one after the other; one thread has one lane."""
    texts = ["a" * length for length in (50, 3, 90, 1, 20)]
    expected = [pytest.approx(scored.score, abs=1e-6) for scored in engine.score(texts)]
    assert 1 == engine.num_lanes
    monkeypatch.setattr("spamd.inference.engine.LEAST_OPERATIONS", 1.0)
    several = Engine.load(tiny_checkpoint, HEADS, device="cpu", threads=3)
    with ThreadPoolExecutor(several.num_lanes) as calls:
        answers = list(calls.map(several.score, [texts] * 8))

    assert 2 == several.num_lanes
    assert [expected] * 8 == [[scored.score for scored in answer] for answer in answers]


def test_a_batch_that_does_not_fit_is_halved(engine, monkeypatch):
    """Where memory is short a batch is computed in halves, later batches are smaller from the start, and no score changes."""
    texts = ["a" * length for length in (50, 60, 70, 80)]
    expected = [pytest.approx(scored.score, abs=1e-6) for scored in engine.score(texts)]
    tried = _failing(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"), lambda _, batch: len(batch) > 2)
    engine._max_batch_tokens = 400
    with capture_logs() as logs:
        scores = [scored.score for scored in engine.score(texts)]
    engine.score(texts)

    assert expected == scores
    assert [4, 2, 2, 2, 2] == tried
    assert [("warning", 200)] == [(line["log_level"], line["max_batch_tokens"]) for line in logs]


def test_a_message_that_does_not_fit_fails_alone(engine, monkeypatch):
    """A message that does not even fit alone is a scoring error that says so."""
    _failing(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"), lambda *_: True)
    with pytest.raises(ScoringError, match="5 tokens does not fit into the memory of cpu"):
        engine.score(["hello"])


def test_a_lost_gpu_is_replaced_by_the_cpu(engine, monkeypatch):
    """Where the GPU fails, the checkpoint is loaded anew for the CPU, which a log line says loudly, and all get their scores."""
    texts = ["hello", "world"]
    expected = [pytest.approx(scored.score, abs=1e-6) for scored in engine.score(texts)]
    engine.device = torch.device("cuda", 0)
    _failing(
        monkeypatch, torch.AcceleratorError("CUDA error: unspecified launch failure"), lambda self, _: self.device.type == "cuda"
    )
    with capture_logs() as logs:
        scores = [scored.score for scored in engine.score(texts)]

    assert expected == scores
    assert torch.device("cpu") == engine.device
    assert [("error", "cuda:0")] == [(line["log_level"], line["device"]) for line in logs]


def test_faults_on_the_cpu_are_not_hidden(engine, monkeypatch):
    """What fails on the CPU is no lost device: the error goes to the caller."""
    _failing(monkeypatch, RuntimeError("a mistake"), lambda *_: True)
    with pytest.raises(RuntimeError, match="a mistake"):
        engine.score(["hello"])


def test_bfloat16_comes_near(tiny_checkpoint, engine):
    """In bfloat16 the trunk has other digits, and scores stay where they were."""
    short = Engine.load(tiny_checkpoint, HEADS, device="cpu", threads=1, precision="bfloat16")
    texts = ["hello", "a" * 100]

    assert torch.bfloat16 == short._classifier.trunk.wte.weight.dtype
    assert [pytest.approx(scored.score, abs=0.02) for scored in engine.score(texts)] == [one.score for one in short.score(texts)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_scores_alike(tiny_checkpoint, engine):
    """On a GPU, without padding and in bfloat16, scores come near those of the CPU."""
    texts = ["a" * length for length in (50, 3, 90, 1, 20)]
    there = Engine.load(tiny_checkpoint, HEADS, device="cuda", precision="bfloat16")

    assert there._is_packed
    assert [pytest.approx(scored.score, abs=0.02) for scored in engine.score(texts)] == [one.score for one in there.score(texts)]


@pytest.fixture
def windowed(tiny_checkpoint, tmp_path):
    """The engine of a checkpoint that reads windows."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "windowed")
    card = json.loads((folder / "checkpoint.json").read_text())
    (folder / "checkpoint.json").write_text(json.dumps(card | {"long_mail": "windows"}))
    return Engine.load(folder, HEADS, device="cpu", threads=1)


def test_windows_of_long_mail_are_pooled(windowed, engine):
    """A long text gets the score of the mean of its windows' logits, a short one its own; what is read is counted."""
    long = "a" * 128 + "b" * 128
    with torch.inference_mode():
        logits = engine.logits([list(b"a" * 128), list(b"b" * 128)]).double()
    short, scored, longest = windowed.score(["hello", long, "c" * 1000])

    assert pytest.approx(logits.mean(0).softmax(-1)[1].item(), abs=1e-6) == scored.score
    assert pytest.approx(engine.score(["hello"])[0].score, abs=1e-6) == short.score
    assert [(5, False), (256, False), (512, True)] == [(one.num_tokens, one.is_truncated) for one in (short, scored, longest)]


def test_the_extent_of_windows(windowed, engine):
    """Explanations are told that windows read more of a text than head and tail."""
    assert [(384, 128), (96, 32)] == [one.extent("x" * 1000) for one in (windowed, engine)]
    assert [(200, 0), (96, 32)] == [one.extent("x" * 200) for one in (windowed, engine)]


def test_an_empty_text_has_a_score(engine):
    """A message without any text is scored like any other, and so is none at all."""
    assert 0.0 < engine.score([""])[0].score < 1.0
    assert [] == engine.score([])


def test_temperature_is_the_cards(tiny_checkpoint, tmp_path):
    """The logits are divided by the temperature of the card."""
    checkpoint = load_checkpoint(tiny_checkpoint, HEADS, text_version=TEXT_VERSION)
    ids = torch.tensor([list(b"hello")])
    with torch.inference_mode():
        logits = checkpoint.classifier(ids, torch.tensor([5])).double()
    card = json.loads((tiny_checkpoint / "checkpoint.json").read_text())
    warm = shutil.copytree(tiny_checkpoint, tmp_path / "warm")
    (warm / "checkpoint.json").write_text(json.dumps(card | {"temperature": 7.0}))
    engine = Engine.load(warm, HEADS, device="cpu", threads=1)

    assert pytest.approx((logits / 7.0).softmax(-1)[0, 1].item(), abs=1e-6) == engine.score(["hello"])[0].score


def test_weights_that_compute_no_score_are_refused(tiny_checkpoint):
    """A checkpoint whose weights overflow is refused when it is loaded, not when mail arrives."""
    weights = load_file(tiny_checkpoint / "model.safetensors")
    name = next(name for name in weights if name.startswith("head."))
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, tiny_checkpoint / "model.safetensors")
    card = json.loads((tiny_checkpoint / "checkpoint.json").read_text())
    card["weights_sha256"] = sha256_of(tiny_checkpoint / "model.safetensors")
    (tiny_checkpoint / "checkpoint.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="not a number"):
        Engine.load(tiny_checkpoint, HEADS, device="cpu", threads=1)


def test_estimates_end_at_the_length_budget(engine):
    """An estimate grows with the text up to the tokens that the model reads at most."""
    assert [1, 2, 128] == [engine.estimate_tokens("a" * length) for length in (0, 3, 100_000)]
