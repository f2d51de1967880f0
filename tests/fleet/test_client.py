"""The fleet that the settings name."""

import pytest
from contract_server import TOKEN

from spamd.config import ScoringSettings
from spamd.errors import ConfigError
from spamd.fleet.client import open_fleet


def test_no_fleet_by_default():
    """Where nothing is set, nobody is asked."""
    assert open_fleet(ScoringSettings()) is None


def test_a_fleet_has_what_the_settings_say(token_file):
    """Address, time, and requests at once are those of the settings; the token shows in no text of any part."""
    settings = ScoringSettings(
        scorer="remote",
        remote_url="http://127.0.0.1:8780",
        remote_token_file=token_file,
        remote_timeout_seconds=2.0,
        remote_connections=3,
    )
    fleet = open_fleet(settings)
    fleet.close()

    assert ("http://127.0.0.1:8780", 2.0, 3) == (fleet.remote.url, fleet.remote.timeout_seconds, fleet.num_requests)
    assert TOKEN not in repr((settings, fleet, fleet.remote, fleet.breaker))


def test_a_token_that_cannot_be_read(token_file):
    """The fault is told with the setting."""
    token_file.chmod(0o644)
    settings = ScoringSettings(scorer="remote", remote_url="http://127.0.0.1:1", remote_token_file=token_file)
    with pytest.raises(ConfigError, match=r"^scoring\.remote_token_file: "):
        open_fleet(settings)
