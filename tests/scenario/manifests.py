"""The manifests that a user applies."""

from __future__ import annotations

from base64 import b64encode

from .environment import OPERATOR_NAMESPACE, Object, Storage

API = "blockvault.dev/v1alpha1"


def vault_class(name: str, storage: Storage, prefix: str) -> list[Object]:
    """A VaultClass on that bucket, with its credentials in the operator's namespace."""
    data = {"AWS_ACCESS_KEY_ID": storage.access_key, "AWS_SECRET_ACCESS_KEY": storage.secret_key}
    s3: Object = {
        "endpoint": storage.endpoint,
        "region": storage.region,
        "bucket": storage.bucket,
        "prefix": prefix,
        "addressing": "path",
        "credentialsSecretRef": {"name": f"{name}-s3"},
    }
    secrets = [secret(f"{name}-s3", OPERATOR_NAMESPACE, data)]
    if storage.ca_bundle:
        secrets.append(secret(f"{name}-ca", OPERATOR_NAMESPACE, {"ca.crt": storage.ca_bundle}))
        s3["caBundleSecretRef"] = {"name": f"{name}-ca"}
    return [
        *secrets,
        {
            "apiVersion": API,
            "kind": "VaultClass",
            "metadata": {"name": name},
            "spec": {"storage": {"s3": s3}},
        },
    ]


def secret(name: str, namespace: str, data: dict[str, str]) -> Object:
    """A Secret."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": {key: b64encode(value.encode()).decode() for key, value in data.items()},
    }


def vault(name: str, class_name: str) -> Object:
    """A Vault of that class."""
    spec = {"type": "Disk", "capacity": "10Gi", "className": class_name}
    return {"apiVersion": API, "kind": "Vault", "metadata": {"name": name}, "spec": spec}


def backup(name: str, vault_name: str, claim: str) -> Object:
    """A Backup of one claim."""
    spec = {"vaultRef": {"name": vault_name}, "resource": {"kind": "PersistentVolumeClaim", "name": claim}}
    return {"apiVersion": API, "kind": "Backup", "metadata": {"name": name}, "spec": spec}


def restore(name: str, backup_name: str, claim: str, storage_class: str, size: str) -> Object:
    """A Restore to a new claim."""
    new_claim = {
        "name": claim,
        "storageClassName": storage_class,
        "size": size,
        "accessModes": ["ReadWriteOnce"],
    }
    spec = {"backupRef": {"name": backup_name}, "target": {"newClaim": new_claim}}
    return {"apiVersion": API, "kind": "Restore", "metadata": {"name": name}, "spec": spec}
