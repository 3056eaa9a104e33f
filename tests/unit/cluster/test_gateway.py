"""The gateway says the right thing over HTTP and understands each answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from kubernetes.aio import client as k8s

from blockvault.cluster.gateway import ConflictError, Gateway, GatewayError
from blockvault.cluster.resources import BACKUPS, CLAIMS, JOBS, VERBS, VOLUMES, Resource

Answer = Callable[[web.Request], Awaitable[web.Response]]


@dataclass
class Server:
    """Answers from a script and remembers what it was asked."""

    answers: list[tuple[int, Any]] = field(default_factory=list)
    asked: list[tuple[str, str, str, Any]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        body = json.loads(text) if text else None
        self.asked.append((request.method, request.path_qs, request.headers.get("Content-Type", ""), body))
        status, answer = self.answers.pop(0)
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return web.Response(status=status, text=text, content_type="application/json")


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def gateway(server: Server) -> AsyncIterator[Gateway]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    configuration = k8s.Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    configuration.retries = None
    gateway = Gateway(k8s.ApiClient(configuration))
    yield gateway
    await gateway.close()
    await runner.cleanup()


def test_paths() -> None:
    assert CLAIMS.path("shop", "db") == "/api/v1/namespaces/shop/persistentvolumeclaims/db"
    assert JOBS.path("shop") == "/apis/batch/v1/namespaces/shop/jobs"
    assert VOLUMES.path(None, "pv") == "/api/v1/persistentvolumes/pv"
    assert (
        BACKUPS.path("shop", "b", "status")
        == "/apis/blockvault.dev/v1alpha1/namespaces/shop/backups/b/status"
    )


@pytest.mark.parametrize("wrong", [(VOLUMES, "shop", "pv"), (CLAIMS, None, "db")])
def test_a_path_that_would_name_another_object_is_refused(wrong: tuple[Resource, str | None, str]) -> None:
    """Without its namespace the path of a claim would be that of the whole collection below it."""
    resource, namespace, name = wrong
    with pytest.raises(ValueError, match="namespace"):
        resource.path(namespace, name)


async def test_absence_is_none_and_only_absence(gateway: Gateway, server: Server) -> None:
    server.answers = [(404, {"message": "not found"}), (403, {"message": "forbidden"}), (500, "boom")]
    assert await gateway.get(CLAIMS, "db", "shop") is None
    with pytest.raises(GatewayError, match="forbidden") as refused:
        await gateway.get(CLAIMS, "db", "shop")
    assert (refused.value.status, refused.value.permanent) == (403, True)
    with pytest.raises(GatewayError) as broken:
        await gateway.get(CLAIMS, "db", "shop")
    assert (broken.value.status, broken.value.permanent) == (500, False)


async def test_lists_by_labels_and_an_absent_kind_is_empty(gateway: Gateway, server: Server) -> None:
    server.answers = [(200, {"items": [{"metadata": {"name": "a"}}]}), (404, {})]
    found = await gateway.list_objects(JOBS, "shop", labels={"a/b": "c", "d": "e"})
    assert [o["metadata"]["name"] for o in found] == ["a"]
    assert server.asked[0][1] == "/apis/batch/v1/namespaces/shop/jobs?labelSelector=a/b%3Dc,d%3De"
    assert await gateway.list_objects(JOBS) == []


async def test_pages_are_walked_to_the_end(gateway: Gateway, server: Server) -> None:
    """And a walk that the server has forgotten is an error, and never half a list."""
    first = {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "t/1="}}
    server.answers = [(200, first), (200, {"items": [{"metadata": {"name": "b"}}], "metadata": {}})]
    found = [[o["metadata"]["name"] for o in page] async for page in gateway.pages(BACKUPS)]
    assert found == [["a"], ["b"]]
    assert server.asked[0][1].endswith("/backups?limit=200")
    assert server.asked[1][1].endswith("/backups?limit=200&continue=t/1%3D")
    server.answers = [(200, first), (410, {"message": "the provided continue parameter is too old"})]
    with pytest.raises(GatewayError) as forgotten:
        _ = [page async for page in gateway.pages(BACKUPS)]
    assert forgotten.value.status == 410
    server.answers = [(404, {})]
    assert [page async for page in gateway.pages(BACKUPS)] == [[]]


async def test_creating_twice_is_the_same_as_once(gateway: Gateway, server: Server) -> None:
    there = {"metadata": {"name": "j", "namespace": "shop", "uid": "1"}}
    server.answers = [(409, {"message": "already exists"}), (200, there)]
    body = {"metadata": {"name": "j", "namespace": "shop"}}
    assert await gateway.ensure(JOBS, body) == there
    method, path, _, sent = server.asked[0]
    assert (method, path) == ("POST", "/apis/batch/v1/namespaces/shop/jobs")
    assert (sent["apiVersion"], sent["kind"]) == ("batch/v1", "Job")


async def test_a_conflict_whose_object_is_gone_again_is_said(gateway: Gateway, server: Server) -> None:
    server.answers = [(409, {"message": "being deleted"}), (404, {})]
    with pytest.raises(ConflictError, match="being deleted"):
        await gateway.ensure(JOBS, {"metadata": {"name": "j", "namespace": "shop"}})


async def test_status_is_a_merge_patch_of_the_subresource(gateway: Gateway, server: Server) -> None:
    server.answers = [(200, {}), (404, {})]
    await gateway.patch_status(BACKUPS, "b", "shop", {"phase": "Pending", "progress": None})
    assert server.asked[0] == (
        "PATCH",
        "/apis/blockvault.dev/v1alpha1/namespaces/shop/backups/b/status",
        "application/merge-patch+json",
        {"status": {"phase": "Pending", "progress": None}},
    )
    await gateway.patch_status(BACKUPS, "gone", "shop", {})  # deleted meanwhile: nothing to tell anybody


async def test_deletion_of_one_uid_leaves_another_object_alone(gateway: Gateway, server: Server) -> None:
    server.answers = [(409, {"message": "uid in precondition: x, uid in object meta: y"}), (200, {})]
    assert await gateway.delete(CLAIMS, "db", "shop", uid="x") is False
    assert server.asked[0][3] == {"propagationPolicy": "Background", "preconditions": {"uid": "x"}}
    assert await gateway.delete(CLAIMS, "db", "shop") is True


async def test_no_answer_is_an_error_with_status_zero(gateway: Gateway) -> None:
    gateway._api.configuration.host = "http://127.0.0.1:1"
    with pytest.raises(GatewayError, match="no answer") as error:
        await gateway.get(CLAIMS, "db", "shop")
    assert error.value.status == 0


async def test_an_answer_that_is_not_json_is_an_error(gateway: Gateway, server: Server) -> None:
    server.answers = [(200, "<html>proxy</html>")]
    with pytest.raises(GatewayError, match="not JSON"):
        await gateway.get(CLAIMS, "db", "shop")


async def test_the_log_of_a_container_not_yet_started_is_empty(gateway: Gateway, server: Server) -> None:
    server.answers = [(400, {"message": "container is waiting to start"}), (200, '{"a":1}\nlast')]
    assert await gateway.pod_log("p", "shop", tail_lines=5) == ""
    assert await gateway.pod_log("p", "shop", tail_lines=5) == '{"a":1}\nlast'
    assert server.asked[1][1] == "/api/v1/namespaces/shop/pods/p/log?tailLines=5"


def test_no_role_may_read_all_secrets() -> None:
    """Least privilege: Secrets are read by name, listed nowhere."""
    for scope in VERBS.values():
        assert not {"list", "watch"} & scope.get(("", "secrets"), frozenset())


@pytest.mark.parametrize(
    "name", ["../../secrets/key", "..", ".", "a/b", "a%2Fb", "a?watch=1", "a#b", "Ä", "", "a\n"]
)
async def test_what_is_no_name_leads_nowhere(gateway: Gateway, server: Server, name: str) -> None:
    """A claim's volumeName, and a dataSourceRef's name, are a tenant's text, and no API server checks them."""
    assert await gateway.get(VOLUMES, name) is None
    assert await gateway.get(BACKUPS, name, "shop") is None
    if name:
        with pytest.raises(ValueError, match="is no name of a"):
            BACKUPS.path("shop", name)
        with pytest.raises(ValueError, match="is no name of a"):
            BACKUPS.path(name)
    assert server.asked == []


async def test_what_is_there_is_followed_by_what_happens_to_it(gateway: Gateway, server: Server) -> None:
    def line(what: str, version: str, name: str = "x") -> str:
        obj = {"metadata": {"name": name, "resourceVersion": version}}
        return json.dumps({"type": what, "object": obj}) + "\n"

    server.answers = [
        (200, {"metadata": {"continue": "t"}, "items": [{"metadata": {"name": "a"}}]}),
        (200, {"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "b"}}]}),
        (200, line("ADDED", "8", "c") + line("BOOKMARK", "9")),
        (200, json.dumps({"type": "ERROR", "object": {"code": 410}}) + "\n"),
    ]
    seen = [(what, obj["metadata"]["name"]) async for what, obj in gateway.follow(CLAIMS)]
    assert seen == [("LISTED", "a"), ("LISTED", "b"), ("ADDED", "c")]
    # Each watch goes on where the former one ended, and what the server has forgotten ends it.
    since = [path.split("resourceVersion=")[1].split("&")[0] for _, path, _, _ in server.asked[2:]]
    assert since == ["7", "9"]


async def test_a_watch_that_is_refused_says_so(gateway: Gateway, server: Server) -> None:
    server.answers = [(200, {"metadata": {"resourceVersion": "7"}}), (403, {"message": "forbidden"})]
    with pytest.raises(GatewayError, match=r"WATCH .*forbidden"):
        _ = [each async for each in gateway.follow(CLAIMS)]


async def test_objects_are_chosen_by_what_their_fields_are_and_are_not(
    gateway: Gateway, server: Server
) -> None:
    server.answers = [(200, {"items": []})]
    ended = [("status.phase", "Available"), ("status.phase", "Error")]
    await gateway.list_objects(BACKUPS, "shop", fields={"spec.resource.name": "db"}, but=ended)
    (_, asked, _, _) = server.asked[0]
    selector = parse_qs(urlsplit(asked).query)["fieldSelector"]
    assert selector == ["spec.resource.name=db,status.phase!=Available,status.phase!=Error"]
