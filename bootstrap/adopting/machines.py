"""The machines that are given: what is read of each, in one round trip, and which are no Nodes of one cluster."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from bootstrap import kubeadm, paths, survey, tokens
from bootstrap.adopting.refusal import mistake
from bootstrap.bundle import catalog
from bootstrap.connections import Connections
from bootstrap.errors import Problem
from bootstrap.parallel import attempt, raise_failures
from bootstrap.site import Facts
from bootstrap.spec import Host, Inventory

CA = f"{paths.PKI}/ca.crt"
CA_KEY = f"{paths.PKI}/ca.key"
HOSTS = "/etc/hosts"
OWN_FLAGS = "/etc/default/kubelet"
_CLOUDS = "/var/lib/kubelet/kubeconfig"  # where images of EKS, AKS and GKE have the kubelet's kubeconfig
_UNITS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
_OTHERS = {
    "k3s": ("k3s.service", "k3s-agent.service"),
    "RKE2": ("rke2-server.service", "rke2-agent.service"),
    "k0s": ("k0scontroller.service", "k0sworker.service"),
    "MicroK8s": ("snap.microk8s.daemon-kubelite.service",),
}
_READ = (
    CA,
    CA_KEY,
    HOSTS,
    OWN_FLAGS,
    _CLOUDS,
    paths.ADMIN_CONF,
    paths.CONTAINERD_CONFIG,
    paths.KUBELET_CONF,
    paths.KUBELET_CONFIG,
    paths.KUBELET_FLAGS,
    paths.KUBELET_INSTANCE_CONFIG,
    paths.MANIFESTS,
    paths.VIP_CONFIG,
    *(f"{folder}/{unit}" for folder in _UNITS for units in _OTHERS.values() for unit in units),
)
_ARGUMENTS = re.compile(r"^KUBELET_(?:KUBEADM|EXTRA)_ARGS=(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine: how it was named, and what it holds."""

    given: Host
    facts: Facts

    @property
    def name(self) -> str:
        """How messages call it: as the command line did."""
        return self.given.address

    @property
    def files(self) -> Mapping[str, bytes]:
        """What was read of it, by path; what is not there is left out."""
        return self.facts.files

    @property
    def is_control_plane(self) -> bool:
        """Whether an API server runs there."""
        return f"{paths.MANIFESTS}/kube-apiserver.yaml" in self.files

    @property
    def ca_hashes(self) -> Sequence[str]:
        """The public keys of the cluster's CA, as kubeadm's caCertHashes have them; none where it cannot be read."""
        try:
            return tokens.ca_cert_hashes(self.files.get(CA, b""))
        except ValueError:
            return ()

    def document(self, path: str) -> Mapping[str, Any]:
        """Read one of its YAML files; empty where there is none, or none that can be read."""
        return mapping(self.files.get(path, b""))

    def component(self, name: str) -> Sequence[tuple[str, str]]:
        """Give the flags of a static Pod's container, in order, without dashes; none where there is no such Pod."""
        containers = (self.document(f"{paths.MANIFESTS}/{name}.yaml").get("spec") or {}).get("containers") or [{}]
        words = [*(containers[0].get("command") or []), *(containers[0].get("args") or [])]
        pairs = (str(word).removeprefix("--").partition("=") for word in words if str(word).startswith("--"))
        return [(name, value) for name, _, value in pairs]

    @property
    def api_server(self) -> Mapping[str, str]:
        """The flags of its API server; of one that is given twice the last one."""
        return dict(self.component("kube-apiserver"))

    @property
    def kubelet_flags(self) -> Sequence[tuple[str, str]]:
        """The kubelet's flags of kubeadm-flags.env, in order, without dashes."""
        return _flags(self.files.get(paths.KUBELET_FLAGS, b""))

    @property
    def own_kubelet_flags(self) -> Sequence[tuple[str, str]]:
        """The kubelet's flags that whoever runs the machine gave it, which stay there."""
        return _flags(self.files.get(OWN_FLAGS, b""))

    @property
    def runtime(self) -> str:
        """The socket of its container runtime; empty where nothing tells."""
        told = dict(self.kubelet_flags).get("container-runtime-endpoint")
        files = (self.document(path) for path in (paths.KUBELET_INSTANCE_CONFIG, paths.KUBELET_CONFIG))
        return told or next(filter(None, (file.get("containerRuntimeEndpoint") for file in files)), "")


def mapping(source: bytes | str) -> Mapping[str, Any]:
    """Read a YAML document that others wrote; empty where it is no mapping."""
    try:
        data = yaml.safe_load(source)
    except yaml.YAMLError:
        return {}
    return data if isinstance(data, dict) else {}


def read(given: Inventory, connections: Connections) -> list[Machine]:
    """Read all machines, in the order in which they were given. Raises `HostsFailed` with all that cannot be read."""
    found, failures = attempt(list(connections.hosts), lambda name: survey.look(connections.hosts[name], _READ))
    raise_failures({**connections.failures, **failures}, {})
    return [Machine(host, found[host.name]) for host in given.hosts]


def unfit(machines: Sequence[Machine]) -> list[Problem]:
    """Tell which machines are no Nodes of one cluster that kubeadm may have made."""
    problems = [problem for machine in machines for problem in _alone(machine)]
    planes = [machine for machine in machines if machine.is_control_plane]
    wrong = {problem.host for problem in problems}
    if not planes and len(wrong) < len(machines):
        what = "no control plane runs on any of these hosts"
        problems.append(mistake("adopt-no-control-plane", "", what, "name the cluster's control-plane hosts, too"))
    for machine in machines:
        if machine.name in wrong or not planes or not planes[0].ca_hashes:
            continue
        if machine.ca_hashes[0] not in planes[0].ca_hashes:
            what = f"its CA is {machine.ca_hashes[0]}, and that of {planes[0].name} is {planes[0].ca_hashes[0]}"
            fix = "adopt each cluster by itself, with an inventory of its own"
            problems.append(mistake("adopt-other-cluster", machine.name, f"it is in another cluster: {what}", fix))
    if planes and not any(paths.ADMIN_CONF in machine.files for machine in planes):
        what = f"none of the control-plane hosts has {paths.ADMIN_CONF}, by which the cluster is asked"
        fix = "put it back on one of them (kubeadm init phase kubeconfig admin)"
        problems.append(mistake("adopt-broken", "", what, fix))
    return problems


def _alone(machine: Machine) -> Iterator[Problem]:
    name, files = machine.name, machine.files
    for tool, units in _OTHERS.items():
        if any(path.rpartition("/")[2] in units for path in files):
            what = f"it is a node of {tool}, and what kubeadm made can be adopted alone"
            yield mistake("adopt-not-kubeadm", name, what, "leave this host out")
            return
    if paths.KUBELET_CONF not in files:
        if _CLOUDS in files:
            what = f"its kubelet is a cloud's ({_CLOUDS}): a managed cluster has no machines of its control plane"
            yield mistake("adopt-not-kubeadm", name, what, "leave this host out")
            return
        what = f"it is no node of a cluster: there is no {paths.KUBELET_CONF}"
        fix = "leave it out; once the cluster is adopted, put it into the inventory, and kubestrap join makes it one"
        yield mistake("adopt-no-node", name, what, fix)
        return
    if not machine.ca_hashes:
        yield mistake("adopt-broken", name, f"its {CA} is missing, or is no certificate", "put the cluster's CA there")
    if machine.runtime and machine.runtime not in kubeadm.RUNTIMES:
        what = f"its container runtime is at {machine.runtime}, and kubestrap runs containerd"
        fix = "move its kubelet to containerd first (drain, then change the runtime), or leave it out"
        yield mistake("adopt-runtime", name, what, fix)
    if machine.facts.architecture != catalog.PLATFORM.rpartition("/")[2]:
        what = f"it is of the architecture {machine.facts.architecture}, and bundles are for {catalog.PLATFORM}"
        yield mistake("adopt-architecture", name, what, "leave it out")


def _flags(source: bytes) -> list[tuple[str, str]]:
    found = []
    for given in _ARGUMENTS.findall(source.decode(errors="replace")):
        try:
            # The file quotes them as a whole, and systemd parts them at blanks.
            words = [word for text in shlex.split(given) for word in text.split()]
        except ValueError:
            continue
        for word in words:
            name, _, value = word.lstrip("-").partition("=")
            found.append((name, value))
    return found
