"""The trunk without padding: sequences laid end to end, and the hidden state at the last token of each.

The same numbers as `gpt2` gives, for causal trunks and heads that read the last position. Only attention knows where a sequence
begins and ends; everything else sees one long row of tokens, none of which is waste. Attention over such rows comes from torch
(flash attention, on GPUs and in 16 bits only); elsewhere padded batches of similar length are as fast, and `by_turns` is for
comparison. Called by `inference`.

Shape letters: N tokens of all sequences, B sequences, D width, H attention heads, K width of a head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from spamd.model.gpt2 import GPT2, Block, project


@dataclass(frozen=True, slots=True)
class Rows:
    """Where sequences begin and end in a row of tokens.

    Attributes:
        edges: 0, and the end of each sequence, (B + 1,) int32 on the device.
        lengths: tokens of each.
    """

    edges: Tensor
    lengths: Sequence[int]


Attend = Callable[[Tensor, Tensor, Tensor, Rows, Rows], Tensor]
"""Queries (n, H, K), keys and values (N, H, K), where the queries' and the keys' sequences are -> (n, H, K).

Where there is one query a sequence it sees all keys of its own; else each sees those up to its own place.
"""


def last_hidden(trunk: GPT2, sequences: Sequence[Sequence[int]], attend: Attend) -> Tensor:
    """Run a trunk.

    Args:
        trunk: a causal one, on the device that `attend` works on.
        sequences: token ids, none empty, none longer than the trunk reads.
        attend: computes attention.

    Returns:
        Hidden states after the final norm at the last token of each sequence, (B, 1, D).
    """
    device, width = trunk.wte.weight.device, trunk.config.n_embd
    rows = _rows([len(sequence) for sequence in sequences], device)
    lone = _rows([1] * len(sequences), device)
    ids = torch.tensor([number for sequence in sequences for number in sequence], device=device)  # (N,)
    places = torch.cat([torch.arange(length) for length in rows.lengths]).to(device)  # (N,)
    hidden = trunk.wte(ids) + trunk.wpe(places)  # (N, D)
    *blocks, last = cast("list[Block]", list(trunk.h))
    for block in blocks:
        query, key, value = _split(block.attn.c_attn(block.ln_1(hidden)), 3, block)
        hidden = hidden + block.attn.c_proj(attend(query, key, value, rows, rows).flatten(1))
        hidden = hidden + block.mlp(block.ln_2(hidden))
    normed, ends = last.ln_1(hidden), rows.edges[1:] - 1
    (query,) = _split(project(last.attn.c_attn, normed[ends], slice(width)), 1, last)  # (B, H, K)
    key, value = _split(project(last.attn.c_attn, normed, slice(width, None)), 2, last)  # each (N, H, K)
    chosen = hidden[ends] + last.attn.c_proj(attend(query, key, value, lone, rows).flatten(1))  # (B, D)
    chosen = chosen + last.mlp(last.ln_2(chosen))
    return cast("Tensor", trunk.ln_f(chosen)[:, None])


def flash(query: Tensor, key: Tensor, value: Tensor, asking: Rows, asked: Rows) -> Tensor:
    """Attend with torch's attention over sequences of any lengths; wants a GPU and 16 bits."""
    from torch.nn.attention import varlen

    is_lone = max(asking.lengths) == 1
    return cast(
        "Tensor",
        varlen.varlen_attn(
            query,
            key,
            value,
            asking.edges,
            asked.edges,
            max(asking.lengths),
            max(asked.lengths),
            # A lone query stands at the end of its sequence and sees all of it.
            window_size=(-1, -1) if is_lone else (-1, 0),
            **_invariant(varlen.varlen_attn),
        ),
    )


def by_turns(query: Tensor, key: Tensor, value: Tensor, asking: Rows, asked: Rows) -> Tensor:
    """Attend to one sequence after another, on any device."""
    found = []
    ends = zip(torch.tensor(asking.lengths).cumsum(0).tolist(), torch.tensor(asked.lengths).cumsum(0).tolist(), strict=True)
    for (to_ask, to_be_asked), num_asking, num_asked in zip(ends, asking.lengths, asked.lengths, strict=True):
        here, there = slice(to_ask - num_asking, to_ask), slice(to_be_asked - num_asked, to_be_asked)
        own = (query[here].transpose(0, 1), key[there].transpose(0, 1), value[there].transpose(0, 1))  # each (H, tokens, K)
        mixed = functional.scaled_dot_product_attention(*own, is_causal=num_asking > 1)
        found.append(mixed.transpose(0, 1))
    return torch.cat(found)


def _invariant(function: Callable[..., Any]) -> dict[str, Any]:
    """Ask for sums in an order that does not depend on the other sequences, where torch knows how."""
    import inspect

    return {"num_splits": 1} if "num_splits" in inspect.signature(function).parameters else {}


def _rows(lengths: Sequence[int], device: torch.device) -> Rows:
    """Lay sequences end to end."""
    edges = torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)
    return Rows(edges, lengths)


def _split(flat: Tensor, parts: int, block: Block) -> tuple[Tensor, ...]:
    """Lay parts and heads apart: (n, parts D) -> parts of (n, H, K)."""
    return flat.view(len(flat), parts, block.attn.n_head, -1).unbind(1)
