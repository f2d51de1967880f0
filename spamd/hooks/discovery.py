"""Where plugins come from: our own modules, installed packages with an entry point, files dropped into a folder.

Says what was found and how to import it, and imports nothing itself; `spamd.hooks.manager` does that, checks and joins.

Security: a plugin is code that runs with our rights. Drop-in files are refused where somebody else could have written them.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import spamd
from spamd.errors import PluginError

Source = Literal["built-in", "package", "file"]

ENTRY_POINT_GROUP = "spamd"
NOT_PLUGINS = re.compile(r"[_.].*|test_.*|conftest\.py")
"""Files of a drop-in folder that are left alone: private ones and tests."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """Where a plugin came from.

    Attributes:
        name: what `SPAMD_DISABLED_PLUGINS` calls it: module of a built-in, package, or drop-in file without `.py`.
        package: what an operator would install or copy to have it.
        version: version of the package; empty where a drop-in file states none.
        source: `built-in`, `package` or `file`.
        origin: the module, entry point or path that it is imported from.
        is_disabled: it was found but not loaded, since the settings say so.
    """

    name: str
    package: str
    version: str
    source: Source
    origin: str
    is_disabled: bool = False

    def __str__(self) -> str:
        """Name and origin, for error texts."""
        return self.name if self.name == self.origin else f"{self.name} ({self.origin})"

    @property
    def owner(self) -> str:
        """Package and version, as a checkpoint records them: `spamd-max-pool-head 0.1.0`."""
        return f"{self.package} {self.version}".rstrip()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plugin that was found and not yet loaded; `load` imports it."""

    plugin: Plugin
    aliases: frozenset[str]
    load: Callable[[], object]


def built_ins(modules: Iterable[str]) -> Iterator[Candidate]:
    """Our own modules, by dotted name."""
    for module in modules:
        plugin = Plugin(module, "spamd", spamd.__version__, "built-in", module)
        yield Candidate(plugin, frozenset({normalised(module)}), _importer(module))


def packages() -> Iterator[Candidate]:
    """Installed packages with an entry point in our group; one package may have several."""
    for point in sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        package, version = (point.dist.name, point.dist.version) if point.dist else (point.value, "")
        name = package if normalised(package) == normalised(point.name) else f"{package}/{point.name}"
        aliases = frozenset(map(normalised, (package, point.name, name)))
        yield Candidate(Plugin(name, package, version, "package", point.value), aliases, point.load)


def drop_ins(folder: Path | None) -> Iterator[Candidate]:
    """The `.py` files of a folder, each checked for who may write it before it is imported."""
    try:
        if folder is None or not folder.exists():
            return
        files = sorted(file for file in folder.iterdir() if file.suffix == ".py" and not NOT_PLUGINS.fullmatch(file.name))
    except OSError as error:
        raise PluginError(f"plugin folder {folder} cannot be read: {error.strerror}.") from None
    for file in files:
        plugin = Plugin(file.stem, file.name, "", "file", str(file))
        yield Candidate(plugin, frozenset(map(normalised, (file.stem, file.name))), _file_importer(file))


def by_name(modules: Iterable[str]) -> Iterator[Candidate]:
    """Modules given by name, for tests."""
    for module in modules:
        yield Candidate(Plugin(module, module, "", "file", module), frozenset({normalised(module)}), _importer(module))


def _importer(module: str) -> Callable[[], object]:
    """Import a module by dotted name, later."""
    return lambda: importlib.import_module(module)


def _file_importer(file: Path) -> Callable[[], ModuleType]:
    """Import a file by path, later."""

    def load() -> ModuleType:
        _refuse_foreign_code(file.parent)
        _refuse_foreign_code(file)
        # Not by importlib, which would run what somebody may have put into __pycache__ in its place.
        code = compile(file.read_bytes(), file, "exec")
        module = ModuleType(f"spamd_drop_in_{file.stem}")
        module.__file__ = str(file)
        # Dataclasses of the plugin look their module up in sys.modules while it is still being imported.
        sys.modules[module.__name__] = module
        exec(code, module.__dict__)  # noqa: S102  plugins are code
        return module

    return load


def _refuse_foreign_code(path: Path) -> None:
    """Refuse a plugin file, or its folder, that somebody other than root and ourselves may write: it is code that we run."""
    status = path.stat()
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PluginError(f"{path} may be written by its group or by everybody, and plugins are code: chmod go-w {path}")
    if status.st_uid not in {0, os.geteuid()}:
        raise PluginError(f"{path} belongs to user id {status.st_uid}, and plugins are code: chown root {path}")


def normalised(name: str) -> str:
    """A plugin's name as packages compare theirs: case and `_ . -` do not matter."""
    return re.sub(r"[-_.]+", "-", name).lower()
