"""Kill one of two replicas while mail flows through the proxy, and count what became of it.

    python benchmarks/fleet.py [--messages 600] [--sessions 8] [--kills 3] [--seed 123] [--json FILE]

`spamd-admin fleet serve` runs two replicas of the checkpoint that ships, by Ray Serve, on this machine; the daemon asks them, and
mail goes through it by SMTP to a next hop that keeps it. Now and then one replica dies by SIGKILL with what it has in flight,
and Ray starts another. Each message is like no other, so that no score is known before it is asked for.

A message is lost when its client was told 250 and the next hop does not have it, and unscored when its header has no verdict.
Who scored is what the daemon counts: the fleet, or the proxy itself.

Needs pip install '.[fleet]'. Exit status: 0 when none was lost, none went twice and none is unscored, 1 otherwise.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import random
import re
import secrets
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from daemon_process import DaemonProcess, connected  # noqa: E402  what the tests use
from next_hop import NextHop  # noqa: E402
from postfix_process import free_port  # noqa: E402

NUM_REPLICAS = 2
REPLICA = "ray::ServeReplica"
"""What Ray calls the processes of replicas."""

PATIENCE_SECONDS = 180.0
MAX_DELAY_SECONDS = 0.5
SUBJECT = re.compile(rb"^Subject: ", re.MULTILINE)
MESSAGE_ID = re.compile(rb"^Message-ID: <(\d+)@fleet\.test>", re.MULTILINE)


@dataclass
class Figures:
    """What was counted, and how long clients waited.

    Attributes:
        sent: messages whose client was told 250.
        refused: messages whose client was told anything else.
        lost: messages sent that did not arrive.
        twice: copies that arrived besides.
        unscored: messages that arrived without a verdict.
        scored_by_fleet: texts that the fleet scored.
        scored_by_proxy: texts that the proxy scored itself.
        asked_again: requests that broke and were made once more.
        p50_milliseconds: median of the time between a message and its reply.
        max_milliseconds: the longest.
        replica_back_seconds: how long after a kill there were two replicas again, at the most.
        times_left_alone: how often the proxy gave the fleet up for a while.
    """

    sent: int = 0
    refused: int = 0
    lost: int = 0
    twice: int = 0
    unscored: int = 0
    scored_by_fleet: int = 0
    scored_by_proxy: int = 0
    asked_again: int = 0
    p50_milliseconds: float = 0.0
    max_milliseconds: float = 0.0
    replica_back_seconds: float = 0.0
    times_left_alone: int = 0


@dataclass
class Load:
    """Messages on their way.

    Attributes:
        specimens: what they are made of.
        numbers: those that are still to be sent.
        replies: reply to each, by number.
        seconds: how long each took.
    """

    specimens: list[bytes]
    numbers: Iterator[int]
    replies: dict[int, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    async def send(self, address: str) -> None:
        """Send through one session until there is no more."""
        async with connected(address) as client:
            for number in self.numbers:
                specimen = self.specimens[number % len(self.specimens)]
                # The model reads the subject, whatever the form of the rest.
                specimen = SUBJECT.sub(b"Subject: number %d " % number, specimen, count=1)
                message = b"Message-ID: <%d@fleet.test>\r\n%b" % (number, specimen)
                started = time.monotonic()
                self.replies[number] = await client.send_message(message)
                self.seconds.append(time.monotonic() - started)


@contextlib.asynccontextmanager
async def fleet(folder: Path, token_file: Path) -> AsyncIterator[tuple[str, int]]:
    """Serve two replicas until the block ends; yields their address and the process that started them."""
    settings = folder / "fleet.toml"
    settings.write_text(
        f'state_dir = "{folder / "fleet"}"\nplugins_dir = "/nonexistent"\n[scoring]\ndevice = "cpu"\nthreads = 1\n'
    )
    address = f"127.0.0.1:{free_port()}"
    command = [Path(sys.executable).with_name("spamd-admin"), "fleet", "serve", "--config", settings, "--listen", address]
    options = ["--token-file", token_file, "--replicas", str(NUM_REPLICAS)]
    with (folder / "fleet.log").open("wb") as log:
        served = await asyncio.create_subprocess_exec(*command, *options, stdout=log, stderr=log)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while b"replicas answer at" not in (folder / "fleet.log").read_bytes():
                if served.returncode is not None:
                    sys.exit(f"error: the fleet did not start:\n{(folder / 'fleet.log').read_text()}")
                await asyncio.sleep(0.1)
        yield f"http://{address}", served.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            served.terminate()
        await asyncio.wait_for(served.wait(), PATIENCE_SECONDS)


def replicas(ancestor: int) -> list[int]:
    """Find the replicas among the descendants of a process."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and (folder / "cmdline").read_text().startswith(REPLICA):
                found += [int(folder.name)] if ancestor in ancestors(int(folder.name)) else []
    return sorted(found)


def ancestors(process: int) -> Iterator[int]:
    """Yield the parent of a process, its parent, and so on."""
    while process > 1:
        # The name, in parentheses, may hold anything; the parent is the second field behind it.
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        yield process


async def kill(next_hop: NextHop, num_kills: int, num_messages: int, ancestor: int) -> float:
    """Kill a replica again and again, at random moments evenly spread; returns the longest time until there were two again."""
    longest = 0.0
    for number in range(num_kills):
        while len(next_hop.messages) < num_messages * (number + 1) // (num_kills + 1):  # noqa: ASYNC110  it has no event for that
            await asyncio.sleep(0.01)
        # The count alone would choose moments at which a batch has just been scored.
        await asyncio.sleep(random.uniform(0.0, MAX_DELAY_SECONDS))  # noqa: S311  no secret
        before = replicas(ancestor)
        os.kill(random.choice(before), signal.SIGKILL)  # noqa: S311
        started = time.monotonic()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not set(replicas(ancestor)) - set(before):  # noqa: ASYNC110  Ray tells nobody
                await asyncio.sleep(0.05)
        longest = max(longest, time.monotonic() - started)
    return longest


async def measure(num_messages: int, num_sessions: int, num_kills: int) -> Figures:
    """Send, kill, count."""
    specimens = [file.read_bytes() for file in sorted((HERE / "demo").glob("*/*.eml"))]
    load = Load(specimens, iter(range(num_messages)))
    with tempfile.TemporaryDirectory(prefix="spamd-fleet-benchmark-") as name:
        folder = Path(name)
        token_file = folder / "token"
        token_file.write_text(secrets.token_hex(32))
        token_file.chmod(0o600)
        async with NextHop() as next_hop, fleet(folder, token_file) as (url, started_by):
            settings = f'scorer = "remote"\nremote_url = "{url}"\nremote_token_file = "{token_file}"\n'
            daemon = DaemonProcess(folder / "daemon", None, next_hop.address, settings=settings)
            async with daemon:
                killing = asyncio.create_task(kill(next_hop, num_kills, num_messages, started_by))
                await asyncio.gather(*(load.send(daemon.address) for _ in range(num_sessions)))
                back = await killing
            return figures_of(load, next_hop, daemon, back)


def figures_of(load: Load, next_hop: NextHop, daemon: DaemonProcess, back: float) -> Figures:
    """Count what became of the messages."""
    arrived = Counter(int(MESSAGE_ID.search(message.content)[1]) for message in next_hop.messages)
    sent = [number for number, reply in load.replies.items() if reply.startswith("250")]
    (counts,) = daemon.lines("fleet")
    return Figures(
        sent=len(sent),
        refused=len(load.replies) - len(sent),
        lost=sum(not arrived[number] for number in sent),
        twice=arrived.total() - len(arrived),
        unscored=sum(b"tests=GPT2_" not in message.content for message in next_hop.messages),
        scored_by_fleet=counts["remote"],
        scored_by_proxy=counts["local"],
        asked_again=counts["repeated"],
        p50_milliseconds=round(1000 * statistics.median(load.seconds), 1),
        max_milliseconds=round(1000 * max(load.seconds), 1),
        replica_back_seconds=round(back, 1),
        times_left_alone=len(daemon.lines("scorer left alone")),
    )


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Kill one of two replicas under load, and count what became of the mail.")
    parser.add_argument("--messages", type=int, default=600)
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    if importlib.util.find_spec("ray") is None:
        sys.exit("Ray Serve is not installed; run pip install '.[fleet]'.")
    random.seed(arguments.seed)
    figures = asyncio.run(measure(arguments.messages, arguments.sessions, arguments.kills))
    load = f"{arguments.messages} messages by {arguments.sessions} sessions"
    print(f"{load}; of {NUM_REPLICAS} replicas one was killed, {arguments.kills} times")
    for name, value in asdict(figures).items():
        print(f"  {name.replace('_', ' '):<24}{value:>10}")
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(figures), indent=1) + "\n")
    sys.exit(int(bool(figures.refused or figures.lost or figures.twice or figures.unscored)))


if __name__ == "__main__":
    main()
