"""Nothing is lost when the daemon is killed between Postfix and Postfix: a short run of `benchmarks/crash.py`."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from postfix_process import why_not

CRASH = Path(__file__).resolve().parents[2] / "benchmarks/crash.py"


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_kills_lose_nothing(tmp_path, need):
    """Of 60 messages none is lost to three kills, and none comes twice that the daemon had answered for."""
    need(why_not())
    command = [sys.executable, str(CRASH), "--messages", "60", "--kills", "3", "--json", str(tmp_path / "figures.json")]
    running = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    printed, _ = await running.communicate()
    assert 0 == running.returncode, printed.decode()
    figures = json.loads((tmp_path / "figures.json").read_text())

    assert {"sent": 60, "kills": 3, "lost": 0, "outside_window": 0} == {
        name: figures[name] for name in figures.keys() - {"duplicates", "seed"}
    }
