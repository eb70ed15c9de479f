"""Labels and taints of Nodes that a kubelet may not set itself (kubeadm: phases/markcontrolplane)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bootstrap.plan import Phase
from bootstrap.steps import ApiWait, Json, NodeMarks, Step

if TYPE_CHECKING:
    from bootstrap.site import Node, Site

ROLE = "node-role.kubernetes.io"
CONTROL_PLANE_LABELS = (
    (f"{ROLE}/control-plane", ""),
    ("node.kubernetes.io/exclude-from-external-load-balancers", ""),
)


def control_plane_steps(site: Site, node: Node) -> Iterator[Step]:
    """Label the control plane's Node, and taint it where it is to run nothing else."""
    from bootstrap.spec import seconds

    yield ApiWait(
        f"Node {node.name} to be registered by its kubelet",
        api_version="v1",
        kind="Node",
        name=node.name,
        namespace="",
        until=_exists,
        seconds=seconds(site.cluster.timeouts.tls_bootstrap),
    )
    labels = dict(CONTROL_PLANE_LABELS)
    absent: tuple[tuple[str, str], ...] = ()
    if "worker" in node.host.roles:
        labels[f"{ROLE}/worker"] = ""
        if node.host.taints is None:
            absent = ((f"{ROLE}/control-plane", "NoSchedule"),)
    yield NodeMarks(
        node.name,
        labels=tuple(sorted({**_own_labels(node), **labels}.items())),
        taints=tuple((taint.key, taint.value, taint.effect) for taint in node.host.registration_taints),
        absent_taints=absent,
    )


def worker_steps(site: Site, node: Node) -> Iterator[Step]:
    """Label the worker's Node with its role, where the operator has the right to."""
    if site.admin:
        labels = {**_own_labels(node), f"{ROLE}/worker": ""}
        yield NodeMarks(node.name, labels=tuple(sorted(labels.items())))


def _own_labels(node: Node) -> dict[str, str]:
    from bootstrap.values import kubelet_may_set

    return {key: value for key, value in node.host.labels.items() if not kubelet_may_set(key)}


def _exists(node: Json | None) -> bool | str:
    return True if node is not None else "there is no such Node yet"


MARK_CONTROL_PLANE = Phase("mark-control-plane", "control-plane", control_plane_steps)
MARK_WORKER = Phase("mark-worker", "worker", worker_steps)
