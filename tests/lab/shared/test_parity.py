"""What we write is what a real kubeadm writes, field by field, but for the differences that are intended.

kubeadm is built from the pinned modules, for tests alone. Costs, beside the shared cluster (about 2 min): 30 s to
build kubeadm where the rest of Kubernetes is built, 60 s for a machine on which kubeadm makes a cluster of its own,
and one that joins it.
"""

from __future__ import annotations

import base64
import datetime
import json
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from bootstrap import kubeconfig, paths, phases, plan, spec, tokens
from bootstrap.bundle import open_bundle
from bootstrap.bundle.gomodules import build_tool
from bootstrap.inventory import load
from bootstrap.phases import addons
from bootstrap.site import Facts, Node, Site
from bootstrap.steps import ApiObject, Directory, File
from tests import builders
from tests.lab import differences, kubeadm, written
from tests.lab.clusters import Cluster, changes
from tests.lab.written import Entry, Thing, Written

NewCluster = Callable[[str, int], AbstractContextManager[Cluster]]

ADDRESS = "192.0.2.10"
CA_FOLDERS = ("/etc/ca-certificates", "/usr/share/ca-certificates")
KINDS = (
    "clusterroles,clusterrolebindings,configmaps,daemonsets,deployments,namespaces,roles,rolebindings,secrets,"
    "serviceaccounts,services"
)
PATCHES = Path(__file__).parent / "patches"
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "patched": {"apiServer": {"extraEnvs": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}},
    "rich": {
        "name": "rich",
        "networking": {
            "podSubnet": "10.100.0.0/16",
            "serviceSubnet": "172.20.0.0/16",
            "dnsDomain": "corp.example",
        },
        "endpoint": {"kind": "local-proxy", "name": "api.corp.example", "port": 7443},
        "encryptionAlgorithm": "RSA-2048",
        "certificateValidityPeriod": "4380h",
        "caCertificateValidityPeriod": "43800h",
        "apiServer": {
            "certSANs": ["zone.corp.example", "*.api.corp.example", "192.0.2.99", "alias.corp.example", "192.0.2.99"],
            "extraArgs": [
                {"name": "service-account-issuer", "value": "https://new.corp.example"},
                {"name": "audit-log-maxage", "value": "7"},
                {"name": "service-account-issuer", "value": "https://kubernetes.default.svc.corp.example"},
                {"name": "enable-admission-plugins", "value": "NodeRestriction,AlwaysPullImages"},
                {"name": "authorization-config", "value": "/etc/kubernetes/authorization.yaml"},
            ],
            "extraEnvs": [{"name": "GOGC", "value": "50"}, {"name": "A", "value": ""}],
            "extraVolumes": [
                {
                    "name": "audit",
                    "hostPath": "/var/log/audit",
                    "mountPath": "/var/log/kubernetes",
                    "pathType": "DirectoryOrCreate",
                },
                {"name": "ca-certs", "hostPath": "/opt/certs", "mountPath": "/etc/ssl/certs", "readOnly": True},
            ],
        },
        "controllerManager": {
            "extraArgs": [
                {"name": "bind-address", "value": "0.0.0.0"},
                {"name": "flex-volume-plugin-dir", "value": "/opt/flex"},
                {"name": "v", "value": "2"},
            ],
            "extraVolumes": [{"name": "zone", "hostPath": "/usr/share/zoneinfo", "mountPath": "/usr/share/zoneinfo"}],
        },
        "scheduler": {
            "extraArgs": [{"name": "bind-address", "value": "192.0.2.10"}],
            "extraEnvs": [{"name": "GOMAXPROCS", "value": "2"}],
        },
        "etcd": {
            "local": {
                "dataDir": "/var/lib/etcd-data",
                "extraArgs": [
                    {"name": "listen-metrics-urls", "value": "http://0.0.0.0:2391"},
                    {"name": "quota-backend-bytes", "value": "8589934592"},
                    {"name": "initial-cluster-state", "value": "new"},
                ],
                "extraEnvs": [{"name": "ETCD_LOG_LEVEL", "value": "debug"}],
                "serverCertSANs": ["etcd.corp.example", "192.0.2.98"],
                "peerCertSANs": ["peer.corp.example"],
            }
        },
        "kubelet": {
            "config": {"maxPods": 50, "evictionHard": {"memory.available": "200Mi"}},
            "extraArgs": [{"name": "v", "value": "3"}],
        },
        "kubeProxy": {"config": {"mode": "nftables", "ipvs": {"excludeCIDRs": ["192.0.2.0/24"]}}},
    },
}
"""Clusters of inventories that are compared without any machine."""


@pytest.fixture(scope="session")
def program() -> Path:
    return build_tool("kubeadm")


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_is_planned_for_a_control_plane_is_what_kubeadm_writes(
    setting: str, program: Path, tmp_path: Path
) -> None:
    cluster = spec.Cluster.model_validate(SETTINGS[setting])
    if setting == "patched":
        cluster = cluster.model_copy(update={"patches": builders.patches(PATCHES)})
    host = spec.Host.model_validate({"name": "master", "address": ADDRESS, "roles": ["control-plane"]})
    node = Node(host, ADDRESS, Facts(hostname="another", ca_folders=CA_FOLDERS))
    files, objects = _planned(cluster, node)
    config = kubeadm.configuration(cluster, node, builders.contents())
    roots = [tmp_path / name for name in ("files", "objects")]
    for root in roots:
        root.mkdir()
        shutil.copytree(PATCHES, root / "patches")
    _compare(
        setting,
        written.machine(files, ADDRESS) | written.cluster(objects, ADDRESS),
        written.machine(kubeadm.files(program, config, roots[0], CA_FOLDERS), ADDRESS)
        | written.cluster(kubeadm.objects(program, config, roots[1]), ADDRESS),
    )


@pytest.fixture(scope="module")
def theirs(cluster: Cluster, program: Path, new_cluster: NewCluster) -> Iterator[Cluster]:
    """A control plane by kubeadm, on a machine of the name and with the settings of that of the shared cluster."""
    with new_cluster("parity", 3) as other:
        inventory = load(cluster.inventory)
        settings = inventory.cluster
        (host,) = (host for host in inventory.hosts if host.name == cluster.master)
        contents = open_bundle(None, kubernetes_version=settings.kubernetes_version, platform="linux/amd64").contents
        address = other.lab.machine(host.name).address
        node = Node(host, address, Facts(hostname=host.name))
        kubeadm.install(program, other, host.name)
        other.on(host.name, "cat > /root/kubeadm.yaml", stdin=kubeadm.configuration(settings, node, contents))
        # Volumes of the lab, which kubeadm leaves as it finds them; where it finds none it makes them so.
        other.on(host.name, "chmod 700 /var/lib/kubelet /var/lib/etcd")
        other.on(host.name, f"echo {address} {settings.endpoint_name} >> /etc/hosts; systemctl enable kubelet")
        other.on(host.name, "kubeadm init --config /root/kubeadm.yaml --ignore-preflight-errors=all 2>&1", seconds=600)
        # Its token is standing, so that the controller-manager signs cluster-info with it, in its own time.
        signature = f"jsonpath='{{.data.jws-kubeconfig-{kubeadm.TOKEN[:6]}}}'"
        other.kubectl(f"-n kube-public wait configmap/cluster-info --for={signature} --timeout=600s", seconds=660)
        yield other


def test_files_of_a_control_plane_are_those_that_kubeadm_writes(cluster: Cluster, theirs: Cluster) -> None:
    _compare("machine", *(written.machine(_files(each), _address(each)) for each in (cluster, theirs)))


def test_objects_of_a_cluster_are_those_that_kubeadm_makes(cluster: Cluster, theirs: Cluster) -> None:
    made = [(cluster, "kubestrap"), (theirs, "kubeadm")]
    _compare("cluster", *(written.cluster(_objects(each, manager), _address(each)) for each, manager in made))


def _address(cluster: Cluster) -> str:
    return cluster.lab.machine(cluster.master).address


def _files(cluster: Cluster) -> dict[str, Entry]:
    left_out = " ".join(f"--exclude='{path.lstrip('/')}'" for path in written.RUNNING)
    folders = " ".join(folder.lstrip("/") for folder in written.FOLDERS)
    text = cluster.on(cluster.master, f"tar --create --directory / {left_out} {folders} | base64")
    return written.archived(base64.b64decode(text))


def _objects(cluster: Cluster, manager: str) -> list[Thing]:
    """Give the objects that a manager of fields had a hand in, and the control plane's Node."""
    items = cluster.get(f"{KINDS} --all-namespaces --show-managed-fields")["items"]
    managed = [
        item
        for item in items
        if any(fields["manager"] == manager for fields in item["metadata"].get("managedFields", ()))
    ]
    return [*managed, cluster.get(f"node {cluster.master}")]


def test_our_join_makes_a_node_of_kubeadms_cluster_by_server_token_and_hash(cluster: Cluster, theirs: Cluster) -> None:
    settings = load(cluster.inventory).cluster
    node = Node(load(cluster.inventory).hosts[0], _address(theirs))
    site = Site(settings, (node,), open_bundle(None, kubernetes_version=settings.kubernetes_version).contents)
    # kubeadm leaves the Pod network to others, and without one no Node is Ready.
    network = [step.manifest for step in addons.flannel_steps(site, node) if isinstance(step, ApiObject)]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": network})
    theirs.kubectl("apply --server-side -f -", stdin=listed)
    ca_hash = tokens.ca_cert_hash(theirs.on("cp1", f"cat {paths.PKI}/ca.crt").encode())
    theirs.write_inventory(["worker1"])
    server = f"{_address(theirs)}:6443"
    arguments = ("--server", server, "--ca-cert-hash", ca_hash, "--token-file", "-")
    theirs.kubestrap("join", *arguments, stdin=f"{kubeadm.TOKEN}\n")
    theirs.wait_ready(["cp1", "worker1"], seconds=600)


def test_our_join_makes_a_control_plane_of_kubeadms_cluster_by_the_certificate_key(
    cluster: Cluster, theirs: Cluster
) -> None:
    def described(data: dict[str, Any]) -> None:
        data["cluster"] = yaml.safe_load(cluster.inventory.read_text())["cluster"]
        data["hosts"][0]["roles"] = ["control-plane"]

    key_file = theirs.home / "certificate.key"
    uploaded = theirs.on("cp1", "kubeadm init phase upload-certs --upload-certs 2>/dev/null")
    key_file.write_text(uploaded.split()[-1])
    theirs.write_inventory(["worker2"], described)
    ca_hash = tokens.ca_cert_hash(theirs.on("cp1", f"cat {paths.PKI}/ca.crt").encode())
    by = ("--server", f"{_address(theirs)}:6443", "--ca-cert-hash", ca_hash, "--token-file", "-")
    command = ("join", *by, "--control-plane", "--certificate-key-file", key_file)
    theirs.kubestrap(*command, stdin=f"{kubeadm.TOKEN}\n")
    theirs.wait_ready(["cp1", "worker2"])
    assert "node-role.kubernetes.io/control-plane" in theirs.get("node worker2")["metadata"]["labels"]
    pki = f"{paths.PKI}/etcd"
    asked = f"--cacert {pki}/ca.crt --cert {pki}/server.crt --key {pki}/server.key member list --write-out json"
    listed = json.loads(theirs.kubectl(f"-n kube-system exec etcd-cp1 -- etcdctl {asked}"))["members"]
    assert {each["name"]: each.get("isLearner", False) for each in listed} == {"cp1": False, "worker2": False}
    again = theirs.kubestrap(*command, stdin=f"{kubeadm.TOKEN}\n")
    assert changes(again.stderr) == []


def test_kubeadms_own_commands_work_on_our_cluster(cluster: Cluster, program: Path) -> None:
    kubeadm.install(program, cluster, "cp1", "/root/kubeadm")
    try:
        told = cluster.on("cp1", "/root/kubeadm certs check-expiration 2>&1")
        assert "apiserver-kubelet-client" in told
        assert "MISSING" not in told
        assert "INVALID" not in told
        cluster.on("cp1", "/root/kubeadm token list")
        planned = cluster.on("cp1", "/root/kubeadm upgrade plan v1.37.3 2>&1", seconds=600)
        assert "[upgrade] Running cluster health checks" in planned
        for component in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd", "kubelet"):
            assert re.search(rf"^{component} +cp1 +", planned, re.MULTILINE), planned
        assert re.search(r"^kubelet\.config\.k8s\.io +v1beta1 +v1beta1 +no *$", planned, re.MULTILINE), planned
        cluster.on("cp1", "cp -a /etc/kubernetes/pki /root/pki")
        renewed = cluster.on("cp1", "/root/kubeadm certs renew apiserver --cert-dir /root/pki 2>&1")
        assert "certificate for serving the Kubernetes API renewed" in renewed
    finally:
        cluster.on("cp1", "rm -rf /root/kubeadm /root/pki")


def test_a_difference_that_is_not_in_the_list_fails_by_name() -> None:
    ours, theirs = (
        {"a file": {"mode": "-rw-r--r--", "owner": "0 0"}},
        {"a file": {"mode": "-rw-------", "owner": "0 0"}},
    )
    assert written.differences(ours, theirs) == {"a file: mode": "ours '-rw-r--r--', kubeadm's '-rw-------'"}
    assert written.differences(ours, {}) == {"a file": "only ours"}
    with pytest.raises(AssertionError, match="not intended: a file: mode"):
        _compare("no such setting", ours, theirs)


def test_a_difference_of_the_list_that_is_none_fails_by_name() -> None:
    with pytest.raises(AssertionError, match="differs no longer: Secret kube-system/bootstrap-token-abcdef"):
        _compare("plain", {}, {})


def test_no_intended_difference_stands_in_the_list_twice() -> None:
    named = [(difference.place, setting) for difference in differences.INTENDED for setting in difference.settings]
    assert len(set(named)) == len(named)


def _planned(cluster: spec.Cluster, node: Node) -> tuple[dict[str, Entry], list[Thing]]:
    """Give the files and objects that `init` has when its plan is done on a new machine."""
    files = kubeconfig.site_files(cluster, [node], datetime.datetime.now(datetime.UTC))
    site = Site(cluster, (node,), builders.contents(), files)
    found: dict[str, Entry] = {}
    objects: list[Thing] = []
    for task in plan.build(phases.INIT, site, nodes=[node]).tasks:
        for step in task.steps:
            match step:
                case Directory(path=path, mode=mode) if path.startswith(written.FOLDERS):
                    found[path] = Entry(stat.filemode(stat.S_IFDIR | mode), "0 0")
                case File(path=path, data=data, mode=mode) if path.startswith(written.FOLDERS):
                    # kubelet.conf is written again once the kubelet has its certificate, which no dry run has.
                    found.setdefault(path, Entry(stat.filemode(stat.S_IFREG | mode), "0 0", data))
                case ApiObject(manifest=manifest):
                    objects.append(manifest)
                case _:
                    pass
    return found, objects


def _compare(setting: str, ours: Written, theirs: Written) -> None:
    """Fail with each difference that is not in the list, and each in the list that is none."""
    intended = {each.place: each.reason for each in differences.INTENDED if setting in each.settings}
    found = written.differences(ours, theirs)
    problems = [f"not intended: {place}: {how}" for place, how in found.items() if place not in intended]
    problems += [f"differs no longer: {place} ({why})" for place, why in intended.items() if place not in found]
    assert not problems, "\n".join(problems)
