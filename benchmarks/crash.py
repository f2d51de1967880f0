"""Kill the daemon at random moments while mail flows through it between Postfix and Postfix, and count what arrives.

    python benchmarks/crash.py [--messages 2000] [--kills 25] [--clients 10] [--seed N] [--json FILE]

Half of the messages take the way of `docs/postfix.md` before the queue, half the one after it, set up by the page's own text.
Each bears an id, and a client that is not told 250 sends it again. Behind the daemon Postfix delivers into a Maildir, where the
ids are counted. The daemon, with the checkpoint that ships, dies by SIGKILL and is started again at once.

A message is lost when its client was told 250 and it does not arrive. It may arrive twice when the daemon dies between the next
hop's 250 and its own. The daemon's log tells those apart from what must not be: a copy that it answered well before it died was
the last one.

Needs root and the package postfix. Exit status: 0 when nothing was lost and no duplicate came outside that window, 1 otherwise.
"""

import argparse
import asyncio
import contextlib
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from daemon_process import connected  # noqa: E402  what the tests use
from page import Page  # noqa: E402
from postfix_process import PostfixProcess, free_port, why_not  # noqa: E402

PATIENCE_SECONDS = 300.0
WINDOW_SECONDS = 1.0
"""A reply that was logged so shortly before the daemon died may not have reached its client."""

WAYS = {"before the queue": 2, "after the queue": 1}
"""Way in the page -> which of its blocks undoes it."""

NOBODY = 65534
MAILDIR = f"""
virtual_mailbox_domains = example.com
virtual_mailbox_maps = static:all/
virtual_mailbox_base = $data_directory/mail
virtual_mailbox_limit = 0
virtual_minimum_uid = 1
virtual_uid_maps = static:{NOBODY}
virtual_gid_maps = static:{NOBODY}
# Mail that waits for the daemon tries again soon, so that the measurement ends today.
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
# Postmaster need not hear of each death.
notify_classes =
"""

MESSAGE_ID = re.compile(rb"^Message-ID: <(\d+)@crash\.test>", re.MULTILINE)
OUR_ID = re.compile(rb"\(spamd\)[^:]*?\bid\s+([0-9a-f]+\.[0-9a-f]+)", re.DOTALL)


class Daemon:
    """The filter, which dies and comes back on the same port.

    Args:
        folder: for its settings and logs.
        next_hop: port where its mail goes.

    Attributes:
        port: where it listens.
        deaths: when each life ended, in seconds since 1970.
        restart_seconds: how long each start but the first took.
    """

    def __init__(self, folder: Path, next_hop: int) -> None:
        self.port = free_port()
        self.deaths: list[float] = []
        self.restart_seconds: list[float] = []
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "spamd.toml").write_text(
            f'state_dir = "{folder}"\nplugins_dir = "/nonexistent"\n'
            f'[smtp]\nlisten = "127.0.0.1:{self.port}"\nnext_hop = "127.0.0.1:{next_hop}"\nhostname = "mx.example.org"\n'
        )

    async def start(self) -> None:
        """Start a life, and wait until it filters."""
        command = [str(Path(sys.executable).with_name("spamd")), "--config", str(self._folder / "spamd.toml")]
        with self._log(len(self.deaths)).open("wb") as log:
            self._process = subprocess.Popen(command, stderr=log)  # noqa: ASYNC220  it only starts here
        async with asyncio.timeout(PATIENCE_SECONDS):
            while b'"ready"' not in self._log(len(self.deaths)).read_bytes():
                if self._process.poll() is not None:
                    raise RuntimeError(f"spamd did not start:\n{self._log(len(self.deaths)).read_text()}")
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait()
        self.deaths.append(time.time())

    async def kill_and_start(self) -> None:
        """End it and start it again."""
        started = time.monotonic()
        self.kill()
        await self.start()
        self.restart_seconds.append(time.monotonic() - started)

    def answered(self) -> set[str]:
        """Return the ids of the messages whose 250 reached the client for certain: their lives went on after it."""
        ids = set()
        for number, death in enumerate(self.deaths):
            for line in self._log(number).read_text(errors="replace").splitlines():
                with contextlib.suppress(json.JSONDecodeError):  # the last words of a life may be half a line
                    entry = json.loads(line)
                    if entry["event"] == "message" and entry["reply"] == 250 and death - _seconds(entry) > WINDOW_SECONDS:  # noqa: PLR2004
                        ids.add(entry["queue_id"])
        return ids

    def _log(self, life: int) -> Path:
        """The log of a life."""
        return self._folder / f"log-{life}"


def _seconds(entry: dict[str, str]) -> float:
    """When a log line was written, in seconds since 1970."""
    return datetime.fromisoformat(entry["timestamp"]).timestamp()


@dataclass
class Passage:
    """What became of the messages that took one way.

    Attributes:
        way: which.
        sent: messages that Postfix took with 250.
        kills: how often the daemon died meanwhile.
        refused: attempts that ended in a temporary refusal or a lost connection, and were made again.
        lost: messages that did not arrive.
        duplicates: copies beyond the first.
        outside_window: duplicates that the daemon's death does not explain.
        seconds: how long it took.
    """

    way: str
    sent: int = 0
    kills: int = 0
    refused: int = 0
    lost: int = 0
    duplicates: int = 0
    outside_window: int = 0
    seconds: float = 0.0
    taken: set[int] = field(default_factory=set, repr=False)


class Rig:
    """Postfix, the daemon, and what goes through them.

    Args:
        postfix: it runs.
        daemon: it runs.
        rng: chooses sizes and moments.
        num_clients: connections at once.
    """

    def __init__(self, postfix: PostfixProcess, daemon: Daemon, rng: random.Random, num_clients: int) -> None:
        self._postfix, self._daemon, self._rng, self._num_clients = postfix, daemon, rng, num_clients
        self._mail = postfix.folder / "data/mail/all/new"
        self._next_id = 1

    async def run(self, way: str, num_messages: int, num_kills: int) -> Passage:
        """Send messages while the daemon dies, and wait until the queue is empty."""
        passage, started = Passage(way), time.monotonic()
        first, self._next_id = self._next_id, self._next_id + num_messages
        waiting = iter(range(first, self._next_id))
        moments = sorted(self._rng.uniform(0.0, 0.95) * num_messages for _ in range(num_kills))
        async with asyncio.timeout(PATIENCE_SECONDS + num_messages), asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_killing(passage, len(self._arrived()), moments))
            for _ in range(self._num_clients):
                tasks.create_task(self._send_all(waiting, passage))
        await self._empty_queue()
        passage.sent, passage.seconds = len(passage.taken), time.monotonic() - started
        return passage

    def count(self, passages: list[Passage]) -> None:
        """Count what arrived; to be called once the daemon is dead."""
        answered = self._daemon.answered()
        copies: dict[int, list[str]] = {}
        for file in self._arrived():
            content = file.read_bytes()
            copies.setdefault(int(MESSAGE_ID.search(content)[1]), []).append(OUR_ID.search(content)[1].decode())
        for passage in passages:
            found = {number: copies.get(number, []) for number in passage.taken}
            passage.lost = sum(not ids for ids in found.values())
            passage.duplicates = sum(max(0, len(ids) - 1) for ids in found.values())
            passage.outside_window = sum(max(0, sum(one in answered for one in ids) - 1) for ids in found.values())

    def _arrived(self) -> list[Path]:
        """The messages in the Maildir."""
        return list(self._mail.iterdir()) if self._mail.exists() else []

    async def _keep_killing(self, passage: Passage, before: int, moments: list[float]) -> None:
        """Kill the daemon whenever so many messages have arrived, and a random blink later."""
        for moment in moments:
            while len(self._arrived()) - before < moment:  # noqa: ASYNC110  Postfix tells nobody
                await asyncio.sleep(0.005)
            await asyncio.sleep(self._rng.uniform(0.0, 0.1))
            await self._daemon.kill_and_start()
            passage.kills += 1

    async def _send_all(self, waiting: Iterator[int], passage: Passage) -> None:
        """Send message after message, each until it is taken."""
        for number in waiting:
            message = self._make(number)
            while not await self._is_taken(message):
                passage.refused += 1
                await asyncio.sleep(0.1)
            passage.taken.add(number)

    async def _is_taken(self, message: bytes) -> bool:
        """Try to send a message once; tell whether the reply was 250."""
        with contextlib.suppress(ConnectionError, EOFError, TimeoutError):
            async with connected(self._postfix.address) as client:
                return (await client.begin_message()).startswith("354") and (await client.end_message(message)).startswith("250")
        return False

    def _make(self, number: int) -> bytes:
        """Make a message, of 1 to 20 KB mostly and of 300 KB now and then."""
        num_lines = 4000 if self._rng.random() < 0.05 else self._rng.randrange(10, 270)  # noqa: PLR2004
        header = f"From: a@crash.test\r\nTo: recipient@example.com\r\nMessage-ID: <{number}@crash.test>\r\n\r\n"
        return header.encode() + b"The quick brown fox jumps over the lazy dog, and the dog does not mind it.\r\n" * num_lines

    async def _empty_queue(self) -> None:
        """Wait until Postfix has delivered all it has."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self._postfix.num_queued():
                self._postfix.run("postqueue -f")
                await asyncio.sleep(0.5)


async def measure(num_messages: int, num_kills: int, num_clients: int, seed: int) -> tuple[list[Passage], list[float]]:
    """Send messages each way while the daemon dies.

    Returns:
        What became of them, and how many seconds each restart took.
    """
    page, behind = Page("postfix.md"), free_port()
    with (
        tempfile.TemporaryDirectory(prefix="spamd-crash-") as folder,
        PostfixProcess(port=free_port(), relay=f"127.0.0.1:{free_port()}", settings=MAILDIR) as postfix,
    ):
        mail = postfix.folder / "data/mail"
        mail.mkdir()
        shutil.chown(mail, NOBODY, NOBODY)
        daemon = Daemon(Path(folder), behind)
        ports = {10025: daemon.port, 10026: behind}
        rig = Rig(postfix, daemon, random.Random(seed), num_clients)  # noqa: S311  moments, not secrets
        await daemon.start()
        passages = []
        try:
            for part, (way, undo) in enumerate(WAYS.items()):
                postfix.paste(page.block(way.capitalize()), ports)
                passages.append(await rig.run(way, (num_messages + part) // 2, (num_kills + 1 - part) // 2))
                postfix.paste(page.block(way.capitalize(), undo), ports)
        finally:
            daemon.kill()
        rig.count(passages)
        return passages, daemon.restart_seconds


def table(passages: list[Passage], restart_seconds: list[float]) -> str:
    """Return the outcome for people."""
    lines = [f"{'':24}{'sent':>7}{'kills':>7}{'refused':>9}{'lost':>6}{'duplicates':>12}{'outside the window':>20}{'seconds':>9}"]
    lines += [
        f"{one.way:24}{one.sent:7}{one.kills:7}{one.refused:9}{one.lost:6}{one.duplicates:12}{one.outside_window:20}{one.seconds:9.1f}"
        for one in passages
    ]
    restarts = (
        f"a restart took {statistics.median(restart_seconds):.1f} s in the median" if restart_seconds else "nothing was restarted"
    )
    return "\n".join([*lines, f"sent: taken by Postfix with 250; refused: attempts made again; {restarts}"])


def main() -> int:
    """Measure and print.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=2000, help="messages to send")
    parser.add_argument("--kills", type=int, default=25, help="times that the daemon is killed")
    parser.add_argument("--clients", type=int, default=10, help="connections at once")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the random moments")
    parser.add_argument("--json", type=Path, help="where the figures go as well")
    options = parser.parse_args()
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 1
    print(f"{options.messages} messages, {options.kills} kills, seed {options.seed}", flush=True)
    passages, restart_seconds = asyncio.run(measure(options.messages, options.kills, options.clients, options.seed))
    print(table(passages, restart_seconds))
    names = ("sent", "kills", "lost", "duplicates", "outside_window")
    figures = {name: sum(getattr(one, name) for one in passages) for name in names}
    if options.json:
        options.json.write_text(json.dumps(figures | {"seed": options.seed}, indent=2) + "\n")
    is_good = figures["sent"] == options.messages and not figures["lost"] and not figures["outside_window"]
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
