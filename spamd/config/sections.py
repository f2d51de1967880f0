"""Every setting with its type, its default and its description, section by section.

The string below each setting is its description, which `spamd-admin config show` prints. Rules between settings stand here too,
each with the setting that it refuses. Reads no file: `load_settings` in the package does.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from spamd.config.sources import DELIMITER, PREFIX, Key
from spamd.config.values import (
    Address,
    AddressOrNone,
    Device,
    Folder,
    Hostname,
    Mailbox,
    Names,
    Networks,
    OneLine,
    Probability,
    Table,
)

SYSTEM_STATE_DIR = Path("/var/lib/spamd")

SENDERS_WAIT_SECONDS = 600
"""How long senders wait for the reply to the final dot before they try again (RFC 5321, section 4.5.3.2.6)."""


class _Section(BaseModel):
    """A table of the file; unknown keys are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True, use_attribute_docstrings=True
    )


class SmtpSettings(_Section):
    """`[smtp]`: where we listen, where mail goes on to, and the limits between."""

    listen: Address = "127.0.0.1:10025"
    """Where the proxy listens: host:port, [v6]:port or unix:/path."""
    next_hop: Address = "127.0.0.1:10026"
    """Where mail goes on to: host:port, [v6]:port or unix:/path."""
    next_hop_protocol: Literal["smtp", "lmtp"] = "smtp"
    """What the next hop speaks, `smtp` or `lmtp`; with `lmtp`, one recipient a transaction."""
    hostname: Hostname = ""
    """Our name in greetings and header fields; empty takes the machine's."""
    allowed_clients: Networks = ("127.0.0.0/8", "::1/128")
    """Networks that may connect; an open proxy is an open relay."""
    bare_newlines: Literal["normalise", "refuse"] = "normalise"
    """What is done with a lone CR or LF in a message: `normalise` or `refuse`."""
    max_message_bytes: int = Field(default=52_428_800, gt=0)
    """Size of the largest message; larger ones are refused with 552."""
    max_memory_bytes: int = Field(default=536_870_912, gt=0)
    """Bytes of all messages held at once; past it, senders are told to come back (452)."""
    max_connections: int = Field(default=100, gt=0)
    """Connections at once; past it, new ones wait until one ends."""
    max_connections_per_client: int = Field(default=100, gt=0)
    """Connections at once from one address."""
    max_hops: int = Field(default=50, gt=0)
    """Received fields from which a message is taken to go in circles (554)."""
    command_timeout_seconds: float = Field(default=300.0, gt=0)
    """How long a client may be silent between commands."""
    data_timeout_seconds: float = Field(default=60.0, gt=0)
    """How long a client may be silent inside a message."""
    next_hop_connect_timeout_seconds: float = Field(default=5.0, gt=0)
    """How long connecting to the next hop may take."""
    next_hop_command_timeout_seconds: float = Field(default=30.0, gt=0)
    """How long the next hop may take to answer a command."""
    next_hop_dot_timeout_seconds: float = Field(default=300.0, gt=0)
    """How long the next hop may take to answer the final dot."""
    drain_timeout_seconds: float = Field(default=30.0, gt=0)
    """How long sessions may go on after SIGTERM."""

    @field_validator("next_hop")
    @classmethod
    def _leads_on(cls, value: str, others: ValidationInfo) -> str:
        """Refuse a next hop that is spelt as our own address; the daemon resolves names and looks again."""
        if value == others.data.get("listen") and not value.endswith(":0"):
            raise ValueError(f"{value!r} is where spamd itself listens (smtp.listen), so that mail would go in circles.")
        return value

    @field_validator("max_memory_bytes")
    @classmethod
    def _holds_a_message(cls, value: int, others: ValidationInfo) -> int:
        """Refuse to promise senders a message size that never fits."""
        if value < others.data.get("max_message_bytes", 0):
            raise ValueError(f"{value} is less than smtp.max_message_bytes, so that the largest messages would wait for ever.")
        return value


class SpamcSettings(_Section):
    """`[spamc]`: SpamAssassin's client protocol, a second door beside the proxy. Off by default."""

    listen: AddressOrNone = ""
    """Where spamc clients are answered: host:port, [v6]:port or unix:/path; empty is off. SpamAssassin's own port is 783."""
    allowed_clients: Networks = ("127.0.0.0/8", "::1/128")
    """Networks that may connect."""
    max_message_bytes: int = Field(default=52_428_800, gt=0)
    """Size of the largest message, also when unpacked; larger ones get an error, with which clients let mail pass."""
    max_memory_bytes: int = Field(default=268_435_456, gt=0)
    """Bytes of all messages held at once; past it, clients get an error."""
    max_connections: int = Field(default=100, gt=0)
    """Connections at once; past it, new ones wait until one ends."""
    command_timeout_seconds: float = Field(default=30.0, gt=0)
    """How long a client may take for its command and headers."""
    message_timeout_seconds: float = Field(default=300.0, gt=0)
    """How long a client may take to send its message."""
    reply_timeout_seconds: float = Field(default=60.0, gt=0)
    """How long a client may take to read the reply."""

    @field_validator("max_memory_bytes")
    @classmethod
    def _holds_a_message(cls, value: int, others: ValidationInfo) -> int:
        """Refuse to promise a message size that never fits."""
        if value < others.data.get("max_message_bytes", 0):
            raise ValueError(f"{value} is less than spamc.max_message_bytes, so that the largest messages would never be taken.")
        return value


class ScoringSettings(_Section):
    """`[scoring]`: how messages are scored, and what happens when they cannot be."""

    device: Device = "auto"
    """Where the model computes: `auto`, `cpu`, `cuda` or `cuda:1`."""
    threads: int = Field(default=0, ge=0)
    """Threads that compute; 0 takes one for each core."""
    deadline_seconds: float = Field(default=20.0, gt=0)
    """How long a message may wait for its verdict."""
    on_failure: Literal["pass", "defer"] = "pass"
    """What happens to a message without a verdict: `pass` sends it on and says so in its header, `defer` answers 451."""
    threshold: Probability | None = None
    """Probability from which a message is spam; unset takes the checkpoint's."""
    max_batch_tokens: int = Field(default=8192, gt=0)
    """Tokens that are scored together."""
    max_waiting_messages: int = Field(default=1000, gt=0)
    """Messages that may wait to be scored; more go without a verdict, as `on_failure` says."""


class ActionSettings(_Section):
    """`[actions]`: what is done with spam beyond tagging it. All off by default."""

    subject_tag: OneLine = Field(default="", max_length=60)
    """Text put before the subject of spam; empty leaves subjects alone."""
    reject_score: Probability | None = None
    """Probability from which spam is refused with 554; unset never refuses."""
    quarantine_recipient: Mailbox = ""
    """Where spam past `quarantine_score` goes instead of its recipients."""
    quarantine_score: Probability | None = None
    """Probability from which spam goes to `quarantine_recipient`; unset never diverts."""

    @field_validator("quarantine_score")
    @classmethod
    def _can_divert(cls, value: float | None, others: ValidationInfo) -> float | None:
        """Refuse a quarantine that has no place, or that refusal leaves empty."""
        if value is None:
            return value
        if others.data.get("quarantine_recipient") == "":
            raise ValueError(f"{value} has no effect without actions.quarantine_recipient; set both or neither.")
        reject = others.data.get("reject_score")
        if reject is not None and value >= reject:
            raise ValueError(f"{value} must be below actions.reject_score ({reject}), or nothing would ever be quarantined.")
        return value


class ModelSettings(_Section):
    """`[model]`: what `retrain` builds on; a stored checkpoint carries its own."""

    base: str = "current"
    """What training starts from: `current`, `mini`, `gpt2`, `gpt2-medium`, `gpt2-large`, `gpt2-xl` or a checkpoint."""
    head: str = "last-token"
    """The classification head; `spamd-admin plugins list` names all."""
    head_options: Table = Field(default_factory=dict)
    """Options of the head, as it documents them."""
    max_tokens: int = Field(default=512, ge=8, le=1024)
    """Tokens of a message that the model reads; the middle of longer ones is left out."""


class TrainingSettings(_Section):
    """`[training]`: defaults of `spamd-admin retrain`."""

    freeze: str = "last-block"
    """The freezing policy; `spamd-admin plugins list` names all."""
    epochs: int = Field(default=5, gt=0)
    """Times that training reads every message."""
    batch_size: int = Field(default=8, gt=0)
    """Messages a step."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Learning rate of AdamW."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Weight decay of AdamW."""
    seed: int = 123
    """What every random choice starts from; the same seed holds the same messages out."""
    max_ham_lost: Probability = 0.001
    """Share of ham that the threshold may cost."""


class LogSettings(_Section):
    """`[log]`: structured lines on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged: `debug`, `info`, `warning` or `error`, and all that is graver."""
    format: Literal["auto", "json", "console"] = "auto"
    """`json`, `console`, or `auto`: readable on a terminal and JSON elsewhere."""


def _default_state_dir() -> Path:
    """`/var/lib/spamd` where it exists and may be entered, else the user's own state folder."""
    if SYSTEM_STATE_DIR.is_dir() and os.access(SYSTEM_STATE_DIR, os.R_OK | os.X_OK):
        return SYSTEM_STATE_DIR
    state_home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state_home) / "spamd"


class Settings(BaseSettings):
    """All settings. Build with `load_settings`, which reports faults as `ConfigError`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
        use_attribute_docstrings=True,
    )

    state_dir: Folder = Field(default_factory=_default_state_dir, examples=[SYSTEM_STATE_DIR])
    """Where checkpoints and fetched weights live; `~/.local/state/spamd` where `/var/lib/spamd` does not exist."""
    plugins_dir: Folder = Path("/etc/spamd/plugins")
    """Folder of drop-in plugins; it need not exist."""
    disabled_plugins: Names = ()
    """Plugins to leave out, as `spamd-admin plugins list` calls them."""
    smtp: SmtpSettings = SmtpSettings()
    spamc: SpamcSettings = SpamcSettings()
    scoring: ScoringSettings = ScoringSettings()
    actions: ActionSettings = ActionSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    log: LogSettings = LogSettings()

    @field_validator("spamc")
    @classmethod
    def _has_a_place_of_its_own(cls, value: SpamcSettings, others: ValidationInfo) -> SpamcSettings:
        """Refuse two doors in one place: a second UNIX socket would silently replace the first."""
        smtp = others.data.get("smtp")
        if smtp and value.listen == smtp.listen and not value.listen.endswith(":0"):
            raise ValueError(f"spamc.listen ({value.listen}) is where the proxy listens (smtp.listen); give each its own.")
        return value

    @field_validator("scoring")
    @classmethod
    def _answers_in_time(cls, value: ScoringSettings, others: ValidationInfo) -> ScoringSettings:
        """Refuse waits after which senders have given up: they would send the message again."""
        smtp = others.data.get("smtp")
        if smtp and value.deadline_seconds + smtp.next_hop_dot_timeout_seconds >= SENDERS_WAIT_SECONDS:
            raise ValueError(
                f"scoring.deadline_seconds ({value.deadline_seconds:g}) and smtp.next_hop_dot_timeout_seconds "
                f"({smtp.next_hop_dot_timeout_seconds:g}) must together stay below {SENDERS_WAIT_SECONDS}; "
                "senders give up then and send the message again."
            )
        return value

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
        if isinstance(env_settings, EnvSettingsSource):
            # A whole section in one variable is refused as such by load_settings, beside all other faults.
            sections = {PREFIX.lower() + key[0] for key in KEYS if len(key) > 1}
            env_settings.env_vars = {name: value for name, value in env_settings.env_vars.items() if name not in sections}
        return env_settings, init_settings


def _keys() -> tuple[Key, ...]:
    """Every key, in the order of the classes above: first those above all sections, then section by section."""
    found: list[Key] = []
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, _Section):
            found += [(name, key) for key in type(field.default).model_fields]
        else:
            found.append((name,))
    return tuple(found)


KEYS = _keys()
