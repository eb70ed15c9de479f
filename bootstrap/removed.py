"""The machines that were taken out of the cluster without being cleaned: the API server refuses them by name.

Such a machine has a client certificate that the cluster goes on to accept, as Kubernetes takes none back, and its
kubelet makes its Node anew when it starts. A ValidatingAdmissionPolicy refuses that, as long as the ConfigMap lists
the Node's name with that machine's id: another machine may bear the name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from bootstrap.api import Api
from bootstrap.errors import BootstrapError, HostError
from bootstrap.site import Node

NAME = "kubestrap-removed"
NAMESPACE = "kube-system"
_ADMISSION = "admissionregistration.k8s.io/v1"
_LISTED = "has(params.data) && object.metadata.name in params.data"
_ANOTHER = (
    "params.data[object.metadata.name] != '' && has(object.status) && has(object.status.nodeInfo) && "
    "params.data[object.metadata.name] != object.status.nodeInfo.machineID"
)
_MESSAGE = (
    "'the machine ' + object.metadata.name + ' was removed from this cluster (ConfigMap "
    f"{NAMESPACE}/{NAME}): `kubestrap remove ' + object.metadata.name + '` cleans it, and `kubestrap join` then takes "
    "it in again'"
)


def refuse(api: Api, machines: Mapping[str, str]) -> set[str]:
    """Have the machines (ids by Node's name; empty where it is not known) refused; give those that were not yet."""
    found = listed(api)
    new = machines.keys() - found.keys()
    if new:
        api.apply(_config_map({**machines, **found}))
    for manifest in _policy():
        api.apply(manifest)
    return new


def admit(api: Api, names: Collection[str]) -> bool:
    """Have machines of these names admitted again; False where none was refused. The policy goes with the last."""
    found = listed(api)
    kept = {name: machine for name, machine in found.items() if name not in names}
    if len(kept) == len(found):
        return False
    if kept:
        api.apply(_config_map(kept))
        return True
    for manifest in reversed(_policy()):
        api.delete(manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"])
    api.delete("v1", "ConfigMap", NAME, NAMESPACE)
    return True


def unclean(api: Api, nodes: Collection[Node]) -> dict[str, BootstrapError]:
    """Give an error for each machine of a `join` that is refused and still holds what it had in the cluster."""
    found = listed(api)
    return {
        node.name: HostError(
            node.name,
            "it was removed from this cluster, and still holds what it had of it: clean it by `kubestrap remove "
            f"{node.name}` first, or take it out of the inventory",
        )
        for node in nodes
        if node.name in found
        and (node.facts.bootstrapped or node.facts.etcd_data)
        and found[node.name] in ("", node.facts.machine)
    }


def listed(api: Api) -> dict[str, str]:
    """Give the machines that are refused: their ids by Node's name."""
    found = api.get_object("v1", "ConfigMap", NAME, NAMESPACE) or {}
    return dict(found.get("data") or {})


def _config_map(machines: Mapping[str, str]) -> dict[str, Any]:
    metadata = {"name": NAME, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(sorted(machines.items()))}


def _policy() -> tuple[dict[str, Any], ...]:
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["nodes"],
    }
    policy = {
        "apiVersion": _ADMISSION,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": NAME},
        "spec": {
            # A mistake in it must not keep every Node out of the cluster.
            "failurePolicy": "Ignore",
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [
                {
                    "expression": f"!({_LISTED}) || ({_ANOTHER})",
                    "messageExpression": _MESSAGE,
                    # What is forbidden the kubelet tries otherwise, and does not tell why (kubelet_node_status.go).
                    "reason": "Invalid",
                }
            ],
        },
    }
    binding = {
        "apiVersion": _ADMISSION,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": NAME},
        "spec": {
            "policyName": NAME,
            "validationActions": ["Deny"],
            "paramRef": {"name": NAME, "namespace": NAMESPACE, "parameterNotFoundAction": "Allow"},
        },
    }
    return policy, binding
