"""Readiness notices and inherited sockets."""

import os
import socket

import pytest

from spamd.service.systemd import inherited_sockets, notify, notify_reloading


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

    assert [] == inherited_sockets()
