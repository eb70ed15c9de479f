"""From what machines and their cluster say to an inventory of it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bootstrap import consistency, inventory, kubeadm, paths, survey
from bootstrap.adopting import machines as seen
from bootstrap.adopting.machines import Machine
from bootstrap.adopting.refusal import mistake
from bootstrap.adopting.settings import common, overlay
from bootstrap.adopting.standing import Standing, ask
from bootstrap.connections import connected
from bootstrap.departure import is_ready
from bootstrap.errors import AdoptionRefused, Problem
from bootstrap.importing.draft import Draft, arguments, taints
from bootstrap.phases import addons, kubelet, marks, runtime, static_pods
from bootstrap.redaction import Secrets
from bootstrap.site import Contents, Facts, ImageArtifact, Node, Site
from bootstrap.spec import Cluster, Host, Inventory, Taint
from bootstrap.steps import Json
from bootstrap.values import LabelKey, ip_address, shown

COMMAND = "kubestrap adopt"
CA_FOLDER = "ca"
ETCD_FOLDER = "etcd"
_MANIFESTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubestrap-proxy", "kubestrap-vip")
_OF_KUBELETS = ("kubernetes.io/arch", "kubernetes.io/hostname", "kubernetes.io/os")
_OF_OPERATORS = ("kubeadm", "kubectl", "kubelet", "kubestrap")
_OF_CONTROLLERS = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
_GIVEN_FLAGS = ("container-runtime-endpoint", "hostname-override", "node-ip", "node-labels", "register-with-taints")
_BUNDLED_FLAGS = ("pod-infra-container-image",)
_LABEL: TypeAdapter[str] = TypeAdapter(LabelKey)


@dataclass(frozen=True, slots=True)
class Adopted:
    """A valid inventory as YAML, and a line for each thing that it does not say.

    `files` are those that it names, to be put beside it, by their relative paths; some are secrets.
    """

    text: str
    notes: Sequence[str]
    files: Mapping[str, bytes]

    def __repr__(self) -> str:
        """Tell nothing of the files."""
        return f"Adopted({self.text!r})"


@dataclass(frozen=True, slots=True)
class _Member:
    """A machine as the Node that it is."""

    machine: Machine
    node: Json

    @property
    def name(self) -> str:
        return str(self.node["metadata"]["name"])

    @property
    def address(self) -> str:
        return _internal(self.node)


def adopt(given: Inventory, access: Inventory, secrets: Secrets) -> Adopted:
    """Read a cluster of kubeadm's from the machines of `given`, and give the inventory of it.

    `access` is `given` with how to log in this time. Nothing is changed. `secrets` learn what is not to be told. Raises
    `HostsFailed` where machines cannot be read, `AdoptionRefused` with every reason not to adopt them, and
    `ImportRefused` where no valid inventory comes out.
    """
    with connected(access, access.hosts) as connections:
        machines = seen.read(given, connections)
        secrets.learn(*(data for machine in machines for data in machine.files.values()))
        if problems := seen.unfit(machines):
            raise AdoptionRefused(problems)
        standing = ask(machines, connections.hosts)
        first = next(machine for machine in machines if machine.is_control_plane)
        files = {}
        if external := _external_files(standing):
            read = survey.look(connections.hosts[first.given.name], tuple(external.values())).files
            files = {name: read[path] for name, path in external.items() if path in read}
            secrets.learn(*files.values())
    return describe(given, machines, standing, files)


def describe(
    given: Inventory, machines: Sequence[Machine], standing: Standing, files: Mapping[str, bytes] | None = None
) -> Adopted:
    """Give the inventory of a cluster that was read; `files` are those of an external etcd. Raises as `adopt` does."""
    members, problems = _members(machines, standing.nodes)
    problems += _unsupported(machines, standing)
    problems += [
        mistake("adopt-broken", "", f"the external etcd's {path} is not on the control plane", "put it back there")
        for name, path in _external_files(standing).items()
        if name not in (files or {})
    ]
    if problems:
        raise AdoptionRefused(problems)
    draft = Draft("what stands on the machines", COMMAND)
    _cluster(draft, members, standing)
    for member in members:
        _host(draft, given, member)
    made = inventory.read(draft.finish().text.encode(), name=draft.source, folder=Path.cwd())
    _kubelets(draft, made, members, standing)
    made = inventory.read(draft.finish().text.encode(), name=draft.source, folder=Path.cwd())
    _rest(draft, made, members, standing)
    done = draft.finish()
    return Adopted(done.text, done.notes, files or {})


def _members(machines: Sequence[Machine], nodes: Sequence[Json]) -> tuple[list[_Member], list[Problem]]:
    """Find the Node of each machine, by its address."""
    members: list[_Member] = []
    problems = []
    for machine in machines:
        own = {link.address for link in machine.facts.links} | set(machine.facts.addresses)
        node = next((node for node in nodes if _internal(node) in own), None)
        if node is None:
            what = "the cluster has no Node with an address of it"
            fix = "leave it out; once the cluster is adopted, kubestrap join makes it a Node again"
            problems.append(mistake("adopt-no-node", machine.name, what, fix))
        elif twin := next((other for other in members if other.node is node), None):
            what = f"it is the same machine as {twin.machine.name}: the Node {twin.name}"
            problems.append(mistake("adopt-twice", machine.name, what, "name it once"))
        else:
            members.append(_Member(machine, node))
    return members, problems


def _internal(node: Json) -> str:
    addresses = node.get("status", {}).get("addresses") or []
    return next((each["address"] for each in addresses if each["type"] == "InternalIP"), "")


def _unsupported(machines: Sequence[Machine], standing: Standing) -> Iterator[Problem]:
    version = str(standing.configuration.get("kubernetesVersion", "")).removeprefix("v")
    for each in dict.fromkeys(filter(None, (version, standing.version))):
        if each.rpartition(".")[0] not in consistency.SUPPORTED_MINORS:
            known = ", ".join(f"{minor}.x" for minor in consistency.SUPPORTED_MINORS)
            what = f"the cluster runs Kubernetes {each}, and this version of kubestrap knows {known}"
            yield mistake("adopt-version", "", what, "bring it there first, with kubeadm upgrade")
    _, port, kind = _endpoint(machines, standing)
    needed = port if kind == "local-proxy" else 6443
    for machine in machines:
        own = machine.api_server.get("secure-port", "6443") if machine.is_control_plane else ""
        if own and own != str(needed):
            what = f"its API server listens on {own}, and behind such an endpoint only {needed} is supported"
            yield mistake("adopt-port", machine.name, what, "it cannot be adopted as it is")


def _endpoint(machines: Sequence[Machine], standing: Standing) -> tuple[str, int, str]:
    """Give the name and port under which the cluster is found, and which kind of endpoint of ours that is."""
    plane = next(machine for machine in machines if machine.is_control_plane)
    flags = plane.api_server
    given = str(standing.configuration.get("controlPlaneEndpoint") or flags.get("advertise-address", ""))
    matched = re.fullmatch(r"\[([^]]*)\](?::([0-9]+))?|([^:]*)(?::([0-9]+))?", given)
    name = (matched[1] or matched[3]) if matched else given
    port = (matched[2] or matched[4]) if matched else None
    number = int(port or flags.get("secure-port", "6443"))
    if paths.VIP_CONFIG in plane.files:
        return name, number, "vip"
    ours = re.search(rb"^# BEGIN kubestrap\n.*\n", plane.files.get(seen.HOSTS, b""), re.MULTILINE)
    return name, number, "local-proxy" if ours and name.encode() in ours[0].split() else "external"


def _cluster(draft: Draft, members: Sequence[_Member], standing: Standing) -> None:
    machines = [member.machine for member in members]
    given = dict(standing.configuration)
    where = "ClusterConfiguration"
    draft.set("caCertHash", next(machine for machine in machines if machine.is_control_plane).ca_hashes[0])
    draft.version(where, given.pop("kubernetesVersion", None))
    version, usual = draft.cluster["kubernetesVersion"], Cluster().kubernetes_version
    if version != usual:
        what = (
            f"it is of {version}, and kubestrap bundle build makes bundles of {usual}: name one of {version} under "
            f"cluster.bundle.path, or write {usual} as kubernetesVersion, to which init would bring the cluster"
        )
        draft.note(where, what)
    had_endpoint = bool(given.pop("controlPlaneEndpoint", None))
    _set_endpoint(draft, members, standing, had_endpoint=had_endpoint)
    for component in ("apiServer", "controllerManager", "scheduler"):
        settings = dict(given.get(component) or {})
        if isinstance(settings.get("extraArgs"), dict):  # v1beta3
            settings["extraArgs"] = arguments(settings["extraArgs"])
        given[component] = settings
    external = _external_files(standing)
    for each in kubeadm.placed("ClusterConfiguration", given):
        if each.path:
            theirs = each.name.removeprefix("etcd.external.")
            local = next((name for name in external if _EXTERNAL.get(theirs) == name), None)
            draft.set(".".join(map(str, each.path[1:])), local or each.value)
        elif not each.name.startswith("etcd.") or not external:
            draft.note(where, f"{each.name} ({shown(each.value)}) has no counterpart, and is left out: {each.why}")
    # What is said nowhere is kubeadm's default, which may be another one than ours.
    draft.set("encryptionAlgorithm", draft.cluster.get("encryptionAlgorithm", "RSA-2048"))
    if not (given.get("networking") or {}).get("podSubnet"):
        what = (
            "it has no podSubnet, and here there must be one: the default is taken, and the controller-manager would "
            "give Nodes parts of it. Write under cluster.networking.podSubnet what your Pod network uses"
        )
        draft.note(where, what)
    if not any(seen.CA_KEY in machine.files for machine in machines):
        draft.set("certificateAuthority", {"kind": "operator", "directory": CA_FOLDER})
        what = (
            f"no control-plane host has the CA's key: put the certificates and keys of all CAs into the folder "
            f"{CA_FOLDER} beside the inventory before init (docs/certificates.md)"
        )
        draft.note(f"{paths.PKI}/ca.key", what)


_EXTERNAL = {
    "caFile": f"{ETCD_FOLDER}/ca.crt",
    "certFile": f"{ETCD_FOLDER}/client.crt",
    "keyFile": f"{ETCD_FOLDER}/client.key",
}


def _external_files(standing: Standing) -> Mapping[str, str]:
    """Give where the files of an external etcd stand on control planes, by their names beside the inventory."""
    external = (standing.configuration.get("etcd") or {}).get("external") or {}
    return {name: str(external[key]) for key, name in _EXTERNAL.items() if external.get(key)}


def _set_endpoint(draft: Draft, members: Sequence[_Member], standing: Standing, *, had_endpoint: bool) -> None:
    machines = [member.machine for member in members]
    name, port, kind = _endpoint(machines, standing)
    endpoint: dict[str, Any] = {"kind": kind, "name": name, "port": port}
    if kind == "vip":
        plane = next(machine for machine in machines if paths.VIP_CONFIG in machine.files)
        config = plane.files[paths.VIP_CONFIG].decode(errors="replace")
        if found := re.search(r"virtual_ipaddress \{\s*(\S+)/\d+ dev (\S+)", config):
            endpoint |= {"address": found[1]}
        if found := re.search(r"virtual_router_id (\d+)", config):
            endpoint |= {"virtualRouterId": int(found[1])}
    draft.set("endpoint", endpoint)
    if not had_endpoint:
        what = (
            f"it has no controlPlaneEndpoint: {name}, the address of its control plane, is its endpoint. More control "
            "planes may join, and the cluster is still lost to its clients where that one is"
        )
        draft.note("ClusterConfiguration", what)
    elif kind == "external":
        entries = [
            member.machine.name
            for member in members
            if re.search(rf"^[^#\n]*\s{re.escape(name)}(\s|$)", _text(member.machine, seen.HOSTS), re.MULTILINE)
        ]
        if entries:
            what = f"{name} stands in /etc/hosts of {', '.join(entries)}: machines that join must resolve it, too"
            draft.note("the endpoint", what)


def _text(machine: Machine, path: str) -> str:
    return machine.files.get(path, b"").decode(errors="replace")


def _host(draft: Draft, given: Inventory, member: _Member) -> None:
    machine, node = member.machine, member.node
    own = [_taint(taint) for taint in node["spec"].get("taints") or [] if not taint["key"].startswith(_OF_CONTROLLERS)]
    usual = [Taint(key=marks.USUAL_TAINT[0], effect="NoSchedule")]
    roles = ["control-plane"] if machine.is_control_plane else ["worker"]
    if machine.is_control_plane and usual[0] not in own:
        roles.append("worker")
    expected = usual if roles == ["control-plane"] else []
    listed = None if own == expected else taints([taint.model_dump(exclude_defaults=True) for taint in own])
    login = machine.given.ssh.model_dump(by_alias=True, exclude_unset=True)
    login |= given.ssh.model_dump(by_alias=True, exclude_unset=True)
    labels = dict(_labels(draft, member))
    draft.host(
        member.name,
        machine.given.address,
        roles,
        machine.name,
        nodeAddress=member.address,
        labels=labels,
        taints=listed,
        ssh=login,
    )
    advertised = machine.api_server.get("advertise-address", member.address)
    if ip_address(advertised) != ip_address(member.address):
        what = f"its API server advertises {advertised}, and its Node has the address {member.address}, which is taken"
        draft.note(machine.name, what)
    version = node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", "").removeprefix("v")
    if version and version != draft.cluster.get("kubernetesVersion"):
        what = f"its kubelet is of {version}: init (or join, of a worker) makes it {draft.cluster['kubernetesVersion']}"
        draft.note(machine.name, what)


def _taint(given: Mapping[str, Any]) -> Taint:
    return Taint.model_construct(key=given["key"], value=given.get("value") or "", effect=given["effect"])


def _labels(draft: Draft, member: _Member) -> Iterator[tuple[str, str]]:
    """Give the labels that somebody gave the Node; those of controllers are theirs."""
    always = {marks.WORKER_LABEL, *dict(marks.CONTROL_PLANE_LABELS), *_OF_KUBELETS}
    for key, value in sorted((member.node["metadata"].get("labels") or {}).items()):
        if key in always or key.startswith("beta.kubernetes.io/"):
            continue
        owner = _owner(member.node, key)
        try:
            _LABEL.validate_python(key)
        except ValidationError:
            draft.note(member.name, f"the label {key} is left to whoever set it: only administrators may")
            continue
        if owner and not owner.startswith(_OF_OPERATORS):
            draft.note(member.name, f"the label {key} is left to {owner}, which set it")
            continue
        yield key, value


def _owner(node: Json, label: str) -> str:
    for entry in node["metadata"].get("managedFields") or []:
        labels = ((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:labels") or {}
        if f"f:{label}" in labels:
            return str(entry.get("manager", ""))
    return ""


def _kubelets(draft: Draft, made: Inventory, members: Sequence[_Member], standing: Standing) -> None:
    """Take what kubelets, kube-proxy and containerd are told beside our own settings."""
    for name, found in (("kubelet-config", standing.kubelet), ("kube-proxy", standing.kube_proxy)):
        if found is not None and not found:
            draft.note(f"the ConfigMap kube-system/{name}", "it is missing, or not to be read: the defaults are taken")
    config = overlay(standing.kubelet, kubelet.cluster_config(made.cluster)) if standing.kubelet else {}
    flags = [
        [(name, value) for name, value in member.machine.kubelet_flags if name not in (*_GIVEN_FLAGS, *_BUNDLED_FLAGS)]
        for member in members
    ]
    shared = common(flags)
    draft.set("kubelet.config", config or None)
    draft.set("kubelet.extraArgs", _arguments(shared) if shared else None)
    for host, own in zip(draft.hosts, flags, strict=True):
        if own and not shared:
            host["kubelet"] = {"extraArgs": _arguments(own)}
    if standing.kube_proxy is None:
        draft.set("kubeProxy.disabled", True)
    elif standing.kube_proxy:
        proxied = overlay(standing.kube_proxy, addons.kube_proxy_config(made.cluster))
        draft.set("kubeProxy.config", proxied or None)
    _edited(draft, made, [member for member in members if member.machine.is_control_plane])
    runtimes = [
        _containerd(draft, member.machine, made, host) for member, host in zip(members, made.hosts, strict=True)
    ]
    draft.set("containerd.config", common(runtimes) or None)
    for host, config in zip(draft.hosts, runtimes, strict=True):
        if config and not common(runtimes):
            host["containerd"] = {"config": config}
    if standing.coredns_replicas is None:
        draft.set("addons.coredns.disabled", True)
    elif standing.coredns_replicas != made.cluster.addons.coredns.replicas:
        draft.set("addons.coredns.replicas", standing.coredns_replicas)
    draft.set("addons.cni", "flannel" if standing.has_our_flannel else "none")


_SETTINGS = {
    "etcd": "etcd.local",
    "kube-apiserver": "apiServer",
    "kube-controller-manager": "controllerManager",
    "kube-scheduler": "scheduler",
}


def _edited(draft: Draft, made: Inventory, planes: Sequence[_Member]) -> None:
    """Take flags that manifests have and kubeadm does not know of: somebody wrote them there by hand."""
    hosts = {host.name: host for host in made.hosts}
    nodes = [Node(hosts[plane.name], plane.address, plane.machine.facts) for plane in planes]
    site = _site(made, nodes)
    more: dict[str, list[list[tuple[str, str]]]] = {}
    for plane, node in zip(planes, nodes, strict=True):
        for pod in static_pods.pods(site, node):
            known = {name for name, _ in pod.flags}
            # Members that join are told so, and the list of them is taken from the manifest itself.
            known |= {"initial-cluster-state"}
            found = [(name, value) for name, value in plane.machine.component(pod.name) if name not in known]
            more.setdefault(pod.name, []).append(found)
    for name, each in more.items():
        place = _SETTINGS[name]
        shared = common(each)
        if shared:
            _add(draft.cluster, place, shared)
        for plane, own in zip(planes, each, strict=True):
            host = next(host for host in draft.hosts if host["name"] == plane.name)
            if own and not shared:
                _add(host, place, own)
        for plane, own in zip(planes, each, strict=True):
            if own:
                told = ", ".join(f"--{flag}" for flag, _ in own)
                what = f"the manifest of {name} has {told}, which kubeadm was not told of: taken as {place}.extraArgs"
                draft.note(plane.machine.name, what)


def _add(settings: Any, place: str, flags: Sequence[tuple[str, str]]) -> None:
    for key in place.split("."):
        settings = settings.setdefault(key, {})
    settings["extraArgs"] = [*settings.get("extraArgs", []), *_arguments(flags)]


def _arguments(flags: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in flags]


def _containerd(draft: Draft, machine: Machine, made: Inventory, host: Host) -> dict[str, Any]:
    source = _text(machine, paths.CONTAINERD_CONFIG)
    try:
        theirs = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        draft.note(machine.name, f"{paths.CONTAINERD_CONFIG} is not read ({error}); ours would take its place")
        return {}
    if theirs and theirs.get("version") != 3:
        what = (
            f"{paths.CONTAINERD_CONFIG} is of version {theirs.get('version', 1)}, whose settings are not taken: the "
            "one of containerd 2 takes its place. Write those that you need under cluster.containerd.config"
        )
        draft.note(machine.name, what)
        return {}
    found = overlay(theirs, runtime.config(_site(made, ()), host), absent=False)
    # Programs and images are those of the bundle.
    plugins = found.get("plugins", {})
    plugins.get("io.containerd.cri.v1.images", {}).pop("pinned_images", None)
    below = plugins.get("io.containerd.cri.v1.runtime", {}).get("containerd", {})
    below.get("runtimes", {}).get("runc", {}).get("options", {}).pop("BinaryName", None)
    return dict(_pruned(found))


def _site(made: Inventory, nodes: Sequence[Node]) -> Site:
    """Give a site without a bundle, whose images have no references."""
    images = tuple(ImageArtifact(name, "", "", "", 0) for name in ("pause", *static_pods.COMPONENTS))
    files: dict[str, Mapping[str, bytes]] = {node.name: node.facts.files for node in nodes}
    return Site(made.cluster, tuple(nodes), Contents(made.cluster.kubernetes_version, "", (), images), files)


def _pruned(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        inner = dict(_pruned(value)) if isinstance(value, dict) else value
        if inner != {}:
            yield key, inner


def _rest(draft: Draft, made: Inventory, members: Sequence[_Member], standing: Standing) -> None:
    """Take what single kubelets are told otherwise, and tell what else there is."""
    hosts = {host.name: host for host in made.hosts}
    own = []
    for member in members:
        node = Node(hosts[member.name], member.address, Facts(resolved=member.machine.facts.resolved))
        ours = kubelet.node_config(kubelet.cluster_config(made.cluster), made.cluster, node)
        theirs = {**(member.machine.document(paths.KUBELET_CONFIG) or ours)}
        theirs.pop("containerRuntimeEndpoint", None)
        own.append(overlay({**theirs, "containerRuntimeEndpoint": ours["containerRuntimeEndpoint"]}, ours))
    for host, member, config in zip(draft.hosts, members, own, strict=True):
        if config:
            host["kubelet"] = {**host.get("kubelet", {}), "config": config}
            what = f"its kubelet is told otherwise than the cluster's: {', '.join(sorted(config))}; it stays so"
            draft.note(member.machine.name, what)
        _tell(draft, member)
    known = {member.name for member in members}
    for other in standing.nodes:
        name = other["metadata"]["name"]
        if name not in known:
            what = (
                f"the cluster has this Node ({_internal(other)}), and no HOST was given for it: put it into the "
                "inventory before the next init, join or prune"
            )
            draft.note(name, what)
    for network in standing.networks if not standing.has_our_flannel else ():
        what = "the Pod network of whoever installed it: addons.cni is none, and it is left alone"
        draft.note(network, what)
    if not standing.networks:
        draft.note("the Pod network", "no DaemonSet of one is known: addons.cni is none, and it is left alone")


def _tell(draft: Draft, member: _Member) -> None:
    machine = member.machine
    others = sorted(
        path.rpartition("/")[2]
        for path in machine.files
        if path.startswith(f"{paths.MANIFESTS}/") and path.rpartition("/")[2].removesuffix(".yaml") not in _MANIFESTS
    )
    if others:
        what = f"static Pods of others are left alone, and no new host gets them: {', '.join(others)}"
        draft.note(machine.name, what)
    bundled = [name for name, _ in machine.kubelet_flags if name in _BUNDLED_FLAGS]
    if bundled:
        draft.note(machine.name, f"the kubelet's --{', --'.join(bundled)} is left out: images are those of the bundle")
    if machine.own_kubelet_flags:
        named = ", ".join(f"--{name}" for name, _ in machine.own_kubelet_flags)
        draft.note(machine.name, f"{seen.OWN_FLAGS} gives its kubelet {named}: it stays, and no new host gets it")
    if not is_ready(member.node):
        draft.note(machine.name, f"its Node {member.name} is not Ready")
