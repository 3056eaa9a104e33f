"""The two S3 clients of one location: obstore for data, boto3 for what obstore lacks (versions, object lock).

Retries are off in both: the store repeats by itself, because only it knows what an answer in doubt means.
"""

from __future__ import annotations

import os
import weakref
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from blockvault.stores.errors import StoreRefused
from blockvault.stores.gate import Gate
from blockvault.stores.location import StoreLocation

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS = 10
# One request moves at most a segment; a link that needs longer than this for 32 MiB is as good as dead.
REQUEST_SECONDS = 120


def gate_for(location: StoreLocation) -> Gate | None:
    """The gate of a location that has to have one; None where the environment names a proxy, which is the gate then."""
    endpoint = location.endpoint
    if not location.gated or not endpoint:  # without an endpoint the region makes one, below amazonaws.com
        return None
    parts = urlsplit(endpoint)
    if getproxies().get(parts.scheme) and not proxy_bypass(parts.hostname or ""):
        return None
    return Gate(endpoint, location.bucket)


def boto_client(location: StoreLocation, proxy: str | None = None) -> S3Client:
    """boto3 for this location. Imported only when it is needed: it costs 30 MiB of memory."""
    import boto3
    from botocore.config import Config

    given = location.credentials
    endpoint = _endpoint(location)
    if endpoint and _virtual(location):
        endpoint = endpoint.replace(f"://{location.bucket}.", "://", 1)  # boto3 adds the bucket itself
    bundle, handle = _bundle_file(location)
    client: S3Client = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=_region(location),
        aws_access_key_id=given.access_key if given else None,
        aws_secret_access_key=given.secret_key if given else None,
        aws_session_token=given.session_token if given else None,
        verify=bundle,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=REQUEST_SECONDS,
            proxies={"http": proxy, "https": proxy} if proxy else None,
            retries={"total_max_attempts": 1, "mode": "standard"},
            # Content-MD5, which every server knows, is sent where a checksum is needed.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "virtual" if _virtual(location) else "path"},
        ),
    )
    if handle is not None:
        weakref.finalize(client, os.close, handle)
    return client


def _bundle_file(location: StoreLocation) -> tuple[str | None, int | None]:
    """boto3 takes its roots from one file only (obstore's are the system's and ours): a file in memory."""
    if not location.ca_bundle:
        return None, None  # the environment's, or the system's
    from botocore.httpsession import get_cert_path

    with open(str(get_cert_path(True)), "rb") as file:
        roots = file.read()
    handle = os.memfd_create("blockvault-ca")
    with open(handle, "wb", closefd=False) as made:
        made.write(roots + b"\n" + location.ca_bundle.encode() + b"\n")
    return f"/proc/self/fd/{handle}", handle


def obstore_options(location: StoreLocation, proxy: str | None = None) -> dict[str, Any]:
    """What obstore's S3Store is made with."""
    client: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
    }
    endpoint = _endpoint(location)
    if endpoint and endpoint.startswith("http://"):
        client["allow_http"] = True
    if proxy:
        client["proxy_url"] = proxy
        if endpoint and endpoint.startswith("http://"):
            client["pool_max_idle_per_host"] = "0"  # the gate lets one request through for each connection
    bundle = location.ca_bundle or _environment_bundle()
    if bundle:
        client["root_certificate"] = bundle
    virtual = _virtual(location)
    options: dict[str, Any] = {
        "region": _region(location),
        "virtual_hosted_style_request": virtual,
        "client_options": client,
        "retry_config": {"max_retries": 0},
    }
    if endpoint:
        options["endpoint"] = _with_bucket(endpoint, location.bucket) if virtual else endpoint
    encryption = location.server_side_encryption
    if encryption and encryption != "none":
        options["server_side_encryption"] = encryption
    given = location.credentials
    if given is not None:
        # By a function, because to keys given by name obstore would add the session token of the environment.
        options["credential_provider"] = lambda: {
            "access_key_id": given.access_key,
            "secret_access_key": given.secret_key,
            "token": given.session_token,
            "expires_at": None,
        }
    return options


def _endpoint(location: StoreLocation) -> str | None:
    return location.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _region(location: StoreLocation) -> str:
    return (
        location.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    )


def _virtual(location: StoreLocation) -> bool:
    # AWS wants the bucket in the host name; other servers rarely have the DNS for it.
    # A dot in the bucket's name breaks TLS wildcards.
    if location.addressing == "auto":
        return not _endpoint(location) and "." not in location.bucket
    return location.addressing == "virtual"


def _with_bucket(endpoint: str, bucket: str) -> str:
    """obstore takes the host with the bucket in it when addressing is by virtual hosts."""
    scheme, _, host = endpoint.partition("://")
    return endpoint if host.startswith(bucket + ".") else f"{scheme}://{bucket}.{host}"


def _environment_bundle() -> str | None:
    path = os.environ.get("AWS_CA_BUNDLE")
    if not path:
        return None
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreRefused(f"AWS_CA_BUNDLE {path}: {error}", remedy="Name a readable PEM file.") from error
