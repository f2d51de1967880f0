"""How a checkpoint becomes an engine under an administrator's settings: which plugins, which device, how many threads.

Imports torch only when asked to load: the daemon builds an `EngineLoader`, which does its work in the processes of a crew. Called
by `daemon`, and by `cli` for engines of its own.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from spamd.config import Settings
from spamd.hooks.manager import Kind, load_plugins
from spamd.inference.crew import Place
from spamd.interfaces import HeadFactory
from spamd.service.logs import configure_logging

if TYPE_CHECKING:
    from spamd.inference.engine import Engine

HEADS: tuple[Kind, ...] = ("head",)

MOST_PROCESSES = 4
"""So many share a CPU at the most, where the settings do not say how many: each takes memory, and its threads work as well."""

LARGE_PARAMETERS = 30_000_000
"""A trunk of more is computed by all threads of one process: its steps take so long that threads hardly wait for Python's lock,
and its weights take more memory than anybody wants to spend twice."""


def load_heads(settings: Settings) -> Mapping[str, HeadFactory]:
    """Load the plugins and return the heads that they and spamd itself offer, by name.

    Raises:
        PluginError: a plugin cannot be used.
    """
    plugins = load_plugins(drop_in_folder=settings.plugins_dir, disabled=settings.disabled_plugins, kinds=HEADS)
    return plugins.heads


def load_engine(settings: Settings, heads: Mapping[str, HeadFactory], folder: Path, place: Place | None = None) -> "Engine":
    """Load a checkpoint as the settings say, or at another place, and score with it once.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ConfigError: the device cannot be used.
    """
    from spamd.inference.engine import Engine

    device, threads = place or (settings.scoring.device, settings.scoring.threads)
    return Engine.load(
        folder,
        heads,
        device=device,
        threads=threads,
        max_batch_tokens=settings.scoring.max_batch_tokens,
        precision=settings.scoring.precision,
        weights_dir=settings.state_dir / "weights",
    )


class EngineLoader:
    """Loads engines in the processes of a crew.

    Args:
        settings: as the daemon has read them.
    """

    shared_modules: ClassVar[Sequence[str]] = ("spamd.inference.engine",)
    """What each process of a crew has loaded from the start."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def prepare(self) -> None:
        """Log as the daemon does."""
        configure_logging(self._settings.log.level, self._settings.log.format)

    def places(self, folder: Path) -> list[Place]:
        """Say where a checkpoint is to be computed: on each GPU that is wanted, or by several processes on the CPU.

        Raises:
            CheckpointError: its card cannot be read.
            ConfigError: the device cannot be used.
        """
        from spamd.inference.devices import choose_device, devices_of, usable_cpus
        from spamd.model.checkpoint import read_card

        scoring = self._settings.scoring
        if choose_device(scoring.device).type != "cpu":
            return [(device, scoring.threads) for device in devices_of(scoring.device)]
        trunk = read_card(folder).trunk
        threads = scoring.threads or usable_cpus()
        most = 1 if 12 * trunk.n_layer * trunk.n_embd**2 > LARGE_PARAMETERS else MOST_PROCESSES
        num_processes = min(threads, scoring.processes or most)
        return [("cpu", (threads + number) // num_processes) for number in range(num_processes)]

    def load(self, folder: Path, place: Place) -> "Engine":
        """Load a checkpoint at one of its places.

        Raises:
            SpamdError: a plugin, the checkpoint or the device cannot be used.
        """
        return load_engine(self._settings, self._heads, folder, place)

    @functools.cached_property
    def _heads(self) -> Mapping[str, HeadFactory]:
        """The heads on offer; plugins are loaded once a process."""
        return load_heads(self._settings)
