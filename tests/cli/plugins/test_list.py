"""`spamd-admin plugins list`."""

import json

import pytest

SOURCE = """
from spamd.hooks import hookimpl


@hookimpl
def spamd_register_heads():
    return {"odd": lambda *args, **options: None}
"""


@pytest.fixture
def plugins_dir(tmp_path, monkeypatch):
    """A drop-in folder that the settings point to, with one plugin."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    (folder / "odd_head.py").write_text(SOURCE)
    (folder / "odd_head.py").chmod(0o644)
    monkeypatch.setenv("SPAMD_PLUGINS_DIR", str(folder))
    return folder


def test_list(spamd_admin, plugins_dir):
    """Each plugin stands on a line with version, source and what it offers, built-ins first."""
    ran = spamd_admin("plugins", "list")
    lines = [line.split(maxsplit=3) for line in ran.out.splitlines()]

    assert 0 == ran.code
    assert ["PLUGIN", "VERSION", "SOURCE", "OFFERS"] == lines[0]
    assert ["spamd.model.heads", "0.1.0", "built-in", "head last-token, first-token, mean-pool, attention-pool"] == lines[1]
    assert "freezing policy last-block" in lines[2][3]
    assert ["odd_head", "-", "file", "head odd"] == lines[-1]


def test_list_as_json(spamd_admin, plugins_dir):
    """The JSON form has an object a plugin, with where it lies."""
    entries = [json.loads(line) for line in spamd_admin("plugins", "list", "--json").out.splitlines()]

    expected = {
        "plugin": "odd_head",
        "version": None,
        "source": "file",
        "origin": str(plugins_dir / "odd_head.py"),
        "disabled": False,
        "offers": [{"kind": "head", "name": "odd"}],
    }
    assert expected == entries[-1]


def test_a_disabled_plugin_is_listed_as_such(spamd_admin, plugins_dir, monkeypatch):
    """What the settings leave out is still shown."""
    monkeypatch.setenv("SPAMD_DISABLED_PLUGINS", "other,odd_head")

    assert ["odd_head", "-", "file", "disabled"] == spamd_admin("plugins", "list").out.splitlines()[-1].split()


def test_a_broken_plugin_is_exit_code_78(spamd_admin, plugins_dir):
    """The list fails as start-up would, with one sentence that names the file."""
    (plugins_dir / "odd_head.py").write_text("1 / 0\n")

    ran = spamd_admin("plugins", "list")

    assert (78, "") == (ran.code, ran.out)
    assert ran.err.startswith(f"error: plugin odd_head ({plugins_dir}/odd_head.py) cannot be loaded: ZeroDivisionError: ")
