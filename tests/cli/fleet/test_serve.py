"""`spamd-admin fleet serve`, without Ray but where it is installed."""

import asyncio
import contextlib
import importlib.util
import os
import signal
import socket
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from checkpoints import copy_checkpoint
from contract_server import TOKEN

from spamd import loading
from spamd.cli.fleet.serve import load_scorer
from spamd.errors import ScoringError
from spamd.fleet import serving
from spamd.inference import devices
from spamd.inference.remote import NoScores, RemoteScorer

OTHER = "2026-01-02-abcdef"

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray[serve] is not installed: spamd[fleet]")


@pytest.fixture
def address():
    """An address that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return "127.0.0.1:{1}".format(*free.getsockname())


@pytest.fixture
def deployed(monkeypatch, registry):
    """What a stand-in for Ray was told to serve: once signals are heeded, another checkpoint is promoted, and they come."""
    copy_checkpoint(registry.current(), registry.checkpoints_dir, OTHER)
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    told = []

    def ask_for_a_reload():
        while signal.getsignal(signal.SIGINT) == before[signal.SIGINT]:
            time.sleep(0.01)
        registry.promote(OTHER, check=lambda _: None)
        os.kill(os.getpid(), signal.SIGHUP)

    @contextlib.contextmanager
    def stand_in(plan):
        told.append(plan)
        threading.Thread(target=ask_for_a_reload, daemon=True).start()
        yield
        told.append("stopped")

    def deploy(plan):
        told.append(plan)
        if len(told) == 2:
            raise ScoringError("no replica could be started: for a test.")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(serving, "serving", stand_in)
    monkeypatch.setattr(serving, "deploy", deploy)
    yield told
    for number, action in before.items():
        signal.signal(number, action)


def test_signals_follow_and_end(spamd_admin, settings, token_file, address, deployed):
    """What is promoted is served; SIGHUP what is promoted then; if that fails the former is served again. SIGTERM is the end."""
    ran = spamd_admin("fleet", "serve", "--token-file", token_file, "--replicas", "3", "--config", settings, "--listen", address)

    first, second, third, end = deployed
    lines = [f"3 replicas answer at {address}.", "error: no replica could be started: for a test."]
    assert (0, lines, "stopped") == (ran.code, ran.err.splitlines(), end)
    assert first is third
    assert OTHER == second.load.args[1].name != first.load.args[1].name
    assert (address, 3, token_file) == (f"{first.host}:{first.port}", first.num_replicas, first.token_file)
    assert TOKEN not in repr(first)


def test_a_replica_loads_what_is_promoted(settings, registry):
    """What a replica calls gives an engine with the checkpoint that was named, by the settings that were named."""
    engine = load_scorer(settings, registry.current(), 2)

    assert registry.current().name == engine.checkpoint


def test_replicas_share_the_cores(settings, registry, monkeypatch):
    """Where the settings give no number of threads, each replica takes its share of the cores, and at least one."""
    settings.write_text(settings.read_text().replace("threads = 1\n", ""))
    monkeypatch.setattr(devices, "usable_cpus", lambda: 8)
    asked = []
    monkeypatch.setattr(loading, "load_engine", lambda settings, *_: asked.append(settings.scoring.threads))
    for num_replicas in (1, 2, 16):
        load_scorer(settings, registry.current(), num_replicas)

    assert [8, 4, 1] == asked


def test_a_taken_port_is_told(spamd_admin, settings, token_file, deployed):
    """An address that another program listens on is told with the option to change, before anything starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:{1}".format(*taken.getsockname())
        ran = spamd_admin("fleet", "serve", "--token-file", token_file, "--config", settings, "--listen", address)

    assert 74 == ran.code
    assert f"error: {address}: cannot be listened on: Address already in use; stop what uses it or change --listen" in ran.err
    assert [] == deployed


def test_the_cause_is_our_own_sentence():
    """Of a traceback that Ray tells, the operator sees our sentence."""
    told = "Traceback ...\nspamd.errors.CheckpointError: x: is damaged.\n\nThe above exception ...\nRuntimeError: no\n"

    def status(message):
        return SimpleNamespace(applications={"spamd": SimpleNamespace(deployments={"scorer": SimpleNamespace(message=message)})})

    assert ["x: is damaged.", ""] == [serving._cause(status(message)) for message in (told, "")]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--listen", "8780"], "no place to listen"),
        (["--listen", "localhost:99999"], "no place to listen"),
        (["--listen", "0.0.0.0:8780"], "in plain text"),
        (["--replicas", "0"], "replicas"),
        (["--certificate", "x.pem"], "belong together"),
    ],
)
def test_wrong_options(spamd_admin, token_file, deployed, options, word):
    """An option that cannot be followed is told before anything starts."""
    ran = spamd_admin("fleet", "serve", "--token-file", token_file, *options)

    assert 64 == ran.code
    assert word in ran.err
    assert [] == deployed


def test_a_token_is_needed(spamd_admin, settings, address, tmp_path):
    """Nothing is served without a secret: neither without the option nor without the file."""
    without = spamd_admin("fleet", "serve", "--config", settings, "--listen", address)
    absent = spamd_admin("fleet", "serve", "--config", settings, "--listen", address, "--token-file", tmp_path / "absent")

    assert (64, 78) == (without.code, absent.code)
    assert f"error: --token-file: {tmp_path}/absent cannot be read" in absent.err


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed here")
def test_without_ray_the_extra_is_named(spamd_admin, settings, token_file, address, monkeypatch):
    """Where Ray is not installed, the sentence says what to install."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "x")
    before = os.umask(0o022)
    ran = spamd_admin("fleet", "serve", "--token-file", token_file, "--config", settings, "--listen", address)
    os.umask(before)

    sentence = "error: Ray Serve is not installed here; run pip install '.[fleet]' where spamd was installed from.\n"
    assert (78, sentence) == (ran.code, ran.err)


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_with_ray(settings, registry, token_file, address, tmp_path):
    """Replicas answer with scores to whoever has the token, follow the promoted checkpoint on SIGHUP, and SIGTERM ends all."""
    first = registry.current().name
    other = copy_checkpoint(registry.current(), registry.checkpoints_dir, OTHER).name
    command = [sys.executable, "-c", "from spamd.cli import main; main()", "fleet", "serve", "--replicas", "1"]
    options = ["--listen", address, "--token-file", token_file, "--config", settings]
    remote, stranger = (RemoteScorer(f"http://{address}", token, timeout_seconds=20) for token in (TOKEN, TOKEN[::-1]))
    with (tmp_path / "log").open("wb") as log:
        fleet = await asyncio.create_subprocess_exec(*command, *options, stderr=log, stdout=log)
    try:
        scores = await _scored(remote, first)
        with pytest.raises(NoScores, match="401"):
            stranger.score(["a"], first, 0.5)
        registry.promote(other, check=lambda _: None)
        fleet.send_signal(signal.SIGHUP)
        after = await _scored(remote, other)
    finally:
        remote.close()
        stranger.close()
        with contextlib.suppress(ProcessLookupError):
            fleet.terminate()
        code = await asyncio.wait_for(fleet.wait(), 60)

    assert scores[0].score == after[0].score
    assert (first, other, 0) == (scores[0].checkpoint, after[0].checkpoint, code), (tmp_path / "log").read_text()
    assert TOKEN not in (tmp_path / "log").read_text()


async def _scored(remote, checkpoint):
    """Ask until a checkpoint scores."""
    async with asyncio.timeout(120):
        while True:
            try:
                return await asyncio.to_thread(remote.score, ["hello"], checkpoint, 0.5)
            except NoScores:
                await asyncio.sleep(0.2)
