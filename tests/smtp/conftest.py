"""Fixtures of the SMTP tests: a recording next hop, and proxies on free ports that are closed whatever happens."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from next_hop import NextHop
from smtp_peers import FixedJudge

from spamd.config import SmtpSettings
from spamd.smtp.server import Proxy, start_proxy

StartProxy = Callable[..., Awaitable[Proxy]]


@pytest.fixture
async def next_hop() -> AsyncIterator[NextHop]:
    """A next hop without faults; tests may give it some."""
    async with NextHop() as hop:
        yield hop


@pytest.fixture
async def start(next_hop: NextHop) -> AsyncIterator[StartProxy]:
    """A function that starts a proxy: a judge, fields of `SmtpSettings` by name, and what else `start_proxy` takes."""
    proxies: list[Proxy] = []

    async def start_one(judge: FixedJudge | None = None, *, next_hop: NextHop = next_hop, **options: object) -> Proxy:
        ours = {name: options.pop(name) for name in list(options) if name in SmtpSettings.model_fields}
        settings = SmtpSettings(**{"listen": "127.0.0.1:0", "next_hop": next_hop.address, "hostname": "mx.test", **ours})
        proxies.append(await start_proxy(settings, judge or FixedJudge(), **options))
        return proxies[-1]

    yield start_one
    for proxy in proxies:
        await proxy.close()
