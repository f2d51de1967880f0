"""Listening sockets, and who may come in through them: what every door of the daemon shares.

Knows no protocol and accepts nobody (`door` does). Called by `smtp.server` and `spamc.server`.

Security: listens where the settings say, and opens no connection, save to see whether a UNIX socket in its way is still served.
"""

import asyncio
import contextlib
import errno
import ipaddress
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path

from spamd.errors import ConfigError

BACKLOG = 1024
PROBE_SECONDS = 1.0
HOSTNAME = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")


async def own_hostname(setting: str) -> str:
    """Return our name for greetings and header fields.

    Args:
        setting: smtp.hostname; empty takes the machine's name.

    Raises:
        ConfigError: no name was set for us, and the machine's cannot be used.
    """
    hostname = setting or await asyncio.to_thread(socket.getfqdn)
    if not HOSTNAME.fullmatch(hostname):
        raise ConfigError(f"this machine calls itself {hostname!r}, which is no host name; set smtp.hostname.")
    return hostname


async def open_listeners(address: str, key: str, mode: str = "0666") -> list[socket.socket]:
    """Open listening sockets: one for each address that a host name has.

    Args:
        address: `host:port`, `[v6]:port` or `unix:/path`.
        key: the setting that the address comes from, for the sentence where it cannot be listened on.
        mode: who may connect to a UNIX socket, as octal digits.

    Raises:
        OSError: the address cannot be listened on.
    """
    try:
        if address.startswith("unix:"):
            return [_unix_listener(Path(address.removeprefix("unix:")), int(mode, 8))]
        return await _tcp_listeners(address)
    except OSError as error:
        # Numbers of the resolver are negative, and Python puts the address into the texts of all others.
        cause = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise OSError(error.errno, f"cannot be listened on: {cause}; stop what uses it or change {key}", address) from None


async def _tcp_listeners(address: str) -> list[socket.socket]:
    """Open a socket for each address that a host name has: all or none."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as opened:
        listeners = [
            opened.enter_context(socket.create_server(place[:2], family=family, backlog=BACKLOG))
            for family, _, _, _, place in dict.fromkeys(found)
        ]
        opened.pop_all()
    return listeners


def _unix_listener(path: Path, mode: int) -> socket.socket:
    """Open a UNIX socket in the place of one that a former run left behind, but never of one that serves."""
    if path.is_socket():
        if _is_served(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The socket gets its mode as it comes to be: a chmod afterwards could be led to another file.
    umask = os.umask(0o777 & ~mode)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        # Python gives no number where the path is longer than such addresses may be.
        raise OSError(error.errno or errno.ENAMETOOLONG, error.strerror or str(error), str(path)) from None
    finally:
        os.umask(umask)
    listener.listen(BACKLOG)
    return listener


def _is_served(path: Path) -> bool:
    """Tell whether somebody listens on a UNIX socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # A full backlog, or no permission to ask: somebody else's, in case of doubt.
            return True
    return True


def address_of(listener: socket.socket) -> str:
    """Write where a socket listens, in the form that settings take."""
    name = listener.getsockname()
    if isinstance(name, tuple):
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    return f"unix:{name}"


def client_of(connection: socket.socket) -> str:
    """Return the address of a client, without the zone of a link-local one; empty on a UNIX socket.

    Raises:
        OSError: the client has gone.
    """
    peer = connection.getpeername()
    return str(peer[0]).partition("%")[0] if isinstance(peer, tuple) else ""


class Neighbourhood:
    """The networks whose clients may come in.

    Args:
        networks: in CIDR notation.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network, strict=False) for network in networks]

    def __contains__(self, client: str) -> bool:
        """Tell whether an address lies in one of them; IPv4 that arrives on an IPv6 socket is IPv4, and UNIX sockets are near."""
        if not client:
            return True
        address = ipaddress.ip_address(client)
        plain = getattr(address, "ipv4_mapped", None) or address
        return any(plain in network for network in self._networks)
