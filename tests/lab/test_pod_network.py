"""A cluster whose Pod network is not flannel: `cni: none`, and a network of routes that the test installs by hand.

Costs 2 min.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from bootstrap import paths
from tests.lab.clusters import Cluster

MACHINES = ("cp1", "worker1")


@pytest.fixture(scope="module")
def bare(new_cluster: Callable[[str, int], AbstractContextManager[Cluster]]) -> Iterator[Cluster]:
    def configure(data: dict[str, Any]) -> None:
        data["cluster"]["addons"] = {"cni": "none"}

    with new_cluster("network", len(MACHINES)) as cluster:
        cluster.write_inventory(MACHINES, configure)
        yield cluster


def node(cluster: Cluster, name: str) -> Any:
    (found,) = cluster.get(f"nodes --field-selector metadata.name={name}")["items"] or [None]
    return found


def install(cluster: Cluster, name: str) -> None:
    """Give a machine a bridge for its Pods, and the other machine the way there, once the Node has its addresses."""
    deadline = time.monotonic() + 300
    while not (found := node(cluster, name)) or "podCIDR" not in found["spec"]:
        assert time.monotonic() < deadline, f"{name} has no podCIDR"
        time.sleep(1)
    pods = found["spec"]["podCIDR"]
    address = next(each["address"] for each in found["status"]["addresses"] if each["type"] == "InternalIP")
    ipam = {"type": "host-local", "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": "routed0", "isGateway": True, "ipam": ipam}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    conflist = {"cniVersion": "1.0.0", "name": "routed", "plugins": [bridge, portmap]}
    place = f"{paths.CNI_CONFIG}/10-routed.conflist"
    cluster.on(name, f"cat >{place}.new && mv {place}.new {place}", stdin=json.dumps(conflist))
    for other in MACHINES:
        if other != name:
            cluster.on(other, f"ip route replace {pods} via {address}")


def test_a_network_that_somebody_installs_between_init_and_join_carries_the_cluster(bare: Cluster) -> None:
    bare.kubestrap("init")
    ready = next(each for each in node(bare, "cp1")["status"]["conditions"] if each["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "KubeletNotReady")
    assert "network" in ready["message"]
    install(bare, "cp1")
    with bare.start("join") as joining:
        install(bare, "worker1")
        assert joining.stderr
        told = joining.stderr.read()
    assert joining.returncode == 0, told
    bare.wait_ready(MACHINES)
    bare.kubectl("-n kube-system rollout status deploy/coredns --timeout=300s", seconds=360)
    assert not bare.get("daemonsets -A -l app=flannel")["items"]


def test_verify_finds_pods_that_reach_each_other(bare: Cluster) -> None:
    bare.kubestrap("verify")


def test_another_run_leaves_it_alone(bare: Cluster) -> None:
    assert bare.kubestrap("apply", "--dry-run").stdout == "No differences.\n"
