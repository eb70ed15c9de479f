from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from bootstrap.inventory import InventoryError, Problem, dump, load
from bootstrap.spec import Inventory

HOSTS = [
    {"name": "master1", "address": "192.0.2.10", "roles": ["control-plane"]},
    {"name": "worker1", "address": "192.0.2.11", "roles": ["worker"]},
    {"name": "worker2", "address": "192.0.2.12", "roles": ["worker"]},
]
STREAM = """\
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint:
  advertiseAddress: 10.0.0.10
  bindPort: 6443
nodeRegistration:
  name: master1
  criSocket: unix:///var/run/containerd/containerd.sock
  imagePullPolicy: IfNotPresent
  imagePullSerial: true
  ignorePreflightErrors: [Swap]
  taints: []
  kubeletExtraArgs:
    - {name: v, value: "4"}
timeouts:
  controlPlaneComponentHealthCheck: 5m0s
  discovery: 5m0s
  etcdAPICall: 3m0s
  kubeletHealthCheck: 4m0s
  kubernetesAPICall: 1m0s
  tlsBootstrap: 6m0s
  upgradeManifests: 5m0s
---
# what kubeadm calls the cluster
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
apiServer:
  certSANs: [api.example.com, 203.0.113.7]
  extraArgs:
    - {name: audit-log-maxage, value: "30"}
    - {name: tls-cipher-suites, value: a}
    - {name: tls-cipher-suites, value: b}
  extraEnvs:
    - {name: HTTPS_PROXY, value: "http://proxy.example.com:3128"}
  extraVolumes:
    - {name: audit, hostPath: /srv/audit, mountPath: /srv/audit, readOnly: true, pathType: Directory}
caCertificateValidityPeriod: 87600h0m0s
certificateValidityPeriod: 4380h0m0s
certificatesDir: /etc/kubernetes/pki
clusterName: blue
controlPlaneEndpoint: "api.example.com:8443"
controllerManager: {}
dns: {disabled: true}
encryptionAlgorithm: RSA-3072
etcd:
  local:
    dataDir: /srv/etcd
    serverCertSANs: [etcd.example.com]
    peerCertSANs: [192.0.2.99]
    extraArgs:
      - {name: quota-backend-bytes, value: "4294967296"}
featureGates: {}
imageRepository: registry.k8s.io
kubernetesVersion: v1.37.1
networking:
  dnsDomain: blue.local
  podSubnet: 10.10.0.0/16
  serviceSubnet: 10.20.0.0/16
proxy: {disabled: true}
scheduler:
  extraArgs:
    - {name: v, value: "2"}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
maxPods: 250
evictionHard: {memory.available: 200Mi}
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
caCertPath: /etc/kubernetes/pki/ca.crt
nodeRegistration:
  taints:
    - {key: example.com/dedicated, value: batch, effect: NoSchedule}
  kubeletExtraArgs:
    - {name: v, value: "3"}
timeouts:
  discovery: 5m0s
"""
SAME: dict[str, Any] = {
    "name": "blue",
    "kubernetesVersion": "1.37.1",
    "networking": {"dnsDomain": "blue.local", "podSubnet": "10.10.0.0/16", "serviceSubnet": "10.20.0.0/16"},
    "endpoint": {"kind": "external", "name": "api.example.com", "port": 8443},
    "encryptionAlgorithm": "RSA-3072",
    "certificateValidityPeriod": "4380h0m0s",
    "caCertificateValidityPeriod": "87600h0m0s",
    "apiServer": {
        "certSANs": ["api.example.com", "203.0.113.7"],
        "extraArgs": [
            {"name": "audit-log-maxage", "value": "30"},
            {"name": "tls-cipher-suites", "value": "a"},
            {"name": "tls-cipher-suites", "value": "b"},
        ],
        "extraEnvs": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}],
        "extraVolumes": [
            {
                "name": "audit",
                "hostPath": "/srv/audit",
                "mountPath": "/srv/audit",
                "readOnly": True,
                "pathType": "Directory",
            }
        ],
    },
    "scheduler": {"extraArgs": [{"name": "v", "value": "2"}]},
    "etcd": {
        "local": {
            "dataDir": "/srv/etcd",
            "serverCertSANs": ["etcd.example.com"],
            "peerCertSANs": ["192.0.2.99"],
            "extraArgs": [{"name": "quota-backend-bytes", "value": "4294967296"}],
        }
    },
    "kubelet": {"config": {"maxPods": 250, "evictionHard": {"memory.available": "200Mi"}}},
    "kubeProxy": {"disabled": True, "config": {"mode": "nftables"}},
    "addons": {"coredns": {"disabled": True}},
    "timeouts": {
        "controlPlaneComponentHealthCheck": "5m0s",
        "discovery": "5m0s",
        "etcdAPICall": "3m0s",
        "kubeletHealthCheck": "4m0s",
        "kubernetesAPICall": "1m0s",
        "tlsBootstrap": "6m0s",
    },
    "ignorePreflightErrors": ["Swap"],
}
BATCH = [{"key": "example.com/dedicated", "value": "batch", "effect": "NoSchedule"}]


def inventory(folder: Path, cluster: object, hosts: object = None) -> Inventory:
    path = folder / "inventory.yaml"
    data = {"apiVersion": "kubestrap.io/v1alpha1", "kind": "Inventory", "cluster": cluster, "hosts": hosts or HOSTS}
    path.write_text(json.dumps(data))
    return load(path)


def problems(folder: Path, cluster: object, hosts: object = None) -> tuple[Problem, ...]:
    with pytest.raises(InventoryError) as refused:
        inventory(folder, cluster, hosts)
    return refused.value.problems


def kubeadm(kind: str, **fields: object) -> dict[str, Any]:
    return {"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": kind, **fields}


def test_a_stream_of_kubeadms_documents_means_what_the_inventorys_own_settings_mean(tmp_path: Path) -> None:
    (tmp_path / "kubeadm.yaml").write_text(STREAM)
    master = {
        **HOSTS[0],
        "nodeAddress": "10.0.0.10",
        "taints": [],
        "kubelet": {"extraArgs": [{"name": "v", "value": "4"}]},
    }
    workers = [{**host, "taints": BATCH, "kubelet": {"extraArgs": [{"name": "v", "value": "3"}]}} for host in HOSTS[1:]]
    assert inventory(tmp_path, {"kubeadm": "kubeadm.yaml"}) == inventory(tmp_path, SAME, [master, *workers])


def test_documents_in_place_mean_what_they_mean_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "kubeadm.yaml").write_text(STREAM)
    documents = list(yaml.safe_load_all(STREAM))
    assert inventory(tmp_path, {"kubeadm": documents}) == inventory(tmp_path, {"kubeadm": "kubeadm.yaml"})


def test_the_order_of_documents_does_not_matter(tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(STREAM))
    assert inventory(tmp_path, {"kubeadm": documents[::-1]}) == inventory(tmp_path, {"kubeadm": documents})


def test_what_kubeadm_leaves_open_the_inventory_gives(tmp_path: Path) -> None:
    documents = kubeadm("ClusterConfiguration", networking={"podSubnet": "10.10.0.0/16"})
    read = inventory(tmp_path, {"kubeadm": documents, "networking": {"dnsDomain": "blue.local"}})
    assert str(read.cluster.networking.pod_subnet) == "10.10.0.0/16"
    assert read.cluster.networking.dns_domain == "blue.local"


def test_all_settings_filled_in_read_again_without_kubeadms_file(tmp_path: Path) -> None:
    read = inventory(tmp_path, {"kubeadm": list(yaml.safe_load_all(STREAM))})
    (tmp_path / "again.yaml").write_text(dump(read))
    assert load(tmp_path / "again.yaml") == read


@pytest.mark.parametrize(
    ("given", "name", "port"),
    [
        ("api.example.com:8443", "api.example.com", 8443),
        ("api.example.com", "api.example.com", 6443),
        ("192.0.2.9:6443", "192.0.2.9", 6443),
        ("[2001:db8::9]:6443", "2001:db8::9", 6443),
    ],
)
def test_an_endpoint_is_one_that_exists(given: str, name: str, port: int, tmp_path: Path) -> None:
    endpoint = inventory(
        tmp_path, {"kubeadm": kubeadm("ClusterConfiguration", controlPlaneEndpoint=given)}
    ).cluster.endpoint
    assert (endpoint.kind, endpoint.name, endpoint.port) == ("external", name, port)


def test_external_etcd_has_kubeadms_fields_and_files_of_the_operators(tmp_path: Path) -> None:
    files = {"caFile": "etcd-ca.pem", "certFile": "/srv/client.pem", "keyFile": "/srv/client.key"}
    external = {"endpoints": ["https://192.0.2.20:2379"], **files}
    read = inventory(tmp_path, {"kubeadm": kubeadm("ClusterConfiguration", etcd={"external": external})}).cluster
    assert read.etcd.external is not None
    assert read.etcd.external.endpoints == ("https://192.0.2.20:2379",)
    assert read.etcd.external.ca_file == str(tmp_path / "etcd-ca.pem")
    assert read.etcd.external.key_file == "/srv/client.key"


def test_an_endpoint_is_a_name_in_hosts_files_where_the_inventory_says_so(tmp_path: Path) -> None:
    documents = kubeadm("ClusterConfiguration", controlPlaneEndpoint="api.example.com:7443")
    endpoint = inventory(tmp_path, {"kubeadm": documents, "endpoint": {"kind": "local-proxy"}}).cluster.endpoint
    assert (endpoint.kind, endpoint.name, endpoint.port) == ("local-proxy", "api.example.com", 7443)


def test_without_an_endpoint_the_port_is_the_api_servers_own(tmp_path: Path) -> None:
    cluster = inventory(
        tmp_path, {"kubeadm": kubeadm("InitConfiguration", localAPIEndpoint={"bindPort": 7443})}
    ).cluster
    assert (cluster.endpoint.kind, cluster.bind_port) == ("local-proxy", 7443)


def test_a_port_that_the_inventory_gives_otherwise_is_refused(tmp_path: Path) -> None:
    documents = kubeadm("InitConfiguration", localAPIEndpoint={"bindPort": 7443})
    (only,) = problems(tmp_path, {"kubeadm": documents, "endpoint": {"kind": "local-proxy", "port": 8443}})
    assert (only.id, only.path) == ("inventory-kubeadm-twice", "cluster.kubeadm.localAPIEndpoint.bindPort")


def test_a_worker_is_named(tmp_path: Path) -> None:
    documents = kubeadm("JoinConfiguration", nodeRegistration={"name": "worker2", "taints": BATCH})
    read = inventory(tmp_path, {"kubeadm": documents})
    assert [bool(host.taints) for host in read.hosts] == [False, False, True]


def test_what_a_host_has_already_is_not_replaced(tmp_path: Path) -> None:
    documents = kubeadm("JoinConfiguration", nodeRegistration={"taints": BATCH})
    hosts = [*HOSTS[:2], {**HOSTS[2], "taints": []}]
    (only,) = problems(tmp_path, {"kubeadm": documents}, hosts)
    assert (only.id, only.path) == ("inventory-kubeadm-twice", "cluster.kubeadm.nodeRegistration.taints")


def test_init_and_join_may_repeat_each_other_but_not_differ(tmp_path: Path) -> None:
    first, again = (kubeadm(kind, timeouts={"discovery": "3m"}) for kind in ("InitConfiguration", "JoinConfiguration"))
    assert inventory(tmp_path, {"kubeadm": [first, again]}).cluster.timeouts.discovery == "3m"
    differs = kubeadm("JoinConfiguration", timeouts={"discovery": "4m"})
    (only,) = problems(tmp_path, {"kubeadm": [first, differs]})
    assert (only.id, only.path) == ("inventory-kubeadm-twice", "cluster.kubeadm[1].timeouts.discovery")


def test_a_file_is_looked_for_beside_the_inventory_and_called_as_it_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "kubeadm.yaml").write_text("apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\n")
    monkeypatch.chdir(tmp_path)
    (only,) = problems(Path("conf"), {"kubeadm": "kubeadm.yaml"})
    assert str(only).startswith("conf/kubeadm.yaml:1:13: ")
    assert "kubeadm config migrate" in only.fix


def test_a_token_in_a_file_is_not_repeated_in_messages(tmp_path: Path) -> None:
    documents = kubeadm("InitConfiguration", bootstrapTokens=[{"token": "abcdef.0123456789abcdef"}])
    (only,) = problems(tmp_path, {"kubeadm": documents})
    assert "0123456789abcdef" not in str(only)
