"""A throw-away certificate authority, certificates and kubeconfigs of one lab."""

import base64
import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Pair:
    """Files with a certificate (PEM) and its private key."""

    certificate: Path
    key: Path


def _private(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return key


class Authority:
    """Certificate authority; every certificate is valid for a day and kept in one directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = _private(directory / "ca.key")
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
        self.certificate = directory / "ca.crt"
        self.key = directory / "ca.key"
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        made = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def issue(self, file: str, name: str, *, group: str = "", addresses: tuple[str, ...] = ()) -> Pair:
        """Certificate for a client (name, group) that may also serve under the given IPs and names."""
        key = _private(self._directory / f"{file}.key")
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if group:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = self._builder(x509.Name(attributes), key.public_key()).add_extension(
            x509.ExtendedKeyUsage(usages), critical=False
        )
        if addresses:
            names: list[x509.GeneralName] = []
            for address in addresses:
                try:
                    names.append(x509.IPAddress(ipaddress.ip_address(address)))
                except ValueError:
                    names.append(x509.DNSName(address))
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pair = Pair(self._directory / f"{file}.crt", self._directory / f"{file}.key")
        made = builder.sign(self._key, hashes.SHA256())
        pair.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return pair

    def signing_key(self, file: str) -> Path:
        """A bare private key, for service account tokens."""
        _private(self._directory / f"{file}.key")
        return self._directory / f"{file}.key"

    def kubeconfig(self, file: str, server: str, pair: Pair) -> Path:
        """Kubeconfig with everything inside, so that it can be copied elsewhere."""

        def inline(path: Path) -> str:
            return base64.b64encode(path.read_bytes()).decode()

        target = self._directory / f"{file}.kubeconfig"
        target.touch(mode=0o600)
        target.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "lab",
                    "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
                    "clusters": [
                        {
                            "name": "lab",
                            "cluster": {
                                "server": server,
                                "certificate-authority-data": inline(self.certificate),
                            },
                        }
                    ],
                    "users": [
                        {
                            "name": "lab",
                            "user": {
                                "client-certificate-data": inline(pair.certificate),
                                "client-key-data": inline(pair.key),
                            },
                        }
                    ],
                }
            )
        )
        return target
