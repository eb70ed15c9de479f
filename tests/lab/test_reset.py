"""reset on real machines: a cluster of two is made, reset with all kinds of things in the way, and made again.

Costs about five minutes: two machines from the snapshot, `init` twice, and the second time all of the bundle is sent.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

from bootstrap import paths
from tests.lab.clusters import ROOT, Cluster

FOREIGN = (
    f"{paths.PKI}/theirs.crt",
    f"{paths.KUBELET}/theirs",
    f"{paths.CNI_CONFIG}/99-theirs.conflist",
    f"{paths.BINARIES}/theirs",
)
RULE = "INPUT -p tcp -m tcp --dport 7777 -m comment --comment theirs -j ACCEPT"
LEFTOVERS = {
    "services": "systemctl is-active kubelet containerd | grep -x active",
    "processes": "pgrep -l 'kube|etcd|containerd|coredns|flannel|pause'",
    "mounts": f"grep -E ' ({paths.KUBELET}|/run/containerd|/run/netns)/' /proc/self/mounts",
    "interfaces": "ls /sys/class/net | grep -E 'cni|flannel|veth'",
    "rules": "iptables-save | grep -E 'KUBE-|FLANNEL-'",
    "files": f"ls -d {paths.KUBERNETES}/*.conf {paths.MANIFESTS}/* {paths.BINARIES}/k* {paths.KUBELET}/pods "
    f"/var/lib/etcd/* /var/lib/containerd/* {paths.STATE} /etc/systemd/system/kubelet* 2>/dev/null",
    "hosts": "grep kubestrap /etc/hosts",
}


@dataclass
class Course:
    """What was seen on the way."""

    cluster: Cluster
    mounted: subprocess.CompletedProcess[str]
    mounted_kubelet: str
    unconfirmed: subprocess.CompletedProcess[str]
    unconfirmed_kubelet: str
    first: subprocess.CompletedProcess[str]
    left: dict[tuple[str, str], str]
    foreign: str
    second: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def course(new_cluster: Callable[[str, int], AbstractContextManager[Cluster]]) -> Iterator[Course]:
    with new_cluster("reset", 2) as cluster:
        cluster.kubestrap("init")
        cluster.kubestrap("join")
        cluster.wait_ready(["cp1", "worker1"])
        cluster.on("cp1", f"for file in {' '.join(FOREIGN)}; do echo theirs > $file; done; iptables -A {RULE}")

        cluster.on("worker1", f"mkdir {paths.KUBERNETES}/far && mount -t tmpfs far {paths.KUBERNETES}/far")
        mounted = cluster.kubestrap("reset", "--yes", "--limit", "worker1", status=None)
        mounted_kubelet = cluster.ssh("worker1", "systemctl is-active kubelet").stdout
        cluster.on("worker1", f"umount {paths.KUBERNETES}/far && rmdir {paths.KUBERNETES}/far")

        unconfirmed = cluster.kubestrap("reset", status=None)
        unconfirmed_kubelet = cluster.ssh("cp1", "systemctl is-active kubelet").stdout

        interrupt(cluster, "worker1")
        first = cluster.kubestrap("reset", "--yes", status=None)
        left = {
            (machine, what): cluster.ssh(machine, command).stdout
            for machine in ("cp1", "worker1")
            for what, command in LEFTOVERS.items()
        }
        foreign = cluster.ssh("cp1", f"ls {' '.join(FOREIGN)}; iptables -S INPUT").stdout
        second = cluster.kubestrap("reset", "--yes", status=None)
        yield Course(cluster, mounted, mounted_kubelet, unconfirmed, unconfirmed_kubelet, first, left, foreign, second)


def interrupt(cluster: Cluster, machine: str) -> None:
    """Begin a reset, and kill it as soon as it has stopped the kubelet."""
    environment = {"HOME": str(cluster.home), "PATH": "/nonexistent", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bootstrap", "reset", "--yes", "--limit", machine]
    run = subprocess.Popen(command, cwd=cluster.home, env=environment, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while cluster.ssh(machine, "systemctl is-active kubelet").stdout.strip() == "active":
            assert time.monotonic() < deadline, "reset did not stop the kubelet"
    finally:
        run.kill()
        run.wait()


def test_a_mount_of_others_is_named_and_nothing_is_changed(course: Course) -> None:
    assert course.mounted.returncode == 1, course.mounted.stderr
    assert f"mounted at {paths.KUBERNETES}/far" in course.mounted.stderr
    assert course.mounted_kubelet.strip() == "active"


def test_without_a_terminal_it_needs_to_be_told_yes(course: Course) -> None:
    assert course.unconfirmed.returncode == 2, course.unconfirmed.stderr
    assert "--yes" in course.unconfirmed.stderr
    assert course.unconfirmed_kubelet.strip() == "active"


def test_a_reset_that_was_killed_is_finished_by_another(course: Course) -> None:
    assert course.first.returncode == 0, course.first.stderr


@pytest.mark.parametrize("what", LEFTOVERS)
@pytest.mark.parametrize("machine", ["cp1", "worker1"])
def test_nothing_of_ours_is_left(course: Course, machine: str, what: str) -> None:
    assert course.left[machine, what] == ""


def test_what_others_put_there_stays_and_is_told(course: Course) -> None:
    assert course.foreign.splitlines()[: len(FOREIGN)] == sorted(FOREIGN)
    assert f"-A {RULE}" in course.foreign.splitlines()
    for path in FOREIGN[:3]:
        assert f"cp1: {path} stays: not of kubestrap" in course.first.stderr


def test_a_second_reset_has_nothing_to_do(course: Course) -> None:
    assert course.second.returncode == 0, course.second.stderr
    assert course.second.stderr.count("nothing to do") == 2


def test_a_cluster_can_be_made_again(course: Course) -> None:
    course.cluster.kubestrap("init")
    course.cluster.wait_ready(["cp1"])


def test_the_machine_can_be_joined_again(course: Course) -> None:
    course.cluster.kubestrap("join")
    course.cluster.wait_ready(["worker1"])
