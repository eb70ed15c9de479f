"""Labels and taints of Nodes (kubeadm: phases/markcontrolplane)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    roles: dict[str, str] = {}
    absent: tuple[tuple[str, str], ...] = ()
    if "worker" in node.host.roles:
        roles[f"{ROLE}/worker"] = ""
        if node.host.taints is None:
            absent = ((f"{ROLE}/control-plane", "NoSchedule"),)
    yield _marks(node, {**node.host.labels, **roles}, dict(CONTROL_PLANE_LABELS), absent)


def worker_steps(site: Site, node: Node) -> Iterator[Step]:
    """Label and taint the worker's Node, where the operator has the right to."""
    if site.admin:
        yield _marks(node, node.host.labels, {f"{ROLE}/worker": ""})


def _marks(
    node: Node, labels: Mapping[str, str], always: Mapping[str, str], absent: tuple[tuple[str, str], ...] = ()
) -> NodeMarks:
    """Give the marks of `node`: its own, which are remembered as they may go again, and those it has `always`.

    All of them, though a kubelet gives its Node most of them: it does so only when it registers.
    """
    taints = tuple((taint.key, taint.value, taint.effect) for taint in node.host.registration_taints)
    return NodeMarks(
        node.name,
        labels=tuple(sorted({**labels, **always}.items())),
        taints=taints,
        absent_taints=absent,
        remembered=tuple(sorted([*labels, *(f"{key}:{effect}" for key, _, effect in taints)])),
    )


def _exists(node: Json | None) -> bool | str:
    return True if node is not None else "there is no such Node yet"


MARK_CONTROL_PLANE = Phase("mark-control-plane", "control-plane", control_plane_steps)
MARK_WORKER = Phase("mark-worker", "worker", worker_steps)
