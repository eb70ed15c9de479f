"""What must agree across an inventory: names used once, networks apart, someone to run the control plane.

The checks read plain data, not models, so that they find their mistakes also where others keep the models from
being made. A value they cannot read is somebody else's finding, and is passed over here. Each is linear in hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from bootstrap.spec import Cluster, LocalEtcd, Role, VipEndpoint
from bootstrap.values import (
    Address,
    Duration,
    IPv4Or6Address,
    IPv4Or6Network,
    PodNetwork,
    ProblemId,
    ServiceNetwork,
    Version,
    node_mask,
    seconds,
    shown,
)
from bootstrap.yamlfile import Document, Finding, Path

SUPPORTED_MINORS = ("1.37",)
API_VERSION = "kubestrap.io/v1alpha1"
KIND = "Inventory"
_ROLES = get_args(Role)
_COMPONENTS = ("apiServer", "controllerManager", "scheduler")
_DEFAULTS = Cluster()
_TAKEN = {
    6443: "kube-apiserver's",
    **dict.fromkeys((2379, 2380, 2381), "etcd's"),
    8404: "the proxy's own",
    **dict.fromkeys((10248, 10250), "the kubelet's"),
    **dict.fromkeys((10249, 10256), "kube-proxy's"),
    10257: "kube-controller-manager's",
    10259: "kube-scheduler's",
}
"""Who listens on which TCP port of a control-plane host."""
_RUNC_OPTIONS = (
    "cluster",
    "containerd",
    "config",
    "plugins",
    "io.containerd.cri.v1.runtime",
    "containerd",
    "runtimes",
    "runc",
    "options",
    "SystemdCgroup",
)

_POD: TypeAdapter[IPv4Or6Network] = TypeAdapter(PodNetwork)
_SERVICE: TypeAdapter[IPv4Or6Network] = TypeAdapter(ServiceNetwork)
_ADDRESS: TypeAdapter[IPv4Or6Address] = TypeAdapter(Address)
_DURATION: TypeAdapter[str] = TypeAdapter(Duration)
_VERSION: TypeAdapter[str] = TypeAdapter(Version)


def check(document: Document) -> Iterator[Finding]:
    """Give every disagreement within the inventory in `document`, whose top is a mapping."""
    top = _mapping(document.data)
    cluster = _mapping(top.get("cluster"))
    hosts = [(index, _mapping(host)) for index, host in enumerate(_list(top.get("hosts")))]
    yield from _header(document, top)
    yield from _version(document, cluster)
    yield from _validity(document, cluster)
    yield from _component_names(document, cluster, ("cluster",))
    for index, host in hosts:
        yield from _component_names(document, host, ("hosts", index))
    yield from _etcd(document, cluster)
    yield from _cgroup_drivers(document, cluster, hosts)
    yield from _hooks(document, cluster)
    yield from _host_names(document, hosts)
    yield from _ssh_addresses(document, hosts, _mapping(top.get("ssh")))
    yield from _virtual_address(document, cluster, hosts)
    yield from _roles(document, hosts)
    yield from _etcd_hosts(document, cluster, hosts)
    yield from _idle_settings(document, cluster, hosts)
    yield from _taints(document, hosts)
    yield from _networks(document, cluster, hosts)


def _header(document: Document, top: Mapping[str, Any]) -> Iterator[Finding]:
    for key in ("apiVersion", "kind"):
        if key not in top:
            what = f"the key {shown(key)} is missing"
            why = "it tells which form the file has"
            fix = f"begin with apiVersion: {API_VERSION} and kind: {KIND}"
            yield Finding("inventory-missing-key", document.place(()), (key,), what, why, fix)


def _version(document: Document, cluster: Mapping[str, Any]) -> Iterator[Finding]:
    version = _read(_VERSION, cluster.get("kubernetesVersion"))
    if version and version.rpartition(".")[0] not in SUPPORTED_MINORS:
        path = ("cluster", "kubernetesVersion")
        yield Finding(
            "inventory-unsupported-version",
            document.place(path),
            path,
            f"Kubernetes {version} is not supported",
            "manifests, flags and checks are made for one minor version at a time",
            f"use {', '.join(f'{minor}.x' for minor in SUPPORTED_MINORS)}, for example {_DEFAULTS.kubernetes_version}",
        )


def _validity(document: Document, cluster: Mapping[str, Any]) -> Iterator[Finding]:
    leaf = _read(_DURATION, cluster.get("certificateValidityPeriod", _DEFAULTS.certificate_validity_period))
    ca = _read(_DURATION, cluster.get("caCertificateValidityPeriod", _DEFAULTS.ca_certificate_validity_period))
    if leaf and ca and seconds(leaf) > seconds(ca):
        given = "certificateValidityPeriod" in cluster
        path = ("cluster", "certificateValidityPeriod" if given else "caCertificateValidityPeriod")
        yield Finding(
            "inventory-validity",
            document.place(path),
            path,
            f"certificates would be valid for {leaf}, their CA for {ca}",
            "a certificate is worthless once its CA has expired",
            "make certificateValidityPeriod at most caCertificateValidityPeriod",
        )


def _component_names(document: Document, holder: Mapping[str, Any], top: Path) -> Iterator[Finding]:
    for section in (*((name,) for name in _COMPONENTS), ("etcd", "local")):
        settings = holder
        for key in section:
            settings = _mapping(settings.get(key))
        volumes = _named((*top, *section, "extraVolumes"), settings.get("extraVolumes"))
        yield from _repeated(document, "inventory-duplicate-volume", "volume", volumes)
        variables = _named((*top, *section, "extraEnvs"), settings.get("extraEnvs"))
        yield from _repeated(document, "inventory-duplicate-env", "variable", variables)


def _hooks(document: Document, cluster: Mapping[str, Any]) -> Iterator[Finding]:
    for index, hook in enumerate(map(_mapping, _list(cluster.get("hooks")))):
        if (hook.get("before") is None) == (hook.get("after") is None):
            path = ("cluster", "hooks", index)
            what = "a hook has both before and after" if hook.get("before") else "a hook has neither before nor after"
            fix = "name one phase, as in after: addon/coredns (kubestrap phases ls lists them)"
            yield Finding("inventory-bad-hook", document.place(path), path, what, "it is run once around a phase", fix)


def _named(path: Path, entries: object) -> Iterator[tuple[Path, object]]:
    for index, entry in enumerate(_list(entries)):
        yield (*path, index, "name"), _mapping(entry).get("name")


def _etcd(document: Document, cluster: Mapping[str, Any]) -> Iterator[Finding]:
    etcd = _mapping(cluster.get("etcd"))
    if etcd.get("external") is None or not etcd.get("local"):
        return
    try:
        differs = LocalEtcd.model_validate(etcd["local"]) != LocalEtcd()
    except ValidationError:
        differs = True
    if differs:
        path = ("cluster", "etcd", "external")
        what = "both local and external etcd are configured"
        yield Finding(
            "inventory-etcd-both", document.place(path), path, what, "a cluster has one etcd", "remove one of them"
        )


def _cgroup_drivers(
    document: Document, cluster: Mapping[str, Any], hosts: list[tuple[int, Mapping[str, Any]]]
) -> Iterator[Finding]:
    """Refuse what only misleads: a kubelet takes its driver from containerd, not from its configuration (KEP-4033)."""
    settings = cluster
    for key in _RUNC_OPTIONS[1:-1]:
        settings = _mapping(settings.get(key))
    theirs = "cgroupfs" if settings.get(_RUNC_OPTIONS[-1]) is False else "systemd"
    places: list[tuple[Path, Mapping[str, Any]]] = [(("cluster",), cluster)]
    places += [(("hosts", index), host) for index, host in hosts]
    stated = [
        ((*path, "kubelet", "config", "cgroupDriver"), driver)
        for path, settings in places
        if isinstance(driver := _mapping(_mapping(settings.get("kubelet")).get("config")).get("cgroupDriver"), str)
    ]
    if theirs == "cgroupfs" and not any(path[0] == "cluster" for path, _ in stated):
        stated.append((_RUNC_OPTIONS, "systemd"))
    for path, driver in stated:
        if driver != theirs:
            yield Finding(
                "inventory-cgroup-driver",
                document.place(path),
                path,
                f"the kubelet's cgroup driver is {driver}, containerd's is {theirs}",
                "two managers of one cgroup tree lose track of what Pods use",
                "make kubelet.config.cgroupDriver and SystemdCgroup of containerd's runc agree (true: systemd)",
            )


def _host_names(document: Document, hosts: list[tuple[int, Mapping[str, Any]]]) -> Iterator[Finding]:
    names = ((("hosts", index, "name"), host.get("name")) for index, host in hosts)
    yield from _repeated(document, "inventory-duplicate-host", "host name", names)


def _ssh_addresses(
    document: Document, hosts: list[tuple[int, Mapping[str, Any]]], defaults: Mapping[str, Any]
) -> Iterator[Finding]:
    """Behind one address several machines may stand with different ports, or behind different jump hosts."""

    def target(host: Mapping[str, Any]) -> object:
        ssh = _mapping(host.get("ssh"))
        login = [ssh.get(key) or defaults.get(key) for key in ("port", "proxyJump")]
        address = host.get("address")
        usable = isinstance(address, str) and all(isinstance(part, str | int | None) for part in login)
        return (address, login[0] or 22, login[1]) if usable else None

    places = ((("hosts", index, "address"), target(host)) for index, host in hosts)
    yield from _repeated(document, "inventory-duplicate-address", "address", places, lambda seen: str(seen[0]))


def _virtual_address(
    document: Document, cluster: Mapping[str, Any], hosts: list[tuple[int, Mapping[str, Any]]]
) -> Iterator[Finding]:
    """Refuse one that is a machine's own, and a port of it that something else has on the same machines."""
    endpoint = _mapping(cluster.get("endpoint"))
    if endpoint.get("kind") != "vip":
        return
    path: Path = ("cluster", "endpoint", "address")
    virtual = _read(_ADDRESS, endpoint.get("address"))
    for index, host in hosts:
        if virtual and virtual == _read(_ADDRESS, host.get("address")):
            line = document.place(("hosts", index, "address")).line
            what = f"the virtual address {virtual} is that of a host"
            why = f"it stands in line {line}; a virtual address is on one machine now and on another later"
            fix = "choose an address that no machine has"
            yield Finding("inventory-duplicate-address", document.place(path), path, what, why, fix)
    path = ("cluster", "endpoint", "port")
    port = endpoint.get("port")
    if isinstance(port, int) and (holder := _TAKEN.get(port)):
        what = f"port {port} is {holder} on control-plane hosts"
        why = "the proxy behind the virtual address listens on the same machines"
        fix = f"choose another one, or leave it out: {VipEndpoint.model_fields['port'].default} is the default"
        yield Finding("inventory-endpoint-port", document.place(path), path, what, why, fix)


def _roles(document: Document, hosts: list[tuple[int, Mapping[str, Any]]]) -> Iterator[Finding]:
    for index, host in hosts:
        roles = ((("hosts", index, "roles", place), role) for place, role in enumerate(_list(host.get("roles"))))
        yield from _repeated(document, "inventory-duplicate-role", "role", roles)
    readable = all(role in _ROLES for _, host in hosts for role in _list(host.get("roles")))
    if hosts and readable and not any("control-plane" in _list(host.get("roles")) for _, host in hosts):
        yield Finding(
            "inventory-no-control-plane",
            document.keys.get(("hosts",), document.place(("hosts",))),
            ("hosts",),
            "no host has the role control-plane",
            "a cluster needs one to run its API server",
            "add control-plane to the roles of a host",
        )


def _etcd_hosts(
    document: Document, cluster: Mapping[str, Any], hosts: list[tuple[int, Mapping[str, Any]]]
) -> Iterator[Finding]:
    external = _mapping(cluster.get("etcd")).get("external") is not None
    for index, host in hosts:
        roles = _list(host.get("roles"))
        if "etcd" not in roles:
            continue
        path: Path = ("hosts", index, "roles")
        others = [role for role in roles if role in _ROLES and role != "etcd"]
        if others:
            yield Finding(
                "inventory-etcd-role",
                document.place(path),
                path,
                f"the role etcd stands beside {', '.join(map(str, others))}",
                "a machine of the role is etcd's alone, and no Node; without such hosts etcd is on the control plane",
                "give etcd a host of its own, or remove the role",
            )
        elif external:
            what = "a host has the role etcd, and etcd is external"
            fix = "remove cluster.etcd.external, or the host"
            yield Finding("inventory-etcd-both", document.place(path), path, what, "a cluster has one etcd", fix)
        for key in ("labels", "taints"):
            if host.get(key) and not others:
                path = ("hosts", index, key)
                what = f"an etcd host has {key}"
                yield Finding(
                    "inventory-etcd-role",
                    document.keys.get(path, document.place(path)),
                    path,
                    what,
                    "they are a Node's, and it is none",
                    "remove them",
                )


def _idle_settings(
    document: Document, cluster: Mapping[str, Any], hosts: list[tuple[int, Mapping[str, Any]]]
) -> Iterator[Finding]:
    """Find settings of a host for components that it does not run."""
    external = _mapping(cluster.get("etcd")).get("external") is not None
    apart = any("etcd" in _list(host.get("roles")) for _, host in hosts)
    for index, host in hosts:
        roles = _list(host.get("roles"))
        has = ["kubelet", "containerd", *(_COMPONENTS if "control-plane" in roles else ())]
        has += ["etcd"] if not external and ("etcd" if apart else "control-plane") in roles else []
        for key in (*_COMPONENTS, "etcd"):
            if key not in has and _holds_anything(host.get(key)):
                path = ("hosts", index, key)
                what = f"this host does not run what {key} is about"
                place = document.keys.get(path, document.place(path))
                yield Finding("inventory-unused", place, path, what, "it would do nothing", "remove it")


def _taints(document: Document, hosts: list[tuple[int, Mapping[str, Any]]]) -> Iterator[Finding]:
    for index, host in hosts:
        taints = [(place, _mapping(taint)) for place, taint in enumerate(_list(host.get("taints")))]
        keys = (
            (("hosts", index, "taints", place), (taint.get("key"), taint.get("effect")))
            for place, taint in taints
            if isinstance(taint.get("key"), str) and isinstance(taint.get("effect"), str)
        )
        yield from _repeated(document, "inventory-duplicate-taint", "taint", keys, lambda seen: ":".join(seen))


def _networks(
    document: Document, cluster: Mapping[str, Any], hosts: list[tuple[int, Mapping[str, Any]]]
) -> Iterator[Finding]:
    networking = _mapping(cluster.get("networking"))
    pods = _read(_POD, networking.get("podSubnet", _DEFAULTS.networking.pod_subnet))
    services = _read(_SERVICE, networking.get("serviceSubnet", _DEFAULTS.networking.service_subnet))
    given = "serviceSubnet" if "podSubnet" not in networking else "podSubnet"
    path: Path = ("cluster", "networking", given)
    if pods and services and pods.version != services.version:
        yield Finding(
            "inventory-family-mismatch",
            document.place(path),
            path,
            f"the Pod subnet is IPv{pods.version}, the Service subnet IPv{services.version}",
            "Services must reach Pods by addresses of one family",
            "give both subnets in the same family",
        )
    elif pods and services and pods.overlaps(services):
        yield Finding(
            "inventory-subnets-overlap",
            document.place(path),
            path,
            f"the Pod subnet {pods} and the Service subnet {services} overlap",
            "an address could be a Pod's and a Service's",
            "choose subnets apart from each other",
        )
    if pods:
        yield from _pod_room(document, pods, sum("etcd" not in _list(host.get("roles")) for _, host in hosts))
    yield from _node_addresses(document, cluster, hosts, pods, services)


def _pod_room(document: Document, pods: IPv4Or6Network, hosts: int) -> Iterator[Finding]:
    mask = node_mask(pods)
    room = 2 ** (mask - pods.prefixlen)
    if hosts > room:
        path = ("cluster", "networking", "podSubnet")
        bits = (hosts - 1).bit_length()
        yield Finding(
            "inventory-too-few-pod-networks",
            document.place(path),
            path,
            f"the Pod subnet {pods} has room for {room} node{'s' * (room != 1)}, and there are {hosts} hosts",
            f"every node gets a /{mask} of it",
            f"use a prefix length of at most {mask - bits}",
        )


def _node_addresses(
    document: Document,
    cluster: Mapping[str, Any],
    hosts: list[tuple[int, Mapping[str, Any]]],
    pods: IPv4Or6Network | None,
    services: IPv4Or6Network | None,
) -> Iterator[Finding]:
    addresses: list[tuple[Path, IPv4Or6Address | None]] = [
        (("hosts", index, "nodeAddress"), _read(_ADDRESS, host.get("nodeAddress"))) for index, host in hosts
    ]
    endpoint = _mapping(cluster.get("endpoint"))
    if endpoint.get("kind") == "vip":
        addresses.append((("cluster", "endpoint", "address"), _read(_ADDRESS, endpoint.get("address"))))
    yield from _repeated(document, "inventory-duplicate-node-address", "address", addresses)
    for path, address in addresses:
        if address is None:
            continue
        for noun, network in (("Pod", pods), ("Service", services)):
            if network and address in network:
                yield Finding(
                    "inventory-address-in-subnet",
                    document.place(path),
                    path,
                    f"{address} lies in the {noun} subnet {network}",
                    "traffic to the machine would go to Pods or Services",
                    "choose other subnets under cluster.networking, or correct the address",
                )
        if services and address.version != services.version:
            yield Finding(
                "inventory-family-mismatch",
                document.place(path),
                path,
                f"{address} is IPv{address.version}, the cluster's subnets are IPv{services.version}",
                "nodes, Pods and Services must use one family",
                "give the machine's address of that family, or change cluster.networking",
            )


def _repeated(
    document: Document,
    problem: ProblemId,
    noun: str,
    entries: Iterator[tuple[Path, object]] | list[tuple[Path, Any]],
    text: Callable[[Any], str] = str,
) -> Iterator[Finding]:
    first: dict[object, Path] = {}
    for path, value in entries:
        if value is None or not isinstance(value, Hashable):
            continue
        if value in first:
            line = document.place(first[value]).line
            what = f"the {noun} {shown(text(value))} is used twice"
            why = f"it stands in line {line} already"
            yield Finding(problem, document.place(path), path, what, why, "change or remove one of them")
        first.setdefault(value, path)


def _read(adapter: TypeAdapter[Any], value: object) -> Any:
    """Give `value` as its type, or None where it is not of it."""
    if value is None:
        return None
    try:
        return adapter.validate_python(value)
    except ValidationError:
        return None


def _holds_anything(value: object) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return value is not None if inner is None else any(map(_holds_anything, inner))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
