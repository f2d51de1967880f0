"""`spamd-admin config show`."""

import json
import os
import tomllib
from threading import Thread

import pytest

from spamd.cli.config.layout import example, toml
from spamd.config import KEYS, load_settings

TEXT = """
state_dir = "/srv/spamd \\"state\\""
disabled_plugins = ["one", "two"]
[smtp]
max_hops = 20
[scoring]
threshold = 0.75
[model]
head = "max-pool"
head_options = {join_last_token = false, depth = 3, name = "x\\u007f\\t"}
[training]
learning_rate = 1e-5
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A settings file with a value of every type; the environment holds none of them."""
    monkeypatch.delenv("SPAMD_STATE_DIR")
    file = tmp_path / "spamd.toml"
    file.write_text(TEXT)
    return file


def test_what_is_shown_can_be_read_back(spamd_admin, file, tmp_path):
    """The output is a settings file that gives the same settings."""
    copy = tmp_path / "copy.toml"
    copy.write_text(spamd_admin("config", "show", "--config", file).out)

    assert load_settings(file) == load_settings(copy)


def test_each_value_says_where_it_comes_from(spamd_admin, file, monkeypatch):
    """Default, file and variable stand behind the values."""
    monkeypatch.setenv("SPAMD_SMTP__LISTEN", "127.0.0.1:10099")

    lines = spamd_admin("config", "show", "--config", file).out.splitlines()

    assert f"max_hops = 20  # {file}" in lines
    assert 'listen = "127.0.0.1:10099"  # SPAMD_SMTP__LISTEN' in lines
    assert 'next_hop = "127.0.0.1:10026"  # default' in lines
    assert "# reject_score is unset  # default" in lines


def test_a_pipe_is_read_once(spamd_admin, tmp_path, monkeypatch):
    """Settings that come through a pipe, which can be read but once, are not called defaults."""
    monkeypatch.delenv("SPAMD_STATE_DIR")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_text, args=("[smtp]\nmax_hops = 20\n",), daemon=True)
    writer.start()

    assert f"max_hops = 20  # {pipe}" in spamd_admin("config", "show", "--config", pipe).out.splitlines()
    writer.join()


def test_json_has_an_object_a_setting(spamd_admin, file):
    """The JSON form lists every key with value, origin and variable."""
    entries = {
        entry["key"]: entry
        for entry in map(json.loads, spamd_admin("config", "show", "--json", "--config", file).out.splitlines())
    }

    assert {".".join(key) for key in KEYS} == set(entries)
    assert {"key": "smtp.max_hops", "value": 20, "origin": str(file), "variable": "SPAMD_SMTP__MAX_HOPS"} == entries[
        "smtp.max_hops"
    ]
    assert '/srv/spamd "state"' == entries["state_dir"]["value"]


def test_wrong_settings_are_not_shown(spamd_admin, file):
    """Settings with a fault are exit code 78, as for every command."""
    file.write_text("[smtp]\nmax_hops = 0\n")

    ran = spamd_admin("config", "show", "--config", file)

    assert (78, "") == (ran.code, ran.out)


def test_the_table_has_a_row_for_each_key(spamd_admin):
    """The table tells unit, default and meaning."""
    rows = [row.strip("| ").split(" | ") for row in spamd_admin("config", "show", "--markdown").out.splitlines()[2:]]

    assert [f"`{'.'.join(key)}`" for key in KEYS] == [row[0] for row in rows]
    assert {4} == {len(row) for row in rows}
    assert ["`scoring.deadline_seconds`", "seconds", "`20.0`"] == rows[
        [row[0] for row in rows].index("`scoring.deadline_seconds`")
    ][:3]


def test_the_example_holds_every_default(tmp_path, monkeypatch):
    """The example changes nothing as it stands, and with its comments taken away still gives the defaults."""
    monkeypatch.delenv("SPAMD_STATE_DIR")
    as_it_stands, opened = tmp_path / "as_it_stands.toml", tmp_path / "opened.toml"
    as_it_stands.write_text(example())
    entries = [line.removeprefix("# ") for line in example().splitlines()]
    opened.write_text("\n".join(line for line in entries if line.startswith("[") or (" = " in line and "`" not in line)))

    assert {} == {key: value for key, value in tomllib.loads(example()).items() if value}
    expected = load_settings(as_it_stands).model_dump(exclude={"state_dir"})
    assert expected == load_settings(opened).model_dump(exclude={"state_dir"})


@pytest.mark.parametrize(
    "value", ["", 'a "b" \\ \n \x7f ü', 5e-5, 1e22, 7, True, False, (), ("a", "b"), {}, {"a key": [1, "x"], "b": {"c": 0.5}}]
)
def test_values_survive_toml(value):
    """Whatever a setting may hold is written such that TOML reads the same."""
    expected = list(value) if isinstance(value, tuple) else value

    assert expected == tomllib.loads(f"x = {toml(value)}")["x"]


def test_one_form_at_a_time(spamd_admin):
    """Two ways to print at once are refused, and neither is taken silently."""
    ran = spamd_admin("config", "show", "--json", "--markdown")

    assert (64, "") == (ran.code, ran.out)
    assert "choose one" in ran.err
