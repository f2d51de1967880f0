"""The checkpoints of a state folder: links, promotion, rollback."""

import json
from pathlib import Path

import pytest

from spamd.errors import CheckpointError
from spamd.service.registry import Registry


def _store(folder: Path, identifier: str) -> Path:
    """Make a folder that looks like a checkpoint."""
    folder.mkdir(parents=True)
    (folder / "checkpoint.json").write_text(json.dumps({"id": identifier}))
    return folder


def _sound(folder: Path) -> None:
    """A check that finds everything sound."""


@pytest.fixture
def registry(tmp_path):
    """A registry with three checkpoints and a shipped one."""
    shipped = _store(tmp_path / "shipped", "2026-01-01-ffffff")
    state_dir = tmp_path / "state"
    for identifier in ("2026-11-20-aaaaaa", "2026-11-21-bbbbbb", "2026-11-22-cccccc"):
        _store(state_dir / "checkpoints" / identifier, identifier)
    return Registry(state_dir, shipped=shipped)


def test_shipped_serves_a_fresh_installation(tmp_path):
    """Without any state folder the shipped checkpoint serves and there is nothing to roll back to."""
    registry = Registry(tmp_path / "absent", shipped=_store(tmp_path / "shipped", "x"))

    assert registry.shipped == registry.current()
    assert registry.previous() is None
    assert [] == registry.folders()


def test_shipped_folder_is_the_models():
    """The registry, which never imports the model, means the same shipped folder."""
    from spamd.model.checkpoint import DEFAULT_FOLDER

    assert DEFAULT_FOLDER == Registry(Path("/nowhere")).shipped


def test_promote_switches_and_remembers(registry):
    """A promotion makes a checkpoint current and the one that served previous."""
    registry.promote("2026-11-20-aaaaaa", check=_sound)
    registry.promote("2026-11-21", check=_sound)

    assert "2026-11-21-bbbbbb" == registry.current().name
    assert "2026-11-20-aaaaaa" == registry.previous().name
    assert "checkpoints/2026-11-21-bbbbbb" == str((registry.state_dir / "current").readlink())


def test_promote_checks_before_it_switches(registry):
    """A checkpoint that the check refuses is not promoted, and the old one goes on serving."""
    registry.promote("2026-11-20", check=_sound)

    def refuse(folder: Path) -> None:
        raise CheckpointError(f"{folder} is damaged.")

    with pytest.raises(CheckpointError, match="damaged"):
        registry.promote("2026-11-21", check=refuse)

    assert "2026-11-20-aaaaaa" == registry.current().name
    assert registry.shipped == registry.previous()


def test_promoting_the_current_one_keeps_previous(registry):
    """Promoting what serves already changes nothing, so that a rollback still leads back."""
    registry.promote("2026-11-20", check=_sound)
    registry.promote("2026-11-21", check=_sound)
    registry.promote("2026-11-21", check=_sound)

    assert "2026-11-20-aaaaaa" == registry.previous().name


def test_roles_name_the_folders(registry):
    """Before any promotion the shipped checkpoint is current; after one it is what a rollback brings back."""
    assert {"current": registry.shipped, "shipped": registry.shipped} == registry.roles()

    folder = registry.promote("2026-11-20", check=_sound)

    assert {"current": folder, "previous": registry.shipped, "shipped": registry.shipped} == registry.roles()


def test_rollback_swaps(registry):
    """A rollback brings the previous checkpoint back, and a second one undoes the first."""
    registry.promote("2026-11-20", check=_sound)
    registry.promote("2026-11-21", check=_sound)

    assert "2026-11-20-aaaaaa" == registry.rollback(check=_sound).name
    assert "2026-11-21-bbbbbb" == registry.previous().name
    assert "2026-11-21-bbbbbb" == registry.rollback(check=_sound).name


def test_rollback_of_the_first_promotion_leads_to_the_shipped_one(registry):
    """What served before the first promotion is the shipped checkpoint, and it comes back."""
    registry.promote("2026-11-20", check=_sound)
    registry.rollback(check=_sound)

    assert registry.shipped == registry.current()
    assert "2026-11-20-aaaaaa" == registry.previous().name


def test_rollback_without_a_promotion_is_refused(registry):
    """There is nothing to roll back to before the first promotion."""
    with pytest.raises(CheckpointError, match="nothing was ever promoted"):
        registry.rollback(check=_sound)


def test_shipped_can_be_promoted(registry):
    """The shipped checkpoint is promoted by its id or as `shipped`."""
    registry.promote("2026-11-20", check=_sound)
    registry.promote("shipped", check=_sound)

    assert registry.shipped == registry.current()
    assert registry.shipped == registry.find("2026-01-01-ffffff")


def test_find_lists_the_ids_when_none_fits(registry):
    """An unknown id is answered with the ids there are."""
    with pytest.raises(CheckpointError, match=r"'1999'; there are: 2026-11-20-aaaaaa, .*2026-01-01-ffffff, shipped"):
        registry.find("1999")


def test_find_lists_the_ids_when_several_fit(registry):
    """A beginning that several ids share is answered with those."""
    with pytest.raises(CheckpointError, match="several checkpoint ids: 2026-11-20-aaaaaa, 2026-11-21-bbbbbb, 2026-11-22-cccccc;"):
        registry.find("2026-11")


def test_find_refuses_the_empty_beginning(registry):
    """Nothing at all is not the beginning of an id."""
    with pytest.raises(CheckpointError, match="begins with ''"):
        registry.find("")


def test_locate_takes_folders_too(registry):
    """A checkpoint outside the state folder is named by its path, one inside by its id."""
    assert registry.shipped == registry.locate(str(registry.shipped))
    assert "2026-11-20-aaaaaa" == registry.locate("2026-11-20").name


def test_folders_leaves_out_what_is_being_written(registry):
    """A folder without a card, or with a temporary name, is not a checkpoint yet."""
    (registry.checkpoints_dir / "2026-11-23-dddddd").mkdir()
    _store(registry.checkpoints_dir / ".2026-11-24-eeeeee", "x")

    assert ["2026-11-20-aaaaaa", "2026-11-21-bbbbbb", "2026-11-22-cccccc"] == [folder.name for folder in registry.folders()]


def test_a_deleted_current_is_told_and_can_be_replaced(registry):
    """A link to a checkpoint that was deleted is an error that says what to do, and doing it works."""
    registry.promote("2026-11-20", check=_sound)
    (registry.current() / "checkpoint.json").unlink()

    with pytest.raises(CheckpointError, match="model promote ID"):
        registry.current()

    registry.promote("2026-11-21", check=_sound)

    assert "2026-11-21-bbbbbb" == registry.current().name


def test_a_crash_between_the_two_links_leaves_the_old_one_serving(registry, monkeypatch):
    """Where the second rename never happens, the old checkpoint serves on."""
    registry.promote("2026-11-20", check=_sound)
    point = registry._point

    def crash_at_current(name: str, folder: Path) -> None:
        if name == "current":
            raise OSError
        point(name, folder)

    monkeypatch.setattr(registry, "_point", crash_at_current)
    with pytest.raises(OSError):  # noqa: PT011  the stand-in for a crash
        registry.promote("2026-11-21", check=_sound)

    assert "2026-11-20-aaaaaa" == registry.current().name


def test_a_checkpoint_linked_from_elsewhere_can_be_left_and_come_back(registry, tmp_path):
    """A `current` that the operator pointed outside the state folder is remembered as it stood, and a rollback finds it."""
    elsewhere = _store(tmp_path / "elsewhere" / "2026-11-19-dddddd", "2026-11-19-dddddd")
    (registry.state_dir / "current").symlink_to(elsewhere)
    registry.promote("2026-11-20", check=_sound)

    assert "2026-11-20-aaaaaa" == registry.current().name
    assert elsewhere == registry.rollback(check=_sound)


@pytest.mark.parametrize("name", ["current", "previous"])
def test_a_folder_where_a_link_belongs_is_refused(registry, name):
    """A copy in the place of a link neither passes for the shipped checkpoint nor is overwritten."""
    _store(registry.state_dir / name, "2026-11-20-aaaaaa")

    for ask in (registry.roles, lambda: registry.promote("2026-11-20", check=_sound)):
        with pytest.raises(CheckpointError, match=f"{name} is no symbolic link; move it away"):
            ask()
