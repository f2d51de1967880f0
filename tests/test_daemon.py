"""The daemon: as a real process where signals and systemd matter, in this process where its parts do."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import structlog
from certificates import Authority
from checkpoints import copy_checkpoint, damage
from daemon_process import PATIENCE_SECONDS, DaemonProcess, connected
from fake_engine import FakeCrew, FakeEngine
from next_hop import NextHop

from spamd import daemon, doors
from spamd.cli import spamd as program
from spamd.config import load_settings
from spamd.errors import CheckpointError, ScoringError
from spamd.service.registry import Registry

OTHER = "2026-01-02-abcdef"
MESSAGE = b"From: sender@example.com\r\nSubject: very secret\r\n\r\nconfidential\r\n"


def _checkpoint_of(message):
    """The checkpoint that the header of a stored message names."""
    return message.content.split(b"(checkpoint ", 1)[1].split(b")", 1)[0].decode()


@pytest.mark.slow
async def test_from_ready_to_stopped(tmp_path, tiny_checkpoint):
    """It says READY=1 once it filters, tags a message, logs one line about it without content, and stops with exit code 0."""
    async with NextHop() as next_hop, DaemonProcess(tmp_path / "daemon", tiny_checkpoint, next_hop.address) as running:
        async with running.client() as client:
            reply = await client.send_message(MESSAGE)
        (line,) = running.lines("message")
        running.process.terminate()
        notice = await running.notice()
        code = await running.process.wait()

    assert "250" == reply[:3]
    (message,) = next_hop.messages
    assert tiny_checkpoint.name == _checkpoint_of(message) == line["checkpoint"]
    assert message.content.endswith(MESSAGE)
    assert line["queue_id"].encode() in message.content
    assert {"receive", "extract", "queue", "score", "relay", "total"} == set(line["milliseconds"])
    assert not any(
        word in (tmp_path / "daemon" / "log").read_text() for word in ("secret", "confidential", "sender@", "recipient@")
    )
    assert ("STOPPING=1", 0) == (notice, code)


@pytest.mark.slow
async def test_reload_within_a_transaction(tmp_path, tiny_checkpoint):
    """SIGHUP amid a message changes the checkpoint that judges it; a damaged one is refused, and nobody is cut off."""
    first = tiny_checkpoint.name
    async with NextHop() as next_hop, DaemonProcess(tmp_path / "daemon", tiny_checkpoint, next_hop.address) as running:
        async with running.client() as client:
            await client.send_message(MESSAGE)
            await client.begin_message()
            client.writer.write(MESSAGE)
            other = copy_checkpoint(running.registry.current(), running.registry.checkpoints_dir, OTHER)
            running.registry.promote(OTHER, check=lambda _: None)
            running.reload()
            notices = await running.reloaded()
            replies = [await client.end_message()]
            damaged = copy_checkpoint(other, running.registry.checkpoints_dir, "2026-01-03-abcdef")
            damage(damaged)
            running.registry.promote(damaged.name, check=lambda _: None)
            running.reload()
            await running.reloaded()
            replies.append(await client.send_message(MESSAGE))
        (refused,) = running.lines("reload refused")

    assert ["250", "250"] == [reply[:3] for reply in replies]
    assert [first, OTHER, OTHER] == [_checkpoint_of(message) for message in next_hop.messages]
    assert "RELOADING=1" == notices[0].split("\n")[0]
    assert f"READY=1\nSTATUS=filtering with checkpoint {OTHER}; 0.0 % of 1 messages known before" == notices[1]
    assert OTHER == refused["checkpoint"]
    assert "damaged" in refused["reason"]


@pytest.mark.slow
async def test_reloads_under_load_lose_nothing(tmp_path, tiny_checkpoint):
    """While several clients keep sending, one reload after another costs no connection and no message."""
    is_over = asyncio.Event()

    async def send_many(client):
        replies = []
        while not is_over.is_set():
            replies.append(await client.send_message(MESSAGE))
        return replies

    async with NextHop() as next_hop, DaemonProcess(tmp_path / "daemon", tiny_checkpoint, next_hop.address) as running:
        copy_checkpoint(running.registry.current(), running.registry.checkpoints_dir, OTHER)
        names = (OTHER, tiny_checkpoint.name) * 2
        replies = []
        async with running.client() as patient, contextlib.AsyncExitStack() as clients:
            sending = [asyncio.create_task(send_many(await clients.enter_async_context(running.client()))) for _ in range(4)]
            for name in names:
                running.registry.promote(name, check=lambda _: None)
                running.reload()
                await running.reloaded()
                replies.append(await patient.send_message(MESSAGE + b"after the reload\r\n"))
            is_over.set()
            replies += itertools.chain(*await asyncio.gather(*sending))

    assert {"250"} == {reply[:3] for reply in replies}
    assert len(replies) == len(next_hop.messages)
    assert list(names) == [_checkpoint_of(message) for message in next_hop.messages if b"after the reload" in message.wire]


@pytest.mark.slow
async def test_sigterm_drains(tmp_path, tiny_checkpoint):
    """After SIGTERM a message in flight is still taken and answered, an idle client is told 421, and nobody gets in."""
    async with NextHop() as next_hop, DaemonProcess(tmp_path / "daemon", tiny_checkpoint, next_hop.address) as running:
        async with running.client() as idle, running.client() as busy:
            await busy.begin_message()
            busy.writer.write(MESSAGE)
            running.process.terminate()
            farewell = await idle.reply()
            with pytest.raises(ConnectionRefusedError):
                async with running.client():
                    pass
            reply = await busy.end_message()
        code = await running.process.wait()

    assert ("421", "250", 0) == (farewell[:3], reply[:3], code)
    assert 1 == len(next_hop.messages)


@pytest.mark.slow
async def test_a_killed_process_that_scores_costs_no_message(tmp_path, tiny_checkpoint):
    """Kill -9 of what scores, between messages and amid them: every message is passed on, with a score."""
    folder = tmp_path / "daemon"
    async with NextHop() as next_hop, DaemonProcess(folder, tiny_checkpoint, next_hop.address) as running:
        replies = []
        async with running.client() as client:
            for number in range(12):
                sending = asyncio.create_task(client.send_message(MESSAGE + b"%d\r\n" % number))
                await asyncio.sleep(0.003 * (number % 4))
                for pid in running.scoring():
                    os.kill(pid, signal.SIGKILL)
                replies.append(await sending)
        restarts = running.lines("the process that scores has ended and is started anew")

    assert {"250"} == {reply[:3] for reply in replies}
    assert 12 == len(next_hop.messages) == len({message.content.rsplit(b"\r\n", 2)[1] for message in next_hop.messages})
    assert {tiny_checkpoint.name} == {_checkpoint_of(message) for message in next_hop.messages}
    assert restarts


@pytest.mark.slow
async def test_a_reload_of_the_whole_process_group(tmp_path, tiny_checkpoint):
    """SIGHUP reaches all processes where a shell sends it to a job (`kill -HUP %1`); the daemon reloads, the others stay."""
    async with NextHop() as next_hop, DaemonProcess(tmp_path / "daemon", tiny_checkpoint, next_hop.address) as running:
        before = running.below()
        for pid in (*before, running.process.pid):
            os.kill(pid, signal.SIGHUP)
        await running.reloaded()
        await _send(running.address)
        after = running.below()

    assert before == after
    assert {tiny_checkpoint.name} == {_checkpoint_of(message) for message in next_hop.messages}


@pytest.mark.slow
def test_nothing_outlives_the_daemon(tmp_path, tiny_checkpoint):
    """Kill -9 of the daemon ends the processes that score for it as well."""

    async def kill():
        async with NextHop() as next_hop, DaemonProcess(tmp_path / "daemon", tiny_checkpoint, next_hop.address) as running:
            scoring = running.scoring()
            running.process.kill()
            await running.process.wait()
        return scoring

    scoring = asyncio.run(kill())

    assert scoring
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(Path(f"/proc/{pid}").exists() for pid in scoring):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_no_torch_where_the_mail_is():
    """The daemon's own process loads neither torch nor what needs it."""
    code = "import spamd.daemon, sys; sys.exit(int('torch' in sys.modules))"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


@pytest.mark.slow
async def test_a_full_disk_stops_no_mail(tmp_path, tiny_checkpoint):
    """Where the log's disk is full, the daemon starts, filters, reloads and ends in peace; only the lines are lost."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = "127.0.0.1:{1}".format(*listening.getsockname())
        options = {"inherited": listening, "log": Path("/dev/full")}
        async with (
            NextHop() as next_hop,
            DaemonProcess(tmp_path / "daemon", tiny_checkpoint, next_hop.address, **options) as running,
        ):
            # More lines than any buffer on the way to the disk holds.
            replies = [await _send(address) for _ in range(60)]
            running.reload()
            await running.reloaded()
            replies.append(await _send(address))
            running.process.terminate()
            code = await running.process.wait()

    assert {"250"} == {reply[:3] for reply in replies}
    assert (61, 0) == (len(next_hop.messages), code)


@pytest.mark.slow
async def test_socket_activation(tmp_path, tiny_checkpoint):
    """A listening socket that systemd hands over is served; a client that came before the model was loaded only waits."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = "127.0.0.1:{1}".format(*listening.getsockname())
        early = asyncio.create_task(_send(address))
        folder = tmp_path / "daemon"
        async with (
            NextHop() as next_hop,
            DaemonProcess(folder, tiny_checkpoint, next_hop.address, inherited=listening) as running,
        ):
            assert "250" == (await early)[:3]
            assert address == running.address


async def _send(address):
    """Send a message and return the reply to its final dot."""
    async with connected(address) as client:
        return await client.send_message(MESSAGE)


@pytest.fixture
def settings_file(tmp_path):
    """Settings for a daemon in this process; tests add to them."""
    file = tmp_path / "spamd.toml"
    file.write_text('plugins_dir = "/nonexistent"\n[smtp]\nlisten = "127.0.0.1:0"\n')
    return file


@pytest.fixture
def start(settings_file, monkeypatch):
    """A function that serves in this process with a fake engine, and what it loads at a reload: daemon, task and address."""
    proxies = []
    started = asyncio.Event()
    start_proxy = doors.start_proxy

    async def remembered(*arguments, **options):
        proxies.append(await start_proxy(*arguments, **options))
        started.set()
        return proxies[-1]

    monkeypatch.setattr(doors, "start_proxy", remembered)

    async def start_it(engine, next_hop, load=None):
        monkeypatch.setenv("SPAMD_SMTP__NEXT_HOP", next_hop.address)
        settings = load_settings(settings_file)
        running = daemon.Daemon(settings, settings_file, Registry(settings.state_dir), load, engine)
        serving = asyncio.create_task(running.serve(asyncio.Event()))
        await asyncio.wait_for(started.wait(), PATIENCE_SECONDS)
        return running, serving, proxies[0].addresses[0]

    return start_it


async def _stop(serving):
    """End a daemon in this process as systemd would."""
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, PATIENCE_SECONDS)


async def test_scoring_does_not_stall_other_sessions(start):
    """While the engine blocks on one message, another client is greeted and answered."""
    engine = FakeEngine(gate=threading.Event())
    events = []

    async def send(address):
        await _send(address)
        events.append("scored")

    async with NextHop() as next_hop:
        _, serving, address = await start(engine, next_hop)
        sending = asyncio.create_task(send(address))
        assert await asyncio.to_thread(engine.started.wait, PATIENCE_SECONDS)
        async with connected(address) as client:
            assert "250" == (await client.say("NOOP"))[:3]
            events.append("answered")
        engine.gate.set()
        await sending
        await _stop(serving)

    assert ["answered", "scored"] == events


async def test_signs_of_life_stop_with_the_scoring_thread(start, monkeypatch):
    """Systemd gets a sign of life while both the loop and the thread that scores move; while an engine hangs it gets none."""
    engine = FakeEngine(gate=threading.Event())
    notices = asyncio.Queue()
    monkeypatch.setattr(daemon, "notify", lambda *lines: notices.put_nowait(lines[0]))
    monkeypatch.setattr(daemon, "watchdog_seconds", lambda: 0.03)
    async with NextHop() as next_hop:
        _, serving, address = await start(engine, next_hop)
        first = [await asyncio.wait_for(notices.get(), PATIENCE_SECONDS) for _ in range(4)]
        sending = asyncio.create_task(_send(address))
        assert await asyncio.to_thread(engine.started.wait, PATIENCE_SECONDS)
        await asyncio.sleep(0.05)
        num_before = notices.qsize()
        await asyncio.sleep(0.3)
        num_while_hung = notices.qsize() - num_before
        engine.gate.set()
        await sending
        while notices.qsize():
            notices.get_nowait()
        again = await asyncio.wait_for(notices.get(), PATIENCE_SECONDS)
        await _stop(serving)

    assert ["READY=1", *["WATCHDOG=1"] * 3] == first
    assert (0, "WATCHDOG=1") == (num_while_hung, again)


async def test_a_reload_takes_up_a_renewed_certificate(start, settings_file, tmp_path):
    """SIGHUP shows clients the certificate that the file holds now; one that cannot be used refuses the reload as a whole."""
    authority = Authority(tmp_path)
    certificate, key = authority.files("mx.test")
    tls = f'tls_certificate = "{certificate}"\ntls_key = "{key}"\n'
    settings_file.write_text(settings_file.read_text() + f'{tls}listen_tls = "127.0.0.1:0"\n')
    second, third = FakeEngine("second"), FakeEngine("third")
    engines = [second, third]

    async def shown(host, port):
        _, writer = await asyncio.open_connection(host, port, ssl=authority.client(), server_hostname="mx.test")
        serial = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return serial

    async with NextHop() as next_hop:
        running, serving, _ = await start(FakeEngine("first"), next_hop, lambda _: engines.pop(0))
        host, _, port = running._doors.addresses["listen"][1].rpartition(":")
        serials = [await shown(host, port)]
        authority.files("mx.test")
        await running.reload()
        serials.append(await shown(host, port))
        key.write_text("nonsense")
        await running.reload()
        serials.append(await shown(host, port))
        checkpoint = running._model()["checkpoint"]
        await _stop(serving)

    assert serials[0] != serials[1] == serials[2]
    assert "second" == checkpoint
    assert (False, True) == (second.is_closed, third.is_closed)


async def test_reload_applies_threshold_and_level_only(start, settings_file, capsys):
    """A reload takes up threshold and log level, and names the other settings that changed and wait for a restart."""
    old, new = FakeEngine("old", score=0.5), FakeEngine("new", score=0.5)
    async with NextHop() as next_hop:
        running, serving, address = await start(old, next_hop, lambda _: new)
        await _send(address)
        settings_file.write_text(settings_file.read_text() + 'max_hops = 7\n[scoring]\nthreshold = 0.4\n[log]\nlevel = "debug"\n')
        await running.reload()
        await _send(address)
        await _stop(serving)

    assert [b"No", b"Yes"] == [m.content.split(b"X-Spam-Status: ")[1].split(b",")[0] for m in next_hop.messages]
    assert ["old", "new"] == [_checkpoint_of(message) for message in next_hop.messages]
    assert (True, False) == (old.is_closed, new.is_closed)
    assert "restart_needed_for=['smtp.max_hops']" in capsys.readouterr().out.replace("\x1b[35m", "").replace("\x1b[0m", "")


@pytest.mark.parametrize(
    "error", [CheckpointError("it is damaged."), RuntimeError("torch broke"), FileNotFoundError(2, "No such file", "x")]
)
async def test_a_failing_reload_changes_nothing(start, error):
    """Whatever stops a reload, the old engine scores on."""

    def fail(*_):
        raise error

    async with NextHop() as next_hop:
        running, serving, address = await start(FakeEngine("old"), next_hop, fail)
        await running.reload()
        await _send(address)
        await _stop(serving)

    assert ["old"] == [_checkpoint_of(message) for message in next_hop.messages]


async def test_an_old_checkpoint_that_cannot_be_let_go_stops_no_reload(start, settings_file, monkeypatch, capsys):
    """The new one serves, its settings hold, and a line tells what is still in memory."""

    def refuse():
        raise ScoringError("no process answers.")

    old = FakeEngine("old")
    monkeypatch.setattr(old, "close", refuse)
    async with NextHop() as next_hop:
        running, serving, address = await start(old, next_hop, lambda _: FakeEngine("new"))
        settings_file.write_text(settings_file.read_text() + "[scoring]\nthreshold = 0.4\n")
        await running.reload()
        await _send(address)
        await _stop(serving)

    assert ["new"] == [_checkpoint_of(message) for message in next_hop.messages]
    assert b"X-Spam-Status: Yes" in next_hop.messages[0].content
    assert "no process answers." in capsys.readouterr().out


async def test_faulty_settings_refuse_a_reload(start, settings_file):
    """A settings file that became faulty changes nothing either."""
    async with NextHop() as next_hop:
        running, serving, address = await start(FakeEngine("old"), next_hop)
        settings_file.write_text("nonsense = 1\n")
        await running.reload()
        reply = await _send(address)
        await _stop(serving)

    assert "250" == reply[:3]


async def test_wishes_during_a_reload_are_one_more(start, monkeypatch):
    """SIGHUP while a reload runs is not lost: the checkpoint promoted meanwhile is loaded after it."""
    gate, loads = threading.Event(), threading.Semaphore(0)
    engines = [FakeEngine("second"), FakeEngine("third")]
    notices = asyncio.Queue()

    def load(*_):
        loads.release()
        assert gate.wait(PATIENCE_SECONDS)
        return engines.pop(0)

    monkeypatch.setattr(daemon, "notify", lambda *lines: notices.put_nowait(lines[-1]))
    async with NextHop() as next_hop:
        _, serving, _ = await start(FakeEngine("first"), next_hop, load)
        os.kill(os.getpid(), signal.SIGHUP)
        assert await asyncio.to_thread(loads.acquire, timeout=PATIENCE_SECONDS)
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.01)
        gate.set()
        said = [await asyncio.wait_for(notices.get(), PATIENCE_SECONDS) for _ in range(3)]
        await _stop(serving)

    assert [f"STATUS=filtering with checkpoint {name}" for name in ("first", "second", "third")] == said


async def test_an_engine_that_hangs_does_not_hold_the_end_up(start, settings_file):
    """Where the engine never answers, the daemon still stops, and the client keeps its message."""
    settings_file.write_text(settings_file.read_text() + "drain_timeout_seconds = 0.2\n")
    engine = FakeEngine(gate=threading.Event())
    async with NextHop() as next_hop:
        _, serving, address = await start(engine, next_hop)
        sending = asyncio.create_task(_send(address))
        assert await asyncio.to_thread(engine.started.wait, PATIENCE_SECONDS)
        await _stop(serving)
        engine.gate.set()
        await asyncio.gather(sending, return_exceptions=True)

    assert [] == next_hop.messages


@pytest.fixture
def spamd(monkeypatch, capsys):
    """Run `spamd` in this process with the settings given: returns exit code and standard error."""
    before = signal.getsignal(signal.SIGHUP)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["spamd", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            program.main()
        return end.value.code, capsys.readouterr().err

    yield run
    signal.signal(signal.SIGHUP, before)
    structlog.reset_defaults()


def test_version(spamd, capsys):
    """`--version` says the version and starts nothing."""
    assert (0, "") == spamd("--version")


def test_faulty_settings_stop_the_start(spamd, settings_file):
    """All faults of the settings are told on standard error, and the exit code is 78."""
    settings_file.write_text("nonsense = 1\n[scoring]\nthreshold = 2.0\n")
    code, err = spamd("--config", settings_file)

    assert 78 == code
    assert "nonsense" in err
    assert "scoring.threshold" in err


def test_relaying_to_itself_stops_the_start(spamd, settings_file):
    """A next hop that leads back to the listening address is refused before anything is loaded."""
    settings_file.write_text('[smtp]\nlisten = "0.0.0.0:10025"\nnext_hop = "127.0.0.1:10025"\n')
    code, err = spamd("--config", settings_file)

    assert 78 == code
    assert "mail would circle" in err


def test_a_damaged_checkpoint_stops_the_start(spamd, settings_file, tiny_checkpoint):
    """A promoted checkpoint that does not load is told, and the exit code is 65."""
    registry = Registry(load_settings(settings_file).state_dir)
    copy_checkpoint(tiny_checkpoint, registry.checkpoints_dir, OTHER)
    registry.promote(OTHER, check=damage)
    code, err = spamd("--config", settings_file)

    assert 65 == code
    assert f"{OTHER}/model.safetensors: is damaged" in err


def test_a_port_in_use_stops_the_start(spamd, settings_file, monkeypatch):
    """An address that another program listens on is told with the setting to change, and the exit code is 74."""
    monkeypatch.setattr(daemon, "Crew", FakeCrew)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:{1}".format(*taken.getsockname())
        settings_file.write_text(f'plugins_dir = "/nonexistent"\n[smtp]\nlisten = "{address}"\n')
        code, err = spamd("--config", settings_file)

    assert 74 == code
    assert f"error: {address}: cannot be listened on: Address already in use; stop what uses it or change smtp.listen.\n" == err


def test_a_second_port_in_use_stops_the_start(spamd, settings_file, monkeypatch):
    """Where spamc clients cannot be listened for, the daemon does not start either, and the sentence names that setting."""
    monkeypatch.setattr(daemon, "Crew", FakeCrew)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:{1}".format(*taken.getsockname())
        settings_file.write_text(settings_file.read_text() + f'[spamc]\nlisten = "{address}"\n')
        code, err = spamd("--config", settings_file)

    assert 74 == code
    assert f"error: {address}: cannot be listened on: Address already in use; stop what uses it or change spamc.listen.\n" == err
