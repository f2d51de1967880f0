"""Settings: a TOML file and SPAMD_ environment variables become one typed, checked object.

Every fault is found at once and reported with file, key and reason. Knows nothing of what the settings are used for; read by
`cli` and `daemon`, which hand plain values down. Environment variables win over the file and use two underscores between
section and key: `SPAMD_SMTP__LISTEN=127.0.0.1:10025`.
"""

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from spamd.errors import ConfigError

DEFAULT_FILE = Path("/etc/spamd/spamd.toml")
SYSTEM_STATE_DIR = Path("/var/lib/spamd")


def _address(value: str) -> str:
    """Accept `host:port`, `[v6]:port` and `unix:/path`."""
    if value.startswith("unix:/"):
        return value
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 <= int(port) <= 65535:  # noqa: PLR2004
        raise ValueError(f"{value!r} is not an address; write host:port, [v6]:port or unix:/path")
    return value


def _network(value: str) -> str:
    """Accept an address or a network in CIDR notation."""
    ipaddress.ip_network(value)
    return value


Address = Annotated[str, AfterValidator(_address)]
Network = Annotated[str, AfterValidator(_network)]
Probability = Annotated[float, Field(gt=0.0, lt=1.0)]


class _Section(BaseModel):
    """A table of the file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SmtpSettings(_Section):
    """`[smtp]`: where we listen, where mail goes on to, and the limits between."""

    listen: Address = "127.0.0.1:10025"
    next_hop: Address = "127.0.0.1:10026"
    next_hop_protocol: Literal["smtp", "lmtp"] = "smtp"
    hostname: str = ""
    allowed_clients: tuple[Network, ...] = ("127.0.0.0/8", "::1/128")
    bare_newlines: Literal["normalise", "refuse"] = "normalise"
    max_message_bytes: int = Field(default=52_428_800, gt=0)
    max_memory_bytes: int = Field(default=536_870_912, gt=0)
    max_connections: int = Field(default=100, gt=0)
    max_connections_per_client: int = Field(default=100, gt=0)
    max_hops: int = Field(default=50, gt=0)
    command_timeout_seconds: float = Field(default=300.0, gt=0)
    data_timeout_seconds: float = Field(default=60.0, gt=0)
    next_hop_connect_timeout_seconds: float = Field(default=5.0, gt=0)
    next_hop_command_timeout_seconds: float = Field(default=30.0, gt=0)
    next_hop_dot_timeout_seconds: float = Field(default=300.0, gt=0)
    drain_timeout_seconds: float = Field(default=30.0, gt=0)


class ScoringSettings(_Section):
    """`[scoring]`: how messages are scored, and what happens when they cannot be."""

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int = Field(default=0, ge=0)
    deadline_seconds: float = Field(default=20.0, gt=0)
    on_failure: Literal["pass", "defer"] = "pass"
    threshold: Probability | None = None
    max_batch_tokens: int = Field(default=8192, gt=0)
    max_waiting_messages: int = Field(default=1000, gt=0)


class ActionSettings(_Section):
    """`[actions]`: what is done with spam beyond tagging it. All off by default."""

    subject_tag: str = ""
    reject_score: Probability | None = None
    quarantine_score: Probability | None = None
    quarantine_recipient: str = ""


class ModelSettings(_Section):
    """`[model]`: what `retrain` builds on; a stored checkpoint carries its own."""

    base: str = "current"
    head: str = "last-token"
    head_options: dict[str, Any] = Field(default_factory=dict)
    max_tokens: int = Field(default=512, ge=8, le=1024)


class TrainingSettings(_Section):
    """`[training]`: defaults of `spamd-admin retrain`."""

    freeze: str = "last-block"
    epochs: int = Field(default=5, gt=0)
    batch_size: int = Field(default=8, gt=0)
    learning_rate: float = Field(default=5e-5, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    seed: int = 123
    max_ham_lost: Probability = 0.001


class LogSettings(_Section):
    """`[log]`: structured lines on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


def _default_state_dir() -> Path:
    """`/var/lib/spamd` where it exists and may be entered, else the user's own state folder."""
    if SYSTEM_STATE_DIR.is_dir() and os.access(SYSTEM_STATE_DIR, os.R_OK | os.X_OK):
        return SYSTEM_STATE_DIR
    state_home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state_home) / "spamd"


class Settings(BaseSettings):
    """All settings. Build with `load_settings`, which reports faults as `ConfigError`."""

    model_config = SettingsConfigDict(
        env_prefix="SPAMD_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    state_dir: Path = Field(default_factory=_default_state_dir)
    plugins_dir: Path = Path("/etc/spamd/plugins")
    disabled_plugins: tuple[str, ...] = ()
    smtp: SmtpSettings = SmtpSettings()
    scoring: ScoringSettings = ScoringSettings()
    actions: ActionSettings = ActionSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose content arrives as initial values."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def load_settings(file: Path | None = None) -> Settings:
    """Read the settings.

    Args:
        file: the TOML file; None reads `/etc/spamd/spamd.toml` where that exists and defaults elsewhere.

    Returns:
        The checked settings, frozen.

    Raises:
        ConfigError: the file is missing or not TOML, a key is unknown or a value is wrong; lists all of them.
    """
    source = file or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    values = _read_toml(source) if source else {}
    try:
        return Settings(**values)
    except ValidationError as error:
        where = str(source) if source else "environment"
        lines = [f"{where}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _read_toml(file: Path) -> dict[str, Any]:
    """Parse a TOML file into plain values."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: is not TOML: {error}.") from None
