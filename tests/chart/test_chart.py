"""The chart: what it renders, what it refuses, and that the operator understands what it is told."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

import blockvault
from blockvault.cluster.settings import Settings

from .helm import CHART, KUBE_VERSION, NAMESPACE, Helm, HelmError, Object, one

CLUSTER_KINDS = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}


def pod_of(objects: list[Object]) -> Object:
    pod: Object = one(objects, "Deployment")["spec"]["template"]["spec"]
    return pod


def container_of(objects: list[Object]) -> Object:
    containers: list[Object] = pod_of(objects)["containers"]
    (container,) = containers
    return container


def environment_of(objects: list[Object]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container_of(objects)["env"] if "value" in each}


def test_lint(helm: Helm) -> None:
    helm.run("lint", "--strict", CHART, "--kube-version", KUBE_VERSION)


def test_an_old_cluster_is_refused(helm: Helm) -> None:
    with pytest.raises(HelmError, match=r"requires kubeVersion: >=1\.29"):
        helm.run("template", "blockvault", CHART, "--kube-version", "1.28.9")


def test_app_version_is_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == blockvault.__version__


WRONG: list[tuple[str, Object]] = [
    ("a key that is not known", {"imagePullPolicy": "Always"}),
    ("a nested key that is not known", {"image": {"name": "x"}}),
    ("pullPolicy", {"image": {"pullPolicy": "Sometimes"}}),
    ("a repository with a tag in capitals", {"image": {"repository": "Registry/Image"}}),
    ("an empty repository", {"image": {"repository": ""}}),
    ("a tag that is a number", {"image": {"tag": 1.0}}),
    ("imagePullSecrets as names", {"imagePullSecrets": ["regcred"]}),
    ("allowTenantStorage as text", {"allowTenantStorage": "false"}),
    ("allowStopWorkload as text", {"allowStopWorkload": "false"}),
    ("allowLocalEndpoints as text", {"allowLocalEndpoints": "yes"}),
    ("a runbook address without its slash", {"prometheusRule": {"runbookUrl": "https://example.com/x"}}),
    ("an interval", {"metrics": {"serviceMonitor": {"interval": "often"}}}),
    ("log.format", {"log": {"format": "xml"}}),
    ("crds.install as text", {"crds": {"install": "no"}}),
    ("a quantity", {"resources": {"limits": {"memory": "lots"}}}),
    ("an annotation that is no text", {"podAnnotations": {"scrape": True}}),
    ("an environment variable without a name", {"extraEnv": [{"value": "x"}]}),
    ("affinity of no kind", {"affinity": {"requiredDuringScheduling": {}}}),
    ("dnsPolicy", {"dnsPolicy": "None"}),
    ("a name that is none", {"fullnameOverride": "Block_Vault"}),
]


@pytest.mark.parametrize("values", [values for _, values in WRONG], ids=[name for name, _ in WRONG])
def test_the_schema_refuses(helm: Helm, values: Object) -> None:
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema"):
        helm.render(values)


def test_the_schema_knows_every_value_and_nothing_else() -> None:
    """Both ways, so that neither a value without a schema nor a schema without a comment stays."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def resolve(node: Object) -> Object:
        return schema["definitions"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node

    def compare(node: Object, value: Any, path: str) -> None:
        node = resolve(node)
        if node.get("additionalProperties") is not False or not isinstance(value, dict) or not value:
            return
        assert node["properties"].keys() - {"global"} == value.keys(), path or "values"
        for key, child in value.items():
            compare(node["properties"][key], child, f"{path}.{key}".lstrip("."))

    compare(schema, values, "")


def test_as_a_dependency_helms_own_global_values_are_let_in(helm: Helm) -> None:
    assert helm.render({"global": {"imageRegistry": "registry.example.com"}})


def test_the_operator_keeps_to_the_restricted_profile(defaults: list[Object]) -> None:
    pod, container = pod_of(defaults), container_of(defaults)
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}}]
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]


def test_one_operator_at_a_time(defaults: list[Object]) -> None:
    spec = one(defaults, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_probes_ask_the_port_that_is_served(defaults: list[Object]) -> None:
    container = container_of(defaults)
    (port,) = container["ports"]
    assert port == {"name": "http", "containerPort": 8080, "protocol": "TCP"}
    for probe, path in {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}.items():
        assert container[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "http"}
    assert environment_of(defaults)["BLOCKVAULT_HTTP_PORT"] == str(port["containerPort"])


def test_the_metrics_service_finds_the_operator_only(defaults: list[Object]) -> None:
    service = one(defaults, "Service")["spec"]
    labels = one(defaults, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert service["selector"]["app.kubernetes.io/component"] == "operator"
    assert service["ports"] == [{"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}]


def test_no_metrics_service_where_none_is_wanted(helm: Helm) -> None:
    objects = helm.render({"metrics": {"service": {"enabled": False}}})
    assert not [each for each in objects if each["kind"] == "Service"]


def test_tokens_are_mounted_for_the_operator_only(defaults: list[Object]) -> None:
    accounts = {each["metadata"]["name"]: each for each in defaults if each["kind"] == "ServiceAccount"}
    assert accounts.keys() == {"blockvault", "blockvault-mover"}
    assert not any(account["automountServiceAccountToken"] for account in accounts.values())
    assert pod_of(defaults)["automountServiceAccountToken"] is True
    assert pod_of(defaults)["serviceAccountName"] == "blockvault"


def test_the_operator_understands_its_environment(helm: Helm) -> None:
    """Through the operator's own reading of it, so that neither side can rename a variable alone."""
    objects = helm.render(
        {
            "image": {"repository": "registry.example.com:5000/bv", "tag": "9.9", "pullPolicy": "Always"},
            "imagePullSecrets": [{"name": "one"}, {"name": "two"}],
            "allowTenantStorage": False,
            "allowLocalEndpoints": True,
            "log": {"format": "json"},
        },
        release="nightly",
    )
    assert container_of(objects)["image"] == "registry.example.com:5000/bv:9.9"
    assert Settings.from_environment(environment_of(objects)) == Settings(
        image="registry.example.com:5000/bv:9.9",
        image_pull_policy="Always",
        image_pull_secrets=("one", "two"),
        mover_service_account="nightly-blockvault-mover",
        allow_tenant_storage=False,
        allow_local_endpoints=True,
    )
    assert container_of(objects)["args"] == ["operator", "--log-format", "json"]
    namespace = next(each for each in container_of(objects)["env"] if each["name"] == "BLOCKVAULT_NAMESPACE")
    assert namespace["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}


def test_the_default_image_is_the_chart_versions(defaults: list[Object]) -> None:
    assert container_of(defaults)["image"] == f"blockvault:{blockvault.__version__}"
    assert container_of(defaults)["imagePullPolicy"] == "IfNotPresent"


def test_defaults_are_the_safe_ones(defaults: list[Object]) -> None:
    settings = Settings.from_environment(environment_of(defaults))
    assert settings.allow_local_endpoints is False
    assert "BLOCKVAULT_TESTING_CLOCK" not in environment_of(defaults)


def test_values_of_the_pod_arrive(helm: Helm) -> None:
    values: Object = {
        "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "nodeSelector": {"node-role.kubernetes.io/control-plane": ""},
        "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "imagePullSecrets": [{"name": "regcred"}],
    }
    extra: Object = {
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "podAnnotations": {"example.com/a": "1"},
        "podLabels": {"example.com/b": "2"},
        "serviceAccount": {"annotations": {"example.com/role": "operator"}},
        "moverServiceAccount": {"annotations": {"example.com/role": "mover"}},
    }
    objects = helm.render(values | extra)
    pod = pod_of(objects)
    found = {key: pod[key] for key in values if key != "resources"}
    assert found | {"resources": container_of(objects)["resources"]} == values
    assert environment_of(objects)["HTTPS_PROXY"] == "http://proxy:3128"
    template = one(objects, "Deployment")["spec"]["template"]["metadata"]
    assert template["annotations"]["example.com/a"] == "1"
    assert template["labels"]["example.com/b"] == "2"
    roles = {
        each["metadata"]["name"]: each["metadata"]["annotations"]["example.com/role"]
        for each in objects
        if each["kind"] == "ServiceAccount"
    }
    assert roles == {"blockvault": "operator", "blockvault-mover": "mover"}


@pytest.mark.parametrize("release", ["blockvault", "bv", "r" * 53])
def test_names_belong_to_the_release(helm: Helm, release: str) -> None:
    """Whoever installs twice sees Helm's refusal of the CRDs, not two operators under one name."""
    objects = helm.render(release=release, namespace="elsewhere")
    own = [each for each in objects if each["kind"] != "CustomResourceDefinition"]
    prefix = one(own, "Deployment")["metadata"]["name"]
    assert prefix.startswith(release[:48])
    for each in own:
        metadata = each["metadata"]
        assert metadata["name"].startswith(prefix)
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", metadata["name"])
        assert metadata.get("namespace") == (None if each["kind"] in CLUSTER_KINDS else "elsewhere")
        assert metadata["labels"]["app.kubernetes.io/instance"] == release
        for subject in each.get("subjects", []):
            assert subject["namespace"] == "elsewhere"
    keys = [(each["apiVersion"], each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(keys) == len(set(keys))


def test_nothing_is_installed_into_other_namespaces(defaults: list[Object]) -> None:
    namespaces = {each["metadata"].get("namespace") for each in defaults if each["kind"] not in CLUSTER_KINDS}
    assert namespaces == {NAMESPACE}


def test_d3_claims_may_name_our_kinds_where_data_sources_are_validated(helm: Helm) -> None:
    api = "populator.storage.k8s.io/v1beta1"
    kinds = {o["sourceKind"]["kind"] for o in helm.render(api=api) if o["kind"] == "VolumePopulator"}
    assert kinds == {"Backup", "Restore"}
    assert not [o for o in helm.render() if o["kind"] == "VolumePopulator"]
