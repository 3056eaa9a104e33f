"""A tenant's store is reached through a gate, which leads nowhere else: no attack by names, redirects or long answers."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from blockvault.addresses import is_local
from blockvault.engine import Access, BackupRequest
from blockvault.stores import (
    Credentials,
    EndpointForbidden,
    StoreLocation,
    StoreRefused,
    StoreUnreachable,
    s3_clients,
)
from blockvault.stores.gate import Gate
from blockvault.stores.s3 import MOST_BYTES, S3Store
from blockvault.stores.s3_clients import boto_client
from tests.certificates import certificates
from tests.embedded.s3 import S3

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self, answer: Answer) -> None:
        asked = self.asked = list[tuple[str, str, dict[str, str]]]()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                answer(self)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def text(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content_Length": str(len(body)), "ETag": '"1"', **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Last-Modified", "Sun, 29 Nov 2026 10:00:00 GMT")
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    return answer


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    servers: list[Server] = []

    def start(answer: Answer) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def named(addresses: dict[str, str], monkeypatch: pytest.MonkeyPatch, *, trusted: bool = True) -> None:
    """Names lead where they are said to. `trusted`: loopback, where the tests' servers are, is like anything else."""

    def gate(endpoint: str, bucket: str) -> Gate:
        def lookup(host: str, port: int) -> list[str]:
            if host not in addresses:
                raise OSError("Name or service not known")
            return [addresses[host]]

        return Gate(endpoint, bucket, lookup=lookup, forbidden=(lambda _: False) if trusted else is_local)

    monkeypatch.setattr(s3_clients, "Gate", gate)


def store(endpoint: str, **more: object) -> S3Store:
    location = StoreLocation(
        "s3://bucket/p",
        endpoint=endpoint,
        region="eu",
        addressing="path",
        credentials=Credentials("theirs", "secret"),
        tenant="shop",
        gated=True,
        **more,  # type: ignore[arg-type]
    )
    return S3Store(location, retry_seconds=0.0)


def test_what_is_asked_of_the_store_gets_there(
    serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of the proxy's: the signature covers the host and the path as the client wrote them."""
    server = serve(text(b"bytes"))
    named({"s3.example.com": "127.0.0.1"}, monkeypatch)
    ours = store(f"http://s3.example.com:{server.port}")
    assert ours.get("some key?") == b"bytes"
    assert ours.get("more") == b"bytes"
    ours.put("k", b"x" * 100_000)
    assert [(verb, path) for verb, path, _ in server.asked] == [
        ("GET", "/bucket/p/some%20key%3F"),
        ("GET", "/bucket/p/more"),
        ("PUT", "/bucket/p/k"),
    ]
    assert {headers["host"] for _, _, headers in server.asked} == {f"s3.example.com:{server.port}"}


def test_a_redirect_to_another_host_is_not_followed(
    serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor to the metadata address of the cloud, whose answer would stand in the Vault's message."""
    metadata = serve(text(b"SECRET-ROLE"))
    redirect = serve(text(b"", 307, Location=f"http://169.254.169.254:{metadata.port}/latest/meta-data"))
    named({"s3.example.com": "127.0.0.1", "169.254.169.254": "127.0.0.1"}, monkeypatch)
    ours = store(f"http://s3.example.com:{redirect.port}")
    for work in (
        lambda: ours.get("k"),
        lambda: list(ours.list("")),
        lambda: ours.folders(""),
        lambda: ours.stat("k"),
    ):
        with pytest.raises(EndpointForbidden, match=r"sends its clients on to 169\.254\.169\.254"):
            work()
    assert metadata.asked == []


def test_a_redirect_to_another_port_of_the_host_is_not_followed(
    serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = serve(text(b"bytes"))
    redirect = serve(text(b"", 302, Location=f"http://s3.example.com:{other.port}/admin"))
    named({"s3.example.com": "127.0.0.1"}, monkeypatch)
    with pytest.raises(EndpointForbidden):
        store(f"http://s3.example.com:{redirect.port}").get("k")
    assert other.asked == []


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:169.254.169.254", "fd00:ec2::254"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_name_that_leads_to_the_node_or_its_metadata_is_refused(
    scheme: str, address: str, serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(text(b"bytes"))
    named({"innocent.example.com": address}, monkeypatch, trusted=False)
    with pytest.raises(EndpointForbidden, match=f"innocent.example.com leads to {address}"):
        store(f"{scheme}://innocent.example.com:{server.port}").get("k")
    assert server.asked == []


def test_a_name_that_leads_elsewhere_at_the_second_look_is_looked_up_once(
    serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was looked at is what is connected to (DNS rebinding)."""
    server = serve(text(b"bytes"))
    answers = ["127.0.0.1", "169.254.169.254"]
    gate = Gate(
        f"http://rebinding.example.com:{server.port}",
        "bucket",
        lookup=lambda *_: [answers.pop(0)],
        forbidden=lambda address: address.startswith("169."),
    )
    monkeypatch.setattr(s3_clients, "Gate", lambda *_: gate)
    ours = store(f"http://rebinding.example.com:{server.port}")
    assert ours.get("k") == b"bytes"
    with pytest.raises(EndpointForbidden):
        ours.get("k")
    assert len(server.asked) == 1


def test_a_name_of_which_one_address_is_forbidden_is_refused_as_a_whole() -> None:
    gate = Gate("http://two.example.com", "bucket", lookup=lambda *_: ["192.0.2.1", "127.0.0.1"])
    with pytest.raises(EndpointForbidden):
        gate._connect("two.example.com", 80)
    gate.close()


def test_a_name_that_leads_nowhere_may_lead_somewhere_later(monkeypatch: pytest.MonkeyPatch) -> None:
    named({}, monkeypatch)
    with pytest.raises(StoreUnreachable, match=r"nowhere\.example\.com leads nowhere") as raised:
        store("http://nowhere.example.com").get("k")
    assert raised.value.retryable


def test_tls_goes_through_with_the_tenants_own_roots(
    serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = serve(text(b"bytes"))
    authority, file = certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    named({"127.0.0.1": "127.0.0.1"}, monkeypatch)
    assert store(f"https://127.0.0.1:{server.port}", ca_bundle=authority).get("k") == b"bytes"


def test_the_operators_session_token_is_not_sent_along(
    serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that a Vault gives are all that its store gets to see: nothing of the operator's identity."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the operator's")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "operator")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = serve(text(b"bytes"))
    named({"s3.example.com": "127.0.0.1"}, monkeypatch)
    store(f"http://s3.example.com:{server.port}").get("k")
    headers = server.asked[0][2]
    assert "x-amz-security-token" not in headers
    assert "Credential=theirs/" in headers["authorization"]


def test_the_body_of_what_is_no_listing_is_not_shown(
    serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What answers at a tenant's endpoint may be somebody else's: its words stand in no status."""
    server = serve(text(b"SECRET-ROLE"))
    named({"s3.example.com": "127.0.0.1"}, monkeypatch)
    with pytest.raises(StoreUnreachable) as raised:
        list(store(f"http://s3.example.com:{server.port}").list(""))
    assert "SECRET" not in str(raised.value)


def test_an_object_larger_than_anything_of_ours_is_not_read(
    serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator reads tenants' stores: none may fill its memory."""
    server = serve(text(b"", Content_Length=str(MOST_BYTES + 1)))
    named({"s3.example.com": "127.0.0.1"}, monkeypatch)
    with pytest.raises(StoreRefused, match="nothing that Blockvault stores has more"):
        store(f"http://s3.example.com:{server.port}").get("k")


@pytest.mark.parametrize(
    "text_",
    ["127.0.0.1", "127.9.9.9", "169.254.169.254", "0.0.0.0", "::", "::1", "fe80::1%eth0", "::ffff:127.0.0.1",
     "64:ff9b::7f00:1", "2002:7f00:1::", "::169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16",
     "224.0.0.1"],
)  # fmt: skip
def test_addresses_that_are_no_tenants(text_: str) -> None:
    assert is_local(text_)


@pytest.mark.parametrize(
    "text_", ["10.0.0.1", "192.0.2.1", "2001:db8::1", "fd00::1", "100.64.0.1", "64:ff9b::a00:1"]
)
def test_addresses_that_may_be_a_store(text_: str) -> None:
    assert not is_local(text_)


def test_a_backup_and_a_restore_go_through_the_gate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a server that knows S3, and both clients."""
    with S3() as server:
        monkeypatch.setattr(
            s3_clients,
            "Gate",
            lambda *place: Gate(*place, forbidden=lambda address: address.startswith("169.")),
        )
        keys = Credentials(server.access_key, server.secret_key)
        place = StoreLocation(
            f"s3://{server.bucket}/theirs",
            endpoint=server.endpoint,
            region=server.region,
            credentials=keys,
            gated=True,
        )
        data = os.urandom(3 << 20)
        (tmp_path / "volume").write_bytes(data)
        (tmp_path / "target").write_bytes(b"")
        access = Access(place)
        made = access.make().backup(BackupRequest(str(tmp_path / "volume"), "shop/db"))
        access.open().restore("shop/db", str(tmp_path / "target"), made.backup_id)
        assert (tmp_path / "target").read_bytes() == data
        assert "Status" not in boto_client(
            place, Gate(server.endpoint, server.bucket, forbidden=lambda _: False).url
        ).get_bucket_versioning(Bucket=server.bucket)
