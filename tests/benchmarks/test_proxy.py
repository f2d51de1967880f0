"""The figures of the proxy's benchmarks are what they say."""

import asyncio
import sys

import hostile
import proxy
import pytest
from next_hop import NextHop


@pytest.fixture
def figures():
    """Three rounds: the direct way makes 1000, 800 and 500 messages a second, spamd 200, 200 and 150, the plain relay 100."""
    made = proxy.Figures()
    for size in proxy.SIZES:
        for direct, spamd, plain in ((1000, 200, 100), (800, 200, 100), (500, 150, 100)):
            for name, rate in ((proxy.DIRECT, direct), (proxy.SPAMD, spamd), (proxy.READING, spamd), (proxy.PLAIN, plain)):
                made.add("rate", name, size, rate)
                made.add("seconds", name, size, 1 / rate)
                made.add("cpu", name, size, 0.0005)
    return made


def test_ratios_are_those_within_a_round(figures):
    """Contestants are compared within each round, and the median round counts."""
    found = proxy.values(figures)

    assert [0.25, 0.25] == [found["ratio_to_direct_4k"], found["ratio_to_direct_64k"]]
    assert [2.0, 2.0] == [found["ratio_to_plain_relay_4k"], found["ratio_to_plain_relay_64k"]]


def test_added_time_is_that_of_one_session(figures):
    """What spamd adds is the difference of one message through it and one without, in milliseconds."""
    assert 4.0 == pytest.approx(proxy.values(figures)["added_latency_ms_4k"])


def test_the_table_has_a_row_for_each(figures):
    """People see every contestant at every size."""
    lines = proxy.table(figures).splitlines()

    assert 1 + len(proxy.SIZES) * 4 == len(lines)
    assert {True} == {"0.50" in line for line in lines[1:] if proxy.DIRECT not in line[:16]}


@pytest.fixture
async def start_spamd():
    """A function that starts the proxy that is measured; it is closed afterwards."""
    opened = []

    async def start(next_hop, **options):
        opened.append(await proxy.start_spamd(next_hop, **options))
        return opened[-1].addresses[0]

    yield start
    for one in opened:
        await one.close()


@pytest.mark.parametrize("reads", [False, True])
async def test_the_proxy_that_is_measured_relays(start_spamd, reads):
    """What is measured is mail that arrives, with our fields."""
    async with NextHop() as hop, hostile.Session(await start_spamd(hop.address, reads=reads)) as session:
        reply = await session.submit(b"Subject: x\r\n\r\nx\r\n")

    assert b"250" == reply[:3]
    assert b"X-Spam-Status: No" in hop.messages[0].wire


async def test_floods_end_with_the_last_reply(start_spamd):
    """A flood is over when its last command is answered, or when it is sent away."""
    async with NextHop() as hop:
        address = await start_spamd(hop.address, reads=False)

        assert b"250" == (await hostile.commands(*[b"NOOP"] * 50)(address))[:3]
        assert b"421" == (await hostile.commands(*[b"NONSENSE"] * 50)(address))[:3]


@pytest.fixture
async def reading_process():
    """A function that starts the proxy in a process of its own, where it reads out texts; gives its address and process id."""
    running = []

    async def start(next_hop):
        command = [sys.executable, proxy.__file__, "--serve", proxy.READING, "--next-hop", next_hop]
        running.append(await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE))
        return (await running[-1].stdout.readline()).decode().strip(), running[-1].pid

    yield start
    for process in running:
        process.kill()
        await process.communicate()


@pytest.mark.slow
async def test_empty_lines_take_bounded_memory_and_time(reading_process):
    """30 MiB of empty lines cost a proxy in a process of its own under 250 MiB in all, and 3 s of one core."""
    async with NextHop() as hop:
        address, process = await reading_process(hop.address)
        async with hostile.Session(address) as session:
            before = proxy.cpu_seconds(process)
            reply = await session.submit(b"\r\n" * (15 * hostile.MIB))
            seconds, peak = proxy.cpu_seconds(process) - before, hostile.memory(process, "VmHWM")

    assert (b"250", 1) == (reply[:3], len(hop.messages))
    assert 250 > peak / hostile.MIB
    assert 3 > seconds
