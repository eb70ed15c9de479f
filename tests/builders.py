"""Sites and nodes for tests, the same each time, with contents that only look like keys and certificates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bootstrap import patchfiles, paths
from bootstrap.patching import Patches
from bootstrap.phases import kubelet
from bootstrap.site import Artifact, Contents, Facts, ImageArtifact, Joining, Node, Site, Token
from bootstrap.spec import Cluster, Host

PKI_FILES = tuple(
    f"{paths.PKI}/{name}"
    for name in (
        *(
            f"{pair}.{kind}"
            for pair in (
                "ca",
                "apiserver",
                "apiserver-kubelet-client",
                "front-proxy-ca",
                "front-proxy-client",
                "etcd/ca",
                "etcd/server",
                "etcd/peer",
                "etcd/healthcheck-client",
                "apiserver-etcd-client",
            )
            for kind in ("crt", "key")
        ),
        "sa.key",
        "sa.pub",
    )
)
KUBECONFIGS = (
    paths.ADMIN_CONF,
    paths.SUPER_ADMIN_CONF,
    paths.KUBELET_CONF,
    paths.CONTROLLER_MANAGER_CONF,
    paths.SCHEDULER_CONF,
)
IMAGES = {
    "kube-apiserver": "registry.k8s.io/kube-apiserver:v1.37.2",
    "kube-controller-manager": "registry.k8s.io/kube-controller-manager:v1.37.2",
    "kube-scheduler": "registry.k8s.io/kube-scheduler:v1.37.2",
    "kube-proxy": "registry.k8s.io/kube-proxy:v1.37.2",
    "etcd": "registry.k8s.io/etcd:3.7.3-0",
    "coredns": "registry.k8s.io/coredns/coredns:v1.14.6",
    "pause": "registry.k8s.io/pause:3.10.2",
    "flannel": "ghcr.io/flannel-io/flannel:v0.26.7",
    "haproxy": "docker.io/library/haproxy:2.6",
    "keepalived": "docker.io/osixia/keepalived:2.2",
    "agnhost": "registry.k8s.io/e2e-test-images/agnhost:2.60",
}
BINARIES = (
    *(f"{paths.BINARIES}/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr", "runc")),
    *(f"{paths.CNI_BINARIES}/{name}" for name in ("bridge", "flannel", "host-local", "loopback", "portmap")),
    *(f"{paths.BINARIES}/{name}" for name in ("kubelet", "kubectl")),
)


def contents() -> Contents:
    """Give what a bundle might hold; the digests are counted up."""
    binaries = tuple(Artifact(path, f"{number:064x}", 1000 + number) for number, path in enumerate(BINARIES))
    images = tuple(
        ImageArtifact(name, reference, f"sha256:{0xA000 + number:064x}", f"{0xB000 + number:064x}", 2000 + number)
        for number, (name, reference) in enumerate(IMAGES.items())
    )
    return Contents("1.37.2", "linux/amd64", binaries, images)


def patches(folder: Path) -> Patches:
    """Read the patches in a folder, in which there must be no mistake."""
    files = [(file.name, str(file), file.read_bytes()) for file in folder.iterdir() if patchfiles.is_patch(file)]
    read, wrong = patchfiles.read(files)
    assert not wrong, wrong
    return Patches(str(folder), tuple(read))


def node(
    name: str = "master", *roles: str, address: str = "192.0.2.10", facts: Facts | None = None, **host: Any
) -> Node:
    """Make a node; `host` are further fields of its `Host`, and it is a control-plane host where no role is given."""
    described = Host.model_validate(
        {"name": name, "address": address, "roles": list(roles or ("control-plane",)), **host}
    )
    return Node(described, address, facts or Facts(addresses=(address,), hostname=name))


def files(*names: str) -> dict[str, Mapping[str, bytes]]:
    """Give each of the named hosts the files of a control-plane host; each file says what it would be."""
    return {name: {path: f"{path} of {name}\n".encode() for path in (*PKI_FILES, *KUBECONFIGS)} for name in names}


def site(*nodes: Node, cluster: Mapping[str, Any] | None = None, joining: bool = True, admin: bool = True) -> Site:
    """Make the site of `nodes` (a control-plane host and a worker by default); `cluster` is as in an inventory."""
    members: Sequence[Node] = nodes or (node(), node("worker", "worker", address="192.0.2.11"))
    described = Cluster.model_validate(cluster or {})
    return Site(
        cluster=described,
        nodes=tuple(members),
        contents=contents(),
        files=files(*(member.name for member in members if not member.host.is_worker)),
        joining=Joining(
            server=f"https://{described.control_plane_endpoint}",
            ca=b"the cluster's CA\n",
            token=Token("abcdef", "0123456789abcdef"),
            kubelet_config=kubelet.cluster_config(described),
            dns_domain=described.networking.dns_domain,
        )
        if joining
        else None,
        admin=admin,
        endpoint_address=next((member.address for member in members if member.host.is_control_plane), ""),
    )
