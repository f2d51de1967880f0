"""How much faster the trainer is than the reference procedure, on the same machine, weights, messages and policy.

    python benchmarks/trainer.py --data FOLDER [--seeds 1] [--epochs 5] [--threads 2] [--most 0] [--json FILE]

GPT-2's 124M sizes with random weights (speed does not depend on their values), the SMS collection cut as the reference cuts it,
the last block, the final norm and a new head trained for 5 epochs at the same constant rate. The reference procedure is
`reference.py`: float32, everything filled up to the longest message, the whole trunk at every step. Ours runs the frozen blocks
once, in bfloat16 where the processor has it, sorts messages by length, and computes the last block at the position that is read.
Both read the last token of the text, so that what they learn is the same; reading a pad instead costs the reference as much.

Each contestant runs in a process of its own, one after the other. Time begins with the raw file and ends with the trained
weights; starting Python and making random weights are left out for both. Losses are of the whole validation part after the
last epoch. Ours ends with the weights of the best epoch, as the reference does not: what these reach is told apart, and so is the
accuracy on the test part, with the weights that either ends with. With `--seeds N` both are repeated with other seeds, which
decide split, weights and batches.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import reference
import torch
from torch.nn import functional

from spamd.model.classifier import Classifier
from spamd.model.gpt2 import GPT2Config
from spamd.model.heads import LastToken
from spamd.model.precision import uses_bfloat16
from spamd.training import freezing
from spamd.training.parts import Part, tokenise
from spamd.training.trainer import Recipe, train


def main() -> None:
    """Let both run, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    reference.add_options(parser)
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, counted up from --seed")
    parser.add_argument("--contestant", choices=("ours",), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.contestant:
        run_ours(options)
        return
    runs: dict[str, list[dict[str, Any]]] = {"reference": [], "ours": []}
    for seed in range(options.seed, options.seed + options.seeds):
        for contestant, found in runs.items():
            found.append(run_apart(contestant, options, seed))
            print(f"{contestant}, seed {seed}: {found[-1]['seconds']:.1f} s, loss {found[-1]['validation_loss']:.4f}", flush=True)
    config = reference.make_trunk("mini", 0)[0].config if options.base == "mini" else reference.PUBLISHED["gpt2"]
    figures = compare(runs, options.epochs, config, measure_peak(options.device))
    print(describe(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def run_apart(contestant: str, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Run a contestant in a process of its own and return its figures."""
    here = Path(__file__).parent
    special = [here / "reference.py", "--read", "last-real"] if contestant == "reference" else [__file__, "--contestant", "ours"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        shared = {name: getattr(options, name) for name in ("data", "base", "epochs", "most", "threads", "device")} | {
            "seed": seed
        }
        arguments = [part for name, value in shared.items() for part in (f"--{name}", str(value))]
        command = [sys.executable, *map(str, special), *arguments, "--json", str(file)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def run_ours(options: argparse.Namespace) -> None:
    """Train with the product's own trainer, and write figures."""
    trunk, tokenizer = reference.make_trunk(options.base, options.seed)
    torch.manual_seed(options.seed)
    classifier = Classifier(trunk, LastToken(trunk.config.n_embd, 2)).to(options.device)
    began = time.monotonic()
    # The reference cuts to the longest training message; nothing is longer here but one or two of the others.
    parts = [tokenise(part, tokenizer, 1024) for part in reference.parts_of(options.data, options.seed, options.most)]
    recipe = Recipe(
        "last-block",
        freezing.last_block,
        epochs=options.epochs,
        batch_size=reference.BATCH_SIZE,
        learning_rate=reference.LEARNING_RATE,
        weight_decay=reference.WEIGHT_DECAY,
        seed=options.seed,
        schedule="constant",
        precision="auto",
    )
    training = train(classifier, parts[0], parts[1], recipe)
    seconds = time.monotonic() - began
    loss, accuracy = judge(classifier, parts[1])
    figures = {
        "seconds": seconds,
        "seconds_by_epoch": [epoch.seconds for epoch in training.epochs],
        "validation_loss": training.epochs[-1].validation_loss,
        "best_validation_loss": loss,
        "best_validation_accuracy": accuracy,
        "test_accuracy": judge(classifier, parts[2])[1],
        "tokens": sum(parts[0].lengths),
        "validation_tokens": sum(parts[1].lengths),
        "messages": [len(part.labels) for part in parts],
        "peak_rss_mib": reference.peak_rss_mib(),
    }
    options.json.write_text(json.dumps(figures), encoding="utf-8")


@torch.no_grad()
def judge(classifier: Classifier, part: Part) -> tuple[float, float]:
    """Compute mean loss and accuracy with the whole model."""
    device = next(classifier.parameters()).device
    batches = ([tensor.to(device) for tensor in part.pad([position])] for position in range(len(part.labels)))
    logits = torch.cat([classifier(*batch) for batch in batches]).cpu()
    labels = torch.from_numpy(part.labels)
    return float(functional.cross_entropy(logits, labels)), float((logits.argmax(-1) == labels).float().mean())


def measure_peak(device: str) -> float:
    """Measure how many operations a second large products reach at best, in bfloat16 where the device has it."""
    size = 2048 if device == "cpu" else 8192
    has_bfloat16 = uses_bfloat16(torch.device(device))
    one = torch.randn(size, size, device=device, dtype=torch.bfloat16 if has_bfloat16 else torch.float32)
    best = float("inf")
    for _ in range(5):
        began = time.monotonic()
        # Reading a number waits for the device.
        float((one @ one)[0, 0])
        best = min(best, time.monotonic() - began)
    return 2.0 * size**3 / best


def compare(runs: dict[str, list[dict[str, Any]]], epochs: int, config: GPT2Config, peak: float = float("inf")) -> dict[str, Any]:
    """Work out the ratio, how many operations either needs, and how near it comes to the peak."""
    seconds = {name: statistics.mean(run["seconds"] for run in found) for name, found in runs.items()}
    losses = {name: [run["validation_loss"] for run in found] for name, found in runs.items()}
    needed = {"reference": operations_of_reference(runs["reference"][0], epochs, config)}
    needed["ours"] = operations_of_ours(runs["ours"][0], epochs, config)
    return {
        "speedup_vs_reference": seconds["reference"] / seconds["ours"],
        "validation_loss_ours": statistics.mean(losses["ours"]),
        "validation_loss_reference": statistics.mean(losses["reference"]),
        "peak_rss_mib": {name: max(run["peak_rss_mib"] for run in found) for name, found in runs.items()},
        "seconds": seconds,
        "validation_losses": losses,
        "best_validation_losses": [run["best_validation_loss"] for run in runs["ours"]],
        "test_accuracy": {name: [run["test_accuracy"] for run in found] for name, found in runs.items()},
        "teraflop": {name: number / 1e12 for name, number in needed.items()},
        "gigaflops": {name: needed[name] / seconds[name] / 1e9 for name in seconds},
        "share_of_peak": {name: needed[name] / seconds[name] / peak for name in seconds},
        "examples_per_second": {name: epochs * runs[name][0]["messages"][0] / seconds[name] for name in seconds},
        "threads": torch.get_num_threads(),
        "runs": runs,
    }


def operations_of_reference(run: dict[str, Any], epochs: int, config: GPT2Config) -> float:
    """Count multiplications and additions: every block of every padded token, the last one backwards too, and evaluations."""
    block = 24 * config.n_embd**2 + 4 * config.n_embd * run["padded_tokens"]
    num_steps = epochs * (run["messages"][0] // reference.BATCH_SIZE)
    num_evaluated = 2 * reference.BATCHES_EVALUATED * reference.BATCH_SIZE
    num_looks = len(run["curves"]["steps"]) + epochs
    forward = num_steps * reference.BATCH_SIZE + num_looks * num_evaluated
    return float(run["padded_tokens"] * block * (forward * config.n_layer + 2 * num_steps * reference.BATCH_SIZE))


def operations_of_ours(run: dict[str, Any], epochs: int, config: GPT2Config) -> float:
    """Count the same: frozen blocks once, then keys and values of every token and the rest at one position, both ways."""
    frozen = (run["tokens"] + run["validation_tokens"]) * 24 * config.n_embd**2 * (config.n_layer - 1)
    keys_and_values = 4 * config.n_embd**2
    elsewhere = 20 * config.n_embd**2
    learned = 3 * (run["tokens"] * keys_and_values + run["messages"][0] * elsewhere)
    judged = run["validation_tokens"] * keys_and_values + run["messages"][1] * elsewhere
    return float(frozen + epochs * (learned + judged))


def describe(figures: dict[str, Any]) -> str:
    """Print the comparison for people."""
    names = ("reference", "ours")
    rows = [
        f"{'':<12}{'seconds':>10}{'messages/s':>12}{'TFLOP':>9}{'of peak':>9}{'validation loss':>17}{'test %':>8}{'peak MiB':>10}"
    ]
    for name in names:
        loss, right = (statistics.mean(figures[key][name]) for key in ("validation_losses", "test_accuracy"))
        rows.append(
            f"{name:<12}{figures['seconds'][name]:>10.1f}{figures['examples_per_second'][name]:>12.1f}"
            f"{figures['teraflop'][name]:>9.1f}{100 * figures['share_of_peak'][name]:>7.1f} %"
            f"{loss:>17.4f}{100 * right:>8.2f}{figures['peak_rss_mib'][name]:>10,.0f}"
        )
    best = statistics.mean(figures["best_validation_losses"])
    rows.append(f"ours with the weights of the best epoch, which it ends with: validation loss {best:.4f}")
    return "\n".join([*rows, f"{figures['speedup_vs_reference']:.1f} times as fast, on {figures['threads']} threads"])


if __name__ == "__main__":
    main()
