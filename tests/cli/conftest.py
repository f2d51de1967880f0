"""The command line as its user meets it: arguments in, exit code and two streams out."""

import io
import sys
from dataclasses import dataclass

import pytest

from spamd import cli
from spamd.config import load_settings
from spamd.service.registry import Registry


@dataclass(frozen=True)
class Ran:
    """What a command left behind.

    Attributes:
        code: its exit code.
        out: standard output.
        err: standard error.
    """

    code: int
    out: str
    err: str


@pytest.fixture
def spamd_admin(monkeypatch, capsys):
    """Run `spamd-admin` in this process: `spamd_admin("score", path, stdin=b"...")` -> `Ran`."""

    def run(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "argv", ["spamd-admin", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Ran(end.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def settings(tmp_path, tiny_checkpoint):
    """A settings file; the promoted checkpoint of its state folder is the tiny one."""
    file = tmp_path / "spamd.toml"
    file.write_text('plugins_dir = "/nonexistent"\n[scoring]\ndevice = "cpu"\nthreads = 1\n')
    registry = Registry(load_settings(file).state_dir)
    registry.checkpoints_dir.mkdir(parents=True)
    tiny_checkpoint.rename(registry.checkpoints_dir / tiny_checkpoint.name)
    registry.promote(tiny_checkpoint.name, check=lambda _: None)
    return file


@pytest.fixture
def registry(settings):
    """The registry of those settings."""
    return Registry(load_settings(settings).state_dir)
