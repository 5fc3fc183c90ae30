"""The cluster's certificate authority: made by `fray up` where the cluster leaves the loopback.

Its key stays on the controller's machine. Each process that connects gets a certificate for the
address from which it came, with a key that is made for it and sent to it alone; so nobody can pose
as a process of another host. The controller's own certificate carries a name that no other one gets
(`CONTROLLER_NAME`), so that no job on the controller's machine can pose as the controller. Who
dials looks for that name, or for the address; how the controller is reached makes no difference.
"""

from __future__ import annotations

import datetime
import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from fray.runtime.clock import Clock

CONTROLLER_NAME = "controller.fray.internal"
"""What the controller's certificate says, and nobody else's."""

AUTHORITY_LIFETIME_S = 20 * 365 * 86400.0
CERTIFICATE_LIFETIME_S = 7 * 86400.0
"""Of a process's certificate; renewed along with its tokens, long before."""

BACKDATED_S = 3600.0
"""Clocks differ."""


class Authority:
    """Signs certificates.

    Args:
        key: Its private key, as PEM.
        certificate: Its certificate, as PEM.
        clock: Dates what it signs.

    Raises:
        ValueError: One of them cannot be read.
    """

    def __init__(self, key: bytes, certificate: bytes, clock: Clock) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

        loaded = load_pem_private_key(key, None)
        if not isinstance(loaded, EllipticCurvePrivateKey):
            raise ValueError("the key is not one of an elliptic curve")
        self._key = loaded
        self._certificate = x509.load_pem_x509_certificate(certificate)
        self._clock = clock
        self.der = self._certificate.public_bytes(Encoding.DER)

    def issue(self, host: str) -> tuple[str, str]:
        """A certificate for a door, and its key, as PEM.

        Args:
            host: The address of the door, or `CONTROLLER_NAME`.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import Encoding

        key = ec.generate_private_key(ec.SECP256R1())
        lifetime_s = AUTHORITY_LIFETIME_S if host == CONTROLLER_NAME else CERTIFICATE_LIFETIME_S
        builder = _builder(host, self._certificate.subject, key, self._clock.time(), lifetime_s)
        certificate = (
            builder.add_extension(x509.SubjectAlternativeName([_name(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.OID_SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, SHA256())
        )
        return certificate.public_bytes(Encoding.PEM).decode(), _pem(key).decode()


def new_authority(cluster: str, clock: Clock) -> tuple[bytes, bytes]:
    """A new authority: its key and its certificate, as PEM.

    Args:
        cluster: The cluster's name.
        clock: Dates it.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    key = ec.generate_private_key(ec.SECP256R1())
    label = f"fray cluster {cluster}"
    builder = _builder(label, _subject(label), key, clock.time(), AUTHORITY_LIFETIME_S)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, SHA256())
    )
    return _pem(key), certificate.public_bytes(Encoding.PEM)


def _builder(
    label: str, issuer: x509.Name, key: EllipticCurvePrivateKey, now: float, lifetime_s: float
) -> x509.CertificateBuilder:
    from cryptography import x509

    def at(seconds: float) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)

    return (
        x509.CertificateBuilder()
        .subject_name(_subject(label))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at(now - BACKDATED_S))
        .not_valid_after(at(now + lifetime_s))
    )


def _subject(label: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, label[:64])])


def _name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


__all__ = ["CONTROLLER_NAME", "Authority", "new_authority"]
