"""The settings of the doors that mail comes in by, and of the way on: `[smtp]` and `[spamc]`.

As in `spamd.config.sections`, the string below each setting is its description, and rules between settings of one section stand
with the setting that they refuse.
"""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from spamd.config.base import Section
from spamd.config.values import Address, AddressOrNone, File, Hostname, Mode, Networks


class SmtpSettings(Section):
    """`[smtp]`: where we listen, where mail goes on to, and the limits between."""

    listen: Address = "127.0.0.1:10025"
    """Where the proxy listens: host:port, [v6]:port or unix:/path."""
    listen_mode: Mode = "0666"
    """Who may connect to a UNIX socket, as for chmod; the folder that it lies in decides too."""
    tls_certificate: File | None = None
    """PEM file of our certificate, those up to the authority behind it; with it, STARTTLS is offered. SIGHUP reads it anew."""
    tls_key: File | None = None
    """PEM file of its key, without passphrase; unset where the key is in `tls_certificate` too."""
    tls_required: bool = False
    """Whether mail is refused from clients that have not said STARTTLS; those on a UNIX socket need not."""
    listen_tls: AddressOrNone = ""
    """Where the proxy listens besides for TLS from the first byte (implicit TLS); empty is off."""
    proxy_protocol_from: Networks = ()
    """Load balancers, as networks, that put a PROXY header (v1 or v2) before each connection; the client it names counts."""
    next_hop: Address = "127.0.0.1:10026"
    """Where mail goes on to: host:port, [v6]:port or unix:/path."""
    next_hop_protocol: Literal["smtp", "lmtp"] = "smtp"
    """What the next hop speaks, `smtp` or `lmtp`; with `lmtp`, one recipient a transaction."""
    next_hop_tls: Literal["off", "starttls", "implicit"] = "off"
    """TLS to the next hop: `off`, `starttls`, or `implicit` from the first byte; never given up for plain text."""
    next_hop_tls_ca: File | None = None
    """PEM file of the authorities that may have signed the next hop's certificate; unset takes the system's."""
    next_hop_tls_name: Hostname = ""
    """Name that the next hop's certificate must bear; empty takes the host of `next_hop`."""
    next_hop_tls_check: bool = True
    """Whether the next hop's certificate is checked; without it, whoever sits in between may read and change mail."""
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

    @field_validator("tls_key", "tls_required", "listen_tls")
    @classmethod
    def _has_a_certificate(cls, value: object, others: ValidationInfo) -> object:
        """Refuse TLS without a certificate."""
        if value and "tls_certificate" in others.data and others.data["tls_certificate"] is None:
            raise ValueError(f"{value if isinstance(value, bool) else str(value)!r} has no effect without smtp.tls_certificate.")
        return value

    @field_validator("listen_tls")
    @classmethod
    def _is_another_place(cls, value: str, others: ValidationInfo) -> str:
        """Refuse two doors in one place."""
        if value and value == others.data.get("listen") and not value.endswith(":0"):
            raise ValueError(f"{value!r} is where plain connections are taken (smtp.listen); give each its own.")
        return value

    @field_validator("next_hop")
    @classmethod
    def _leads_on(cls, value: str, others: ValidationInfo) -> str:
        """Refuse a next hop that is spelt as our own address; the daemon resolves names and looks again."""
        for key in ("listen", "listen_tls"):
            if value == others.data.get(key) and not value.endswith(":0"):
                raise ValueError(f"{value!r} is where spamd itself listens (smtp.{key}), so that mail would go in circles.")
        return value

    @field_validator("next_hop_tls")
    @classmethod
    def _can_be_encrypted(cls, value: str, others: ValidationInfo) -> str:
        """Refuse TLS on a UNIX socket: nobody sits in between, and no certificate bears its name."""
        if value != "off" and str(others.data.get("next_hop")).startswith("unix:"):
            raise ValueError(f"{value!r} is of no use on a UNIX socket (smtp.next_hop); write off.")
        return value

    @field_validator("max_memory_bytes")
    @classmethod
    def _holds_a_message(cls, value: int, others: ValidationInfo) -> int:
        """Refuse to promise senders a message size that never fits."""
        if value < others.data.get("max_message_bytes", 0):
            raise ValueError(f"{value} is less than smtp.max_message_bytes, so that the largest messages would wait for ever.")
        return value


class SpamcSettings(Section):
    """`[spamc]`: SpamAssassin's client protocol, a second door beside the proxy. Off by default."""

    listen: AddressOrNone = ""
    """Where spamc clients are answered: host:port, [v6]:port or unix:/path; empty is off. SpamAssassin's own port is 783."""
    listen_mode: Mode = "0666"
    """Who may connect to a UNIX socket, as for chmod; the folder that it lies in decides too."""
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
