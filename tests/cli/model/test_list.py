"""`spamd-admin model list`."""

import json

import pytest
from checkpoints import copy_checkpoint


@pytest.fixture
def stored(registry):
    """A state folder with a second checkpoint, which has figures, and a damaged one."""
    metrics = {"hm": {"value": 0.1, "low": 0.0, "high": 0.5}, "sm": 3, "roca": None}
    copy_checkpoint(
        registry.current(), registry.checkpoints_dir, "2026-01-02-abcdef", metrics=metrics, created="2026-01-02T03:04:05+00:00"
    )
    (copy_checkpoint(registry.current(), registry.checkpoints_dir, "2026-01-03-abcdef") / "checkpoint.json").write_text("{")
    return registry


def _rows(out):
    """The lines of the list by id, split into words."""
    return {line.split()[1]: line.split() for line in out.splitlines()}


def test_list_marks_roles_and_gives_figures(spamd_admin, settings, stored):
    """The list says which checkpoint serves, and bears date, head, base, threshold and held-out figures."""
    ran = spamd_admin("model", "list", "--config", settings)
    rows = _rows(ran.out)

    assert 0 == ran.code
    assert ["ROLE", "ID", "CREATED", "HEAD", "BASE", "THRESHOLD", "HM%", "SM%", "(1-ROCA)%"] == rows["ID"]
    assert "current" == rows[stored.current().name][0]
    assert ["-", "2026-01-02-abcdef", "2026-01-02", "03:04", "last-token", "tiny", "0.5000", "0.10", "3.00", "-"] == rows[
        "2026-01-02-abcdef"
    ]


def test_list_shows_damaged_ones(spamd_admin, settings, stored):
    """A checkpoint whose card cannot be read does not hide the others."""
    assert "cannot be read" in spamd_admin("model", "list", "--config", settings).out


def test_list_as_json(spamd_admin, settings, stored):
    """Each JSON line is a checkpoint with its roles; a damaged one says what is wrong."""
    lines = spamd_admin("model", "list", "--json", "--config", settings).out.splitlines()
    entries = {entry["id"]: entry for entry in map(json.loads, lines)}

    assert ["current"] == entries[stored.current().name]["roles"]
    assert 3 == entries["2026-01-02-abcdef"]["metrics"]["sm"]
    assert "damaged" in entries["2026-01-03-abcdef"]["error"]


def test_renamed_folders_go_by_their_name(spamd_admin, settings, registry):
    """A checkpoint whose folder was renamed is listed under that name, beside the id on its card; both find it."""
    (folder,) = registry.folders()
    moved = folder.rename(folder.with_name("my-best"))
    registry.promote("my-best", check=lambda _: None)
    ran = spamd_admin("model", "list", "--config", settings)
    (entry,) = [
        json.loads(line)
        for line in spamd_admin("model", "list", "--json", "--config", settings).out.splitlines()
        if "my-best" in line
    ]

    assert f"my-best (was {folder.name})" in ran.out
    assert ("my-best", folder.name) == (entry["id"], entry["card_id"])
    assert [moved, moved] == [registry.find(name) for name in ("my-best", folder.name)]
