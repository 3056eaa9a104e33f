"""The emulated API answers as a real API server does, as far as the operator can tell."""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import Any

import pytest

from .cluster import EmbeddedCluster
from .conftest import Http
from .rules import broken, compiled

WIDGETS = "/apis/example.dev/v1/namespaces/shop/widgets"


def widget(name: str = "a", size: Any = 1, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"size": str(size)}}, "spec": {"size": size, **spec}}


def test_create_fills_in_what_the_server_owns(http: Http) -> None:
    status, made = http("POST", WIDGETS, widget(unknown=1) | {"status": {"phase": "Sneaked"}})
    assert status == 201
    meta = made["metadata"]
    assert meta["uid"]
    assert meta["resourceVersion"]
    assert meta["creationTimestamp"]
    assert meta["generation"] == 1
    assert made["spec"] == {"size": 1, "colour": "red"}  # default filled in, unknown field pruned
    assert "status" not in made
    assert http("POST", WIDGETS, widget())[1]["reason"] == "AlreadyExists"
    generated = http("POST", WIDGETS, {"metadata": {"generateName": "w-"}, "spec": {"size": 1}})[1]
    assert generated["metadata"]["name"].startswith("w-")


def test_namespaces_are_objects_too(http: Http) -> None:
    assert http("GET", "/api/v1/namespaces/shop")[1]["kind"] == "Namespace"
    assert len(http("GET", "/api/v1/namespaces")[1]["items"]) == 4
    status, answer = http("POST", WIDGETS.replace("shop", "nowhere"), widget())
    assert (status, answer["reason"]) == (404, "NotFound")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"size": "1"}, "spec.size"),
        ({"size": 10}, "less than or equal to 9"),
        ({"size": 0}, "greater than or equal to 1"),
        ({}, "spec.size: Required value"),
        ({"size": 1, "colour": "green"}, 'supported values: "red", "blue"'),
        ({"size": 1, "name": "A"}, "should match"),
        ({"size": 1, "parts": ["p", "p", "p"]}, "2 items"),
        ({"size": 1, "parts": ["x"]}, "parts start with p"),
    ],
)
def test_bad_objects_are_refused(http: Http, spec: dict[str, Any], words: str) -> None:
    status, answer = http("POST", WIDGETS, {"metadata": {"name": "a"}, "spec": spec})
    assert status == 422
    assert words in answer["message"]


def test_status_and_the_rest_change_apart(http: Http) -> None:
    http("POST", WIDGETS, widget(size=2))
    both = {"spec": {"colour": "blue"}, "status": {"phase": "Ready"}}
    _, changed = http("PATCH", f"{WIDGETS}/a", both)
    assert (changed["spec"]["colour"], changed.get("status")) == ("blue", None)
    assert changed["metadata"]["generation"] == 2
    _, changed = http(
        "PATCH", f"{WIDGETS}/a/status", {"spec": {"colour": "red"}, "status": {"phase": "Ready"}}
    )
    assert (changed["spec"]["colour"], changed["status"]) == ("blue", {"phase": "Ready"})
    assert changed["metadata"]["generation"] == 2
    _, same = http("PATCH", f"{WIDGETS}/a/status", {"status": {"phase": "Ready"}})
    assert same["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]
    status, answer = http("PATCH", f"{WIDGETS}/a", {"spec": {"size": 1}})
    assert status == 422
    assert "size only grows" in answer["message"]


def test_events_lie_where_their_object_does(http: Http) -> None:
    """Those about cluster-scoped objects lie in the namespace default, and nowhere else."""
    about = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "name": "x"}
    path = "/apis/events.k8s.io/v1/namespaces/{}/events"
    event = {"metadata": {"name": "e"}, "regarding": about}
    assert http("POST", path.format("shop"), event)[0] == 422
    assert http("POST", path.format("default"), event)[0] == 201
    about["namespace"] = "shop"
    assert http("POST", path.format("shop"), event)[0] == 201


def test_stale_writers_are_told(http: Http) -> None:
    _, first = http("POST", WIDGETS, widget())
    http("PATCH", f"{WIDGETS}/a", {"spec": {"size": 2}})
    stale = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "spec": {"size": 3}}
    assert http("PATCH", f"{WIDGETS}/a", stale)[1]["reason"] == "Conflict"
    assert http("PUT", f"{WIDGETS}/a", first)[1]["reason"] == "Conflict"
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": first["metadata"]["resourceVersion"]}
    status, _ = http(
        "PATCH", f"{WIDGETS}/a", [test, {"op": "remove", "path": "/spec/colour"}], patch="json-patch"
    )
    assert status == 422
    assert http("PATCH", f"{WIDGETS}/a", {}, patch="strategic-merge-patch")[0] == 415


def test_finalizers_hold_and_owners_take_along(http: Http, cluster: EmbeddedCluster) -> None:
    _, owner = http("POST", WIDGETS, {"metadata": {"name": "a", "finalizers": ["x/y"]}, "spec": {"size": 1}})
    ref = {"apiVersion": "example.dev/v1", "kind": "Widget", "name": "a", "uid": owner["metadata"]["uid"]}
    http("POST", WIDGETS, {"metadata": {"name": "b", "ownerReferences": [ref]}, "spec": {"size": 1}})
    assert http("DELETE", f"{WIDGETS}/a", {"preconditions": {"uid": "other"}})[0] == 409
    assert http("DELETE", f"{WIDGETS}/a")[1]["metadata"]["deletionTimestamp"]
    assert http("PATCH", f"{WIDGETS}/a", {"metadata": {"finalizers": ["x/y", "z/z"]}})[0] == 422
    http("PATCH", f"{WIDGETS}/a", {"metadata": {"finalizers": None}})
    assert http("GET", f"{WIDGETS}/a")[0] == 404
    assert http("GET", f"{WIDGETS}/b")[0] == 404
    assert [v is None for v in cluster.history("widget", "a")] == [False, False, True]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("labelSelector=size%3D2", "b"),
        ("labelSelector=size!%3D2", "ac"),
        ("labelSelector=size+in+(1,2),!other", "ab"),
        ("labelSelector=other", ""),
        ("fieldSelector=metadata.name%3Dc", "c"),
        ("fieldSelector=status.phase!%3DReady", "ac"),
    ],
)
def test_selectors(http: Http, query: str, names: str) -> None:
    for name, size in (("a", 1), ("b", 2), ("c", 3)):
        http("POST", WIDGETS, widget(name, size))
    http("PATCH", f"{WIDGETS}/b/status", {"status": {"phase": "Ready"}})
    _, found = http("GET", f"{WIDGETS}?{query}")
    assert "".join(i["metadata"]["name"] for i in found["items"]) == names
    assert found["metadata"]["resourceVersion"].isdigit()
    assert http("GET", f"{WIDGETS}?fieldSelector=spec.size%3D1")[0] == 400


class Watch:
    """A watch stream read in a thread."""

    def __init__(self, cluster: EmbeddedCluster, query: str) -> None:
        self.seen: list[tuple[str, str]] = []
        host = cluster.url.removeprefix("http://")
        self._connection = http.client.HTTPConnection(host, timeout=10)
        self._connection.request("GET", f"{WIDGETS}?watch=true&{query}")
        self._answer = self._connection.getresponse()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while line := self._answer.readline():
            event = json.loads(line)
            self.seen.append((event["type"], event["object"]["metadata"].get("name", "")))

    def close(self) -> None:
        """Wait for the end of the stream, by its timeoutSeconds."""
        self._thread.join(timeout=10)
        self._connection.close()


def test_watch_goes_on_from_a_version_and_honours_selectors(http: Http, cluster: EmbeddedCluster) -> None:
    http("POST", WIDGETS, widget("before", 2))
    version = http("GET", WIDGETS)[1]["metadata"]["resourceVersion"]
    http("POST", WIDGETS, widget("early", 2))
    watch = Watch(
        cluster, f"resourceVersion={version}&labelSelector=size%3D2&timeoutSeconds=2&allowWatchBookmarks=true"
    )
    http("POST", WIDGETS, widget("other", 3))
    http("PATCH", f"{WIDGETS}/other", {"metadata": {"labels": {"size": "2"}}})
    http("PATCH", f"{WIDGETS}/other", {"spec": {"colour": "blue"}})
    http("PATCH", f"{WIDGETS}/other", {"metadata": {"labels": {"size": "3"}}})
    http("DELETE", f"{WIDGETS}/early")
    watch.close()
    assert watch.seen == [
        ("ADDED", "early"), ("ADDED", "other"), ("MODIFIED", "other"), ("DELETED", "other"),
        ("DELETED", "early"), ("BOOKMARK", ""),
    ]  # fmt: skip


def test_watch_with_initial_events(http: Http, cluster: EmbeddedCluster) -> None:
    http("POST", WIDGETS, widget("a"))
    watch = Watch(cluster, "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1")
    watch.close()
    assert watch.seen[:2] == [("ADDED", "a"), ("BOOKMARK", "")]


def test_faults_before_and_after_the_effect(http: Http, cluster: EmbeddedCluster) -> None:
    cluster.faults.fail("create", "widgets", status=503)
    assert http("POST", WIDGETS, widget("a"))[0] == 503
    assert http("GET", f"{WIDGETS}/a")[0] == 404
    cluster.faults.fail("create", "widgets", status=500, after_effect=True)
    assert http("POST", WIDGETS, widget("a"))[0] == 500
    assert http("GET", f"{WIDGETS}/a")[0] == 200
    cluster.faults.fail("patch", "widgets/status", status=409, times=2)
    answers = [http("PATCH", f"{WIDGETS}/a/status", {"status": {"n": n}})[0] for n in range(3)]
    assert answers == [409, 409, 200]
    cluster.faults.fail("delete", "widgets", status=0, after_effect=True)
    with pytest.raises(OSError, match=r"closed|reset|Remote"):
        http("DELETE", f"{WIDGETS}/a")
    assert http("GET", f"{WIDGETS}/a")[0] == 404
    assert [(a.verb, a.name) for a in cluster.requests("delete")] == [("delete", "a")]


def test_a_deleted_namespace_takes_everything_along(http: Http, cluster: EmbeddedCluster) -> None:
    http("POST", WIDGETS, {"metadata": {"name": "a", "finalizers": ["x/y"]}, "spec": {"size": 1}})
    cluster.delete("namespace", "shop")
    end = time.monotonic() + 5
    while "deletionTimestamp" not in http("GET", f"{WIDGETS}/a")[1]["metadata"]:
        assert time.monotonic() < end
    assert http("POST", WIDGETS, widget("b"))[1]["reason"] == "Forbidden"
    http("PATCH", f"{WIDGETS}/a", {"metadata": {"finalizers": []}})
    cluster.wait_for("namespace", "shop", lambda obj: obj is None, timeout=5)


@pytest.mark.parametrize(
    ("rule", "value", "holds"),
    [
        ("self == 1 || self in [2, 3]", 3, True),
        ("has(self.a) != has(self.b)", {"a": 1}, True),
        ("has(self.a) && self.a > 1", {}, False),
        ("self.a > 1 || true", {}, True),  # an error does not matter when the other side settles it
        ("size(self) == 2 && self.matches('^a.$')", "ab", True),
        ("self.exists_one(x, x % 2 == 0)", [1, 2, 4], False),
        ("self.map(x, x + 1) == [2, 3]", [1, 2], True),
        ("quantity(self).compareTo(quantity('1Gi')) >= 0", "2000Mi", True),
        ("quantity(self).sub(quantity('1Ki')).compareTo(quantity('1Ki')) == 0", "2Ki", True),
        ("duration(self) > duration('5m')", "1h30m", True),
        ("duration(self) > duration('5m')", "soon", False),
        ("self.size() < 1 ? false : !(self[0] == 'x')", ["y"], True),
    ],
)
def test_rules_in_cel(rule: str, value: Any, holds: bool) -> None:
    assert (broken({"rule": rule}, value, None) is None) is holds


def test_rules_that_are_not_known_are_not_passed_over() -> None:
    with pytest.raises(SyntaxError, match="sorted"):
        compiled("self.sorted() == self")
