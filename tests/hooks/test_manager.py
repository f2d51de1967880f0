"""The manager finds plugins in three places, refuses what does not fit and says which plugin it was."""

import importlib.util
import os
import py_compile
from pathlib import Path

import pytest

from spamd.errors import DuplicateNameError, PluginError, UnknownNameError
from spamd.hooks.manager import HOOKS, Plugins, load_plugins, lookup

PREAMBLE = "from spamd.hooks import hookimpl\n\n"

pytestmark = pytest.mark.usefixtures("_light_built_ins")


def load(folder: Path | None = None, **options) -> Plugins:
    """Load without the packages that happen to be installed here."""
    return load_plugins(drop_in_folder=folder, use_entry_points=False, **options)


def offering(hook: str, name: str) -> str:
    """Source of a plugin that offers one thing under one name."""
    return f"{PREAMBLE}@hookimpl\ndef {hook}():\n    return {{{name!r}: lambda *args, **options: None}}\n"


def test_built_ins_come_through_the_hooks():
    """Our own modules register like everybody else's, and are owned by spamd."""
    plugins = load()

    assert ["plain"] == list(plugins.heads) == list(plugins.freezing_policies) == list(plugins.datasets)
    assert {f"{plugins.found[0].package} 0.1.0"} == set(plugins.owners.values())
    assert ["built-in"] * 3 == [plugin.source for plugin in plugins.found]


def test_only_the_kinds_asked_for_are_imported():
    """The daemon asks for heads and gets neither policies nor datasets, nor their modules."""
    plugins = load(kinds=("head",))

    assert ["fake_built_in_head"] == [plugin.name for plugin in plugins.found]
    assert {} == dict(plugins.datasets)


def test_a_missing_folder_is_fine(tmp_path):
    """Most machines have no drop-in folder."""
    assert ["plain"] == list(load(tmp_path / "absent").heads)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    """A wrong `plugins_dir` is named, not taken for an empty folder."""
    file = tmp_path / "plugins"
    file.touch()

    with pytest.raises(PluginError, match=f"plugin folder {file} cannot be read: Not a directory"):
        load(file)


def test_drop_in_file_is_loaded(folder, drop_in):
    """A single file offers a name, and the file owns it."""
    drop_in("more.py", offering("spamd_register_datasets", "more"))

    plugins = load(folder)

    assert {"plain", "more"} == set(plugins.datasets)
    assert "more.py" == plugins.owners["dataset", "more"]
    assert (("dataset", "more"),) == plugins.offers["more"]


def test_drop_in_file_may_hold_a_dataclass(folder, drop_in):
    """Dataclasses look their module up by name while it is imported."""
    body = "from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n@dataclass\nclass Pair:\n    left: int\n"
    drop_in("pair.py", body)

    assert "pair" in load(folder).offers


@pytest.mark.parametrize("name", ["_private.py", ".hidden.py", "test_more.py", "conftest.py", "notes.txt"])
def test_files_that_are_no_plugins_are_left_alone(folder, drop_in, name):
    """Private files, tests and other files of the folder are never imported."""
    drop_in(name, "raise RuntimeError")

    assert 3 == len(load(folder).found)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import no_such_module_anywhere\n", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("raise RuntimeError('the moon is wrong')\n", "RuntimeError: the moon is wrong"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
    ],
)
def test_a_file_that_raises_is_named(folder, drop_in, source, reason):
    """Whatever goes wrong in the import of a drop-in, the file and the reason are told."""
    file = drop_in("broken.py", source)

    with pytest.raises(PluginError, match=r"plugin broken .* cannot be loaded") as raised:
        load(folder)

    assert str(file) in str(raised.value)
    assert reason in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(folder):
    """A link into nowhere stops start-up with the file's name."""
    (folder / "gone.py").symlink_to(folder / "nowhere.py")

    with pytest.raises(PluginError, match=r"plugin gone .*gone\.py\) cannot be loaded: FileNotFoundError"):
        load(folder)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_is_refused(folder, drop_in, mode):
    """A drop-in is code: where group or everybody may write it, it is not run."""
    file = drop_in("loose.py", "raise RuntimeError('was run')\n")
    file.chmod(mode)

    with pytest.raises(PluginError, match=f"{file} may be written by its group or by everybody.*chmod go-w"):
        load(folder)


def test_what_lies_in_a_cache_is_not_run(folder, drop_in):
    """Others may be able to write into `__pycache__`; a file is compiled anew each time, and leaves nothing there."""
    file = drop_in("good.py", offering("spamd_register_datasets", "more"))
    cached = Path(importlib.util.cache_from_source(file))
    cached.parent.mkdir(mode=0o777)
    py_compile.compile(str(drop_in("foreign.py", "raise RuntimeError('foreign code')\n")), str(cached))
    status = file.stat()
    data = bytearray(cached.read_bytes())
    data[8:16] = int(status.st_mtime).to_bytes(4, "little") + status.st_size.to_bytes(4, "little")
    cached.write_bytes(data)
    (folder / "foreign.py").unlink()

    assert "more" in load(folder).datasets
    assert [cached] == list(cached.parent.iterdir())


def test_a_folder_that_others_may_write_is_refused(folder, drop_in):
    """Whoever may write the folder may put code into it."""
    drop_in("fine.py", "")
    folder.chmod(0o777)

    with pytest.raises(PluginError, match=f"{folder} may be written"):
        load(folder)


def test_a_file_of_another_user_is_refused(folder, drop_in, monkeypatch):
    """Only root and the user that we run as may bring code."""
    file = drop_in("foreign.py", "")
    monkeypatch.setattr(os, "geteuid", lambda: 4_242)
    os_stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **kw: _owned_by(os_stat(self, **kw), 4_243 if self == file else 0))

    with pytest.raises(PluginError, match=r"foreign\.py belongs to user id 4243"):
        load(folder)


def _owned_by(status: os.stat_result, user: int) -> os.stat_result:
    """The same status with another owner."""
    fields = list(status)
    fields[4] = user
    return os.stat_result(fields)


def test_installed_package_is_found_by_its_entry_point(package):
    """An installed package needs no setting; the checkpoint learns its name and version."""
    package("spamd-fancy-head", offering("spamd_register_heads", "fancy"))

    plugins = load_plugins(drop_in_folder=None)

    assert "fancy" in plugins.heads
    assert "spamd-fancy-head 0.3.0" == plugins.owners["head", "fancy"]


def test_installed_packages_are_left_out_on_request(package):
    """Tests see only what they bring along."""
    package("spamd-fancy-head", "raise RuntimeError\n")

    assert ["plain"] == list(load().heads)


def test_a_package_that_raises_is_named(package):
    """A broken package is told from a broken spamd, and the way out is in the sentence."""
    package("spamd-fancy-head", "raise RuntimeError('the moon is wrong')\n")

    with pytest.raises(PluginError, match=r"plugin spamd-fancy-head .*the moon.*SPAMD_DISABLED_PLUGINS=spamd-fancy-head"):
        load_plugins(drop_in_folder=None)


@pytest.mark.parametrize("spelling", ["spamd-fancy-head", "spamd_fancy_head", "Spamd.Fancy-Head"])
def test_a_disabled_package_is_not_imported(package, spelling):
    """A disabled plugin cannot do harm, and the list still shows that it is there."""
    package("spamd-fancy-head", "raise RuntimeError\n")

    plugins = load_plugins(drop_in_folder=None, disabled=[spelling])

    assert [("spamd-fancy-head", True)] == [(plugin.name, plugin.is_disabled) for plugin in plugins.found[3:]]


@pytest.mark.parametrize("spelling", ["more", "more.py"])
def test_a_disabled_file_is_not_imported(folder, drop_in, spelling):
    """A drop-in is switched off by its name with or without `.py`."""
    drop_in("more.py", "raise RuntimeError\n")

    assert load(folder, disabled=[spelling]).found[-1].is_disabled


@pytest.mark.parametrize("hook", HOOKS.values())
def test_a_clash_names_both_plugins(folder, drop_in, hook):
    """One name offered twice stops start-up, and the operator learns who offers it."""
    drop_in("one.py", offering(hook, "same"))
    drop_in("two.py", offering(hook, "same"))

    with pytest.raises(DuplicateNameError, match=r"'same'.*one\.py.*two\.py"):
        load(folder)


def test_a_clash_with_a_built_in_names_spamd(folder, drop_in):
    """Nobody replaces a built-in by taking its name."""
    drop_in("one.py", offering("spamd_register_heads", "plain"))

    with pytest.raises(DuplicateNameError, match=r"the head 'plain': fake_built_in_head of spamd 0\.1\.0 and one "):
        load(folder)


def test_the_same_name_for_two_kinds_is_no_clash(folder, drop_in):
    """A head and a dataset may share a name, since they are never asked for in the same place."""
    drop_in("one.py", offering("spamd_register_heads", "same"))
    drop_in("two.py", offering("spamd_register_datasets", "same"))

    assert {"one.py", "two.py"} == {owner for (_, name), owner in load(folder).owners.items() if name == "same"}


def test_two_plugins_of_one_name_are_refused(folder, drop_in, package):
    """A file and a package of the same name could not be told apart by the settings."""
    package("more", "")
    drop_in("more.py", "")

    with pytest.raises(DuplicateNameError, match=r"more and more \(.*more\.py\)"):
        load_plugins(drop_in_folder=folder)


def test_a_misspelt_hook_stops_start_up(folder, drop_in):
    """A hook that nobody would ever call is an error that names plugin, hook and the right names."""
    drop_in("typo.py", offering("spamd_register_heds", "one"))

    with pytest.raises(PluginError, match=r"plugin typo .*unknown hook 'spamd_register_heds'\..*spamd_register_heads"):
        load(folder)


def test_a_wrong_argument_stops_start_up(folder, drop_in):
    """A hook that asks for what we do not give is an error that names plugin, hook and argument."""
    drop_in("greedy.py", f"{PREAMBLE}@hookimpl\ndef spamd_register_heads(width):\n    return {{}}\n")

    with pytest.raises(PluginError, match=r"plugin greedy .*spamd_register_heads.*width"):
        load(folder)


def test_a_forgotten_mark_stops_start_up(folder, drop_in):
    """A hook without `@hookimpl` would silently never be called."""
    drop_in("unmarked.py", "def spamd_register_heads():\n    return {}\n")

    with pytest.raises(PluginError, match=r"plugin unmarked .*spamd_register_heads\(\) without @hookimpl"):
        load(folder)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("None", "returned NoneType from spamd_register_heads"),
        ("['one']", "returned list"),
        ("{'One': print}", "the name 'One'"),
        ("{'one_two': print}", "the name 'one_two'"),
        ("{'one-': print}", "the name 'one-'"),
        ("{'': print}", "the name ''"),
        ("{3: print}", "the name 3"),
        ("{'one': 7}", "'one' in spamd_register_heads() as 7, which cannot be called"),
        ("1 / 0", "failed in spamd_register_heads(): ZeroDivisionError"),
    ],
)
def test_an_unfit_answer_stops_start_up(folder, drop_in, answer, reason):
    """What a hook returns is checked at once, not when a message arrives."""
    drop_in("odd.py", f"{PREAMBLE}@hookimpl\ndef spamd_register_heads():\n    return {answer}\n")

    with pytest.raises(PluginError, match="plugin odd") as raised:
        load(folder)

    assert reason in str(raised.value)


def test_trace_prints_each_call(folder, drop_in, monkeypatch, capsys):
    """With SPAMD_TRACE_HOOKS=1 one sees which plugin was asked and what it offered."""
    drop_in("more.py", offering("spamd_register_heads", "more"))
    monkeypatch.setenv("SPAMD_TRACE_HOOKS", "1")

    load(folder)

    lines = capsys.readouterr().err.splitlines()
    assert 4 == len(lines)
    assert f"spamd hook: spamd_register_heads() of more ({folder}/more.py) -> more" == lines[1]


@pytest.mark.parametrize("value", ["", "0", None])
def test_trace_is_off_by_default(monkeypatch, capsys, value):
    """Without the variable, or with 0, nothing is printed."""
    monkeypatch.delenv("SPAMD_TRACE_HOOKS", raising=False)
    if value is not None:
        monkeypatch.setenv("SPAMD_TRACE_HOOKS", value)

    load()

    assert "" == capsys.readouterr().err


def test_lookup_returns_what_is_registered():
    """A known name gives what stands under it."""
    assert 1 == lookup({"one": 1}, "head", "one")


def test_lookup_suggests_the_nearest_name():
    """A misspelt name is answered with the nearest and all on offer."""
    with pytest.raises(UnknownNameError) as raised:
        lookup({"mean-pool": 1, "last-token": 2}, "head", "last-tokn")

    expected = "no plugin registers a head called 'last-tokn'. Did you mean 'last-token'? On offer: last-token, mean-pool."
    assert expected == str(raised.value)


def test_lookup_among_nothing_says_so():
    """Where nothing is on offer, the sentence says none."""
    with pytest.raises(UnknownNameError, match=r"called 'x'\. On offer: none\."):
        lookup({}, "dataset", "x")
