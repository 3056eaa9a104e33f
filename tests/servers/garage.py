"""Garage, an S3 server without conditional creation, where its binary has been built.

cargo install garage --locked --version 2.5.0 --root ~/.cache/blockvault/garage
"""

import contextlib
import os
import secrets
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from blockvault.stores import Credentials, StoreLocation
from tests.servers.local import LocalHost, ServerError, free_ports

BUCKET = "conformance"
CONFIGURATION = """\
metadata_dir = "{directory}/meta"
data_dir = "{directory}/data"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{secret}"

[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:{api}"
"""


def binary() -> Path:
    """Where the program is, or would be."""
    cache = os.environ.get("BLOCKVAULT_CACHE") or Path.home() / ".cache" / "blockvault"
    return Path(cache) / "garage" / "bin" / "garage"


@contextlib.contextmanager
def garage() -> Iterator[StoreLocation]:
    """A server of one node with one bucket, on loopback; gone without a trace at the end."""
    directory = Path(tempfile.mkdtemp(prefix="bv-garage-"))
    host = LocalHost(directory)
    try:
        api, rpc = free_ports(2)
        configuration = directory / "garage.toml"
        configuration.write_text(
            CONFIGURATION.format(directory=directory, api=api, rpc=rpc, secret=secrets.token_hex(32))
        )
        configuration.chmod(0o600)
        command = [str(binary()), "-c", str(configuration)]
        host.start("garage", [*command, "server"])
        _wait(host, f"http://127.0.0.1:{api}")
        node = host.run(*command, "node", "id", "-q").strip().partition("@")[0]
        host.run(*command, "layout", "assign", "-z", "here", "-c", "1G", node)
        host.run(*command, "layout", "apply", "--version", "1")
        keys = Credentials(f"GK{secrets.token_hex(12)}", secrets.token_hex(32))
        host.run(*command, "key", "import", "--yes", "-n", "test", keys.access_key, keys.secret_key)
        host.run(*command, "bucket", "create", BUCKET)
        host.run(*command, "bucket", "allow", "--read", "--write", "--owner", BUCKET, "--key", "test")
        yield StoreLocation(
            f"s3://{BUCKET}", endpoint=f"http://127.0.0.1:{api}", region="garage", credentials=keys
        )
    finally:
        host.close()
        shutil.rmtree(directory, ignore_errors=True)


def _wait(host: LocalHost, endpoint: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 60
    while True:
        host.check("garage")
        try:
            with opener.open(endpoint, timeout=1):
                return
        except urllib.error.HTTPError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise ServerError(f"Garage does not serve at {endpoint}") from error
            time.sleep(0.1)
