"""DKIM signatures of a made-up domain, so that tests can tell whether a message still is what its sender signed.

    stored = ...  # sign(message) on its way through mail servers
    assert verifies(stored)

Looks up no name: the public key comes from here. Used by tests of `smtp` and `mta/`.
"""

import base64
import functools
import random

import dkim

DOMAIN, SELECTOR = b"client.test", b"s"
SIGNED_FIELDS = (b"from", b"to", b"subject")


def sign(message: bytes, canonical: tuple[bytes, bytes] = (b"relaxed", b"simple")) -> bytes:
    """Put a signature before a message.

    Args:
        message: with CRLF line ends.
        canonical: how much header and body may change: `simple` or `relaxed` each (RFC 6376 3.4).
    """
    private, _ = rsa_key()
    return dkim.sign(message, SELECTOR, DOMAIN, private, canonicalize=canonical, include_headers=SIGNED_FIELDS) + message


def verifies(message: bytes) -> bool:
    """Tell whether the signature of a message holds."""
    _, public = rsa_key()
    return dkim.verify(message, dnsfunc=lambda _name, **_options: b"v=DKIM1; k=rsa; p=" + public)


@functools.cache
def rsa_key():
    """A throw-away key for signatures: private PEM and public base64, made of seeded primes."""
    rng = random.Random(20261122)

    def prime():
        while True:
            candidate = rng.getrandbits(512) | 3 << 510 | 1
            if pow(3, candidate - 1, candidate) == 1 and (candidate - 1) % 65537:
                return candidate

    def der(tag, content):
        size = len(content)
        length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
        return bytes([tag]) + length + content

    def integers(*values):
        return der(0x30, b"".join(der(2, value.to_bytes(value.bit_length() // 8 + 1, "big")) for value in values))

    p, q = prime(), prime()
    d = pow(65537, -1, (p - 1) * (q - 1))
    private = integers(0, p * q, 65537, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
    algorithm = der(0x30, bytes.fromhex("06092a864886f70d0101010500"))
    public = der(0x30, algorithm + der(3, b"\0" + integers(p * q, 65537)))
    name = b"RSA PRIVATE KEY"
    pem = b"-----BEGIN " + name + b"-----\n" + base64.encodebytes(private) + b"-----END " + name + b"-----\n"
    return pem, base64.b64encode(public)
