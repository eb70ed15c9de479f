"""What "the same end" means for two clusters that were made from one inventory: which differences do not count.

A state is everything that we, the kubelet's bootstrap and the cluster's set-up leave: files with mode, owner and
content, and objects with their content. Two states are the same when they are equal after what follows here.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tests.lab.clusters import Cluster

State = Mapping[str, str]
"""A line for each file (`host:path`) and object (`kind/namespace/name`): what it is like."""

FOLDERS = (
    "/etc/kubernetes",
    "/etc/containerd",
    "/etc/systemd/system",
    "/etc/cni",
    "/etc/modules-load.d",
    "/etc/sysctl.d",
    "/opt/cni",
    "/usr/local/bin",
    "/var/lib/kubelet/pki",
    "/var/lib/kubestrap",
    "/run/kubestrap",
)
FILES = (
    "/etc/hosts",
    "/etc/fstab",
    "/etc/.hosts.kubestrap",
    "/etc/.fstab.kubestrap",
    "/var/lib/kubelet/.kubestrap.*",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/instance-config.yaml",
    "/var/lib/kubelet/kubeadm-flags.env",
    "/var/lib/etcd",
)
"""What is looked at. The rest of /var/lib/kubelet and the data of containerd and etcd are made by them, not by us."""

DRAWN = (
    (r"/etc/kubernetes/pki/.*", "keys and certificates are drawn anew, with their times and serial numbers"),
    (r"/etc/kubernetes/[a-z-]+\.conf", "kubeconfigs hold certificates and keys"),
    (r"/var/lib/kubelet/pki/.*", "the kubelet's own keys and certificates"),
    (r"/var/lib/kubestrap/placed/.*", "it remembers the time at which a program was placed"),
    (r"/var/lib/kubestrap/units/.*", "it holds sums of files that hold certificates"),
)
"""Files whose content does not count, and why. That they are there, and their mode and owner, does."""

NAMES = ((r"kubelet-client-\d[0-9-]*\.pem", "kubelet-client-TIME.pem", "the kubelet puts the time into the name"),)
"""Parts of names that are replaced. The kubelet may have rotated its certificate once more: that counts as one."""

KINDS = (
    "clusterrolebindings",
    "clusterroles",
    "configmaps",
    "daemonsets",
    "deployments",
    "namespaces",
    "nodes",
    "rolebindings",
    "roles",
    "secrets",
    "serviceaccounts",
    "services",
)
"""Not: Pods, ReplicaSets, EndpointSlices, Leases, Events, ControllerRevisions and signing requests, which the cluster
makes by itself with random names; they follow from these kinds."""

FIELDS = (
    (("metadata", "uid"), "an id"),
    (("metadata", "resourceVersion"), "counts writes"),
    (("metadata", "generation"), "counts writes"),
    (("metadata", "creationTimestamp"), "a time"),
    (("metadata", "managedFields"), "times of writes"),
    (("metadata", "ownerReferences"), "ids"),
    (("metadata", "annotations", "deprecated.daemonset.template.generation"), "counts writes"),
    (("metadata", "annotations", "deployment.kubernetes.io/revision"), "counts writes"),
    (("metadata", "annotations", "flannel.alpha.coreos.com/backend-data"), "flannel's hardware address, at random"),
    (("metadata", "annotations", "flannel.alpha.coreos.com/backend-type"), "set by flannel, some time after"),
    (("metadata", "annotations", "flannel.alpha.coreos.com/kube-subnet-manager"), "set by flannel, some time after"),
    (("metadata", "annotations", "flannel.alpha.coreos.com/public-ip"), "set by flannel, some time after"),
    (("metadata", "annotations", "node.alpha.kubernetes.io/ttl"), "set by a controller, some time after"),
    (("metadata", "annotations", "volumes.kubernetes.io/controller-managed-attach-detach"), "set by the kubelet"),
    (("status",), "what goes on, not what was asked for"),
)
"""Fields of objects that do not count, and why."""

DATA = (
    ("kube-public/cluster-info", "it holds the CA's certificate, and signatures"),
    ("kube-system/extension-apiserver-authentication", "it holds CA certificates"),
    ("kube-root-ca.crt", "it holds the CA's certificate"),
    ("kube-system/kube-apiserver-legacy-service-account-token-tracking", "it holds a date"),
)
"""ConfigMaps whose data does not count."""

LARGE = 1024 * 1024
"""Files from this size on, programs all of them, count by their size: `verify` and the bundle check their digests."""

_LIST = r"""
list=$(mktemp)
find FOLDERS 2>/dev/null >"$list"
for file in FILES; do [ ! -e "$file" ] || echo "$file"; done >>"$list"
sort -u "$list" | while IFS= read -r path; do
	what=folder
	if [ -L "$path" ]; then
		what="link $(readlink "$path")"
	elif [ -f "$path" ]; then
		size=$(stat -c %s "$path")
		if [ "$size" -ge LARGE ]; then what="file of $size"; else what="file $(sed 'ADDRESSES' "$path" | cksum)"; fi
	fi
	printf '%s\t%s %s\n' "$path" "$(stat -c '%a %u:%g' "$path")" "$what"
done
rm -f "$list"
"""


def settled(cluster: Cluster) -> State:
    """Give the state of a whole cluster as soon as nothing in it changes any more."""
    cluster.wait_ready([machine.name for machine in cluster.lab.machines])
    for what in ("kube-system ds/kube-proxy", "kube-flannel ds/kube-flannel-ds", "kube-system deploy/coredns"):
        namespace, name = what.split()
        cluster.kubectl(f"-n {namespace} rollout status {name} --timeout=600s", seconds=660)
    state = state_of(cluster)
    for _ in range(30):
        time.sleep(5)
        before, state = state, state_of(cluster)
        if state == before:
            return state
    raise AssertionError(differences(before, state))


def state_of(cluster: Cluster) -> State:
    """Give the state of a cluster and its machines, with all that differs between any two clusters taken out."""
    state: dict[str, str] = {}
    addresses = {str(machine.address): machine.name for machine in cluster.lab.machines}
    cas = set()
    for machine in cluster.lab.machines:
        state |= {f"{machine.name}:{path}": text for path, text in files_of(cluster, machine.name, addresses)}
        cas.add(cluster.on(machine.name, "cat /etc/kubernetes/pki/ca.crt"))
    state["CA certificates"] = f"{len(cas)} in all"
    for item in cluster.get(f"{','.join(KINDS)} --all-namespaces")["items"]:
        metadata = item["metadata"]
        name = "/".join(filter(None, (item["kind"], metadata.get("namespace"), metadata["name"])))
        text = json.dumps(_kept(item), sort_keys=True)
        for address, machine_name in addresses.items():
            text = text.replace(address, f"<{machine_name}>")
        state[name] = text
    return state


def files_of(cluster: Cluster, machine: str, addresses: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Give the files of a machine, and what counts of each."""
    script = _LIST.replace("FOLDERS", " ".join(FOLDERS)).replace("FILES", " ".join(FILES)).replace("LARGE", str(LARGE))
    replaced = ";".join(f"s/{re.escape(address)}/<{name}>/g" for address, name in addresses.items())
    for line in cluster.on(machine, "sh -s", stdin=script.replace("ADDRESSES", replaced)).splitlines():
        path, _, text = line.partition("\t")
        if any(re.fullmatch(pattern, path) for pattern, _ in DRAWN):
            text = re.sub(r"file .*$", "file", text)
        for pattern, name, _ in NAMES:
            path, text = re.sub(pattern, name, path), re.sub(pattern, name, text)
        yield path, text


def differences(one: State, other: State) -> list[str]:
    """List what differs between two states."""
    return [
        f"{name}: {one.get(name, 'absent')} != {other.get(name, 'absent')}"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]


def _kept(item: dict[str, Any]) -> dict[str, Any]:
    for path, _ in FIELDS:
        parent = item
        for part in path[:-1]:
            parent = parent.get(part, {})
        parent.pop(path[-1], None)
    metadata = item["metadata"]
    if not metadata.get("annotations"):
        metadata.pop("annotations", None)
    if item["kind"] == "ConfigMap" and any(
        f"{metadata.get('namespace')}/{metadata['name']}".endswith(name) for name, _ in DATA
    ):
        item["data"] = sorted(item["data"])
    return item
