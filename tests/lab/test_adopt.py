"""A cluster of kubeadm's is adopted as it stands, joined by a worker, and has a control plane replaced.

kubeadm is built from the pinned modules, for tests alone. Costs, beside the shared snapshot: 30 s to build kubeadm
where the rest of Kubernetes is built, 2 min for three control planes and a worker of its making, 5 min for all that
is done to them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest
import yaml

from bootstrap import paths
from bootstrap.bundle import open_bundle
from bootstrap.bundle.gomodules import build_tool
from bootstrap.inventory import load
from bootstrap.phases import addons
from bootstrap.site import Facts, Node, Site
from bootstrap.steps import ApiObject
from tests.lab import kubeadm
from tests.lab.clusters import Cluster, changes, members
from tests.lab.conftest import lab_of

MASTERS = ("cp1", "cp2", "cp3")
THEIRS = (*MASTERS, "worker1")

_PACKAGED = """
set -e
(cd /usr/local/bin && mv containerd containerd-shim-runc-v2 runc kubelet /usr/bin/)
cd /etc/systemd/system
mkdir -p /usr/lib/systemd/system/kubelet.service.d
for file in containerd.service kubelet.service kubelet.service.d/10-kubeadm.conf; do
    sed 's,/usr/local/bin/,/usr/bin/,g' $file > /usr/lib/systemd/system/$file
    rm $file
done
sed -i 's,/usr/local/bin/,/usr/bin/,g' /etc/containerd/config.toml
rm -rf /var/lib/kubestrap /etc/modules-load.d/kubestrap.conf /etc/sysctl.d/90-kubestrap.conf
systemctl daemon-reload
systemctl --quiet enable containerd kubelet
systemctl restart containerd
"""
"""Makes of a machine that we prepared one whose containerd and kubelet came by packages, as kubeadm needs them."""


@pytest.fixture(scope="module")
def theirs(prepared: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three control planes and a worker by kubeadm, with flannel; and two machines that are in no cluster."""
    program = build_tool("kubeadm")
    with lab_of("adopt", machines=6, control_planes=3, snapshot=prepared) as lab:
        cluster = Cluster(lab, tmp_path_factory.mktemp("adopt"))
        (cluster.home / ".ssh").mkdir()
        (cluster.home / ".ssh" / "known_hosts").write_bytes(lab.known_hosts_file.read_bytes())
        inventory = load(cluster.write_inventory(MASTERS))
        cluster.inventory.unlink()
        settings = inventory.cluster
        contents = open_bundle(None, kubernetes_version=settings.kubernetes_version, platform="linux/amd64").contents
        first = Node(inventory.hosts[0], lab.machine("cp1").address, Facts(hostname="cp1"))
        for machine in lab.machines:
            cluster.on(machine.name, f"echo {first.address} {settings.endpoint_name} >> /etc/hosts")
        for name in THEIRS:
            cluster.on(name, _PACKAGED)
            kubeadm.install(program, cluster, name)
        cluster.on("cp1", "cat > /root/kubeadm.yaml", stdin=kubeadm.configuration(settings, first, contents))
        cluster.on("cp1", "kubeadm init --config /root/kubeadm.yaml --ignore-preflight-errors=all 2>&1", seconds=600)
        site = Site(settings, (first,), contents)
        network = [step.manifest for step in addons.flannel_steps(site, first) if isinstance(step, ApiObject)]
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": network})
        cluster.kubectl("apply --server-side -f -", stdin=listed)
        key = cluster.on("cp1", "kubeadm init phase upload-certs --upload-certs 2>/dev/null").split()[-1]
        join = cluster.on("cp1", "kubeadm token create --print-join-command 2>/dev/null").strip()
        for name in THEIRS[1:]:
            how = f"--control-plane --certificate-key {key}" if name in MASTERS else ""
            cluster.on(name, f"{join} {how} --ignore-preflight-errors=all 2>&1", seconds=600)
        cluster.wait_ready(THEIRS, seconds=600)
        yield cluster


def _adopt(cluster: Cluster, *machines: str, status: int = 0) -> tuple[str, str]:
    addresses = [f"root@{cluster.lab.machine(name).address}" for name in machines]
    ran = cluster.kubestrap("adopt", *addresses, "--identity-file", cluster.lab.identity_file, status=status)
    return ran.stdout, ran.stderr


def _pki(cluster: Cluster) -> Mapping[str, str]:
    command = f"cd {paths.KUBERNETES} && find pki admin.conf -type f | sort | xargs sha256sum"
    return {name: cluster.on(name, command) for name in MASTERS}


def _containers(cluster: Cluster) -> Mapping[str, Mapping[str, str]]:
    """Give the containers that run, but for kube-proxy's, which is rolled so that it knows its configuration's sum."""
    running = {name: cluster.containers(name) for name in THEIRS}
    return {
        name: {each: number for each, number in found.items() if "/kube-proxy-" not in each}
        for name, found in running.items()
    }


def _append(cluster: Cluster, machine: str, role: str) -> None:
    data = yaml.safe_load(cluster.inventory.read_text())
    data["hosts"].append({"name": machine, "address": cluster.lab.machine(machine).address, "roles": [role]})
    cluster.inventory.write_text(yaml.safe_dump(data, sort_keys=False))


def test_machines_that_are_no_nodes_and_a_cluster_without_a_control_plane_are_refused(theirs: Cluster) -> None:
    _, told = _adopt(theirs, "cp1", "worker2", status=3)
    assert f"{theirs.lab.machine('worker2').address}: it is no node of a cluster" in told
    assert "[adopt-no-node]" in told
    assert not theirs.inventory.exists()


def test_adopting_changes_nothing_and_finds_what_kubeadm_was_told(theirs: Cluster) -> None:
    for name in THEIRS:
        theirs.on(name, "touch /root/before && sleep 0.1")
    shown, told = _adopt(theirs, *THEIRS)
    for name in THEIRS:
        assert theirs.on(name, "find /etc /opt /usr /var/lib/kubestrap -newer /root/before 2>/dev/null || true") == ""
    made = yaml.safe_load(theirs.inventory.read_text())
    lab = yaml.safe_load(theirs.lab.inventory.read_text())["cluster"]
    assert [(host["name"], host["roles"]) for host in made["hosts"]] == [
        *((name, ["control-plane"]) for name in MASTERS),
        ("worker1", ["worker"]),
    ]
    assert {key: made["cluster"][key] for key in ("name", "kubelet", "kubeProxy", "containerd", "addons")} == {
        "name": lab["name"],
        "kubelet": lab["kubelet"],
        "kubeProxy": lab["kubeProxy"],
        "containerd": lab["containerd"],
        "addons": {"cni": "none"},
    }
    assert "kube-flannel/kube-flannel-ds: the Pod network of whoever installed it" in told
    assert "kubelet.service: restarted" in shown
    assert "--initial-cluster" not in shown
    _, again = _adopt(theirs, *THEIRS, status=2)
    assert "inventory.yaml is there already" in again


def test_machines_of_another_cluster_than_the_inventory_names_are_refused(theirs: Cluster) -> None:
    text = theirs.inventory.read_text()
    data = yaml.safe_load(text)
    data["cluster"]["caCertHash"] = f"sha256:{'0' * 64}"
    theirs.inventory.write_text(yaml.safe_dump(data, sort_keys=False))
    assert "it is in another cluster" in theirs.kubestrap("init", status=8).stderr
    worker = theirs.lab.machine("worker2").address
    data["hosts"] = [{"name": "worker2", "address": worker, "roles": ["control-plane"]}]
    theirs.inventory.write_text(yaml.safe_dump(data, sort_keys=False))
    assert "no control-plane host holds the cluster" in theirs.kubestrap("init", status=3).stderr
    theirs.inventory.write_text(text)


def test_the_first_run_keeps_certificates_members_and_pods_and_the_second_changes_nothing(theirs: Cluster) -> None:
    pki, containers, known = _pki(theirs), _containers(theirs), members(theirs, "cp1")["members"]
    theirs.kubestrap("init")
    theirs.kubestrap("join")
    assert _pki(theirs) == pki
    assert _containers(theirs) == containers
    assert members(theirs, "cp1")["members"] == known
    theirs.wait_ready(THEIRS)
    assert changes(theirs.kubestrap("init").stderr) == []
    assert changes(theirs.kubestrap("join").stderr) == []


def test_a_worker_joins_and_a_control_plane_is_replaced(theirs: Cluster) -> None:
    _append(theirs, "worker2", "worker")
    theirs.kubestrap("join")
    theirs.wait_ready([*THEIRS, "worker2"])
    _append(theirs, "worker3", "control-plane")
    theirs.kubestrap("replace", "cp3", "worker3", "--yes")
    data = yaml.safe_load(theirs.inventory.read_text())
    data["hosts"] = [host for host in data["hosts"] if host["name"] != "cp3"]
    theirs.inventory.write_text(yaml.safe_dump(data, sort_keys=False))
    theirs.wait_ready(["cp1", "cp2", "worker1", "worker2", "worker3"])
    assert {each["name"] for each in members(theirs, "cp1")["members"]} == {"cp1", "cp2", "worker3"}
    assert changes(theirs.kubestrap("init").stderr) == []
    assert changes(theirs.kubestrap("join").stderr) == []
    # The first member was started anew for the list of the others, and what leaned on it with it.
    theirs.verify_but("restarts")
    theirs.kubestrap("etcd", "status")
