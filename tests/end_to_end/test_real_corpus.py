"""The main job on real mail: retrain the shipped checkpoint on the SpamAssassin corpus at default settings, and serve what comes.

The corpus is not ours to ship. `SPAMD_DATA` names a folder that holds it, as `spamassassin/ham` and `spamassassin/spam`.
"""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from daemon_process import DaemonProcess
from next_hop import NextHop

from spamd.model.checkpoint import read_card

CORPUS = Path(os.environ.get("SPAMD_DATA", "/nonexistent")) / "spamassassin"
MESSAGE = b"From: a@example.com\r\nSubject: minutes of the meeting\r\n\r\nSee you on Thursday.\r\n"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not CORPUS.is_dir(), reason="SPAMD_DATA names no folder with the SpamAssassin corpus, which is not shipped")
async def test_the_shipped_checkpoint_learns_a_real_corpus_and_serves(tmp_path):
    """Default settings train a candidate that catches 90 % of spam at 1 % ham lost, is promoted, and serves after SIGHUP."""
    async with (
        NextHop() as next_hop,
        DaemonProcess(tmp_path / "daemon", None, next_hop.address) as running,
        running.client() as client,
    ):
        await client.send_message(MESSAGE)
        retrain = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("spamd-admin"),
            *("retrain", "--config", str(running.settings), "--dataset", f"folder:{CORPUS}"),
            # The environment of the tests names another state folder, and wins over the file.
            env={name: value for name, value in os.environ.items() if not name.startswith("SPAMD_")},
        )
        assert 0 == await retrain.wait()
        promoted = running.registry.current()
        running.reload()
        await running.reloaded()
        await client.send_message(MESSAGE)

    served = [message.content.split(b"(checkpoint ", 1)[1].split(b")", 1)[0].decode() for message in next_hop.messages]
    assert [promoted.name] == served[1:]
    assert promoted.name != served[0]
    assert read_card(promoted).metrics["caught_at_1"]["value"] >= 90.0
