"""Dovecot's LMTP server as a mail store of its own: private folders, a high port, and mailboxes for those that one names.

    with DovecotProcess(["user@next-hop.test"]) as dovecot:
        ...  # send to dovecot.address by LMTP
        dovecot.mail("user@next-hop.test")

Needs the package dovecot-lmtpd and root. Used by `mta/`.

Security: for tests alone; it takes mail from everybody on loopback.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from daemon_process import PATIENCE_SECONDS
from postfix_process import free_port

NOBODY = 65534
SETTINGS = """\
protocols = lmtp
base_dir = {folder}/run
log_path = {folder}/log
ssl = no
hostname = mx.example.org
mail_location = maildir:~/Maildir
# What is kept is to be what came.
mail_save_crlf = yes
first_valid_uid = 1
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = passwd-file
  args = {folder}/users
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


def why_not() -> str:
    """Say why Dovecot cannot be started here; empty where it can."""
    if not shutil.which("dovecot") or not Path("/usr/lib/dovecot/lmtp").exists():
        return "Dovecot's LMTP server is not installed: apt-get install dovecot-lmtpd"
    return "" if os.geteuid() == 0 else "Dovecot can be started by root alone"


class DovecotProcess:
    """A Dovecot of one's own; a context manager from start to stop.

    Args:
        users: addresses that have a mailbox.

    Attributes:
        address: where it listens.
    """

    def __init__(self, users: Iterable[str]) -> None:
        # Not below a folder that is closed to the owner of the mail, as those of pytest are.
        self.folder = Path(tempfile.mkdtemp(prefix="spamd-dovecot-", dir="/tmp"))
        self.folder.chmod(0o755)
        (self.folder / "mail").mkdir()
        shutil.chown(self.folder / "mail", NOBODY, NOBODY)
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        lines = [f"{user}:x:{NOBODY}:{NOBODY}::{self.folder}/mail/{user}\n" for user in users]
        (self.folder / "users").write_text("".join(lines))
        (self.folder / "dovecot.conf").write_text(SETTINGS.format(folder=self.folder, port=self._port))

    def __enter__(self) -> Self:
        """Start, and wait until it listens."""
        self._process = subprocess.Popen(["dovecot", "-F", "-c", str(self.folder / "dovecot.conf")])
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
            except ConnectionRefusedError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        """Stop, and leave nothing behind."""
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)
        shutil.rmtree(self.folder)

    def mail(self, user: str) -> list[bytes]:
        """Return the messages in a mailbox."""
        folder = self.folder / "mail" / user / "Maildir/new"
        return [file.read_bytes() for file in folder.iterdir()] if folder.exists() else []
