"""Certificates for tests: an authority made on the spot, and what it signs. Nothing of it is kept.

Used by the tests of TLS, in and out:

    authority = Authority(tmp_path)
    next_hop = NextHop(tls=authority.server("next-hop.test"))
    settings = SmtpSettings(next_hop_tls_ca=authority.ca_file, ...)
"""

import ssl
from datetime import datetime
from pathlib import Path

import trustme


class Authority:
    """An authority, and files of what it signs.

    Args:
        folder: where files go.

    Attributes:
        ca_file: its own certificate.
    """

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self._folder = folder
        self.ca_file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca_file)

    def files(self, *names: str, ends: datetime | None = None) -> tuple[Path, Path]:
        """Sign a certificate for names or addresses; return the files of chain and key.

        Args:
            names: what it bears.
            ends: when it stops to be valid.
        """
        signed = self._ca.issue_cert(*names, not_after=ends, key_type=trustme.KeyType.ECDSA)
        certificate, key = self._folder / f"{names[0]}.pem", self._folder / f"{names[0]}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in signed.cert_chain_pems))
        signed.private_key_pem.write_to_path(key)
        return certificate, key

    def server(self, *names: str, ends: datetime | None = None) -> ssl.SSLContext:
        """Return what a server needs that bears these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files(*names, ends=ends))
        return context

    def client(self) -> ssl.SSLContext:
        """Return what a client needs that trusts this authority alone."""
        return ssl.create_default_context(cafile=self.ca_file)
