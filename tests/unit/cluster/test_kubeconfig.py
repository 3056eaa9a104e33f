"""The way to a cluster: which context, namespace, address and credentials are meant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from blockvault.cluster.kubeconfig import KubeconfigError, Way, connect, contexts


def config(path: Path, *names: str, current: str | None = None, **context: str) -> Path:
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": n, "cluster": {"server": f"https://{n}.example.com"}} for n in names],
        "users": [{"name": n, "user": {"token": f"token-{n}"}} for n in names],
        "contexts": [{"name": n, "context": {"cluster": n, "user": n} | context} for n in names],
    }
    if current:
        body["current-context"] = current
    path.write_text(yaml.safe_dump(body))
    return path


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


async def way(**given: Any) -> tuple[str, str, str]:
    """Address, credentials and namespace."""
    gateway, namespace = await connect(Way(**given))
    configuration = gateway._api.configuration
    try:
        return gateway.url, str(configuration.api_key.get("BearerToken")), namespace
    finally:
        await gateway.close()


async def test_the_current_context_and_what_overrides_it(tmp_path: Path) -> None:
    path = str(config(tmp_path / "c", "one", "two", current="one", namespace="shop"))
    assert await way(kubeconfig=path) == ("https://one.example.com", "Bearer token-one", "shop")
    assert await way(kubeconfig=path, context="two", namespace="x") == (
        "https://two.example.com",
        "Bearer token-two",
        "x",
    )
    assert await way(kubeconfig=path, user="two") == ("https://one.example.com", "Bearer token-two", "shop")
    assert await way(kubeconfig=path, cluster="two") == (
        "https://two.example.com",
        "Bearer token-one",
        "shop",
    )
    assert await way(kubeconfig=path, server="https://x/", token="t") == ("https://x", "Bearer t", "shop")


async def test_several_kubeconfigs_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (
        config(tmp_path / "a", "one", current="one"),
        config(tmp_path / "b", "two", namespace="else"),
    )
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(first), str(tmp_path / "missing"), str(second)]))
    assert contexts(None) == ["one", "two"]
    assert (await way())[0] == "https://one.example.com"
    assert await way(context="two") == ("https://two.example.com", "Bearer token-two", "else")


async def test_somebody_else_is_acted_for(tmp_path: Path) -> None:
    path = str(config(tmp_path / "c", "one", current="one"))
    gateway, _ = await connect(Way(kubeconfig=path, as_user="jane", as_group="editors"))
    headers = gateway._api.default_headers
    await gateway.close()
    assert (headers["Impersonate-User"], headers["Impersonate-Group"]) == ("jane", "editors")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kubeconfig": "/nowhere"}, "there is no kubeconfig at /nowhere"),
        ({}, "there is no kubeconfig at ~/.kube/config"),
        ({"kubeconfig": "{}", "context": "three"}, "the kubeconfig has no context three"),
        ({"kubeconfig": "{}"}, "the kubeconfig has no current context"),
        ({"kubeconfig": "{}", "context": "one", "user": "nobody"}, "nobody"),
    ],
)
async def test_what_is_missing_is_named(tmp_path: Path, given: dict[str, str], words: str) -> None:
    path = str(config(tmp_path / "c", "one", "two"))
    given = {key: path if value == "{}" else value for key, value in given.items()}
    with pytest.raises(KubeconfigError, match=words):
        await connect(Way(**given))


async def test_credentials_that_a_program_gives(tmp_path: Path) -> None:
    path = config(tmp_path / "c", "one", current="one")
    body = yaml.safe_load(path.read_text())
    answer = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"from-exec"}}'
    body["users"][0]["user"] = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "echo", "args": [answer]}
    }
    path.write_text(yaml.safe_dump(body))
    assert (await way(kubeconfig=str(path)))[1] == "Bearer from-exec"


async def test_a_broken_certificate_is_told(tmp_path: Path) -> None:
    path = str(config(tmp_path / "c", "one", current="one"))
    (tmp_path / "ca").write_text("no certificate")
    with pytest.raises(KubeconfigError, match="certificates cannot be used"):
        await connect(Way(kubeconfig=path, certificate_authority=str(tmp_path / "ca")))
