"""Certificates of a cluster: one set of files a host, for its server, RAFT and its client alike.

A peer whose certificate the CA signed is accepted; names in it do not matter, so the CA must be the
cluster's own.  Sources: ovsdb-server(1), "Public Key Infrastructure Options"; ovs-pki(8).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from netkit.errors import InvalidSpec

FLAGS = ("--cluster-tls-ca", "--cluster-tls-cert", "--cluster-tls-key")
OLDEST = ssl.TLSVersion.TLSv1_2
ROUNDS = 10  # messages to and fro; a handshake takes two or three
BYTES = 65536  # more than any flight of a handshake


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """PEM files.  They are read at each connection, so they may be replaced at any time."""

    ca: Path
    cert: Path
    key: Path

    def load(self, protocol: int = ssl.PROTOCOL_TLS_CLIENT) -> ssl.SSLContext:
        """Load a context that needs certificates of both sides.  InvalidSpec names the bad one."""
        context = ssl.SSLContext(protocol)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = OLDEST
        for flag, file in zip(FLAGS, (self.ca, self.cert, self.key), strict=True):
            try:
                file.read_bytes()
            except OSError as error:
                raise InvalidSpec(f"{flag} {file}: {error.strerror}") from None
        try:
            context.load_verify_locations(self.ca)
        except ssl.SSLError:
            raise InvalidSpec(f"{FLAGS[0]} {self.ca}: not a certificate in PEM") from None
        try:
            context.load_cert_chain(self.cert, self.key, password=_nobody_is_there)
        except (ssl.SSLError, _Encrypted) as error:
            raise InvalidSpec(
                f"{FLAGS[1]} {self.cert} with {FLAGS[2]} {self.key}: {why(error)}: give a "
                "certificate and the key it was made with, as PEM, the key not encrypted"
            ) from None
        return context

    def check(self) -> None:
        """As `load`; and would a host with the same CA take this certificate, as of now?

        A handshake of this host with itself, in memory: signature, dates and purposes.
        """
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.load().wrap_bio(to_client, to_server)
        server = self.load(ssl.PROTOCOL_TLS_SERVER).wrap_bio(to_server, to_client, server_side=True)
        try:
            for _ in range(ROUNDS):
                for side in (client, server):
                    _advance(side)
        except ssl.SSLError as error:
            raise InvalidSpec(
                f"{FLAGS[1]} {self.cert} is of no use with {FLAGS[0]} {self.ca}: {why(error)}"
            ) from None

    def flags(self) -> list[str]:
        """Return the flags of ovsdb-server and ovn-northd."""
        # By default also what is older; 3.1 has no name for 1.3.
        return [*self.files(), "--ssl-protocols=TLSv1.2"]

    def files(self) -> list[str]:
        """Return the flags of clients: which protocols there are is for the servers to say."""
        return [f"--private-key={self.key}", f"--certificate={self.cert}", f"--ca-cert={self.ca}"]


def scheme(certificates: Certificates | None) -> str:
    """`ssl` or `tcp`, as Open vSwitch calls them."""
    return "ssl" if certificates is not None else "tcp"


def why(error: BaseException) -> str:
    """Describe a TLS error for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)
    return str(error) or type(error).__name__


class _Encrypted(ValueError):
    """A key that needs a passphrase."""


def _nobody_is_there() -> str:
    raise _Encrypted("the key is encrypted")


def _advance(side: ssl.SSLObject) -> None:
    try:
        side.do_handshake()
        side.read(BYTES)  # TLS 1.3: a certificate is refused after the handshake
    except ssl.SSLWantReadError:
        return
