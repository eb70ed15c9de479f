"""Labels and taints of Nodes (kubeadm: phases/markcontrolplane)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from bootstrap.plan import Phase
from bootstrap.steps import ApiWait, Json, NodeMarks, Step

if TYPE_CHECKING:
    from bootstrap.site import Node, Site

ROLE = "node-role.kubernetes.io"
WORKER_LABEL = f"{ROLE}/worker"
CONTROL_PLANE_LABELS = (
    (f"{ROLE}/control-plane", ""),
    ("node.kubernetes.io/exclude-from-external-load-balancers", ""),
)
USUAL_TAINT = (f"{ROLE}/control-plane", "NoSchedule")


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
    roles = {WORKER_LABEL: ""} if "worker" in node.host.roles else {}
    yield _marks(node, {**node.host.labels, **roles}, dict(CONTROL_PLANE_LABELS))


def worker_steps(site: Site, node: Node) -> Iterator[Step]:
    """Label and taint the worker's Node, where the operator has the right to."""
    if site.admin:
        yield _marks(node, node.host.labels, {WORKER_LABEL: ""})


def _marks(node: Node, labels: Mapping[str, str], always: Mapping[str, str]) -> NodeMarks:
    """Give the marks of `node`: its own, which are remembered as they may go again, and those it has `always`.

    All of them, though a kubelet gives its Node most of them: it does so only when it registers.
    """
    wanted = {(taint.key, taint.effect): taint.value for taint in node.host.registration_taints}
    lifted = node.host.is_control_plane and USUAL_TAINT not in wanted
    return NodeMarks(
        node.name,
        labels=tuple(sorted({**labels, **always}.items())),
        taints=tuple((key, value, effect) for (key, effect), value in wanted.items()),
        absent_taints=(USUAL_TAINT,) if lifted else (),
        remembered=tuple(sorted([*labels, *(":".join(place) for place in wanted if place != USUAL_TAINT)])),
    )


def _exists(node: Json | None) -> bool | str:
    return True if node is not None else "there is no such Node yet"


MARK_CONTROL_PLANE = Phase("mark-control-plane", "control-plane", control_plane_steps)
MARK_WORKER = Phase("mark-worker", "worker", worker_steps)
