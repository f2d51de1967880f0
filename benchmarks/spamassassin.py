"""How many messages a second Debian's SpamAssassin takes: `spamd -L`, a child for each CPU, asked by `spamc`.

Local tests only, with Bayes where the mail has 200 of each label (a folder named `ham` or `spam` above each message says which);
it learns before it is measured and not while it is. Called by `engine_mail.py`.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from proxy import free_address, wait_for

from spamd.inference.devices import usable_cpus
from spamd.mail.mailboxes import StoredMessage

T = TypeVar("T")
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
MIN_LEARNED = 200
NUM_TO_WARM_UP = 10


def messages_per_second(messages: Sequence[StoredMessage]) -> tuple[float | None, str]:
    """Let SpamAssassin judge messages.

    Args:
        messages: what both filters get.

    Returns:
        Messages a second, or None where it is not installed; and what to know about it.
    """
    program = shutil.which("spamd", path=SYSTEM_PATH)
    if not program or not shutil.which("spamc", path=SYSTEM_PATH):
        return None, "Left out: SpamAssassin, because it is not installed; install Debian's packages spamd and spamc."
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # SpamAssassin's children are nobody.
        folder.chmod(0o755)
        note = _learn(folder, messages)
        with _daemon(program, folder) as port:
            rate, headers = ask_about_all(messages, lambda message: _ask(port, message))
    if not all(b"X-Spam-Status:" in header for header in headers):
        return None, "Left out: SpamAssassin, because it answered some messages without a verdict."
    return rate, note


def ask_about_all(messages: Sequence[StoredMessage], ask: Callable[[StoredMessage], T]) -> tuple[float, list[T]]:
    """Ask a warmed-up filter about messages, two at a time for each CPU; returns messages a second and the answers."""
    for message in messages[:NUM_TO_WARM_UP]:
        ask(message)
    started = time.monotonic()
    with ThreadPoolExecutor(2 * usable_cpus()) as threads:
        answers = list(threads.map(ask, messages))
    return len(messages) / (time.monotonic() - started), answers


def _learn(folder: Path, messages: Sequence[StoredMessage]) -> str:
    """Teach Bayes what is labelled; returns what was done."""
    settings = f"bayes_path {folder}/bayes\nbayes_auto_learn 0\nbayes_file_mode 0777\n"
    (folder / "user_prefs").write_text(settings)
    labelled = {label: [message for message in messages if label in Path(message.origin).parts] for label in ("ham", "spam")}
    if min(map(len, labelled.values())) < MIN_LEARNED:
        return f"without Bayes, for which there must be {MIN_LEARNED} ham and spam"
    for label, found in labelled.items():
        (folder / label).mkdir()
        for number, message in enumerate(found[:MIN_LEARNED]):
            (folder / label / str(number)).write_bytes(message.raw)
        command = ["sa-learn", f"--{label}", "--no-sync", "-p", str(folder / "user_prefs"), str(folder / label)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={"PATH": SYSTEM_PATH, "HOME": str(folder)})
    for file in folder.glob("bayes*"):
        file.chmod(0o666)
    return f"with Bayes, which learned {MIN_LEARNED} ham and {MIN_LEARNED} spam"


@contextlib.contextmanager
def _daemon(program: str, folder: Path) -> Iterator[int]:
    """Run spamd; yields its port."""
    address = free_address()
    port = int(address.rpartition(":")[2])
    settings = [option for line in (folder / "user_prefs").read_text().splitlines() for option in ("--cf", line)]
    owner = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = [program, "-L", "-x", "-i", "127.0.0.1", "-p", str(port), "-m", str(usable_cpus()), *settings, *owner]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={"PATH": SYSTEM_PATH, "HOME": str(folder)})
    try:
        wait_for(address)
        yield port
    finally:
        process.terminate()
        process.wait()


def _ask(port: int, message: StoredMessage) -> bytes:
    """Ask about one message; returns the header that comes back."""
    command = ["spamc", "-d", "127.0.0.1", "-p", str(port), "--headers"]
    answer = subprocess.run(command, input=message.raw, capture_output=True, check=True, env={"PATH": SYSTEM_PATH})
    return answer.stdout.partition(b"\n\n")[0]
