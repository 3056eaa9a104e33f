"""Refusals and waits beside those of test_bad_input.py: a half-compatible store, and what is mended in time.

All objects are made at once and judged one by one, so that the waits pass together.
"""

from __future__ import annotations

import pytest

from tests.cluster.conftest import OPERATOR_NAMESPACE, Operator
from tests.cluster.kube import Kube, Object, claim, pod
from tests.cluster.lab import Cluster
from tests.cluster.test_bad_input import backup, judge, restore, vault
from tests.scenario import manifests
from tests.scenario.environment import phase_is

# In soak until whole runs beside the other files have shown it to be steady.
pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(300)]

# Passes everything on to the store in argv[1], but calls a creation that was refused a success: what a client
# sees of a server that does not know If-None-Match. The host's name stays as it was signed.
PROXY = """
import http.client, http.server, sys, urllib.parse

class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        store = http.client.HTTPConnection(urllib.parse.urlsplit(sys.argv[1]).netloc)
        store.request(self.command, self.path, body, dict(self.headers))
        answer = store.getresponse()
        status, headers, data = answer.status, answer.getheaders(), answer.read()
        if status == 412:
            status, headers, data = 200, [("ETag", '"0"')], b""
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else len(data)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one

http.server.ThreadingHTTPServer(("", 9000), Proxy).serve_forever()
"""


def place(cluster: Cluster, bucket: str, secret: str) -> Object:
    """The S3 section of a Vault."""
    s3 = cluster.s3
    section = {"endpoint": s3.endpoint, "region": s3.region, "bucket": bucket, "addressing": "path"}
    return {**section, "prefix": "p", "credentialsSecretRef": {"name": secret}}


def keys(cluster: Cluster, name: str, namespace: str, secret_key: str | None = None) -> Object:
    """A Secret with the lab's keys, or with another secret key."""
    own = cluster.s3.keys
    data = {"AWS_ACCESS_KEY_ID": own.access_key, "AWS_SECRET_ACCESS_KEY": secret_key or own.secret_key}
    return manifests.secret(name, namespace, data)


def test_a_store_without_conditional_creation_is_refused(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """Two writers would overwrite each other there: the Vault says so, and takes no Backup."""
    kube = namespace
    cluster.s3.make_bucket("half-compatible")
    started = kube.start(pod("proxy", ["python3", "-u", "-c", PROXY, cluster.s3.endpoint]))
    section = place(cluster, "half-compatible", "keys")
    loose = {**section, "endpoint": f"http://{started['status']['podIP']}:9000"}
    kube.apply(
        keys(cluster, "keys", kube.namespace),
        vault("loose", loose),
        claim("data"),
        backup("never", "loose", "data"),
    )
    judge(kube, "vault", "loose", "Error", "NoConditionalCreate", ["half-compatible", "If-None-Match"], 60)
    judge(kube, "backup", "never", "Error", "VaultError", ["Vault loose", "If-None-Match"], 60)
    # By the straight way to the same bucket all is well: it was the proxy.
    kube.patch("vault", "loose", {"spec": {"storage": {"s3": {"endpoint": cluster.s3.endpoint}}}})
    kube.wait_phase("vault", "loose", "Available", seconds=60)


def test_targets_and_claims_that_cannot_be_used(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """Each names the object and the remedy; none of them makes anything."""
    kube = namespace
    system = kube.within(OPERATOR_NAMESPACE)
    cluster.s3.make_bucket("more-bad-input")
    section = place(cluster, "more-bad-input", "keys")
    kube.apply(keys(cluster, "keys", kube.namespace), vault("good", section), claim("data"), claim("going"))
    for name in ("data", "going"):
        kube.wait_phase("pvc", name, "Bound", seconds=60)
    kube.start(pod("user", block={"going": "/dev/going"}))
    kube.delete("pvc", "going", wait=False)  # the pod holds it
    kube.wait_phase("vault", "good", "Available", seconds=60)
    kube.apply(manifests.backup("fine", "good", "data"))
    kube.wait("backup", "fine", phase_is("Available"), 120)

    no_class = restore("no-class", "fine", "copy-1")
    no_class["spec"]["target"]["newClaim"]["storageClassName"] = "absent"
    as_files = restore("as-files", "fine", "copy-2")
    as_files["spec"]["target"]["newClaim"]["volumeMode"] = "Filesystem"
    elsewhere = backup("elsewhere", "good", "data")
    kube.apply(backup("going", "good", "going"), no_class, as_files)
    system.apply(elsewhere)
    try:
        judge(kube, "restore", "no-class", "Pending", "StorageClassNotFound", ["absent", "create it"], 15)
        judge(
            kube, "restore", "as-files", "Error", "NoFileSystem", ["Backup fine", "volumeMode to Block"], 30
        )
        judge(kube, "backup", "going", "Error", "ClaimDeleting", ["PersistentVolumeClaim going"], 30)
        words = [OPERATOR_NAMESPACE, "another namespace"]
        judge(system, "backup", "elsewhere", "Error", "OperatorNamespace", words, 30)
        words = ["absent", "spec.startDeadlineSeconds"]
        judge(kube, "restore", "no-class", "Error", "StorageClassNotFound", words, 60)
    finally:
        system.delete("backup", "elsewhere")
    assert {c["metadata"]["name"] for c in kube.all("pvc")} == {"data", "going"}
    assert not kube.all("volumesnapshots")


def test_what_is_mended_in_time_is_used(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """A corrected Secret is noticed by itself; a claim that gets its consumer in time is backed up."""
    kube = namespace
    cluster.s3.make_bucket("mended")
    waiting = manifests.backup("patient", "mended", "late")
    kube.apply(
        keys(cluster, "keys", kube.namespace, secret_key="not-the-key"),
        vault("mended", place(cluster, "mended", "keys")),
        claim("late", storage_class="bv-wait"),
    )
    judge(kube, "vault", "mended", "Error", "InvalidCredentials", ["mended", "AWS_SECRET_ACCESS_KEY"], 60)
    kube.apply(keys(cluster, "keys", kube.namespace))
    kube.wait_phase("vault", "mended", "Available", seconds=60)
    kube.apply(waiting)
    judge(kube, "backup", "patient", "Pending", "ClaimNotBound", ["late", "when a pod uses it"], 30)
    kube.start(pod("consumer", block={"late": "/dev/late"}), seconds=90)
    kube.wait("backup", "patient", phase_is("Available"), 120)
