"""The operator's rights: exactly the verbs that the code uses, nowhere more (least privilege)."""

from __future__ import annotations

from collections import defaultdict

import pytest

from blockvault.cluster.resources import VERBS

from .helm import NAMESPACE, Helm, Object, one

Rights = dict[tuple[str, str], frozenset[str]]

OPERATOR = {"kind": "ServiceAccount", "name": "blockvault", "namespace": NAMESPACE}
MOVER = {"kind": "ServiceAccount", "name": "blockvault-mover", "namespace": NAMESPACE}
WRITING = {"create", "update", "patch", "delete", "deletecollection"}


def rights_of(role: Object) -> Rights:
    rights: dict[tuple[str, str], set[str]] = defaultdict(set)
    for rule in role["rules"]:
        assert rule.keys() == {"apiGroups", "resources", "verbs"}, rule
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                rights[group, resource] |= set(rule["verbs"])
    return {key: frozenset(verbs) for key, verbs in rights.items()}


def bound_rights(objects: list[Object], subject: Object, kind: str) -> Rights:
    """Everything that bindings of this kind give to the subject."""
    rights: dict[tuple[str, str], frozenset[str]] = {}
    for binding in objects:
        if binding["kind"] == kind and subject in binding["subjects"]:
            role = one(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])
            if kind == "RoleBinding":
                assert binding["metadata"]["namespace"] == NAMESPACE
            for key, verbs in rights_of(role).items():
                rights[key] = rights.get(key, frozenset()) | verbs
    return rights


def merged(*tables: Rights) -> Rights:
    every = {key for table in tables for key in table}
    return {key: frozenset().union(*(table.get(key, frozenset()) for table in tables)) for key in every}


OPTIONAL = {"allowTenantStorage": "tenant-storage", "allowStopWorkload": "workloads"}


@pytest.mark.parametrize("allowed", [(), ("allowTenantStorage",), ("allowStopWorkload",), tuple(OPTIONAL)])
def test_rbac_equals_verbs_used(helm: Helm, allowed: tuple[str, ...]) -> None:
    """Both ways: a verb that is missing breaks the operator, one too many is a risk for nothing."""
    objects = helm.render({value: value in allowed for value in OPTIONAL})
    used = merged(VERBS["cluster"], *(VERBS[OPTIONAL[value]] for value in allowed))
    assert bound_rights(objects, OPERATOR, "ClusterRoleBinding") == used
    assert bound_rights(objects, OPERATOR, "RoleBinding") == VERBS["operator"]


def test_every_scope_of_the_verbs_is_compared() -> None:
    assert VERBS.keys() == {"cluster", *OPTIONAL.values(), "operator", "mover"}


def test_without_tenants_storage_no_secret_outside_its_namespace_can_be_read(helm: Helm) -> None:
    objects = helm.render({"allowTenantStorage": False})
    assert ("", "secrets") not in bound_rights(objects, OPERATOR, "ClusterRoleBinding")


def test_secrets_can_never_be_listed(defaults: list[Object]) -> None:
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        verbs = bound_rights(defaults, OPERATOR, kind)["", "secrets"]
        assert not verbs & {"list", "watch"}


def test_movers_only_see_snapshots_of_the_own_namespace(defaults: list[Object]) -> None:
    """So that a storage's service, which asks for that right, tells them what changed (F1)."""
    assert bound_rights(defaults, MOVER, "ClusterRoleBinding") == {}
    assert bound_rights(defaults, MOVER, "RoleBinding") == VERBS["mover"]


def test_bindings_name_nobody_else(defaults: list[Object]) -> None:
    bindings = [each for each in defaults if each["kind"] in ("ClusterRoleBinding", "RoleBinding")]
    assert bindings
    assert all(binding["subjects"] in ([OPERATOR], [MOVER]) for binding in bindings)


def test_no_wildcards(defaults: list[Object]) -> None:
    roles = [each for each in defaults if each["kind"] in ("ClusterRole", "Role")]
    for role in roles:
        for (group, resource), verbs in rights_of(role).items():
            assert "*" not in {group, resource, *verbs}, role["metadata"]["name"]


def aggregated(objects: list[Object], to: str) -> Rights:
    """What a built-in role gains."""
    label = f"rbac.authorization.k8s.io/aggregate-to-{to}"
    roles = [each for each in objects if each["metadata"]["labels"].get(label) == "true"]
    return merged(*(rights_of(role) for role in roles))


@pytest.fixture
def people(defaults: list[Object]) -> dict[str, Rights]:
    labelled = [each for each in defaults if each["kind"] != "CustomResourceDefinition"]
    return {to: aggregated(labelled, to) for to in ("view", "edit", "admin")}


def test_viewers_read_all_kinds_and_write_none(people: dict[str, Rights]) -> None:
    kinds = ("vaultclasses", "vaults", "backuppolicies", "backups", "restores", "tasks")
    reading = frozenset({"get", "list", "watch"})
    assert people["view"] == {("blockvault.dev", kind): reading for kind in kinds}


def test_editors_back_up_and_restore_but_do_not_choose_the_vault(people: dict[str, Rights]) -> None:
    writable = {resource for (_, resource), verbs in people["edit"].items() if verbs & WRITING}
    assert writable == {"backuppolicies", "backups", "restores", "tasks"}
    assert people["edit"].keys() == people["view"].keys()


def test_admins_of_a_namespace_write_vaults_too_but_no_classes(people: dict[str, Rights]) -> None:
    writable = {resource for (_, resource), verbs in people["admin"].items() if verbs & WRITING}
    assert writable == {"vaults", "backuppolicies", "backups", "restores", "tasks"}


def test_e1_nobody_writes_tasks_but_the_operator(people: dict[str, Rights]) -> None:
    """They are its word on what it did; who may edit may throw them away."""
    verbs = {
        to: rights["blockvault.dev", "tasks"] - {"get", "list", "watch"} for to, rights in people.items()
    }
    gone = frozenset({"delete", "deletecollection"})
    assert verbs == {"view": frozenset(), "edit": gone, "admin": gone}


def test_nobody_writes_a_status(people: dict[str, Rights]) -> None:
    """A status says what is in the bucket; it is the operator's word."""
    assert not [resource for rights in people.values() for _, resource in rights if "/" in resource]
