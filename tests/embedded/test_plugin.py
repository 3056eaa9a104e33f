"""`kubectl blockvault` against the emulated API server and the real operator, each command from end to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blockvault.exitcodes import FAILED, NOT_FOUND, OK, REFUSED, TEMPORARY, USAGE
from blockvault.plugin.completion import candidates
from blockvault.plugin.main import run
from tests.scenario import manifests
from tests.scenario.environment import Write, phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment

CLAIMS = tuple(f"c{number}" for number in range(6))
POLICY: dict[str, Any] = {
    "apiVersion": manifests.API,
    "kind": "BackupPolicy",
    "metadata": {"name": "nightly"},
    "spec": {"schedule": {"hours": [3]}, "retention": {"count": 2}},
}
Say = Callable[..., tuple[int, str, str]]


def vault(name: str, *claims: str, of_class: str = "v") -> dict[str, Any]:
    body = manifests.vault(name, of_class)
    body["spec"]["resources"] = [{"kind": "PersistentVolumeClaim", "name": claim} for claim in claims]
    return body


@pytest.fixture(scope="module")
def env() -> Iterator[EmbeddedEnvironment]:
    """A namespace with a vault, a policy and six claims in it, and one that is in none."""
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        for number, name in enumerate((*CLAIMS, "scratch")):
            env.make_claim(name, 4 * MIB)
            env.write(name, [Write(0, MIB, seed=number)])
        cluster.start_operator()
        disks = vault("disks", *CLAIMS)
        disks["spec"]["policyRef"] = {"name": "nightly"}
        env.apply(*manifests.vault_class("v", env.storage, "v"), POLICY, disks)
        env.wait_for("vault", "disks", phase_is("Available"), timeout=60)

        def held(obj: dict[str, Any] | None) -> bool:
            lines = ((obj or {}).get("status") or {}).get("resources") or []
            return [line.get("state") for line in lines] == ["Associated"] * len(CLAIMS)

        env.wait_for("vault", "disks", held, timeout=60)
        yield env


@pytest.fixture
def say(env: EmbeddedEnvironment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """Run the plugin in this process: its exit code, stdout and stderr."""
    monkeypatch.setenv("KUBECONFIG", str(env.cluster.kubeconfig))

    def call(*arguments: str, namespace: str = "shop") -> tuple[int, str, str]:
        code = run([*arguments, "-n", namespace])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def data(answer: tuple[int, str, str]) -> Any:
    assert answer[0] == OK, answer
    return json.loads(answer[1])


def test_an_empty_namespace(say: Say) -> None:
    code, out, _ = say("status", namespace="empty")
    assert (code, out.splitlines()[0]) == (
        OK,
        "Namespace empty: 0 vaults, 0 backups of 0 claims, nothing at work, all is well.",
    )
    for command, words in (
        (("list",), "No backups found."),
        (("list", "--trash"), "The trash is empty."),
        (("tasks",), "No tasks found."),
        (("usage",), "No vaults found."),
        (("coverage",), "No bound claims found."),
        (("preview",), "Nothing would be removed; 0 backups stay."),
        (("hold",), "Nothing is held."),
    ):
        assert say(*command, namespace="empty") == (OK, "", f"{words}\n"), command
    code, _, err = say("describe", "nix", namespace="empty")
    assert (code, "there is no Backup, Restore, Vault or BackupPolicy nix" in err) == (NOT_FOUND, True)
    assert say("backup", "c0", namespace="empty")[0] == NOT_FOUND
    assert say("backup", "--all", namespace="empty")[0] == NOT_FOUND


def test_backups_from_making_to_bringing_back(say: Say, env: EmbeddedEnvironment) -> None:
    code, out, err = say("backup", "c0", "c1", "--wait", "--description", "first")
    assert code == OK, err
    names = [line.split()[0].partition("/")[2] for line in out.splitlines()]
    assert [name[-5:] for name in names] == ["-0001", "-0002"]
    assert f"Backup {names[0]}: Available" in err
    # Looking at them.
    listed = data(say("list", "--claim", "c0", "-o", "json"))["items"]
    assert [item["metadata"]["name"] for item in listed] == names[:1]
    found = say("list", "--phase", "Available", "-o", "name")[1].split()
    assert sorted(found) == [f"backup.blockvault.dev/{name}" for name in names]
    assert "first" in say("list", "-o", "wide")[1]
    assert names[0] in say("list", "-A", "-o", "yaml")[1]
    described = say("describe", names[0])[1]
    assert "Phase:" in described
    assert "Description:" in described
    picture = data(say("status", "-o", "json"))
    assert picture["backups"] == {"Available": 2}
    usage = data(say("usage", "-o", "json"))
    assert {c["claim"]: c["backups"] for c in usage["claims"]} == {"c0": 1, "c1": 1}
    assert usage["claims"][0]["storedBytes"] > 0
    assert '"ok":true' in say("logs", names[0])[1]
    tasks = data(say("tasks", "--type", "backup", "--claim", "c1", "-o", "json"))["items"]
    assert [t["spec"]["object"]["name"] for t in tasks] == names[1:]
    states = {c["claim"]: (c["state"], c["why"]) for c in _covered(say, env)["claims"]}
    assert states["c0"] == ("Protected", "Scheduled")
    assert states["c5"] == ("Unprotected", "NoBackupYet")
    assert states["scratch"] == ("Unprotected", "NoVault")
    # Rules touch no manual ones.
    verdicts = data(say("preview", "--all", "-o", "json"))["backups"]
    assert {v["reason"] for v in verdicts} == {"Manual"}
    assert "too few backups to tell" in say("estimate", "disks", "--keep", "30d")[1]
    assert data(say("estimate", "disks", "--change", "10%", "-o", "json"))["backups"] == 2
    assert candidates(["describe", "-n", "shop", names[0]]) == f"{names[0]}\n:4\n"
    # Into a new claim, and from the trash.
    code, out, err = say("restore", "--latest", "c0", "--to", "copy", "--yes", "--wait")
    assert code == OK, err
    assert f"Backup {names[0]} of claim c0" in err
    assert env.digest("copy", 4 * MIB) == env.digest("c0", 4 * MIB)
    code, _, err = say("restore", names[0], "--to", "copy", "--yes")
    assert (code, "there is a claim copy already" in err) == (USAGE, True)
    code, _, err = say("delete", names[0], "--yes", "--wait")
    assert code == OK, err
    assert "THE LAST GOOD ONE of its claim" in err
    assert "can be brought back for 7 days" in err
    env.cluster.until(lambda: data(say("list", "--trash", "-o", "json"))["trash"], "the trash is shown", 90)
    (gone,) = data(say("list", "--trash", "-o", "json"))["trash"]
    code, out, err = say("undelete", gone["backupId"][:8], "--wait")
    assert code == OK, err
    assert "is back" in out
    env.cluster.until(lambda: len(data(say("list", "-o", "json"))["items"]) == 2, "it is shown again", 90)
    # The same once more: each value of the annotation counts once.
    assert (
        say(
            "delete",
            *say("list", "--claim", "c0", "-o", "name")[1].split()[0].split("/")[1:],
            "--yes",
            "--wait",
        )[0]
        == OK
    )
    env.cluster.until(lambda: data(say("list", "--trash", "-o", "json"))["trash"], "the trash is shown", 90)
    code, out, err = say("undelete", gone["backupId"], "--wait")
    assert code == OK, err
    assert "is back" in out
    env.cluster.until(lambda: len(data(say("list", "-o", "json"))["items"]) == 2, "it is shown again", 90)


def _covered(say: Say, env: EmbeddedEnvironment) -> Any:
    """The coverage, once the vault's status has the backups."""
    env.cluster.until(
        lambda: data(say("coverage", "-o", "json"))["counts"]["protected"] == 2, "they are protected", 60
    )
    return data(say("coverage", "-o", "json"))


def test_f4_in_place_and_back_again(say: Say, env: EmbeddedEnvironment) -> None:
    assert say("backup", "c2", "--wait", "--name", "before")[0] == OK
    saved = env.digest("c2", 4 * MIB)
    env.write("c2", [Write(0, MIB, seed=99)])
    later = env.digest("c2", 4 * MIB)
    code, _, err = say("restore", "before", "--in-place")
    assert (code, "there is nobody to ask here" in err) == (USAGE, True)
    assert "It waits until you stop what uses the claim: c2-user" in err
    env.delete("pod", "c2-user")
    code, _, err = say("restore", "before", "--in-place", "--name", "r1", "--yes", "--wait")
    assert code == OK, err
    assert "No pod uses the claim now." in err
    assert env.digest("c2", 4 * MIB) == saved
    assert "i  Restore r1 claim c2 is restored; its former data is kept" in say("status")[1]
    assert say("rollback", "r1", "--yes", "--wait")[0] == OK
    assert env.digest("c2", 4 * MIB) == later
    code, _, err = say("confirm", "r1", "--yes")
    assert (code, "Restore r1 is RolledBack" in err) == (USAGE, True)
    assert say("restore", "before", "--in-place", "--name", "r2", "--yes", "--wait")[0] == OK
    assert say("confirm", "r2", "--yes", "--wait")[0] == OK
    assert env.digest("c2", 4 * MIB) == saved


def test_ctrl_c_a_limit_and_cancel(say: Say, env: EmbeddedEnvironment) -> None:
    env.cluster.faults.hold_movers = True
    try:
        code, _, err = say("backup", "c3", "--name", "slow", "--wait", "--timeout", "0.05m")
        assert (code, "not ended after 3 s: Backup slow is" in err) == (TEMPORARY, True), err
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "blockvault.plugin",
                "backup",
                "c4",
                "--name",
                "stopped",
                "--wait",
                "-n",
                "shop",
            ],
            env=os.environ | {"KUBECONFIG": str(env.cluster.kubeconfig)},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "backup.blockvault.dev/stopped created\n"
        env.wait_for("backup", "stopped", phase_is("Creating"), timeout=60)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == TEMPORARY, err
        assert "stopped waiting: backup/stopped goes on in the cluster" in err
        assert "`kubectl blockvault cancel backup/stopped` stops it." in err
        assert "Traceback" not in err
        assert "Backup slow" in say("status")[1]
        code, out, err = say("cancel", "slow", "backup/stopped", "--wait")
        assert code == OK, err
        assert out.splitlines() == [
            f"backup.blockvault.dev/{name} cancel requested" for name in ("slow", "stopped")
        ]
    finally:
        env.cluster.faults.hold_movers = False
    code, _, err = say("cancel", "slow")
    assert (code, "Backup slow is Error: there is nothing to stop" in err) == (USAGE, True)
    for name in ("slow", "stopped"):
        assert say("delete", name, "--yes", "--wait")[0] == OK


def test_f11_a_held_deletion_is_shown_and_answered(say: Say, env: EmbeddedEnvironment) -> None:
    assert say("backup", "--all", "--vault", "disks", "--name", "many", "--wait")[0] == OK
    names = [f"many-{number:04}" for number in range(1, len(CLAIMS) + 1)]
    others = [b["metadata"]["name"] for b in data(say("list", "-o", "json"))["items"]]
    assert set(names) <= set(others)
    assert say("delete", *others, "--yes")[0] == OK

    def holds() -> list[Any]:
        return list(data(say("hold", "-o", "json"))["holds"])

    env.cluster.until(holds, "it is held", 60)
    code, out, _ = say("hold")
    assert (code, out.splitlines()[0].startswith("Vault disks: deletion of backups, since ")) == (OK, True)
    assert "!! Vault disks a mass deletion waits for a word" in say("status")[1]
    (hold,) = holds()
    code, _, err = say("hold", "allow", "disks", "wrong")
    assert (code, "wrong is not the token of what is held" in err) == (USAGE, True)
    assert say("hold", "allow", "disks")[0] == USAGE
    assert say("hold", "keep", "disks", hold["token"]) == (
        OK,
        "vault.blockvault.dev/disks data is kept\n",
        "",
    )
    env.cluster.until(lambda: not holds(), "the hold is over", 90)
    env.cluster.until(
        lambda: {b["status"].get("phase") for b in data(say("list", "-o", "json"))["items"]} == {"Available"},
        "all that is left is shown again",
        90,
    )
    assert (
        say("hold", "acknowledge", data(say("list", "-o", "json"))["items"][0]["metadata"]["name"])[0]
        == NOT_FOUND
    )


def test_trouble_is_found_and_explained(say: Say, env: EmbeddedEnvironment) -> None:
    broken = manifests.vault_class("broken", env.storage, "b")
    broken[-1]["spec"]["storage"]["s3"]["bucket"] = "nowhere"
    env.apply(*broken, vault("archive", "scratch", of_class="broken"))

    def looked(obj: dict[str, Any] | None) -> bool:
        return bool(((obj or {}).get("status") or {}).get("reason") == "BucketNotFound")

    env.wait_for("vault", "archive", looked, timeout=60)
    code, out, err = say("doctor")
    assert (code, "check fails" in err) == (FAILED, True), out
    assert "fail  vault archive" in out
    assert "ok    storage bv-immediate" in out
    assert "test.csi.blockvault.dev takes snapshots by bv-snapshots" in out
    env.apply(manifests.backup("stuck", "archive", "scratch"))
    env.wait_for("backup", "stuck", phase_is("Pending"), timeout=60)
    code, out, _ = say("doctor", "stuck")
    assert code == FAILED
    assert "VaultNotAvailable: the Vault is not Available" in out
    assert "fail  its vault" in out
    assert data(say("describe", "backup/stuck", "-o", "json"))["status"]["reason"] == "VaultNotAvailable"
    code, _, err = say("logs", "stuck")
    assert (code, "has no log that can be read" in err) == (NOT_FOUND, True)
    assert say("cancel", "stuck", "--wait")[0] == OK
    code, out, err = say("backup", "scratch", "--vault", "archive", "--wait", "--timeout", "0.03m")
    assert code == TEMPORARY, err
    env.delete("vault", "archive")


def test_a_wait_ends_with_the_words_of_what_failed(say: Say, env: EmbeddedEnvironment) -> None:
    env.cluster.faults.snapshot_error = "the driver has no room for snapshots"
    try:
        body = manifests.backup("doomed", "disks", "c5")
        body["spec"]["startDeadlineSeconds"] = 2
        env.apply(body)
        env.wait_for("backup", "doomed", phase_is("Error"), timeout=90)
    finally:
        env.cluster.faults.snapshot_error = None
    code, out, _ = say("doctor", "doomed", "-o", "json")
    assert (code, "the driver has no room for snapshots" in out) == (FAILED, True), out
    assert "!! Backup doomed of c5 failed" in say("status")[1]
    code, _, err = say("restore", "doomed", "--to", "never", "--yes", "--wait")
    assert code == FAILED
    assert "Restore restore-" in err
    assert "ended in Error" in err


@pytest.mark.parametrize(
    ("verb", "resource", "command"),
    [
        ("list", "backups", ("status",)),
        ("list", "vaults", ("coverage",)),
        ("create", "backups", ("backup", "c0")),
    ],
)
def test_who_may_not_is_told_by_whom_it_can_be_changed(
    say: Say, env: EmbeddedEnvironment, verb: str, resource: str, command: tuple[str, ...]
) -> None:
    fault = env.cluster.faults.fail(verb, resource, status=403)
    code, _, err = say(*command)
    assert fault.times == 0
    assert (code, "Ask whoever administers the cluster for a role here" in err) == (REFUSED, True)
    assert len(err.splitlines()) == 2


def test_an_api_server_that_fails_now_and_then_does_not_end_the_waiting(
    say: Say, env: EmbeddedEnvironment
) -> None:
    fault = env.cluster.faults.fail("get", "backups", status=503, times=1)
    code, _, err = say("backup", "c1", "--name", "patient", "--wait")
    assert code == OK, err
    assert fault.times == 0


def test_a_cluster_without_our_definitions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedCluster(namespace="shop", crds=tmp_path) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        for command in (["status"], ["list"], ["doctor"], ["coverage"], ["backup", "x"]):
            assert run(command) == NOT_FOUND
            err = capsys.readouterr().err
            assert "this cluster does not know" in err
            assert "Install Blockvault there" in err
