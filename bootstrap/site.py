"""The site: all that a phase may see, frozen and complete before anything is planned.

Keys, tokens and the clock are drawn, machines looked at and certificates read back before a `Site` is made, so that
no step waits for a value that another one invents, and equal sites give equal plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bootstrap.spec import Cluster, Host, runs_etcd

BLOBS = "blobs/sha256"
"""The folder of a bundle in which its contents are, by their digests."""


@dataclass(frozen=True, slots=True)
class Link:
    """An address of a machine: on which interface it is, and how long the prefix of its network."""

    interface: str
    address: str
    prefix: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen on one machine before planning. `files` is what it holds of `survey.READ_BACK`, by path."""

    architecture: str = "amd64"
    addresses: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    hostname: str = ""
    machine: str = ""  # /etc/machine-id, which the machine's Node tells, too; empty where it has none
    bootstrapped: bool = False  # the kubelet has a certificate of its own: it has joined, and needs no token
    etcd_data: bool = False  # there is the log (WAL) of an etcd member
    recovering: bool = False  # `etcd recover` has taken the manifests away, and did not end
    resolved: bool = False  # systemd-resolved runs: kubelets need its own resolv.conf
    ca_folders: tuple[str, ...] = ()  # of those kubeadm mounts into the control plane, beside /etc/ssl/certs
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Node:
    """One host of the inventory as a machine of the cluster. `address` is its node address, decided."""

    host: Host
    address: str
    facts: Facts = Facts()

    @property
    def name(self) -> str:
        """The host's name, which is the Node's name too."""
        return self.host.name

    @property
    def link(self) -> Link | None:
        """Where its address is, if its machine was looked at."""
        return next((link for link in self.facts.links if link.address == self.address), None)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A binary of the bundle: where it goes on a machine, and the blob it is."""

    path: str
    digest: str  # hex SHA-256
    size: int


@dataclass(frozen=True, slots=True)
class ImageArtifact:
    """An image of the bundle. `name` is the component's (`kube-apiserver`), `reference` repository and tag."""

    name: str
    reference: str
    target: str  # sha256:... of the image's manifest
    digest: str  # hex SHA-256 of the archive
    size: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a bundle holds for one version and platform."""

    kubernetes_version: str  # without v
    platform: str  # linux/amd64
    binaries: tuple[Artifact, ...]
    images: tuple[ImageArtifact, ...]

    def image(self, name: str) -> ImageArtifact:
        """Give the image of component `name`. Raises `KeyError`."""
        for image in self.images:
            if image.name == name:
                return image
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Token:
    """A bootstrap token, `id.secret` (kubeadm-facts section 10)."""

    id: str
    secret: str = field(repr=False)

    def __str__(self) -> str:
        """Give `id.secret`, which is a secret: for files and standard input, never for messages."""
        return f"{self.id}.{self.secret}"


@dataclass(frozen=True, slots=True)
class Joining:
    """What a worker needs of the cluster it joins; all verified by discovery, or read from the control plane."""

    server: str  # https://NAME:PORT, as in cluster-info
    ca: bytes  # PEM
    token: Token
    kubelet_config: Mapping[str, object]  # the ConfigMap kubelet-config's KubeletConfiguration
    dns_domain: str


@dataclass(frozen=True, slots=True)
class InitialCluster:
    """What a member's manifest tells it of its cluster, for as long as it has no data: peer URLs by name, in order.

    With `existing` the cluster is there already, and takes it in as a learner.
    """

    members: Mapping[str, str]
    existing: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """Everything a plan is made from.

    `files` are, by host name and path, the files of the PKI and the kubeconfigs that the host must hold (PEM, YAML):
    those read back from it where they are good, and new ones otherwise. `endpoint_address` is where the cluster's
    endpoint name leads machines that run neither the control plane nor a proxy; empty where others resolve it.
    `admin` says whether the operator holds admin rights on the cluster in this run, and `lead` from which
    control-plane host is done what concerns the whole cluster (empty: the first). Of a control-plane host that this
    run did not reach, a node has no more than its address.

    `initial_clusters` are, by host name, of the etcd members that do not form the cluster of all together, and `lost`
    the ids of members whose data are gone from the host.
    """

    cluster: Cluster
    nodes: tuple[Node, ...]
    contents: Contents
    files: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    joining: Joining | None = None
    endpoint_address: str = ""
    admin: bool = True
    lead: str = ""
    initial_clusters: Mapping[str, InitialCluster] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)

    @property
    def control_plane(self) -> tuple[Node, ...]:
        """The nodes that run the control plane, in the inventory's order."""
        return tuple(node for node in self.nodes if node.host.is_control_plane)

    @property
    def etcd_members(self) -> tuple[Node, ...]:
        """The nodes that run etcd, in the inventory's order: those of the role, else the control plane's."""
        return tuple(node for node in self.nodes if self.runs_etcd(node))

    def runs_etcd(self, node: Node) -> bool:
        """Say whether a member of etcd is on `node`."""
        return runs_etcd(node.host, self.cluster, stacked=self.is_stacked)

    @property
    def is_stacked(self) -> bool:
        """Whether etcd runs on the control plane's own hosts (kubeadm's stacked topology)."""
        return not self.cluster.etcd.external and not any(node.host.is_etcd for node in self.nodes)

    @property
    def etcd_endpoints(self) -> tuple[str, ...]:
        """The URLs at which API servers find etcd: the member beside them, or else all that there are."""
        if self.cluster.etcd.external:
            return self.cluster.etcd.external.endpoints
        if self.is_stacked:
            return ("https://127.0.0.1:2379",)
        return tuple(f"https://{member.address}:2379" for member in self.etcd_members)

    @property
    def leader(self) -> str:
        """The control-plane host from which is done what concerns the whole cluster; empty where there is none."""
        return self.lead or next((node.name for node in self.control_plane), "")

    @property
    def is_proxied(self) -> bool:
        """Whether machines without a control plane have a proxy of their own that leads to all of them."""
        return self.cluster.endpoint.kind == "local-proxy" and len(self.control_plane) > 1

    def image(self, name: str) -> str:
        """Give the reference of component `name`'s image. Raises `KeyError` for a component without one."""
        return self.contents.image(name).reference
