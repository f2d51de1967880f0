"""How many messages a second Debian's rspamd takes without network checks: a worker for each CPU, asked over HTTP.

It runs with the settings it comes with, less what asks others (DNS lists, SPF, DKIM, DMARC, fuzzy storage, Redis and with that
Bayes). Called by `engine_mail.py`.
"""

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from proxy import free_address, wait_for
from spamassassin import SYSTEM_PATH, ask_about_all

from spamd.inference.devices import usable_cpus
from spamd.mail.mailboxes import StoredMessage

ASKING_OTHERS = str.split("arc asn bimi dkim dmarc fuzzy_check mx_check rbl rspamd_update spf surbl url_redirector")
"""Modules that are switched off."""

_SETTINGS = {
    "options.inc": 'dns { nameserver = "127.0.0.1:1"; timeout = 0.01s; retransmits = 1; }',
    "logging.inc": 'level = "error";',
    "worker-controller.inc": "enabled = false;",
    "worker-proxy.inc": "enabled = false;",
    "worker-normal.inc": 'bind_socket = "127.0.0.1:{port}"; count = {workers};',
    **{f"{module}.conf": "enabled = false;" for module in ASKING_OTHERS},
}


def messages_per_second(messages: Sequence[StoredMessage]) -> tuple[float | None, str]:
    """Let rspamd judge messages.

    Args:
        messages: what all filters get.

    Returns:
        Messages a second, or None where it is not installed; and what to know about it.
    """
    program = shutil.which("rspamd", path=SYSTEM_PATH)
    if not program:
        return None, "Left out: rspamd, because it is not installed; install Debian's package rspamd."
    with tempfile.TemporaryDirectory() as name, _daemon(program, Path(name)) as port:
        rate, actions = ask_about_all(messages, lambda message: _ask(port, message))
    if not all(actions):
        return None, "Left out: rspamd, because it answered some messages without an action."
    return rate, "without network checks and without Bayes"


@contextlib.contextmanager
def _daemon(program: str, folder: Path) -> Iterator[int]:
    """Run rspamd; yields its port."""
    address = free_address()
    port = int(address.rpartition(":")[2])
    (folder / "local.d").mkdir()
    for name, text in _SETTINGS.items():
        filled = text.replace("{port}", str(port)).replace("{workers}", str(usable_cpus()))
        (folder / "local.d" / name).write_text(filled + "\n")
    places = [f"--var={place}={folder}" for place in ("LOCAL_CONFDIR", "DBDIR", "RUNDIR", "LOGDIR")]
    owner = ["-i"] if os.geteuid() == 0 else []
    process = subprocess.Popen([program, "-f", *owner, *places], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(address)
        yield port
    finally:
        process.terminate()
        process.wait()


def _ask(port: int, message: StoredMessage) -> str:
    """Ask about one message; returns what is to be done with it, empty where nothing came."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60.0)) as connection:
        connection.request("POST", "/checkv2", message.raw)
        answer = connection.getresponse().read()
    return str(json.loads(answer).get("action", ""))
