"""What the benchmark in the cluster reads from events, and what it makes of Velero's manifests."""

import json

import pytest

from tests.bench.cluster import rows, velero
from tests.bench.cluster.blockvault import phases
from tests.bench.cluster.measured import RESTORES, Took, between, entered
from tests.bench.cluster.storage import Sizes
from tests.bench.cluster.watching import Seen, Watch, length, of_mover, of_others
from tests.bench.rows import Bench, WorkFailed


def seen(at, type, kind, name="x", *, going=False, **status):
    metadata = {"name": name, "uid": f"{kind}/{name}", **({"deletionTimestamp": "now"} if going else {})}
    return Seen(at, type, {"kind": kind, "metadata": metadata, "status": status})


SNAPSHOT = [
    seen(10.0, "ADDED", "VolumeSnapshot"),
    seen(11.0, "MODIFIED", "VolumeSnapshot", readyToUse=False),
    seen(12.5, "MODIFIED", "VolumeSnapshot", readyToUse=True),
]
CLONE = [
    seen(12.0, "ADDED", "PersistentVolumeClaim"),
    seen(13.0, "MODIFIED", "PersistentVolumeClaim", phase="Bound"),
]
GOING = [
    seen(15.0, "MODIFIED", "PersistentVolumeClaim", going=True),
    seen(15.5, "DELETED", "PersistentVolumeClaim", going=True),
]


def test_others_are_at_work_from_the_wish_until_it_is_there_or_gone():
    found = of_others([*SNAPSHOT, *CLONE, *GOING], 9.0, 16.0)
    assert sorted(found) == [(10.0, 12.5), (12.0, 13.0), (15.0, 15.5)]
    assert length(found) == 3.5, "what they do at the same time counts once"


def test_what_was_there_before_or_comes_after_is_not_theirs():
    """An old claim is told as ADDED when the watch begins; what is not there at the end is theirs until then."""
    assert of_others(CLONE, 12.5, 16.0) == []
    assert of_others(SNAPSHOT[:1], 9.0, 11.0) == [(10.0, 11.0)]
    assert of_others(GOING, 9.0, 15.2) == [(15.0, 15.2)]
    assert of_others([seen(15.0, "DELETED", "Pod")], 9.0, 16.0) == []


def test_kubernetes_takes_the_time_before_and_after_the_mover_s_process():
    done = [{"type": "Complete", "status": "True"}]
    events = [seen(1.0, "ADDED", "Job"), seen(8.0, "MODIFIED", "Job", conditions=done)]
    timings = [
        {"name": "Loading", "startTime": "1970-01-01T00:00:03Z", "seconds": 0.5},
        {"name": "Reading", "startTime": "1970-01-01T00:00:03.5Z", "seconds": 3.5},
    ]
    assert of_mover(events, timings, 0.0, 9.0) == [(1.0, 3.0), (7.0, 8.0)]
    assert of_mover(events, [], 0.0, 9.0) == []


def test_the_length_of_intervals_that_overlap_and_do_not():
    assert length([]) == 0
    assert length([(5.0, 6.0), (1.0, 3.0), (2.0, 4.0), (2.5, 2.75)]) == 4.0


def test_each_state_lasts_until_the_next_one_and_their_sum_is_the_whole():
    events = [
        seen(1.0, "ADDED", "Backup", phase="Completed"),
        seen(11.0, "ADDED", "Backup", "b"),
        seen(12.0, "MODIFIED", "Backup", "b", phase="InProgress"),
        seen(12.5, "MODIFIED", "Backup", "b", phase="InProgress"),
        seen(13.0, "ADDED", "DataUpload", "d", phase="Accepted"),
        seen(13.5, "MODIFIED", "Pod", "p", phase="Running"),
        seen(16.0, "MODIFIED", "Backup", "b", phase="Finalizing"),
    ]
    found = between([(10.0, "begin"), *entered(events, ("Backup", "DataUpload"), 10.0)], 20.0)
    assert found == [
        ("begin", 2.0), ("Backup InProgress", 1.0), ("DataUpload Accepted", 3.0), ("Backup Finalizing", 4.0),
    ]  # fmt: skip


def test_the_status_tells_blockvault_s_phases_and_the_mover_s_within():
    own = [{"name": "Loading", "startTime": "x", "seconds": 0.25}]
    timings = [
        {"name": "Starting", "startTime": "1970-01-01T00:00:10.5Z", "seconds": 1.0},
        {"name": "Moving", "startTime": "1970-01-01T00:00:11.5Z", "seconds": 2.0},
    ]
    assert phases({"timings": timings, "mover": {"timings": own}}, 10.0) == [
        ("until the first look", 0.5), ("Starting", 1.0), ("Moving", 2.0), ("of it the mover, Loading", 0.25),
    ]  # fmt: skip


def test_a_watch_gives_what_was_and_what_comes_and_says_what_did_not():
    watch = Watch()
    watch.add(json.dumps({"type": "ADDED", "object": {"kind": "Backup", "metadata": {"name": "b"}}}))
    assert watch.until("b", lambda event: event.name == "b", 1).phase is None
    with pytest.raises(WorkFailed, match="c: not within 0 s"):
        watch.until("c", lambda event: event.name == "c", 0.01)
    watch.add(json.dumps({"type": "ERROR", "object": {"kind": "Status", "message": "too old"}}))
    with pytest.raises(WorkFailed, match="too old"):
        watch.until("c", lambda event: event.name == "c", 1)


def test_velero_s_manifests_need_no_registry_in_the_lab():
    template = {
        "initContainers": [{"name": "plugin"}],
        "volumes": [{"name": "plugins"}, {"name": "scratch"}],
        "containers": [
            {
                "name": "velero",
                "resources": {"limits": {"cpu": "1"}},
                "volumeMounts": [{"name": "plugins"}, {"name": "scratch"}],
                "securityContext": {"privileged": True},
            }
        ],
    }
    found = velero.mended(
        {"kind": "List", "items": [{"kind": "DaemonSet", "spec": {"template": {"spec": template}}}]}
    )
    spec = found["items"][0]["spec"]["template"]["spec"]
    assert "initContainers" not in spec
    assert spec["volumes"] == [{"name": "scratch"}]
    assert spec["containers"] == [
        {
            "name": "velero", "imagePullPolicy": "IfNotPresent", "resources": {},
            "volumeMounts": [{"name": "scratch"}], "securityContext": {"privileged": True},
        }
    ]  # fmt: skip
    assert velero.version() == "v1.18.2"


@pytest.mark.parametrize("full", [True, False])
def test_all_changes_lie_in_what_the_claim_holds(tmp_path, full):
    sizes = Sizes.of(Bench(tmp_path, full=full, rounds=1))
    assert (sizes.changes - 1) * (sizes.apart + 4096) + (1 << 20) <= sizes.file_system < sizes.claim
    assert sizes.apart > 8 << 20


def test_without_velero_its_former_figures_are_shown_and_marked(tmp_path, monkeypatch):
    found = rows.Found()
    with rows._told(found):
        raise WorkFailed("no raw devices\nmore")
    for step in (*rows.BACKUPS, *RESTORES):
        found.add(step, "Blockvault", Took(10.0, [("Moving", 10.0)], 1.5, 10**7))
    monkeypatch.setattr(rows, "measure", lambda bench: found)
    bench = Bench(tmp_path, full=True, rounds=1)
    outcome = rows.table(bench)
    assert outcome.lines[0] == ["first backup", 10.0, 82.7, 8.27, 1.5, 10.0, 2930]
    assert "Velero did not run here** (no raw devices)" in outcome.notes[0]
    assert {goal.text: goal.met for goal in outcome.goals}["nothing changed: times as quick"] is False
    small = rows.table(Bench(tmp_path, full=False, rounds=1))
    assert small.lines[0] == ["first backup", 10.0, None, None, 1.5, 10.0, None]
    assert not any("times as quick" in goal.text for goal in small.goals)
    assert rows.steps(bench).lines[:2] == [
        ["first backup", "Moving", 10.0, "", None], ["", "in all", 10.0, "", None]
    ]  # fmt: skip
