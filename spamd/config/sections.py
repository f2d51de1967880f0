"""Every setting with its type, its default and its description, section by section; `[smtp]` and `[spamc]` stand in `doors`.

The string below each setting is its description, which `spamd-admin config show` prints. Rules between settings stand here too,
each with the setting that it refuses. Reads no file: `load_settings` in the package does.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from spamd.config.base import Section
from spamd.config.doors import SmtpSettings, SpamcSettings
from spamd.config.sources import DELIMITER, PREFIX, Key
from spamd.config.values import Device, File, Folder, Mailbox, Names, OneLine, Probability, Table, Url

SYSTEM_STATE_DIR = Path("/var/lib/spamd")

SENDERS_WAIT_SECONDS = 600
"""How long senders wait for the reply to the final dot before they try again (RFC 5321, section 4.5.3.2.6)."""


class ScoringSettings(Section):
    """`[scoring]`: how messages are scored, and what happens when they cannot be."""

    device: Device = "auto"
    """Where the model computes: `auto`, `cpu`, `cuda`, `cuda:1`, or `cuda:all` for every GPU of the machine at once."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the model computes in; `auto` is bfloat16 where the processor or GPU multiplies it natively."""
    threads: int = Field(default=0, ge=0)
    """Threads that compute; 0 takes one for each core that this process may use."""
    processes: int = Field(default=0, ge=0)
    """Processes that the threads are divided among; 0 takes up to four, or one for a large model. Each GPU has its own."""
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
    cache_size: int = Field(default=10_000, ge=0)
    """Scores that are kept, so that copies of a message need not be read again; 0 keeps none."""
    scorer: Literal["local", "remote"] = "local"
    """Who scores: `local`, this process, or `remote`, a fleet at `remote_url`, with this process to fall back on."""
    remote_url: Url = ""
    """Where the fleet answers: https://host:port, or http://127.0.0.1:port on the same machine."""
    remote_token_file: File | None = None
    """File that holds the token which the fleet asks for, of at least 16 characters."""
    remote_tls_ca: File | None = None
    """PEM file of the authorities that may have signed the fleet's certificate; unset takes the system's."""
    remote_timeout_seconds: float = Field(default=5.0, gt=0)
    """How long the fleet may take for its whole answer; then this process scores."""
    remote_connections: int = Field(default=4, gt=0, le=64)
    """Requests to the fleet at once; a batch is divided among them."""
    remote_pause_seconds: float = Field(default=10.0, gt=0)
    """How long a fleet that failed is left alone before it is tried again; meanwhile this process scores."""

    @field_validator("remote_url", "remote_token_file")
    @classmethod
    def _can_be_asked(cls, value: object, others: ValidationInfo) -> object:
        """Refuse a fleet without a place or a token."""
        if not value and others.data.get("scorer") == "remote":
            raise ValueError(f"must be set where scoring.scorer is 'remote', and not be {str(value or '')!r}.")
        return value

    @field_validator("remote_timeout_seconds")
    @classmethod
    def _leaves_time(cls, value: float, others: ValidationInfo) -> float:
        """Refuse a wait after which nobody has time left to score here, where the fleet is asked at all."""
        deadline = others.data.get("deadline_seconds")
        if others.data.get("scorer") == "remote" and deadline is not None and value >= deadline:
            raise ValueError(f"{value:g} must be below scoring.deadline_seconds ({deadline:g}), to leave time to score here.")
        return value


class ActionSettings(Section):
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


class ModelSettings(Section):
    """`[model]`: what `retrain` builds on; a stored checkpoint carries its own."""

    base: str = "current"
    """What training starts from: `current`, `mini`, `gpt2`, `gpt2-medium`, `gpt2-large`, `gpt2-xl` or a checkpoint."""
    head: str = "last-token"
    """The classification head; `spamd-admin plugins list` names all."""
    head_options: Table = Field(default_factory=dict)
    """Options of the head, as it documents them."""
    max_tokens: int | None = Field(default=None, ge=8, le=1024)
    """Tokens of a message that the model reads at once; unset, as many as the checkpoint that training starts from, or 512."""
    long_mail: Literal["head-tail", "windows"] = "head-tail"
    """What is read of longer ones: `head-tail` leaves the middle out, `windows` reads up to four times `max_tokens`."""


class TrainingSettings(Section):
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
    seed: int = Field(default=123, ge=0, lt=2**32)
    """What every random choice starts from; the same seed holds the same messages out."""
    max_ham_lost: Probability = 0.001
    """Share of ham that the threshold may cost."""


class FeedbackSettings(Section):
    """`[feedback]`: the store of what people labelled with `spamd-admin learn`."""

    keep: Literal["text", "raw"] = "text"
    """What is stored of a message: the `text` that the model reads, without recipients' addresses, or the `raw` message."""
    retention_days: int = Field(default=365, ge=0)
    """Days after which a labelled message is forgotten; 0 keeps it for ever."""


class LogSettings(Section):
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
    feedback: FeedbackSettings = FeedbackSettings()
    log: LogSettings = LogSettings()

    @field_validator("spamc")
    @classmethod
    def _has_a_place_of_its_own(cls, value: SpamcSettings, others: ValidationInfo) -> SpamcSettings:
        """Refuse two doors in one place: a second UNIX socket would silently replace the first."""
        smtp = others.data.get("smtp")
        if smtp and value.listen and value.listen in {smtp.listen, smtp.listen_tls} and not value.listen.endswith(":0"):
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
        if isinstance(field.default, Section):
            found += [(name, key) for key in type(field.default).model_fields]
        else:
            found.append((name,))
    return tuple(found)


KEYS = _keys()
