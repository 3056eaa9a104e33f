"""A door on loopback through which a client reaches one store, and nothing else.

A tenant chooses the endpoint of its own storage, and what answers there. A name can lead to the node's own addresses,
or lead elsewhere at the second look, and a server can redirect a client to any address: the S3 client follows. So the
clients of such a store are given this proxy, which looks the name up itself, refuses addresses that are not a
tenant's to reach, and connects to the very address that it has looked at. It knows one store: a redirect
to another host ends here.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from blockvault.addresses import is_local
from blockvault.stores.errors import EndpointForbidden, StoreError, StoreUnreachable

CONNECT_SECONDS = 10
MOST_HEAD = 64 << 10  # bytes
PIECE = 256 << 10  # bytes
PORTS = {"http": 80, "https": 443}

# (host, port) to addresses, as text.
Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name. Raises OSError."""
    return list(
        dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    )


class Gate:
    """The proxy; it works from its making until `close`. `url` is what the clients are given."""

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        *,
        lookup: Resolve = resolve,
        forbidden: Callable[[str], bool] = is_local,
    ) -> None:
        parts = urlsplit(endpoint)
        host, port = (parts.hostname or "").lower(), parts.port or PORTS[parts.scheme]
        self._hosts = {(host, port), (f"{bucket.lower()}.{host}", port)}
        self._lookup, self._forbidden = lookup, forbidden
        self._trouble: StoreError | None = None
        gate = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    gate._serve(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, name="gate", daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Let nobody in any more."""
        self._server.shutdown()
        self._server.server_close()

    def trouble(self) -> StoreError | None:
        """Why it has let a client down lately; asked once."""
        found, self._trouble = self._trouble, None
        return found

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(CONNECT_SECONDS)
        head = _read_head(client)
        method, target, version = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        tunnel = method == "CONNECT"
        try:
            parts = urlsplit(f"//{target}" if tunnel else target)
            place = ((parts.hostname or "").lower(), parts.port or PORTS["https" if tunnel else "http"])
            server = self._connect(*place)
        except (StoreError, ValueError) as error:
            self._trouble = error if isinstance(error, StoreError) else StoreUnreachable(str(error))
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        with server:
            if tunnel:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                # One request for each connection: the next one is looked at again.
                path = target.partition("//")[2].partition("/")[2]
                server.sendall(_one_request(f"{method} /{path} {version}", head))
            client.settimeout(None)
            server.settimeout(None)
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()

    def _connect(self, host: str, port: int) -> socket.socket:
        """A connection to the store. Raises EndpointForbidden, StoreUnreachable."""
        if (host, port) not in self._hosts:
            raise EndpointForbidden(
                f"the store sends its clients on to {host}:{port}, which is not its endpoint",
                remedy="Name the endpoint that answers by itself: a redirect is not followed to another host.",
            )
        try:
            addresses = self._lookup(host, port)
        except OSError as error:
            raise StoreUnreachable(f"the name {host} leads nowhere: {error.strerror or error}") from error
        for address in addresses:
            if self._forbidden(address):
                raise EndpointForbidden(
                    f"the endpoint's name {host} leads to {address}, an address of the node's own or of its cloud's "
                    "identity service, which tenants may not reach through the operator"
                )
        last: OSError | None = None
        for address in addresses:
            try:
                return socket.create_connection((address, port), timeout=CONNECT_SECONDS)
            except OSError as error:
                last = error
        raise StoreUnreachable(f"{host}:{port} does not answer: {last}")


def _read_head(client: socket.socket) -> bytes:
    """A request up to the empty line, and what has come of the rest. Raises OSError where none comes."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = client.recv(PIECE)
        if not piece or len(head) > MOST_HEAD:
            raise OSError("no request")
        head += piece
    return head


def _one_request(first: str, whole: bytes) -> bytes:
    head, _, rest = whole.partition(b"\r\n\r\n")
    kept = [
        line for line in head.split(b"\r\n")[1:] if not line.lower().startswith((b"connection:", b"proxy-"))
    ]
    return b"\r\n".join([first.encode("latin-1"), *kept, b"Connection: close", b"", rest])


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Bytes from one to the other, until either ends; then both do."""
    with suppress(OSError):
        while data := source.recv(PIECE):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
