"""Tells whether the next hop is spamd itself, which would send mail in a circle. Opens no connection. Called by `daemon`."""

import contextlib
import ipaddress
import socket

from spamd.errors import ConfigError


def refuse_loop(listen: str, next_hop: str) -> None:
    """Refuse to relay to ourselves.

    Args:
        listen: address that we listen on.
        next_hop: address that mail goes on to.

    Raises:
        ConfigError: both are the same place.
    """
    if _is_own(listen, next_hop):
        raise ConfigError(
            f"smtp.next_hop = {next_hop!r} is where spamd itself listens (smtp.listen = {listen!r}); mail would circle."
        )


def _is_own(listen: str, next_hop: str) -> bool:
    """Tell whether a connection to `next_hop` would arrive at `listen`."""
    if "unix:" in {listen[:5], next_hop[:5]}:
        return listen == next_hop
    host, _, port = listen.rpartition(":")
    next_host, _, next_port = next_hop.rpartition(":")
    # Port 0 lets the system choose a free one, which is never the next hop's.
    if port in {"0", ""} or port != next_port:
        return False
    ours, theirs = _addresses(host), _addresses(next_host)
    is_everywhere = any(ipaddress.ip_address(address).is_unspecified for address in ours)
    return host == next_host or bool(ours & theirs) or (is_everywhere and any(_is_local(address) for address in theirs))


def _addresses(host: str) -> set[str]:
    """Resolve a host; an unknown one has no address."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {str(address[0]).partition("%")[0] for *_, address in found}


def _is_local(address: str) -> bool:
    """Tell whether an address is one of this machine's: only those can be bound to."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.bind((address, 0))
        return True
    return False
