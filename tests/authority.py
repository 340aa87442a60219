"""A CA of a cluster, and certificates that it signs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from netkit.cluster.tls import Certificates

BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


class Authority:
    """A CA whose files are in `folder`, which it makes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _called(f"authority of {folder.name}")
        self.ca = self._write("ca.pem", self._signed(self._name, self._key.public_key(), ca=True))

    def host(
        self, name: str, *, uses: tuple[ObjectIdentifier, ...] = BOTH, days: int = 1
    ) -> Certificates:
        """Return certificate files, valid for `days` from now; negative: expired that long ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._signed(_called(name), key.public_key(), uses=uses, days=days)
        file = self.folder / f"{name}-key.pem"
        file.write_bytes(plain(key))
        return Certificates(ca=self.ca, cert=self._write(f"{name}.pem", signed), key=file)

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool = False,
        uses: tuple[ObjectIdentifier, ...] = (), days: int = 1,
    ) -> x509.Certificate:  # fmt: skip
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject).issuer_name(self._name).public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=10)).not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )  # fmt: skip
        if uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        file = self.folder / name
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return file


def plain(key: ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    """Return the key as PEM, encrypted where there is a passphrase."""
    none = serialization.NoEncryption()
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase) if passphrase else none,
    )


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
