"""etcd and the three control-plane components as static Pods (kubeadm: phases/controlplane, phases/etcd, staticpod)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bootstrap import paths
from bootstrap.phases.patched import flags_of, patched, patches
from bootstrap.plan import Phase
from bootstrap.render import from_yaml, render, to_yaml
from bootstrap.site import InitialCluster
from bootstrap.steps import Directory, File, Step

if TYPE_CHECKING:
    from bootstrap.site import Node, Site
    from bootstrap.spec import Component, LocalEtcd, NamedValue

ETCD = "etcd"
APISERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
COMPONENTS = (ETCD, APISERVER, CONTROLLER_MANAGER, SCHEDULER)

_CA = f"{paths.PKI}/ca.crt"
_FRONT_PROXY_CA = f"{paths.PKI}/front-proxy-ca.crt"
_SA_KEY = f"{paths.PKI}/sa.key"
_ETCD_PKI = f"{paths.PKI}/etcd"
_CA_FOLDER = "/etc/ssl/certs"
_UNSPECIFIED = ("0.0.0.0", "::")  # noqa: S104 - these are compared with, not bound to


def container_filter(component: str) -> str:
    """Give containerd's filter for the containers of a component's static Pod, by the labels that kubelets give."""
    return f'labels."io.kubernetes.pod.namespace"==kube-system,labels."io.kubernetes.container.name"=={component}'


@dataclass(frozen=True, slots=True)
class Volume:
    """One hostPath of a static Pod."""

    name: str
    host_path: str
    mount_path: str
    read_only: bool
    path_type: str


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe, with kubeadm's intervals, in seconds."""

    kind: str
    path: str
    delay: int
    period: int
    failures: int


@dataclass(frozen=True, slots=True)
class Probes:
    """Where the kubelet asks a component how it is. Without `host` it asks at the Pod's address."""

    host: str
    port: int
    scheme: str
    all: tuple[Probe, ...]

    def url(self, path: str) -> str:
        """Give the address of `path` as seen from the machine itself."""
        return f"{self.scheme.lower()}://{self.host or '127.0.0.1'}:{self.port}{path}"


@dataclass(frozen=True, slots=True)
class StaticPod:
    """Fields of templates/manifests/static-pod.yaml.j2."""

    name: str
    image: str
    flags: tuple[tuple[str, str], ...]  # in order; a name may repeat, as in kubeadm's extraArgs
    envs: tuple[tuple[str, str], ...]
    volumes: tuple[Volume, ...]
    probes: Probes
    requests: tuple[tuple[str, str], ...]
    annotation: tuple[str, str] | None = None
    mounts: tuple[Volume, ...] = ()  # the volumes again, where kubeadm mounts them in another order


def etcd_steps(site: Site, node: Node) -> Iterator[Step]:
    """Write the etcd static Pod manifest, for a member on every host that runs etcd."""
    yield Directory(site.cluster.etcd.local.data_dir, mode=0o700)
    yield from _manifest(site, node, etcd(site, node))


def apiserver_steps(site: Site, node: Node) -> Iterator[Step]:
    """Write the kube-apiserver static Pod manifest."""
    yield from _manifest(site, node, apiserver(site, node))


def controller_manager_steps(site: Site, node: Node) -> Iterator[Step]:
    """Write the kube-controller-manager static Pod manifest."""
    yield from _manifest(site, node, controller_manager(site, node))


def scheduler_steps(site: Site, node: Node) -> Iterator[Step]:
    """Write the kube-scheduler static Pod manifest."""
    yield from _manifest(site, node, scheduler(site, node))


def pods(site: Site, node: Node) -> tuple[StaticPod, ...]:
    """List the static Pods of a node of the control plane or of etcd, in the order in which they come up."""
    members = [etcd(site, node)] if site.runs_etcd(node) else []
    if not node.host.is_control_plane:
        return tuple(members)
    return (*members, apiserver(site, node), controller_manager(site, node), scheduler(site, node))


def manifest(site: Site, node: Node, pod: StaticPod) -> dict[str, Any]:
    """Give the Pod as it is written, with the inventory's patches. Raises `PatchesRefused`."""
    (document,) = from_yaml(render("manifests/static-pod.yaml.j2", pod))
    return patched(document, pod.name, site.cluster, node.host)


def as_patched(site: Site, node: Node, pod: StaticPod) -> StaticPod:
    """Give `pod` with what its manifest comes to with patches: the flags, and where it says how it is."""
    if not patches(pod.name, site.cluster, node.host):
        return pod
    document = manifest(site, node, pod)
    (container,) = (each for each in document["spec"]["containers"] if each["name"] == pod.name)
    return replace(pod, flags=flags_of(document, pod.name), probes=_asked(container, pod.probes))


def path(component: str) -> str:
    """Give where the manifest of `component` stands."""
    return f"{paths.MANIFESTS}/{component}.yaml"


def flags(defaults: Mapping[str, str], extra: Sequence[NamedValue]) -> tuple[tuple[str, str], ...]:
    """Order flags as kubeadm does: the defaults by name, without those given, then those given as they stand."""
    given = {argument.name for argument in extra}
    kept = sorted((name, value) for name, value in defaults.items() if name not in given)
    return (*kept, *((argument.name, argument.value) for argument in extra))


def etcd(site: Site, node: Node) -> StaticPod:
    """Describe the etcd member on `node`; its list of the initial cluster is the whole one, or its own."""
    settings = node.host.etcd.local.over(site.cluster.etcd.local)
    initial = site.initial_clusters.get(node.name) or InitialCluster(
        {member.name: peer_url(member) for member in site.etcd_members}
    )
    client = f"https://{node.address}:2379"
    peer = peer_url(node)
    certs = Volume("etcd-certs", _ETCD_PKI, _ETCD_PKI, read_only=False, path_type="DirectoryOrCreate")
    data = Volume("etcd-data", settings.data_dir, settings.data_dir, read_only=False, path_type="DirectoryOrCreate")
    defaults = {
        "advertise-client-urls": client,
        "cert-file": f"{_ETCD_PKI}/server.crt",
        "client-cert-auth": "true",
        "data-dir": settings.data_dir,
        "feature-gates": "InitialCorruptCheck=true",
        "initial-advertise-peer-urls": peer,
        "initial-cluster": ",".join(f"{name}={url}" for name, url in initial.members.items()),
        **({"initial-cluster-state": "existing"} if initial.existing else {}),
        "key-file": f"{_ETCD_PKI}/server.key",
        "listen-client-urls": f"https://127.0.0.1:2379,{client}",
        "listen-metrics-urls": "http://127.0.0.1:2381",
        "listen-peer-urls": peer,
        "name": node.name,
        "peer-cert-file": f"{_ETCD_PKI}/peer.crt",
        "peer-client-cert-auth": "true",
        "peer-key-file": f"{_ETCD_PKI}/peer.key",
        "peer-trusted-ca-file": f"{_ETCD_PKI}/ca.crt",
        "snapshot-count": "10000",
        "trusted-ca-file": f"{_ETCD_PKI}/ca.crt",
        "watch-progress-notify-interval": "5s",
    }
    return StaticPod(
        name=ETCD,
        image=site.image(ETCD),
        flags=flags(defaults, settings.extra_args),
        envs=_envs(settings),
        volumes=(certs, data),
        # A kubelet restarts a static Pod also where only an order is another.
        mounts=(data, certs),
        probes=_etcd_probes(site, settings),
        requests=(("cpu", "100m"), ("memory", "100Mi")),
        annotation=("kubeadm.kubernetes.io/etcd.advertise-client-urls", client),
    )


def peer_url(node: Node) -> str:
    """Give the URL at which the other members reach the one on `node`."""
    return f"https://{node.address}:2380"


def apiserver(site: Site, node: Node) -> StaticPod:
    """Describe kube-apiserver on `node`."""
    cluster = site.cluster
    settings = node.host.api_server.over(cluster.api_server)
    defaults = {
        "advertise-address": node.address,
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        "client-ca-file": _CA,
        "enable-admission-plugins": "NodeRestriction",
        "enable-bootstrap-token-auth": "true",
        "etcd-cafile": f"{_ETCD_PKI}/ca.crt",
        "etcd-certfile": f"{paths.PKI}/apiserver-etcd-client.crt",
        "etcd-keyfile": f"{paths.PKI}/apiserver-etcd-client.key",
        "etcd-servers": ",".join(site.etcd_endpoints),
        "kubelet-client-certificate": f"{paths.PKI}/apiserver-kubelet-client.crt",
        "kubelet-client-key": f"{paths.PKI}/apiserver-kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
        "proxy-client-cert-file": f"{paths.PKI}/front-proxy-client.crt",
        "proxy-client-key-file": f"{paths.PKI}/front-proxy-client.key",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-client-ca-file": _FRONT_PROXY_CA,
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "secure-port": str(cluster.bind_port),
        "service-account-issuer": f"https://kubernetes.default.svc.{cluster.networking.dns_domain}",
        "service-account-key-file": f"{paths.PKI}/sa.pub",
        "service-account-signing-key-file": _SA_KEY,
        "service-cluster-ip-range": str(cluster.networking.service_subnet),
        "tls-cert-file": f"{paths.PKI}/apiserver.crt",
        "tls-private-key-file": f"{paths.PKI}/apiserver.key",
    }
    if any(argument.name == "authorization-config" for argument in settings.extra_args):
        del defaults["authorization-mode"]
    probes = (_liveness("/livez"), _readiness("/readyz"), _startup(site, "/livez"))
    return StaticPod(
        name=APISERVER,
        image=site.image(APISERVER),
        flags=flags(defaults, settings.extra_args),
        envs=_envs(settings),
        volumes=_volumes(settings, [_pki(), *_ca_folders(node)]),
        probes=Probes(node.address, cluster.bind_port, "HTTPS", probes),
        requests=(("cpu", "250m"),),
        annotation=(
            "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint",
            f"{node.address}:{cluster.bind_port}",
        ),
    )


def controller_manager(site: Site, node: Node) -> StaticPod:
    """Describe kube-controller-manager on `node`."""
    cluster = site.cluster
    settings = node.host.controller_manager.over(cluster.controller_manager)
    signing = f"{paths.PKI}/ca.key"
    external_ca = bool(site.cluster.ca_directory) or signing not in site.files[node.name]
    defaults = {
        "allocate-node-cidrs": "true",
        "authentication-kubeconfig": paths.CONTROLLER_MANAGER_CONF,
        "authorization-kubeconfig": paths.CONTROLLER_MANAGER_CONF,
        "bind-address": "127.0.0.1",
        "client-ca-file": _CA,
        "cluster-cidr": str(cluster.networking.pod_subnet),
        "cluster-name": cluster.name,
        "cluster-signing-cert-file": "" if external_ca else _CA,
        "cluster-signing-key-file": "" if external_ca else signing,
        "controllers": "*,bootstrapsigner,tokencleaner",
        "kubeconfig": paths.CONTROLLER_MANAGER_CONF,
        "leader-elect": "true",
        "requestheader-client-ca-file": _FRONT_PROXY_CA,
        "root-ca-file": _CA,
        "service-account-private-key-file": _SA_KEY,
        "service-cluster-ip-range": str(cluster.networking.service_subnet),
        "use-service-account-credentials": "true",
    }
    volumes = [_pki(), *_ca_folders(node), _kubeconfig(paths.CONTROLLER_MANAGER_CONF)]
    return StaticPod(
        name=CONTROLLER_MANAGER,
        image=site.image(CONTROLLER_MANAGER),
        flags=flags(defaults, settings.extra_args),
        envs=_envs(settings),
        volumes=_volumes(settings, volumes),
        probes=Probes(_bind(settings), 10257, "HTTPS", (_liveness("/healthz"), _startup(site, "/healthz"))),
        requests=(("cpu", "200m"),),
    )


def scheduler(site: Site, node: Node) -> StaticPod:
    """Describe kube-scheduler on `node`."""
    settings = node.host.scheduler.over(site.cluster.scheduler)
    defaults = {
        "authentication-kubeconfig": paths.SCHEDULER_CONF,
        "authorization-kubeconfig": paths.SCHEDULER_CONF,
        "bind-address": "127.0.0.1",
        "kubeconfig": paths.SCHEDULER_CONF,
        "leader-elect": "true",
    }
    probes = (_liveness("/livez"), _readiness("/readyz"), _startup(site, "/livez"))
    return StaticPod(
        name=SCHEDULER,
        image=site.image(SCHEDULER),
        flags=flags(defaults, settings.extra_args),
        envs=_envs(settings),
        volumes=_volumes(settings, [_kubeconfig(paths.SCHEDULER_CONF)]),
        probes=Probes(_bind(settings), 10259, "HTTPS", probes),
        requests=(("cpu", "100m"),),
    )


def _manifest(site: Site, node: Node, pod: StaticPod) -> Iterator[Step]:
    yield Directory(paths.MANIFESTS, mode=0o700)
    yield File(path(pod.name), to_yaml(manifest(site, node, pod)).encode(), mode=0o600)


def _asked(container: Mapping[str, Any], ours: Probes) -> Probes:
    """Read where a container is asked how it is; as we have it, where it is asked in another way than by HTTP."""
    probes = [container.get(probe.kind) for probe in ours.all]
    asked = next((probe["httpGet"] for probe in probes if isinstance(probe, Mapping) and probe.get("httpGet")), None)
    if not isinstance(asked, Mapping):
        return ours
    ports = {each.get("name"): each.get("containerPort") for each in container.get("ports") or ()}
    port = ports.get(asked.get("port"), asked.get("port"))
    if not str(port).isdecimal():
        return ours
    return replace(ours, host=asked.get("host", ""), port=int(str(port)), scheme=asked.get("scheme", "HTTP"))


def _envs(settings: Component | LocalEtcd) -> tuple[tuple[str, str], ...]:
    return tuple((variable.name, variable.value) for variable in settings.extra_envs)


def _volumes(settings: Component, defaults: Sequence[Volume]) -> tuple[Volume, ...]:
    # As in kubeadm, a user's volume takes the place of ours of the same name.
    volumes = {volume.name: volume for volume in defaults}
    for given in settings.extra_volumes:
        volumes[given.name] = Volume(given.name, given.host_path, given.mount_path, given.read_only, given.path_type)
    return tuple(volumes[name] for name in sorted(volumes))


def _pki() -> Volume:
    return Volume("k8s-certs", paths.PKI, paths.PKI, read_only=True, path_type="DirectoryOrCreate")


def _ca_folders(node: Node) -> list[Volume]:
    # Distributions keep /etc/ssl/certs as links into other folders, which must then be there, too.
    named = [("ca-certs", _CA_FOLDER)]
    named += [(folder.strip("/").replace("/", "-"), folder) for folder in node.facts.ca_folders]
    return [Volume(name, folder, folder, read_only=True, path_type="DirectoryOrCreate") for name, folder in named]


def _kubeconfig(file: str) -> Volume:
    return Volume("kubeconfig", file, file, read_only=True, path_type="FileOrCreate")


def _given(extra: Sequence[NamedValue], name: str) -> str:
    return next((argument.value for argument in reversed(extra) if argument.name == name), "")


def _bind(settings: Component) -> str:
    address = _given(settings.extra_args, "bind-address") or "127.0.0.1"
    return "" if address in _UNSPECIFIED else address


def _etcd_probes(site: Site, settings: LocalEtcd) -> Probes:
    url = urlsplit(_given(settings.extra_args, "listen-metrics-urls").partition(",")[0] or "http://127.0.0.1:2381")
    return Probes(
        # As kubeadm has it (GetEtcdProbeEndpoint): 0.0.0.0 stays here, where it reaches the machine itself.
        url.hostname or "127.0.0.1",
        url.port or 2381,
        url.scheme.upper(),
        (_liveness("/livez"), _readiness("/readyz"), _startup(site, "/readyz")),
    )


def _liveness(where: str) -> Probe:
    return Probe("livenessProbe", where, delay=10, period=10, failures=8)


def _readiness(where: str) -> Probe:
    return Probe("readinessProbe", where, delay=0, period=1, failures=3)


def _startup(site: Site, where: str) -> Probe:
    from bootstrap.spec import seconds

    limit = seconds(site.cluster.timeouts.control_plane_component_health_check)
    return Probe("startupProbe", where, delay=10, period=10, failures=-(-limit // 10))


ETCD_LOCAL = Phase("etcd/local", "etcd", etcd_steps, in_turn=True)
CONTROL_PLANE = (
    Phase("control-plane/apiserver", "control-plane", apiserver_steps, in_turn=True),
    Phase("control-plane/controller-manager", "control-plane", controller_manager_steps, in_turn=True),
    Phase("control-plane/scheduler", "control-plane", scheduler_steps, in_turn=True),
)
