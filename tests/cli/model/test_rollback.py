"""`spamd-admin model rollback`."""

from checkpoints import copy_checkpoint, damage

OTHER = "2026-01-02-abcdef"


def test_rollback(spamd_admin, settings, registry):
    """A rollback brings back what served before, and another one undoes it."""
    first = registry.current()
    copy_checkpoint(first, registry.checkpoints_dir, OTHER)
    spamd_admin("model", "promote", OTHER, "--config", settings)

    assert f"{first.name} serves now." == spamd_admin("model", "rollback", "--config", settings).out.splitlines()[0]
    assert first == registry.current()
    assert f"{OTHER} serves now." == spamd_admin("model", "rollback", "--config", settings).out.splitlines()[0]


def test_a_damaged_checkpoint_is_not_brought_back(spamd_admin, settings, registry):
    """Where the previous checkpoint does not load any more, the current one serves on."""
    first = registry.current()
    copy_checkpoint(first, registry.checkpoints_dir, OTHER)
    spamd_admin("model", "promote", OTHER, "--config", settings)
    damage(first)

    assert 65 == spamd_admin("model", "rollback", "--config", settings).code
    assert OTHER == registry.current().name


def test_nothing_to_roll_back_to(spamd_admin, tmp_path):
    """Without any promotion a rollback is a sentence and exit code 65."""
    (tmp_path / "spamd.toml").write_text(f'state_dir = "{tmp_path}"\n')
    ran = spamd_admin("model", "rollback", "--config", tmp_path / "spamd.toml")

    assert 65 == ran.code
    assert "nothing was ever promoted" in ran.err
