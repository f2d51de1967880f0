"""The client's side as the settings want it: a fleet to ask, or none.

Reads the token and connects to nobody yet; what asks is `inference.fallback`. Loads neither torch nor Ray. Called by `daemon`
and by `spamd-admin config check`.

Security: the token goes from its file into the client, and into no log, setting or error.
"""

from spamd.config import ScoringSettings
from spamd.inference.breaker import CircuitBreaker
from spamd.inference.contract import read_token
from spamd.inference.fallback import Fleet
from spamd.inference.remote import RemoteScorer


def open_fleet(scoring: ScoringSettings) -> Fleet | None:
    """Make ready to ask the fleet; None where this process is to score alone.

    Args:
        scoring: where the fleet is, and how long it may take.

    Raises:
        ConfigError: the token or the authorities cannot be used.
    """
    if scoring.scorer == "local" or scoring.remote_token_file is None:
        return None
    remote = RemoteScorer(
        scoring.remote_url,
        read_token(scoring.remote_token_file, "scoring.remote_token_file"),
        timeout_seconds=scoring.remote_timeout_seconds,
        tls_ca=scoring.remote_tls_ca,
    )
    breaker = CircuitBreaker("fleet", pause_seconds=scoring.remote_pause_seconds)
    return Fleet(remote, breaker, num_requests=scoring.remote_connections)
