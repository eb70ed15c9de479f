"""Runs that are broken anywhere, and finished by the same command: the machines end as after an unbroken run.

The tests go on from each other, on two machines of their own. Costs about 5 min, beside the unbroken cluster to compare
with, which is molecule's. SEED=N repeats the random instants of a run that printed N.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator

import pytest

from bootstrap import phases
from tests.lab import kills, sameness
from tests.lab.clusters import Cluster
from tests.lab.conftest import UNBROKEN, lab_of
from tests.lab.scenario import Done

MANIFESTS = "/etc/kubernetes/manifests"
PODS = {"etcd.yaml", "kube-apiserver.yaml", "kube-controller-manager.yaml", "kube-scheduler.yaml"}
HOLD = """
import sys, time
from pathlib import Path
from bootstrap import inventory, lock
from bootstrap.connections import connected
read = inventory.load(Path("inventory.yaml"))
with connected(read, read.hosts) as connections, lock.Lease(lock.Owner.here("init")) as lease:
    for host in connections.hosts.values():
        lease.take(host).wait()
    print("held", file=sys.stderr, flush=True)
    time.sleep(3600)
"""


@pytest.fixture(scope="module")
def chance() -> random.Random:
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    sys.stderr.write(f"SEED={seed}\n")
    return random.Random(seed)


@pytest.fixture(scope="module")
def machines(prepared: str, molecule: Done, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two machines that are prepared, and nothing more. Those of the unbroken cluster, of the same names, are gone."""
    with lab_of(UNBROKEN, machines=2, snapshot=prepared, keep=False) as lab:
        cluster = Cluster(lab, tmp_path_factory.mktemp("kill"))
        cluster.write_inventory([machine.name for machine in lab.machines])
        yield cluster


def _address(cluster: Cluster, machine: str) -> str:
    return next(str(one.address) for one in cluster.lab.machines if one.name == machine)


def test_f1_f6_f33_an_init_that_is_killed_at_every_phase_and_cut_off_is_finished(
    machines: Cluster, chance: random.Random
) -> None:
    machines.on("cp1", f"mkdir -p {MANIFESTS}")
    watch = kills.FolderWatch(machines, "cp1", MANIFESTS)

    def cut_off_too(phase: str) -> None:
        if phase != "kubelet-start":
            return
        with machines.start("init") as silenced:
            kills.until(silenced, r"\bkubelet-start\b")
            # The machine never learns that this run is dead. Its lock lapses, and what it still does there is ended.
            with kills.cut(_address(machines, "cp1"), kills.connection(silenced, _address(machines, "cp1")), "drop"):
                silenced.kill()
                silenced.wait(300)
                kills.kill_after(machines, ["init"], chance.uniform(1, 30))
                machines.kubestrap("init", "--until", "kubelet-start")

    killed = kills.kill_at_each_phase(machines, ["init"], afterwards=cut_off_too)
    assert {phase.partition("/")[0] for phase in killed} == {phase.name.partition("/")[0] for phase in phases.INIT}
    assert kills.acting(machines, "cp1") == ""
    changes = watch.changes()
    watch.close()
    # A manifest comes whole, by a rename from outside of the folder, and nothing else is ever there.
    assert {kind for kind, _ in changes} == {"moved to"}
    assert {name for _, name in changes} == PODS


def test_f2_f3_f6_f19_a_join_that_is_stopped_cut_off_and_killed_at_every_phase_is_finished(
    machines: Cluster, chance: random.Random
) -> None:
    with machines.start("join") as stopped:
        kills.until(stopped, r"^worker1\b")
        stopped.send_signal(signal.SIGINT)
        _, said = stopped.communicate(timeout=300)
    assert stopped.returncode == 130, said
    assert "run the same command again" in said
    for machine in ("cp1", "worker1"):
        kills.eventually_free(machines, machine)
        assert kills.acting(machines, machine) == ""

    with machines.start("join") as reset:
        kills.until(reset, r"^worker1\b")
        with kills.cut(_address(machines, "worker1"), kills.connection(reset, _address(machines, "worker1")), "reset"):
            _, said = reset.communicate(timeout=300)
            assert "worker1: the connection was lost" in said
            assert reset.returncode == 5, said
            kills.kill_after(machines, ["join"], chance.uniform(1, 30))

    def restart(phase: str) -> None:
        if phase == "kubelet-start":
            kills.restart(machines, "worker1")

    killed = kills.kill_at_each_phase(machines, ["join"], afterwards=restart)
    of_workers = {phase.name.partition("/")[0] for phase in phases.JOIN if phase.on in ("all", "worker")}
    # With one control plane there is no proxy to be waited for.
    assert {phase.partition("/")[0] for phase in killed} == of_workers - {"wait-local-proxy"}


def test_f19_machines_that_lose_their_power_come_back_by_themselves(machines: Cluster) -> None:
    machines.wait_ready(["cp1", "worker1"])
    for machine in ("worker1", "cp1"):
        kills.restart(machines, machine)
    kills.eventually_ready(machines, ["cp1", "worker1"])
    for command in ("init", "join"):
        assert [line for line in machines.kubestrap(command).stderr.splitlines() if line.startswith("    ")] == []


def test_f1_f2_f19_the_machines_and_the_cluster_are_as_after_an_unbroken_run(machines: Cluster, molecule: Done) -> None:
    assert sameness.differences(molecule.state, sameness.settled(machines)) == []


def test_f28_a_second_operator_is_named_the_first_and_takes_over_when_that_one_is_dead(machines: Cluster) -> None:
    with machines.start("-c", HOLD) as first:
        kills.until(first, "held")
        refused = machines.kubestrap("init", status=9)
        assert f"(process {first.pid}) runs `kubestrap init` since" in refused.stderr
        assert machines.kubestrap("unlock", status=2).stdout.count(f"(process {first.pid})") == 2
        first.kill()
    machines.kubestrap("init")


def test_f3_sigterm_stops_a_run_that_changes_nothing_and_frees_the_lock(machines: Cluster) -> None:
    code = 0
    while code == 0:  # it got to its end before the signal came
        with machines.start("init") as stopped:
            kills.until(stopped, r"^cp1\b")
            stopped.terminate()
            _, said = stopped.communicate(timeout=300)
        code = stopped.returncode
    assert code == 143, said
    kills.eventually_free(machines, "cp1")


def test_f34_a_reset_that_is_killed_is_finished(machines: Cluster, chance: random.Random) -> None:
    kills.kill_after(machines, ["reset", "--yes"], chance.uniform(1, 8))
    machines.kubestrap("reset", "--yes")
    for machine in ("cp1", "worker1"):
        assert machines.on(machine, "ls -d /etc/kubernetes /var/lib/kubestrap/receipt 2>/dev/null || :") == ""
    assert "nothing to do" in machines.kubestrap("reset", "--yes").stderr
