"""Fixtures of the tests in a real cluster: the cluster, a namespace, the installed operator."""

import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.kube import Kube, Object
from tests.cluster.lab import Cluster, LabError, images, network, setup, versions

OPERATOR_NAMESPACE = "blockvault-system"
RELEASE = "blockvault"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing before the first test, and so outside the tests' time limits."""
    wanted = any(item.get_closest_marker("cluster") for item in session.items)
    if wanted and not session.config.option.collectonly:
        capture = session.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            setup.main()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One cluster of one node for the whole session; BLOCKVAULT_LAB_NODES=2 makes it two."""
    with Cluster(int(os.environ.get("BLOCKVAULT_LAB_NODES", "1"))) as running:
        yield running


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Kube]:
    """kubectl in a fresh namespace of this test, which goes afterwards without waiting."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40]
    kube = Kube(cluster, f"{words.removeprefix('test-')}-{secrets.token_hex(2)}")
    cluster.kubectl("create", "namespace", kube.namespace)
    # The first pod is refused until it is there.
    kube.within(kube.namespace).wait("serviceaccount", "default", bool, 30)
    yield kube
    cluster.kubectl("delete", "namespace", kube.namespace, "--wait=false", "--ignore-not-found")


class Operator:
    """The operator as installed by Helm in one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.kube = Kube(cluster, OPERATOR_NAMESPACE)

    def helm(self, *arguments: str, check: bool = True) -> str:
        """Run helm in the operator's namespace; LabError with its words when it fails."""
        done = subprocess.run(
            [str(self.cluster.helm), "--namespace", OPERATOR_NAMESPACE, *arguments],
            text=True,
            capture_output=True,
            env=self.cluster.environment(),
            timeout=300,
        )
        if check and done.returncode != 0:
            raise LabError(f"helm {' '.join(arguments)}: {done.stderr}\n{self.report()}")
        return done.stdout

    def install(self, *values: str) -> None:
        """Install or upgrade the chart with `key=value` settings; wait until the operator is available."""
        repository, _, tag = images.PROJECT.rpartition(":")
        settings = [
            f"image.repository={repository}",
            f"image.tag={tag}",
            "image.pullPolicy=IfNotPresent",
            r"nodeSelector.kubernetes\.io/hostname=node1",
            *values,
        ]
        words = [
            word
            for setting in settings
            for word in ("--set-string" if "Selector" in setting else "--set", setting)
        ]
        chart = str(versions.ROOT / "charts" / "blockvault")
        self.helm(
            "upgrade", "--install", RELEASE, chart, "--create-namespace", "--wait", "--timeout=120s", *words
        )

    def deployment(self) -> str:
        """Name of the operator's Deployment."""
        found = self.kube.all("deployments", f"app.kubernetes.io/instance={RELEASE}")
        assert len(found) == 1, f"{len(found)} Deployments of release {RELEASE}"
        return str(found[0]["metadata"]["name"])

    def pods(self) -> list[Object]:
        """The operator's pods that are not going away."""
        deployment = self.kube.get("deployment", self.deployment())
        assert deployment is not None
        labels = deployment["spec"]["selector"]["matchLabels"]
        found = self.kube.all("pods", ",".join(f"{key}={value}" for key, value in labels.items()))
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def logs(self) -> str:
        """What the operator's containers said, the one before a restart included."""
        texts = []
        for pod in self.pods():
            name = pod["metadata"]["name"]
            for previous in (True, False):
                extra = ["--previous"] if previous else []
                texts.append(self.kube.kubectl("logs", name, "--all-containers", *extra, check=False))
        return "\n".join(texts)

    def get(self, path: str) -> str:
        """GET a path of the operator's HTTP port through the API server, for instance `metrics`."""
        name = self.pods()[0]["metadata"]["name"]
        return self.kube.kubectl(
            "get", "--raw", f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{name}:8080/proxy/{path}"
        )

    def kill(self, wait: bool = True) -> None:
        """SIGKILL the operator's process; with `wait`, return when the next one is ready."""
        name = self.pods()[0]["metadata"]["name"]
        old = self.kube.kill_container(name)
        if wait:
            self._wait_other(old)

    def delete_pod(self, wait: bool = True) -> None:
        """Delete the operator's pod as a drain does; with `wait`, return when its successor is ready."""
        pod = self.pods()[0]
        self.kube.delete("pod", pod["metadata"]["name"], wait=wait)
        if wait:
            self.wait_available()

    def wait_available(self, seconds: float = 60) -> None:
        """Wait until the operator is ready."""
        self._wait_other("", seconds)

    def _wait_other(self, old: str, seconds: float = 60) -> None:
        """Wait until a container of the operator other than `old` is ready."""
        deadline = time.monotonic() + seconds
        while True:
            statuses = [s for pod in self.pods() for s in pod["status"].get("containerStatuses", [])]
            if any(s["ready"] and s["containerID"] != f"containerd://{old}" for s in statuses):
                return
            if time.monotonic() > deadline:
                raise LabError(f"operator not ready within {seconds:g} s\n{self.report()}")
            time.sleep(0.2)

    def report(self) -> str:
        """Logs, pods and events of the operator's namespace, for a failure."""
        pods = self.kube.kubectl("get", "pods,jobs,pvc", "-o", "wide", check=False)
        described = self.kube.kubectl("describe", "pods", check=False)
        logs = self.kube.kubectl(
            "logs",
            f"--selector=app.kubernetes.io/instance={RELEASE}",
            "--all-containers",
            "--tail=400",
            check=False,
        )
        return f"{pods}\n{self.kube.events()}\n{described[-6000:]}\n{logs}"


@pytest.fixture(scope="session")
def install_operator() -> Callable[[Cluster], Operator]:
    """Installs the operator, with the image built from this tree, into any cluster."""

    def install(cluster: Cluster, *values: str) -> Operator:
        cluster.import_image(images.project())
        operator = Operator(cluster)
        operator.install(*values)
        operator.wait_available()
        return operator

    return install


@pytest.fixture(scope="session")
def installed_operator(cluster: Cluster, install_operator: Callable[[Cluster], Operator]) -> Operator:
    """The operator, installed once in the session's cluster by the project's chart."""
    return install_operator(cluster)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """On failure, add what the cluster says to the report."""
    report = yield
    if report.failed and call.when in ("setup", "call"):
        fixtures: dict[str, Any] = getattr(item, "funcargs", {})
        kube, operator = fixtures.get("namespace"), fixtures.get("installed_operator")
        if isinstance(kube, Kube):
            objects = kube.kubectl("get", "pods,pvc,volumesnapshots,jobs", "-o", "wide", check=False)
            report.sections.append((f"namespace {kube.namespace}", f"{objects}\n{kube.events()}"))
        if isinstance(operator, Operator):
            report.sections.append(("operator", operator.report()))
        if isinstance(fixtures.get("cluster"), Cluster):
            where = fixtures["cluster"].nodes[1].where
            report.sections.append(("network", network.describe(where, "blockvault operator")))
            report.sections.append(("logs of the cluster's programs", str(fixtures["cluster"].logs)))
    return report
