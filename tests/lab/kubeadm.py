"""A real kubeadm, told what an inventory says: its configuration, its files, and the objects it would make."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bootstrap import paths
from bootstrap.site import Contents, Node
from bootstrap.spec import Cluster, NamedValue
from tests.lab import clusters
from tests.lab.written import Entry, Thing, archived

TOKEN = "abcdef.0123456789abcdef"
"""The token of kubeadm's documentation, so that its Secret has a name that is known."""

_OBJECT = re.compile(
    r"^\[dryrun\] Would perform action (?:CREATE|UPDATE) on resource .*\n(?:\[dryrun\] Resource name .*\n)?"
    r"\[dryrun\] Attached object:\n((?:.|\n)*?)(?=^\[|\Z)",
    re.MULTILINE,
)


def configuration(cluster: Cluster, node: Node, contents: Contents) -> str:
    """Write the configuration of `kubeadm init` (v1beta4) for what `cluster` says, with the images of a bundle.

    Where it has patches they are to be in /patches.
    """
    registration: dict[str, Any] = {
        "name": node.name,
        "criSocket": paths.CONTAINERD_SOCKET,
        "kubeletExtraArgs": _arguments([*cluster.kubelet.extra_args, *node.host.kubelet.extra_args]),
    }
    if node.host.taints is not None or "worker" in node.host.roles:
        registration["taints"] = [taint.model_dump(exclude_defaults=True) for taint in node.host.registration_taints]
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "bootstrapTokens": [{"token": TOKEN}],
            "localAPIEndpoint": {"advertiseAddress": node.address, "bindPort": cluster.bind_port},
            "nodeRegistration": registration,
            **({"patches": {"directory": "/patches"}} if cluster.patches else {}),
        },
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "clusterName": cluster.name,
            "kubernetesVersion": f"v{cluster.kubernetes_version}",
            "controlPlaneEndpoint": cluster.control_plane_endpoint,
            "encryptionAlgorithm": cluster.encryption_algorithm,
            "certificateValidityPeriod": cluster.certificate_validity_period,
            "caCertificateValidityPeriod": cluster.ca_certificate_validity_period,
            "networking": cluster.networking.model_dump(mode="json", by_alias=True),
            "apiServer": cluster.api_server.model_dump(by_alias=True, exclude_defaults=True),
            "controllerManager": cluster.controller_manager.model_dump(by_alias=True, exclude_defaults=True),
            "scheduler": cluster.scheduler.model_dump(by_alias=True, exclude_defaults=True),
            "etcd": {
                "local": {
                    **cluster.etcd.local.model_dump(by_alias=True, exclude_defaults=True),
                    "imageTag": _tag(contents, "etcd"),
                }
            },
            "dns": {"imageTag": _tag(contents, "coredns")},
        },
    ]
    # Where a user gives none, kubeadm makes its own, and marks it as such.
    for group, kind, settings in (
        ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration", cluster.kubelet.config),
        ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration", cluster.kube_proxy.config),
    ):
        if settings:
            documents.append({"apiVersion": group, "kind": kind, **settings})
    text: str = yaml.safe_dump_all(json.loads(json.dumps(documents)), sort_keys=False)
    return text


def install(kubeadm: Path, on: clusters.Cluster, machine: str, path: str = "/usr/local/bin/kubeadm") -> None:
    """Put kubeadm on a machine of a lab."""
    command = on.lab.ssh(machine, f"cat > {path} && chmod 755 {path}", user="root")
    with kubeadm.open("rb") as source:
        subprocess.run(command, stdin=source, check=True, timeout=300)


def files(kubeadm: Path, config: str, root: Path, ca_folders: Sequence[str] = ()) -> dict[str, Entry]:
    """Let kubeadm write all files of a control-plane host into the empty folder `root`, which it takes for `/`.

    The machine has `ca_folders`, and no systemd.
    """
    for folder in ca_folders:
        (root / folder.lstrip("/")).mkdir(parents=True)
    (root / "config.yaml").write_text(config)
    for phase in ("certs all", "kubeconfig all", "etcd local", "control-plane all", "kubelet-start"):
        _run(kubeadm, root, "init", "phase", *phase.split())
    folders = ["etc/kubernetes", *(f"var/lib/{folder.name}" for folder in (root / "var/lib").iterdir())]
    tar = subprocess.run(["tar", "--create", *folders], cwd=root, capture_output=True, timeout=60, check=True)
    return archived(tar.stdout)


def objects(kubeadm: Path, config: str, root: Path) -> list[Thing]:
    """Give the objects that kubeadm says it would make in the cluster (`kubeadm init --dry-run`)."""
    (root / "config.yaml").write_text(config)
    said = _run(kubeadm, root, "init", "--dry-run", "--skip-phases", "preflight")
    found = [yaml.safe_load(text) for text in _OBJECT.findall(said)]
    assert found, said
    return found


def _run(kubeadm: Path, root: Path, *command: str) -> str:
    ran = subprocess.run(
        [str(kubeadm), "--rootfs", str(root), *command, "--config", "/config.yaml"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={},
    )
    assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
    return ran.stdout


def _arguments(arguments: Sequence[NamedValue]) -> list[dict[str, str]]:
    return [{"name": argument.name, "value": argument.value} for argument in arguments]


def _tag(contents: Contents, name: str) -> str:
    return contents.image(name).reference.rpartition(":")[2]
