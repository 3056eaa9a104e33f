"""The coverage of a whole cluster, kept up by events: only where something changed is counted anew (F23)."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict

from .association import CLAIM
from .coverage import cover, exclusions
from .naming import EXCLUDE_ANNOTATION, MANAGED_BY_LABEL
from .objects import Object

Counted = dict[tuple[str, str, str], int]
"""Claims by (namespace, state, why)."""

# What coverage looks at; the rest is not kept, as there may be many claims.
LINE = ("kind", "name", "state", "message", "lastBackupAt", "nextRun")


class CoverageBook:
    """What coverage looks at, of all namespaces. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[str, dict[str, Object]] = defaultdict(dict)
        self._unseen: set[tuple[str, str]] = set()
        self._vaults: dict[str, dict[str, Object]] = defaultdict(dict)
        self._excluded: dict[str, str] = {}
        self._changed: set[str] = set()
        self._counted: dict[str, Counted] = {}

    def begin_listing(self) -> None:
        """All claims are told anew from now on, until `end_listing`."""
        with self._lock:
            self._unseen = {(space, name) for space, names in self._claims.items() for name in names}

    def end_listing(self) -> None:
        """Forget the claims that were not told of since `begin_listing`: they went while nobody looked."""
        with self._lock:
            for namespace, name in self._unseen:
                self._claims[namespace].pop(name, None)
                self._changed.add(namespace)
            self._unseen.clear()

    def put_claim(self, claim: Object) -> None:
        """A claim as it is now."""
        meta = claim["metadata"]
        namespace, name = str(meta["namespace"]), str(meta["name"])
        kept_meta: Object = {"namespace": namespace, "name": name}
        for part, key in (("labels", MANAGED_BY_LABEL), ("annotations", EXCLUDE_ANNOTATION)):
            if key in (meta.get(part) or {}):
                kept_meta[part] = {key: meta[part][key]}
        if meta.get("deletionTimestamp"):
            kept_meta["deletionTimestamp"] = meta["deletionTimestamp"]
        spec, status = claim.get("spec") or {}, claim.get("status") or {}
        kept: Object = {
            "metadata": kept_meta,
            "spec": {"volumeName": bool(spec.get("volumeName"))},
            "status": {"phase": status.get("phase")},
        }
        with self._lock:
            self._unseen.discard((namespace, name))
            if self._claims[namespace].get(name) != kept:
                self._claims[namespace][name] = kept
                self._changed.add(namespace)

    def drop_claim(self, namespace: str, name: str) -> None:
        """A claim that is gone."""
        with self._lock:
            self._unseen.discard((namespace, name))
            if self._claims[namespace].pop(name, None) is not None:
                self._changed.add(namespace)

    def put_vault(self, vault: Object) -> None:
        """A Vault as it is now."""
        meta, status = vault["metadata"], vault.get("status") or {}
        namespace = str(meta["namespace"])
        lines = [line for line in status.get("resources") or [] if line.get("kind") == CLAIM]
        kept: Object = {
            "metadata": {"name": meta["name"], "namespace": namespace},
            "status": {
                "phase": "Deleting" if meta.get("deletionTimestamp") else status.get("phase"),
                "policy": {"message": (status.get("policy") or {}).get("message")},
                "resources": [{key: line[key] for key in LINE if key in line} for line in lines],
            },
        }
        with self._lock:
            if self._vaults[namespace].get(meta["uid"]) != kept:
                self._vaults[namespace][meta["uid"]] = kept
                self._changed.add(namespace)

    def drop_vault(self, namespace: str, uid: str) -> None:
        """A Vault that is gone."""
        with self._lock:
            if self._vaults[namespace].pop(uid, None) is not None:
                self._changed.add(namespace)

    def put_namespace(self, namespace: Object) -> None:
        """A namespace as it is now."""
        name = str(namespace["metadata"]["name"])
        why = exclusions([namespace]).get(name)
        with self._lock:
            if self._excluded.get(name) != why:
                self._changed.add(name)
            if why is None:
                self._excluded.pop(name, None)
            else:
                self._excluded[name] = why

    def drop_namespace(self, name: str) -> None:
        """A namespace that is gone, with all that was in it."""
        with self._lock:
            self._excluded.pop(name, None)
            self._claims.pop(name, None)
            self._vaults.pop(name, None)
            self._changed.add(name)

    def counted(self) -> Counted:
        """Bound claims by (namespace, state, why)."""
        with self._lock:
            for namespace in self._changed:
                found = self._count(namespace)
                self._counted.pop(namespace, None)
                if found:
                    self._counted[namespace] = found
            self._changed.clear()
            return {key: n for name in sorted(self._counted) for key, n in self._counted[name].items()}

    def _count(self, namespace: str) -> Counted:
        claims = list(self._claims.get(namespace, {}).values())
        vaults = list(self._vaults.get(namespace, {}).values())
        rows = cover(claims, vaults, self._excluded)
        return dict(sorted(Counter((namespace, row.state, row.why) for row in rows).items()))
