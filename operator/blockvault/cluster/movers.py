"""Movers: what they are told, and the Jobs that they run in. Pure."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from itertools import product
from typing import Any

from blockvault.api import MoverTemplate
from blockvault.core import naming
from blockvault.engine import Access

from .settings import Settings
from .templates import Object, Owner

# Exit codes of a mover that another try would not mend (docs/exit-codes.md); 75 and signals are tried again.
PERMANENT_EXIT_CODES = [64, 65, 66, 70, 74, 77]
RESOURCES: Object = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}

# Movers of one moment go to nodes evenly (F10), as far as volumes can be reached there: none waits for that.
SPREAD = [
    {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {
            "matchLabels": {naming.MANAGED_BY_LABEL: naming.MANAGED_BY},
            "matchExpressions": [{"key": naming.OPERATION_LABEL, "operator": "Exists"}],
        },
    }
]


def mover_secret(owner: Owner, namespace: str, request: Object, access: Access) -> Object:
    """What one mover is told: its request, the store's credentials and keys, in the operator's namespace only."""
    location = access.location
    credentials = location.credentials
    data = {
        "request.json": json.dumps(request),
        "AWS_ACCESS_KEY_ID": credentials.access_key if credentials else None,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key if credentials else None,
        "AWS_SESSION_TOKEN": credentials.session_token if credentials else None,
        "ca.crt": location.ca_bundle,
        "vault.key": access.key,
        "previous.key": access.previous_key,
    }
    return {
        "metadata": owner.metadata(namespace, name=owner.mover_name),
        "type": "Opaque",
        "data": {
            key: b64encode(value.encode() if isinstance(value, str) else value).decode()
            for key, value in data.items()
            if value
        },
    }


def mover_request(operation: str, owner: Owner, access: Access, **rest: Any) -> Object:
    """The request that a mover reads; the store without its secrets, which lie beside it as files."""
    store = access.location.to_dict()
    for secret in ("credentials", "ca_bundle"):
        store.pop(secret, None)
    return {
        "version": 1,
        "operation": operation,
        "operationId": owner.uid,
        "attempt": owner.attempt,
        "store": store,
        "actor": access.actor,
        **rest,
    }


def mover_job(
    owner: Owner,
    settings: Settings,
    template: MoverTemplate | None,
    *,
    run: int | None = None,
    device: bool = True,
    node_affinity: Object | None = None,
    avoid: Sequence[str] = (),
    token_audience: str | None = None,
) -> Object:
    """The mover's Job, scheduled as its VaultClass says (F26). `device`: the owner's raw claim is given to it.

    `run`: of a Vault, whose movers are numbered so. `avoid`: nodes that died; a toleration may allow them all the same.
    `token_audience`: of a token that it shows to the storage's SnapshotMetadata service, and that nobody else takes.

    Root inside, because the kubelet gives raw devices to root only (no fsGroup for them), but with every
    capability dropped. A pod that is drained or preempted does not count as a failure.
    """
    wanted = template or MoverTemplate()
    metadata = owner.metadata(settings.namespace, name=naming.job_name(owner.uid, run or owner.attempt))
    secrets = [*settings.image_pull_secrets, *(ref.name for ref in wanted.image_pull_secrets or [])]
    # Snapshots carry no topology: where the source can be reached, its clone can.
    affinity = _avoiding(_affinity(wanted.affinity or {}, node_affinity), avoid)
    chosen: Object = {
        "imagePullSecrets": [{"name": secret} for secret in dict.fromkeys(secrets)],
        "affinity": affinity,
        "tolerations": wanted.tolerations,
        "nodeSelector": wanted.node_selector,
        "priorityClassName": wanted.priority_class_name,
        "topologySpreadConstraints": SPREAD,
    }
    return {
        "metadata": metadata,
        "spec": {
            "backoffLimit": 6,
            "ttlSecondsAfterFinished": 3600,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": "mover",
                            "operator": "In",
                            "values": PERMANENT_EXIT_CODES,
                        },
                    },
                ]
            },
            "template": {
                # Ours come last: by them the operator finds its pods again.
                "metadata": {
                    "labels": {**(wanted.labels or {}), **metadata["labels"]},
                    "annotations": {**(wanted.annotations or {}), **metadata["annotations"]},
                },
                "spec": _pod(owner, settings, wanted, device=device, token_audience=token_audience)
                | {key: value for key, value in chosen.items() if value},
            },
        },
    }


def _pod(
    owner: Owner, settings: Settings, template: MoverTemplate, *, device: bool, token_audience: str | None
) -> Object:
    name = owner.mover_name
    container: Object = {
        "name": "mover",
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["mover"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": template.resources or RESOURCES,
        "volumeMounts": [
            {"name": "request", "mountPath": naming.REQUEST_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }
    volumes: list[Object] = [
        {"name": "request", "secret": {"secretName": name, "defaultMode": 0o400}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if device:
        container["volumeDevices"] = [{"name": "volume", "devicePath": naming.DEVICE_PATH}]
        volumes.append({"name": "volume", "persistentVolumeClaim": {"claimName": name, "readOnly": False}})
    if token_audience:
        container["volumeMounts"].append({"name": "token", "mountPath": naming.TOKEN_DIR, "readOnly": True})
        token = {"audience": token_audience, "expirationSeconds": 3600, "path": naming.TOKEN_FILE}
        sources = [{"serviceAccountToken": token}]
        volumes.append({"name": "token", "projected": {"sources": sources, "defaultMode": 0o400}})
    return {
        "restartPolicy": "Never",
        "serviceAccountName": settings.mover_service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 15,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": volumes,
    }


def _affinity(wanted: Object, node_affinity: Object | None) -> Object:
    """The class's affinity, and where the volume can be reached: both must hold."""
    if not node_affinity:
        return wanted
    nodes = wanted.get("nodeAffinity") or {}
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    return {**wanted, "nodeAffinity": {**nodes, key: _both(nodes.get(key), node_affinity)}}


def _avoiding(wanted: Object, nodes: Sequence[str]) -> Object:
    """The affinity, and other nodes than these where there are any."""
    if not nodes:
        return wanted
    affinity, key = wanted.get("nodeAffinity") or {}, "preferredDuringSchedulingIgnoredDuringExecution"
    others = {
        "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": [name]} for name in nodes]
    }
    preferred = [*affinity.get(key, []), {"weight": 100, "preference": others}]
    return {**wanted, "nodeAffinity": {**affinity, key: preferred}}


def _both(one: Object | None, other: Object) -> Object:
    """A node selector that asks for two: of each, one of its terms must hold."""
    if not (one or {}).get("nodeSelectorTerms"):
        return other
    assert one is not None
    return {
        "nodeSelectorTerms": [
            {
                key: [*a.get(key, []), *b.get(key, [])]
                for key in ("matchExpressions", "matchFields")
                if a.get(key) or b.get(key)
            }
            for a, b in product(one["nodeSelectorTerms"], other["nodeSelectorTerms"])
        ]
    }
