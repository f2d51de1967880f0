"""`spamd-admin fleet serve`: answer the contract of docs/fleet.md with several replicas, by Ray Serve.

Reads options, hands over to `spamd.fleet.serving` and waits for signals: SIGHUP takes up the promoted checkpoint, SIGTERM and
SIGINT end it. Ray and torch load when it runs.
"""

import asyncio
import signal
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated

import typer

from spamd.cli.options import ConfigOption
from spamd.config import load_settings
from spamd.errors import SpamdError
from spamd.service.listening import open_listeners
from spamd.service.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from spamd.fleet.serving import Plan
    from spamd.inference.scored import Scorer

MAX_PORT = 65_535
LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}


def serve_fleet(
    *,
    token_file: Annotated[
        Path, typer.Option(metavar="FILE", readable=False, help="Holds the token that clients must show; see docs/fleet.md.")
    ],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where HTTP is answered.")] = "127.0.0.1:8780",
    replicas: Annotated[int, typer.Option(min=1, max=256, help="Processes, each with a model of its own.")] = 2,
    gpus: Annotated[float, typer.Option(min=0, max=8, help="GPUs of each replica; 0.5 lets two share one.")] = 0,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", readable=False, help="PEM file of a certificate: answer in TLS.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", readable=False, help="PEM file of its key.")] = None,
    config: ConfigOption = None,
) -> None:
    """Score for the proxies of other machines that have set scoring.scorer = "remote". Needs the extra named fleet.

    The checkpoint is the promoted one of this machine, and proxies must have the same. SIGHUP takes up another.
    """
    config = config and config.absolute()
    settings = load_settings(config)
    host, port = _place(listen, has_tls=certificate is not None)
    if (certificate is None) != (key is None):
        raise typer.BadParameter("--certificate and --key belong together; give both or neither.")
    from spamd.fleet.serving import Plan

    def plan() -> Plan:
        return Plan(
            partial(load_scorer, config, Registry(settings.state_dir).current(), replicas),
            token_file.absolute(),
            host,
            port,
            replicas,
            gpus,
            settings.scoring.max_batch_tokens,
            settings.scoring.max_waiting_messages,
            (certificate.absolute(), key.absolute()) if certificate and key else None,
        )

    asyncio.run(_refuse_taken(listen))
    _serve(plan)


def _serve(plan: "Callable[[], Plan]") -> None:
    """Serve until SIGTERM or SIGINT, and what is promoted at each SIGHUP from then on.

    Args:
        plan: says what is to be served now.
    """
    from spamd.fleet import serving

    signals: SimpleQueue[int] = SimpleQueue()
    # Whoever promotes a checkpoint while replicas load must not kill us. Ray takes the other signals until it has started.
    _heed(signals, signal.SIGHUP)
    served = plan()
    with serving.serving(served):
        _heed(signals, signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
        typer.echo(f"{served.num_replicas} replicas answer at {served.host}:{served.port}.", err=True)
        while signals.get() == signal.SIGHUP:
            try:
                wanted = plan()
                serving.deploy(wanted)
                served = wanted
            except SpamdError as error:
                typer.echo(f"error: {error}", err=True)
                serving.deploy(served)


def _heed(signals: "SimpleQueue[int]", *numbers: int) -> None:
    """Put signals into a queue. To block them and wait would block them in Ray's processes too."""
    for number in numbers:
        signal.signal(number, lambda number, _: signals.put(number))


async def _refuse_taken(listen: str) -> None:
    """Say in a sentence, and before anything starts, that an address cannot be listened on; Ray would say it in forty lines.

    Raises:
        OSError: it cannot.
    """
    for listener in await open_listeners(listen, "--listen"):
        listener.close()


def _place(listen: str, *, has_tls: bool) -> tuple[str, int]:
    """Read where to listen: on this machine, or anywhere in TLS.

    Raises:
        BadParameter: it is no such place.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= MAX_PORT:
        raise typer.BadParameter(f"{listen!r} is no place to listen; write host:port or [v6]:port.", param_hint="--listen")
    if not has_tls and host not in LOOPBACK:
        raise typer.BadParameter(
            f"{listen!r} would carry mail and token over a network in plain text; give --certificate and --key.",
            param_hint="--listen",
        )
    return host.strip("[]"), int(port)


def load_scorer(config: Path | None, folder: Path, num_replicas: int) -> "Scorer":
    """Load a checkpoint in a replica, by the settings of the machine that it runs on.

    Args:
        config: the settings file, or None for the usual place.
        folder: the checkpoint.
        num_replicas: how many share the cores, where `scoring.threads` does not say how many threads each has.

    Raises:
        SpamdError: something is wrong with settings, plugins or checkpoint.
    """
    from spamd.inference.devices import usable_cpus
    from spamd.loading import load_engine, load_heads

    settings = load_settings(config)
    threads = settings.scoring.threads or max(1, usable_cpus() // num_replicas)
    settings = settings.model_copy(update={"scoring": settings.scoring.model_copy(update={"threads": threads})})
    return load_engine(settings, load_heads(settings), folder)
