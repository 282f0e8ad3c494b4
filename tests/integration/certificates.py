"""Authorities, certificates and keys in PEM files, made on the spot."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = (x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost"))


@dataclass
class Pair:
    """A certificate with its key, and where they are written."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    folder: Path

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        plain = serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)

    @property
    def expiry(self) -> float:
        return self.certificate.not_valid_after_utc.timestamp()

    def write(self, name: str) -> tuple[Path, Path]:
        """NAME.pem and NAME.key in the folder."""
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(self.certificate_pem)
        paths[1].write_bytes(self.key_pem)
        return paths


def name_of(subject: str) -> x509.Name:
    """Of a common name, or of ORGANIZATION/COMMON NAME: what Kubernetes takes for group and user."""
    organization, _, common = subject.rpartition("/")
    parts = [(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in [*parts, (NameOID.COMMON_NAME, common)]])


# All that strict verifiers ask of an authority (RFC 5280, 4.2.1.3).
SIGNS = x509.KeyUsage(
    digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
)  # fmt: skip


def certificate(subject: str, key: ec.EllipticCurvePrivateKey, issuer: Pair | None, days: float, names) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(subject))
        .issuer_name(issuer.certificate.subject if issuer else name_of(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer.key if issuer else key).public_key()),
            critical=False,
        )
    )
    if issuer is None:
        builder = builder.add_extension(SIGNS, critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer.key if issuer else key, hashes.SHA256())


class Authority:
    """Signs certificates; `path` is its own."""

    def __init__(self, folder: Path, name: str = "authority"):
        key = ec.generate_private_key(ec.SECP256R1())
        self.pair = Pair(certificate(name, key, None, 30, ()), key, folder)
        self.path, _ = self.pair.write(name)

    def issue(self, subject: str = "server", days: float = 30, names=LOOPBACK) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        return Pair(certificate(subject, key, self.pair, days, names), key, self.pair.folder)
