"""What a daemon says to systemd and gets from it: notices, how often it wants a sign of life, and listening sockets.

A few lines of our own instead of a dependency (see sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3)); silent where
systemd is not there. Called by `daemon` and `doors`.

Security: writes short fixed texts to the one socket that $NOTIFY_SOCKET names; nothing of a message is among them.
"""

import os
import socket
import time

import structlog

log = structlog.get_logger(__name__)

FIRST_INHERITED = 3


def notify(*assignments: str) -> None:
    """Tell systemd about a change, for instance `READY=1`.

    Args:
        assignments: lines `NAME=value`, sent together.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            # A leading @ stands for the abstract name space, whose names begin with NUL.
            connection.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            connection.sendall("\n".join(assignments).encode())
    except OSError as error:
        # Mail flows whether or not systemd hears of it.
        log.warning("systemd not told", reason=error.strerror, notice=assignments[0])


def notify_reloading() -> None:
    """Tell systemd that a reload begins; `Type=notify-reload` wants the monotonic time with it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_seconds() -> float | None:
    """Say how long systemd waits for a sign of life before it kills us; None where it keeps no watch."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None


def inherited_sockets() -> dict[str, list[socket.socket]]:
    """Return the listening sockets that systemd opened for this program, by their FileDescriptorName."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    sockets: dict[str, list[socket.socket]] = {}
    for number in range(int(os.environ.get("LISTEN_FDS", "0"))):
        inherited = socket.socket(fileno=FIRST_INHERITED + number)
        inherited.set_inheritable(False)
        inherited.settimeout(0)
        sockets.setdefault(names[number] if number < len(names) else "", []).append(inherited)
    return sockets
