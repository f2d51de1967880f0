"""Show the whole path on this machine: mail goes in by SMTP, GPT-2 reads it, it leaves tagged.

Starts the daemon with the checkpoint that ships and a next hop that keeps what it receives, sends every specimen under
`benchmarks/demo/`, and prints the verdict, our header fields and the time of each. A specimen lies in the folder (`ham`, `spam`)
of the verdict that is expected of it.

Exit status: 0 when every verdict is right and every byte below our fields is the byte that was sent; 1 otherwise.
"""

import asyncio
import contextlib
import os
import re
import signal
import smtplib
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from next_hop import NextHop, StoredMessage  # noqa: E402  the recording next hop of the tests

START_SECONDS = 60.0
OURS = re.compile(rb"\A(?:(?:Received|X-Spam-[A-Za-z-]+): [^\r]*\r\n(?:[ \t][^\r]*\r\n)*)+")
"""The block that is prepended: our Received line and our X-Spam-* fields, with continuation lines."""


@dataclass(frozen=True)
class Passage:
    """One specimen's way through the proxy.

    Attributes:
        specimen: the file that was sent.
        received: what the next hop received.
        milliseconds: from connecting to the reply to the final dot.
    """

    specimen: Path
    received: StoredMessage
    milliseconds: float

    @property
    def fields(self) -> str:
        """The block that was prepended."""
        block = OURS.match(self.received.content)
        return block.group().decode("ascii") if block else ""

    @property
    def label(self) -> str:
        """The verdict that the fields state."""
        return "spam" if "\nX-Spam-Flag: YES" in self.fields else "ham" if "\nX-Spam-Status: No, " in self.fields else "none"

    @property
    def is_right(self) -> bool:
        """Whether the verdict is the expected one."""
        return self.label == self.specimen.parent.name and "tests=GPT2_" in self.fields

    @property
    def is_intact(self) -> bool:
        """Whether everything below our fields is what was sent."""
        return self.received.content[len(self.fields) :] == self.specimen.read_bytes()


async def main() -> int:
    """Send the specimens and print what became of them.

    Returns:
        The exit status.
    """
    specimens = sorted((HERE / "demo").glob("*/*.eml"))
    with tempfile.TemporaryDirectory(prefix="spamd-demo-") as folder:
        async with NextHop() as next_hop, _daemon(Path(folder), next_hop.address) as port:
            passages = [await _send(specimen, port, next_hop) for specimen in specimens]
    for passage in passages:
        _show(passage)
    num_wrong = sum(not passage.is_right for passage in passages)
    num_altered = sum(not passage.is_intact for passage in passages)
    print(f"{len(passages)} messages through the proxy: {num_wrong} wrong verdicts, {num_altered} altered bodies.")
    return int(num_wrong + num_altered > 0 or not passages)


@contextlib.asynccontextmanager
async def _daemon(folder: Path, next_hop: str) -> AsyncIterator[int]:
    """Run the daemon until the block ends; yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "spamd.toml"
    settings.write_text(f'state_dir = "{folder}"\n[smtp]\nlisten = "127.0.0.1:{port}"\nnext_hop = "{next_hop}"\n')
    log = folder / "log"
    with log.open("wb") as output:
        program = Path(sys.executable).with_name("spamd")
        daemon = await asyncio.create_subprocess_exec(program, "--config", settings, stderr=output)
    try:
        await _wait_for(port, daemon, log)
        yield port
    finally:
        if daemon.returncode is None:
            daemon.send_signal(signal.SIGTERM)
        await daemon.wait()


async def _wait_for(port: int, daemon: asyncio.subprocess.Process, log: Path) -> None:
    """Wait until the daemon greets."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and daemon.returncode is None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.1)
    sys.exit(f"error: the daemon did not start within {START_SECONDS:.0f} s; it said:\n{log.read_text()}")


async def _send(specimen: Path, port: int, next_hop: NextHop) -> Passage:
    """Send one specimen by SMTP and pick up what the next hop received."""
    start = time.monotonic()
    await asyncio.to_thread(_submit, specimen.read_bytes(), port)
    return Passage(specimen, next_hop.messages[-1], (time.monotonic() - start) * 1000)


def _submit(message: bytes, port: int) -> None:
    """Hand a message to the proxy as any mail client would."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="demo.example", timeout=60) as client:
        client.sendmail("sender@demo.example", ["recipient@demo.example"], message)


def _show(passage: Passage) -> None:
    """Print one passage."""
    name = f"{passage.specimen.parent.name}/{passage.specimen.name}"
    remarks = ("" if passage.is_right else "  WRONG VERDICT") + ("" if passage.is_intact else "  BODY ALTERED")
    print(f"{name}: {passage.label}, {passage.milliseconds:.0f} ms{remarks}")
    for field in re.findall(r"^X-Spam-.*(?:\r\n[ \t].*)*", passage.fields, re.MULTILINE):
        print(f"    {field.strip()}")


if __name__ == "__main__":
    # Colours and bars are for people who watch; a demonstration is often piped.
    os.environ.setdefault("NO_COLOR", "1")
    sys.exit(asyncio.run(main()))
