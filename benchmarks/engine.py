"""Measure how fast the engine is, beside what else could run the same GPT-2, and the daemon beside SpamAssassin.

    python benchmarks/engine.py [--messages 24] [--rounds 2] [--mail PATH] [--without engine|mail] [--json FILE]

First the engine alone, with random weights of the published 124M shape on a realistic mix of lengths: contestants take turns
within each round, and medians over the rounds are printed, with the CPU time of the whole process and the largest difference from
our logits. Then the daemon with the checkpoint that ships, end to end (`engine_mail.py`). On a machine with a GPU the published
sizes are measured there besides (`engine_gpu.py`).

Needs `pip install --group benchmarks` for the peers, Debian's postfix (smtp-sink) and spamd and spamc for the mail.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import engine_gpu
import engine_mail
import torch
from engine_peers import contestants, length_mix

from spamd.inference.devices import set_threads
from spamd.model.gpt2 import PUBLISHED
from spamd.model.precision import uses_bfloat16

OURS, DOCUMENTED = "spamd", "transformers, as documented"
NUM_TO_WARM_UP = 2


def measure(num_messages: int, rounds: int) -> dict[str, Any]:
    """Let all contestants compute the same sequences in turn, round after round."""
    threads = set_threads(0)
    sequences = length_mix(num_messages, PUBLISHED["gpt2"].vocab_size - 1)
    print(f"{num_messages} messages of {sum(map(len, sequences)) / num_messages:.0f} tokens on average, {threads} threads")
    entered, answers = {}, {}
    # A generator, so that the peers' files live as long as they do.
    making = contestants(threads, uses_bfloat16(torch.device("cpu")))
    for name, run in making:
        run(sequences[:NUM_TO_WARM_UP])
        entered[name] = run
    seconds: dict[str, list[float]] = {name: [] for name in entered}
    cpu: dict[str, list[float]] = {name: [] for name in entered}
    for _ in range(rounds):
        for name, run in entered.items():
            wall, used = time.perf_counter(), time.process_time()
            answers[name] = run(sequences)
            seconds[name].append(time.perf_counter() - wall)
            cpu[name].append(time.process_time() - used)
    return {
        name: {
            "messages_per_second": num_messages / statistics.median(seconds[name]),
            "of_spamd": statistics.median(ours / theirs for ours, theirs in zip(seconds[OURS], seconds[name], strict=True)),
            "cpu_milliseconds": 1000 * statistics.median(cpu[name]) / num_messages,
            "largest_difference": float((answers[name] - answers[OURS]).abs().max()),
        }
        for name in entered
    }


def values(figures: dict[str, Any]) -> dict[str, Any]:
    """How many times as fast as its peers spamd is: in each arithmetic and, without ending, in its fastest, which is named."""
    peers = {name: row["of_spamd"] for name, row in figures.items() if not name.startswith(OURS)}
    best = max((speed for name, speed in peers.items() if name != DOCUMENTED), default=float("nan"))
    ours = {name.removeprefix(OURS).strip() or "float": row["of_spamd"] for name, row in figures.items() if name not in peers}
    fastest = max(ours, key=ours.__getitem__)
    found: dict[str, Any] = {"arithmetic": fastest}
    for ending, speed in [("", ours[fastest]), *((f"_{name}", speed) for name, speed in ours.items())]:
        found |= {f"vs_transformers_fp32{ending}": speed / peers[DOCUMENTED], f"vs_best_peer{ending}": speed / best}
    return found


def table(figures: dict[str, Any]) -> str:
    """Lay the figures out for people."""
    lines = [f"{'':30}{'msg/s':>8}{'of spamd':>10}{'CPU ms/msg':>12}{'logits differ by':>18}"]
    lines += [
        f"{name:30}{row['messages_per_second']:8.2f}{row['of_spamd']:10.2f}{row['cpu_milliseconds']:12.0f}"
        f"{row['largest_difference']:18.1e}"
        for name, row in figures.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Measure the engine beside its peers, and the daemon beside SpamAssassin.")
    parser.add_argument("--messages", type=int, default=24, help="token sequences for the engine alone")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--mail", type=Path, help="stored messages to send; without it, mail written for this project")
    parser.add_argument("--mail-messages", type=int, default=600, help="how many of them are sent at the most")
    parser.add_argument("--without", choices=["engine", "mail"], help="leave one half out")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    if arguments.without != "engine":
        figures = measure(arguments.messages, arguments.rounds)
        found |= values(figures) | {"contestants": figures}
        print(table(figures), flush=True)
        for name, value in values(figures).items():
            print(f"{name}: {value if isinstance(value, str) else format(value, '.2f')}", flush=True)
    if torch.cuda.is_available():
        found |= engine_gpu.measure()
    if arguments.without != "mail":
        found |= engine_mail.measure(arguments.mail, arguments.mail_messages)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
