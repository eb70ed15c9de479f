"""reset on real machines: a cluster of two is taken apart with all kinds of things in the way, and made again.

The tests go on from each other. Costs about six minutes: two machines from the snapshot, `init` and `join` twice, and
the second time all of the bundle is sent.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from bootstrap import paths
from tests.lab import kills
from tests.lab.clusters import Cluster

BOTH = ("cp1", "worker1")
FILES = (
    f"{paths.PKI}/theirs.crt",
    f"{paths.KUBERNETES}/theirs.conf",
    f"{paths.KUBELET}/theirs",
    f"{paths.CNI_CONFIG}/99-theirs.conflist",
    f"{paths.CNI_BINARIES}/theirs",
    f"{paths.BINARIES}/theirs",
    "/var/lib/cni/networks/theirs/10.9.9.9",
    "/var/lib/cni/results/theirs-1-eth0",
)
MAKE_FOREIGN = f"""
set -e
for file in {" ".join(FILES)}; do mkdir -p "${{file%/*}}"; echo theirs > "$file"; done
mkdir -p /srv/theirs
mount -t tmpfs theirs /srv/theirs
echo theirs > /srv/theirs/file
iptables -A INPUT -p tcp --dport 7777 -m comment --comment theirs -j ACCEPT
iptables -t nat -N CNI-DN-theirs
iptables -t nat -L CNI-HOSTPORT-DNAT >/dev/null 2>&1 || iptables -t nat -N CNI-HOSTPORT-DNAT
iptables -t nat -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment 'dnat name: "theirs" id: "1"' -j CNI-DN-theirs
nft add table inet theirs
nft add chain inet theirs incoming '{{ type filter hook input priority 5; }}'
nft add rule inet theirs incoming tcp dport 7778 accept
ip link add theirs0 type veth peer name theirs1
ip netns add cni-theirs
"""
SHOW_FOREIGN = f"""
tail -n 1 {" ".join(FILES)} /srv/theirs/file
iptables-save | grep theirs
nft list table inet theirs
ls -d /sys/class/net/theirs*
ip netns exec cni-theirs ls /sys/class/net
"""
LEFTOVERS = {
    "services": "systemctl is-active kubelet containerd | grep -x active",
    "units": "systemctl list-units --all --no-legend 'kube*' 'cri-containerd*' 'containerd*'",
    "processes": "pgrep -l 'kube|etcd|containerd|coredns|flannel|pause'",
    "mounts": f"grep -E ' ({paths.KUBELET}/|/run/containerd/|/run/netns/cni-[^t])' /proc/self/mounts",
    "interfaces": "ls /sys/class/net | grep -E 'cni|flannel|veth|kube'",
    "routes": "ip route | grep -F 10.244.",
    "rules": "iptables-save | grep -E 'KUBE-|FLANNEL-|cbr0'; nft list tables | grep -E 'kube|flannel'",
    "files": f"ls -d {paths.KUBERNETES}/[!t]*.conf {paths.MANIFESTS}/* {paths.BINARIES}/k* {paths.KUBELET}/[!t]* "
    f"{paths.CNI_CONFIG}/[!9]* /var/lib/cni/[!nr]* /var/lib/cni/*/[!t]* /var/lib/etcd/* /var/lib/containerd/* "
    f"{paths.STATE} /etc/systemd/system/kubelet* /etc/*/*kubestrap* /run/flannel /run/containerd /run/nri "
    "/run/netns/cni-[!t]* /var/log/pods /var/log/containers 2>/dev/null",
    "hosts": "grep kubestrap /etc/hosts",
}


@pytest.fixture(scope="module")
def machines(new_cluster: Callable[[str, int], AbstractContextManager[Cluster]]) -> Iterator[Cluster]:
    """A cluster with things of others on its machines, and a Pod that its budget keeps where it is."""
    with new_cluster("reset", 2) as cluster:
        cluster.kubestrap("init")
        cluster.kubestrap("join")
        cluster.wait_ready(BOTH)
        run_web(cluster)
        for machine in BOTH:
            cluster.on(machine, MAKE_FOREIGN)
        yield cluster


@pytest.fixture(scope="module", autouse=True)
def foreign(machines: Cluster) -> dict[str, str]:
    """What others have on the machines, before anything was reset."""
    return {machine: machines.on(machine, SHOW_FOREIGN) for machine in BOTH}


def run_web(cluster: Cluster) -> None:
    """Have one Pod with a port of the machine and data there, which must not be evicted."""
    image = cluster.on("worker1", "ctr -n k8s.io images ls -q | grep -m 1 agnhost").strip()
    labels = {"app": "web"}
    container = {
        "name": "web",
        "image": image,
        "imagePullPolicy": "Never",
        "args": ["netexec", "--http-port=8080"],
        "ports": [{"containerPort": 8080, "hostPort": 8081}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {"medium": "Memory"}}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
    }
    for manifest in (deployment, budget):
        cluster.kubectl("create -f -", stdin=json.dumps(manifest))
    cluster.kubectl("rollout status deployment web --timeout 240s")


def is_untouched(cluster: Cluster, *, cordoned: bool = False) -> bool:
    """Say whether the worker is in the cluster, and its kubelet runs."""
    unschedulable = cluster.get("node worker1")["spec"].get("unschedulable", False)
    return unschedulable is cordoned and cluster.on("worker1", "systemctl is-active kubelet").strip() == "active"


def leftovers(cluster: Cluster, machine: str) -> dict[str, str]:
    found = {what: cluster.ssh(machine, command).stdout for what, command in LEFTOVERS.items()}
    return {what: text for what, text in found.items() if text}


@pytest.mark.parametrize("place", [f"{paths.KUBERNETES}/far", f"{paths.KUBELET}/pods/far", "/run/containerd/far"])
def test_f34_a_mount_of_others_is_named_and_nothing_is_changed(machines: Cluster, place: str) -> None:
    machines.on("worker1", f"mkdir {place} && mount -t tmpfs far {place}")
    try:
        said = machines.kubestrap("reset", "--yes", "--limit", "worker1", status=1).stderr
        assert f"mounted at {place};" in said
        assert is_untouched(machines)
    finally:
        machines.on("worker1", f"umount {place} && rmdir {place}")


def test_f34_kubernetes_that_has_no_receipt_is_left_to_who_made_it(machines: Cluster) -> None:
    machines.on("worker1", f"mv {paths.RECEIPT} /root/receipt")
    try:
        said = machines.kubestrap("reset", "--yes", "--limit", "worker1", status=1).stderr
    finally:
        machines.on("worker1", f"mv /root/receipt {paths.RECEIPT}")
    assert f"Kubernetes is here ({paths.KUBELET_CONF} {paths.KUBELET_CONFIG}), but no receipt of kubestrap" in said
    assert "kubeadm reset" in said
    assert is_untouched(machines)


def test_without_a_terminal_it_needs_to_be_told_yes(machines: Cluster) -> None:
    said = machines.kubestrap("reset", status=2).stderr
    assert "--yes" in said
    assert is_untouched(machines)


def test_f34_a_machine_whose_cluster_does_not_answer_is_not_reset(machines: Cluster) -> None:
    hurry(machines)
    rule = "INPUT -p tcp --dport 6443 -j REJECT --reject-with tcp-reset"
    machines.on("cp1", f"iptables -I {rule}")
    try:
        said = machines.kubestrap("reset", "--yes", "--limit", "worker1", status=5).stderr
    finally:
        machines.on("cp1", f"iptables -D {rule}")
    assert "worker1: its Node could not be taken out of the cluster: cp1: the API server at" in said
    assert "--force" in said
    assert is_untouched(machines)


def test_f34_a_node_whose_pods_may_not_leave_is_not_reset(machines: Cluster) -> None:
    hurry(machines)
    said = machines.kubestrap("reset", "--yes", "--limit", "worker1", status=10).stderr
    assert "waited 5 s for Pods to leave the Node: default/web-" in said
    assert "The disruption budget web needs 1 healthy pods and has 1 currently" in said
    assert is_untouched(machines, cordoned=True)


def hurry(cluster: Cluster) -> None:
    def change(inventory: dict[str, Any]) -> None:
        inventory["cluster"]["timeouts"] = {"kubernetesAPICall": "5s", "drain": "5s"}

    cluster.write_inventory(BOTH, change)


def test_f34_a_node_leaves_the_cluster_before_its_machine_is_touched(machines: Cluster) -> None:
    machines.write_inventory(BOTH)
    machines.kubectl("delete pdb web")
    with machines.start("reset", "--yes", "--limit", "worker1") as run:
        said = kills.until(run, r"^worker1 +drain +changed")
        said += kills.until(run, r"Node worker1: deleted")
        deadline = time.monotonic() + 120
        while machines.ssh("worker1", "systemctl is-active kubelet").stdout.strip() == "active":
            assert time.monotonic() < deadline, "reset did not stop the kubelet"
        run.kill()
    assert "keeps data on the machine, which are lost with it (emptyDir data)" in said
    assert [line for line in said.splitlines() if "Pod default/web-" in line and line.endswith(": evicted")]
    assert [item["metadata"]["name"] for item in machines.get("nodes")["items"]] == ["cp1"]
    assert all(pod["spec"].get("nodeName") != "worker1" for pod in machines.get("pods -l app=web")["items"])


def test_f34_a_reset_that_was_killed_is_finished_by_another(machines: Cluster, foreign: dict[str, str]) -> None:
    said = machines.kubestrap("reset", "--yes", "--limit", "worker1").stderr
    assert leftovers(machines, "worker1") == {}
    assert machines.on("worker1", SHOW_FOREIGN) == foreign["worker1"]
    assert f"worker1: {paths.KUBELET}/theirs stays: not of kubestrap" in said
    machines.wait_ready(["cp1"])


def test_f34_what_others_put_there_stays_and_is_told(machines: Cluster, foreign: dict[str, str]) -> None:
    said = machines.kubestrap("reset", "--yes").stderr
    assert "worker1: nothing to do" in said
    assert leftovers(machines, "cp1") == {}
    assert machines.on("cp1", SHOW_FOREIGN) == foreign["cp1"]
    for path in FILES:
        if paths.BINARIES not in path:
            assert f"cp1: {path} stays: not of kubestrap" in said or f"cp1: {path.rpartition('/')[0]} stays" in said
    assert "cp1: kernel state (modules, sysctls) stays: in force until the next boot" in said


def test_f34_a_second_reset_has_nothing_to_do(machines: Cluster) -> None:
    assert machines.kubestrap("reset", "--yes").stderr.count("nothing to do") == 2


def test_f34_a_cluster_can_be_made_again_and_taken_apart_where_tools_are_missing(
    machines: Cluster, foreign: dict[str, str]
) -> None:
    machines.kubestrap("init")
    machines.kubestrap("join")
    machines.wait_ready(BOTH)
    run_web(machines)
    tools = '"$(readlink -f /usr/sbin/iptables)" /usr/sbin/nft'
    for machine in BOTH:
        machines.on(machine, f"chmod a-x {tools}")
    machines.on("worker1", f"mkdir -p {paths.ASIDE}/20260102-030405/etc")
    said = machines.kubestrap("reset", "--yes").stderr
    assert f"worker1: {paths.ASIDE} stays: what --force moved there" in said
    machines.on("worker1", f"rm -r {paths.STATE}")
    for machine in BOTH:
        machines.on(machine, f"chmod a+x {tools}")
        assert leftovers(machines, machine) == {}
        assert machines.on(machine, SHOW_FOREIGN) == foreign[machine]
