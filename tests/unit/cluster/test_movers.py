"""Mover Jobs: scheduled as the class says (F26), with what keeps them safe and findable."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace

import pytest

from blockvault.api import MoverTemplate
from blockvault.cluster.movers import RESOURCES, mover_job, mover_request, mover_secret
from blockvault.cluster.settings import Settings
from blockvault.cluster.templates import Owner
from blockvault.core.naming import TOKEN_DIR, TOKEN_FILE
from blockvault.engine import Access, BadRequest
from blockvault.mover.request import Asked, Request, load
from blockvault.stores import Credentials, StoreLocation

OWNER = Owner("Backup", "shop", "b", "uid-1", "db")
KEY = "requiredDuringSchedulingIgnoredDuringExecution"


def term(key: str) -> dict[str, object]:
    return {"matchExpressions": [{"key": key, "operator": "Exists"}]}


def test_without_a_template_it_is_as_ever() -> None:
    pod = mover_job(OWNER, Settings(image_pull_secrets=("regcred",)), None)["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"] == RESOURCES
    assert pod["imagePullSecrets"] == [{"name": "regcred"}]
    assert {"affinity", "tolerations", "nodeSelector", "priorityClassName"}.isdisjoint(pod)


def test_f26_a_class_says_how_its_movers_are_scheduled() -> None:
    template = MoverTemplate.model_validate(
        {
            "resources": {"limits": {"memory": "2Gi"}},
            "tolerations": [{"key": "backup", "operator": "Exists"}],
            "nodeSelector": {"disk": "fast"},
            "priorityClassName": "low",
            "labels": {"team": "ops", "blockvault.dev/operation": "forged"},
            "annotations": {"note": "x"},
            "imagePullSecrets": [{"name": "regcred"}, {"name": "other"}],
        }
    )
    job = mover_job(OWNER, Settings(image_pull_secrets=("regcred",)), template)
    body = job["spec"]["template"]
    pod = body["spec"]
    assert pod["containers"][0]["resources"] == {"limits": {"memory": "2Gi"}}
    assert (pod["nodeSelector"], pod["priorityClassName"]) == ({"disk": "fast"}, "low")
    assert pod["tolerations"] == [{"key": "backup", "operator": "Exists"}]
    assert pod["imagePullSecrets"] == [{"name": "regcred"}, {"name": "other"}]
    assert (body["metadata"]["labels"]["team"], body["metadata"]["annotations"]["note"]) == ("ops", "x")
    # By this label the operator finds its pods.
    assert body["metadata"]["labels"]["blockvault.dev/operation"] == "uid-1"
    assert "team" not in job["metadata"]["labels"]


def test_f10_movers_of_one_moment_spread_over_the_nodes() -> None:
    """Their own labels are what they are counted by, and none waits for an even spread."""
    template = mover_job(OWNER, Settings(), None)["spec"]["template"]
    (constraint,) = template["spec"]["topologySpreadConstraints"]
    assert constraint["topologyKey"] == "kubernetes.io/hostname"
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
    selector, labels = constraint["labelSelector"], template["metadata"]["labels"]
    assert selector["matchLabels"].items() <= labels.items()
    assert {each["key"] for each in selector["matchExpressions"]} <= set(labels)


def test_f26_the_class_s_affinity_and_the_volume_s_place_must_both_hold() -> None:
    wanted = {"nodeAffinity": {KEY: {"nodeSelectorTerms": [term("a"), term("b")]}}, "podAffinity": {"x": 1}}
    volume = {"nodeSelectorTerms": [term("zone")]}
    template = MoverTemplate.model_validate({"affinity": wanted})
    affinity = mover_job(OWNER, Settings(), template, node_affinity=volume)["spec"]["template"]["spec"][
        "affinity"
    ]
    assert affinity["podAffinity"] == {"x": 1}
    terms = affinity["nodeAffinity"][KEY]["nodeSelectorTerms"]
    assert [[e["key"] for e in t["matchExpressions"]] for t in terms] == [["a", "zone"], ["b", "zone"]]
    alone = mover_job(OWNER, Settings(), None, node_affinity=volume)["spec"]["template"]["spec"]["affinity"]
    assert alone == {"nodeAffinity": {KEY: volume}}


def test_f2_the_next_mover_has_names_of_its_own_and_would_rather_run_elsewhere() -> None:
    second = replace(OWNER, attempt=2)
    job = mover_job(second, Settings(), None, avoid=["node2"])
    pod = job["spec"]["template"]["spec"]
    assert job["metadata"]["name"] == "bv-uid-1-2"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["request"]["secret"]["secretName"] == "bv-uid-1-2"
    assert volumes["volume"]["persistentVolumeClaim"]["claimName"] == "bv-uid-1-2"
    access = Access(StoreLocation("s3://b/p", credentials=Credentials("id", "secret")))
    request = mover_request("backup", second, access, volume="shop/db", device="/dev/x")
    assert mover_secret(second, "blockvault-system", request, access)["metadata"]["name"] == "bv-uid-1-2"
    assert request["attempt"] == 2
    # It may all the same: a cluster may have no other node, and the lost one may be back.
    elsewhere = {"key": "metadata.name", "operator": "NotIn", "values": ["node2"]}
    preferred = [{"weight": 100, "preference": {"matchFields": [elsewhere]}}]
    assert pod["affinity"] == {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def test_upkeep_has_no_volume_and_each_run_its_own_name() -> None:
    job = mover_job(Owner("Vault", "shop", "v", "uid-2"), Settings(), None, run=7, device=False)
    pod = job["spec"]["template"]["spec"]
    assert job["metadata"]["name"] == "bv-uid-2-7"
    assert "volumeDevices" not in pod["containers"][0]
    assert [v["name"] for v in pod["volumes"]] == ["request", "tmp"]
    assert "blockvault.dev/claim" not in job["metadata"]["labels"]


def test_a_mover_reads_what_the_operator_wrote_and_no_secret_stands_in_its_request(tmp_path) -> None:  # type: ignore[no-untyped-def]
    location = StoreLocation("s3://b/p", ca_bundle="PEM", credentials=Credentials("id", "secret", "token"))
    access = Access(location, key=bytes(range(32)), previous_key=b"before", actor="here")
    request = mover_request(
        "backup", OWNER, access, volume="shop/db", device="/dev/x", full=True, meta={"a": 1}
    )
    secret = mover_secret(OWNER, "blockvault-system", request, access)
    assert (secret["metadata"]["name"], secret["metadata"]["namespace"]) == ("bv-uid-1", "blockvault-system")
    text = json.dumps(request)
    assert not [word for word in ("secret", "token", "PEM", "before") if word in text]
    for name, value in secret["data"].items():
        (tmp_path / name).write_bytes(b64decode(value))
    read = load(str(tmp_path / "request.json"))
    # Where its keys lie is known to it, as they may be exchanged while it runs.
    assert read.access == replace(access, location=replace(location, secrets_folder=str(tmp_path)))
    assert (read.volume, read.device, read.full, read.meta) == ("shop/db", "/dev/x", True, {"a": 1})


def test_f1_a_mover_that_asks_a_service_has_a_token_for_it_and_for_nobody_else() -> None:
    plain = mover_job(OWNER, Settings(), None)["spec"]["template"]["spec"]
    assert [v["name"] for v in plain["volumes"]] == ["request", "tmp", "volume"]
    job = mover_job(OWNER, Settings(), None, token_audience="storage")
    pod = job["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    (volume,) = [v for v in pod["volumes"] if v["name"] == "token"]
    (source,) = volume["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "storage"
    (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "token"]
    assert mount["readOnly"]
    path = f"{mount['mountPath']}/{source['serviceAccountToken']['path']}"
    assert path == f"{TOKEN_DIR}/{TOKEN_FILE}"


def test_f1_a_mover_reads_whom_to_ask_or_why_nobody(tmp_path) -> None:  # type: ignore[no-untyped-def]
    access = Access(StoreLocation("s3://b/p"))

    def read(changed: object) -> Request:
        request = mover_request("backup", OWNER, access, volume="v", device="/dev/x", changedBlocks=changed)
        (tmp_path / "request.json").write_text(json.dumps(request))
        return load(str(tmp_path / "request.json"))

    asked = {
        "service": {"address": "a:1", "caCert": "PEM"},
        "tokenPath": "/token",
        "snapshot": {"namespace": "own", "name": "bv-1"},
        "base": {"handle": "snap-0", "backupId": "id-0"},
    }
    assert read(asked).asked == Asked("a:1", "PEM", "/token", "own", "bv-1", "snap-0", "id-0")
    assert (read({"reason": "NoBase"}).asked, read({"reason": "NoBase"}).no_list) == (None, "NoBase")
    assert (read(None).asked, read(None).no_list) == (None, None)
    for wrong in ({**asked, "base": {"handle": "", "backupId": "x"}}, {**asked, "tokenPath": 1}):
        with pytest.raises(BadRequest, match="everything as text"):
            read(wrong)
    with pytest.raises(BadRequest, match="tokenPath is missing"):
        read({key: value for key, value in asked.items() if key != "tokenPath"})
