"""Kept hidden states are those that would be computed anew, within the memory allowed."""

import io

import pytest
import torch
from teaching import part

from spamd.model.heads import MeanPool
from spamd.training.freezing import apply_policy
from spamd.training.progress import Lines
from spamd.training.trunk_cache import TrunkCache, affordable_bytes, choose_type

BATCH = [3, 0, 11, 7]


@pytest.mark.parametrize("block", [0, 1, 2])
@pytest.mark.parametrize("max_bytes", [0, 10**9])
@pytest.mark.parametrize("reads", ["last", "all"])
def test_logits_are_those_of_the_whole_model(tiny_classifier, byte_tokenizer, block, max_bytes, reads):
    """Whatever is kept, and whatever the head reads, from the block on come the logits of the whole model."""
    if reads == "all":
        tiny_classifier.head = MeanPool(32, 2)
    mail = part(8, byte_tokenizer)
    cache = TrunkCache(tiny_classifier, mail, block, max_bytes=max_bytes)

    with torch.no_grad():
        expected = tiny_classifier(*mail.pad(BATCH))
        hidden, lengths = cache.batch(BATCH)
        found = tiny_classifier.from_block(hidden, block, lengths)

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert cache.is_kept is (block > 0 and max_bytes > 0)


def test_beyond_the_cap_it_halves_and_then_computes_anew(tiny_classifier, byte_tokenizer):
    """Memory is never more than allowed: float32, else bfloat16, else nothing is kept."""
    mail = part(8, byte_tokenizer)
    full = sum(mail.lengths) * 32 * 4
    for allowed, used in ((full, full), (full - 1, full // 2), (full // 2 - 1, 0)):
        assert used == TrunkCache(tiny_classifier, mail, 1, max_bytes=allowed).num_bytes


def test_bfloat16_is_close(tiny_classifier, byte_tokenizer):
    """Half of the memory costs the last digits only."""
    mail = part(8, byte_tokenizer)
    caches = [TrunkCache(tiny_classifier, mail, 1, max_bytes=most) for most in (10**9, sum(mail.lengths) * 32 * 2)]
    exact, rounded = (cache.batch(BATCH)[0] for cache in caches)

    assert torch.float32 == rounded.dtype
    torch.testing.assert_close(rounded, exact, rtol=1e-2, atol=1e-2)
    assert not torch.equal(rounded, exact)


def test_a_head_that_reads_the_last_token_keeps_one_position(tiny_classifier, byte_tokenizer):
    """Behind the last block one position a message is enough."""
    mail = part(8, byte_tokenizer)
    cache = TrunkCache(tiny_classifier, mail, 2)
    hidden, lengths = cache.batch(BATCH)

    assert (4, 1, 32) == tuple(hidden.shape)
    assert [1, 1, 1, 1] == lengths.tolist()
    assert 16 * 32 * 4 == cache.num_bytes


def test_embeddings_that_train_get_gradients(tiny_classifier, byte_tokenizer):
    """With nothing frozen the graph reaches down to the embeddings; with a frozen part it does not."""
    apply_policy(tiny_classifier, [name for name, _ in tiny_classifier.named_parameters()])
    mail = part(8, byte_tokenizer)

    assert TrunkCache(tiny_classifier, mail, 0).batch(BATCH)[0].requires_grad
    assert not TrunkCache(tiny_classifier, mail, 1, max_bytes=0).batch(BATCH)[0].requires_grad


@pytest.mark.parametrize(("num_bytes", "expected"), [(4000, torch.float32), (3999, torch.bfloat16), (1999, None)])
def test_types_are_chosen_by_what_fits(num_bytes, expected):
    """A thousand numbers take 4,000 bytes or 2,000."""
    assert expected == choose_type(1000, num_bytes)


def test_affordable_memory_is_bounded():
    """At most 2 GiB, and something on every machine."""
    assert 0 < affordable_bytes() <= 2 * 1024**3


def test_what_memory_does_not_hold_lies_on_disk(tiny_classifier, byte_tokenizer, tmp_path):
    """Beyond the cap a file without a name holds hidden states in bfloat16, and no memory is counted."""
    mail = part(8, byte_tokenizer)
    exact = TrunkCache(tiny_classifier, mail, 1).batch(BATCH)[0]
    cache = TrunkCache(tiny_classifier, mail, 1, max_bytes=0, spill_dir=tmp_path / "spill")

    torch.testing.assert_close(cache.batch(BATCH)[0], exact, rtol=1e-2, atol=1e-2)
    assert (True, 0) == (cache.is_kept, cache.num_bytes)
    assert [] == list((tmp_path / "spill").iterdir())


def test_where_the_disk_has_no_room_nothing_is_kept(tiny_classifier, byte_tokenizer, tmp_path, monkeypatch):
    """A full disk costs time, not the training, and is told."""
    monkeypatch.setattr("spamd.training.trunk_cache.DISK_SHARE", 0.0)
    stream = io.StringIO()
    cache = TrunkCache(tiny_classifier, part(8, byte_tokenizer), 1, max_bytes=0, spill_dir=tmp_path, display=Lines(stream))

    assert cache.is_kept is False
    assert f"do not fit on the disk of {tmp_path} (No space left on device)" in stream.getvalue()


def test_bfloat16_multiplication_is_close(tiny_classifier, byte_tokenizer):
    """In the fast precision hidden states agree to its rounding, and are float32 again."""
    mail = part(8, byte_tokenizer)
    exact, fast = (TrunkCache(tiny_classifier, mail, 2, precision=kind).batch(BATCH)[0] for kind in ("float32", "bfloat16"))

    assert torch.float32 == fast.dtype
    torch.testing.assert_close(fast, exact, rtol=3e-2, atol=3e-2)
    assert not torch.equal(fast, exact)
