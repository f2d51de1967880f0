"""The daemon as a real process, with a fake systemd to tell and a plain client to talk to it.

    async with DaemonProcess(folder, checkpoint, next_hop.address) as daemon:
        async with daemon.client() as client:
            await client.send_message(b"...")

Used by `test_daemon.py` and `end_to_end/`.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Self

from spamd.service.registry import Registry

PATIENCE_SECONDS = 60.0
"""How long anything may take before a test gives up; nothing here is measured."""


class Client:
    """A plain SMTP client.

    Args:
        reader: from the daemon.
        writer: to the daemon.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def reply(self) -> str:
        """Read a whole reply, of any number of lines."""
        lines = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not lines or lines[-1][3:4] == "-":
                lines.append((await self.reader.readuntil(b"\r\n")).decode().removesuffix("\r\n"))
        return "\n".join(lines)

    async def say(self, *lines: str) -> str:
        """Send commands one after another and return the reply to the last."""
        for line in lines:
            self.writer.write(line.encode() + b"\r\n")
            reply = await self.reply()
        return reply

    async def begin_message(self) -> str:
        """Go through a transaction up to the reply to DATA."""
        return await self.say("MAIL FROM:<sender@example.com>", "RCPT TO:<recipient@example.com>", "DATA")

    async def send_message(self, message: bytes) -> str:
        """Send a message without lines that begin with a dot; return the reply to the final dot."""
        await self.begin_message()
        return await self.end_message(message)

    async def end_message(self, rest: bytes = b"") -> str:
        """Send the rest of a message, whose last line is ended, and the final dot; return the reply."""
        self.writer.write(rest + b".\r\n")
        return await self.reply()


@contextlib.asynccontextmanager
async def connected(address: str):
    """Connect a client to `host:port`, greeted."""
    host, _, port = address.rpartition(":")
    client = Client(*await asyncio.open_connection(host, int(port)))
    try:
        await client.reply()
        await client.say("EHLO client.example.com")
        yield client
    finally:
        client.writer.close()
        with contextlib.suppress(ConnectionError):
            await client.writer.wait_closed()


class DaemonProcess:
    """`spamd` in a process of its own; a context manager from READY=1 to the end.

    Args:
        folder: a folder, not there yet, for settings, state and log.
        checkpoint: the checkpoint to serve first; moved into the state folder.
        next_hop: where it relays to.
        settings: lines to add to the settings, sections and all.
        inherited: a listening socket to hand over as systemd does.
        watchdog_seconds: how long the fake systemd would wait for a sign of life; 0 keeps no watch.
        log: where its log goes; a file in its folder if not told.

    Attributes:
        registry: the checkpoints of its state folder.
        settings: its settings file.
        process: the process itself.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint: Path | None,
        next_hop: str,
        *,
        settings: str = "",
        inherited: socket.socket | None = None,
        watchdog_seconds: float = 0,
        log: Path | None = None,
    ) -> None:
        self.folder = folder
        self.log = log or folder / "log"
        self.registry = Registry(folder / "state")
        self.registry.checkpoints_dir.mkdir(parents=True)
        self.settings = folder / "spamd.toml"
        self.settings.write_text(
            f'plugins_dir = "/nonexistent"\nstate_dir = "{folder / "state"}"\n'
            f'[smtp]\nlisten = "127.0.0.1:0"\nnext_hop = "{next_hop}"\n'
            f'[scoring]\ndevice = "cpu"\nthreads = 1\n{settings}'
        )
        if checkpoint:
            checkpoint.rename(self.registry.checkpoints_dir / checkpoint.name)
            self.registry.promote(checkpoint.name, check=lambda _: None)
        self._inherited = inherited
        self._watchdog_seconds = watchdog_seconds
        self._notices: socket.socket | None = None
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start, and wait for READY=1."""
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(self.folder / "notify"))
        self._notices.settimeout(0)
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._command(),
                env=self._environment(),
                stderr=log,
                pass_fds=[self._inherited.fileno()] if self._inherited else [],
            )
        first = asyncio.create_task(self.notice())
        ended = asyncio.create_task(self.process.wait())
        await asyncio.wait({first, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        assert first.done(), self.log.read_text() if self.log.is_file() else self.log
        assert first.result().startswith("READY=1\n")
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it, if the test has not."""
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.process.wait()
        self._notices.close()

    @property
    def address(self) -> str:
        """Where it listens."""
        return self.lines("ready")[0]["listen"][0]

    def client(self):
        """Connect a client."""
        return connected(self.address)

    def scoring(self) -> list[int]:
        """Return the ids of the processes that score: the children of the one that they are forked from, which is ours."""
        return [child for parent in _children(self.process.pid) for child in _children(parent)]

    def below(self) -> list[int]:
        """Return the ids of all processes that the daemon has started, directly or not."""
        return [*_children(self.process.pid), *self.scoring()]

    def reload(self) -> None:
        """Send SIGHUP."""
        self.process.send_signal(signal.SIGHUP)

    def lines(self, event: str) -> list[dict]:
        """Return the log lines about an event so far."""
        text = self.log.read_text()
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if line["event"] == event]

    async def notice(self) -> str:
        """Wait for what systemd is told next."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return (await asyncio.get_running_loop().sock_recv(self._notices, 10_000)).decode()

    async def reloaded(self) -> list[str]:
        """Wait for the notices of one reload."""
        return [await self.notice(), await self.notice()]

    def _command(self) -> list[str]:
        """The program and its arguments, behind a shim that plays systemd where a socket is handed over."""
        command = [str(Path(sys.executable).with_name("spamd")), "--config", str(self.settings)]
        if not self._inherited:
            return command
        shim = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3, inheritable=True);"
            "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1'}; os.execv(sys.argv[2], sys.argv[2:])"
        )
        return [sys.executable, "-c", shim, str(self._inherited.fileno()), *command]

    def _environment(self) -> dict[str, str]:
        """Our environment without settings, with the notification socket."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("SPAMD_")}
        watch = {"WATCHDOG_USEC": f"{self._watchdog_seconds * 1e6:.0f}"} if self._watchdog_seconds else {}
        return own | watch | {"NOTIFY_SOCKET": str(self.folder / "notify"), "OMP_NUM_THREADS": "1"}


def _children(parent: int) -> list[int]:
    """Return the ids of a process's children, of whichever of its threads."""
    lists = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(child) for one in lists for child in one.read_text(encoding="ascii").split()]
