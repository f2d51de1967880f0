"""Who the spamc door meets in tests."""

import asyncio


async def connect(address):
    """Open a connection."""
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def emptied(door):
    """Wait until a door has no session left."""
    async with asyncio.timeout(10):
        while door.num_sessions:  # noqa: ASYNC110  a door tells nobody
            await asyncio.sleep(0.02)
