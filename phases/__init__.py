"""The phases, and the workflows made of them: the table of contents of what is done to machines.

Names and order are kubeadm's where it has the phase. Everything that the control plane is made of is in place before
the kubelet starts: one that finds its manifests at once need not wait for its next look at the folder. Several
control-plane hosts start theirs together, as etcd serves when most of its members are there, and the others, which it
keeps waiting, are started again later and later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bootstrap.phases import (
    addons,
    bootstrap_token,
    certs,
    etcd_join,
    kubeconfig,
    kubelet,
    local_proxy,
    marks,
    prepare,
    runtime,
    static_pods,
    upload_config,
    vip,
    wait_control_plane,
)
from bootstrap.phases.going_back import kept
from bootstrap.plan import On, Phase

if TYPE_CHECKING:
    from bootstrap.site import Node, Site
    from bootstrap.steps import Fallback


def _prepare(on: On) -> tuple[Phase, ...]:
    return (
        Phase("prepare/modules", on, prepare.modules_steps),
        Phase("prepare/sysctls", on, prepare.sysctls_steps),
        Phase("prepare/swap", on, prepare.swap_steps),
        Phase("prepare/hosts", on, prepare.hosts_steps),
        Phase("prepare/runtime", on, runtime.runtime_steps),
        Phase("prepare/kubelet", on, kubelet.install_steps),
        Phase("prepare/images", on, runtime.images_steps),
    )


_FINALIZE = Phase("kubelet-finalize/enable-client-cert-rotation", "control-plane", kubelet.finalize_steps)

_SERVING = (
    static_pods.ETCD_LOCAL,
    *static_pods.CONTROL_PLANE,
    vip.VIP,
    Phase("kubelet-start", "control-plane, etcd", kubelet.start_steps, barrier=True, in_turn=True),
)


def _former(site: Site, node: Node) -> Fallback:
    return (wait_control_plane.fallback if node.host.is_control_plane else kubelet.fallback)(site, node)


INIT: tuple[Phase, ...] = (
    *_prepare("control-plane, etcd"),
    *certs.CERTS,
    *kubeconfig.KUBECONFIG,
    *(kept(phase, wait_control_plane.fallback) for phase in _SERVING),
    wait_control_plane.WAIT_CONTROL_PLANE,
    *upload_config.UPLOAD_CONFIG,
    marks.MARK_CONTROL_PLANE,
    bootstrap_token.BOOTSTRAP_TOKEN,
    _FINALIZE,
    *addons.ADDONS,
)

JOIN: tuple[Phase, ...] = (
    *_prepare("all"),
    *certs.CERTS,
    *kubeconfig.KUBECONFIG,
    local_proxy.LOCAL_PROXY,
    kept(Phase("kubelet-start", "all", kubelet.join_steps), _former),
    etcd_join.ETCD_JOIN,
    *static_pods.CONTROL_PLANE,
    vip.VIP,
    local_proxy.WAIT_LOCAL_PROXY,
    Phase("kubelet-wait-bootstrap", "worker", kubelet.wait_bootstrap_steps),
    Phase("wait-apiserver", "control-plane", wait_control_plane.serving_steps),
    marks.MARK_CONTROL_PLANE,
    marks.MARK_WORKER,
    Phase("wait-control-plane", "control-plane", wait_control_plane.steps),
    _FINALIZE,
)
"""Of control-plane hosts and workers. A control plane has its manifests from the moment that its etcd member votes: an
API server that starts earlier ends soon, and is started again later and later. Its Node is marked before it is Ready,
so that no Pod which does not tolerate it is put there."""

GROWN: tuple[Phase, ...] = (
    *(kept(phase, wait_control_plane.fallback) for phase in (static_pods.ETCD_LOCAL, vip.VIP)),
    wait_control_plane.WAIT_CONTROL_PLANE,
)
"""What `join` does on control-plane hosts that must know of new ones: etcd's list where it named one member alone, and
the virtual address's peers."""

REDIRECTED: tuple[Phase, ...] = tuple(
    phase for phase in JOIN if phase.name in ("prepare/hosts", "prepare/images", "local-proxy", "wait-local-proxy")
)
"""What `join` does on workers when the control plane has other hosts than before."""
