"""A real PostgreSQL, backed up while it works: every backup starts, recovers, and has lost nothing it had promised (C8).

The database runs pgbench's own transactions and a log in which each client writes the numbers 1, 2, 3, ... one after the
other. Of each restored copy: amcheck finds every index right and whole, the sums of pgbench agree, each client's
numbers are there without a gap, all that was committed before the Backup was created, and nothing from after it ended.
"""

from __future__ import annotations

import json
import random

import pytest

from tests.cluster.conftest import Operator
from tests.cluster.kube import Kube, Object, claim, pod
from tests.cluster.lab import Cluster, images
from tests.cluster.test_contract import ClusterEnvironment
from tests.cluster.test_in_place import in_place, stateful_set
from tests.scenario import manifests
from tests.scenario.environment import phase_is

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

AS = "exec setpriv --reuid=postgres --regid=postgres --init-groups env PATH=/usr/lib/postgresql/15/bin:$PATH"
# Its data lies below the mount, whose lost+found PostgreSQL would refuse.
SERVE = f"""
set -e
chown postgres /data
{AS} sh -ec '
  test -f /data/pg/PG_VERSION || initdb --data-checksums -A trust /data/pg >/dev/null
  exec postgres -D /data/pg -k /tmp -c listen_addresses= -c shared_buffers=64MB -c checkpoint_timeout=30s -c max_wal_size=192MB -c jit=off
'
"""
LOG = """
INSERT INTO log(client, n)
SELECT :client_id, coalesce(max(n), 0) + 1 FROM log WHERE client = :client_id;
"""
FACTS = """
SELECT json_build_object(
  'accounts', (SELECT sum(abalance) FROM pgbench_accounts),
  'tellers', (SELECT sum(tbalance) FROM pgbench_tellers),
  'branches', (SELECT sum(bbalance) FROM pgbench_branches),
  'history', (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
  'log', (SELECT json_object_agg(client, json_build_array(count, last)) FROM
          (SELECT client, count(*), max(n) AS last FROM log GROUP BY client) AS each));
"""
CLIENTS = 4


class Postgres:
    """A server in a pod."""

    def __init__(self, kube: Kube, name: str) -> None:
        self.kube, self.name = kube, name

    def shell(self, command: str, seconds: float = 180) -> str:
        """Run as postgres."""
        body = f"export PGHOST=/tmp PGUSER=postgres; {command}"
        words = ("sh", "-ec", f'{AS} sh -ec "$0"', body)
        return self.kube.exec(self.name, *words, seconds=seconds).decode()

    def ready(self) -> None:
        """Wait until it answers; after a start from a backup, until it has recovered."""
        self.kube.wait("pod", self.name, phase_is("Running"), 180)
        self.shell("for i in $(seq 600); do pg_isready -q && exit 0; sleep 0.2; done; exit 1")

    def sql(self, text: str) -> str:
        """One answer."""
        return self.kube.exec(
            self.name,
            "sh",
            "-ec",
            f"{AS} psql -h /tmp -U postgres -qtAX -v ON_ERROR_STOP=1",
            stdin=text.encode(),
        ).decode()

    def last(self) -> dict[str, int]:
        """The last number of each client."""
        return {client: last for client, (_, last) in json.loads(self.sql(FACTS))["log"].items()}

    def check(self, least: dict[str, int], most: dict[str, int]) -> None:
        """Everything that makes it a good copy of one moment between two."""
        self.shell("pg_amcheck --install-missing --heapallindexed --parent-check --rootdescend postgres", 300)
        facts = json.loads(self.sql(FACTS))
        sums = {facts[key] for key in ("accounts", "tellers", "branches", "history")}
        assert len(sums) == 1, facts
        for client, (count, last) in facts["log"].items():
            assert count == last, f"client {client} has {count} of {last} numbers"
            assert least[client] <= last <= most[client], f"client {client}: {least} {last} {most}"
        assert facts["log"].keys() == least.keys()


def server(name: str, claim_name: str) -> Object:
    """A pod that serves a claim.

    PostgreSQL must not be its first process: that is given orphans, such as the load when it ends by itself, and a
    postmaster takes any of its children that ends with an error for a server process that has crashed.
    """
    made = pod(name, ["sh", "-ec", SERVE], files={claim_name: "/data"}, image=images.POSTGRES)
    made["spec"]["shareProcessNamespace"] = True
    return made


def database(claim_name: str) -> Object:
    """The StatefulSet of the original."""
    made = stateful_set("db", claim_name)
    serving = server("x", claim_name)["spec"]
    made["spec"]["template"]["spec"] |= {key: serving[key] for key in ("containers", "shareProcessNamespace")}
    return made


@pytest.mark.parametrize("rounds", [3, pytest.param(10, marks=pytest.mark.soak)])
def test_c8_every_backup_of_a_working_database_is_a_database(
    cluster: Cluster, namespace: Kube, installed_operator: Operator, rounds: int
) -> None:
    """C3, C8, D1, D2: to new claims, and the first and another one in place."""
    cluster.import_image(images.postgres())
    kube, name = namespace, f"pg-{namespace.namespace[-4:]}"
    environment = ClusterEnvironment(cluster, kube, "bv-wait")
    environment.apply(*manifests.vault_class(name, environment.storage, name), manifests.vault(name, name))
    kube.apply(claim("data", size="1Gi", storage_class="bv-wait", mode="Filesystem"), database("data"))
    original = Postgres(kube, "db-0")
    original.ready()
    scale = 2 if rounds < 10 else 8
    original.shell(f"pgbench -iq -s {scale} postgres 2>/dev/null")
    original.sql("CREATE TABLE log(client int, n int, PRIMARY KEY (client, n));")
    original.sql("".join(f"INSERT INTO log VALUES ({client}, 1);" for client in range(CLIENTS)))
    kube.exec("db-0", "sh", "-ec", "cat > /tmp/log.sql", stdin=LOG.encode())

    bounds: list[tuple[dict[str, int], dict[str, int]]] = []
    for number in range(rounds):
        load = f"pgbench -n -c {CLIENTS} -j 2 -T 900 -R 400 -b tpcb-like@1 -f /tmp/log.sql@1 postgres"
        original.shell(f"pgrep -x pgbench >/dev/null || (nohup {load} >/tmp/load 2>&1 &)")
        original.shell("sleep 2")
        if number % 3 == 2:
            original.sql("VACUUM FULL pgbench_accounts;" if number % 2 else "REINDEX TABLE log;")
        least = original.last()
        kube.apply(manifests.backup(f"b{number}", name, "data"))
        # Its snapshot is taken by now: what comes later is not in it.
        kube.wait("backup", f"b{number}", lambda b: (b.get("status") or {}).get("reason") == "Moving"
                  or phase_is("Available")(b), 120)  # fmt: skip
        bounds.append((least, original.last()))
        kube.wait("backup", f"b{number}", phase_is("Available"), 240)

    for number, (least, most) in enumerate(bounds):
        kube.apply(manifests.restore(f"r{number}", f"b{number}", f"copy{number}", "bv-wait", "1Gi"))
        kube.wait("restore", f"r{number}", phase_is("Completed"), 240)
        kube.apply(server(f"copy{number}", f"copy{number}"))
        copy = Postgres(kube, f"copy{number}")
        copy.ready()
        copy.check(least, most)
        kube.delete("pod", f"copy{number}")
        kube.delete("pvc", f"copy{number}")

    for number in (0, random.Random(rounds).randrange(1, rounds)):
        body = in_place(f"back{number}")
        body["spec"]["backupRef"]["name"] = f"b{number}"
        kube.apply(body)
        kube.wait("restore", f"back{number}", phase_is("Restored"), 240)
        original.ready()
        original.check(*bounds[number])
