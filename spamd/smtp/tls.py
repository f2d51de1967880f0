"""TLS as the settings want it: contexts of Python's `ssl`, each made once, with what is wrong put into words.

Opens no connection and speaks no SMTP. Called by `relay`, `next_hop`, `session`, `server`, and by `spamd-admin config check`.

Security: TLS 1.2 at least and Python's own choice of ciphers; certificates of the next hop are checked, name and all, unless the
operator says otherwise. Nothing here falls back to plain text.
"""

import asyncio
import ssl
from pathlib import Path

from spamd.errors import ConfigError

HANDSHAKE_SECONDS = 30.0
"""How long a client may take for its handshake."""

CLOSE_SECONDS = 5.0
"""How long a connection in TLS may take to say goodbye."""


async def encrypted(
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    *,
    seconds: float,
    name: str | None = None,
) -> asyncio.Transport:
    """Encrypt a connection that began in plain text.

    Args:
        transport: carries it; what was read from it and not yet taken must have been looked at by the caller.
        protocol: serves it, before and after.
        context: says who we are, and whom to trust.
        seconds: how long the handshake may take.
        name: the name that the other side's certificate must bear, where we are the client; None where we are the server.

    Returns:
        What carries it from now on.

    Raises:
        OSError: the two sides did not come to terms; the connection is closed.
    """
    made = await asyncio.get_running_loop().start_tls(
        transport,
        protocol,
        context,
        server_side=name is None,
        server_hostname=name,
        ssl_handshake_timeout=seconds,
        ssl_shutdown_timeout=CLOSE_SECONDS,
    )
    if made is None or made.is_closing():
        raise ConnectionResetError("closed during the handshake")
    return made


def server_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Make the context for clients.

    Args:
        certificate: PEM file of our certificate, and of those up to the authority.
        key: PEM file of its key; None where that is in `certificate` too.

    Raises:
        ConfigError: a file cannot be read, or one does not fit the other.
    """
    for name, file in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            if file:
                file.open("rb").close()
        except OSError as error:
            raise ConfigError(f"smtp.{name}: {file} cannot be read: {error.strerror}.") from None

    def no_passphrase() -> str:
        # Without this, OpenSSL would ask on the terminal.
        raise ConfigError(f"smtp.tls_key: {key or certificate} is protected by a passphrase, which nobody is there to type.")

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(certificate, key, password=no_passphrase)
    except ssl.SSLError as error:
        if key and error.reason in MISMATCHES:
            raise ConfigError(f"smtp.tls_key: {key} is not the key of the certificate in {certificate}.") from None
        files = f"{certificate} and {key} hold" if key else f"{certificate} holds"
        raise ConfigError(
            f"smtp.tls_certificate: {files} no certificate with its key in PEM form ({reason_of(error)})."
        ) from None
    return context


def next_hop_context(*, ca: Path | None, check: bool) -> ssl.SSLContext:
    """Make the context for connections to the next hop.

    Args:
        ca: PEM file of the authorities that may have signed its certificate; None takes the system's.
        check: whether the certificate is checked.

    Raises:
        ConfigError: the file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise ConfigError(f"smtp.next_hop_tls_ca: {ca} holds no certificate in PEM form ({reason_of(error)}).") from None
    except OSError as error:
        raise ConfigError(f"smtp.next_hop_tls_ca: {ca} cannot be read: {error.strerror}.") from None
    if not check:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


MISMATCHES = ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""What OpenSSL says of a key of another certificate: of the same kind, and of another one."""


def reason_of(error: OSError) -> str:
    """Say in a few words why TLS failed: OpenSSL's words where there are any, and no place in its source."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or type(error).__name__
