"""`spamd-admin plugins new`."""

import importlib
import os
import subprocess
import sys

import pytest

from spamd.hooks.manager import load_plugins


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["head", "freezing", "dataset"])
def test_its_own_tests_pass_as_generated(spamd_admin, tmp_path, kind):
    """A new package passes the tests that it comes with, in a Python of its own."""
    spamd_admin("plugins", "new", "3-way", "--kind", kind, "--into", tmp_path)

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        command, cwd=tmp_path / "spamd-3-way", env=environment, capture_output=True, text=True, check=False, timeout=100
    )

    assert 0 == ran.returncode, ran.stdout
    assert " passed" in ran.stdout


@pytest.mark.parametrize(("kind", "mapping"), [("head", "heads"), ("freezing", "freezing_policies"), ("dataset", "datasets")])
def test_the_manager_loads_it(spamd_admin, tmp_path, monkeypatch, kind, mapping):
    """What was written registers its name through the hook."""
    ran = spamd_admin("plugins", "new", f"fresh-{kind}", "--kind", kind, "--into", tmp_path)
    folder = tmp_path / f"spamd-fresh-{kind}"
    monkeypatch.syspath_prepend(str(folder))
    module = f"spamd_fresh_{kind}"

    plugins = load_plugins(drop_in_folder=None, use_entry_points=False, kinds=[kind], extra_modules=[module])

    assert (0, f"wrote {folder}; next: pip install -e {folder} && pytest {folder}\n") == (ran.code, ran.out)
    assert f"fresh-{kind}" in getattr(plugins, mapping)
    assert {"README.md", "pyproject.toml", f"{module}.py", f"test_{module}.py"} == {
        file.name for file in folder.iterdir() if file.is_file()
    }
    assert 0o755 == folder.stat().st_mode & 0o777
    importlib.invalidate_caches()


def test_a_prefix_is_not_doubled(spamd_admin, tmp_path):
    """`spamd-mine` and `mine` make the same package."""
    spamd_admin("plugins", "new", "spamd-mine", "--kind", "freezing", "--into", tmp_path)

    assert ["spamd-mine"] == [file.name for file in tmp_path.iterdir()]


def test_nothing_is_overwritten(spamd_admin, tmp_path):
    """Where the folder exists, the command refuses and leaves it and everything else alone."""
    (tmp_path / "spamd-mine").mkdir()

    ran = spamd_admin("plugins", "new", "mine", "--kind", "freezing", "--into", tmp_path)

    assert 64 == ran.code
    assert "exists and is left as it is" in " ".join(ran.err.split())
    assert [] == list((tmp_path / "spamd-mine").iterdir())
    assert ["spamd-mine"] == [file.name for file in tmp_path.iterdir()]


def test_a_half_written_package_disappears(spamd_admin, tmp_path, monkeypatch):
    """When writing fails, nothing is left."""
    monkeypatch.setattr("pathlib.Path.rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))

    ran = spamd_admin("plugins", "new", "mine", "--kind", "freezing", "--into", tmp_path)

    assert 74 == ran.code
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["Mine", "my_head", "-mine", "mine-", "a--b", "../mine", "a b", "", "spamd-"])
def test_names_are_checked(spamd_admin, tmp_path, name):
    """A name that could not be registered, or that leads elsewhere, is a usage error."""
    ran = spamd_admin("plugins", "new", "--kind", "head", "--into", tmp_path, "--", name)

    assert 64 == ran.code
    assert "lower-case letters, digits and dashes" in " ".join(ran.err.split())
    assert [] == list(tmp_path.iterdir())


def test_a_built_in_name_is_refused(spamd_admin, tmp_path):
    """A package that could never be loaded beside spamd is not written."""
    ran = spamd_admin("plugins", "new", "last-block", "--kind", "freezing", "--into", tmp_path)

    assert 64 == ran.code
    assert "'last-block' is a freezing policy that comes with spamd" in " ".join(ran.err.split())


@pytest.mark.parametrize("arguments", [("--kind", "trunk"), (), ("--kind", "head", "--into", "/nonexistent")])
def test_wrong_options(spamd_admin, arguments):
    """An unknown kind, none, or a folder that does not exist is a usage error."""
    assert 64 == spamd_admin("plugins", "new", "mine", *arguments).code
