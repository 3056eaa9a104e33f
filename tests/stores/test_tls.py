"""Both S3 clients trust the CA that is given, in addition to the system's, and no other."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from blockvault.stores import StoreLocation, StoreRefused, open_store
from tests.stores.conftest import KEYS
from tests.stores.faulty_server import FaultyServer

BUCKET = "behind-tls"


def certificates(directory: Path) -> tuple[str, Path]:
    """A CA as PEM text, and a file with key and certificate of a server on loopback that it signed."""
    now = datetime.now(UTC)

    def built(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    ca = (
        built("test CA", ca_key)
        .issuer_name(issuer)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = (
        built("127.0.0.1", key)
        .issuer_name(issuer)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    file = directory / "server.pem"
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    file.write_bytes(
        key.private_bytes(encoding, form, serialization.NoEncryption()) + server.public_bytes(encoding)
    )
    return ca.public_bytes(encoding).decode(), file


@pytest.fixture(scope="module")
def place(moto_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreLocation]:
    """A place in a bucket that keeps versions, so that both clients are used, behind TLS."""
    client = boto3.client(
        "s3", endpoint_url=moto_endpoint, region_name="us-east-1",
        aws_access_key_id=KEYS.access_key, aws_secret_access_key=KEYS.secret_key,
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    ca, file = certificates(tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    proxy = FaultyServer(moto_endpoint, lambda *_: None, tls=context)
    yield StoreLocation(f"s3://{BUCKET}/x", endpoint=proxy.endpoint, credentials=KEYS, ca_bundle=ca)
    proxy.close()


def test_a_ca_that_is_given_is_trusted_by_both_clients(place: StoreLocation) -> None:
    store = open_store(place, retry_seconds=5)
    store.create("a", b"1")  # obstore stores, boto3 lists versions
    assert store.get("a") == b"1"
    store.delete(["a"])  # boto3
    assert list(store.list("")) == []


def test_without_it_both_refuse(place: StoreLocation) -> None:
    store = open_store(replace(place, ca_bundle=None), retry_seconds=5)
    for call in (lambda: store.get("a"), lambda: store.delete(["a"])):
        with pytest.raises(StoreRefused, match="certificate is not trusted"):
            call()
