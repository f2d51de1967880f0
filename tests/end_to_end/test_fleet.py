"""The daemon beside a fleet that dies, comes back, and lags behind: a process of its own, mail over SMTP, scores over HTTP."""

import asyncio
import contextlib
import re
import threading

import pytest
from checkpoints import copy_checkpoint
from contract_server import TOKEN, ContractServer
from daemon_process import PATIENCE_SECONDS, DaemonProcess
from fake_engine import FakeEngine
from next_hop import NextHop

FLEET_SCORE = 0.9123
"""What the fleet says of every message; the local checkpoint says something else."""

OTHER = "2026-01-02-abcdef"


def _settings(folder, port):
    """Lines of settings with which a fleet is asked."""
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    return (
        f'scorer = "remote"\nremote_url = "http://127.0.0.1:{port}"\nremote_token_file = "{token}"\n'
        "remote_pause_seconds = 0.1\nremote_timeout_seconds = 3\n"
    )


def _message(number):
    """A message like no other, so that no score of it is known."""
    return b"From: sender@example.com\r\nSubject: message %d\r\n\r\nNumber %d.\r\n" % (number, number)


def _probability(message):
    """The probability that the header of a stored message states; none where it has no verdict."""
    found = re.search(rb"probability=([0-9.]+)", message.content)
    return float(found[1]) if found else None


def _is_by_fleet(message):
    """Whether the fleet scored a stored message."""
    return _probability(message) == pytest.approx(FLEET_SCORE, abs=1e-4)


async def _until(condition):
    """Wait until something holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  what is waited for happens in another process
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_a_fleet_that_dies_costs_nothing(tmp_path, tiny_checkpoint):
    """A fleet is killed with requests in flight under load: no message is lost or unscored; it comes back and scores again."""
    engine = FakeEngine(tiny_checkpoint.name, score=FLEET_SCORE)
    is_over = asyncio.Event()
    numbers = iter(range(1_000_000))
    replies = []

    async def send_many(client):
        while not is_over.is_set():
            replies.append(await client.send_message(_message(next(numbers))))

    async with NextHop() as next_hop, contextlib.AsyncExitStack() as clients:
        with ContractServer(engine) as server:
            settings = _settings(tmp_path, server.port)
            running = DaemonProcess(tmp_path / "daemon", tiny_checkpoint, next_hop.address, settings=settings)
            await clients.enter_async_context(running)
            sending = [asyncio.create_task(send_many(await clients.enter_async_context(running.client()))) for _ in range(4)]
            await _until(lambda: len(next_hop.messages) > 20)
            engine.gate = threading.Event()
            engine.started.clear()
            await _until(engine.started.is_set)
            num_before = len(next_hop.messages)
        engine.gate.set()
        await _until(lambda: len(next_hop.messages) > num_before + 20)
        with ContractServer(FakeEngine(tiny_checkpoint.name, score=FLEET_SCORE), port=server.port):
            await _until(lambda: running.lines("scorer is back"))
            num_back = len(next_hop.messages)
            await _until(lambda: len(next_hop.messages) > num_back + 20)
            is_over.set()
            await asyncio.gather(*sending)
        running.process.terminate()
        await running.process.wait()

    (left_alone,) = running.lines("scorer left alone")
    (counts,) = running.lines("fleet")
    assert {"250"} == {reply[:3] for reply in replies}
    assert len(replies) == len(next_hop.messages) == len({message.content for message in next_hop.messages})
    assert [] == [message for message in next_hop.messages if _probability(message) is None]
    assert all(_is_by_fleet(message) for message in next_hop.messages[:20])
    assert not any(_is_by_fleet(message) for message in next_hop.messages[num_before + 8 : num_before + 12])
    assert _is_by_fleet(next_hop.messages[-1])
    num_by_fleet = sum(map(_is_by_fleet, next_hop.messages))
    assert (num_by_fleet, len(replies) - num_by_fleet) == (counts["remote"], counts["local"])
    assert f"127.0.0.1:{server.port}: " in left_alone["reason"]
    assert TOKEN not in (tmp_path / "daemon" / "log").read_text()


@pytest.mark.slow
async def test_a_fleet_that_lags_behind(tmp_path, tiny_checkpoint):
    """After a reload with another checkpoint the daemon scores itself until the fleet has followed."""
    async with NextHop() as next_hop, contextlib.AsyncExitStack() as stack:
        with ContractServer(FakeEngine(tiny_checkpoint.name, score=FLEET_SCORE)) as server:
            settings = _settings(tmp_path, server.port)
            running = DaemonProcess(tmp_path / "daemon", tiny_checkpoint, next_hop.address, settings=settings)
            await stack.enter_async_context(running)
            client = await stack.enter_async_context(running.client())
            await client.send_message(_message(1))
            copy_checkpoint(running.registry.current(), running.registry.checkpoints_dir, OTHER)
            running.registry.promote(OTHER, check=lambda _: None)
            running.reload()
            await running.reloaded()
            await client.send_message(_message(2))
        with ContractServer(FakeEngine(OTHER, score=FLEET_SCORE), port=server.port):
            number = 3
            while not _is_by_fleet(next_hop.messages[-1]) and number < 1000:
                await client.send_message(_message(number))
                number += 1

    assert [True, False, True] == [_is_by_fleet(next_hop.messages[place]) for place in (0, 1, -1)]
    assert all(b"(checkpoint %b)" % OTHER.encode() in message.content for message in next_hop.messages[1:])
    assert f"it has loaded checkpoint {tiny_checkpoint.name} and not ours" in running.lines("scorer left alone")[0]["reason"]


@pytest.mark.slow
async def test_no_fleet_at_the_start(tmp_path, tiny_checkpoint):
    """A daemon whose fleet is not there starts all the same, and its first message has a verdict."""
    async with NextHop() as next_hop:
        running = DaemonProcess(tmp_path / "daemon", tiny_checkpoint, next_hop.address, settings=_settings(tmp_path, 1))
        async with running, running.client() as client:
            reply = await client.send_message(_message(1))

    assert "250" == reply[:3]
    assert _probability(next_hop.messages[0]) is not None
