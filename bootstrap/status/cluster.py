"""What `kubestrap status` knows of a cluster, and how it is read from what machines say. Nothing here asks anybody."""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

from bootstrap import paths
from bootstrap.departure import is_ready
from bootstrap.spec import Host, Inventory
from bootstrap.verify.asking import valid

UNITS = ("containerd", "kubelet")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate on a host, by its shortened path. Times are RFC 3339, UTC; `days` are left, rounded down.

    `problem` says that it has ended or will soon, or cannot be read; there are no times then.
    """

    host: str
    name: str
    begins: str
    ends: str
    days: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a host says of itself. `api` and `endpoint` are `ok`, why not, or empty where it was not asked."""

    units: Mapping[str, str] = field(default_factory=dict)
    api: str = ""
    endpoint: str = ""
    certificates: tuple[Certificate, ...] = ()


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A host of the inventory, or a Node that is not in it (without roles).

    `reached` says whether its machine was asked, `error` why not. `node` is `Ready`, `NotReady`, `missing`, or
    `unknown` where the API was not asked; empty for a host that is to be no Node. `kubelet` and `runtime` are versions.
    """

    name: str
    roles: tuple[str, ...]
    address: str
    reached: bool
    error: str = ""
    node: str = ""
    kubelet: str = ""
    runtime: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    api: str = ""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Component:
    """A static Pod of the control plane on `host`, or a workload of the cluster's own (without a host)."""

    name: str
    host: str
    ready: int
    wanted: int
    version: str


@dataclass(frozen=True, slots=True)
class EtcdMember:
    """A member of etcd: its `role` is `leader`, `follower`, `learner`, `no leader` or `no answer`; sizes in bytes."""

    name: str
    role: str
    version: str = ""
    size: int = 0
    quota: int = 0
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """How a cluster is. `version` is what the inventory asks for, `time` when it was asked (RFC 3339, UTC)."""

    cluster: str
    version: str
    endpoint: str
    time: str
    hosts: tuple[HostStatus, ...]
    components: tuple[Component, ...]
    etcd: tuple[EtcdMember, ...]
    certificates: tuple[Certificate, ...]
    problems: tuple[str, ...]


def stamp(time: datetime.datetime) -> str:
    """Write a time as RFC 3339, in UTC, to the second."""
    return f"{time.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def machine(host: str, said: str, now: datetime.datetime) -> Machine:
    """Read what machine.sh printed on a host."""
    units: dict[str, str] = {}
    answers: dict[str, str] = {}
    certificates = []
    for line in said.splitlines():
        kind, _, rest = line.partition("\t")
        first, _, second = rest.partition("\t")
        if kind == "unit":
            units[first] = second or "unknown"
        elif kind in {"api", "endpoint"}:
            answers[kind] = rest
        elif kind in {"pem", "data"}:
            certificates.append(_certificate(host, first, second, now))
    return Machine(units, answers.get("api", ""), answers.get("endpoint", ""), tuple(certificates))


def hosts(
    inventory: Inventory,
    machines: Mapping[str, Machine],
    failures: Mapping[str, BaseException],
    nodes: Sequence[Mapping[str, Any]] | None,
) -> Iterator[HostStatus]:
    """Put together what is known of each host; `nodes` are the API's objects, None where it was not asked."""
    held = {node["metadata"]["name"]: node for node in nodes or ()}
    for host in inventory.hosts:
        seen = machines.get(host.name, Machine())
        state, kubelet, runtime, address = _node(held.pop(host.name, None), asked=nodes is not None)
        yield HostStatus(
            host.name,
            host.roles,
            address or host.address,
            host.name in machines,
            str(failures.get(host.name, "")),
            "" if host.is_etcd else state,
            kubelet,
            runtime,
            seen.units,
            seen.api,
            seen.endpoint,
        )
    for name, node in held.items():
        state, kubelet, runtime, address = _node(node, asked=True)
        yield HostStatus(name, (), address, reached=False, node=state, kubelet=kubelet, runtime=runtime)


def components(pods: Mapping[str, Any], *workloads: Mapping[str, Any]) -> Iterator[Component]:
    """Read the static Pods of the control plane, and lists of DaemonSets and Deployments."""
    for pod in pods["items"]:
        labels = pod["metadata"].get("labels", {})
        name = labels.get("component", pod["metadata"]["name"])
        yield Component(name, pod["spec"].get("nodeName", ""), int(is_ready(pod)), 1, _version(pod["spec"]))
    for workload in (each for some in workloads for each in some["items"]):
        status = workload.get("status", {})
        ready = status.get("numberReady", status.get("readyReplicas", 0))
        wanted = status.get("desiredNumberScheduled", workload["spec"].get("replicas", 0))
        version = _version(workload["spec"]["template"]["spec"])
        yield Component(workload["metadata"]["name"], "", ready, wanted, version)


def problems(
    hosts: Sequence[HostStatus],
    components: Sequence[Component],
    certificates: Sequence[Certificate],
    unasked: str,
) -> Iterator[str]:
    """Say in plain words what somebody should look after; `unasked` is why the API could not be asked, if so."""
    if unasked:
        yield f"the API could not be asked: {unasked}"
    for host in hosts:
        yield from (f"{host.name}: {what}" for what in _faults(host))
    for each in components:
        if each.ready < each.wanted:
            where = f" on {each.host}" if each.host else ""
            yield f"{each.name}{where}: {each.ready} of {each.wanted} ready"
    for certificate in certificates:
        if certificate.problem:
            yield f"{certificate.host}: {certificate.problem}"


def _faults(host: HostStatus) -> Iterator[str]:
    if host.error:
        yield host.error.removeprefix(f"{host.name}: ")
    for unit, state in host.units.items():
        if state != "active":
            yield f"{unit}.service is {state}"
    if host.api not in {"", "ok"}:
        yield f"its API server is not ready: {host.api}"
    if host.endpoint not in {"", "ok"}:
        yield f"nothing answers at the cluster's endpoint from here: {host.endpoint}"
    if host.node == "missing":
        yield "it is no Node of the cluster: `kubestrap join` makes it one"
    if host.node == "NotReady":
        yield "its Node is not Ready"
    if not host.roles:
        yield "the inventory does not have this Node"


def certificate_paths(host: Host) -> tuple[str, ...]:
    """List the files of a host in which certificates may be: not all of them need be there."""
    kubelet = (paths.KUBELET_CLIENT_CERT, f"{paths.KUBELET}/pki/kubelet.crt")
    if host.is_worker:
        return (f"{paths.PKI}/ca.crt", *kubelet)
    etcd = tuple(f"{paths.PKI}/etcd/{name}.crt" for name in ("ca", "server", "peer", "healthcheck-client"))
    if host.is_etcd:
        return etcd
    names = ("ca", "front-proxy-ca", "apiserver", "apiserver-kubelet-client", "front-proxy-client")
    own = tuple(f"{paths.PKI}/{name}.crt" for name in (*names, "apiserver-etcd-client"))
    confs = (paths.ADMIN_CONF, paths.SUPER_ADMIN_CONF, paths.CONTROLLER_MANAGER_CONF, paths.SCHEDULER_CONF)
    return (*own, *etcd, *confs, *kubelet)


def _certificate(host: str, path: str, data: str, now: datetime.datetime) -> Certificate:
    name = path.removeprefix(f"{paths.PKI}/").removeprefix(f"{paths.KUBERNETES}/").removeprefix(f"{paths.KUBELET}/pki/")
    name = name.removesuffix(".crt").removesuffix("-current.pem")
    try:
        decoded = base64.b64decode(data.strip().strip("\"'"), validate=True)
        # A kubeconfig holds PEM, a file of certificates is sent as the DER that is in it.
        pem = decoded.startswith(b"-----")
        found = x509.load_pem_x509_certificate(decoded) if pem else x509.load_der_x509_certificate(decoded)
    except (binascii.Error, ValueError):
        return Certificate(host, name, "", "", 0, f"{path} holds no certificate")
    begins, ends = found.not_valid_before_utc, found.not_valid_after_utc
    problem = next(valid(path, found), "")
    return Certificate(host, name, stamp(begins), stamp(ends), (ends - now).days, problem)


def _node(node: Mapping[str, Any] | None, *, asked: bool) -> tuple[str, str, str, str]:
    if node is None:
        return "missing" if asked else "unknown", "", "", ""
    status = node.get("status", {})
    info = status.get("nodeInfo", {})
    internal = [each["address"] for each in status.get("addresses", ()) if each["type"] == "InternalIP"]
    kubelet = info.get("kubeletVersion", "").removeprefix("v")
    runtime = info.get("containerRuntimeVersion", "").replace("://", " ")
    return "Ready" if is_ready(node) else "NotReady", kubelet, runtime, next(iter(internal), "")


def _version(spec: Mapping[str, Any]) -> str:
    containers = spec.get("containers") or [{}]
    image = str(containers[0].get("image", "")).partition("@")[0]
    return image.rpartition("/")[2].partition(":")[2].removeprefix("v")
