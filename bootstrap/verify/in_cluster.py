"""The checks of the cluster, made once, by the API of a control plane that serves, with an administrator's rights.

A function's docstring is the check's text, its name the check's id.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from bootstrap import paths
from bootstrap.joining import RUN_DESCRIPTION
from bootstrap.phases import kubelet, marks
from bootstrap.verify.asking import components, decoded, get, now, read, refuses, unlike
from bootstrap.verify.subject import Machine, Subject

START = datetime.timedelta(minutes=3)
"""How long after its start a Pod's containers may end and begin again: they wait for each other in this way."""
RECENTLY = datetime.timedelta(minutes=15)
YOUTH = datetime.timedelta(minutes=2)
"""How long after a Node has joined, or a Pod of the system has changed, something may still be starting."""
NAMESPACES = ("kube-system", "kube-flannel")
BINDINGS = (
    "kubeadm:apiserver-kubelet-client",
    "kubeadm:cluster-admins",
    "kubeadm:get-nodes",
    "kubeadm:kubelet-bootstrap",
    "kubeadm:node-autoapprove-bootstrap",
    "kubeadm:node-autoapprove-certificate-rotation",
)


# --- Nodes


def nodes(machine: Machine, subject: Subject) -> Iterator[str]:
    """Every host of the inventory is a Node, and Ready."""
    held = _nodes(machine)
    for host in subject.inventory.nodes:
        if host.name not in held:
            yield f"{host.name} is no Node"
            continue
        ready = _conditions(held[host.name]).get("Ready", {})
        if ready.get("status") != "True":
            yield f"{host.name} is not Ready: {ready.get('message', 'no word of its kubelet')}"


def node_conditions(machine: Machine, _: Subject) -> Iterator[str]:
    """No Node is short of memory, disk or processes, or without its network."""
    for name, node in _nodes(machine).items():
        for kind, condition in _conditions(node).items():
            if kind != "Ready" and condition["status"] != "False":
                yield f"{name}: {kind} is {condition['status']}: {condition.get('message', '')}"


def node_versions(machine: Machine, subject: Subject) -> Iterator[str]:
    """Every Node's kubelet runs the cluster's version, and all have one version of the container runtime."""
    held = _nodes(machine)
    for name, node in held.items():
        version = node["status"]["nodeInfo"]["kubeletVersion"]
        if version != f"v{subject.cluster.kubernetes_version}":
            yield f"{name} runs {version}"
    runtimes = {node["status"]["nodeInfo"]["containerRuntimeVersion"] for node in held.values()}
    if len(runtimes) > 1:
        yield f"container runtimes differ: {', '.join(sorted(runtimes))}"


def node_labels(machine: Machine, subject: Subject) -> Iterator[str]:
    """Every Node has the labels that the inventory gives it, and those of its roles."""
    held = _nodes(machine)
    for host in subject.inventory.nodes:
        wanted = dict(host.labels)
        if host.is_control_plane:
            wanted |= dict(marks.CONTROL_PLANE_LABELS)
        for key, value in wanted.items():
            if host.name in held and held[host.name]["metadata"]["labels"].get(key) != value:
                yield f"{host.name} lacks the label {key}={value}"


def node_taints(machine: Machine, subject: Subject) -> Iterator[str]:
    """Every Node has the inventory's taints, no others but those of its conditions, and may be scheduled to."""
    held = _nodes(machine)
    for host in subject.inventory.nodes:
        spec = held.get(host.name, {}).get("spec", {})
        if spec.get("unschedulable"):
            yield f"{host.name} is cordoned"
        found = {(taint["key"], taint["effect"]) for taint in spec.get("taints", [])}
        wanted = {(taint.key, taint.effect) for taint in host.registration_taints}
        for key, effect in sorted(wanted - found) if host.name in held else ():
            yield f"{host.name} lacks the taint {key}:{effect}"
        for key, effect in sorted(found - wanted):
            if key not in _TAINTS_OF_CONDITIONS:
                yield f"{host.name} has the taint {key}:{effect}, which is not in the inventory"


_TAINTS_OF_CONDITIONS = {
    f"node.kubernetes.io/{condition}"
    for condition in (
        "disk-pressure",
        "memory-pressure",
        "network-unavailable",
        "not-ready",
        "pid-pressure",
        "unreachable",
        "unschedulable",
    )
}
"""The controller manager gives and takes these by what a Node tells, a moment later: that has checks of its own."""


def node_addresses(machine: Machine, subject: Subject) -> Iterator[str]:
    """No two Nodes have the same address, and each has the one that the inventory gives it."""
    held = {name: _address(node) for name, node in _nodes(machine).items()}
    for host in subject.inventory.nodes:
        if host.node_address and host.name in held and held[host.name] != str(host.node_address):
            yield f"{host.name} has {held[host.name]}, not {host.node_address}"
    seen: dict[str, str] = {}
    for name, address in held.items():
        if address in seen:
            yield f"{name} and {seen[address]} both have {address}"
        seen[address] = name


def node_subnets(machine: Machine, subject: Subject) -> Iterator[str]:
    """Every Node has a part of the Pod network, and none overlaps with another's."""
    seen: dict[str, Any] = {}
    whole = subject.cluster.networking.pod_subnet
    for name, node in _nodes(machine).items():
        if "podCIDR" not in node["spec"]:
            yield f"{name} has none"
            continue
        own = ipaddress.ip_network(node["spec"]["podCIDR"])
        if own.network_address not in whole or own.broadcast_address not in whole:
            yield f"{name} has {own}, which is outside of {whole}"
        for other, theirs in seen.items():
            if own.overlaps(theirs):
                yield f"{name} has {own}, and {other} has {theirs}"
        seen[name] = own


def kubelet_configuration(machine: Machine, subject: Subject) -> Iterator[str]:
    """Every kubelet works with the settings that the inventory gives it, as it says itself."""
    held = _nodes(machine)
    for host in subject.inventory.nodes:
        if host.name in held:
            wanted = kubelet.host_config(subject.cluster, host)
            wanted = {key: value for key, value in wanted.items() if key not in {"apiVersion", "kind"}}
            try:
                found = get(machine, f"/api/v1/nodes/{host.name}/proxy/configz")["kubeletconfig"]
            except ValueError as error:
                yield f"{host.name}: {error}"
                continue
            for problem in unlike(wanted, found):
                yield f"{host.name}: {problem}"


# --- Pods and add-ons


def is_young(machine: Machine) -> bool:
    """Say whether a Node has joined, or a Pod of the system has changed, so lately that something may be starting."""
    times = [node["metadata"]["creationTimestamp"] for node in _nodes(machine).values()]
    for pod in _pods(machine):
        times.append(pod["metadata"]["creationTimestamp"])
        times += [each["lastTransitionTime"] for each in pod["status"].get("conditions", [])]
    return any(now() - time < YOUTH for time in map(_time, times) if time)


def system_pods(machine: Machine, _: Subject) -> Iterator[str]:
    """Every Pod of the system's namespaces is ready."""
    for pod in _pods(machine):
        status = pod["status"]
        ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", []))
        if not ready and status.get("phase") != "Succeeded":
            reasons = [
                state["waiting"].get("reason", "waiting")
                for state in (each.get("state", {}) for each in status.get("containerStatuses", []))
                if "waiting" in state
            ]
            yield f"{_name(pod)}: {', '.join(reasons) or status.get('phase', 'unknown')}"


def restarts(machine: Machine, _: Subject) -> Iterator[str]:
    """No container of the system's Pods was started again in the last quarter of an hour."""
    for pod in _pods(machine):
        started = _time(pod["status"].get("startTime"))
        for container in pod["status"].get("containerStatuses", []):
            last = container.get("lastState", {}).get("terminated") or {}
            ended = _time(last.get("finishedAt"))
            if started and ended and ended > started + START and now() - ended < RECENTLY:
                why = f"{last.get('reason', 'it ended')}, exit code {last.get('exitCode')}"
                yield f"{_name(pod)}: {container['name']} at {ended:%H:%M:%S} UTC: {why}"


def component_images(machine: Machine, subject: Subject) -> Iterator[str]:
    """The components' containers run the bundle's images."""
    names = {*components(subject), "kube-proxy", "coredns"}
    wanted = {name: subject.contents.image(name).reference for name in names}
    wanted["kube-flannel"] = subject.contents.image("flannel").reference
    for pod in _pods(machine):
        for container in pod["spec"]["containers"]:
            if container["image"] != wanted.get(container["name"], container["image"]):
                yield f"{_name(pod)} runs {container['image']}, not {wanted[container['name']]}"


def leaders(machine: Machine, _: Subject) -> Iterator[str]:
    """A controller-manager and a scheduler lead, and renew their leases."""
    for name in ("kube-controller-manager", "kube-scheduler"):
        lease = get(machine, f"/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{name}")["spec"]
        renewed = _time(lease.get("renewTime"))
        patience = datetime.timedelta(seconds=2 * lease.get("leaseDurationSeconds", 15))
        if not lease.get("holderIdentity") or renewed is None:
            yield f"no {name} leads"
        elif now() - renewed > patience:
            yield f"{name}: {lease['holderIdentity']} renewed its lease at {renewed:%H:%M:%S} UTC last"


def coredns(machine: Machine, subject: Subject) -> Iterator[str]:
    """CoreDNS is rolled out, and its Service has the address that Pods are told."""
    addon = subject.cluster.addons.coredns
    if addon.disabled:
        return
    status = get(machine, "deployments/coredns", "kube-system").get("status", {})
    for count in ("availableReplicas", "updatedReplicas"):
        if status.get(count, 0) < addon.replicas:
            yield f"{status.get(count, 0)} {count} of {addon.replicas}"
    address = get(machine, "services/kube-dns", "kube-system")["spec"]["clusterIP"]
    if address != subject.cluster.networking.service_address(10):
        yield f"kube-dns has the address {address}"


def kube_proxy(machine: Machine, subject: Subject) -> Iterator[str]:
    """kube-proxy is rolled out on every Node."""
    if not subject.cluster.kube_proxy.disabled:
        yield from _on_every_node(machine, "kube-system", "kube-proxy")


def flannel(machine: Machine, subject: Subject) -> Iterator[str]:
    """flannel is rolled out on every Node."""
    if subject.cluster.addons.cni == "flannel":
        yield from _on_every_node(machine, "kube-flannel", "kube-flannel-ds")


def api_endpoints(machine: Machine, subject: Subject) -> Iterator[str]:
    """The API server's Service leads to the control planes that there are."""
    held = _nodes(machine)
    masters = [host.name for host in subject.inventory.control_plane if host.name in held]
    wanted = {_address(held[name]) for name in masters}
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name"
    slices = get(machine, f"{path}%3Dkubernetes")["items"]
    found = {address for each in slices for endpoint in each["endpoints"] or () for address in endpoint["addresses"]}
    for address in sorted(wanted - found):
        yield f"it does not lead to {address}"
    for address in sorted(found - wanted):
        yield f"it leads to {address}, which is no control plane of the inventory"


# --- what the cluster is told of itself


def bootstrap_tokens(machine: Machine, _: Subject) -> Iterator[str]:
    """No token that was made for a run is left over."""
    secrets = get(machine, "secrets?fieldSelector=type=bootstrap.kubernetes.io/token", "kube-system")["items"]
    for secret in secrets:
        if decoded(secret.get("data", {}).get("description", "")) == RUN_DESCRIPTION:
            yield f"Secret {secret['metadata']['name']}: delete it with `kubestrap token delete`"


def cluster_info(machine: Machine, subject: Subject) -> Iterator[str]:
    """What joining machines are told names the endpoint and the CA of this cluster."""
    data = get(machine, "configmaps/cluster-info", "kube-public")["data"]
    cluster = yaml.safe_load(data["kubeconfig"])["clusters"][0]["cluster"]
    if cluster["server"] != f"https://{subject.cluster.control_plane_endpoint}":
        yield f"it names {cluster['server']}"
    if decoded(cluster["certificate-authority-data"]).strip() != read(machine, f"{paths.PKI}/ca.crt").strip():
        yield "its CA is not the cluster's"


def kubeadm_config(machine: Machine, subject: Subject) -> Iterator[str]:
    """The configuration for kubeadm is in the cluster, and says what the inventory says."""
    cluster = subject.cluster
    data = get(machine, "configmaps/kubeadm-config", "kube-system")["data"]
    wanted = {
        "clusterName": cluster.name,
        "controlPlaneEndpoint": cluster.control_plane_endpoint,
        "kubernetesVersion": f"v{cluster.kubernetes_version}",
        "networking": {
            "dnsDomain": cluster.networking.dns_domain,
            "podSubnet": str(cluster.networking.pod_subnet),
            "serviceSubnet": str(cluster.networking.service_subnet),
        },
    }
    yield from unlike(wanted, yaml.safe_load(data["ClusterConfiguration"]))


def kubelet_config(machine: Machine, subject: Subject) -> Iterator[str]:
    """The configuration for joining kubelets is in the cluster, and says what the inventory says."""
    data = get(machine, "configmaps/kubelet-config", "kube-system")["data"]
    yield from unlike(kubelet.cluster_config(subject.cluster), yaml.safe_load(data["kubelet"]))


def virtual_address(_: Machine, subject: Subject) -> Iterator[str]:
    """One control-plane host, and no more than one, holds the endpoint's virtual address."""
    address = subject.cluster.virtual_address
    if not address:
        return
    # In the kernel's own words, as ip(8) may not be there.
    look = f"grep -A 1 -e '-- {address.replace('.', '[.]')}$' /proc/net/fib_trie | grep -q '/32 host LOCAL'"
    holders = [name for name, see in subject.planes.items() if see().run(look).rc == 0]
    if not holders:
        yield f"no control-plane host holds {address}"
    elif len(holders) > 1:
        yield f"{' and '.join(holders)} hold {address} at once: VRRP (IP protocol 112) does not get from one to another"


def rights(machine: Machine, _: Subject) -> Iterator[str]:
    """Administrators, joining machines and kubelets that renew certificates have the rights that kubeadm gives."""
    bindings = get(machine, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings")["items"]
    held = {binding["metadata"]["name"] for binding in bindings}
    for name in BINDINGS:
        if name not in held:
            yield f"there is no ClusterRoleBinding {name}"


def anonymous_rights(machine: Machine, subject: Subject) -> Iterator[str]:
    """The API server shows Secrets and Nodes to nobody without credentials."""
    server = f"https://{subject.cluster.control_plane_endpoint}"
    for path in ("/api/v1/secrets", "/api/v1/nodes"):
        yield from refuses(machine, server, path)


# --- what these are made of


def _nodes(machine: Machine) -> Mapping[str, Any]:
    return {node["metadata"]["name"]: node for node in get(machine, "nodes")["items"]}


def _pods(machine: Machine) -> Iterator[Any]:
    for namespace in NAMESPACES:
        yield from get(machine, "pods", namespace)["items"]


def _conditions(node: Any) -> Mapping[str, Any]:
    return {condition["type"]: condition for condition in node["status"]["conditions"]}


def _address(node: Any) -> str:
    return next((each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP"), "none")


def _name(pod: Any) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _time(text: str | None) -> datetime.datetime | None:
    return datetime.datetime.fromisoformat(text) if text else None


def _on_every_node(machine: Machine, namespace: str, name: str) -> Iterator[str]:
    status = get(machine, f"daemonsets/{name}", namespace).get("status", {})
    count = len(_nodes(machine))
    for kind in ("desiredNumberScheduled", "updatedNumberScheduled", "numberReady"):
        if status.get(kind, 0) != count:
            yield f"{kind} is {status.get(kind, 0)} of {count} Nodes"
