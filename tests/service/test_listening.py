"""Listening sockets on UNIX paths."""

import errno
import socket

import pytest

from spamd.service.listening import address_of, open_listeners


async def test_a_socket_that_serves_is_not_taken_away(tmp_path):
    """A second daemon on the same path is refused while the first listens, and takes the path once that has gone."""
    address = f"unix:{tmp_path}/in.sock"
    (first,) = await open_listeners(address, "smtp.listen")
    with pytest.raises(OSError, match="Address already in use") as refusal:
        await open_listeners(address, "smtp.listen")
    first.close()
    (second,) = await open_listeners(address, "smtp.listen")
    second.close()

    assert errno.EADDRINUSE == refusal.value.errno


async def test_a_path_that_is_too_long_has_a_reason(tmp_path):
    """A path that no UNIX socket can have is refused with a number and a text, as other faults of the system are."""
    with pytest.raises(OSError, match="too long") as refusal:
        await open_listeners(f"unix:{tmp_path}/{'x' * 200}", "smtp.listen")

    assert errno.ENAMETOOLONG == refusal.value.errno


async def test_an_address_reads_as_it_is_written():
    """Where a socket listens is told in the form that settings take, IPv6 in brackets."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        assert f"[::1]:{listener.getsockname()[1]}" == address_of(listener)
