"""SIGTERM and restarts under load: as many messages arrive as were acknowledged, and under systemd's socket nobody notices."""

import asyncio
import contextlib
import itertools
import re
import socket

import pytest
from checkpoints import copy_checkpoint
from daemon_process import DaemonProcess
from next_hop import NextHop

NUM_CLIENTS = 8


class Sender:
    """Clients that send one message after another, each until it is acknowledged.

    Args:
        address: host and port.

    Attributes:
        acknowledged: numbers of the messages that got 250, in order.
        num_unanswered: connections that were refused, or ended without a greeting.
    """

    def __init__(self, address):
        self.address = address
        self.acknowledged = []
        self.num_unanswered = 0
        self.is_over = asyncio.Event()
        self._numbers = itertools.count()
        self._progress = asyncio.Event()

    async def run(self):
        """Send until it is over."""
        await asyncio.gather(*(self._send_many() for _ in range(NUM_CLIENTS)))

    async def num_reached(self, number):
        """Wait until so many are acknowledged."""
        while len(self.acknowledged) < number:
            self._progress.clear()
            await self._progress.wait()

    async def _send_many(self):
        """Be one client."""
        number = next(self._numbers)
        while not self.is_over.is_set():
            if await self._send(number):
                self.acknowledged.append(number)
                self._progress.set()
                number = next(self._numbers)
            else:
                await asyncio.sleep(0.02)

    async def _send(self, number):
        """Send one message over a connection of its own; tells whether it was acknowledged."""
        try:
            reader, writer = await asyncio.open_connection(*self.address)
        except OSError:
            self.num_unanswered += 1
            return False
        is_acknowledged = False
        with contextlib.suppress(OSError):
            reply = await reader.readline()
            self.num_unanswered += not reply
            message = b"Subject: number %d\r\n\r\nx\r\n." % number
            for line in (b"HELO c", b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA", message):
                if reply[:1] not in (b"2", b"3"):
                    break
                writer.write(line + b"\r\n")
                reply = await reader.readline()
            else:
                is_acknowledged = reply.startswith(b"250")
        writer.close()
        return is_acknowledged


def arrived(next_hop):
    """Numbers of the messages that the next hop took, in order."""
    return sorted(int(re.search(rb"Subject: number (\d+)", message.content)[1]) for message in next_hop.messages)


@pytest.mark.slow
async def test_sigterm_under_load_loses_nothing(tmp_path, tiny_checkpoint):
    """SIGTERM amid the work of many clients: what arrived was acknowledged, and what was acknowledged arrived, once."""
    async with NextHop() as next_hop, DaemonProcess(tmp_path / "daemon", tiny_checkpoint, next_hop.address) as running:
        host, _, port = running.address.rpartition(":")
        sender = Sender((host, int(port)))
        sending = asyncio.create_task(sender.run())
        await sender.num_reached(60)
        running.process.terminate()
        code = await running.process.wait()
        sender.is_over.set()
        await sending

    assert (0, sorted(sender.acknowledged)) == (code, arrived(next_hop))


@pytest.mark.slow
async def test_restarts_behind_systemds_socket_are_not_noticed(tmp_path, tiny_checkpoint):
    """While systemd holds the socket, clients that keep coming through two restarts are all answered, and no message is lost."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as held:
        async with NextHop() as next_hop:
            sender = Sender(held.getsockname())
            sending = asyncio.create_task(sender.run())
            for number in range(3):
                checkpoint = copy_checkpoint(tiny_checkpoint, tmp_path, f"2026-01-0{number + 1}-abcdef")
                async with DaemonProcess(tmp_path / f"daemon{number}", checkpoint, next_hop.address, inherited=held):
                    await sender.num_reached(30 * (number + 1))
                    if number == 2:
                        sender.is_over.set()
                        await sending

    assert 0 == sender.num_unanswered
    assert sorted(sender.acknowledged) == arrived(next_hop)


@pytest.mark.slow
async def test_signs_of_life(tmp_path, tiny_checkpoint):
    """A real daemon that is watched shows life several times in the time it has, and says what it filters with."""
    async with (
        NextHop() as next_hop,
        DaemonProcess(tmp_path / "daemon", tiny_checkpoint, next_hop.address, watchdog_seconds=0.3) as running,
    ):
        notices = [await running.notice() for _ in range(4)]

    assert ["WATCHDOG=1"] * 4 == [notice.splitlines()[0] for notice in notices]
    assert all(tiny_checkpoint.name in notice for notice in notices)
