"""Attack the proxy and measure what it costs: the time until an attack has been dealt with, its memory, and how long others wait.

    python benchmarks/hostile.py [--json FILE]

The proxy runs in a process of its own, reads out each message's text as the daemon does, and has no model. Each attack is
repeated for some seconds, while a well-behaved session sends small messages through the same proxy, one after another; the time
that each takes is what others wait. The first row is the same session without an attack. Needs smtp-sink (Debian: postfix).
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from proxy import READING, contestant, sink

MIB = 1024 * 1024
ATTACK_SECONDS = 3.0
SLOW_SECONDS = 3.0
NUM_SLOW = 80
MULTIPART = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n"
PAGE = b"Subject: x\r\nContent-Type: text/html\r\n\r\n%b\r\n"


@dataclass(frozen=True, slots=True)
class Row:
    """What one attack came to: milliseconds are those of a message of another session."""

    attack: str
    answer: str
    seconds: float
    mebibytes: float
    p50_milliseconds: float
    p99_milliseconds: float
    num_others: int


class Session:
    """A client's connection, greeted.

    Args:
        address: `host:port`.
    """

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")

    async def __aenter__(self) -> Self:
        """Connect."""
        self.reader, self.writer = await asyncio.open_connection(self._host, int(self._port))
        await self.reply()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close at once."""
        self.writer.transport.abort()

    async def reply(self) -> bytes:
        """Read a reply; its last line is returned, or nothing at the end of the connection."""
        line = b""
        with contextlib.suppress(ConnectionError):
            while line := await self.reader.readline():
                if line[3:4] != b"-":
                    break
        return line

    async def say(self, *lines: bytes) -> bytes:
        """Send commands in one piece; returns the last reply."""
        self.writer.write(b"".join(line + b"\r\n" for line in lines))
        for _ in lines:
            reply = await self.reply()
        return reply

    async def submit(self, wire: bytes) -> bytes:
        """Send a message; returns the reply to its dot."""
        await self.say(b"EHLO attacker.example.com", b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.com>", b"DATA")
        self.writer.write(wire + b".\r\n")
        return await self.reply()


Attack = Callable[[str], Awaitable[bytes]]


def message(wire: bytes) -> Attack:
    """The attack that is a message."""

    async def attack(address: str) -> bytes:
        async with Session(address) as session:
            return await session.submit(wire)

    return attack


def commands(*lines: bytes) -> Attack:
    """The attack that is a flood of commands; ends when all are answered or the connection is."""

    async def attack(address: str) -> bytes:
        async with Session(address) as session:
            session.writer.write(b"".join(line + b"\r\n" for line in lines))
            reply = last = await session.reply()
            for _ in lines[1:]:
                last = await session.reply()
                reply = last or reply
                if not last:
                    break
            return reply

    return attack


async def dribble(address: str) -> bytes:
    """Many sessions that send a byte now and then."""

    async def one() -> None:
        async with Session(address) as session:
            for _ in range(int(SLOW_SECONDS / 0.1)):
                session.writer.write(b"x")
                await asyncio.sleep(0.1)

    await asyncio.gather(*(one() for _ in range(NUM_SLOW)))
    return b"-"


async def calm(_address: str) -> bytes:
    """No attack."""
    await asyncio.sleep(ATTACK_SECONDS)
    return b"-"


RECIPIENTS = [b"RCPT TO:<user%d@example.com>" % number for number in range(10_000)]
ATTACKS: dict[str, Attack] = {
    "none": calm,
    "100,000 commands at once": commands(*[b"NOOP"] * 100_000),
    "100,000 lines of nonsense": commands(*[b"NONSENSE"] * 100_000),
    "a command of 30 MiB": commands(b"x" * (30 * MIB)),
    "10,000 recipients": commands(b"EHLO c", b"MAIL FROM:<a@example.com>", *RECIPIENTS),
    f"{NUM_SLOW} slow sessions": dribble,
    "30 MiB of empty lines": message(b"\r\n" * (15 * MIB)),
    "30 MiB in one line": message(b"x" * (30 * MIB) + b"\r\n"),
    "30 MiB of bare newlines": message(b"\n" * (30 * MIB) + b"\r\n"),
    "30 MiB of stuffed dots": message(b"..\r\n" * (30 * MIB // 4)),
    "a header of 1,000,000 fields": message(b"a:\r\n" * 1_000_000 + b"\r\nx\r\n"),
    "a field of 5 MiB": message(b"Subject: " + b"x " * (5 * MIB // 2) + b"\r\n\r\nx\r\n"),
    "100,000 forged fields": message(b"X-Spam-Flag: NO\r\n" * 100_000 + b"\r\nx\r\n"),
    "MIME 10,000 deep": message(b"".join(MULTIPART % (n, n) for n in range(10_000)) + b"x\r\n"),
    "100,000 MIME parts": message(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 100_000),
    "HTML 100,000 deep": message(PAGE % (b"<div>" * 100_000)),
    "HTML of 100,000 attributes": message(PAGE % (b"<div " + b" ".join(b"a%d=%d" % (n, n) for n in range(100_000)) + b">")),
}


async def attack_for_a_while(address: str, name: str) -> tuple[bytes, float]:
    """Attack again and again; returns the last answer and the seconds that one attack took."""
    started, num_attacks, answer = time.monotonic(), 0, b""
    while not num_attacks or time.monotonic() - started < ATTACK_SECONDS:
        answer = await ATTACKS[name](address)
        num_attacks += 1
    return answer, (time.monotonic() - started) / num_attacks


async def measure(address: str, process: int, name: str) -> Row:
    """Run one attack beside a session that behaves."""
    Path(f"/proc/{process}/clear_refs").write_text("5")
    before = memory(process, "VmRSS")
    attack = asyncio.ensure_future(attack_for_a_while(address, name))
    milliseconds: list[float] = []
    async with Session(address) as other:
        while not attack.done() or not milliseconds:
            began = time.monotonic()
            await other.submit(b"Subject: hello\r\n\r\nhello\r\n")
            milliseconds.append(1000 * (time.monotonic() - began))
            await asyncio.sleep(0.005)
    answer, seconds = attack.result()
    peak = memory(process, "VmHWM")
    p99 = statistics.quantiles(milliseconds, n=100)[98] if len(milliseconds) > 1 else milliseconds[0]
    return Row(name, answer[:3].decode(), seconds, (peak - before) / MIB, statistics.median(milliseconds), p99, len(milliseconds))


def memory(process: int, what: str) -> int:
    """Memory of a process in bytes: `VmRSS` now, `VmHWM` at the most since it was reset."""
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(status.partition(f"{what}:")[2].split()[0])


async def measure_all(address: str, process: int) -> list[Row]:
    """Run all attacks, one after another, and print each row as it is there."""
    print(f"{'attack':32}{'answer':>7}{'seconds':>9}{'MiB':>7}{'others p50 ms':>15}{'p99 ms':>9}{'messages':>10}")
    rows = []
    await measure(address, process, "none")
    for name in ATTACKS:
        row = await measure(address, process, name)
        times = f"{row.p50_milliseconds:15.1f}{row.p99_milliseconds:9.1f}"
        print(f"{row.attack:32}{row.answer:>7}{row.seconds:9.2f}{row.mebibytes:7.0f}{times}{row.num_others:10}", flush=True)
        rows.append(row)
    return rows


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Attack the proxy and measure what it costs.")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    with sink() as next_hop, contestant(READING, next_hop) as (address, process):
        rows = asyncio.run(measure_all(address, process))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
