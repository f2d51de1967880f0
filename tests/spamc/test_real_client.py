"""Debian's own `spamc` against the daemon as a process: every way of asking that administrators know."""

import asyncio
import shutil

import pytest
from daemon_process import PATIENCE_SECONDS, DaemonProcess
from next_hop import NextHop

SPAMC = shutil.which("spamc")
MESSAGE = b"From: a@example.com\nSubject: x\nX-Spam-Flag: forged\n\nbody\n\nmore\n"
GTUBE = MESSAGE.replace(b"body", b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X")
REST = GTUBE.replace(b"X-Spam-Flag: forged\n", b"")


async def _spamc(port, *options, message=GTUBE):
    """Run spamc as a filter; return its exit code and what it prints."""
    running = await asyncio.create_subprocess_exec(
        SPAMC, "-d", "127.0.0.1", "-p", port, *options, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(running.communicate(message), PATIENCE_SECONDS)
    return running.returncode, out


@pytest.mark.slow
@pytest.mark.skipif(not SPAMC, reason="the program spamc is not installed: apt-get install spamc")
async def test_debians_spamc_is_served(tmp_path, tiny_checkpoint):
    """The program gets verdicts, reports, names, headers and whole messages, with the exit codes it always had."""
    settings = 'threshold = 0.999\n[spamc]\nlisten = "127.0.0.1:0"\n'
    async with (
        NextHop() as next_hop,
        DaemonProcess(tmp_path / "daemon", tiny_checkpoint, next_hop.address, settings=settings) as run,
    ):
        port = run.lines("ready")[0]["spamc"][0].rpartition(":")[2]
        code, message = await _spamc(port)
        headers = await _spamc(port, "--headers")
        report = await _spamc(port, "-R")
        asked = [await _spamc(port, *options) for options in (["-c"], ["-y"], ["-K"], ["-E", "-c"], ["-x", "-c"])]
        ham_report = await _spamc(port, "-r", message=MESSAGE)
        ham = await _spamc(port, "-E", message=MESSAGE)
        taught = await _spamc(port, "-L", "spam")
        lines = run.lines("message")

    assert 0 == code
    assert message.startswith(b"X-Spam-Checker-Version: spamd ")
    assert b"\nX-Spam-Flag: YES\nX-Spam-Score: 1000.0\n" in message
    assert message.endswith(b"version=0.1.0\n" + REST)
    assert b"\r" not in message
    assert (0, message) == headers
    assert report[1].startswith(b"1000.0/5.0\nJudged by spamd ")
    assert [(1, b"1000.0/5.0\n"), (0, b"GTUBE\n"), (0, b"SPAMD/1.5 0\n"), (1, b"1000.0/5.0\n"), (1, b"1000.0/5.0\n")] == [
        (returned, out if out.endswith(b"\n") else out + b"\n") for returned, out in asked
    ]
    assert (0, b"") == ham_report, ham_report
    assert (0, True) == (ham[0], b"X-Spam-Flag" not in ham[1] and b"\nX-Spam-Status: No, score=" in ham[1])
    assert (74, b"") == taught
    assert {"PROCESS", "HEADERS", "REPORT", "CHECK", "SYMBOLS", "REPORT_IFSPAM"} == {line["command"] for line in lines}
