"""Exim as a real mail server of its own: private folders, high ports, one place for all mail.

    exim = EximProcess(relay="127.0.0.1:12025", address="127.0.0.1:20025")
    exim.write("/etc/exim4/conf.d/main/00_spamd", ...)
    with exim:
        ...

Needs the files of Debian's exim4-daemon-heavy and exim4-config, at their places or unpacked below /opt/exim (Debian lets nobody
install Exim beside Postfix), the user Debian-exim, and root. Used by `mta/`.

Security: for tests alone; it relays for everybody on loopback.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from daemon_process import PATIENCE_SECONDS

USER = "Debian-exim"
ROOTS = (Path("/"), Path("/opt/exim"))
GENERAL = """\
dc_eximconfig_configtype='local'
dc_use_split_config='true'
CFILEMODE='644'
"""
MAIN = """\
MAIN_HARDCODE_PRIMARY_HOSTNAME = mx.example.org
MAIN_HOST_LOOKUP =
SPOOLDIR = {folder}/spool
CONFDIR = {folder}/exim4
MAIN_SMTPUTF8_ADVERTISE_HOSTS = *
.ifndef MAIN_LOCAL_INTERFACES
MAIN_LOCAL_INTERFACES = {listen}
.endif
# Clients of the tests send what some senders send.
IGNORE_SMTP_LINE_LENGTH_LIMIT = yes
CHECK_RCPT_NO_FAIL_TOO_MANY_BAD_RCPT = yes
CHECK_RCPT_REMOTE_LOCALPARTS = ^refused
log_file_path = {folder}/spool/%slog
pid_file_path = {folder}/spool/pid
dsn_advertise_hosts = *
# The program may lie where it cannot be set-uid.
deliver_drop_privilege
tls_advertise_hosts =
recipients_max = 1000
"""
ROUTER = """\
sink:
  driver = manualroute
  transport = sink_smtp
  route_list = * {host} byname
  self = send
  no_more
"""
TRANSPORT = """\
sink_smtp:
  driver = smtp
  port = {port}
  allow_localhost
  message_linelength_limit = 1G
"""


def why_not() -> str:
    """Say why Exim cannot be started here; empty where it can."""
    if not exim_root():
        return "Exim is not there: .ci/run says how Debian's exim4-daemon-heavy and exim4-config are unpacked below /opt/exim"
    if USER not in {user.pw_name for user in pwd.getpwall()}:
        return f"Exim has no user {USER}"
    return "" if os.geteuid() == 0 else "Exim can be started by root alone"


def exim_root() -> Path | None:
    """Find where Exim's files lie; None where they do not."""
    return next((root for root in ROOTS if (root / "usr/sbin/exim4").exists() and (root / "etc/exim4/conf.d").exists()), None)


class EximProcess:
    """An Exim of one's own; a context manager from start to stop.

    Args:
        relay: `host:port` where all mail goes.
        address: `host:port` where it listens, unless a file says otherwise.

    Attributes:
        address: the same.
        folder: holds its settings, queue and log.
    """

    def __init__(self, *, relay: str, address: str) -> None:
        self.address = address
        # Not below a folder that is closed to Exim's user, as those of pytest are.
        self.folder = Path(tempfile.mkdtemp(prefix="spamd-exim-", dir="/tmp"))
        self.folder.chmod(0o755)
        root = exim_root()
        self._program = str(root / "usr/sbin/exim4")
        self._process: subprocess.Popen[bytes] | None = None
        (self.folder / "spool").mkdir()
        shutil.chown(self.folder / "spool", USER, USER)
        shutil.copytree(root / "etc/exim4", self.folder / "exim4")
        (self.folder / "mailname").write_text("mx.example.org\n")
        self._copy(root / "usr/sbin/update-exim4.conf", self.folder / "update-exim4.conf")
        main = self.folder / "exim4/conf.d/main/02_exim4-config_options"
        self._copy(main, main)
        host, _, port = relay.rpartition(":")
        self.write("/etc/exim4/update-exim4.conf.conf", GENERAL)
        # After files of the page, whose settings stand, and before Debian's.
        listen = address.replace("127.0.0.1", "<; [127.0.0.1]")
        self.write("/etc/exim4/conf.d/main/00_test", MAIN.format(folder=self.folder, listen=listen))
        self.write("/etc/exim4/conf.d/router/060_test", ROUTER.format(host=host))
        self.write("/etc/exim4/conf.d/transport/90_test", TRANSPORT.format(port=port))

    def __enter__(self) -> Self:
        """Start, and wait until it listens."""
        self._run("sh", str(self.folder / "update-exim4.conf"), "-d", str(self.folder / "exim4"), "-o", str(self.folder / "conf"))
        self._process = subprocess.Popen([self._program, "-C", str(self.folder / "conf"), "-bdf"])
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "listening for SMTP" not in self.log():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and leave nothing behind."""
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, path: str, text: str) -> None:
        """Write a settings file.

        Args:
            path: where it lies on a host, below /etc/exim4.
            text: what it holds.
        """
        (self.folder / path.removeprefix("/etc/")).write_text(text)

    def run_queue(self) -> None:
        """Try all that waits once more, now."""
        self._run(self._program, "-C", str(self.folder / "conf"), "-qff")

    def log(self) -> str:
        """Return its main log so far."""
        log = self.folder / "spool/mainlog"
        return log.read_text(errors="replace") if log.exists() else ""

    def _copy(self, source: Path, target: Path) -> None:
        """Copy a file of the package with our folders in place of its own."""
        text = source.read_text()
        target.write_text(text.replace("/usr/sbin/exim4", self._program).replace("/etc/mailname", str(self.folder / "mailname")))

    @staticmethod
    def _run(*command: str) -> None:
        """Run a program to its end."""
        subprocess.run(command, check=True, timeout=PATIENCE_SECONDS)
