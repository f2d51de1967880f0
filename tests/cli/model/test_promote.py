"""`spamd-admin model promote`."""

import pytest
from checkpoints import copy_checkpoint, damage

OTHER = "2026-01-02-abcdef"


@pytest.fixture
def other(registry):
    """A second checkpoint."""
    return copy_checkpoint(registry.current(), registry.checkpoints_dir, OTHER)


def test_promote(spamd_admin, settings, registry, other):
    """A promotion switches and says how the daemon learns of it."""
    promoted = spamd_admin("model", "promote", "2026-01", "--config", settings)

    assert (0, f"{OTHER} serves now.") == (promoted.code, promoted.out.splitlines()[0])
    assert "systemctl reload spamd" in promoted.out
    assert other == registry.current()


def test_a_damaged_checkpoint_is_not_promoted(spamd_admin, settings, registry, other):
    """A checkpoint that does not load is refused with exit code 65, and the old one serves on."""
    damage(other)
    first = registry.current()
    ran = spamd_admin("model", "promote", OTHER, "--config", settings)

    assert 65 == ran.code
    assert "is damaged" in ran.err
    assert first == registry.current()


def test_promoting_what_serves_changes_nothing(spamd_admin, settings, registry):
    """The current checkpoint can be promoted again, which is told."""
    ran = spamd_admin("model", "promote", registry.current().name, "--config", settings)

    assert 0 == ran.code
    assert "serves already" in ran.out
