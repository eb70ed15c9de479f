"""The inventory as typed, frozen models: what the user wrote, with every default filled in.

Field names are kubeadm v1beta4's wherever kubeadm has the field, so that its documentation holds here too.
`bootstrap.inventory` reads files into these and reports mistakes; nothing here does I/O.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticKnownError

from bootstrap.hooks import Program
from bootstrap.patching import Patches
from bootstrap.values import (
    AbsolutePath,
    Address,
    Bool,
    CaCertHash,
    Count,
    DnsLabel,
    DnsName,
    Duration,
    EnvName,
    EtcdUrl,
    Flag,
    HostKey,
    InterfaceName,
    Kubeadm,
    LabelKey,
    LabelValue,
    LocalPath,
    NameOrAddress,
    NoProxy,
    PodNetwork,
    Port,
    ProxyJump,
    RegistryHost,
    San,
    ServiceNetwork,
    SshAddress,
    TaintKey,
    TaintValue,
    User,
    Version,
    WebUrl,
    described,
    local_path,
    mistake,
)
from bootstrap.values import Network as Network
from bootstrap.values import seconds as seconds

Role = Literal["control-plane", "worker", "etcd"]
SshBackend = Literal["paramiko", "openssh"]
KeyAlgorithm = Literal["RSA-2048", "RSA-3072", "RSA-4096", "ECDSA-P256", "ECDSA-P384"]


def camel(name: str) -> str:
    """Turn a field name into the inventory's key: `node_address` into `nodeAddress`, `cert_sans` into `certSANs`."""
    head, *tail = name.split("_")
    return head + "".join("SANs" if word == "sans" else word.capitalize() for word in tail)


class Model(BaseModel):
    """Frozen, unknown keys refused, keys in camelCase, no silent conversion between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=camel, populate_by_name=True)


def _patches(value: object) -> Patches:
    if isinstance(value, Patches):
        return value
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    return Patches(local_path(value))


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on the operator's machine; `data` is what is in it, once `inventory.load` has read it."""

    path: str
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Logins:
    """A file of logins as Docker has it; `headers` are Authorization headers by host, once `inventory.load` read it."""

    path: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def _logins(value: object) -> Logins:
    if isinstance(value, Logins):
        return value
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    return Logins(local_path(value))


def _local_file(value: object) -> LocalFile:
    if isinstance(value, LocalFile):
        return value
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    return LocalFile(local_path(value))


_A_FILE = WithJsonSchema({"type": "string", "description": "file on your machine", "pattern": "^(?:.+)$"})
_ITS_PATH = PlainSerializer(lambda file: file.path, return_type=str)
LoginsFile = Annotated[Logins, BeforeValidator(_logins), _ITS_PATH, _A_FILE]
ReadFile = Annotated[LocalFile, BeforeValidator(_local_file), _ITS_PATH, _A_FILE]
"""A file on the operator's machine; `inventory.load` makes its name absolute, and reads it."""

PatchesFolder = Annotated[
    Patches,
    BeforeValidator(_patches),
    PlainSerializer(lambda patches: patches.directory, return_type=str),
    WithJsonSchema({"type": "string", "description": "folder on your machine", "pattern": "^(?:.+)$"}),
]
"""A folder of patches as kubeadm has them; `inventory.load` makes it absolute, and reads it."""


def _program(value: object) -> Program:
    match value:
        case Program():
            return value
        case str():
            return Program(path=local_path(value))
        case [str() as program, *others] if program and all(isinstance(word, str) for word in others):
            return Program((program, *map(str, others)))
    raise mistake(
        "inventory-bad-hook",
        f"{described(value)} stands here",
        "a hook runs a command, given as a list of its words, or a script, given as the name of its file",
        "write run: [systemctl, reload, nginx] or run: hooks/script.sh",
    )


HookProgram = Annotated[
    Program,
    BeforeValidator(_program),
    PlainSerializer(lambda program: program.path or list(program.argv), return_type=str | list[str]),
    WithJsonSchema(
        {
            "description": "words of a command, or script on your machine",
            "anyOf": [
                {"type": "string", "pattern": "^(?:.+)$"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ],
        }
    ),
]
"""A command by its words, or a script by its file, which `inventory.load` reads."""


class NamedValue(Model):
    """One flag of a component, without its dashes (kubeadm v1beta4 `Arg`). Order and repetition are kept."""

    name: Flag
    value: str


class EnvVar(Model):
    """One environment variable of a component (kubeadm v1beta4 `EnvVar`, plain values)."""

    name: EnvName
    value: str = ""


class Volume(Model):
    """One hostPath volume of a static Pod (kubeadm v1beta4 `HostPathMount`)."""

    name: DnsLabel
    host_path: AbsolutePath
    mount_path: AbsolutePath
    read_only: Bool = False
    path_type: Literal[
        "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"
    ] = ""


class Component(Model):
    """What can be set on controller-manager and scheduler."""

    extra_args: tuple[NamedValue, ...] = ()
    extra_envs: tuple[EnvVar, ...] = ()
    extra_volumes: tuple[Volume, ...] = ()

    def over(self, cluster: Component) -> Component:
        """Give what holds for one host: its own settings here, put upon those of the whole cluster."""
        return Component(
            extra_args=_upon(cluster.extra_args, self.extra_args),
            extra_envs=_upon(cluster.extra_envs, self.extra_envs),
            extra_volumes=_upon(cluster.extra_volumes, self.extra_volumes),
        )


_Named = TypeVar("_Named", bound=NamedValue | EnvVar | Volume)


def _upon(cluster: Sequence[_Named], own: Sequence[_Named]) -> tuple[_Named, ...]:
    """Put a host's own flags, variables or volumes in the place of the cluster's of the same names."""
    names = {each.name for each in own}
    return (*(each for each in cluster if each.name not in names), *own)


class ApiServer(Component):
    """The API server's settings."""

    cert_sans: tuple[San, ...] = ()


class LocalEtcd(Model):
    """Etcd as a static Pod on every control-plane host."""

    data_dir: AbsolutePath = "/var/lib/etcd"
    extra_args: tuple[NamedValue, ...] = ()
    extra_envs: tuple[EnvVar, ...] = ()
    server_cert_sans: tuple[San, ...] = ()
    peer_cert_sans: tuple[San, ...] = ()


class HostLocalEtcd(Model):
    """What can be set on one host's member of etcd."""

    extra_args: tuple[NamedValue, ...] = ()
    extra_envs: tuple[EnvVar, ...] = ()
    server_cert_sans: tuple[San, ...] = ()
    peer_cert_sans: tuple[San, ...] = ()

    def over(self, cluster: LocalEtcd) -> LocalEtcd:
        """Give what holds for the host's member: its own settings here, put upon those of all members."""
        own = {
            "extra_args": _upon(cluster.extra_args, self.extra_args),
            "extra_envs": _upon(cluster.extra_envs, self.extra_envs),
            "server_cert_sans": cluster.server_cert_sans + self.server_cert_sans,
            "peer_cert_sans": cluster.peer_cert_sans + self.peer_cert_sans,
        }
        return cluster.model_copy(update=own)


class HostEtcd(Model):
    """One host's member of etcd."""

    local: HostLocalEtcd = HostLocalEtcd()


class ExternalEtcd(Model):
    """Etcd that others run. The three files are on the operator's machine."""

    endpoints: Annotated[tuple[EtcdUrl, ...], Field(min_length=1)]
    ca_file: LocalPath
    cert_file: LocalPath
    key_file: LocalPath


class Etcd(Model):
    """Either `local` (the default) or `external`."""

    local: LocalEtcd = LocalEtcd()
    external: ExternalEtcd | None = None


class Networking(Model):
    """The cluster's own networks (kubeadm v1beta4 `networking`), of one address family."""

    pod_subnet: PodNetwork = ipaddress.IPv4Network("10.244.0.0/16")
    service_subnet: ServiceNetwork = ipaddress.IPv4Network("10.96.0.0/12")
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
    name: NameOrAddress
    port: Port = 6443


class VipEndpoint(Model):
    """A virtual address that the control-plane hosts hold in turn (VRRP), each with a proxy to all API servers."""

    kind: Literal["vip"]
    name: DnsName | None = None
    address: Address
    port: Port = 8443  # kube-apiserver itself has 6443 on the same machines
    interface: InterfaceName | None = None
    virtual_router_id: Annotated[int, Field(strict=True, ge=1, le=255)] = 51


Endpoint = Annotated[LocalProxyEndpoint | ExternalEndpoint | VipEndpoint, Field(discriminator="kind")]


class MachinesAuthority(Model):
    """Every control-plane host holds the keys of the cluster's CAs, as with kubeadm."""

    kind: Literal["machines"] = "machines"


class OperatorAuthority(Model):
    """The keys of the cluster's CAs are in a folder on the operator's machine, and on no other."""

    kind: Literal["operator"]
    directory: LocalPath


CertificateAuthority = Annotated[MachinesAuthority | OperatorAuthority, Field(discriminator="kind")]


class Kubelet(Model):
    """Overrides for every kubelet: `config` is merged over our KubeletConfiguration, field by field."""

    config: dict[str, Any] = {}
    extra_args: tuple[NamedValue, ...] = ()


class KubeProxy(Model):
    """kube-proxy: `config` is merged over our KubeProxyConfiguration, field by field."""

    disabled: Bool = False
    config: dict[str, Any] = {}


class Containerd(Model):
    """containerd: `config` is merged over our config.toml (version 3), table by table."""

    config: dict[str, Any] = {}


class Registries(Model):
    """Where containerd on the machines gets images that the bundle does not bring.

    Mirrors are asked in order, before the registry itself. A path in a mirror's URL stands before the names of images.
    """

    mirrors: dict[RegistryHost, tuple[WebUrl, ...]] = {}
    auth_file: LoginsFile | None = None
    ca_file: ReadFile | None = None
    http_proxy: WebUrl | None = None
    https_proxy: WebUrl | None = None
    no_proxy: tuple[NoProxy, ...] = ()


class CoreDns(Model):
    """Cluster DNS."""

    disabled: Bool = False
    replicas: Count = 2


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
    """Where the artifacts come from: a bundle's folder or file; by default the cache, where `bundle` puts them.

    With a `url`, where a server has the same bundle's folder, machines fetch what they need from there (curl or wget).
    """

    path: LocalPath | None = None
    url: WebUrl | None = None
    ca_file: ReadFile | None = None
    platform: Literal["linux/amd64", "linux/arm64"] = "linux/amd64"


class Timeouts(Model):
    """Limits of what a run waits for (kubeadm v1beta4 `timeouts`, its defaults; ours: `nodeReady`, `drain`)."""

    control_plane_component_health_check: Duration = "4m"
    kubelet_health_check: Duration = "4m"
    kubernetes_api_call: Annotated[Duration, Field(alias="kubernetesAPICall")] = "1m"
    etcd_api_call: Annotated[Duration, Field(alias="etcdAPICall")] = "2m"
    tls_bootstrap: Duration = "5m"
    discovery: Duration = "5m"
    node_ready: Duration = "4m"
    drain: Duration = "5m"


class Hook(Model):
    """A command of your own, run each time that a host does a phase: either `before` or `after` it."""

    before: str | None = None
    after: str | None = None
    run: HookProgram
    where: Literal["hosts", "control-plane", "workers", "operator"] = "hosts"
    timeout: Duration = "1m"

    @property
    def phase(self) -> str:
        """The phase, or group of phases, that it is about."""
        return self.before or self.after or ""


class Taint(Model):
    """A Node taint."""

    key: TaintKey
    value: TaintValue = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]

    def __str__(self) -> str:
        """Give the form kubelet's `--register-with-taints` takes: `key=value:effect`."""
        return f"{self.key}={self.value}:{self.effect}"


class Cluster(Model):
    """One cluster: everything that is the same on all of its machines."""

    name: DnsName = "kubernetes"
    kubernetes_version: Version = "1.37.2"
    networking: Networking = Networking()
    endpoint: Endpoint = LocalProxyEndpoint()
    encryption_algorithm: KeyAlgorithm = "ECDSA-P256"
    certificate_validity_period: Duration = "8760h"
    ca_certificate_validity_period: Annotated[Duration, Field(alias="caCertificateValidityPeriod")] = "87600h"
    certificate_authority: CertificateAuthority = MachinesAuthority()
    ca_cert_hash: CaCertHash | None = None
    api_server: ApiServer = ApiServer()
    controller_manager: Component = Component()
    scheduler: Component = Component()
    etcd: Etcd = Etcd()
    kubelet: Kubelet = Kubelet()
    kube_proxy: KubeProxy = KubeProxy()
    containerd: Containerd = Containerd()
    registries: Registries = Registries()
    addons: Addons = Addons()
    bundle: Bundle = Bundle()
    timeouts: Timeouts = Timeouts()
    patches: PatchesFolder | None = None
    hooks: tuple[Hook, ...] = ()
    ignore_preflight_errors: tuple[str, ...] = ()
    kubeadm: Annotated[Kubeadm, Field(exclude=True)] = None  # its settings are in their own fields

    @property
    def endpoint_name(self) -> str:
        """The host name (or address) under which every client finds the API server."""
        return self.endpoint.name or f"api.{self.name}.{self.networking.dns_domain}"

    @property
    def ca_directory(self) -> str:
        """The operator's folder that alone holds the keys of the CAs; empty where the control-plane hosts do."""
        return "" if self.certificate_authority.kind == "machines" else self.certificate_authority.directory

    @property
    def control_plane_endpoint(self) -> str:
        """kubeadm's controlPlaneEndpoint: `name:port`."""
        name = self.endpoint_name
        return f"[{name}]:{self.endpoint.port}" if ":" in name else f"{name}:{self.endpoint.port}"

    @property
    def virtual_address(self) -> str:
        """The address that the control-plane hosts hold in turn; empty where the endpoint has none."""
        return str(self.endpoint.address) if self.endpoint.kind == "vip" else ""

    @property
    def bind_port(self) -> int:
        """The port the API server itself listens on (kubeadm's localAPIEndpoint.bindPort).

        Where names lead to the API servers themselves it is the endpoint's, behind a load balancer kubeadm's default.
        """
        return self.endpoint.port if self.endpoint.kind == "local-proxy" else 6443


class HostSsh(Model):
    """How to log in to one host, where it differs from the inventory's `ssh`."""

    user: User | None = None
    port: Port | None = None
    identity_file: LocalPath | None = None
    known_hosts_file: LocalPath | None = None
    proxy_jump: ProxyJump | None = None
    connect_timeout: Duration | None = None
    sudo_password_file: LocalPath | None = None
    accept_new_host_keys: Bool | None = None
    backend: SshBackend | None = None


class Ssh(HostSsh):
    """How to log in. What is not set here comes from ~/.ssh/config, then from OpenSSH's defaults."""

    connect_timeout: Duration = "10s"
    backend: SshBackend = "paramiko"


class Host(Model):
    """One machine of the cluster. What is set for its components is put upon what `cluster` sets for all."""

    name: DnsName
    address: SshAddress
    host_key: HostKey | None = None
    node_address: Address | None = None
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    labels: dict[LabelKey, LabelValue] = {}
    taints: tuple[Taint, ...] | None = None
    api_server: ApiServer = ApiServer()
    controller_manager: Component = Component()
    scheduler: Component = Component()
    etcd: HostEtcd = HostEtcd()
    kubelet: Kubelet = Kubelet()
    containerd: Containerd = Containerd()
    patches: PatchesFolder | None = None
    ssh: HostSsh = HostSsh()

    @property
    def is_control_plane(self) -> bool:
        """Whether the control plane runs here."""
        return "control-plane" in self.roles

    @property
    def is_etcd(self) -> bool:
        """Whether the machine is etcd's alone: it runs a member, and is no Node of the cluster."""
        return "etcd" in self.roles

    @property
    def is_worker(self) -> bool:
        """Whether it is a Node that runs no part of the control plane."""
        return not self.is_control_plane and not self.is_etcd

    @property
    def registration_taints(self) -> Sequence[Taint]:
        """The taints the Node has from its first moment: those given, else kubeadm's for a control plane alone."""
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

    @property
    def control_plane(self) -> tuple[Host, ...]:
        """The hosts that run the control plane, in order."""
        return tuple(host for host in self.hosts if host.is_control_plane)

    @property
    def etcd_members(self) -> tuple[Host, ...]:
        """The hosts that run etcd, in order: those of the role, else the control plane's; none where others run it."""
        return tuple(host for host in self.hosts if runs_etcd(host, self.cluster, stacked=self.is_stacked))

    @property
    def is_stacked(self) -> bool:
        """Whether etcd runs on the control plane's own hosts (kubeadm's stacked topology)."""
        return not self.cluster.etcd.external and not any(host.is_etcd for host in self.hosts)

    @property
    def formed(self) -> tuple[Host, ...]:
        """The hosts that `init` forms together, in order: the control plane's and etcd's."""
        return tuple(host for host in self.hosts if not host.is_worker)

    @property
    def nodes(self) -> tuple[Host, ...]:
        """The hosts that are Nodes of the cluster, in order."""
        return tuple(host for host in self.hosts if not host.is_etcd)

    @property
    def is_proxied(self) -> bool:
        """Whether machines without a control plane have a proxy of their own that leads to all control planes."""
        return self.cluster.endpoint.kind == "local-proxy" and len(self.control_plane) > 1


def runs_etcd(host: Host, cluster: Cluster, *, stacked: bool) -> bool:
    """Say whether `host` runs a member of the cluster's own etcd; with `stacked` control planes do."""
    return not cluster.etcd.external and (host.is_etcd or (stacked and host.is_control_plane))


def effective_ssh(inventory: Inventory, host: Host) -> Ssh:
    """Give how to log in to `host`: its own settings over the inventory's."""
    own = {name: getattr(host.ssh, name) for name in host.ssh.model_fields_set}
    return inventory.ssh.model_copy(update={name: value for name, value in own.items() if value is not None})
