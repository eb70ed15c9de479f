"""The catalogue: every check of machines and of the cluster; a function's name is its id, its docstring its text."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bootstrap.verify import in_cluster, on_control_planes, on_machines
from bootstrap.verify.subject import Check, Machine, On, Subject


def _checks(on: On, *functions: Callable[[Machine, Subject], Iterator[str]]) -> tuple[Check, ...]:
    return tuple(
        Check(
            function.__name__.replace("_", "-"),
            on,
            (function.__doc__ or "").strip().partition("\n")[0].removesuffix("."),
            function,
        )
        for function in functions
    )


CATALOGUE = (
    *_checks(
        "all",
        on_machines.containerd_service,
        on_machines.kubelet_service,
        on_machines.services_current,
        on_machines.kubelet_health,
        on_machines.runtime_health,
        on_machines.runtime_configuration,
        on_machines.kubelet_version,
        on_machines.binaries,
        on_machines.images,
        on_machines.swap,
        on_machines.swap_at_boot,
        on_machines.clock,
        on_machines.disk_space,
        on_machines.inodes,
        on_machines.kubelet_files,
        on_machines.runtime_files,
        on_machines.manifest_strangers,
        on_machines.receipt,
        on_machines.bootstrap_kubeconfig,
        on_machines.leftovers,
        on_machines.ports,
        on_machines.port_owners,
    ),
    *_checks(
        "node",
        on_machines.kube_proxy_health,
        on_machines.cni_configuration,
        on_machines.sysctls,
        on_machines.sysctls_at_boot,
        on_machines.kernel_modules,
        on_machines.kubelet_certificate,
        on_machines.kubelet_rotation,
        on_machines.kubelet_serving_certificate,
        on_machines.kubelet_kubeconfig,
        on_machines.kubelet_access,
        on_machines.endpoint_name,
        on_machines.endpoint_entry,
        on_machines.local_proxy,
        on_machines.resolver,
        on_machines.api_service,
        on_machines.pod_network,
    ),
    *_checks(
        "control-plane, etcd",
        on_control_planes.certificates,
        on_control_planes.ca_certificates,
        on_control_planes.pki_files,
        on_control_planes.manifests,
        on_control_planes.static_pods,
    ),
    *_checks(
        "control-plane",
        on_control_planes.kubeconfig_files,
        on_control_planes.kubeconfig_servers,
        on_control_planes.api_server_health,
        on_control_planes.controller_manager_health,
        on_control_planes.scheduler_health,
        on_control_planes.keepalived,
    ),
    *_checks(
        "etcd",
        on_control_planes.etcd_data,
        on_control_planes.etcd_health,
        on_control_planes.etcd_members,
        on_control_planes.etcd_alarms,
        on_control_planes.etcd_size,
    ),
    *_checks(
        "cluster",
        in_cluster.nodes,
        in_cluster.node_conditions,
        in_cluster.node_versions,
        in_cluster.node_labels,
        in_cluster.node_taints,
        in_cluster.node_addresses,
        in_cluster.node_subnets,
        in_cluster.kubelet_configuration,
        in_cluster.system_pods,
        in_cluster.restarts,
        in_cluster.component_images,
        in_cluster.leaders,
        in_cluster.coredns,
        in_cluster.kube_proxy,
        in_cluster.flannel,
        in_cluster.api_endpoints,
        in_cluster.bootstrap_tokens,
        in_cluster.cluster_info,
        in_cluster.kubeadm_config,
        in_cluster.kubelet_config,
        in_cluster.virtual_address,
        in_cluster.rights,
        in_cluster.anonymous_rights,
    ),
)
"""Every check, in the order they are made."""

SETTLING = frozenset(
    {
        "api-service",
        "cni-configuration",
        "coredns",
        "flannel",
        "kube-proxy",
        "kube-proxy-health",
        "leaders",
        "node-conditions",
        "nodes",
        "pod-network",
        "port-owners",
        "ports",
        "system-pods",
        "virtual-address",
    }
)
"""What holds only when the Pods of the system have started."""
