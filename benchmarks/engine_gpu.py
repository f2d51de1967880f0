"""The engine on a GPU, by size of model: messages a second, share of what the GPU can multiply, and transformers beside it.

The published sizes with random weights, in bfloat16, on the length mix of `engine_peers.py`. The GPU's peak is measured first, by
one large product of matrices. Operations are counted as two for each weight of the blocks and token, and those of causal
attention; embeddings, norms and padding count as nothing, so that the share is of useful work. transformers runs with SDPA in
bfloat16, sorted, in batches of as many tokens. Called by `engine.py` where torch sees a GPU.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from engine_peers import Contestant, Ids, length_mix, our_classifier, our_engine, transformers_model

from spamd.inference.dividing import budgeted
from spamd.model.classifier import pad
from spamd.model.gpt2 import PUBLISHED, GPT2Config

DEVICE = torch.device("cuda")
NUM_MESSAGES = 2048
BATCH_TOKENS = 32768
SIDE = 8192
NUM_RUNS = 5


def measure() -> dict[str, Any]:
    """Measure all sizes and print a row for each."""
    peak = peak_operations()
    print(f"{torch.cuda.get_device_name()}: {peak / 1e12:.0f} TFLOP/s in bfloat16 at the most")
    print(f"{'':14}{'messages/s':>12}{'of the peak':>13}{'of transformers':>17}{'logits differ by':>18}")
    found: dict[str, Any] = {}
    for name, config in PUBLISHED.items():
        theirs = transformers_model(config)
        sequences = length_mix(NUM_MESSAGES, config.vocab_size - 1)
        engine = our_engine(our_classifier(theirs, config), config, DEVICE, precision="bfloat16", max_batch_tokens=BATCH_TOKENS)
        seconds, logits = _fastest(lambda engine=engine, sequences=sequences: engine.logits(sequences))
        del engine
        peer = _transformers(theirs.to(DEVICE, torch.bfloat16), config.vocab_size - 1)
        their_seconds, their_logits = _fastest(lambda peer=peer, sequences=sequences: peer(sequences))
        row = found[name] = {
            "messages_per_second": len(sequences) / seconds,
            "share_of_peak": operations(config, sequences) / seconds / peak,
            "vs_transformers_sdpa": their_seconds / seconds,
            "largest_difference": float((logits - their_logits).abs().max()),
        }
        print(
            f"{name:14}{row['messages_per_second']:12.0f}{row['share_of_peak']:13.1%}{row['vs_transformers_sdpa']:16.2f}x"
            f"{row['largest_difference']:18.1e}",
            flush=True,
        )
        del theirs, peer
        torch.cuda.empty_cache()
    by_what = {what: {name: row[what] for name, row in found.items()} for what in next(iter(found.values()))}
    return {"gpu": torch.cuda.get_device_name(), "peak_operations_per_second": peak, **by_what}


def peak_operations() -> float:
    """Multiply two large matrices in bfloat16; returns operations a second."""
    left, right = (torch.randn(SIDE, SIDE, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    seconds, _ = _fastest(lambda: left @ right)
    return 2 * SIDE**3 / seconds


def operations(config: GPT2Config, sequences: Ids) -> float:
    """Count the useful operations; of the last block keys and values at every token, all else at one."""
    square = config.n_embd**2
    total = 0.0
    for sequence in sequences:
        length = len(sequence)
        block = 2 * 12 * square * length + 2 * config.n_embd * length * (length + 1)
        last = 2 * (2 * square * length + 10 * square) + 4 * config.n_embd * length
        total += (config.n_layer - 1) * block + last
    return total


def _transformers(model: Any, pad_id: int) -> Contestant:
    """Transformers on the GPU, in batches of similar length."""

    @torch.inference_mode()
    def run(sequences: Ids) -> torch.Tensor:
        found = torch.empty(len(sequences), 2)
        for batch in budgeted([len(sequence) for sequence in sequences], BATCH_TOKENS):
            ids, lengths = pad([sequences[index] for index in batch], pad_id)
            mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
            found[batch] = model(input_ids=ids.to(DEVICE), attention_mask=mask.to(DEVICE)).logits.float().cpu()
        return found

    return run


def _fastest(work: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Run work some times; returns the least seconds, and what came out."""
    seconds = []
    answer = work()
    for _ in range(NUM_RUNS):
        torch.cuda.synchronize()
        started = time.perf_counter()
        answer = work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds), answer
