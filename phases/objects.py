"""Objects of the API that several phases make, as plain mappings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from bootstrap.steps import ApiObject

SYSTEM = "kube-system"
PUBLIC = "kube-public"
BOOTSTRAPPERS = "system:bootstrappers:kubeadm:default-node-token"
NODES = "system:nodes"

_RBAC = "rbac.authorization.k8s.io"


def config_map(
    name: str,
    data: Mapping[str, str],
    *,
    namespace: str = SYSTEM,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> ApiObject:
    """Make a ConfigMap."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if labels:
        metadata["labels"] = dict(labels)
    if annotations:
        metadata["annotations"] = dict(annotations)
    return ApiObject({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)})


def unchanged(data: Mapping[str, str]) -> dict[str, str]:
    """Give the annotation by which kubeadm knows a configuration that no user gave and nobody changed.

    It may make such a one anew when it upgrades (componentconfigs/checksums.go).
    """
    text = "".join(data[key] for key in sorted(data))
    return {"kubeadm.kubernetes.io/component-config.hash": f"sha256:{sha256(text.encode()).hexdigest()}"}


def service_account(name: str, *, namespace: str = SYSTEM) -> ApiObject:
    """Make a ServiceAccount."""
    metadata = {"name": name, "namespace": namespace}
    return ApiObject({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})


def rule(
    verbs: Sequence[str], resources: Sequence[str], *, group: str = "", names: Sequence[str] = ()
) -> dict[str, Any]:
    """Make one rule of a Role: `verbs` on `resources` of an API group, on those of `names` where any is given."""
    made: dict[str, Any] = {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}
    if names:
        made["resourceNames"] = list(names)
    return made


def role(name: str, rules: Sequence[Mapping[str, Any]], *, namespace: str = "") -> ApiObject:
    """Make a Role in `namespace`, or a ClusterRole."""
    kind = "Role" if namespace else "ClusterRole"
    return ApiObject(
        {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": _metadata(name, namespace), "rules": list(rules)}
    )


def binding(name: str, to: str, subjects: Sequence[Mapping[str, str]], *, namespace: str = "") -> ApiObject:
    """Bind a Role in `namespace` (a RoleBinding there), or a ClusterRole (a ClusterRoleBinding), to `subjects`."""
    kind = "Role" if namespace else "ClusterRole"
    return ApiObject(
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": f"{kind}Binding",
            "metadata": _metadata(name, namespace),
            "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": to},
            "subjects": list(subjects),
        }
    )


def group(name: str) -> dict[str, str]:
    """Name a group as a subject."""
    return {"apiGroup": _RBAC, "kind": "Group", "name": name}


def user(name: str) -> dict[str, str]:
    """Name a user as a subject."""
    return {"apiGroup": _RBAC, "kind": "User", "name": name}


def account(name: str, *, namespace: str = SYSTEM) -> dict[str, str]:
    """Name a ServiceAccount as a subject."""
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def _metadata(name: str, namespace: str) -> dict[str, str]:
    return {"name": name, "namespace": namespace} if namespace else {"name": name}
