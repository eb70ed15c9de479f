"""The cluster's configuration, kept in the cluster where kubeadm keeps it (phases/uploadconfig, phases/kubelet).

kubeadm reads both ConfigMaps when it joins a node or upgrades the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bootstrap import paths
from bootstrap.phases import kubelet
from bootstrap.phases.objects import BOOTSTRAPPERS, NODES, SYSTEM, binding, config_map, group, role, rule, unchanged
from bootstrap.plan import Phase
from bootstrap.render import to_yaml
from bootstrap.steps import Step

if TYPE_CHECKING:
    from bootstrap.site import Node, Site
    from bootstrap.spec import Component, EnvVar, NamedValue

_REGISTRY = "registry.k8s.io"


def kubeadm_steps(site: Site, _: Node) -> Iterator[Step]:
    """Store the cluster's configuration in the ConfigMap kubeadm-config, and give administrators their rights."""
    # kubeadm binds them when it first calls the API, as admin.conf can do nothing before.
    yield binding("kubeadm:cluster-admins", "cluster-admin", [group("kubeadm:cluster-admins")])
    yield config_map("kubeadm-config", {"ClusterConfiguration": to_yaml(cluster_configuration(site))})
    yield from _readable("kubeadm-config", "kubeadm:nodes-kubeadm-config")


def kubelet_steps(site: Site, _: Node) -> Iterator[Step]:
    """Store the configuration that all kubelets share in the ConfigMap kubelet-config."""
    text = to_yaml(kubelet.cluster_config(site.cluster))
    data = {"kubelet": text}
    yield config_map("kubelet-config", data, annotations=None if site.cluster.kubelet.config else unchanged(data))
    yield from _readable("kubelet-config", "kubeadm:kubelet-config")


def cluster_configuration(site: Site) -> dict[str, Any]:
    """Give kubeadm's ClusterConfiguration (v1beta4) of the cluster, with the images that our bundle holds."""
    cluster = site.cluster
    repository, _, _ = _reference(site.image("kube-apiserver"))
    return {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "apiServer": {**_component(cluster.api_server), **_some("certSANs", list(cluster.api_server.cert_sans))},
        "caCertificateValidityPeriod": _go_duration(cluster.ca_certificate_validity_period),
        "certificateValidityPeriod": _go_duration(cluster.certificate_validity_period),
        "certificatesDir": paths.PKI,
        "clusterName": cluster.name,
        "controlPlaneEndpoint": cluster.control_plane_endpoint,
        "controllerManager": _component(cluster.controller_manager),
        "dns": {"disabled": True} if cluster.addons.coredns.disabled else _dns_image(site, repository),
        "encryptionAlgorithm": cluster.encryption_algorithm,
        "etcd": _etcd(site, repository),
        "imageRepository": repository,
        "kubernetesVersion": f"v{cluster.kubernetes_version}",
        "networking": {
            "dnsDomain": cluster.networking.dns_domain,
            "podSubnet": str(cluster.networking.pod_subnet),
            "serviceSubnet": str(cluster.networking.service_subnet),
        },
        "proxy": _some("disabled", cluster.kube_proxy.disabled),
        "scheduler": _component(cluster.scheduler),
    }


def _etcd(site: Site, repository: str) -> dict[str, Any]:
    if not site.is_stacked:
        # kubeadm's external etcd is whichever it does not run itself.
        return {
            "external": {
                "endpoints": list(site.etcd_endpoints),
                "caFile": f"{paths.PKI}/etcd/ca.crt",
                "certFile": f"{paths.PKI}/apiserver-etcd-client.crt",
                "keyFile": f"{paths.PKI}/apiserver-etcd-client.key",
            }
        }
    etcd = site.cluster.etcd.local
    return {
        "local": {
            "dataDir": etcd.data_dir,
            **_etcd_image(site, repository),
            **_arguments(etcd.extra_args),
            **_environment(etcd.extra_envs),
            **_some("serverCertSANs", list(etcd.server_cert_sans)),
            **_some("peerCertSANs", list(etcd.peer_cert_sans)),
        }
    }


def _readable(name: str, role_name: str) -> Iterator[Step]:
    yield role(role_name, [rule(["get"], ["configmaps"], names=[name])], namespace=SYSTEM)
    yield binding(role_name, role_name, [group(BOOTSTRAPPERS), group(NODES)], namespace=SYSTEM)


def _component(settings: Component) -> dict[str, Any]:
    volumes = [
        {
            "name": volume.name,
            "hostPath": volume.host_path,
            "mountPath": volume.mount_path,
            **_some("readOnly", volume.read_only),
            **_some("pathType", volume.path_type),
        }
        for volume in settings.extra_volumes
    ]
    return {
        **_arguments(settings.extra_args),
        **_environment(settings.extra_envs),
        **_some("extraVolumes", volumes),
    }


def _arguments(arguments: Sequence[NamedValue]) -> dict[str, Any]:
    return _some("extraArgs", [{"name": argument.name, "value": argument.value} for argument in arguments])


def _environment(variables: Sequence[EnvVar]) -> dict[str, Any]:
    return _some("extraEnvs", [{"name": variable.name, "value": variable.value} for variable in variables])


def _some(key: str, value: object) -> dict[str, Any]:
    return {key: value} if value else {}


def _etcd_image(site: Site, repository: str) -> dict[str, str]:
    own, _, tag = _reference(site.image("etcd"))
    return {"imageTag": tag, **_some("imageRepository", "" if own == repository else own)}


def _dns_image(site: Site, repository: str) -> dict[str, str]:
    # kubeadm looks below coredns/ in its default registry, and nowhere else (images.GetDNSImage).
    own, _, tag = _reference(site.image("coredns"))
    usual = f"{repository}/coredns" if repository == _REGISTRY else repository
    return {"imageTag": tag, **_some("imageRepository", "" if own == usual else own)}


def _reference(image: str) -> tuple[str, str, str]:
    repository, _, name = image.rpartition("/")
    name, _, tag = name.partition(":")
    return repository, name, tag


def _go_duration(text: str) -> str:
    from bootstrap.spec import seconds

    minutes, rest = divmod(seconds(text), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"


UPLOAD_CONFIG = (
    Phase("upload-config/kubeadm", "cluster", kubeadm_steps),
    Phase("upload-config/kubelet", "cluster", kubelet_steps),
)
