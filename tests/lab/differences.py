"""Every place where we write something else than kubeadm, and why. `test_parity` fails for any other, and for one less.

A place is `THING`, where only one side has such a thing, or `THING: FIELD`. Settings are what is compared: the
inventories `plain`, `rich` and `patched` without any machine, and what stands on the `machine` and in the `cluster`
after `init`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bootstrap import paths


@dataclass(frozen=True)
class Difference:
    """One place, in some of the settings."""

    place: str
    reason: str
    settings: frozenset[str]


def _each(places: Iterable[str], reason: str, *settings: str) -> tuple[Difference, ...]:
    return tuple(Difference(place, reason, frozenset(settings)) for place in places)


def _fields(thing: str, *fields: str) -> tuple[str, ...]:
    return tuple(f"{thing}{field}" for field in fields)


FILES = ("plain", "rich", "patched", "machine")
OBJECTS = ("plain", "rich", "patched", "cluster")
_ZERO = "Go's empty value of a field that nobody set, which kubeadm writes out and every reader takes for absent"
_NODE_IP = "the inventory says which of a machine's addresses is the cluster's; the kubelet would guess"
_FLANNEL = "kubeadm leaves the Pod network to the user"
_TOKEN = "a standing token is made only when it is asked for; those of our joins last as long as the join"
_POD_STATUS = "a manifest has no status; kubeadm's has an empty one"

# What kubeadm's KubeletConfiguration has of them.
_KUBELET = (
    "authentication.webhook.cacheTTL",
    "authorization.webhook.cacheAuthorizedTTL",
    "authorization.webhook.cacheUnauthorizedTTL",
    "cpuManagerReconcilePeriod",
    "crashLoopBackOff",
    "evictionPressureTransitionPeriod",
    "fileCheckFrequency",
    "httpCheckFrequency",
    "imageMaximumGCAge",
    "imageMinimumGCAge",
    "logging.flushFrequency",
    "logging.options.json.infoBufferSize",
    "logging.options.text.infoBufferSize",
    "logging.verbosity",
    "memorySwap",
    "nodeStatusReportFrequency",
    "nodeStatusUpdateFrequency",
    "runtimeRequestTimeout",
    "shutdownGracePeriod",
    "shutdownGracePeriodCriticalPods",
    "streamingConnectionIdleTimeout",
    "syncFrequency",
    "volumeStatsAggPeriod",
)
_KUBE_PROXY = (
    "bindAddressHardFail",
    "clientConnection.acceptContentTypes",
    "clientConnection.burst",
    "clientConnection.contentType",
    "clientConnection.qps",
    "configSyncPeriod",
    "conntrack.tcpBeLiberal",
    "conntrack.tcpCloseWaitTimeout",
    "conntrack.tcpEstablishedTimeout",
    "conntrack.udpStreamTimeout",
    "conntrack.udpTimeout",
    "detectLocal.bridgeInterface",
    "detectLocal.interfaceNamePrefix",
    "detectLocalMode",
    "enableProfiling",
    "healthzBindAddress",
    "hostnameOverride",
    "iptables.localhostNodePorts",
    "iptables.masqueradeAll",
    "iptables.masqueradeBit",
    "iptables.minSyncPeriod",
    "iptables.syncPeriod",
    "ipvs.minSyncPeriod",
    "ipvs.scheduler",
    "ipvs.strictARP",
    "ipvs.syncPeriod",
    "ipvs.tcpFinTimeout",
    "ipvs.tcpTimeout",
    "ipvs.udpTimeout",
    "logging.flushFrequency",
    "logging.options.json.infoBufferSize",
    "logging.options.text.infoBufferSize",
    "logging.verbosity",
    "metricsBindAddress",
    "nftables.masqueradeAll",
    "nftables.masqueradeBit",
    "nftables.minSyncPeriod",
    "nftables.syncPeriod",
    "nodePortAddresses",
    "oomScoreAdj",
    "portRange",
    "showHiddenMetricsForVersion",
    "winkernel.enableDSR",
    "winkernel.forwardHealthCheckVip",
    "winkernel.networkName",
    "winkernel.rootHnsEndpointName",
    "winkernel.sourceVip",
)
_KUBELET_MAP = "ConfigMap kube-system/kubelet-config: data.kubelet."
_PROXY_MAP = "ConfigMap kube-system/kube-proxy: data.config.conf."
_HASH = "annotation kubeadm.kubernetes.io/component-config.hash"

INTENDED: tuple[Difference, ...] = (
    *_each(
        _fields(
            f"{paths.MANIFESTS}/",
            "etcd.yaml: status",
            "kube-apiserver.yaml: status",
            "kube-controller-manager.yaml: status",
            "kube-scheduler.yaml: status",
        ),
        _POD_STATUS,
        *FILES,
    ),
    *_each(_fields(f"{paths.KUBELET_CONFIG}: ", *_KUBELET), _ZERO, *FILES),
    *_each(_fields(_KUBELET_MAP, *_KUBELET, "containerRuntimeEndpoint"), _ZERO, *OBJECTS),
    *_each(_fields(_PROXY_MAP, *_KUBE_PROXY), _ZERO, *OBJECTS),
    *_each(_fields(_PROXY_MAP, "conntrack.maxPerCore", "conntrack.min"), _ZERO, "plain", "patched", "rich"),
    *_each(_fields(_PROXY_MAP, "ipvs.excludeCIDRs"), _ZERO, "plain", "patched", "cluster"),
    *_each(
        _fields("ConfigMap kube-system/", f"kubelet-config: {_HASH}", f"kube-proxy: {_HASH}"),
        "the hash of a configuration without Go's empty values",
        "plain",
        "patched",
    ),
    *_each(
        (
            f"{paths.MANIFESTS}/kube-apiserver.yaml: spec.containers[kube-apiserver].env[A].value",
            "ConfigMap kube-system/kubeadm-config: data.ClusterConfiguration.apiServer.extraEnvs[A].value",
        ),
        "an empty value is what an absent one means; kubeadm leaves it out",
        "rich",
    ),
    *_each(_fields(f"{paths.KUBELET_FLAGS}: ", "flag --node-ip", "order of flags"), _NODE_IP, *FILES),
    *_each(
        (
            "ClusterRole flannel",
            "ClusterRoleBinding flannel",
            "ConfigMap kube-flannel/kube-flannel-cfg",
            "DaemonSet kube-flannel/kube-flannel-ds",
            "Namespace kube-flannel",
            "ServiceAccount kube-flannel/flannel",
        ),
        _FLANNEL,
        *OBJECTS,
    ),
    *_each(
        _fields(
            "Node cp1: annotation flannel.alpha.coreos.com/",
            "backend-data",
            "backend-type",
            "kube-subnet-manager",
            "public-ip",
        ),
        _FLANNEL,
        "cluster",
    ),
    *_each(("Secret kube-system/bootstrap-token-abcdef",), _TOKEN, *OBJECTS),
    *_each(("ConfigMap kube-public/cluster-info: data.jws-kubeconfig-abcdef",), _TOKEN, "cluster"),
    *_each(
        ("DaemonSet kube-system/kube-proxy: spec.template.metadata.annotations.kubestrap.io/config-sha256",),
        "Pods are rolled when their configuration changes; kubeadm leaves that to the user",
        *OBJECTS,
    ),
    *_each(
        ("DaemonSet kube-system/kube-proxy: spec.template.spec.containers[kube-proxy].resources",),
        "an empty mapping, which the API server puts in by itself",
        "plain",
        "patched",
        "rich",
    ),
    *_each(
        ("ClusterRoleBinding kubeadm:cluster-admins",),
        "kubeadm makes it when it first calls a real API server, and does not tell of it in a dry run",
        "plain",
        "patched",
        "rich",
    ),
)
