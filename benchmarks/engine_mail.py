"""The daemon end to end with the checkpoint that ships, beside SpamAssassin and rspamd on the same messages.

spamd runs as an administrator would start it, in a process of its own, without a cache, before an smtp-sink. Twenty sessions send
every message once, each session the next message as soon as the last is answered: that gives the rate. At a quarter, a half and
three quarters of it messages come at random times, and the time from when each was due to the reply to its dot is taken. While
twenty sessions keep it busy, others connect and say EHLO, and the time to both replies is taken.

SpamAssassin is measured by `spamassassin.py`, rspamd by `rspamd.py`, in turn with spamd, since a machine that others use is not
equally fast all the time; printed are medians of the rounds. Called by `engine.py`.
"""

import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import rspamd
import spamassassin
import written_mail
from hostile import Session
from proxy import sink

from spamd.inference.devices import usable_cpus
from spamd.mail.mailboxes import StoredMessage, message_files, read_messages

NUM_SESSIONS = 20
NUM_ROUNDS = 3
LOADS = (0.25, 0.5, 0.75)
LOAD_SECONDS = 12.0
NUM_GREETED = 100
GREETING_PAUSE_SECONDS = 0.05
START_SECONDS = 120.0
MIB = 1024 * 1024


def read_mail(mail: Path, most: int) -> list[StoredMessage]:
    """Read stored messages, none twice, in an order that a seed gives."""
    found = {message.raw: message for file in message_files(mail) for message in read_messages(file)}
    ordered = [found[raw] for raw in sorted(found)]
    random.Random(123).shuffle(ordered)  # noqa: S311  no secret
    return ordered[:most]


def on_the_wire(message: bytes) -> bytes:
    """Give a message the line ends and the dots that SMTP wants."""
    lines = message.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
    return b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)


@contextlib.contextmanager
def daemon(next_hop: str) -> Iterator[tuple[str, int, float]]:
    """Run spamd; yields its address, process id and the seconds until it was ready."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "spamd.toml"
        settings.write_text(
            f'state_dir = "{folder}/state"\nplugins_dir = "{folder}/plugins"\n[scoring]\ncache_size = 0\ndevice = "cpu"\n'
            f'[smtp]\nlisten = "127.0.0.1:0"\nnext_hop = "{next_hop}"\n'
            "max_connections = 1000\nmax_connections_per_client = 1000\n"
        )
        command = [sys.executable, "-c", "from spamd.cli.spamd import main; main()", "--config", str(settings)]
        with (Path(folder) / "log").open("wb") as lines:
            started = time.monotonic()
            process = subprocess.Popen(command, stderr=lines)
            try:
                address = _ready(Path(folder) / "log", process)
                yield address, process.pid, time.monotonic() - started
            finally:
                process.terminate()
                process.wait()


def _ready(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait until the log says that mail is filtered, and where."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for line in log.read_text().splitlines():
            if '"ready"' in line:
                return str(json.loads(line)["listen"][0])
        time.sleep(0.01)
    sys.exit(f"spamd did not get ready; it said: {log.read_text()[-500:]}")


async def submit(session: Session, wire: bytes) -> None:
    """Send one message in a session that was greeted."""
    await session.say(b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.com>", b"DATA")
    session.writer.write(wire + b".\r\n")
    reply = await session.reply()
    if not reply.startswith(b"250"):
        raise RuntimeError(f"a message was answered {reply!r}")


async def at_full_speed(address: str, messages: Sequence[bytes], num_sessions: int = NUM_SESSIONS) -> float:
    """Send every message once, each session one after another; returns messages a second."""
    left = iter(messages)

    async def send() -> None:
        async with Session(address) as session:
            await session.say(b"EHLO client.example.com")
            for wire in left:
                await submit(session, wire)

    started = time.monotonic()
    await asyncio.gather(*(send() for _ in range(num_sessions)))
    return len(messages) / (time.monotonic() - started)


async def at_a_rate(address: str, messages: Sequence[bytes], rate: float) -> dict[str, float]:
    """Send messages at random times, so many a second on average; returns what each took, in milliseconds, as quantiles."""
    draw = random.Random(123)  # noqa: S311  no secret
    idle: list[Session] = []
    times: list[float] = []

    async def send(wire: bytes, due: float) -> None:
        session = idle.pop() if idle else await Session(address).__aenter__()
        await session.say(b"EHLO client.example.com")
        await submit(session, wire)
        times.append(1000 * (time.monotonic() - due))
        idle.append(session)

    begun = due = time.monotonic()
    sending = []
    for number in range(max(20, int(rate * LOAD_SECONDS))):
        due += draw.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        sending.append(asyncio.create_task(send(messages[number % len(messages)], due)))
    await asyncio.gather(*sending)
    for session in idle:
        session.writer.transport.abort()
    return {**quantiles(times), "messages_per_second": len(times) / (time.monotonic() - begun)}


async def greetings(address: str, messages: Sequence[bytes]) -> dict[str, float]:
    """Connect and say EHLO again and again while the engine is kept busy; returns the milliseconds to both replies."""
    times: list[float] = []

    async def keep_busy() -> None:
        while True:
            await at_full_speed(address, messages)

    busy = asyncio.create_task(keep_busy())
    await asyncio.sleep(1.0)
    for _ in range(NUM_GREETED):
        began = time.monotonic()
        async with Session(address) as session:
            await session.say(b"EHLO client.example.com")
            times.append(1000 * (time.monotonic() - began))
        await asyncio.sleep(GREETING_PAUSE_SECONDS)
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)
    return quantiles(times)


def quantiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """Median, and what 95 and 99 of a hundred do not exceed."""
    cuts = statistics.quantiles(milliseconds, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}


def memory_of_all(process: int) -> int:
    """Memory of a process and all below it in bytes; what several share counts once (`Pss` of proc_pid_smaps(5))."""
    below = [int(child) for one in Path(f"/proc/{process}/task").glob("*/children") for child in one.read_text().split()]
    own = Path(f"/proc/{process}/smaps_rollup").read_text().partition("\nPss:")[2].split()[0]
    return 1024 * int(own) + sum(memory_of_all(child) for child in below)


def rate_of_spamd(messages: Sequence[bytes]) -> float:
    """Start spamd and send it every message once; returns messages a second."""
    with sink() as next_hop, daemon(next_hop) as (address, _, _):
        asyncio.run(at_full_speed(address, messages[:NUM_SESSIONS]))
        return asyncio.run(at_full_speed(address, messages))


def measure_spamd(messages: Sequence[bytes]) -> dict[str, Any]:
    """Measure spamd: rate, latency under load, memory, start, and how long others wait."""
    with sink() as next_hop, daemon(next_hop) as (address, process, start_seconds):
        asyncio.run(at_full_speed(address, messages[:NUM_SESSIONS]))
        rate = asyncio.run(at_full_speed(address, messages))
        latency = {f"{load:.0%}": asyncio.run(at_a_rate(address, messages, load * rate)) for load in LOADS}
        return {
            "end_to_end_messages_per_second": rate,
            "latency_milliseconds": latency,
            "greeting_milliseconds": asyncio.run(greetings(address, messages)),
            "memory_mebibytes": memory_of_all(process) / MIB,
            "start_seconds": start_seconds,
        }


def measure(mail: Path | None, most: int) -> dict[str, Any]:
    """Measure all filters on the same messages, and print what comes of it."""
    with tempfile.TemporaryDirectory() as folder:
        if mail is None:
            written_mail.write(Path(folder))
        messages = read_mail(mail or Path(folder), most)
    wires = [on_the_wire(message.raw) for message in messages]
    print(f"{len(wires)} messages of {sum(map(len, wires)) / len(wires) / 1024:.1f} KiB on average, {usable_cpus()} CPUs")
    found = measure_spamd(wires)
    print(f"spamd through SMTP: {found['end_to_end_messages_per_second']:.1f} messages/s", end="; ")
    print(f"{found['memory_mebibytes']:.0f} MiB; ready after {found['start_seconds']:.1f} s")
    for load, row in found["latency_milliseconds"].items():
        print(f"  at {load} of that: p50 {row['p50']:.0f} ms, p95 {row['p95']:.0f} ms, p99 {row['p99']:.0f} ms")
    row = found["greeting_milliseconds"]
    print(f"  banner and EHLO while busy: p50 {row['p50']:.1f} ms, p99 {row['p99']:.1f} ms", flush=True)
    for name, peer in (("SpamAssassin", spamassassin), ("rspamd", rspamd)):
        rounds = []
        for _ in range(NUM_ROUNDS):
            ours = rate_of_spamd(wires)
            theirs, note = peer.messages_per_second(messages)
            if theirs is None:
                print(note, flush=True)
                break
            rounds.append((ours, theirs, ours / theirs))
        else:
            ours, theirs, ratio = map(statistics.median, zip(*rounds, strict=True))
            print(f"{name}: {theirs:.1f} messages/s ({note}), spamd beside it {ours:.1f}, {ratio:.2f} times as many", flush=True)
            key = name.lower()
            found |= {f"{key}_messages_per_second": theirs, f"beside_{key}_messages_per_second": ours, f"vs_{key}": ratio}
    return found
