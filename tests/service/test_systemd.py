"""Notices, the watch that systemd keeps, and inherited sockets."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

from spamd.service.systemd import inherited_sockets, notify, notify_reloading, watchdog_seconds


@pytest.fixture(params=["path", "abstract"])
def notices(request, tmp_path, monkeypatch):
    """A socket that stands for systemd's, by path and in the abstract name space."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@spamd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listening


def test_notify_sends_one_datagram(notices):
    """All assignments of a call arrive in one datagram, a line each."""
    notify("READY=1", "STATUS=fine")

    assert b"READY=1\nSTATUS=fine" == notices.recv(1000)


def test_notify_reloading_tells_the_time(notices):
    """A reload is announced with the monotonic time."""
    notify_reloading()
    first, second = notices.recv(1000).decode().split("\n")

    assert "RELOADING=1" == first
    assert second.removeprefix("MONOTONIC_USEC=").isdigit()


def test_notify_is_silent_without_systemd(monkeypatch):
    """Without a notification socket nothing happens."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")


def test_a_socket_that_is_gone_is_survived(monkeypatch, tmp_path, capsys):
    """Where nobody listens, the daemon goes on, with a warning."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "absent"))
    notify("READY=1")

    assert "systemd not told" in capsys.readouterr().out


def test_sockets_for_another_program_are_left_alone(monkeypatch):
    """Variables that were meant for a parent are ignored."""
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")

    assert {} == inherited_sockets()


SHOW_INHERITED = """
import os, socket
first = socket.create_server(("127.0.0.1", 0))
names = os.environ["LISTEN_FDNAMES"]
while (number := os.dup(first.fileno())) < 6: pass
os.environ |= {"LISTEN_PID": str(os.getpid())}
from spamd.service.systemd import inherited_sockets
print({name: [one.fileno() for one in some] for name, some in inherited_sockets().items()})
"""


def test_sockets_come_by_name():
    """Each socket is found under the name that its unit gave it; one without a name has the empty one."""
    environment = os.environ | {"LISTEN_FDS": "4", "LISTEN_FDNAMES": "spamd.socket:smtps:smtps"}
    ran = subprocess.run([sys.executable, "-c", SHOW_INHERITED], env=environment, capture_output=True, text=True, check=True)

    assert "{'spamd.socket': [3], 'smtps': [4, 5], '': [6]}\n" == ran.stdout


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "nonsense"}, None),
    ],
)
def test_the_watch_is_known(monkeypatch, variables, seconds):
    """How long systemd waits for a sign of life is in its variables, where they are meant for us."""
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert seconds == watchdog_seconds()


@pytest.mark.skipif(
    not shutil.which("systemd-socket-activate"), reason="systemd-socket-activate is not installed on this machine"
)
def test_systemds_own_sockets_are_found(tmp_path):
    """Sockets that systemd itself hands over are found by the names that it gave them."""
    paths = [str(tmp_path / name) for name in ("smtp", "smtps")]
    code = (
        "import json; from spamd.service.systemd import inherited_sockets;"
        "print(json.dumps({name: [one.getsockname() for one in some] for name, some in inherited_sockets().items()}))"
    )
    command = [
        "systemd-socket-activate",
        *(f"--listen={path}" for path in paths),
        "--fdname=smtp:smtps",
        sys.executable,
        "-c",
        code,
    ]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running,
        socket.socket(socket.AF_UNIX) as client,
    ):
        deadline = time.monotonic() + 60
        while client.connect_ex(paths[1]) and time.monotonic() < deadline:
            time.sleep(0.05)
        out, _ = running.communicate(timeout=60)

    assert {"smtp": paths[:1], "smtps": paths[1:]} == json.loads(out)
