"""Postfix as a real mail server of its own: Debian's master.cf, private folders, a high port, and one place where all mail goes.

    with PostfixProcess(port=20025, relay="127.0.0.1:12025") as postfix:
        postfix.run("postconf -P ... && postfix reload")

Needs the package postfix and root, and leaves the Postfix of the machine alone. Used by `mta/` and `benchmarks/crash.py`.

Security: for tests and benchmarks alone; it relays for everybody on loopback.
"""

import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from page import with_ports

MASTER = Path("/usr/share/postfix/master.cf.dist")
PATIENCE_SECONDS = 60.0

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.org
mydestination =
alias_maps =
local_recipient_maps =
mynetworks = 127.0.0.0/8
relayhost = [{relay}]:{relay_port}
disable_dns_lookups = yes
smtp_host_lookup = native
smtpd_peername_lookup = no
smtpd_recipient_restrictions = check_recipient_access regexp:{folder}/etc/refusals
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
message_size_limit = 52428800
# Clients of the tests stand for clients elsewhere, and what arrives is to be what was sent.
local_header_rewrite_clients =
smtp_line_length_limit = 0
"""
REFUSALS = """\
/^refused/ 550 5.1.1 no such user
/^deferred/ 450 4.2.0 come again
"""
"""Which recipients its `smtp` service does not take, by their first letters."""


def why_not() -> str:
    """Say why Postfix cannot be started here; empty where it can."""
    if not shutil.which("postfix") or not MASTER.exists():
        return "Postfix is not installed: apt-get install postfix"
    return "" if os.geteuid() == 0 else "Postfix can be started by root alone"


def free_port() -> int:
    """Find a port of 127.0.0.1 that nobody uses and that the system gives to no outgoing connection."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class PostfixProcess:
    """A Postfix of one's own; a context manager from start to stop.

    Args:
        port: of its `smtp` service on 127.0.0.1.
        relay: `host:port` where all mail goes.
        settings: lines to add to main.cf.

    Attributes:
        address: of its `smtp` service.
        folder: holds its settings, queue and log.
    """

    def __init__(self, *, port: int, relay: str, settings: str = "") -> None:
        self.port = port
        self.address = f"127.0.0.1:{port}"
        # Not below a folder that is closed to Postfix's users, as those of pytest are.
        self.folder = Path(tempfile.mkdtemp(prefix="spamd-postfix-", dir="/tmp"))
        self.folder.chmod(0o755)
        for name in ("etc", "queue", "data"):
            (self.folder / name).mkdir(mode=0o755)
        shutil.chown(self.folder / "data", "postfix")
        host, _, relay_port = relay.rpartition(":")
        main = MAIN.format(folder=self.folder, relay=host, relay_port=relay_port)
        (self.folder / "etc/main.cf").write_text(main + settings)
        (self.folder / "etc/refusals").write_text(REFUSALS)
        services = MASTER.read_text().splitlines(keepends=True)
        own = [
            line.replace("smtp ", f"{self.address} ", 1) if line.startswith("smtp ") and " inet " in line else line
            for line in services
        ]
        (self.folder / "etc/master.cf").write_text("".join(own))

    def __enter__(self) -> Self:
        """Start."""
        self.run("postfix start")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and leave nothing behind."""
        self.run("postfix stop")
        shutil.rmtree(self.folder)

    def run(self, script: str) -> str:
        """Run a shell script whose Postfix commands mean this Postfix; return what it prints.

        Args:
            script: for `sh`; it ends at the first command that fails.

        Raises:
            RuntimeError: a command failed; holds what it printed.
        """
        environment = os.environ | {"MAIL_CONFIG": str(self.folder / "etc")}
        ran = subprocess.run(
            ["sh", "-ec", script],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        if ran.returncode:
            raise RuntimeError(f"{script!r} ended with {ran.returncode}:\n{ran.stdout}\n{self.log()}")
        return ran.stdout

    def paste(self, block: str, ports: Mapping[int, int]) -> str:
        """Run a block of `docs/postfix.md` with our ports in place of its own; return what it prints.

        Args:
            block: its text.
            ports: port in the page -> port here; its `smtp` service is known.
        """
        script = block.replace("smtp/inet/", f"{self.address}/inet/").replace("--server 127.0.0.1 ", f"--server {self.address} ")
        return self.run(with_ports(script, ports))

    def log(self) -> str:
        """Return its log so far."""
        log = self.folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def num_queued(self) -> int:
        """Count the messages in its queue."""
        names = ("maildrop", "incoming", "active", "deferred", "hold")
        return sum(file.is_file() for name in names for file in (self.folder / "queue" / name).rglob("*"))
