from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import pytest
import yaml

from bootstrap import creating, paths, pki, tokens
from bootstrap.adopting import AdoptId, adoption, machines
from bootstrap.adopting.machines import CA, CA_KEY, HOSTS, OWN_FLAGS, Machine
from bootstrap.adopting.standing import Standing, ask
from bootstrap.errors import AdoptionRefused, Problem
from bootstrap.phases import addons, kubelet, static_pods
from bootstrap.render import merge, to_toml, to_yaml
from bootstrap.site import Facts, Link
from bootstrap.spec import Cluster
from bootstrap.transport.local import LocalHost
from tests import apiserver, builders
from tests.apiserver import ApiServer
from tests.test_docs import ROOT

CONFIGURATION = """
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
apiServer:
  certSANs: [api.example.com]
  extraArgs: [{name: audit-log-maxage, value: "7"}]
caCertificateValidityPeriod: 87600h0m0s
certificateValidityPeriod: 8760h0m0s
certificatesDir: /etc/kubernetes/pki
clusterName: prod
controlPlaneEndpoint: lb.example.com:6443
controllerManager: {}
dns: {}
encryptionAlgorithm: RSA-2048
etcd:
  local: {dataDir: /var/lib/etcd}
imageRepository: registry.k8s.io
kubernetesVersion: v1.37.2
networking: {dnsDomain: cluster.local, podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/12}
proxy: {}
scheduler: {}
"""
KUBELET_ZEROES: Mapping[str, Any] = {
    "cpuManagerReconcilePeriod": "0s",
    "crashLoopBackOff": {},
    "logging": {"flushFrequency": 0, "options": {"json": {"infoBufferSize": "0"}}, "verbosity": 0},
    "memorySwap": {},
    "authentication": {"webhook": {"cacheTTL": "0s"}},
}
PROXY_ZEROES: Mapping[str, Any] = {
    "bindAddressHardFail": False,
    "clientConnection": {"burst": 0, "qps": 0, "contentType": ""},
    "conntrack": {"maxPerCore": None, "tcpBeLiberal": False, "udpTimeout": "0s"},
    "mode": "",
    "nodePortAddresses": None,
    "winkernel": {"enableDSR": False, "networkName": ""},
}
USUAL_TAINT = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}


def machine(address: str, role: str = "control-plane", **files: bytes | None) -> Machine:
    """A machine that kubeadm made a Node of; `files` by the names below, None takes one away."""
    number = address.rpartition(".")[2]
    host = builders.node(f"n{number}", role, address=address)
    site = builders.site(host, cluster={"endpoint": {"kind": "external", "name": "lb.example.com"}})
    held = {
        CA: apiserver.pki("ca.crt"),
        paths.KUBELET_CONF: b"x",
        paths.KUBELET_CONFIG: to_yaml(merge(KUBELET_ZEROES, kubelet.cluster_config(site.cluster))).encode(),
        paths.KUBELET_FLAGS: b'KUBELET_KUBEADM_ARGS=""\n',
        paths.KUBELET_INSTANCE_CONFIG: b"containerRuntimeEndpoint: unix:///var/run/containerd/containerd.sock\n",
    }
    if role == "control-plane":
        pods = static_pods.pods(site, host)
        held |= {static_pods.path(pod.name): to_yaml(static_pods.manifest(site, host, pod)).encode() for pod in pods}
        held |= {CA_KEY: b"key", paths.ADMIN_CONF: apiserver.files()[paths.ADMIN_CONF]}
    names = {"ca": CA, "ca_key": CA_KEY, "admin": paths.ADMIN_CONF, "kubelet": paths.KUBELET_CONF, "hosts": HOSTS}
    names |= {"flags": paths.KUBELET_FLAGS, "own_flags": OWN_FLAGS, "config": paths.KUBELET_CONFIG}
    names |= {"instance": paths.KUBELET_INSTANCE_CONFIG, "containerd": paths.CONTAINERD_CONFIG}
    for name, data in files.items():
        held.pop(names[name], None)
        if data is not None:
            held[names[name]] = data
    (given,) = creating.given([address]).hosts
    links = (Link("eth0", address, 24),)
    return Machine(given, Facts(addresses=(address,), links=links, hostname=f"n{number}", files=held))


def holding(one: Machine, path: str, data: bytes) -> Machine:
    """The machine with one more file, or another one."""
    return replace(one, facts=replace(one.facts, files={**one.files, path: data}))


def serving(one: Machine, *flags: str) -> Machine:
    """The machine with more flags of its API server."""
    path = static_pods.path("kube-apiserver")
    pod = yaml.safe_load(one.files[path])
    pod["spec"]["containers"][0]["command"] += flags
    return holding(one, path, to_yaml(pod).encode())


def registered(one: Machine, **changed: Any) -> dict[str, Any]:
    """The Node of a machine, merged with `changed`."""
    name = one.facts.hostname
    usual: dict[str, Any] = {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "spec": {"taints": [USUAL_TAINT] if one.is_control_plane else []},
        "status": {
            "addresses": [{"type": "InternalIP", "address": one.name}],
            "nodeInfo": {"kubeletVersion": "v1.37.2"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    return merge(usual, changed)


def standing(*nodes: Mapping[str, Any], configuration: Mapping[str, Any] | None = None, **changed: Any) -> Standing:
    usual = Standing(
        configuration=merge(yaml.safe_load(CONFIGURATION), configuration or {}),
        kubelet=merge(KUBELET_ZEROES, kubelet.cluster_config(Cluster())),
        kube_proxy=merge(addons.kube_proxy_config(Cluster()), PROXY_ZEROES) | {"mode": ""},
        coredns_replicas=2,
        networks=("kube-system/calico-node",),
        has_our_flannel=False,
        version="1.37.2",
        nodes=nodes,
    )
    return replace(usual, **changed)


def described(
    given: Sequence[Machine], found: Standing | None = None, **configuration: Any
) -> tuple[dict[str, Any], Sequence[str]]:
    wanted = creating.given([one.name for one in given])
    nodes = [registered(one) for one in given]
    made = adoption.describe(wanted, given, found or standing(*nodes, configuration=configuration))
    return yaml.safe_load(made.text), made.notes


def refused(given: Sequence[Machine], found: Standing | None = None) -> Sequence[Problem]:
    if problems := machines.unfit(given):
        return problems
    with pytest.raises(AdoptionRefused) as error:
        described(given, found)
    return error.value.problems


def ids(problems: Sequence[Problem]) -> list[tuple[str, str]]:
    return [(problem.host, problem.check) for problem in problems]


PLANE, OTHER, WORKER = machine("192.0.2.1"), machine("192.0.2.2"), machine("192.0.2.3", "worker")


def test_an_inventory_says_what_kubeadm_was_told_and_nothing_of_its_empty_values() -> None:
    made, notes = described([PLANE, OTHER, WORKER])
    assert made["cluster"] == {
        "name": "prod",
        "kubernetesVersion": "1.37.2",
        "networking": {"dnsDomain": "cluster.local", "podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/12"},
        "endpoint": {"kind": "external", "name": "lb.example.com", "port": 6443},
        "encryptionAlgorithm": "RSA-2048",
        "certificateValidityPeriod": "8760h0m0s",
        "caCertificateValidityPeriod": "87600h0m0s",
        "caCertHash": tokens.ca_cert_hash(apiserver.pki("ca.crt")),
        "apiServer": {"certSANs": ["api.example.com"], "extraArgs": [{"name": "audit-log-maxage", "value": "7"}]},
        "etcd": {"local": {"dataDir": "/var/lib/etcd"}},
        "addons": {"cni": "none"},
    }
    assert [(host["name"], host["roles"], host["nodeAddress"]) for host in made["hosts"]] == [
        ("n1", ["control-plane"], "192.0.2.1"),
        ("n2", ["control-plane"], "192.0.2.2"),
        ("n3", ["worker"], "192.0.2.3"),
    ]
    assert notes == (
        "kube-system/calico-node: the Pod network of whoever installed it: addons.cni is none, and it is left alone",
    )


def test_what_has_no_counterpart_is_told_by_name() -> None:
    _, notes = described([PLANE], imageRepository="mirror.example.com", etcd={"local": {"imageTag": "3.6.0-0"}}, odd=1)
    told = [note for note in notes if note.startswith("ClusterConfiguration: ")]
    assert [note.split()[1] for note in told] == ["etcd.local.imageTag", "imageRepository", "odd"]


def test_flags_of_v1beta3_are_read_too() -> None:
    made, _ = described([PLANE], apiVersion="kubeadm.k8s.io/v1beta3", scheduler={"extraArgs": {"v": "2"}})
    assert made["cluster"]["scheduler"] == {"extraArgs": [{"name": "v", "value": "2"}]}


@pytest.mark.parametrize(
    ("endpoint", "hosts", "expected"),
    [
        ("[2001:db8::5]:6443", b"", {"kind": "external", "name": "2001:db8::5", "port": 6443}),
        ("lb.example.com", b"", {"kind": "external", "name": "lb.example.com", "port": 6443}),
        (None, b"", {"kind": "external", "name": "192.0.2.1", "port": 6443}),
        (
            "api.x.example:6443",
            b"# BEGIN kubestrap\n192.0.2.1 api.x.example\n# END kubestrap\n",
            {"kind": "local-proxy", "name": "api.x.example", "port": 6443},
        ),
    ],
)
def test_the_endpoint_is_the_one_that_stands(endpoint: str | None, hosts: bytes, expected: object) -> None:
    made, _ = described([machine("192.0.2.1", hosts=hosts)], controlPlaneEndpoint=endpoint)
    assert made["cluster"]["endpoint"] == expected


def test_an_endpoint_by_a_virtual_address_of_ours_is_known() -> None:
    config = b"vrrp_instance api {\n virtual_router_id 7\n virtual_ipaddress {\n 192.0.2.100/32 dev eth0\n }\n}\n"
    made, _ = described(
        [holding(PLANE, paths.VIP_CONFIG, config)],
        controlPlaneEndpoint="lb.example.com:8443",
    )
    assert made["cluster"]["endpoint"] == {
        "kind": "vip",
        "name": "lb.example.com",
        "port": 8443,
        "address": "192.0.2.100",
        "virtualRouterId": 7,
    }


def test_a_name_in_the_machines_own_hosts_files_is_told() -> None:
    _, notes = described([machine("192.0.2.1", hosts=b"127.0.0.1 localhost\n192.0.2.9 lb.example.com\n")])
    told = "lb.example.com stands in /etc/hosts of 192.0.2.1: machines that join must resolve it, too"
    assert f"the endpoint: {told}" in notes


def test_a_cluster_without_a_pod_subnet_or_an_endpoint_is_told_what_that_means() -> None:
    _, notes = described([PLANE], networking={"podSubnet": None}, controlPlaneEndpoint=None)
    assert any("it has no podSubnet" in note for note in notes)
    assert any("it has no controlPlaneEndpoint" in note for note in notes)


def test_what_kubelets_and_proxies_were_told_is_kept_for_all_or_for_one() -> None:
    shared = merge(KUBELET_ZEROES, merge(kubelet.cluster_config(Cluster()), {"maxPods": 50, "failSwapOn": False}))
    proxy = merge(addons.kube_proxy_config(Cluster()), {"mode": "nftables", "conntrack": {"maxPerCore": 0}})
    config = to_yaml(shared).encode()
    more = to_yaml(merge(shared, {"maxPods": 200})).encode()
    flags = b'KUBELET_KUBEADM_ARGS="--node-ip=192.0.2.1 --v=3"\n'
    given = [machine("192.0.2.1", config=config, flags=flags), machine("192.0.2.3", "worker", config=more, flags=flags)]
    found = standing(*map(registered, given), kubelet=shared, kube_proxy=proxy)
    made, notes = described(given, found)
    assert made["cluster"]["kubelet"] == {
        "config": {"failSwapOn": False, "maxPods": 50},
        "extraArgs": [{"name": "v", "value": "3"}],
    }
    assert made["cluster"]["kubeProxy"] == {"config": {"mode": "nftables", "conntrack": {"maxPerCore": 0}}}
    assert [host.get("kubelet") for host in made["hosts"]] == [None, {"config": {"maxPods": 200}}]
    assert "192.0.2.3: its kubelet is told otherwise than the cluster's: maxPods; it stays so" in notes


def test_flags_of_some_kubelets_are_theirs_alone_and_those_of_the_machine_stay_there() -> None:
    one = machine(
        "192.0.2.1", flags=b'KUBELET_KUBEADM_ARGS="--v=3 --pod-infra-container-image=registry.k8s.io/pause:3"'
    )
    two = machine("192.0.2.2", own_flags=b"KUBELET_EXTRA_ARGS=--seccomp-default\n")
    made, notes = described([one, two])
    assert "kubelet" not in made["cluster"]
    assert [host.get("kubelet") for host in made["hosts"]] == [{"extraArgs": [{"name": "v", "value": "3"}]}, None]
    assert any("--pod-infra-container-image is left out" in note for note in notes)
    assert any("/etc/default/kubelet gives its kubelet --seccomp-default" in note for note in notes)


def test_flags_that_were_written_into_manifests_by_hand_are_taken_or_told() -> None:
    oidc = "--oidc-issuer-url=https://id.example.com"
    given = [serving(PLANE, oidc, "--v=2"), serving(OTHER, oidc, "--v=2")]
    made, notes = described(given)
    assert made["cluster"]["apiServer"]["extraArgs"] == [
        {"name": "audit-log-maxage", "value": "7"},
        {"name": "oidc-issuer-url", "value": "https://id.example.com"},
        {"name": "v", "value": "2"},
    ]
    assert any(note.startswith("192.0.2.1: the manifest of kube-apiserver has --oidc-issuer-url,") for note in notes)
    made, notes = described([PLANE, serving(OTHER, oidc)])
    assert [argument["name"] for argument in made["cluster"]["apiServer"]["extraArgs"]] == ["audit-log-maxage"]
    assert [host.get("apiServer") for host in made["hosts"]] == [
        None,
        {"extraArgs": [{"name": "oidc-issuer-url", "value": "https://id.example.com"}]},
    ]


def test_a_cluster_of_another_patch_release_is_told_of_bundles() -> None:
    made, notes = described([PLANE], kubernetesVersion="v1.37.1")
    assert made["cluster"]["kubernetesVersion"] == "1.37.1"
    assert any(note.startswith("ClusterConfiguration: it is of 1.37.1, and kubestrap bundle") for note in notes)


def test_containerds_settings_are_kept_but_for_programs_and_images_and_older_forms_are_told() -> None:
    runc = {"options": {"BinaryName": "/usr/bin/runc", "SystemdCgroup": True}, "runtime_type": "io.containerd.runc.v2"}
    config = {
        "version": 3,
        "root": "/data/containerd",
        "plugins": {
            "io.containerd.cri.v1.images": {"pinned_images": {"sandbox": "registry.k8s.io/pause:3.9"}},
            "io.containerd.cri.v1.runtime": {"containerd": {"runtimes": {"runc": runc}}, "enable_selinux": True},
        },
    }
    made, _ = described([machine("192.0.2.1", containerd=to_toml(config).encode())])
    assert made["cluster"]["containerd"]["config"] == {
        "root": "/data/containerd",
        "plugins": {"io.containerd.cri.v1.runtime": {"enable_selinux": True}},
    }
    made, _ = described([machine("192.0.2.1", containerd=to_toml(config).encode()), OTHER])
    assert "containerd" not in made["cluster"]
    assert [bool(host.get("containerd")) for host in made["hosts"]] == [True, False]
    for older in (b"version = 2\n", b"version = \n"):
        made, notes = described([machine("192.0.2.1", containerd=older)])
        assert "containerd" not in made["cluster"]
        assert any(note.startswith("192.0.2.1: /etc/containerd/config.toml is ") for note in notes)


def test_addons_that_are_not_there_are_not_wanted_and_our_own_flannel_is() -> None:
    found = standing(registered(PLANE), kube_proxy=None, coredns_replicas=None, has_our_flannel=True)
    made, notes = described([PLANE], found)
    assert made["cluster"]["kubeProxy"] == {"disabled": True}
    assert made["cluster"]["addons"] == {"coredns": {"disabled": True}, "cni": "flannel"}
    assert notes == ()


def test_labels_and_taints_are_those_that_people_gave() -> None:
    labels = {"example.com/rack": "a1", "feature.example.com/avx": "true", "node-role.kubernetes.io/worker": ""}
    fields = {"f:metadata": {"f:labels": {"f:feature.example.com/avx": {}}}}
    node = registered(
        WORKER,
        metadata={
            "labels": {**labels, "scheduler.kubernetes.io/x": "y"},
            "managedFields": [{"manager": "feature-discovery", "fieldsV1": fields}],
        },
        spec={
            "taints": [
                {"key": "example.com/gpu", "value": "yes", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
            ]
        },
    )
    both = registered(PLANE, spec={"taints": []})
    made, notes = described([PLANE, WORKER], standing(both, node))
    assert made["hosts"][0]["roles"] == ["control-plane", "worker"]
    assert made["hosts"][1]["labels"] == {"example.com/rack": "a1"}
    assert made["hosts"][1]["taints"] == [{"key": "example.com/gpu", "value": "yes", "effect": "NoSchedule"}]
    assert "n3: the label feature.example.com/avx is left to feature-discovery, which set it" in notes
    assert "n3: the label scheduler.kubernetes.io/x is left to whoever set it: only administrators may" in notes


def test_what_else_there_is_is_told() -> None:
    plane = holding(PLANE, static_pods.path("kube-vip"), b"x")
    node = registered(plane, status={"nodeInfo": {"kubeletVersion": "v1.37.1"}, "conditions": []})
    _, notes = described([plane], standing(node, registered(WORKER), networks=()))
    told = "\n".join(notes)
    assert "192.0.2.1: its kubelet is of 1.37.1: init (or join, of a worker) makes it 1.37.2" in told
    assert "192.0.2.1: static Pods of others are left alone, and no new host gets them: kube-vip.yaml" in told
    assert "192.0.2.1: its Node n1 is not Ready" in told
    assert "n3: the cluster has this Node (192.0.2.3), and no HOST was given for it" in told
    assert "the Pod network: no DaemonSet of one is known" in told


def test_where_no_host_has_the_key_of_the_ca_the_operator_keeps_it() -> None:
    made, notes = described([machine("192.0.2.1", ca_key=None), WORKER])
    assert made["cluster"]["certificateAuthority"] == {"kind": "operator", "directory": "ca"}
    assert any(note.startswith("/etc/kubernetes/pki/ca.key: no control-plane host has the CA's key") for note in notes)


def test_an_external_etcd_stays_where_it_is_and_its_files_come_along() -> None:
    names = {"caFile": "/x/ca.crt", "certFile": "/x/client.crt", "keyFile": "/x/client.key"}
    etcd = {"local": None, "external": {"endpoints": ["https://192.0.2.50:2379"], **names}}
    found = standing(registered(PLANE), configuration={"etcd": etcd})
    files = {"etcd/ca.crt": b"ca", "etcd/client.crt": b"crt", "etcd/client.key": b"key"}
    made = adoption.describe(creating.given([PLANE.name]), [PLANE], found, files)
    assert yaml.safe_load(made.text)["cluster"]["etcd"] == {
        "external": {
            "endpoints": ["https://192.0.2.50:2379"],
            "caFile": "etcd/ca.crt",
            "certFile": "etcd/client.crt",
            "keyFile": "etcd/client.key",
        }
    }
    assert made.files == files
    assert "b'key'" not in repr(made)
    assert ids(refused([PLANE], found)) == [("", "adopt-broken")] * 3


def test_configurations_that_are_gone_are_told_and_taken_for_the_defaults() -> None:
    made, notes = described([machine("192.0.2.1", config=None)], standing(registered(PLANE), kubelet={}, kube_proxy={}))
    assert {"kubelet", "kubeProxy"}.isdisjoint(made["cluster"])
    assert "kubelet" not in made["hosts"][0]
    missing = [note.split(":")[0] for note in notes if "the defaults are taken" in note]
    assert missing == [f"the ConfigMap kube-system/{name}" for name in ("kubelet-config", "kube-proxy")]


def test_every_machine_that_cannot_be_adopted_is_told_at_once() -> None:
    now = datetime.datetime.now(datetime.UTC)
    stranger = pki.certificate_pem(pki.self_signed("kubernetes", pki.new_key("ECDSA-P256"), Cluster(), now))
    given = [
        PLANE,
        machine("192.0.2.11", "worker", kubelet=None),
        machine("192.0.2.12", "worker", ca=stranger),
        machine("192.0.2.13", "worker", ca=b"nonsense"),
        machine("192.0.2.14", "worker", instance=b"containerRuntimeEndpoint: unix:///var/run/crio/crio.sock\n"),
        holding(machine("192.0.2.15", "worker", kubelet=None), "/etc/systemd/system/k3s.service", b"x"),
        holding(machine("192.0.2.16", "worker", kubelet=None), "/var/lib/kubelet/kubeconfig", b"x"),
        replace(WORKER, facts=replace(WORKER.facts, architecture="arm64")),
    ]
    assert ids(refused(given)) == [
        ("192.0.2.11", "adopt-no-node"),
        ("192.0.2.13", "adopt-broken"),
        ("192.0.2.14", "adopt-runtime"),
        ("192.0.2.15", "adopt-not-kubeadm"),
        ("192.0.2.16", "adopt-not-kubeadm"),
        ("192.0.2.3", "adopt-architecture"),
        ("192.0.2.12", "adopt-other-cluster"),
    ]


def test_a_cluster_cannot_be_adopted_by_its_workers_or_without_an_admin() -> None:
    assert ids(refused([WORKER])) == [("", "adopt-no-control-plane")]
    assert ids(refused([machine("192.0.2.1", admin=None)])) == [("", "adopt-broken")]


def test_a_machine_without_a_node_and_one_that_is_named_twice_are_refused() -> None:
    again = replace(PLANE, given=PLANE.given.model_copy(update={"address": "gateway.example.com"}))
    problems = refused([PLANE, again, WORKER], standing(registered(PLANE)))
    assert ids(problems) == [("gateway.example.com", "adopt-twice"), ("192.0.2.3", "adopt-no-node")]


def test_a_version_that_is_not_ours_and_a_port_that_cannot_be_are_refused() -> None:
    plane = serving(PLANE, "--secure-port=7443")
    found = standing(registered(plane), configuration={"kubernetesVersion": "v1.36.3"}, version="1.36.3")
    assert ids(refused([plane], found)) == [("", "adopt-version"), ("192.0.2.1", "adopt-port")]


def asked(server: ApiServer) -> Standing:
    plane = serving(PLANE, "--advertise-address=127.0.0.1", f"--secure-port={server.port}")
    return ask([WORKER, plane], {plane.given.name: LocalHost(plane.given.name)})


def test_a_cluster_is_asked_by_the_admin_of_a_control_plane(server: ApiServer) -> None:
    system = "/api/v1/namespaces/kube-system/configmaps"
    server.put(f"{system}/kubeadm-config", {"data": {"ClusterConfiguration": CONFIGURATION}})
    server.put(f"{system}/kubelet-config", {"data": {"kubelet": "maxPods: 50\n"}})
    server.put("/apis/apps/v1/namespaces/kube-system/deployments/coredns", {"spec": {"replicas": 3}})
    flannel = {"metadata": {"name": "kube-flannel-ds", "namespace": "kube-flannel"}}
    server.objects["/apis/apps/v1/daemonsets"] = {"items": [flannel, {"metadata": {"name": "x", "namespace": "y"}}]}
    server.objects["/version"] = {"gitVersion": "v1.37.2"}
    server.objects["/api/v1/nodes"] = {"items": [registered(PLANE)]}
    found = asked(server)
    assert (found.kubelet, found.kube_proxy, found.coredns_replicas) == ({"maxPods": 50}, None, 3)
    assert (found.networks, found.has_our_flannel, found.version) == (["kube-flannel/kube-flannel-ds"], False, "1.37.2")
    assert found.configuration["clusterName"] == "prod"
    assert {request.headers["Peer"] for request in server.requests} == {"kubernetes-admin"}
    assert {request.method for request in server.requests} == {"GET"}


def test_a_cluster_that_kubeadm_did_not_make_or_that_does_not_answer_is_refused(server: ApiServer) -> None:
    with pytest.raises(AdoptionRefused) as error:
        asked(server)
    assert ids(error.value.problems) == [("", "adopt-not-kubeadm")]
    server.before = lambda _: apiserver.status(403, "Forbidden", "no")
    with pytest.raises(AdoptionRefused) as error:
        asked(server)
    assert ids(error.value.problems) == [("192.0.2.1", "adopt-no-api")]


def test_every_reason_not_to_adopt_is_documented() -> None:
    text = (ROOT / "docs" / "adopt.md").read_text()
    assert [name for name in get_args(AdoptId) if f"| `{name}` |" not in text] == []


def test_a_refusal_has_a_line_for_each_problem() -> None:
    refusal = AdoptionRefused(refused([WORKER]))
    assert str(refusal) == (
        "no control plane runs on any of these hosts; name the cluster's control-plane hosts, too "
        "[adopt-no-control-plane]"
    )
    assert refusal.exit_code == 3
