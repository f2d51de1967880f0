"""What tests of the hooks need: plugins written on the spot, and built-ins that import no torch."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType, ModuleType

import pytest

from spamd.hooks import hookimpl, manager

DropIn = Callable[[str, str], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty drop-in folder."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    return folder


@pytest.fixture
def drop_in(folder: Path) -> DropIn:
    """Write a drop-in file that only its owner may write."""

    def write(name: str, source: str) -> Path:
        file = folder / name
        file.write_text(source, encoding="utf-8")
        file.chmod(0o644)
        return file

    return write


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Make a package with an entry point appear installed."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def install(name: str, source: str) -> None:
        module = name.replace("-", "_")
        (site / f"{module}.py").write_text(source, encoding="utf-8")
        metadata = site / f"{module}-0.3.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.3.0\n", encoding="utf-8")
        (metadata / "entry_points.txt").write_text(f"[spamd]\n{name} = {module}\n", encoding="utf-8")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


@pytest.fixture
def _light_built_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the built-in modules by three that offer one thing each: `plain`."""
    modules = {kind: f"fake_built_in_{kind}" for kind in manager.HOOKS}
    for kind, name in modules.items():
        module = ModuleType(name)
        hook = hookimpl(lambda: {"plain": lambda *args, **options: (args, options)})
        setattr(module, manager.HOOKS[kind], hook)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(manager, "BUILT_INS", MappingProxyType(modules))
