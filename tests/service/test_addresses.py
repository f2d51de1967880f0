"""The guard against relaying to ourselves."""

import pytest

from spamd.errors import ConfigError
from spamd.service.addresses import refuse_loop


@pytest.mark.parametrize(
    ("listen", "next_hop"),
    [
        ("127.0.0.1:10025", "127.0.0.1:10025"),
        ("127.0.0.1:10025", "localhost:10025"),
        ("0.0.0.0:10025", "127.0.0.1:10025"),
        ("unix:/run/spamd.sock", "unix:/run/spamd.sock"),
    ],
)
def test_relaying_to_ourselves_is_refused(listen, next_hop):
    """A next hop that leads back to where we listen is a fault of the settings that names both."""
    with pytest.raises(ConfigError, match="mail would circle") as refused:
        refuse_loop(listen, next_hop)

    assert listen in str(refused.value)
    assert next_hop in str(refused.value)


@pytest.mark.parametrize(
    ("listen", "next_hop"),
    [
        ("127.0.0.1:10025", "127.0.0.1:10026"),
        ("127.0.0.1:10025", "127.0.0.2:10025"),
        ("0.0.0.0:25", "192.0.2.1:25"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:10025", "unix:/run/next.sock"),
        ("unix:/run/spamd.sock", "127.0.0.1:10025"),
    ],
)
def test_another_place_is_fine(listen, next_hop):
    """Another port, host or socket is a proper next hop."""
    refuse_loop(listen, next_hop)
