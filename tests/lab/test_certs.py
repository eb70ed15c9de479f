"""Control planes that join by a certificate key: a real kubeadm joins a cluster of ours.

Costs about 80 s on two machines of its own, as the members of etcd change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from bootstrap import paths
from bootstrap.bundle.gomodules import build_tool
from bootstrap.inventory import load
from tests.lab import kubeadm
from tests.lab.clusters import Cluster

NewCluster = Callable[[str, int], AbstractContextManager[Cluster]]


@pytest.fixture(scope="session")
def program() -> Path:
    return build_tool("kubeadm")


@pytest.fixture(scope="module")
def ours(new_cluster: NewCluster) -> Iterator[Cluster]:
    """One control plane by `init`, and a machine that is in no cluster yet."""
    with new_cluster("certs", 2) as made:
        made.write_inventory(["cp1"])
        made.kubestrap("init")
        yield made


def result(said: str) -> Any:
    (data,) = (line["data"] for line in map(json.loads, said.splitlines()) if line["event"] == "result")
    return data


def test_a_real_kubeadm_joins_as_a_control_plane_by_the_certificate_key(ours: Cluster, program: Path) -> None:
    key_file = ours.home / "certificate.key"
    said = ours.kubestrap("certs", "upload", "--certificate-key-file", key_file)
    assert key_file.stat().st_mode & 0o777 == 0o600
    key = key_file.read_text().strip()
    assert key not in said.stdout + said.stderr
    made = result(ours.kubestrap("token", "create", "--print-join-command", "--output", "json").stdout)
    settings, address = load(ours.inventory).cluster, ours.lab.machine("worker1").address
    kubeadm.install(program, ours, "worker1")
    master = ours.lab.machine("cp1").address
    ours.on("worker1", "chmod 700 /var/lib/kubelet /var/lib/etcd; systemctl enable kubelet")
    ours.on("worker1", f"echo {master} {settings.endpoint_name} >> /etc/hosts")
    join = made["joinCommands"]["kubeadm"]
    options = f"--apiserver-advertise-address {address} --ignore-preflight-errors=all"
    ours.on("worker1", f"{join} --control-plane --certificate-key {key} {options} 2>&1", seconds=600)
    ours.wait_ready(["cp1", "worker1"])
    node = ours.get("node worker1")
    assert "node-role.kubernetes.io/control-plane" in node["metadata"]["labels"]
    for file in ("ca.crt", "ca.key", "sa.key", "etcd/ca.key"):
        texts = {ours.on(machine, f"cat {paths.PKI}/{file}") for machine in ("cp1", "worker1")}
        assert len(texts) == 1, file
    listed = ours.kubectl(
        "-n kube-system exec etcd-cp1 -- etcdctl --endpoints https://127.0.0.1:2379 --cacert "
        f"{paths.PKI}/etcd/ca.crt --cert {paths.PKI}/etcd/server.crt --key {paths.PKI}/etcd/server.key "
        "member list --write-out json"
    )
    found = {member["name"]: member.get("isLearner", False) for member in json.loads(listed)["members"]}
    assert found == {"cp1": False, "worker1": False}
