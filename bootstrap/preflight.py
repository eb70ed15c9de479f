"""Preflight: what would make a machine unfit is told before it is changed; all machines, all problems at once.

The checks have kubeadm's names where kubeadm has them (kubeadm-facts section 14, preflight/checks.go), so that lists
of checks to ignore can be carried over.
"""

from __future__ import annotations

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
from bootstrap.transport.base import Host

Workflow = Literal["init", "join"]

SECONDS = 60
"""The limit of looking at one machine."""

CLOCK_WARNING, CLOCK_ERROR = 2.0, 30.0
"""Seconds by which a machine's clock may differ from the operator's before it is said, and before it is an error.

Certificates are back-dated by five minutes, so an error is no matter of TLS alone: leases, tokens' expiry and
whoever reads logs of several machines rely on clocks that agree.
"""

NAMES = frozenset(
    {
        "Architecture",
        "CgroupV1",
        "Clock",
        "DiskSpace",
        "DistinctHosts",
        "EndpointName",
        "Firewalld",
        "Hostname",
        "HTTPProxy",
        "IsPrivilegedUser",
        "Mem",
        "NodeAddress",
        "NumCPU",
        "ResolvConf",
        "Swap",
        "SystemVerification",
        "Systemd",
    }
)
FAMILIES = ("DirAvailable-", "DirWritable-", "FileAvailable-", "FileContent-", "FileExisting-", "Port-", "Service-")
"""Checks of one kind, told apart by what follows: a path with dashes for slashes, a port, a program, a unit."""

KUBEADM_ONLY = frozenset(
    {
        "ContainerRuntimeVersion",
        "CRI",
        "ExternalEtcdClientCertificates",
        "ExternalEtcdVersion",
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
    """What was found on one host: its problems, and by kind what should identify it among all machines."""

    host: str
    problems: tuple[Problem, ...] = ()
    identities: Mapping[str, str] = field(default_factory=dict)


def examine(host: Host, node: spec.Host, cluster: spec.Cluster, *, workflow: Workflow, platform: str) -> Examination:
    """Look at one machine, in one round trip, without changing anything.

    `platform` is the bundle's (`linux/amd64`). Raises `HostError` where the machine cannot be asked.
    """
    sent = time.time()
    result = host.run("sh -s", stdin=script(node, cluster, workflow=workflow, platform=platform), seconds=SECONDS)
    received = time.time()
    if result.status:
        why = result.stderr.decode(errors="replace").strip() or f"exit status {result.status}"
        raise StepFailed(host.name, "preflight", "look at the machine", why)
    return read(host.name, result.stdout.decode(errors="replace"), sent=sent, received=received)


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


def script(node: spec.Host, cluster: spec.Cluster, *, workflow: Workflow, platform: str, root: str = "") -> bytes:
    """Give the script that looks at a machine. `root` is put before the paths it reads (for tests)."""
    kubelet = {**cluster.kubelet.config, **node.kubelet.config}
    networking = cluster.networking
    forwarding = "ipv4/ip_forward" if networking.pod_subnet.version == 4 else "ipv6/conf/default/forwarding"
    parameters = {
        "root": root,
        "name": node.name,
        "role": "control-plane" if node.is_control_plane else "worker",
        "workflow": workflow,
        "platform": platform,
        "receipt": paths.RECEIPT,
        "manifests": paths.MANIFESTS,
        "kubelet_files": f"{paths.KUBELET_CONF} {paths.BOOTSTRAP_KUBELET_CONF} {paths.PKI}/ca.crt",
        "etcd_data": "" if cluster.etcd.external else cluster.etcd.local.data_dir,
        "api_port": str(cluster.bind_port),
        "open": f"{cluster.bind_port}, 2379, 2380 and 10250" if node.is_control_plane else "10250",
        "swap": "off" if kubelet.get("failSwapOn", True) else "on",
        "cgroup_v1": "allowed" if kubelet.get("failCgroupV1", True) is False else "",
        "forwarding": f"/proc/sys/net/{forwarding}",
        "endpoint": cluster.endpoint_name if cluster.endpoint.kind == "external" else "",
        "kubelet_flags": paths.KUBELET_FLAGS,
        "address": str(node.node_address or ""),
        "direct": f"{cluster.endpoint_name} {networking.service_subnet} {networking.pod_subnet}",
    }
    assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in parameters.items())
    return assignments.encode() + resources.files("bootstrap").joinpath("preflight.sh").read_bytes()


def read(host: str, answers: str, *, sent: float, received: float) -> Examination:
    """Turn the script's answers into problems. It was sent and had answered at these times (Unix, the operator's)."""
    problems: list[Problem] = []
    identities: dict[str, str] = {}
    for line in answers.splitlines():
        match line.split("\t"):
            case ["error" | "warning" as level, check_name, what, fix]:
                problems.append(Problem(host, check_name, "error" if level == "error" else "warning", what, fix))
            case ["clock", seconds]:
                problems += clock(host, float(seconds), sent, received)
            case ["id", kind, value]:
                identities[kind] = value
            case _:
                raise StepFailed(host, "preflight", "look at the machine", f"unexpected answer: {line!r}")
    return Examination(host, tuple(problems), identities)


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
    """Give the warnings; errors of checks named in `ignored` are among them.

    Names are compared without case, and `all` stands for every check, as with kubeadm. A name that no check has is
    a warning of its own, without a host. Raises `PreflightFailed` with every error of every host.
    """
    names = {name.lower() for name in ignored}
    judged = [
        replace(problem, level="warning") if names & {problem.check.lower(), "all"} else problem for problem in problems
    ]
    errors = [problem for problem in judged if problem.level == "error"]
    if errors:
        raise PreflightFailed(errors)
    return [*unknown(ignored), *judged]


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
