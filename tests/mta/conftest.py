"""What all tests with real mail servers share: whether there are any, a filter in a process of its own, and the end of the way.

Where a server is not installed its tests are skipped, but with `MTA_TESTS=required` in the environment, as `.ci/run` has it, they
fail. One filter and one end of the way serve a whole module, since each takes seconds to start.
"""

import os

import pytest
import pytest_asyncio
from daemon_process import DaemonProcess
from next_hop import NextHop
from postfix_process import free_port


@pytest.fixture(scope="session")
def need():
    """A function that skips, or fails where mail servers are required, unless its reason is empty."""

    def judge(reason: str) -> None:
        if reason and os.environ.get("MTA_TESTS") == "required":
            pytest.fail(f"MTA_TESTS=required, but: {reason}")
        if reason:
            pytest.skip(reason)

    return judge


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sink():
    """Where all mail ends; it keeps what it gets."""
    async with NextHop() as hop:
        yield hop


@pytest.fixture(scope="module")
def port_behind():
    """A port for what stands behind the filter; in the pages it is 10026."""
    return free_port()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spamd(tmp_path_factory, port_behind):
    """The filter with the checkpoint that ships, on the way to `port_behind`."""
    folder = tmp_path_factory.mktemp("spamd")
    async with DaemonProcess(folder, None, f"127.0.0.1:{port_behind}") as process:
        yield process
