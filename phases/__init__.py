"""The phases, and the workflows made of them: the table of contents of what is done to machines.

Names and order are kubeadm's where it has the phase. Everything that the control plane is made of is in place before
the kubelet starts: one that finds its manifests at once need not wait for its next look at the folder. Several
control-plane hosts start theirs together, as etcd serves when most of its members are there, and the others, which it
keeps waiting, are started again later and later.
"""

from __future__ import annotations

from bootstrap.phases import (
    addons,
    bootstrap_token,
    certs,
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


_SERVING = (
    static_pods.ETCD_LOCAL,
    *static_pods.CONTROL_PLANE,
    vip.VIP,
    Phase("kubelet-start", "control-plane, etcd", kubelet.start_steps, barrier=True, in_turn=True),
)

INIT: tuple[Phase, ...] = (
    *_prepare("control-plane, etcd"),
    *certs.CERTS,
    *kubeconfig.KUBECONFIG,
    *(kept(phase, wait_control_plane.fallback) for phase in _SERVING),
    wait_control_plane.WAIT_CONTROL_PLANE,
    *upload_config.UPLOAD_CONFIG,
    marks.MARK_CONTROL_PLANE,
    bootstrap_token.BOOTSTRAP_TOKEN,
    Phase("kubelet-finalize/enable-client-cert-rotation", "control-plane", kubelet.finalize_steps),
    *addons.ADDONS,
)

JOIN: tuple[Phase, ...] = (
    *_prepare("worker"),
    local_proxy.LOCAL_PROXY,
    kept(Phase("kubelet-start", "worker", kubelet.join_steps), kubelet.fallback),
    Phase("kubelet-wait-bootstrap", "worker", kubelet.wait_bootstrap_steps),
    marks.MARK_WORKER,
)
