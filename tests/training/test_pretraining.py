"""Next-token training: it learns, it resumes where it stood, and it says what is wrong."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from spamd.errors import TrainingError
from spamd.model.gpt2 import GPT2, GPT2Config
from spamd.training.pretraining import FINAL_RATE, Progress, pack, pretrain, schedule

CONFIG = GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=2)


def _trunk(seed: int = 1) -> GPT2:
    """A trunk small enough to train in a blink."""
    torch.manual_seed(seed)
    return GPT2(CONFIG)


def _stream(length: int = 2000) -> np.ndarray:
    """Text of which each token decides the next: counting up, and round again."""
    return (np.arange(length) % 39).astype(np.uint16)


def _weights(trunk: GPT2) -> dict[str, torch.Tensor]:
    """A copy of all parameters."""
    return {name: parameter.detach().clone() for name, parameter in trunk.named_parameters()}


def test_pack_puts_the_separator_before_each_document() -> None:
    """Documents become one stream, each after an end-of-text."""
    stream = pack([[1, 2], [], [3]], end_of_text=9)

    assert [9, 1, 2, 9, 9, 3] == stream.tolist()
    assert np.uint16 == stream.dtype


def test_pack_uses_wide_integers_for_large_vocabularies() -> None:
    """Ids beyond 65,535 do not wrap round."""
    assert [70_000, 65_536] == pack([[65_536]], end_of_text=70_000).tolist()


def test_pack_of_nothing_is_empty() -> None:
    """No documents give an empty stream."""
    assert 0 == len(pack([], end_of_text=9))


def test_training_lowers_the_loss() -> None:
    """A text whose next token is certain is learnt, and the held-out loss shows it."""
    seen: list[Progress] = []

    end = pretrain(
        _trunk(),
        _stream(),
        steps=60,
        heldout=_stream(100),
        batch_tokens=128,
        learning_rate=1e-2,
        report=seen.append,
        report_every=20,
    )

    assert [20, 40, 60] == [progress.step for progress in seen]
    assert end == seen[-1]
    assert end.heldout_loss is not None
    assert end.heldout_loss < 1.0 < seen[0].loss
    assert 60 * 128 == end.num_tokens
    assert end.tokens_per_second > 0


def test_held_out_loss_is_computed_as_often_as_asked() -> None:
    """`evaluate_every` adds held-out losses on the way."""
    seen: list[Progress] = []

    pretrain(
        _trunk(), _stream(), steps=4, heldout=_stream(100), batch_tokens=32, report=seen.append, report_every=9, evaluate_every=2
    )

    assert [2, 4] == [progress.step for progress in seen if progress.heldout_loss is not None]


def test_same_seed_gives_the_same_weights() -> None:
    """Two runs with one seed end alike, a third with another seed does not."""
    ends = []
    for seed in (5, 5, 6):
        trunk = _trunk()
        pretrain(trunk, _stream(), steps=3, batch_tokens=64, seed=seed)
        ends.append(trunk.wte.weight)

    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_micro_batches_do_not_change_the_step() -> None:
    """Computing a batch in parts gives the same step up to rounding."""
    whole, parts = _trunk(), _trunk()

    pretrain(whole, _stream(), steps=1, batch_tokens=128, micro_batch_tokens=128)
    pretrain(parts, _stream(), steps=1, batch_tokens=128, micro_batch_tokens=16)

    for name, weight in _weights(whole).items():
        torch.testing.assert_close(_weights(parts)[name], weight, rtol=0, atol=1e-4)


def test_a_stopped_run_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    """Stopping and going on from the saved state changes nothing in the weights."""
    unbroken, broken = _trunk(), _trunk()
    pretrain(unbroken, _stream(), steps=6, batch_tokens=64)

    def stop(progress: Progress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    options = {"steps": 6, "batch_tokens": 64, "folder": tmp_path, "save_every_seconds": 0.0, "report_every": 1}
    with pytest.raises(KeyboardInterrupt):
        pretrain(broken, _stream(), report=stop, **options)
    fresh = _trunk(seed=2)
    end = pretrain(fresh, _stream(), **options)

    assert 6 == end.step
    for name, weight in _weights(unbroken).items():
        assert torch.equal(_weights(fresh)[name], weight), name


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    """Calling again with the folder of a finished run trains no further."""
    first = _trunk()
    end = pretrain(first, _stream(), steps=2, batch_tokens=64, folder=tmp_path)
    second = _trunk(seed=2)

    assert end == pretrain(second, _stream(), steps=2, batch_tokens=64, folder=tmp_path)
    assert torch.equal(first.wte.weight, second.wte.weight)


def test_a_run_by_time_ends_by_time() -> None:
    """`seconds` bounds the run instead of steps."""
    end = pretrain(_trunk(), _stream(), seconds=0.05, batch_tokens=32)

    assert 1.0 == end.fraction
    assert end.seconds >= 0.05


def test_state_of_another_run_is_refused(tmp_path: Path) -> None:
    """A folder that holds a run with another seed is not continued."""
    pretrain(_trunk(), _stream(), steps=1, batch_tokens=32, folder=tmp_path, seed=1)

    with pytest.raises(TrainingError, match="another run"):
        pretrain(_trunk(), _stream(), steps=1, batch_tokens=32, folder=tmp_path, seed=2)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b'{"a": 1}'])
def test_damaged_state_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    """A saved state that is no safetensors file stops the run and names the file."""
    (tmp_path / "pretraining.safetensors").write_bytes(content)

    with pytest.raises(TrainingError, match=r"pretraining\.safetensors"):
        pretrain(_trunk(), _stream(), steps=1, batch_tokens=32, folder=tmp_path)


def test_state_that_lacks_tensors_is_one_sentence(tmp_path: Path) -> None:
    """A saved state without the optimizer's tensors stops the run."""
    pretrain(_trunk(), _stream(), steps=1, batch_tokens=32, folder=tmp_path)
    identity = {"trunk": str(CONFIG), "seed": 123, "batch_windows": 2, "tokens": 2000}
    notes = {"identity": json.dumps(identity), "progress": json.dumps({"step": 1})}
    save_file({"trunk.wte.weight": torch.zeros(40, 16)}, tmp_path / "pretraining.safetensors", notes)

    with pytest.raises(TrainingError, match="cannot be read"):
        pretrain(_trunk(), _stream(), steps=1, batch_tokens=32, folder=tmp_path)


def test_short_text_is_refused() -> None:
    """A stream of less than two windows says how long it is and how long it must be."""
    with pytest.raises(TrainingError, match="20 tokens, which is less than two windows of 16"):
        pretrain(_trunk(), _stream(20), steps=1)


def test_short_held_out_text_is_refused() -> None:
    """Held-out text of less than one window says so."""
    with pytest.raises(TrainingError, match="held-out text has 10 tokens"):
        pretrain(_trunk(), _stream(), steps=1, batch_tokens=32, heldout=_stream(10))


def test_loss_that_is_not_finite_stops_the_run() -> None:
    """A broken weight is found at the first step, before anything is saved."""
    trunk = _trunk()
    trunk.ln_f.weight.data[0] = math.nan

    with pytest.raises(TrainingError, match="loss is nan"):
        pretrain(trunk, _stream(), steps=1, batch_tokens=32)


def test_length_of_the_run_is_given_once() -> None:
    """Neither and both of steps and seconds are a programmer's mistake."""
    with pytest.raises(ValueError, match="either steps or seconds"):
        pretrain(_trunk(), _stream())
    with pytest.raises(ValueError, match="steps=1 and seconds=1"):
        pretrain(_trunk(), _stream(), steps=1, seconds=1)


def test_schedule_rises_then_falls() -> None:
    """The rate rises to its full value in the warm-up and ends at its final share."""
    values = [schedule(fraction, 0.1) for fraction in (0.0, 0.05, 0.1, 0.5, 1.0)]

    assert [0.01, 0.5, 1.0] == values[:3]
    assert FINAL_RATE == pytest.approx(values[4])
    assert values == [*sorted(values[:3]), *sorted(values[3:], reverse=True)]
    assert 1.0 == schedule(0.0, 0.0)


def test_progress_without_time_has_a_speed() -> None:
    """Speed of a run that has not begun does not divide by zero."""
    assert 0 == replace(Progress(), seconds=0.0).tokens_per_second
