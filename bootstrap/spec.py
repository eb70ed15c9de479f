"""The inventory as typed, frozen models: what the user wrote, with every default filled in.

Field names are kubeadm v1beta4's wherever kubeadm has the field, so that its documentation holds here too.
`bootstrap.inventory` reads files into these and reports mistakes; nothing here does I/O.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Role = Literal["control-plane", "worker", "etcd"]
KeyAlgorithm = Literal["RSA-2048", "RSA-3072", "RSA-4096", "ECDSA-P256", "ECDSA-P384"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
DnsName = Annotated[
    str,
    StringConstraints(
        max_length=253, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"
    ),
]
Port = Annotated[int, Field(ge=1, le=65535)]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^\x00\n]*$")]
Duration = Annotated[str, StringConstraints(pattern=r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$", min_length=2)]
"""A Go duration of whole hours, minutes and seconds: `8760h`, `1h30m`."""


def camel(name: str) -> str:
    """Turn a field name into the key the inventory uses: `node_address` into `nodeAddress`, `cert_sans` into `certSANs`."""
    head, *tail = name.split("_")
    return head + "".join("SANs" if word == "sans" else word.capitalize() for word in tail)


class Model(BaseModel):
    """Frozen, unknown keys refused, keys in camelCase, no silent conversion between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=camel, populate_by_name=True)


class NamedValue(Model):
    """One flag of a component, without the leading dashes (kubeadm v1beta4 `Arg`). Order and repetition are kept."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    value: str


class EnvVar(Model):
    """One environment variable of a component (kubeadm v1beta4 `EnvVar`, plain values)."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")]
    value: str = ""


class Volume(Model):
    """One hostPath volume of a static Pod (kubeadm v1beta4 `HostPathMount`)."""

    name: DnsLabel
    host_path: AbsolutePath
    mount_path: AbsolutePath
    read_only: bool = False
    path_type: Literal[
        "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"
    ] = ""


class Component(Model):
    """What can be set on controller-manager and scheduler."""

    extra_args: tuple[NamedValue, ...] = ()
    extra_envs: tuple[EnvVar, ...] = ()
    extra_volumes: tuple[Volume, ...] = ()


class ApiServer(Component):
    """The API server's settings."""

    cert_sans: tuple[str, ...] = ()


class LocalEtcd(Model):
    """Etcd as a static Pod on every control-plane host."""

    data_dir: AbsolutePath = "/var/lib/etcd"
    extra_args: tuple[NamedValue, ...] = ()
    extra_envs: tuple[EnvVar, ...] = ()
    server_cert_sans: tuple[str, ...] = ()
    peer_cert_sans: tuple[str, ...] = ()


class ExternalEtcd(Model):
    """Etcd that others run. The three files are on the operator's machine."""

    endpoints: Annotated[tuple[str, ...], Field(min_length=1)]
    ca_file: str
    cert_file: str
    key_file: str


class Etcd(Model):
    """Either `local` (the default) or `external`."""

    local: LocalEtcd = LocalEtcd()
    external: ExternalEtcd | None = None


class Networking(Model):
    """The cluster's own networks (kubeadm v1beta4 `networking`); dual stack is a comma list."""

    pod_subnet: Network = ipaddress.IPv4Network("10.244.0.0/16")
    service_subnet: Network = ipaddress.IPv4Network("10.96.0.0/12")
    dns_domain: DnsName = "cluster.local"

    def service_address(self, index: int) -> str:
        """Give the `index`-th address of the Service network: 1 is the API server's, 10 is DNS."""
        return str(self.service_subnet[index])


class LocalProxyEndpoint(Model):
    """One name in every machine's /etc/hosts; control-plane hosts resolve it to themselves."""

    kind: Literal["local-proxy"] = "local-proxy"
    name: DnsName | None = None  # the default is `api.<cluster name>.<dnsDomain>`
    port: Port = 6443


class ExternalEndpoint(Model):
    """A load balancer or DNS name that exists already."""

    kind: Literal["external"]
    name: str
    port: Port = 6443


class VipEndpoint(Model):
    """A virtual address that the control-plane hosts hold in turn."""

    kind: Literal["vip"]
    name: DnsName | None = None
    address: Address
    port: Port = 6443


Endpoint = Annotated[LocalProxyEndpoint | ExternalEndpoint | VipEndpoint, Field(discriminator="kind")]


class Kubelet(Model):
    """Overrides for every kubelet: `config` is merged over our KubeletConfiguration, field by field."""

    config: dict[str, Any] = {}
    extra_args: tuple[NamedValue, ...] = ()


class KubeProxy(Model):
    """kube-proxy: `config` is merged over our KubeProxyConfiguration, field by field."""

    disabled: bool = False
    config: dict[str, Any] = {}


class Containerd(Model):
    """containerd: `config` is merged over our config.toml (version 3), table by table."""

    config: dict[str, Any] = {}


class CoreDns(Model):
    """Cluster DNS."""

    disabled: bool = False
    replicas: Annotated[int, Field(ge=1)] = 2


class Flannel(Model):
    """Pod network by flannel."""

    backend: Literal["vxlan", "host-gw"] = "vxlan"
    port: Port = 8472


class Addons(Model):
    """What is installed into the cluster. `cni: none` leaves the Pod network to the user."""

    cni: Literal["flannel", "none"] = "flannel"
    flannel: Flannel = Flannel()
    coredns: CoreDns = CoreDns()


class Bundle(Model):
    """Where the artifacts come from: a bundle's folder or file. The default is the cache of `bundle build`."""

    path: str | None = None


class Timeouts(Model):
    """Limits of what a run waits for (kubeadm v1beta4 `timeouts`, its defaults)."""

    control_plane_component_health_check: Duration = "4m"
    kubelet_health_check: Duration = "4m"
    kubernetes_api_call: Annotated[Duration, Field(alias="kubernetesAPICall")] = "1m"
    tls_bootstrap: Duration = "5m"
    discovery: Duration = "5m"
    node_ready: Duration = "4m"


class Taint(Model):
    """A Node taint."""

    key: str
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]

    def __str__(self) -> str:
        """Give the form kubelet's `--register-with-taints` takes: `key=value:effect`."""
        return f"{self.key}={self.value}:{self.effect}"


class Cluster(Model):
    """One cluster: everything that is the same on all of its machines."""

    name: DnsName = "kubernetes"
    kubernetes_version: Annotated[str, StringConstraints(pattern=r"^1\.[0-9]+\.[0-9]+$")] = "1.37.2"
    networking: Networking = Networking()
    endpoint: Endpoint = LocalProxyEndpoint()
    encryption_algorithm: KeyAlgorithm = "ECDSA-P256"
    certificate_validity_period: Duration = "8760h"
    ca_certificate_validity_period: Annotated[Duration, Field(alias="caCertificateValidityPeriod")] = "87600h"
    api_server: ApiServer = ApiServer()
    controller_manager: Component = Component()
    scheduler: Component = Component()
    etcd: Etcd = Etcd()
    kubelet: Kubelet = Kubelet()
    kube_proxy: KubeProxy = KubeProxy()
    containerd: Containerd = Containerd()
    addons: Addons = Addons()
    bundle: Bundle = Bundle()
    timeouts: Timeouts = Timeouts()
    ignore_preflight_errors: tuple[str, ...] = ()

    @property
    def endpoint_name(self) -> str:
        """The host name (or address) under which every client finds the API server."""
        return self.endpoint.name or f"api.{self.name}.{self.networking.dns_domain}"

    @property
    def control_plane_endpoint(self) -> str:
        """kubeadm's controlPlaneEndpoint: `name:port`."""
        name = self.endpoint_name
        return f"[{name}]:{self.endpoint.port}" if ":" in name else f"{name}:{self.endpoint.port}"


class Ssh(Model):
    """How to log in. What is not set here comes from ~/.ssh/config, then from OpenSSH's defaults."""

    user: str | None = None
    port: Port | None = None
    identity_file: str | None = None
    known_hosts_file: str | None = None
    proxy_jump: str | None = None
    connect_timeout: Duration = "10s"


class Host(Model):
    """One machine of the cluster."""

    name: DnsName
    address: str
    node_address: Address | None = None
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    labels: dict[str, str] = {}
    taints: tuple[Taint, ...] | None = None
    kubelet: Kubelet = Kubelet()
    ssh: Ssh = Ssh()

    @property
    def is_control_plane(self) -> bool:
        """Whether the control plane runs here."""
        return "control-plane" in self.roles

    @property
    def registration_taints(self) -> Sequence[Taint]:
        """The taints the Node has from its first moment: what is given, else kubeadm's for a pure control-plane host."""
        if self.taints is not None:
            return self.taints
        if self.is_control_plane and "worker" not in self.roles:
            return (Taint(key="node-role.kubernetes.io/control-plane", effect="NoSchedule"),)
        return ()


class Inventory(Model):
    """A whole inventory file."""

    api_version: Literal["kubestrap.io/v1alpha1"] = "kubestrap.io/v1alpha1"
    kind: Literal["Inventory"] = "Inventory"
    cluster: Cluster = Cluster()
    ssh: Ssh = Ssh()
    hosts: Annotated[tuple[Host, ...], Field(min_length=1)]


def seconds(duration: str) -> int:
    """Give the seconds of a `Duration`: `1h30m` is 5400."""
    total, number = 0, ""
    for character in duration:
        if character.isdigit():
            number += character
        else:
            total += int(number) * {"h": 3600, "m": 60, "s": 1}[character]
            number = ""
    return total
