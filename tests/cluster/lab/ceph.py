"""A real S3 store for the lab: Ceph's RADOS Gateway on one monitor and one OSD in memory."""

import secrets
import signal
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.lab.namespace import Namespaces, Processes, wait_until

PORT = 8000
MEMORY = 16 * 2**30  # bytes that the store claims to have; used only as they are written

CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:3300,v1:127.0.0.1:6789]
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
rgw frontends = beast endpoint=0.0.0.0:{port}
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


class S3:
    """The store: one endpoint for pods and for this machine, a user, buckets, outages."""

    def __init__(self, state: Path, where: Namespaces, processes: Processes, address: str) -> None:
        self.endpoint = f"http://{address}:{PORT}"
        self.region = "us-east-1"
        self._where, self._processes = where, processes
        self._directory = state / "ceph"
        self._configuration = self._directory / "ceph.conf"
        self.keys = Keys(f"LAB{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))

    def start(self) -> None:
        """Start the store; returns when it serves."""
        data = self._directory / "data"
        data.mkdir(parents=True)
        run = Path("/run/ceph")
        self._where.run("mkdir", "-p", str(run))
        self._where.run("mount", "-t", "tmpfs", "-o", "size=1g", "ceph", str(data))
        fsid = str(uuid.uuid4())
        self._configuration.write_text(
            CONFIGURATION.format(fsid=fsid, run=run, data=data, memory=MEMORY, port=PORT)
        )
        conf = f"--conf={self._configuration}"
        monmap = data / "monmap"
        where = self._where
        addresses = "[v2:127.0.0.1:3300,v1:127.0.0.1:6789]"
        where.run("monmaptool", "--create", "--addv", "a", addresses, "--fsid", fsid, str(monmap))
        where.run("mkdir", f"{data}/mon", f"{data}/osd")
        where.run("ceph-mon", conf, "--id=a", "--mkfs", f"--monmap={monmap}")
        self._processes.start("ceph-mon", where, ["ceph-mon", conf, "--id=a", "-f"])
        osd = str(uuid.uuid4())
        self._ceph("osd", "new", osd, "0")
        where.run("ceph-osd", conf, "--id=0", "--mkfs", f"--osd-uuid={osd}")
        self._processes.start("ceph-osd", where, ["ceph-osd", conf, "--id=0", "-f"])
        self.make_user("lab", self.keys)
        self._start_gateway()
        self.wait()

    def _ceph(self, *arguments: str) -> str:
        done = self._where.run("ceph", f"--conf={self._configuration}", "--connect-timeout=30", *arguments)
        return str(done.stdout)

    def _start_gateway(self) -> None:
        command = ["radosgw", f"--conf={self._configuration}", "--name=client.rgw", "-f"]
        self._processes.start("radosgw", self._where, command)

    def admin(self, *arguments: str) -> str:
        """Run radosgw-admin (users, quotas, bucket limits) and return what it prints."""
        command = ["radosgw-admin", f"--conf={self._configuration}", "--name=client.rgw", *arguments]
        return str(self._where.run(*command, timeout=60).stdout)

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

        def ready() -> bool:
            self._processes.check("radosgw")
            return self.serves()

        wait_until(f"S3 at {self.endpoint} serves (see {self._processes.log('radosgw')})", ready, seconds)

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
            self._processes.signal("radosgw", signal.SIGSTOP)
        else:
            self._processes.kill("radosgw")

    def resume(self, seconds: float = 60) -> None:
        """End the outage and wait until the store serves again."""
        if self._processes.alive("radosgw"):
            self._processes.signal("radosgw", signal.SIGCONT)
        else:
            self._start_gateway()
        self.wait(seconds)
