"""Hosts taken out of a cluster of three control planes: lost ones, which come back, and living ones.

The tests go on from each other, on machines of their own. Costs about 4 min.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from bootstrap.lab import machines
from tests.lab.clusters import KUBECTL, Cluster, changes

MASTERS = ("cp1", "cp2", "cp3")
EVERY = (*MASTERS, "worker1")
ASK = "/usr/local/bin/kubectl --kubeconfig /etc/kubernetes/kubelet.conf --request-timeout 5s get --raw /readyz"


def _quick(data: dict[str, Any]) -> None:
    data["cluster"]["timeouts"] = {"drain": "5s"}


@pytest.fixture(scope="module")
def formed(trio: Cluster) -> Cluster:
    """All of them in the cluster, and well."""
    trio.write_inventory(EVERY, _quick)
    told = trio.kubestrap("apply").stderr.splitlines()
    ended = [line.split()[:2] for line in told if "waiting for" not in line and len(line.split()) > 2]
    # A worker begins as soon as the cluster takes it, and no control-plane host is waited for but the one that leads.
    assert ended.index(["cp1", "bootstrap-token"]) < ended.index(["worker1", "local-proxy"])
    assert trio.kubestrap("token", "list").stdout.splitlines()[1:] == []
    names = " ".join(f"node/{name}" for name in EVERY)
    trio.on("cp1", f"{KUBECTL} wait --for=condition=Ready --timeout=300s {names}", seconds=360)
    trio.kubestrap("verify", "--only", "system-pods,coredns,kube-proxy,flannel")
    return trio


def _nodes(cluster: Cluster) -> list[str]:
    return cluster.on("cp1", f"{KUBECTL} get nodes -o jsonpath='{{.items[*].metadata.name}}'").split()


def _members(cluster: Cluster) -> list[str]:
    shown = cluster.kubestrap("etcd", "status", "--output", "json").stdout
    (result,) = [line for line in map(json.loads, shown.splitlines()) if "members" in line.get("data", {})]
    return sorted(member["name"] for member in result["data"]["members"])


def _register(cluster: Cluster, machine: str, machine_id: str) -> str:
    """Have `machine` make its Node as its kubelet does, by its certificate, at an API server that serves."""
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": machine},
        "status": {"nodeInfo": {"machineID": machine_id}},
    }
    server = f"https://{cluster.lab.machine('cp1').address}:6443"
    create = "/usr/local/bin/kubectl --kubeconfig /etc/kubernetes/kubelet.conf create --validate=false -f -"
    return cluster.on(machine, f"echo '{json.dumps(node)}' | {create} --server {server} 2>&1 || true")


def test_a_lost_host_goes_only_where_it_is_said_to_be_lost_and_etcd_bears_it(formed: Cluster) -> None:
    machines.cut_power(formed.lab.name, "cp3")
    assert "give --dead" in formed.kubestrap("remove", "cp3", "--yes", status=1).stderr
    told = formed.kubestrap("remove", "cp2", "--yes", status=1).stderr
    assert "2 voting members would be left, of which 2 must be well: cp1 is, and cp3 not" in told
    assert "no control-plane host would be left" in formed.kubestrap("remove", *MASTERS, "--yes", status=2).stderr
    assert _nodes(formed) == list(EVERY)


def test_f20_a_lost_control_plane_is_taken_out_and_the_rest_has_nothing_to_complain_of(formed: Cluster) -> None:
    formed.kubestrap("remove", "cp3", "--dead", "--yes")
    assert _nodes(formed) == ["cp1", "cp2", "worker1"]
    assert "cp3" not in formed.on("worker1", "cat /etc/kubernetes/kubestrap-proxy/haproxy.cfg")
    again = formed.kubestrap("remove", "cp3", "--dead", "--yes").stderr
    assert "cp3: it is gone already" in again
    assert changes(again) == []

    formed.write_inventory(["cp1", "cp2", "worker1"], _quick)
    for command in ("init", "join"):
        assert changes(formed.kubestrap(command).stderr) == []
    assert _members(formed) == ["cp1", "cp2"]
    assert "every Node and every etcd member" in formed.kubestrap("prune", "--detailed-exitcode").stderr
    formed.kubestrap("verify")
    assert formed.on("worker1", ASK, seconds=60).strip() == "ok"


def test_a_removed_machine_that_comes_back_is_refused_by_name(formed: Cluster) -> None:
    machines.start(formed.lab.name, "cp3")
    machines.wait(formed.lab.name, [formed.lab.machine("cp3")])
    own = formed.on("cp3", "cat /etc/machine-id").strip()
    assert "the machine cp3 was removed from this cluster" in _register(formed, "cp3", own)
    assert "created" in _register(formed, "cp3", "another")
    formed.on("cp1", f"{KUBECTL} delete node cp3")
    assert _members(formed) == ["cp1", "cp2"]

    # A machine that is reached is cleaned, and may then come again.
    formed.write_inventory(EVERY, _quick)
    changed = changes(formed.kubestrap("remove", "cp3", "--yes").stderr)
    assert "/etc/kubernetes/manifests/etcd.yaml: removed" in changed
    assert formed.on("cp1", f"{KUBECTL} get validatingadmissionpolicies -o name") == ""
    assert changes(formed.kubestrap("remove", "cp3", "--yes").stderr) == []


def test_prune_takes_out_a_worker_that_the_inventory_lacks_and_its_kubelet_is_told_why(formed: Cluster) -> None:
    formed.write_inventory(["cp1", "cp2"], _quick)
    shown = formed.kubestrap("prune", "--detailed-exitcode", status=11).stdout.splitlines()
    assert [line.split()[:4] for line in shown[1:]] == [["worker1", "worker", "Ready", "-"]]
    assert "worker1: it is not in the inventory, but its kubelet" in formed.kubestrap("prune", "--yes", status=1).stderr
    machines.cut_power(formed.lab.name, "worker1")
    formed.kubestrap("prune", "--yes", "--force")
    assert _nodes(formed) == ["cp1", "cp2"]

    machines.start(formed.lab.name, "worker1")
    machines.wait(formed.lab.name, [formed.lab.machine("worker1")])
    told = "journalctl -b -u kubelet --no-pager | grep -q 'the machine worker1 was removed from this cluster'"
    formed.on("worker1", f"until {told}; do sleep 1; done", seconds=120)
    assert _nodes(formed) == ["cp1", "cp2"]
    formed.write_inventory(["cp1", "cp2", "worker1"], _quick)
    formed.kubestrap("remove", "worker1", "--yes")
    formed.kubestrap("join")
    assert _nodes(formed) == ["cp1", "cp2", "worker1"]


def test_a_living_leader_goes_and_one_is_left(formed: Cluster) -> None:
    formed.write_inventory(["cp1", "cp2", "worker1"])  # Pods take their time to end
    shown = formed.kubestrap("etcd", "status").stdout
    leader = next(line.split()[0] for line in shown.splitlines() if " leader " in line)
    left = next(name for name in ("cp1", "cp2") if name != leader)
    formed.kubestrap("remove", leader, "--yes")
    assert formed.on(left, f"{KUBECTL} get nodes -o jsonpath='{{.items[*].metadata.name}}'").split() == [
        left,
        "worker1",
    ]
    formed.write_inventory([left, "worker1"])
    for command in ("init", "join"):
        assert changes(formed.kubestrap(command).stderr) == []
    # The worker came back before the cluster had let go of its Pods: they were started again, as that check tells.
    formed.verify_but("restarts")
