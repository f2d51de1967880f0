"""Connections to the next hop that wait between messages."""

import asyncio

import pytest
from next_hop import Fault

from spamd.errors import RelayError
from spamd.smtp import next_hop as module
from spamd.smtp.next_hop import NextHop as OurNextHop


@pytest.fixture
async def ours(next_hop):
    """Our view of the recording next hop."""
    made = OurNextHop(next_hop.address, hostname="mx.test")
    yield made
    made.close()
    await asyncio.sleep(0)


async def test_kept_connections_are_used_again(ours, next_hop):
    """One connection serves one message after the other."""
    for _ in range(3):
        ours.release(await ours.acquire())

    assert 1 == next_hop.num_connections


@pytest.mark.parametrize("fault", ["refuse", "drop"])
async def test_kept_connections_that_died_are_replaced(ours, next_hop, fault):
    """A connection that the next hop has closed, with or without 421, is not given out again."""
    connection = await ours.acquire()
    next_hop.faults = [Fault("NOOP", fault, times=1)]
    ours.release(connection)
    connection._transport.write(b"NOOP\r\n")
    await asyncio.sleep(0.05)
    again = await ours.acquire()

    assert (True, 2) == (again is not connection, next_hop.num_connections)
    ours.release(again)


async def test_idle_connections_prove_that_they_live(ours, next_hop, monkeypatch):
    """After some idleness a kept connection says NOOP before it is trusted."""
    monkeypatch.setattr(module, "PROBE_AFTER_SECONDS", -1.0)
    ours.release(await ours.acquire())
    ours.release(await ours.acquire())

    assert [b"EHLO mx.test", b"NOOP"] == next_hop.commands


async def test_connections_wear_out(ours, next_hop):
    """After a number of messages a connection is closed in order and a new one opened."""
    connection = await ours.acquire()
    connection.num_messages = module.MAX_MESSAGES
    ours.release(connection)
    ours.release(await ours.acquire())
    await asyncio.sleep(0.05)

    assert (2, True) == (next_hop.num_connections, b"QUIT" in next_hop.commands)


async def test_few_connections_are_kept(ours, next_hop, monkeypatch):
    """The next hop's processes are not all held by idle connections."""
    monkeypatch.setattr(module, "MAX_KEPT", 2)
    for connection in [await ours.acquire() for _ in range(4)]:
        ours.release(connection)
    await asyncio.sleep(0.05)

    assert 2 == next_hop.commands.count(b"QUIT")


async def test_unused_connections_are_closed(ours, next_hop, monkeypatch):
    """Nothing is kept open that nobody has needed for a while."""
    monkeypatch.setattr(module, "KEPT_SECONDS", 0.05)
    ours.release(await ours.acquire())
    await asyncio.sleep(0.2)

    assert b"QUIT" == next_hop.commands[-1]


async def test_capabilities_are_asked_for_once(ours, next_hop):
    """What EHLO announced is remembered, with parameters."""
    first = await ours.capabilities()

    assert (first, 1) == (await ours.capabilities(), next_hop.num_connections)
    assert ("104857600", "", True) == (first["SIZE"], first["8BITMIME"], "XFORWARD" in first)


async def test_known_capabilities_survive_an_outage(ours, next_hop, monkeypatch):
    """While the next hop is away, what it said last is announced; a next hop that was never reached is an error."""
    first = await ours.capabilities()
    ours.close()
    next_hop.faults = [Fault("banner", "5xx")]
    monkeypatch.setattr(module, "FRESH_SECONDS", -1.0)

    assert first == await ours.capabilities()
    with pytest.raises(RelayError, match="refused our connection with 554"):
        await OurNextHop(next_hop.address, hostname="mx.test").capabilities()
