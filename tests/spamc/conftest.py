"""Fixtures of the spamc tests: doors on free ports that are closed whatever happens, and a client that sends raw bytes."""

import asyncio
import contextlib

import pytest
from smtp_peers import FixedJudge
from spamc_peers import connect

from spamd.config import SpamcSettings
from spamd.spamc.server import start_spamc

REPLY_SECONDS = 10.0


@pytest.fixture
async def start():
    """A function that opens a door: a judge, fields of `SpamcSettings` by name, and what else `start_spamc` takes."""
    doors = []

    async def start_one(judge=None, **options):
        ours = {name: options.pop(name) for name in list(options) if name in SpamcSettings.model_fields}
        settings = SpamcSettings(**{"listen": "127.0.0.1:0", **ours})
        doors.append(await start_spamc(settings, judge or FixedJudge(), hostname="mx.test", **options))
        return doors[-1]

    yield start_one
    for door in doors:
        await door.close()


@pytest.fixture
def ask():
    """A function that sends pieces, half-closes or not, and returns all that comes until the other side ends."""

    async def ask_it(door, *pieces, half_close=True):
        reader, writer = await connect(door.addresses[0])
        try:
            for number, piece in enumerate(pieces):
                if number:
                    await asyncio.sleep(0.01)
                writer.write(piece)
                await writer.drain()
            if half_close:
                writer.write_eof()
            async with asyncio.timeout(REPLY_SECONDS):
                return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    return ask_it
