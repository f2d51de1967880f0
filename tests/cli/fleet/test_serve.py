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

import pytest
from checkpoints import copy_checkpoint
from contract_server import TOKEN

from spamd.cli.fleet.serve import load_scorer
from spamd.errors import ScoringError
from spamd.fleet import serving
from spamd.inference.remote import NoScores, RemoteScorer

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray[serve] is not installed: spamd[fleet]")


@pytest.fixture
def token_file(tmp_path):
    """A file with the token."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    return file


@pytest.fixture
def deployed(monkeypatch):
    """What a stand-in for Ray was told to serve; SIGHUP comes as soon as it is heeded, and SIGTERM after that."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    told = []

    def ask_for_a_reload():
        while signal.getsignal(signal.SIGINT) == before[signal.SIGINT]:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGHUP)

    @contextlib.contextmanager
    def stand_in(plan):
        told.append(plan)
        threading.Thread(target=ask_for_a_reload, daemon=True).start()
        yield
        told.append("stopped")

    def deploy(plan):
        told.append(plan)
        os.kill(os.getpid(), signal.SIGTERM)
        raise ScoringError("no replica could be started: for a test.")

    monkeypatch.setattr(serving, "serving", stand_in)
    monkeypatch.setattr(serving, "deploy", deploy)
    yield told
    for number, action in before.items():
        signal.signal(number, action)


def test_signals_follow_and_end(spamd_admin, settings, token_file, deployed):
    """What is promoted is served; SIGHUP serves what is promoted then, a failure is told and no end, SIGTERM ends it in peace."""
    ran = spamd_admin("fleet", "serve", "--token-file", token_file, "--replicas", "3", "--config", settings)

    first, second, end = deployed
    lines = ["3 replicas answer at 127.0.0.1:8780.", "error: no replica could be started: for a test."]
    assert (0, lines, "stopped") == (ran.code, ran.err.splitlines(), end)
    assert first.load.args == second.load.args
    assert ("127.0.0.1", 8780, 3, token_file) == (first.host, first.port, first.num_replicas, first.token_file)
    assert TOKEN not in repr(first)


def test_a_replica_loads_what_is_promoted(settings, registry):
    """What a replica calls gives an engine with the checkpoint that was named, by the settings that were named."""
    engine = load_scorer(settings, registry.current())

    assert registry.current().name == engine.checkpoint


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--listen", "8780"], "no place to listen"),
        (["--listen", "localhost:99999"], "no place to listen"),
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


def test_a_token_is_needed(spamd_admin, settings, tmp_path):
    """Nothing is served without a secret: neither without the option nor without the file."""
    without = spamd_admin("fleet", "serve", "--config", settings)
    absent = spamd_admin("fleet", "serve", "--config", settings, "--token-file", tmp_path / "absent")

    assert (64, 78) == (without.code, absent.code)
    assert f"error: --token-file: {tmp_path}/absent cannot be read" in absent.err


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed here")
def test_without_ray_the_extra_is_named(spamd_admin, settings, token_file, monkeypatch):
    """Where Ray is not installed, the sentence says what to install."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "x")
    before = os.umask(0o022)
    ran = spamd_admin("fleet", "serve", "--token-file", token_file, "--config", settings)
    os.umask(before)

    assert (78, "error: Ray Serve is not installed here; run pip install 'spamd[fleet]'.\n") == (ran.code, ran.err)


@needs_ray
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_with_ray(settings, registry, token_file, tmp_path):
    """Replicas answer with scores to whoever has the token, follow the promoted checkpoint on SIGHUP, and SIGTERM ends all."""
    first = registry.current().name
    other = copy_checkpoint(registry.current(), registry.checkpoints_dir, "2026-01-02-abcdef").name
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{1}".format(*free.getsockname())
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
