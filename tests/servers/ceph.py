"""A real S3 store: Ceph's RADOS Gateway on one monitor and one OSD in memory.

Where its programs run is up to a `Host`: this machine (`tests.servers.local`), or the namespaces of a lab.
"""

import secrets
import signal
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# Debian package -> a program that shows that it is there.
PACKAGES: Mapping[str, str] = {
    "radosgw": "/usr/bin/radosgw",
    "ceph-mon": "/usr/bin/ceph-mon",
    "ceph-osd": "/usr/bin/ceph-osd",
    "ceph-common": "/usr/bin/ceph",
}
MEMORY = 16 * 2**30  # bytes that the store claims to have; used only as they are written

CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = {monitors}
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
auth supported = none
ms bind msgr2 = true
run dir = {run}
admin socket = {run}/$name.asok
log file =
log to stderr = true
err to stderr = true
mon cluster log to file = false
debug default = 0
mon allow pool size one = true
mon allow pool delete = true
mon max pg per osd = 2000
mon data avail warn = 1
mon data avail crit = 1
# Every pool made is a decision of its own; by default the only monitor gathers decisions for a second each.
paxos propose interval = 0.05
paxos min wait = 0.01
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
rgw rados pool pg num min = 4
rgw rados pool autoscale bias = 1
[mon]
mon data = {data}/mon
[osd]
osd data = {data}/osd
osd objectstore = memstore
memstore device bytes = {memory}
osd class update on start = true
osd crush update on start = true
[client.rgw]
# radosgw alone asks for encryption, which does not go without authentication.
ms mon client mode = crc
rgw frontends = beast endpoint={bind}:{port}
rgw run sync thread = false
# With a cache, a change waits up to 30 s for the answer of a gateway that was killed.
rgw cache enabled = false
rgw dynamic resharding = false
rgw enable usage log = false
rgw enable ops log = false
rgw gc obj min wait = 60
rgw thread pool size = 64
"""


@dataclass(frozen=True)
class Keys:
    """Access keys of one S3 user."""

    access_key: str
    secret_key: str


class Host(Protocol):
    """Runs programs: some until they end, some for long, those by name."""

    def run(self, *command: str, timeout: float | None = None) -> str:
        """Run to the end and return what was printed; raises with its words when the program fails."""

    def start(self, name: str, command: list[str]) -> None:
        """Start a program that goes on running."""

    def check(self, name: str) -> None:
        """Raise with the end of its log if the program has ended."""

    def alive(self, name: str) -> bool:
        """Whether it runs (or is stopped)."""

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send it a signal."""

    def kill(self, name: str) -> None:
        """Kill it and wait for its end."""

    def log(self, name: str) -> Path:
        """The file that it writes to."""


@dataclass(frozen=True)
class Ports:
    """TCP ports on loopback: the gateway, and the monitor under both of its protocols."""

    gateway: int = 8000
    monitor_v2: int = 3300
    monitor_v1: int = 6789


class S3:
    """The store: one endpoint, a user, buckets, outages."""

    def __init__(
        self, host: Host, directory: Path, address: str, *, bind: str = "0.0.0.0", ports: Ports | None = None
    ) -> None:
        self._host, self._directory, self._bind = host, directory, bind
        self._ports = ports or Ports()
        self.endpoint = f"http://{address}:{self._ports.gateway}"
        self.region = "us-east-1"
        self._configuration = directory / "ceph.conf"
        self.keys = Keys(f"LAB{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))

    @property
    def data(self) -> Path:
        """Where monitor and OSD keep what they do not keep in memory."""
        return self._directory / "data"

    def start(self, run: Path) -> None:
        """Start the store; returns when it serves. `run` is a directory for sockets: a short path."""
        data, host = self.data, self._host
        fsid = str(uuid.uuid4())
        monitors = f"[v2:127.0.0.1:{self._ports.monitor_v2},v1:127.0.0.1:{self._ports.monitor_v1}]"
        self._configuration.write_text(
            CONFIGURATION.format(
                fsid=fsid,
                run=run,
                data=data,
                memory=MEMORY,
                monitors=monitors,
                bind=self._bind,
                port=self._ports.gateway,
            )
        )
        conf = f"--conf={self._configuration}"
        monmap = data / "monmap"
        host.run("monmaptool", "--create", "--addv", "a", monitors, "--fsid", fsid, str(monmap))
        host.run("mkdir", f"{data}/mon", f"{data}/osd")
        host.run("ceph-mon", conf, "--id=a", "--mkfs", f"--monmap={monmap}")
        host.start("ceph-mon", ["ceph-mon", conf, "--id=a", "-f"])
        osd = str(uuid.uuid4())
        host.run("ceph", conf, "--connect-timeout=30", "osd", "new", osd, "0")
        host.run("ceph-osd", conf, "--id=0", "--mkfs", f"--osd-uuid={osd}")
        host.start("ceph-osd", ["ceph-osd", conf, "--id=0", "-f"])
        self.make_user("lab", self.keys)
        self._start_gateway()
        self.wait()

    def _start_gateway(self) -> None:
        self._host.start("radosgw", ["radosgw", f"--conf={self._configuration}", "--name=client.rgw", "-f"])

    def admin(self, *arguments: str) -> str:
        """Run radosgw-admin (users, quotas, bucket limits) and return what it prints."""
        command = ["radosgw-admin", f"--conf={self._configuration}", "--name=client.rgw", *arguments]
        return self._host.run(*command, timeout=60)

    def make_user(self, name: str, keys: Keys | None = None) -> Keys:
        """Make a user of the store with its own keys, who owns nothing yet."""
        keys = keys or Keys(f"LAB{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))
        self.admin(
            "user", "create", f"--uid={name}", f"--display-name={name}",
            f"--access-key={keys.access_key}", f"--secret-key={keys.secret_key}",
        )  # fmt: skip
        return keys

    def serves(self) -> bool:
        """Whether the store answers HTTP within a second."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.endpoint, timeout=1):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def wait(self, seconds: float = 60) -> None:
        """Wait until the store serves."""
        deadline = time.monotonic() + seconds
        while not self.serves():
            self._host.check("radosgw")
            if time.monotonic() > deadline:
                log = self._host.log("radosgw")
                raise TimeoutError(f"S3 at {self.endpoint} does not serve after {seconds:g} s: see {log}")
            time.sleep(0.1)

    def client(self, keys: Keys | None = None):  # type: ignore[no-untyped-def]
        """A boto3 client for the store as the given user (the lab's own by default)."""
        import boto3
        from botocore.config import Config

        keys = keys or self.keys
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
            config=Config(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=30, proxies={}),
        )

    def make_bucket(self, name: str, keys: Keys | None = None) -> str:
        """Make a bucket (at least 3 characters) and return its name."""
        self.client(keys).create_bucket(Bucket=name)
        return name

    def stop(self, hang: bool = False) -> None:
        """An outage: connections are refused, or with `hang` accepted and never answered. Data survives."""
        if hang:
            self._host.signal("radosgw", signal.SIGSTOP)
        else:
            self._host.kill("radosgw")

    def resume(self, seconds: float = 60) -> None:
        """End the outage and wait until the store serves again."""
        if self._host.alive("radosgw"):
            self._host.signal("radosgw", signal.SIGCONT)
        else:
            self._start_gateway()
        self.wait(seconds)
