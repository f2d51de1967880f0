"""Ray Serve around the contract: replicas of a model, each in a process of its own, behind one HTTP address.

Ray starts the replicas, spreads requests among them, replaces those that die, and rolls a new checkpoint out while the old one
still answers; nothing of that is ours. Needs the extra `spamd[fleet]`. Called by `spamd-admin fleet serve`.

Security: the HTTP address is the one given, loopback by default. Ray itself opens a dozen ports more, **on all interfaces**, and
whoever speaks its protocol runs code here: they are for this machine alone, see docs/fleet.md for the firewall. Ray's own token
is made anew at each start and stays in the environment of its processes, its files lie in a folder that nobody else may enter,
and its usage reports and its dashboard are off.
"""

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spamd.errors import ConfigError, ScoringError
from spamd.fleet.app import ScoreApp
from spamd.inference.batching import Batcher
from spamd.inference.contract import read_token
from spamd.inference.scored import Scorer

NAME = "spamd"
MAX_ONGOING_REQUESTS = 64
"""Requests that a replica works on at once; each holds at most one body in memory."""
MAX_QUEUED_REQUESTS = 256
"""Requests that wait for a replica; more are answered 503."""
REQUEST_SECONDS = 60.0
HEALTH_CHECK_SECONDS = 2.0
"""So often Ray looks whether a replica lives."""
TOKEN_SETTING = "--token-file"  # noqa: S105  the name of an option


@dataclass(frozen=True, slots=True)
class Plan:
    """What is served, and where. Travels to each replica, so that it holds no secret and no model.

    Attributes:
        load: loads the checkpoint to be served; a module's function, with arguments, that each replica can import.
        token_file: what clients must show.
        host: where HTTP is answered.
        port: likewise.
        num_replicas: processes with a model each.
        num_gpus: GPUs of each; 0 for the CPU.
        max_batch_tokens: tokens that a replica scores together.
        max_waiting: texts that may wait in a replica.
        tls: PEM files of certificate and key; None answers in plain text.
    """

    load: Callable[[], Scorer]
    token_file: Path
    host: str
    port: int
    num_replicas: int
    num_gpus: float
    max_batch_tokens: int
    max_waiting: int
    tls: tuple[Path, Path] | None = None


class Replica:
    """One model; Ray makes it in a process of its own.

    Args:
        plan: what to load.
    """

    def __init__(self, plan: Plan) -> None:
        self._token = read_token(plan.token_file, TOKEN_SETTING)
        self._batcher = Batcher(plan.load(), max_batch_tokens=plan.max_batch_tokens, max_waiting=plan.max_waiting)

    def __serve_build_asgi_app__(self) -> ScoreApp:
        """Give Ray what answers."""
        return ScoreApp(self._batcher, self._token)


@contextlib.contextmanager
def serving(plan: Plan) -> Iterator[None]:
    """Start Ray on this machine, or join the cluster that $RAY_ADDRESS names, and serve until the block ends.

    Args:
        plan: what is served, and where.

    Raises:
        ConfigError: Ray is not installed, or the token cannot be used.
        ScoringError: no replica could be started.
    """
    read_token(plan.token_file, TOKEN_SETTING)
    _prepare_environment()
    ray, serve = _ray()
    with tempfile.TemporaryDirectory(prefix="spamd-fleet-", ignore_cleanup_errors=True) as folder:
        if os.environ.get("RAY_ADDRESS"):
            ray.init(log_to_driver=False)
        else:
            # Replicas share the cores; what Ray counts is no measure of them.
            # Its own folder Ray opens to everybody, the one around it not.
            ray.init(include_dashboard=False, log_to_driver=False, num_cpus=plan.num_replicas + 1, _temp_dir=f"{folder}/ray")
        try:
            serve.start(http_options=_http_options(plan))
            deploy(plan)
            yield
        finally:
            serve.shutdown()
            ray.shutdown()


def _http_options(plan: Plan) -> dict[str, Any]:
    """Say to Ray where and how HTTP is answered."""
    options: dict[str, Any] = {"host": plan.host, "port": plan.port, "request_timeout_s": REQUEST_SECONDS}
    if plan.tls:
        options |= {"ssl_certfile": str(plan.tls[0]), "ssl_keyfile": str(plan.tls[1])}
    return options


def deploy(plan: Plan) -> None:
    """Serve a plan from now on, replica by replica: of several, those of the plan before answer until a new one has loaded.

    Raises:
        ScoringError: no replica could be started.
    """
    _, serve = _ray()
    replica = serve.deployment(
        name="scorer",
        num_replicas=plan.num_replicas,
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        max_queued_requests=MAX_QUEUED_REQUESTS,
        ray_actor_options={"num_cpus": 1, "num_gpus": plan.num_gpus},
        health_check_period_s=HEALTH_CHECK_SECONDS,
        logging_config={"enable_access_log": False},
    )(serve.ingress()(Replica))
    try:
        serve.run(replica.bind(plan), name=NAME, route_prefix="/")
    except RuntimeError as error:
        raise ScoringError(f"no replica could be started: {_cause(serve.status()) or str(error).strip()}") from None


def _cause(status: Any) -> str:
    """Find our own sentence in what Ray tells of replicas that failed, which is a traceback; empty where there is none."""
    told = [deployment.message for deployment in status.applications[NAME].deployments.values()]
    sentences = re.findall(r"^spamd\.errors\.\w+: (.+)$", "\n".join(told), re.MULTILINE)
    return str(sentences[-1]) if sentences else ""


def _prepare_environment() -> None:
    """Set what Ray and its processes read from the environment, where the operator has not."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if not os.environ.get("RAY_ADDRESS") and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        # In the environment no other user can read it; left to itself, Ray writes a file that everybody can.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.umask(0o077)


def _ray() -> tuple[Any, Any]:
    """Import Ray."""
    try:
        import ray
        from ray import serve
    except ImportError:
        raise ConfigError("Ray Serve is not installed here; run pip install '.[fleet]' where spamd was installed from.") from None
    return ray, serve
