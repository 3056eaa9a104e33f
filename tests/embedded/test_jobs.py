"""Jobs run as local processes and end as the real Job controller would let them end."""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from typing import Any

import pytest

from .cluster import EmbeddedCluster
from .conftest import claim, phase

# Stands in for a mover: does what its request says, and tells how it went.
PROGRAM = """
import json, os, sys, time
request = json.load(open(os.environ["BLOCKVAULT_REQUEST"]))
with open(os.environ["BLOCKVAULT_REQUEST"].rsplit("/", 1)[0] + "/AWS_ACCESS_KEY_ID") as file:
    assert file.read() == "key"
tries = request["device"] + ".tries"
count = len(open(tries).read()) if os.path.exists(tries) else 0
open(tries, "a").write("x")
print("try", count, flush=True)
if request.get("sleep"):
    time.sleep(request["sleep"])
code = request["codes"][min(count, len(request["codes"]) - 1)]
if code == 0:
    open(request["device"], "r+b").write(b"moved")
    open(os.environ["BLOCKVAULT_TERMINATION"], "w").write(json.dumps({"ok": True}))
else:
    print("last words", file=sys.stderr)
sys.exit(code)
"""
RULES = [
    {"action": "FailJob", "onExitCodes": {"containerName": "mover", "operator": "In", "values": [64, 65]}}
]


def start(cluster: EmbeddedCluster, storage_class: str = "bv-immediate", **request: Any) -> None:
    request = {"device": "/dev/blockvault/volume", "codes": [0]} | request
    data = {"request.json": json.dumps(request), "AWS_ACCESS_KEY_ID": "key"}
    secret = {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}
    pod = {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "mover", "command": ["python", "-c", PROGRAM],
            "volumeDevices": [{"name": "volume", "devicePath": "/dev/blockvault/volume"}],
        }],
        "volumes": [
            {"name": "volume", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "request", "secret": {"secretName": "request"}},
        ],
    }  # fmt: skip
    spec = {
        "backoffLimit": 2, "podFailurePolicy": {"rules": RULES},
        "template": {"metadata": {"labels": {"app": "mover"}}, "spec": pod},
    }  # fmt: skip
    cluster.apply(
        claim("data", storage_class=storage_class),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "request"}, "data": secret},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": spec},
    )


def ended(type: str) -> Any:
    def test(job: dict[str, Any] | None) -> bool:
        conditions = ((job or {}).get("status") or {}).get("conditions") or []
        return any(c["type"] == type for c in conditions)

    return test


def test_a_job_moves_bytes_and_reports(cluster: EmbeddedCluster) -> None:
    start(cluster, "bv-wait", codes=[0])
    job = cluster.wait_for("job", "job", ended("Complete"))
    assert job["status"]["succeeded"] == 1
    (pod,) = cluster.list("pods", labels="job-name=job,app=mover")
    assert pod["status"]["phase"] == "Succeeded"
    terminated = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (terminated["exitCode"], json.loads(terminated["message"])) == (0, {"ok": True})
    assert cluster.volume_path("shop", "data").read_bytes()[:5] == b"moved"
    cluster.until(lambda: not cluster.list("volumeattachments"), "detached")
    cluster.delete("job", "job")
    cluster.wait_for("pods", pod["metadata"]["name"], phase(None))


def test_a_failure_is_tried_again_up_to_the_limit(cluster: EmbeddedCluster) -> None:
    start(cluster, codes=[75, 0])
    job = cluster.wait_for("job", "job", ended("Complete"))
    assert job["status"]["failed"] == 1
    phases = sorted(pod["status"]["phase"] for pod in cluster.list("pods"))
    assert phases == ["Failed", "Succeeded"]


def test_the_backoff_limit_ends_it(cluster: EmbeddedCluster) -> None:
    start(cluster, codes=[75])
    job = cluster.wait_for("job", "job", ended("Failed"))
    assert job["status"]["conditions"][-1]["reason"] == "BackoffLimitExceeded"
    assert job["status"]["failed"] == 3


def test_some_exit_codes_fail_the_job_at_once_and_the_log_is_the_last_word(cluster: EmbeddedCluster) -> None:
    start(cluster, codes=[65])
    job = cluster.wait_for("job", "job", ended("Failed"))
    assert job["status"]["conditions"][-1]["reason"] == "PodFailurePolicy"
    (pod,) = cluster.list("pods")
    assert "last words" in pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"]


def test_a_killed_mover_is_replaced(cluster: EmbeddedCluster) -> None:
    start(cluster, codes=[0], sleep=0.5)
    cluster.until(cluster.movers, "a mover runs")
    assert cluster.kill_movers() == 1
    job = cluster.wait_for("job", "job", ended("Complete"))
    assert job["status"]["failed"] == 1
    codes = [
        p["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] for p in cluster.list("pods")
    ]
    assert sorted(codes) == [0, 137]


@pytest.mark.parametrize("what", ["job", "pod"])
def test_deletion_kills_the_process(cluster: EmbeddedCluster, what: str) -> None:
    start(cluster, codes=[0], sleep=60)
    cluster.until(cluster.movers, "a mover runs")
    ((name, pid),) = cluster.movers().items()
    cluster.delete(what, {"job": "job", "pod": name}[what])
    cluster.wait_for("pods", name, phase(None))
    assert pid not in cluster.movers().values()
    if what == "pod":  # the Job makes another
        cluster.until(cluster.movers, "a mover runs")


def test_held_movers_wait(cluster: EmbeddedCluster) -> None:
    cluster.faults.hold_movers = True
    start(cluster)
    time.sleep(0.3)
    (pod,) = cluster.list("pods")
    assert pod["status"]["phase"] == "Pending"
    cluster.faults.hold_movers = False
    cluster.wait_for("job", "job", ended("Complete"))


def test_the_log_can_be_read(cluster: EmbeddedCluster) -> None:
    start(cluster, codes=[75, 0])
    cluster.wait_for("job", "job", ended("Complete"))
    pods = cluster.list("pods", labels="job-name=job")
    logs = []
    for pod in pods:
        path = f"/api/v1/namespaces/shop/pods/{pod['metadata']['name']}/log?tailLines=1"
        with urllib.request.urlopen(cluster.url + path, timeout=5) as answer:
            logs.append(answer.read().decode())
    assert sorted(logs) == ["last words\n", "try 1\n"]
