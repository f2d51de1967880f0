"""`spamd-admin model rollback`: bring the previous checkpoint back. Loads it first, as `promote` does."""

from spamd.cli.model.promote import check_checkpoint, say_switched
from spamd.cli.options import ConfigOption
from spamd.config import load_settings
from spamd.service.registry import Registry


def rollback_checkpoint(
    config: ConfigOption = None,
) -> None:
    """Bring the previous checkpoint back; a second rollback undoes the first."""
    settings = load_settings(config)
    registry = Registry(settings.state_dir)
    before = registry.roles()["current"]
    say_switched(before, registry.rollback(check=lambda folder: check_checkpoint(settings, folder)))
