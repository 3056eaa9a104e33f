"""The way to a cluster that a person names: kubeconfig, context, and what overrides them, as kubectl has it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kubernetes.aio import client as k8s
from kubernetes.aio import config as k8s_config
from kubernetes.aio.config.kube_config import KubeConfigLoader, KubeConfigMerger

from .gateway import Gateway

DEFAULT_PATH = "~/.kube/config"
IN_CLUSTER_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
# Of the context that is made of a context and what overrides it.
CHOSEN = "\0chosen"


class KubeconfigError(Exception):
    """No way to a cluster: the message has what is missing."""


@dataclass(frozen=True)
class Way:
    """What somebody says on the command line; None: as the kubeconfig says. `timeout` in seconds."""

    kubeconfig: str | None = None
    context: str | None = None
    cluster: str | None = None
    user: str | None = None
    namespace: str | None = None
    server: str | None = None
    token: str | None = None
    as_user: str | None = None
    as_group: str | None = None
    certificate_authority: str | None = None
    insecure: bool = False
    timeout: float | None = None


async def connect(way: Way) -> tuple[Gateway, str]:
    """A gateway and the namespace that is meant. Raises KubeconfigError."""
    configuration = k8s.Configuration()
    try:
        namespace = await _load(way, configuration)
    except (k8s_config.ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        raise KubeconfigError(str(error)) from error
    if way.server:
        configuration.host = way.server.rstrip("/")
    if way.token:
        configuration.api_key["BearerToken"] = f"Bearer {way.token}"
    if way.certificate_authority:
        configuration.ssl_ca_cert = way.certificate_authority
    if way.insecure:
        configuration.verify_ssl = False
    configuration.retries = None
    # As kubectl: certificates of clusters often lack what the strict rules ask for.
    configuration.disable_strict_ssl_verification = True
    try:
        api = k8s.ApiClient(configuration)
    except OSError as error:  # ssl.SSLError is one
        raise KubeconfigError(f"certificates cannot be used: {error}") from error
    if way.as_user:
        api.set_default_header("Impersonate-User", way.as_user)
    if way.as_group:
        api.set_default_header("Impersonate-Group", way.as_group)
    return Gateway(api, timeout=way.timeout), way.namespace or namespace


async def _load(way: Way, configuration: k8s.Configuration) -> str:
    paths = way.kubeconfig or os.environ.get("KUBECONFIG") or DEFAULT_PATH
    there = _existing(paths)
    if not there:
        if way.kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            k8s_config.load_incluster_config(client_configuration=configuration)
            return _own_namespace()
        if way.server:
            return "default"
        raise KubeconfigError(f"there is no kubeconfig at {paths}")
    merged = KubeConfigMerger(os.pathsep.join(there)).config
    if merged is None:
        raise KubeconfigError(f"the kubeconfig at {paths} is empty")
    chosen = _chosen(merged.value, way)
    merged.value["contexts"] = [*(merged.value.get("contexts") or []), {"name": CHOSEN, "context": chosen}]
    loader = KubeConfigLoader(config_dict=merged, config_base_path=None, active_context=CHOSEN)
    await loader.load_and_set(configuration)
    return str(chosen.get("namespace") or "default")


def _existing(paths: str) -> list[str]:
    found = (os.path.expanduser(path) for path in paths.split(os.pathsep) if path)
    return [path for path in found if os.path.exists(path)]


def _own_namespace() -> str:
    with open(IN_CLUSTER_NAMESPACE, encoding="utf-8") as file:
        return file.read().strip() or "default"


def _chosen(config: dict[str, object], way: Way) -> dict[str, str]:
    """The context that is meant, with what overrides it."""
    contexts = config.get("contexts") or []
    assert isinstance(contexts, list)
    name = way.context or config.get("current-context")
    found = next((dict(c["context"].value) for c in contexts if c["name"] == name), None)
    if found is None and way.context:
        raise KubeconfigError(f"the kubeconfig has no context {way.context}")
    if found is None and not (way.cluster and way.user):
        raise KubeconfigError("the kubeconfig has no current context: name one by --context")
    chosen = found or {}
    for key, value in (("cluster", way.cluster), ("user", way.user)):
        if value:
            chosen[key] = value
        there = [str(each["name"]) for each in config.get(f"{key}s") or []]  # type: ignore[attr-defined]
        if chosen.get(key) not in there:
            raise KubeconfigError(f"the kubeconfig has no {key} {chosen.get(key)}")
    return chosen


def contexts(kubeconfig: str | None) -> list[str]:
    """Names of the contexts there are; none where the kubeconfig cannot be read."""
    paths = _existing(kubeconfig or os.environ.get("KUBECONFIG") or DEFAULT_PATH)
    try:
        merged = KubeConfigMerger(os.pathsep.join(paths)).config if paths else None
    except (OSError, ValueError, AttributeError):
        return []
    return [str(each["name"]) for each in (merged.value.get("contexts") or [])] if merged else []
