"""The whole path: train on a small corpus by the command line, and a running daemon takes the new checkpoint up on SIGHUP."""

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest
from daemon_process import PATIENCE_SECONDS, DaemonProcess
from next_hop import NextHop

HAM = [
    "meeting",
    "agenda",
    "project",
    "report",
    "lunch",
    "review",
    "draft",
    "thanks",
    "tomorrow",
    "schedule",
    "minutes",
    "budget",
]
SPAM = ["WINNER", "PRIZE", "CASH", "CLICK", "FREE", "OFFER", "CLAIM", "BONUS", "URGENT", "CASINO", "CHEAP", "PILLS"]
NUM_EACH = 60


def _message(words, number):
    """A short message of random words."""
    chosen = random.Random(number).choices(words, k=12)
    subject, body = " ".join(chosen[:3]), " ".join(chosen[3:])
    return f"From: sender{number}@example.com\r\nSubject: {subject}\r\n\r\n{body} {number:x}\r\n".encode()


@pytest.fixture
def corpus(tmp_path):
    """A folder dataset: `ham/` and `spam/` with words of their own."""
    for label, words in (("ham", HAM), ("spam", SPAM)):
        folder = tmp_path / "corpus" / label
        folder.mkdir(parents=True)
        for number in range(NUM_EACH):
            (folder / f"{number}.eml").write_bytes(_message(words, number))
    return tmp_path / "corpus"


async def _spamd_admin(*arguments):
    """Run `spamd-admin` as a process of its own; return its exit code and both streams."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPAMD_")}
    running = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("spamd-admin"),
        *map(str, arguments),
        env=environment | {"OMP_NUM_THREADS": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(running.communicate(), PATIENCE_SECONDS)
    return running.returncode, out.decode()


def _checkpoint_of(message):
    """The checkpoint that the header of a stored message names."""
    return message.content.split(b"(checkpoint ", 1)[1].split(b")", 1)[0].decode()


@pytest.mark.slow
async def test_a_retrained_checkpoint_is_served_after_sighup(tmp_path, tiny_checkpoint, corpus):
    """Mail trains a candidate, the candidate is promoted, and an open connection sees its id and its verdicts after SIGHUP."""
    async with NextHop() as next_hop, DaemonProcess(tmp_path / "daemon", tiny_checkpoint, next_hop.address) as running:
        config = ("--config", running.settings)
        async with running.client() as client:
            replies = [await client.send_message(_message(HAM, 1000))]
            dataset = ("--dataset", f"folder:{corpus}", "--base", tiny_checkpoint.name)
            code, out = await _spamd_admin(
                "retrain", *config, *dataset, "--freeze", "none", "--learning-rate", "0.003", "--epochs", "5"
            )
            assert 0 == code, out
            promoted = running.registry.current().name
            running.reload()
            await running.reloaded()
            replies += [await client.send_message(_message(words, 1001)) for words in (HAM, SPAM)]
        listed = await _spamd_admin("model", "list", *config)
        scored = await _spamd_admin("score", *config, corpus / "spam" / "0.eml")

    assert ["250"] * 3 == [reply[:3] for reply in replies]
    assert promoted != tiny_checkpoint.name
    assert [tiny_checkpoint.name, promoted, promoted] == [_checkpoint_of(message) for message in next_hop.messages]
    assert [b"No", b"Yes"] == [m.content.split(b"X-Spam-Status: ")[1].split(b",")[0] for m in next_hop.messages[1:]]
    assert f"current   {promoted}" in listed[1]
    assert "spam" == scored[1].split()[0]
