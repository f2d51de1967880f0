"""One of several processes that train together, started by torch as `python tests/ranks_process.py FOLDER [OPTION...]`.

Rank 0 writes the trained weights to FOLDER/weights.safetensors. Options: `--resume`; `--die-at N` kills rank 1 before its step N;
`--other-mail` gives rank 1 other mail than rank 0.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from spamd.model.classifier import Classifier
from spamd.model.gpt2 import GPT2, GPT2Config
from spamd.model.heads import LastToken
from spamd.model.tokenizer import Tokenizer, vocabulary_bytes
from spamd.training import freezing, ranks, trainer
from spamd.training.trainer import Recipe, train

RECIPE = Recipe(
    "last-block", freezing.last_block, epochs=2, batch_size=5, accumulate=2, learning_rate=1e-3, seed=7, save_seconds=0.0
)
"""Fifty-six messages in steps of ten, in pieces of five: none falls to two processes evenly."""


def make():
    """Make the classifier and the mail, the same ones everywhere."""
    from teaching import part

    tokenizer = Tokenizer(vocabulary_bytes({bytes([value]): value for value in range(256)}), "the byte vocabulary")
    torch.set_num_threads(1)
    torch.manual_seed(123)
    config = GPT2Config(vocab_size=257, n_positions=128, n_embd=32, n_layer=2, n_head=4)
    classifier = Classifier(GPT2(config), LastToken(32, 2)).eval()
    other = "--other-mail" in sys.argv and os.environ.get("RANK") == "1"
    # Judged by mail that it learns, so that the last epoch is the best.
    return classifier, part(28, tokenizer, 3 if other else 1), part(8, tokenizer, 1)


def main(folder: Path) -> None:
    """Train, and let rank 0 write what came of it."""
    if "--die-at" in sys.argv and os.environ["RANK"] == "1":
        _die_at(int(sys.argv[sys.argv.index("--die-at") + 1]))
    classifier, *parts = make()
    with ranks.joined(torch.device("cpu")) as world:
        train(classifier, *parts, RECIPE, folder=folder / "state", is_resumed="--resume" in sys.argv)
    if helpers := _threads_left():
        sys.exit(f"Threads that outlive the training, and may abort the process as it ends: {helpers}")
    if world.is_first:
        save_file(classifier.state_dict(), folder / "weights.safetensors")


def _threads_left() -> list[str]:
    """Name the threads of Gloo that do not end; one that has ended is listed for a moment longer."""
    names: list[str] = []
    for _ in range(100):
        names = []
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):
                names.append((task / "comm").read_text(encoding="utf-8").strip())
        names = [name for name in names if "gloo" in name]
        if not names:
            break
        time.sleep(0.1)
    return names


def _die_at(number: int) -> None:
    """Let this process be killed before a step, counted from 0."""
    step, count = trainer._step, iter(range(10**6))

    def dying(*arguments):
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments)

    trainer._step = dying


if __name__ == "__main__":
    main(Path(sys.argv[1]))
