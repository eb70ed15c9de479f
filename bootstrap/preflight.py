"""Preflight: what would make a machine unfit is told before it is changed; all machines, all problems at once.

The checks have kubeadm's names where kubeadm has them (kubeadm-facts section 14, preflight/checks.go), so that lists
of checks to ignore can be carried over.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Literal

from bootstrap import paths, spec
from bootstrap.errors import HostsFailed, PreflightFailed, StepFailed
from bootstrap.errors import Problem as Problem
from bootstrap.parallel import attempt
from bootstrap.phases import kubelet, local_proxy
from bootstrap.reach import Seen
from bootstrap.transport.base import Host

Workflow = Literal["init", "join"]

SECONDS = 60
"""The limit of looking at one machine."""

CLOCK_WARNING, CLOCK_ERROR = 2.0, 30.0
"""Seconds by which a machine's clock may differ from the operator's before it is said, and before it is an error.

Certificates are back-dated by five minutes, so an error is no matter of TLS alone: leases, tokens' expiry and
whoever reads logs of several machines rely on clocks that agree.
"""

SYNC_WARNING = 0.05
"""Seconds for a small write to etcd's disk from which etcd will be slow: its members tell each other every 0.1 s."""

NAMES = frozenset(
    {
        "Architecture",
        "CgroupV1",
        "Clock",
        "CloudInit",
        "DHCP",
        "DiskSpace",
        "DistinctHosts",
        "EndpointName",
        "EtcdDisk",
        "ExternalEtcdClientCertificates",
        "ExternalEtcdHealth",
        "ExternalEtcdServerCertificates",
        "ExternalEtcdVersion",
        "Firewalld",
        "Hostname",
        "HTTPProxy",
        "Inodes",
        "IsPrivilegedUser",
        "Mem",
        "NodeAddress",
        "NumCPU",
        "PathMTU",
        "ResolvConf",
        "Routes",
        "RunningPods",
        "Swap",
        "SystemVerification",
        "Systemd",
        "VirtualAddress",
    }
)
FAMILIES = (
    "DirAvailable-",
    "DirWritable-",
    "FileAvailable-",
    "FileContent-",
    "FileExisting-",
    "Port-",
    "Reach-",
    "Service-",
)
"""Checks of one kind, told apart by what follows: a path with dashes for slashes, a port, a program, a unit."""

KUBECONFIGS = (
    paths.KUBELET_CONF,
    paths.ADMIN_CONF,
    paths.SUPER_ADMIN_CONF,
    paths.CONTROLLER_MANAGER_CONF,
    paths.SCHEDULER_CONF,
)
LEFTOVER = "remove that cluster from the machine first (kubeadm reset), or have --force move it aside"

KUBEADM_ONLY = frozenset(
    {
        "ContainerRuntimeVersion",
        "CRI",
        "HTTPProxyCIDR",
        "ImagePull",
        "KubeletVersion",
        "KubernetesVersion",
    }
)
"""kubeadm's checks of what kubestrap brings along itself. Ignoring them is no mistake."""

_NO_IDENTITY = re.compile(r"[^0-9a-f]*|[0f-]+|03000200-0400-0500-0006-000700080009|.*(unknown|uninitialized|not ).*")
"""What firmware and images write where they know nothing, in lower case."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found on one host: its problems, and by kind what should identify it among all machines.

    `leftovers` are what another cluster left, by the check that complains of each: paths of files and folders.
    """

    host: str
    problems: tuple[Problem, ...] = ()
    identities: Mapping[str, str] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    leftovers: Mapping[str, str] = field(default_factory=dict)


def examine(
    host: Host,
    node: spec.Host,
    cluster: spec.Cluster,
    *,
    workflow: Workflow,
    platform: str,
    proxied: bool = False,
    stacked: bool = True,
    adopted: bool = False,
) -> Examination:
    """Look at one machine, in one round trip, without changing anything.

    With `proxied` a worker is to have a proxy that leads to the control planes, with `stacked` a control plane its own
    etcd, unless that is external. `platform` is the bundle's (`linux/amd64`). An `adopted` machine is a Node of this
    very cluster, whoever made it one: nothing of Kubernetes that is there is a leftover.

    Raises `HostError` where the machine cannot be asked.
    """
    sent = time.time()
    asked = script(
        node, cluster, workflow=workflow, platform=platform, proxied=proxied, stacked=stacked, adopted=adopted
    )
    result = host.run("sh -s", stdin=asked, seconds=SECONDS)
    received = time.time()
    if result.status:
        why = result.stderr.decode(errors="replace").strip() or f"exit status {result.status}"
        raise StepFailed(host.name, "preflight", "look at the machine", why)
    return read(host.name, result.stdout.decode(errors="replace"), cluster, sent=sent, received=received)


def check(
    hosts: Sequence[tuple[Host, spec.Host]], cluster: spec.Cluster, *, workflow: Workflow, platform: str
) -> list[Problem]:
    """Look at all `hosts` at the same time, and at what they have in common.

    Raises `HostsFailed`, after all were asked, with the errors of those that could not be.
    """
    pairs = {host.name: (host, node) for host, node in hosts}

    def look(name: str) -> Examination:
        return examine(*pairs[name], cluster, workflow=workflow, platform=platform)

    done, failures = attempt(list(pairs), look)
    if failures:
        raise HostsFailed(failures)
    return [problem for examination in done.values() for problem in examination.problems] + across(done.values())


def script(
    node: spec.Host,
    cluster: spec.Cluster,
    *,
    workflow: Workflow,
    platform: str,
    proxied: bool = False,
    stacked: bool = True,
    adopted: bool = False,
    root: str = "",
) -> bytes:
    """Give the script that looks at a machine. `root` is put before the paths it reads (for tests)."""
    config = kubelet.host_config(cluster, node)
    networking = cluster.networking
    forwarding = "ipv4/ip_forward" if networking.pod_subnet.version == 4 else "ipv6/conf/default/forwarding"
    role = "control-plane" if node.is_control_plane else "etcd" if node.is_etcd else "worker"
    virtual = cluster.virtual_address
    has_etcd = spec.runs_etcd(node, cluster, stacked=stacked)
    opened = [str(cluster.bind_port)] if node.is_control_plane else []
    opened += [f"{cluster.endpoint.port} (with the protocol vrrp)"] if node.is_control_plane and virtual else []
    opened += ["2379", "2380"] if has_etcd else []
    opened += [] if node.is_etcd else ["10250"]
    parameters = {
        "root": root,
        "name": node.name,
        "role": role,
        "workflow": workflow,
        "platform": platform,
        "receipt": paths.RECEIPT,
        "adopted": "yes" if adopted else "",
        "manifests": paths.MANIFESTS,
        "pki": paths.PKI,
        "kubelet_files": f"{paths.KUBELET_CONF} {paths.BOOTSTRAP_KUBELET_CONF} {paths.PKI}/ca.crt",
        "kubeconfigs": " ".join(KUBECONFIGS),
        "etcd_data": cluster.etcd.local.data_dir if has_etcd else "",
        "api_port": str(cluster.bind_port),
        "proxy_ports": _proxy_ports(node, cluster, proxied=proxied),
        "open": " and ".join(filter(None, [", ".join(opened[:-1]), opened[-1]])),
        "swap": "off" if config.get("failSwapOn", True) else "on",
        "fetches": "yes" if cluster.bundle.url else "",
        "cgroup_v1": "allowed" if config.get("failCgroupV1", True) is False else "",
        "forwarding": f"/proc/sys/net/{forwarding}",
        "endpoint": cluster.endpoint_name if cluster.endpoint.kind == "external" else "",
        "entry": "" if cluster.endpoint.kind == "external" or node.is_etcd else cluster.endpoint_name,
        "kubelet_flags": paths.KUBELET_FLAGS,
        "address": str(node.node_address or ""),
        "family": str(networking.pod_subnet.version),
        "proxy": "" if cluster.kube_proxy.disabled or node.is_etcd else "yes",
        "cni": f"{paths.CNI_CONFIG}/10-flannel.conflist"
        if cluster.addons.cni == "flannel" and not node.is_etcd
        else "",
        "vxlan": str(cluster.addons.flannel.port) if by_vxlan(cluster) and not node.is_etcd else "",
        "direct": f"{cluster.endpoint_name} {networking.service_subnet} {networking.pod_subnet}",
    }
    assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in parameters.items())
    return assignments.encode() + resources.files("bootstrap").joinpath("preflight.sh").read_bytes()


def _proxy_ports(node: spec.Host, cluster: spec.Cluster, *, proxied: bool) -> str:
    if cluster.virtual_address and node.is_control_plane:
        return f"{cluster.endpoint.port} {local_proxy.HEALTH.rpartition(':')[2]}"
    return str(cluster.endpoint.port) if proxied and node.is_worker else ""


def read(host: str, answers: str, cluster: spec.Cluster, *, sent: float, received: float) -> Examination:
    """Turn the script's answers into problems. It was sent and had answered at these times (Unix, the operator's)."""
    problems: list[Problem] = []
    identities: dict[str, str] = {}
    leftovers: dict[str, str] = {}
    listening: dict[str, set[int]] = {"tcp": set(), "udp": set()}
    routes: list[tuple[str, str, str]] = []
    syncs: list[float] = []
    came: int | None = None
    mine = False
    for line in answers.splitlines():
        match line.split("\t"):
            case ["error" | "warning" | "unchecked" as level, check_name, what, fix]:
                problems.append(Problem(host, check_name, level, what, fix))
            case ["clock", seconds]:
                problems += clock(host, float(seconds), sent, received)
            case ["id", kind, value]:
                identities[kind] = value
            case ["mine"]:
                mine = True
            case ["sync", microseconds]:
                syncs.append(int(microseconds) / 1e6)
            case ["route", interface, network, mask]:
                routes.append((interface, network, mask))
            case ["listen", "tcp" | "udp" as kind, port]:
                listening[kind].add(int(port, 16))
            case ["came", number]:
                came = int(number)
            case ["leftover", check_name, path]:
                leftovers[check_name] = path
                what = f"{path} is there, and is not of kubestrap: a leftover of another cluster?"
                problems.append(Problem(host, check_name, "error", what, LEFTOVER))
            case _:
                raise StepFailed(host, "preflight", "look at the machine", f"unexpected answer: {line!r}")
    problems += [*overlaps(host, routes, cluster, mine=mine), *disk(host, syncs)]
    return Examination(host, tuple(problems), identities, Seen(listening["tcp"], listening["udp"], came), leftovers)


def by_vxlan(cluster: spec.Cluster) -> bool:
    """Say whether Pods of different machines reach each other by flannel's VXLAN."""
    return cluster.addons.cni == "flannel" and cluster.addons.flannel.backend == "vxlan"


def overlaps(
    host: str, routes: Iterable[tuple[str, str, str]], cluster: spec.Cluster, *, mine: bool
) -> Iterable[Problem]:
    """Find routes of a machine into the cluster's networks. Those to Pods, on one that is a node, are the cluster's."""
    networking = cluster.networking
    subnets = {"service": networking.service_subnet, **({} if mine else {"Pod": networking.pod_subnet})}
    for interface, network, mask in routes:
        if interface.startswith(("cni0", "flannel", "kube-")):
            continue
        route = _network(network, mask)
        for noun, subnet in subnets.items():
            if route.version == subnet.version and route.overlaps(subnet):
                what = f"it has a route to {route} by {interface}, which the cluster's {noun} subnet {subnet} overlaps"
                yield Problem(host, "Routes", "error", what, "choose other subnets under cluster.networking")


def _network(network: str, mask: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Read a route as the kernel writes it: /proc/net/route (bytes turned around), /proc/net/ipv6_route."""
    if len(network) == 32:
        return ipaddress.IPv6Network((bytes.fromhex(network), int(mask, 16)))
    bits = int.from_bytes(bytes.fromhex(mask), "little").bit_count()
    return ipaddress.IPv4Network((bytes.fromhex(network)[::-1], bits), strict=False)


def disk(host: str, syncs: Sequence[float]) -> Iterable[Problem]:
    """Judge etcd's disk by the slowest writes, but for one, which may have been chance."""
    if len(syncs) > 1 and (slow := sorted(syncs)[-2]) > SYNC_WARNING:
        what = (
            f"writes to the disk of etcd's data take up to {1000 * slow:.0f} ms, and more than 50 ms is slow for etcd"
        )
        fix = (
            "use a faster disk (SSD) for cluster.etcd.local.dataDir; else raise "
            "cluster.timeouts.controlPlaneComponentHealthCheck and etcd's heartbeat-interval and election-timeout"
        )
        yield Problem(host, "EtcdDisk", "warning", what, fix)


def clock(host: str, theirs: float, sent: float, received: float) -> list[Problem]:
    """Judge a machine's clock, read at some moment between `sent` and `received`: only what is certain counts."""
    ahead = theirs - received if theirs > received else min(theirs - sent, 0.0)
    if abs(ahead) <= CLOCK_WARNING:
        return []
    what = f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    level: Literal["error", "warning"] = "error" if abs(ahead) > CLOCK_ERROR else "warning"
    return [Problem(host, "Clock", level, what, "set both clocks by NTP (systemd-timesyncd, chrony)")]


def across(examinations: Iterable[Examination]) -> list[Problem]:
    """Tell which hosts are one machine, or copies of one: what is unknown never equals what is unknown."""
    owners: dict[tuple[str, str], list[str]] = {}
    for examination in examinations:
        for kind, value in examination.identities.items():
            known = value.strip().lower()
            if not _NO_IDENTITY.fullmatch(known):
                owners.setdefault((kind, known), []).append(examination.host)
    fix = {
        "product_uuid": "use one machine for one host; where the virtual machine was copied, give it its own UUID",
        "machine-id": "use one machine for one host; a copy gets its own: rm /etc/machine-id; systemd-machine-id-setup",
    }
    found: list[Problem] = []
    for (kind, _), hosts in owners.items():
        for host in hosts if len(hosts) > 1 else ():
            others = ", ".join(other for other in hosts if other != host)
            found.append(Problem(host, "DistinctHosts", "error", f"its {kind} is that of {others} too", fix[kind]))
    return found


def judge(problems: Iterable[Problem], ignored: Sequence[str] = ()) -> list[Problem]:
    """Give what `judged` gives. Raises `PreflightFailed` with every error of every host, where any is left."""
    found = judged(problems, ignored)
    if errors := [problem for problem in found if problem.level == "error"]:
        raise PreflightFailed(errors)
    return found


def judged(problems: Iterable[Problem], ignored: Sequence[str] = ()) -> list[Problem]:
    """Give all problems; errors of checks named in `ignored` are warnings among them.

    Names are compared without case, and `all` stands for every check, as with kubeadm. A name that no check has is
    a warning of its own, without a host.
    """
    names = {name.lower() for name in ignored}
    return [
        *unknown(ignored),
        *(
            replace(problem, level="warning")
            if problem.level == "error" and names & {problem.check.lower(), "all"}
            else problem
            for problem in problems
        ),
    ]


def unknown(ignored: Sequence[str]) -> list[Problem]:
    """Warn of names that no check has."""
    known = {name.lower() for name in NAMES | KUBEADM_ONLY | {"all"}}
    families = tuple(family.lower() for family in FAMILIES)
    return [
        Problem(
            "", "IgnorePreflightErrors", "warning", f"no check is called {name}", "see docs/preflight.md for the names"
        )
        for name in ignored
        if name.lower() not in known and not name.lower().startswith(families)
    ]
