"""Measure how fast the proxy is without a model, beside what no filter can beat and beside a plain relay.

    python benchmarks/proxy.py [--rounds 5] [--json FILE]

smtp-source sends through 20 sessions over kept connections to smtp-sink: directly; through spamd with a judge that looks at
nothing; through spamd with a judge that reads out each message's text as the daemon does; and through a relay of aiosmtpd and
aiosmtplib, written as their manuals show, with its connections kept too. All relays run in uvloop, as the daemon does.
Contestants take turns within each round, and medians over the rounds are printed: messages a second, their share of the direct
way's, and the CPU time of the relay's process per message. What spamd adds to a message is the time that one session takes for
it through spamd, less the time without.

Needs smtp-source and smtp-sink (Debian: postfix) and `pip install --group benchmarks`.
"""

import argparse
import asyncio
import contextlib
import gc
import importlib.util
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvloop

from spamd.config import SmtpSettings
from spamd.mail.text import message_text
from spamd.service.filter import Judgement
from spamd.service.logs import configure_logging
from spamd.smtp.server import Proxy, start_proxy
from spamd.verdict import Verdict

SIZES = {"4k": 4096, "64k": 65536}
NUM_MESSAGES = {"4k": 3000, "64k": 1500}
NUM_SESSIONS = 20
START_SECONDS = 30.0
HAM = Verdict(score=0.01, threshold=0.5, checkpoint="none")
DIRECT, SPAMD, READING, PLAIN = "direct", "spamd", "spamd, reading", "plain relay"


class NullJudge:
    """Calls everything ham; reads messages out first, in a thread as `service.filter` does, where that is wanted."""

    def __init__(self, *, reads: bool) -> None:
        self._threads = ThreadPoolExecutor(2) if reads else None

    async def judge(self, message: bytes) -> Judgement:
        """Judge."""
        if self._threads:
            await asyncio.get_running_loop().run_in_executor(self._threads, message_text, message)
        return Judgement(HAM, (), {})


async def start_spamd(next_hop: str, *, reads: bool) -> Proxy:
    """Start the proxy, with a judge that reads messages or not."""
    settings = SmtpSettings(listen="127.0.0.1:0", next_hop=next_hop, hostname="mx.example.com")
    return await start_proxy(settings, NullJudge(reads=reads))


async def serve_spamd(next_hop: str, *, reads: bool) -> str:
    """Start the proxy; returns where it listens."""
    return (await start_spamd(next_hop, reads=reads)).addresses[0]


async def serve_plain_relay(next_hop: str) -> str:
    """Start a relay as the manuals of aiosmtpd and aiosmtplib show; returns where it listens."""
    import aiosmtplib
    from aiosmtpd.smtp import SMTP

    host, _, port = next_hop.rpartition(":")

    class Relay:
        async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  aiosmtpd's name
            if not hasattr(session, "client"):
                session.client = aiosmtplib.SMTP(hostname=host, port=int(port))
                await session.client.connect()
            await session.client.sendmail(envelope.mail_from, envelope.rcpt_tos, envelope.content)
            return "250 OK"

    relay, loop = Relay(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(relay, hostname="mx.example.com", loop=loop), "127.0.0.1", 0)
    return "127.0.0.1:{1}".format(*server.sockets[0].getsockname())


SERVERS: dict[str, Callable[[str], Awaitable[str]]] = {
    SPAMD: lambda next_hop: serve_spamd(next_hop, reads=False),
    READING: lambda next_hop: serve_spamd(next_hop, reads=True),
    PLAIN: serve_plain_relay,
}


def serve(name: str, next_hop: str) -> None:
    """Be one of the contestants until killed; prints the address first."""

    async def run() -> None:
        address = await SERVERS[name](next_hop)
        # As the daemon does; a kindness to all contestants alike.
        gc.freeze()
        print(address, flush=True)
        await asyncio.Event().wait()

    # A line is written for each message as in earnest, and kept nowhere.
    with Path(os.devnull).open("w") as nowhere:
        configure_logging("info", "json", nowhere)
        uvloop.run(run())


def program(name: str) -> str:
    """Find a program of Postfix's; exits where it is not installed."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    return found or sys.exit(f"{name} is not installed; install Debian's postfix package, which need not run.")


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """Run smtp-sink; yields its address."""
    address = free_address()
    owner = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([program("smtp-sink"), *owner, address, "1000"], stderr=subprocess.DEVNULL)
    try:
        wait_for(address)
        yield address
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def contestant(name: str, next_hop: str) -> Iterator[tuple[str, int]]:
    """Run a contestant in a process of its own; yields its address and process id, or the next hop itself and 0."""
    if name == DIRECT:
        yield next_hop, 0
        return
    command = [sys.executable, __file__, "--serve", name, "--next-hop", next_hop]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip() if process.stdout else ""
        wait_for(address)
        yield address, process.pid
    finally:
        process.kill()
        process.wait()


def free_address() -> str:
    """Find a port of this host that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1:{1}".format(*probe.getsockname())


def wait_for(address: str) -> None:
    """Wait until somebody listens."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def cpu_seconds(process: int) -> float:
    """CPU time that all threads of a process have used; 0 for none."""
    if not process:
        return 0.0
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{process}/task").iterdir()) / 1e9


def send(address: str, *, num_messages: int, num_sessions: int, num_bytes: int) -> float:
    """Send messages with smtp-source over kept connections; returns the seconds that it took."""
    sizes = ["-s", str(num_sessions), "-m", str(num_messages), "-l", str(num_bytes)]
    envelope = ["-f", "a@example.com", "-t", "b@example.com"]
    started = time.monotonic()
    subprocess.run([program("smtp-source"), "-d", *sizes, *envelope, f"inet:{address}"], check=True)
    return time.monotonic() - started


class Figures:
    """What was measured: lists of one value a round, by what, contestant and size."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str], list[float]] = defaultdict(list)

    def add(self, what: str, name: str, size: str, value: float) -> None:
        """Add one."""
        self._values[what, name, size].append(value)

    def median(self, what: str, name: str, size: str) -> float:
        """The median over the rounds."""
        return statistics.median(self._values[what, name, size])

    def ratio(self, name: str, other: str, size: str) -> float:
        """How many times as fast one is as another: the median over the rounds of their ratio within each."""
        pairs = zip(self._values["rate", name, size], self._values["rate", other, size], strict=True)
        return statistics.median(one / another for one, another in pairs)

    def added_milliseconds(self, name: str, size: str) -> float:
        """How much longer a message takes than directly, one at a time."""
        pairs = zip(self._values["seconds", name, size], self._values["seconds", DIRECT, size], strict=True)
        return 1000 * statistics.median(one - another for one, another in pairs)


def measure(rounds: int, num_messages: dict[str, int]) -> Figures:
    """Let all contestants run in turn, round after round."""
    figures = Figures()
    with contextlib.ExitStack() as running:
        next_hop = running.enter_context(sink())
        places = {name: running.enter_context(contestant(name, next_hop)) for name in (DIRECT, *SERVERS)}
        for turn in range(-1, rounds):
            for size, num_bytes in SIZES.items():
                for name, (address, process) in places.items():
                    num = num_messages[size]
                    before = cpu_seconds(process)
                    seconds = send(address, num_messages=num, num_sessions=NUM_SESSIONS, num_bytes=num_bytes)
                    cpu = cpu_seconds(process) - before
                    alone = send(address, num_messages=num // 5, num_sessions=1, num_bytes=num_bytes)
                    # The first turn warms up.
                    if turn >= 0:
                        figures.add("rate", name, size, num / seconds)
                        figures.add("cpu", name, size, cpu / num)
                        figures.add("seconds", name, size, alone / (num // 5))
    return figures


def table(figures: Figures) -> str:
    """Lay the figures out for people."""
    lines = [f"{'':16}{'size':>6}{'msg/s':>9}{'of direct':>11}{'of plain relay':>16}{'CPU ms/msg':>12}{'added ms':>10}"]
    for size in SIZES:
        for name in (DIRECT, *SERVERS):
            cpu = f"{1000 * figures.median('cpu', name, size):.2f}" if name != DIRECT else "-"
            added = f"{figures.added_milliseconds(name, size):.2f}" if name != DIRECT else "-"
            lines.append(
                f"{name:16}{size:>6}{figures.median('rate', name, size):9.0f}{figures.ratio(name, DIRECT, size):11.1%}"
                f"{figures.ratio(name, PLAIN, size):15.2f}x{cpu:>12}{added:>10}"
            )
    return "\n".join(lines)


def values(figures: Figures) -> dict[str, float]:
    """Lay the figures out for machines."""
    found = {f"ratio_to_direct_{size}": figures.ratio(SPAMD, DIRECT, size) for size in SIZES}
    found |= {f"ratio_to_plain_relay_{size}": figures.ratio(SPAMD, PLAIN, size) for size in SIZES}
    return found | {"added_latency_ms_4k": figures.added_milliseconds(SPAMD, "4k")}


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Measure the proxy without a model.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of messages")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--next-hop", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.next_hop)
        return
    if importlib.util.find_spec("aiosmtplib") is None:
        sys.exit("aiosmtplib is not installed; run pip install --group benchmarks.")
    figures = measure(arguments.rounds, {size: int(num * arguments.scale) for size, num in NUM_MESSAGES.items()})
    print(table(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(values(figures), indent=1) + "\n")


if __name__ == "__main__":
    main()
