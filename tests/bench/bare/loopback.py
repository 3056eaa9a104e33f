"""`loopback.py MIB`: bodies of 32 MiB over HTTP on loopback, to a server that throws them away and one that makes them up.

Prints bytes, seconds of all PUTs, seconds of all GETs. Server and client are two processes on plain sockets.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
import time

BODY = 32 << 20
CONTENT = os.urandom(1 << 20) * (BODY >> 20)


def serve(listener: socket.socket) -> None:
    """Answer requests of one connection until it ends."""
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray(1 << 20)
    head = b""
    while True:
        while b"\r\n\r\n" not in head:
            got = connection.recv(65536)
            if not got:
                return
            head += got
        lines, _, rest = head.partition(b"\r\n\r\n")
        head = b""
        if lines.startswith(b"PUT"):
            left = BODY - len(rest)
            while left:
                left -= connection.recv_into(buffer, min(left, len(buffer)))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY)
            connection.sendall(CONTENT)


def main(mib: str) -> None:
    """Do it."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = os.fork()
    if server == 0:
        signal.alarm(600)
        serve(listener)
        os._exit(0)
    client = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], blocksize=1 << 20)
    count = max(1, int(mib) // 32)
    start = time.perf_counter()
    for _ in range(count):
        client.request("PUT", "/x", body=CONTENT, headers={"Content-Length": str(BODY)})
        client.getresponse().read()
    middle = time.perf_counter()
    buffer = bytearray(1 << 20)
    for _ in range(count):
        client.request("GET", "/x")
        answer = client.getresponse()
        while answer.readinto(buffer):
            pass
    end = time.perf_counter()
    client.close()
    os.waitpid(server, 0)
    print(count * BODY, middle - start, end - middle)


if __name__ == "__main__":
    main(*sys.argv[1:])
