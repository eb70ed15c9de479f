"""What is written, whole: each file and object of a plan against tests/golden/phases.

KUBESTRAP_UPDATE_GOLDEN=1 writes them anew; the difference is then read before it is committed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from bootstrap import paths
from bootstrap.phases import INIT, JOIN
from bootstrap.plan import build
from bootstrap.render import to_yaml
from bootstrap.site import Facts, Node, Site
from bootstrap.steps import ApiObject, File, NodeMarks, Step
from tests.builders import node, site

GOLDEN = Path(__file__).parent.parent / "golden" / "phases"
DEBIAN = ("/etc/ca-certificates", "/usr/local/share/ca-certificates", "/usr/share/ca-certificates")

EVERYTHING = {
    "name": "demo",
    "networking": {"podSubnet": "10.100.0.0/16", "serviceSubnet": "10.200.0.0/20", "dnsDomain": "demo.local"},
    "endpoint": {"kind": "external", "name": "api.example.com", "port": 443},
    "encryptionAlgorithm": "RSA-3072",
    "certificateValidityPeriod": "90m30s",
    "apiServer": {
        "certSANs": ["api.internal.example.com", "192.0.2.100"],
        "extraArgs": [
            {"name": "audit-log-path", "value": "/var/log/kubernetes/audit.log"},
            {"name": "enable-admission-plugins", "value": "NodeRestriction,AlwaysPullImages"},
        ],
        "extraEnvs": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}],
        "extraVolumes": [
            {
                "name": "audit",
                "hostPath": "/var/log/kubernetes",
                "mountPath": "/var/log/kubernetes",
                "pathType": "DirectoryOrCreate",
            },
        ],
    },
    "controllerManager": {"extraArgs": [{"name": "bind-address", "value": "0.0.0.0"}]},
    "scheduler": {"extraArgs": [{"name": "v", "value": "2"}]},
    "etcd": {"local": {"dataDir": "/data/etcd", "extraArgs": [{"name": "quota-backend-bytes", "value": "8589934592"}]}},
    "kubelet": {"config": {"maxPods": 50, "authentication": {"webhook": {"cacheTTL": "2m0s"}}}},
    "kubeProxy": {"config": {"mode": "nftables", "conntrack": {"maxPerCore": 0, "min": 0}}},
    "containerd": {
        "config": {
            "plugins": {"io.containerd.cri.v1.runtime": {"restrict_oom_score_adj": True, "disable_apparmor": True}}
        }
    },
    "addons": {"flannel": {"backend": "host-gw"}, "coredns": {"replicas": 1}},
}


def default() -> Site:
    facts = Facts(addresses=("192.0.2.10",), hostname="master", ca_folders=DEBIAN)
    return site(node(facts=facts), node("worker", "worker", address="192.0.2.11"))


def everything() -> Site:
    worker = node(
        "worker",
        "worker",
        address="192.0.2.11",
        facts=Facts(addresses=("192.0.2.11",), hostname="debian", resolved=True),
        labels={"example.com/rack": "r1", "node-role.kubernetes.io/edge": ""},
        taints=[{"key": "example.com/edge", "value": "yes", "effect": "NoExecute"}],
        kubelet={"extraArgs": [{"name": "v", "value": "4"}], "config": {"maxPods": 20}},
    )
    return site(node("master", "control-plane", "worker"), worker, cluster=EVERYTHING)


SITES: dict[str, Callable[[], Site]] = {"default": default, "everything": everything}
FILES = {
    "etcd.yaml": f"{paths.MANIFESTS}/etcd.yaml",
    "kube-apiserver.yaml": f"{paths.MANIFESTS}/kube-apiserver.yaml",
    "kube-controller-manager.yaml": f"{paths.MANIFESTS}/kube-controller-manager.yaml",
    "kube-scheduler.yaml": f"{paths.MANIFESTS}/kube-scheduler.yaml",
    "kubelet-config.yaml": paths.KUBELET_CONFIG,
    "kubelet-instance-config.yaml": paths.KUBELET_INSTANCE_CONFIG,
    "kubeadm-flags.env": paths.KUBELET_FLAGS,
    "containerd.toml": paths.CONTAINERD_CONFIG,
    "containerd.service": paths.CONTAINERD_UNIT,
    "kubelet.service": paths.KUBELET_UNIT,
    "10-kubeadm.conf": paths.KUBELET_DROP_IN,
}
WORKER_FILES = ("kubelet-config.yaml", "kubeadm-flags.env")
API_PHASES = (
    "upload-config/kubeadm",
    "upload-config/kubelet",
    "mark-control-plane",
    "bootstrap-token",
    "addon/coredns",
    "addon/kube-proxy",
    "addon/flannel",
)


def steps_of(described: Site, host: Node, phase: str = "") -> Iterator[Step]:
    workflow = INIT if host.host.is_control_plane else JOIN
    for task in build(workflow, described, nodes=[host]).tasks:
        if phase in {"", task.phase.name}:
            yield from task.steps


def same_as_golden(name: str, text: str) -> None:
    file = GOLDEN / name
    if os.environ.get("KUBESTRAP_UPDATE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), f"{file} is something else; KUBESTRAP_UPDATE_GOLDEN=1 writes it anew"


@pytest.mark.parametrize("which", SITES)
@pytest.mark.parametrize("name", FILES)
def test_file_of_a_control_plane_host_is_the_golden_one(which: str, name: str) -> None:
    described = SITES[which]()
    (data,) = [
        step.data
        for step in steps_of(described, described.nodes[0])
        if isinstance(step, File) and step.path == FILES[name]
    ]
    same_as_golden(f"{which}/{name}", data.decode())


@pytest.mark.parametrize("which", SITES)
@pytest.mark.parametrize("name", WORKER_FILES)
def test_file_of_a_worker_is_the_golden_one(which: str, name: str) -> None:
    described = SITES[which]()
    (data,) = [
        step.data
        for step in steps_of(described, described.nodes[1])
        if isinstance(step, File) and step.path == FILES[name]
    ]
    same_as_golden(f"{which}/worker-{name}", data.decode())


@pytest.mark.parametrize("which", SITES)
@pytest.mark.parametrize("phase", API_PHASES)
def test_objects_of_a_phase_are_the_golden_ones(which: str, phase: str) -> None:
    described = SITES[which]()
    documents: list[object] = []
    for step in steps_of(described, described.nodes[0], phase):
        if isinstance(step, ApiObject):
            documents.append(step.manifest)
        elif isinstance(step, NodeMarks):
            documents.append({"node": step.name, "labels": dict(step.labels), "taints": list(map(list, step.taints))})
    text = "---\n".join(map(to_yaml, documents))
    assert list(yaml.safe_load_all(text)) == documents
    same_as_golden(f"{which}/{phase.replace('/', '-')}.yaml", text)
