"""What the plugin asks the cluster for, and what it says before it does."""

from __future__ import annotations

from typing import Any

import pytest

from blockvault.api import Backup, Restore
from blockvault.plugin import changing, holding, restore_words
from blockvault.plugin.errors import NotFoundError, UsageError
from blockvault.plugin.requests import BackupWishes, RestoreWishes, backups, choose_vault, restore
from blockvault.plugin.words import moment

from . import world
from .world import NOW


def test_c1_one_backup_has_a_plain_name_and_several_have_numbers() -> None:
    (one,) = backups([("db", "disks")], BackupWishes("1a2b", full=True, description="x"), "shop")
    assert one["metadata"]["name"] == "manualbk-1a2b"
    spec = Backup.model_validate(one | {"metadata": one["metadata"] | {"creationTimestamp": NOW}}).spec
    assert (spec.claim, spec.vault_ref.name, spec.full, spec.description) == ("db", "disks", True, "x")
    two = backups([("db", "disks"), ("web", "disks")], BackupWishes("1a2b"), "shop")
    assert [b["metadata"]["name"] for b in two] == ["manualbk-1a2b-0001", "manualbk-1a2b-0002"]
    named = backups([("db", "disks"), ("web", "disks")], BackupWishes("1a2b", name="before"), "shop")
    assert [b["metadata"]["name"] for b in named] == ["before-0001", "before-0002"]


def test_the_vault_is_the_named_one_the_one_that_holds_it_or_the_only_one() -> None:
    disks, archive = world.vault(), world.vault("archive", resources=[])
    assert choose_vault("db-data", [archive, disks], None) == "disks"
    assert choose_vault("other", [disks], None) == "disks"
    assert choose_vault("db-data", [archive, disks], "archive") == "archive"
    with pytest.raises(
        UsageError, match=r"no Vault holds claim other, and there are several: archive, disks"
    ):
        choose_vault("other", [archive, disks], None)
    with pytest.raises(NotFoundError, match=r"there is no Vault nix here"):
        choose_vault("db-data", [disks], "nix")
    with pytest.raises(NotFoundError, match=r"no Vault in this namespace"):
        choose_vault("db-data", [], None)


@pytest.mark.parametrize(
    ("wishes", "target"),
    [
        (RestoreWishes("r", "copy"), {"newClaim": {"name": "copy"}}),
        (
            RestoreWishes("r", "copy", "20Gi", "fast", "Block", ("ReadWriteMany",)),
            {"newClaim": {"name": "copy", "size": "20Gi", "storageClassName": "fast", "volumeMode": "Block",
                          "accessModes": ["ReadWriteMany"]}},
        ),
        (RestoreWishes("r", stop=True, start=False), {"original": {"stopWorkload": True, "startAfter": False}}),
    ],
)  # fmt: skip
def test_a_restore_says_what_was_wished_and_no_more(wishes: RestoreWishes, target: dict[str, Any]) -> None:
    body = restore("autobk-1", wishes, "shop")
    assert body["spec"] == {"backupRef": {"name": "autobk-1"}, "target": target}
    Restore.model_validate(body | {"metadata": body["metadata"] | {"creationTimestamp": NOW}})


def test_the_latest_is_the_newest_good_one_as_of_a_time() -> None:
    old = world.backup("old", volume={"snapshotTime": "2026-11-20T00:00:00Z"})
    new, bad = world.backup("new"), world.failed("bad")
    other = world.backup("other", "web", volume={"snapshotTime": "2026-11-29T11:00:00Z"})
    all_ = [bad, old, other, new]
    assert restore_words.latest(all_, "db-data", None)["metadata"]["name"] == "new"
    assert restore_words.latest(all_, "db-data", moment("2026-11-25T00:00:00Z"))["metadata"]["name"] == "old"
    with pytest.raises(NotFoundError, match="db-data has no backup before 2026-11-01") as error:
        restore_words.latest(all_, "db-data", moment("2026-11-01T00:00:00Z"))
    assert error.value.remedy == "The oldest one is of 2026-11-20T00:00:00Z."


def pod(name: str, claim: str, owner: str = "") -> dict[str, Any]:
    owners = (
        [{"controller": True, "kind": "StatefulSet", "name": owner, "apiVersion": "apps/v1"}] if owner else []
    )
    return {
        "metadata": {"name": name, "ownerReferences": owners},
        "spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]},
        "status": {"phase": "Running"},
    }


def test_what_a_restore_to_a_new_claim_will_do() -> None:
    words = restore_words.plan(world.backup("autobk-1"), RestoreWishes("r", "copy", "20Gi"), NOW, None, [])
    assert (
        "\n".join(words)
        == """\
Backup autobk-1 of claim db-data, as of 2026-11-29T02:00:10Z (9 h ago), 10.0 GiB
goes into the new claim copy (20Gi, class -, mode -).
Claim db-data is not touched."""
    )


def test_what_a_restore_in_place_will_do() -> None:
    pods = restore_words.users_of("db-data", [pod("db-0", "db-data", "db"), pod("web", "other")])
    wishes = RestoreWishes("r", stop=True)
    words = restore_words.plan(world.backup("autobk-1"), wishes, NOW, world.claim("db-data"), pods)
    assert (
        "\n".join(words[1:])
        == """\
takes the place of what is in claim db-data now: what was written since is no longer in it.
Stopped for it: db-0 (StatefulSet db), and started again.
What the claim holds now is kept for 24h: `kubectl blockvault rollback r` brings it back, `confirm` lets it go."""
    )
    waits = restore_words.plan(
        world.backup("autobk-1"), RestoreWishes("r"), NOW, world.claim("db-data"), pods
    )
    assert (
        waits[2]
        == "It waits until you stop what uses the claim: db-0 (StatefulSet db) (--stop-workload does it)."
    )
    unseen = restore_words.plan(
        world.backup("autobk-1"), RestoreWishes("r"), NOW, world.claim("db-data"), None
    )
    assert unseen[2] == "The pods that use it cannot be seen; the restore waits until none does."
    gone = restore_words.plan(world.backup("autobk-1"), RestoreWishes("r"), NOW, None, [])
    assert gone[1:] == ["goes into claim db-data, which is gone and is made again as it was."]


def test_a_deleted_backup_is_known_by_the_beginning_of_its_id() -> None:
    trash = [{"backupId": "ab" * 16}, {"backupId": "ab" * 8 + "cd" * 8}]
    vaults = [world.vault(trash=trash), world.vault("archive", trash=[{"backupId": "ef" * 16}])]
    assert changing.in_trash("EFEFEF", vaults, None) == ("archive", "ef" * 16)
    with pytest.raises(UsageError, match="could be"):
        changing.in_trash("ababab", vaults, None)
    with pytest.raises(UsageError, match="too short"):
        changing.in_trash("efef", vaults, None)
    with pytest.raises(NotFoundError):
        changing.in_trash("efefef", vaults, "disks")
    # More are in the trash than a status shows.
    assert changing.in_trash("12" * 16, vaults, "disks") == ("disks", "12" * 16)
    with pytest.raises(NotFoundError):
        changing.in_trash("12" * 16, vaults, None)


def test_f11_what_is_held_comes_with_the_commands_that_answer() -> None:
    hold = {
        "token": "1a2b3c4d",
        "since": "2026-11-29T11:00:00Z",
        "message": "6 of 6 went. To go on: kubectl x",
    }
    odd = {"backup": "autobk-1", "token": "5e6f7a8b", "reason": "NearlyEmpty", "acknowledged": False,
           "message": "Backup autobk-1 is nearly empty: restore one if need be, then kubectl annotate x"}  # fmt: skip
    found = holding.held([world.vault(deletionHold=hold, anomalies=[odd, odd | {"acknowledged": True}])])
    assert [(f["what"], f["message"]) for f in found] == [
        ("deletion of backups", "6 of 6 went."),
        ("expiry", "Backup autobk-1 is nearly empty: restore one if need be"),
    ]
    assert found[0]["commands"] == {
        "let it go on": "kubectl blockvault hold allow disks 1a2b3c4d -n shop",
        "keep all data": "kubectl blockvault hold keep disks 1a2b3c4d -n shop",
    }
    assert found[1]["commands"] == {"let it go on": "kubectl blockvault hold acknowledge autobk-1 -n shop"}


def test_the_prefix_that_keeps_data_is_the_operator_s() -> None:
    from blockvault.core.hold import KEEP

    assert holding.KEEP == KEEP
