"""Etcd beside the control plane: on a machine of its own, and then as an external one that is only given.

The tests go on from each other, on two machines of their own. Costs about 3 min.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from bootstrap import paths
from tests.lab.clusters import KUBECTL, Cluster, changes
from tests.lab.conftest import lab_of

EVERY = ("cp1", "worker1")
CLIENT = {
    "etcd-ca.pem": f"{paths.PKI}/etcd/ca.crt",
    "client.pem": f"{paths.PKI}/apiserver-etcd-client.crt",
    "client.key": f"{paths.PKI}/apiserver-etcd-client.key",
}


def _own_host(data: dict[str, Any]) -> None:
    """Make the lab's second machine etcd's, and the first one the whole of a cluster."""
    first, second = data["hosts"]
    first["roles"] = ["control-plane", "worker"]
    second["roles"] = ["etcd"]


@pytest.fixture(scope="module")
def pair(prepared: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two machines that are prepared, and nothing more."""
    with lab_of("etcd", machines=2, snapshot=prepared) as lab:
        cluster = Cluster(lab, tmp_path_factory.mktemp("etcd"))
        cluster.write_inventory(EVERY, _own_host)
        yield cluster


def _wait_ready(cluster: Cluster) -> None:
    cluster.on("cp1", f"{KUBECTL} wait --for=condition=Ready --timeout=180s node/cp1", seconds=240)


def _servers(cluster: Cluster) -> str:
    return cluster.on("cp1", f"sed -n 's/.*--etcd-servers=//p' {paths.MANIFESTS}/kube-apiserver.yaml").strip()


def test_etcd_on_a_host_of_its_own_is_formed_with_the_control_plane_also_after_a_kill(pair: Cluster) -> None:
    run = pair.start("init")
    assert run.stderr is not None
    for line in run.stderr:
        if "kubelet-start" in line:
            break
    run.send_signal(signal.SIGKILL)
    run.wait()
    pair.kubestrap("init")
    _wait_ready(pair)
    address = pair.lab.machine("worker1").address
    assert _servers(pair) == f"https://{address}:2379"
    # The key of etcd's CA is where etcd is, and there is nothing of the cluster's there.
    assert pair.on("cp1", f"ls {paths.PKI}/etcd").split() == ["ca.crt"]
    assert pair.on("worker1", f"ls {paths.KUBERNETES} {paths.PKI}").split("\n\n")[1].split()[1:] == ["etcd"]
    assert "No such file" in pair.ssh("worker1", f"ls {paths.KUBELET_CONF}").stderr
    assert pair.get("nodes")["items"][0]["metadata"]["name"] == "cp1"
    assert len(pair.get("nodes")["items"]) == 1


def test_a_second_run_changes_nothing_and_every_check_passes(pair: Cluster) -> None:
    pair.kubestrap("verify")
    before = {machine: pair.containers(machine) for machine in EVERY}
    assert changes(pair.kubestrap("init").stderr) == []
    assert {machine: pair.containers(machine) for machine in EVERY} == before


def test_etcds_commands_ask_its_host(pair: Cluster) -> None:
    shown = pair.kubestrap("etcd", "status", "--output", "json").stdout.splitlines()
    assert [member["host"] for member in json.loads(shown[0])["data"]["members"]] == ["worker1"]
    assert pair.kubestrap("etcd", "alarms").stderr.strip() == "No alarm is raised."
    pair.kubestrap("etcd", "snapshot", "save", "etcd.db")
    assert (pair.home / "etcd.db").stat().st_size > 1_000_000
    pair.kubestrap("etcd", "defrag")
    told = pair.kubestrap("reset", "--yes", "--limit", "worker1", status=2).stderr
    assert "etcd of a cluster that goes on is not taken away (worker1)" in told


def test_kubeadm_can_take_over_with_an_external_etcd(pair: Cluster) -> None:
    config = yaml.safe_load(pair.get("-n kube-system configmap kubeadm-config")["data"]["ClusterConfiguration"])
    assert config["etcd"]["external"]["endpoints"] == [_servers(pair)]
    assert config["etcd"]["external"]["keyFile"] == f"{paths.PKI}/apiserver-etcd-client.key"


def test_an_etcd_that_is_only_given_carries_another_cluster(pair: Cluster) -> None:
    for name, path in CLIENT.items():
        (pair.home / name).write_text(pair.on("cp1", f"cat {path}"))
        (pair.home / name).chmod(0o600)
    endpoint = _servers(pair)

    def given(data: dict[str, Any]) -> None:
        data["hosts"][0]["roles"] = ["control-plane", "worker"]
        files = dict(zip(("caFile", "certFile", "keyFile"), CLIENT, strict=True))
        data["cluster"]["etcd"] = {"external": {"endpoints": [endpoint], **files}}
        # One etcd may carry several clusters.
        data["cluster"]["apiServer"] = {"extraArgs": [{"name": "etcd-prefix", "value": "/second"}]}

    def elsewhere(data: dict[str, Any]) -> None:
        given(data)
        data["cluster"]["etcd"]["external"]["endpoints"] = [endpoint.replace(":2379", ":2378"), endpoint]

    pair.write_inventory(["cp1"], given)
    uid = pair.get("namespace kube-system")["metadata"]["uid"]
    pair.kubestrap("reset", "--yes")
    pair.write_inventory(["cp1"], elsewhere)
    told = pair.kubestrap("init", status=4).stderr
    assert f"cp1: Reach-2378: etcd at {endpoint.replace(':2379', ':2378')} is not reached" in told
    pair.write_inventory(["cp1"], given)
    (pair.home / "client.key").chmod(0o644)
    assert "can be read or changed by others" in pair.kubestrap("init", status=3).stderr
    (pair.home / "client.key").chmod(0o600)
    pair.kubestrap("init")
    _wait_ready(pair)
    assert pair.get("namespace kube-system")["metadata"]["uid"] != uid
    assert pair.on("cp1", f"ls {paths.MANIFESTS}").split() == [
        "kube-apiserver.yaml",
        "kube-controller-manager.yaml",
        "kube-scheduler.yaml",
    ]
    assert changes(pair.kubestrap("init").stderr) == []
    pair.kubestrap(
        "verify", "--only", "certificates,pki-files,manifests,static-pods,api-server-health,ports,port-owners"
    )
    assert "look after it where it runs" in pair.kubestrap("etcd", "status", status=12).stderr


def test_reset_takes_all_of_it_away(pair: Cluster) -> None:
    pair.write_inventory(EVERY, _own_host)
    pair.kubestrap("reset", "--yes")
    for machine in EVERY:
        # The folder of etcd's data is a file system of its own in a lab, and stays.
        assert pair.on(machine, f"find {paths.KUBERNETES} /var/lib/etcd -mindepth 1 2>/dev/null || true").split() == []
        assert not pair.on(machine, "pgrep -x etcd || true").strip()
