"""The trunk: GPT-2 in one file, read top to bottom.

Learned positions, pre-norm blocks, tanh GELU, biases everywhere, no dropout: the network that OpenAI published, with the
parameter names of the published checkpoint. It stops at the final norm: language-model and classification heads live elsewhere,
and so do weights on disk (`weights`, `checkpoint`) and text (`tokenizer`). Called by `classifier` and those who make or train
one (`checkpoint`, `weights`, `training`).

What is unusual:
- Sequences are padded on the right. A causal model never looks ahead, so padding needs no mask: what stands in it is garbage
  that no real position reads. With `is_causal=False` every position reads every other, and lengths hide the padding.
- A reader that needs one position only (`reads="last"`) gets it for less: the last block computes keys and values of every
  token, but the query and the MLP of the last real token alone.
- The network runs in two parts (`hidden_before`, `from_block`), so that the output of a frozen lower part can be kept.

Shape letters:
    B  sequences in the batch
    T  tokens of the longest of them, padding included
    D  width of the trunk (n_embd)
    H  attention heads (n_head)
    K  width of one attention head, D / H
"""

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

Reads = Literal["last", "all"]

INITIAL_DEVIATION = 0.02
MAX_SIZE = 2**24
MAX_BLOCKS = 1_024


@dataclass(frozen=True)
class GPT2Config:
    """Sizes of a trunk; the names are those of the published `config.json`, the defaults the smallest published model.

    Attributes:
        vocab_size: tokens that have an embedding.
        n_positions: longest sequence that can be read.
        n_embd: width.
        n_layer: blocks.
        n_head: attention heads in each block.
        layer_norm_epsilon: added to the variance in each norm.
        is_causal: whether a position reads only what stands before it, as published; False is for comparison.
    """

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    layer_norm_epsilon: float = 1e-5
    is_causal: bool = True

    def __post_init__(self) -> None:
        """Refuse sizes of which no network can be built."""
        sizes = (self.vocab_size, self.n_positions, self.n_embd, self.n_layer, self.n_head)
        if min(sizes) < 1 or max(sizes) > MAX_SIZE or self.n_layer > MAX_BLOCKS or self.n_embd % self.n_head:
            limits = f"sizes must be from 1 to {MAX_SIZE}, n_layer to {MAX_BLOCKS}, and n_embd a multiple of n_head"
            raise ValueError(f"{self} is no network: {limits}")


PUBLISHED = {
    "gpt2": GPT2Config(),
    "gpt2-medium": GPT2Config(n_embd=1024, n_layer=24, n_head=16),
    "gpt2-large": GPT2Config(n_embd=1280, n_layer=36, n_head=20),
    "gpt2-xl": GPT2Config(n_embd=1600, n_layer=48, n_head=25),
}
"""The published sizes: 124M, 355M, 774M and 1558M parameters."""


class Attention(nn.Module):
    """Self-attention with several heads."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.is_causal = config.is_causal
        # Query, key and value projections in one matrix, in this order.
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, hidden: Tensor, visible: Tensor | None = None) -> Tensor:
        """Attend at every position: (B, T, D) and, unless causal, which keys may be read, (B, 1, 1, T) -> (B, T, D)."""
        query, key, value = self.c_attn(hidden).chunk(3, dim=-1)  # each (B, T, D)
        mixed = functional.scaled_dot_product_attention(
            self._split(query),  # (B, H, T, K)
            self._split(key),  # (B, H, T, K)
            self._split(value),  # (B, H, T, K)
            attn_mask=visible,
            is_causal=self.is_causal,
        )
        return cast("Tensor", self.c_proj(self._join(mixed)))  # (B, T, D)

    def at(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Attend at one position of each sequence.

        Args:
            hidden: normed hidden states, (B, T, D).
            positions: the position that asks, (B,) int64; it sees itself and what stands before it.

        Returns:
            What `forward` would give there, (B, 1, D).
        """
        width = hidden.shape[-1]
        query = project(self.c_attn, _pick(hidden, positions), slice(width))  # (B, 1, D)
        key, value = project(self.c_attn, hidden, slice(width, None)).chunk(2, dim=-1)  # each (B, T, D)
        # Not causal but bounded: a single query sees the keys up to its own position. (B, 1, 1, T) spreads over the heads.
        visible = torch.arange(hidden.shape[1], device=hidden.device) <= positions[:, None]  # (B, T)
        mixed = functional.scaled_dot_product_attention(
            self._split(query),  # (B, H, 1, K)
            self._split(key),  # (B, H, T, K)
            self._split(value),  # (B, H, T, K)
            attn_mask=visible[:, None, None, :],
        )
        return cast("Tensor", self.c_proj(self._join(mixed)))  # (B, 1, D)

    def _split(self, flat: Tensor) -> Tensor:
        """Lay the heads apart."""
        return flat.view(*flat.shape[:2], self.n_head, -1).transpose(1, 2)  # (B, T, D) -> (B, T, H, K) -> (B, H, T, K)

    def _join(self, split: Tensor) -> Tensor:
        """Lay the heads side by side again."""
        return split.transpose(1, 2).flatten(2)  # (B, H, T, K) -> (B, T, H, K) -> (B, T, D)


class MLP(nn.Module):
    """Two linear layers, four times as wide between, with the tanh form of GELU that GPT-2 was trained with."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, 4 D) -> (B, T, D)."""
        return cast("Tensor", self.c_proj(functional.gelu(self.c_fc(hidden), approximate="tanh")))


class Block(nn.Module):
    """Attention and MLP, each added to what comes in, with the norm before and not after."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, hidden: Tensor, visible: Tensor | None = None) -> Tensor:
        """Compute every position: (B, T, D) -> (B, T, D); `visible` as in `Attention`."""
        hidden = hidden + self.attn(self.ln_1(hidden), visible)
        return cast("Tensor", hidden + self.mlp(self.ln_2(hidden)))

    def at(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Compute one position of each sequence: (B, T, D) and (B,) -> (B, 1, D)."""
        chosen = _pick(hidden, positions) + self.attn.at(self.ln_1(hidden), positions)
        return cast("Tensor", chosen + self.mlp(self.ln_2(chosen)))


class GPT2(nn.Module):
    """Token ids to hidden states.

    Args:
        config: the sizes. Parameters get GPT-2's random start, from torch's global generator; a trunk made under
            `torch.device("meta")` holds none until they are loaded with `assign=True`.
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        # Filled in below, not here: torch's own random start costs a second on the device that holds nothing.
        self.wte = nn.Embedding.from_pretrained(torch.empty(config.vocab_size, config.n_embd), freeze=False)  # type: ignore[no-untyped-call]
        self.wpe = nn.Embedding.from_pretrained(torch.empty(config.n_positions, config.n_embd), freeze=False)  # type: ignore[no-untyped-call]
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self._initialise()

    def forward(self, ids: Tensor, lengths: Tensor | None = None, *, reads: Reads = "all") -> Tensor:
        """Run the whole trunk.

        Args:
            ids: token ids, (B, T) int64, padded on the right with any valid id.
            lengths: number of real tokens, (B,) int64, each from 1 to T; None where nothing is padded.
            reads: the positions wanted.

        Returns:
            Hidden states after the final norm: (B, T, D) for "all", of which those in the padding mean nothing; (B, 1, D) at
            the last real token for "last".

        Raises:
            ValueError: T is longer than n_positions.
        """
        return self.from_block(self.hidden_before(ids, 0), 0, lengths, reads=reads)

    def hidden_before(self, ids: Tensor, block: int, lengths: Tensor | None = None) -> Tensor:
        """Run the embeddings and the blocks below `block`: what a frozen lower part gives, the same at every step.

        Args:
            ids: token ids, (B, T) int64.
            block: number of the first block that is not run, from 0 to n_layer.
            lengths: as in `forward`; read only by a trunk that is not causal.

        Returns:
            The input of that block, (B, T, D).

        Raises:
            ValueError: T is longer than n_positions, or there is no such block.
        """
        length, limit = ids.shape[1], self.config.n_positions
        if length > limit:
            raise ValueError(f"a sequence of {length} tokens is longer than the {limit} positions of this trunk")
        self._check_block(block)
        hidden = self.wte(ids) + self.wpe.weight[:length]  # (B, T, D) + (T, D)
        visible = self._visible(hidden, lengths)
        for layer in self.h[:block]:
            hidden = layer(hidden, visible)
        return cast("Tensor", hidden)

    def from_block(self, hidden: Tensor, block: int, lengths: Tensor | None = None, *, reads: Reads = "all") -> Tensor:
        """Run the blocks from `block` on and the final norm.

        Args:
            hidden: the input of that block, (B, T, D).
            block: number of the first block to run, from 0 to n_layer.
            lengths: as in `forward`.
            reads: as in `forward`.

        Returns:
            As `forward`.

        Raises:
            ValueError: there is no such block.
        """
        self._check_block(block)
        visible = self._visible(hidden, lengths)
        if reads == "all":
            for layer in self.h[block:]:
                hidden = layer(hidden, visible)
            return cast("Tensor", self.ln_f(hidden))  # (B, T, D)
        if lengths is None:
            lengths = torch.full(hidden.shape[:1], hidden.shape[1], device=hidden.device)
        last = lengths - 1  # (B,)
        if block == self.config.n_layer:
            return cast("Tensor", self.ln_f(_pick(hidden, last)))  # (B, 1, D)
        for layer in self.h[block:-1]:
            hidden = layer(hidden, visible)
        final = cast("Block", self.h[-1])
        return cast("Tensor", self.ln_f(final.at(hidden, last)))  # (B, 1, D)

    def _visible(self, hidden: Tensor, lengths: Tensor | None) -> Tensor | None:
        """Say which keys may be read, (B, 1, 1, T) bool; None where causality says it, or nothing is padded."""
        if self.config.is_causal or lengths is None:
            return None
        return (torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None])[:, None, None, :]

    def _check_block(self, block: int) -> None:
        """Refuse a block number that slicing would silently bend."""
        if not 0 <= block <= self.config.n_layer:
            raise ValueError(f"there is no block {block} to stop before or start at; this trunk has {self.config.n_layer}")

    def _initialise(self) -> None:
        """Give every parameter the random start of the GPT-2 paper."""
        if self.wte.weight.is_meta:
            return
        # Two branches a block add to the residual stream; scaling them keeps its variance from growing with depth.
        residual_deviation = INITIAL_DEVIATION / math.sqrt(2 * self.config.n_layer)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() > 1:
                deviation = residual_deviation if name.endswith("c_proj.weight") else INITIAL_DEVIATION
                nn.init.normal_(parameter, std=deviation)


def project(linear: nn.Linear, hidden: Tensor, rows: slice) -> Tensor:
    """Apply some output rows of a linear layer, with its adapter where `lora` gave it one: (B, T, D) -> (B, T, rows)."""
    out = functional.linear(hidden, linear.weight[rows], linear.bias[rows])
    adapter = getattr(linear, "lora", None)
    return out if adapter is None else cast("Tensor", out + adapter(hidden, rows))


def _pick(hidden: Tensor, positions: Tensor) -> Tensor:
    """Take one position of each sequence: (B, T, D) and (B,) -> (B, 1, D)."""
    return hidden.gather(1, positions[:, None, None].expand(-1, 1, hidden.shape[-1]))
