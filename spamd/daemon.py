"""The daemon: start, reload, drain, stop.

Start, in this order, each step only after the one before: settings, plugins, checkpoint, a first score, listening, READY=1. A
fault on the way is raised as an error that names it, and nothing is left half-started. SIGHUP reloads what can change while mail
flows: the checkpoint that is promoted now, our TLS certificate, `scoring.threshold` and `log.level`; everything else waits for a
restart, and a log line says so. SIGTERM and SIGINT drain: sessions that are sending end their message, the others are told 421; a
second signal ends at once. Knows nothing of protocols or models; it joins the parts. Called by `cli.spamd`.

Security: listens where the settings say and opens no other connection, save to a fleet where `scoring.scorer` is remote; loads
only safetensors and JSON; writes nothing to disk, but for a socket in the temporary folder, by which scoring processes start.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog
import uvloop

from spamd import __version__
from spamd.config import Settings, load_settings
from spamd.doors import Doors, open_doors
from spamd.errors import SpamdError
from spamd.fleet.client import open_fleet
from spamd.inference.batching import Batcher
from spamd.inference.crew import Crew
from spamd.inference.fallback import FallbackScorer, Fleet
from spamd.inference.scored import LoadedScorer, Scorer
from spamd.loading import EngineLoader
from spamd.service.addresses import refuse_loop
from spamd.service.filter import MessageFilter
from spamd.service.logs import configure_logging, describe, set_level
from spamd.service.registry import Registry
from spamd.service.systemd import notify, notify_reloading, watchdog_seconds

log = structlog.get_logger(__name__)

RELOADABLE = frozenset({"scoring.threshold", "log.level"})
CLOSE_SECONDS = 1.0
SIGNS_OF_LIFE = 3
"""As many are given in the time after which systemd would miss one."""


def run_daemon(settings_file: Path | None = None) -> None:
    """Run until a signal ends it.

    Args:
        settings_file: the TOML file, or None for the usual place.

    Raises:
        SpamdError: something is wrong with settings, plugins or checkpoint.
        OSError: the address cannot be listened on.
    """
    settings = load_settings(settings_file)
    configure_logging(settings.log.level, settings.log.format)
    for listen in filter(None, (settings.smtp.listen, settings.smtp.listen_tls)):
        refuse_loop(listen, settings.smtp.next_hop)
    reload_wanted = asyncio.Event()
    # Before the signal has a meaning: what is started while SIGHUP is ignored goes on to ignore it, as does what it starts.
    crew = Crew(EngineLoader(settings))
    try:
        # Whoever promotes a checkpoint while another one loads must not kill the daemon, and is served as soon as it runs.
        signal.signal(signal.SIGHUP, lambda *_: reload_wanted.set())
        fleet = open_fleet(settings.scoring)
        registry = Registry(settings.state_dir)
        scorer = crew.load(registry.current())
        daemon = Daemon(settings, settings_file, registry, crew.load, scorer, fleet=fleet)
        # What is loaded now stays: no collection of garbage need walk through it, with all sessions waiting meanwhile.
        gc.collect()
        gc.freeze()
        uvloop.run(daemon.serve(reload_wanted))
    finally:
        crew.close()
    _leave()


class Daemon:
    """A loaded engine behind its doors: the proxy, and the one for spamc clients where that is wanted.

    Args:
        settings: as they were at the start.
        settings_file: where they came from, to be read again at a reload.
        registry: says which checkpoint is promoted.
        load: loads a checkpoint, as the promoted one at a reload.
        scorer: the loaded checkpoint, which has scored already.
        fleet: asked before it, where there is one.
    """

    def __init__(
        self,
        settings: Settings,
        settings_file: Path | None,
        registry: Registry,
        load: Callable[[Path], LoadedScorer],
        scorer: LoadedScorer,
        *,
        fleet: Fleet | None = None,
    ) -> None:
        self._fleet = fleet
        self._settings = settings
        self._settings_file = settings_file
        self._registry = registry
        self._load = load
        self._scorer = scorer
        self._batcher = Batcher(
            self._with_fleet(scorer),
            max_batch_tokens=settings.scoring.max_batch_tokens,
            max_waiting=settings.scoring.max_waiting_messages,
            cache_size=settings.scoring.cache_size,
        )
        self._filter = MessageFilter(
            self._batcher, deadline_seconds=settings.scoring.deadline_seconds, threshold=settings.scoring.threshold
        )
        self._doors: Doors | None = None
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loading")

    async def serve(self, reload_wanted: asyncio.Event) -> None:
        """Listen, announce it, and serve until SIGTERM or SIGINT.

        Args:
            reload_wanted: set when a reload is asked for; may be set already.

        Raises:
            OSError: the address cannot be listened on.
        """
        doors = self._doors = await open_doors(self._settings, self._filter)
        stop_wanted = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, reload_wanted.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, stop_wanted)
        log.info("ready", version=__version__, **doors.addresses, next_hop=self._settings.smtp.next_hop, **self._model())
        self._announce()
        reloading = asyncio.create_task(self._reload_when(reload_wanted))
        watching = asyncio.create_task(self._show_life(watchdog_seconds()))
        await stop_wanted.wait()
        notify("STOPPING=1")
        reloading.cancel()
        await self._drain(doors)
        watching.cancel()

    async def reload(self) -> None:
        """Serve the promoted checkpoint and the reloadable settings from now on; on any fault keep the old ones and say why."""
        notify_reloading()
        try:
            settings = load_settings(self._settings_file)
            scorer = await self._load_anew()
        except (SpamdError, OSError) as error:
            log.error("reload refused", reason=str(error), **self._model())  # noqa: TRY400  the sentence says it all
        except Exception as error:  # noqa: BLE001  a daemon that filters mail must survive a bad checkpoint
            log.error("reload refused", **describe(error), **self._model())  # noqa: TRY400  no traceback in a line
        else:
            old = await self._serve_by(scorer)
            self._filter.threshold = settings.scoring.threshold
            set_level(settings.log.level)
            waiting = [key for key in changed_keys(self._settings, settings) if key not in RELOADABLE]
            log.info("reloaded", replaced=old, restart_needed_for=waiting, **self._model(), **self._repeats())
        finally:
            self._announce()

    def _with_fleet(self, scorer: Scorer) -> Scorer:
        """Put the fleet, where there is one, before what scores here."""
        return FallbackScorer(scorer, self._fleet) if self._fleet else scorer

    def _load_promoted(self) -> LoadedScorer:
        """Load the checkpoint that is promoted now; in a thread of its own."""
        return self._load(self._registry.current())

    async def _load_anew(self) -> LoadedScorer:
        """Load the promoted checkpoint and the certificate; where the certificate cannot be used, neither."""
        loop = asyncio.get_running_loop()
        scorer = await loop.run_in_executor(self._loader, self._load_promoted)
        try:
            if self._doors:
                self._doors.renew_certificate()
        except BaseException:
            await loop.run_in_executor(self._loader, scorer.close)
            raise
        return scorer

    async def _serve_by(self, scorer: LoadedScorer) -> str:
        """Let another checkpoint score from now on, and let the old one go; returns the old one's id."""
        old, self._scorer = self._scorer, scorer
        self._batcher.swap(self._with_fleet(scorer))
        # What is being scored ends with the old one.
        await self._batcher.turn()
        try:
            await asyncio.get_running_loop().run_in_executor(self._loader, old.close)
        except SpamdError as error:
            log.warning("old checkpoint kept in memory", reason=str(error), checkpoint=old.checkpoint)
        return old.checkpoint

    async def _reload_when(self, wanted: asyncio.Event) -> None:
        """Reload whenever asked, one reload at a time; several wishes during one reload are one more reload."""
        while True:
            await wanted.wait()
            wanted.clear()
            await self.reload()

    async def _show_life(self, seconds: float | None) -> None:
        """Tell systemd that we live, as long as both live: the loop, which runs this, and the thread that scores.

        Args:
            seconds: how long systemd waits for it; None where it does not.
        """
        while seconds:
            await self._batcher.turn()
            notify("WATCHDOG=1", self._status())
            await asyncio.sleep(seconds / SIGNS_OF_LIFE)

    async def _drain(self, doors: Doors) -> None:
        """Let messages in flight finish within the drain timeout, then close everything."""
        log.info("draining", seconds=self._settings.smtp.drain_timeout_seconds)
        await doors.drain(self._settings.smtp.drain_timeout_seconds)
        self._filter.close()
        self._loader.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._batcher.close(), CLOSE_SECONDS)
        if self._fleet:
            self._fleet.close()
            log.info("fleet", **self._fleet.counts)
        log.info("stopped", **self._repeats())

    def _stop(self, wanted: asyncio.Event) -> None:
        """Ask for the end, and let a second signal have its usual effect."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
        wanted.set()

    def _announce(self) -> None:
        """Tell systemd that mail is filtered, and by what."""
        notify("READY=1", self._status())

    def _status(self) -> str:
        """What `systemctl status` shows."""
        cache = self._batcher.cache
        known = f"; {100 * cache.hit_rate:.1f} % of {cache.num_asked} messages known before" if cache.num_asked else ""
        return f"STATUS=filtering with checkpoint {self._batcher.engine.checkpoint}{known}"

    def _repeats(self) -> dict[str, Any]:
        """How many messages the model need not have read, for the log."""
        cache = self._batcher.cache
        return {"scored": cache.num_asked, "known_before": cache.num_hits, "hit_rate": round(cache.hit_rate, 4)}

    def _model(self) -> dict[str, Any]:
        """What scores at present, for the log."""
        threshold = self._filter.threshold
        return {
            "checkpoint": self._batcher.engine.checkpoint,
            "threshold": self._batcher.engine.threshold if threshold is None else threshold,
        }


def changed_keys(old: Settings, new: Settings) -> list[str]:
    """Name the settings that differ, as `section.key`."""

    def flat(settings: Settings) -> dict[str, Any]:
        values = settings.model_dump()
        return {
            (f"{section}.{key}" if key else section): value
            for section, content in values.items()
            for key, value in (content.items() if isinstance(content, dict) else [("", content)])
        }

    before, after = flat(old), flat(new)
    return [key for key in before if before[key] != after[key]]


def _leave() -> None:
    """End the program even while a thread is stuck in an engine; Python itself would wait for it."""
    sys.stderr.flush()
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        os._exit(os.EX_OK)
