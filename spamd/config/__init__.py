"""Settings: a TOML file and SPAMD_ environment variables become one typed, checked object.

Every fault is found at once and reported with file or variable, key and reason. Knows nothing of what the settings are used for;
read by `cli` and `daemon`, which hand plain values down. Environment variables win over the file and use two underscores between
section and key: `SPAMD_SMTP__LISTEN=127.0.0.1:10025`.
"""

import os
from pathlib import Path

from pydantic import ValidationError

from spamd.config.doors import SmtpSettings, SpamcSettings
from spamd.config.sections import (
    KEYS,
    ActionSettings,
    FeedbackSettings,
    LogSettings,
    ModelSettings,
    ScoringSettings,
    Settings,
    TrainingSettings,
)
from spamd.config.sources import Key, describe, misplaced_variables, origin, read_toml
from spamd.errors import ConfigError

__all__ = [
    "KEYS",
    "ActionSettings",
    "FeedbackSettings",
    "LogSettings",
    "ModelSettings",
    "ScoringSettings",
    "Settings",
    "SmtpSettings",
    "SpamcSettings",
    "TrainingSettings",
    "load_settings",
    "load_with_origins",
    "settings_file",
]

DEFAULT_FILE = Path("/etc/spamd/spamd.toml")


def settings_file(file: Path | None = None) -> Path | None:
    """Say which file is read: the one given, `/etc/spamd/spamd.toml` where that exists, or none."""
    return file or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)


def load_settings(file: Path | None = None) -> Settings:
    """Read the settings.

    Args:
        file: the TOML file; None reads `/etc/spamd/spamd.toml` where that exists and defaults elsewhere.

    Returns:
        The checked settings, frozen.

    Raises:
        ConfigError: the file is missing or not TOML, a key is unknown or a value is wrong; lists all of them.
    """
    return load_with_origins(file)[0]


def load_with_origins(file: Path | None = None) -> tuple[Settings, dict[Key, str]]:
    """Read the settings, and say where each comes from; the file is read once, for it may be a pipe.

    Args:
        file: as for `load_settings`.

    Returns:
        The settings, and by key an environment variable, the file or `default`.

    Raises:
        ConfigError: as `load_settings` does.
    """
    source = settings_file(file)
    values = read_toml(source) if source else {}
    faults = list(misplaced_variables(KEYS, os.environ))
    settings = None
    try:
        settings = Settings(**values)
    except ValidationError as error:
        faults += describe(error, KEYS, lambda key: origin(key, source, values, os.environ))
    if settings is None or faults:
        listing = "".join(f"\n  {fault}" for fault in faults)
        raise ConfigError(faults[0] if len(faults) == 1 else f"the settings have {len(faults)} faults:{listing}")
    return settings, {key: origin(key, source, values, os.environ) for key in KEYS}
