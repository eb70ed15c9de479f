"""What is on machines where etcd is not on the control plane: on hosts of its own, or with others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from bootstrap import paths
from bootstrap.phases import INIT, kubelet, static_pods, upload_config, wait_control_plane
from bootstrap.plan import build
from bootstrap.site import Site
from bootstrap.steps import Command, File, Image, Step, Wait
from tests.builders import node, site

EXTERNAL: Mapping[str, Any] = {
    "endpoints": ["https://etcd1.example.com:2379", "https://etcd2.example.com:2379"],
    "caFile": "/srv/ca.pem",
    "certFile": "/srv/client.pem",
    "keyFile": "/srv/client.key",
}


def own_hosts() -> Site:
    return site(
        node("cp1", address="192.0.2.10"),
        node("etcd1", "etcd", address="192.0.2.51"),
        node("etcd2", "etcd", address="192.0.2.52"),
        cluster={"kubelet": {"config": {"failSwapOn": False, "serverTLSBootstrap": True}}},
    )


def external() -> Site:
    return site(node("cp1", address="192.0.2.10"), cluster={"etcd": {"external": EXTERNAL}})


def steps(described: Site, host: str) -> list[Step]:
    tasks = build(INIT, described, nodes=described.nodes).tasks
    return [step for task in tasks if task.node.name == host for step in task.steps]


def written(described: Site, host: str) -> dict[str, str]:
    return {step.path: step.data.decode() for step in steps(described, host) if isinstance(step, File)}


def flag(files: Mapping[str, str], component: str, name: str) -> str:
    command = yaml.safe_load(files[static_pods.path(component)])["spec"]["containers"][0]["command"]
    return next(argument.partition("=")[2] for argument in command if argument.startswith(f"--{name}="))


def test_hosts_of_the_role_form_one_etcd_and_know_nothing_of_kubernetes() -> None:
    files = written(own_hosts(), "etcd1")
    assert [path for path in files if path.startswith(paths.MANIFESTS)] == [static_pods.path("etcd")]
    members = "etcd1=https://192.0.2.51:2380,etcd2=https://192.0.2.52:2380"
    assert flag(files, "etcd", "initial-cluster") == members
    names = ("ca.key", "ca.crt", "server.key", "server.crt", "peer.key", "peer.crt")
    names += ("healthcheck-client.key", "healthcheck-client.crt")
    pki = [path for path in files if path.startswith(paths.PKI)]
    assert sorted(pki) == sorted(f"{paths.PKI}/etcd/{name}" for name in names)
    assert not [path for path in files if path.endswith(".conf") and path.startswith(f"{paths.KUBERNETES}/")]


def test_their_kubelets_run_static_pods_and_listen_to_nobody() -> None:
    files = written(own_hosts(), "etcd1")
    config = yaml.safe_load(files[paths.KUBELET_CONFIG])
    assert config["staticPodPath"] == paths.MANIFESTS
    assert config["enableServer"] is False
    assert config["authentication"] == {"anonymous": {"enabled": False}, "webhook": {"enabled": False}}
    assert config["authorization"] == {"mode": "AlwaysAllow"}
    assert not {"rotateCertificates", "serverTLSBootstrap", "clusterDNS", "clusterDomain"} & set(config)
    assert config["failSwapOn"] is False
    assert "kubeconfig" not in files[paths.KUBELET_DROP_IN]
    # One that has no certificate of a Node's is not to be stopped for it.
    assert not [
        step for step in steps(own_hosts(), "etcd1") if isinstance(step, Command) and "certificate" in step.title
    ]


def test_they_get_no_image_but_etcds_and_wait_for_it_alone() -> None:
    found = steps(own_hosts(), "etcd1")
    assert sorted(step.reference.rpartition("/")[2] for step in found if isinstance(step, Image)) == [
        "etcd:3.7.3-0",
        "pause:3.10.2",
    ]
    described = own_hosts()
    *_, wait = (step for step in wait_control_plane.steps(described, described.nodes[1]) if isinstance(step, Wait))
    assert wait.what == "etcd to answer and to run steadily"
    assert "kube-apiserver" not in wait.until


def test_their_control_plane_asks_all_members_and_has_no_key_of_their_ca() -> None:
    described = own_hosts()
    files = {**described.files, "cp1": dict(described.files["cp1"])}
    files["cp1"].pop(f"{paths.PKI}/etcd/ca.key")
    found = written(Site(described.cluster, described.nodes, described.contents, files), "cp1")
    assert flag(found, "kube-apiserver", "etcd-servers") == "https://192.0.2.51:2379,https://192.0.2.52:2379"
    assert static_pods.path("etcd") not in found
    assert [path for path in found if "/pki/" in path and "etcd" in path] == [
        f"{paths.PKI}/etcd/ca.crt",
        f"{paths.PKI}/apiserver-etcd-client.key",
        f"{paths.PKI}/apiserver-etcd-client.crt",
    ]


def test_an_external_etcd_is_asked_at_its_endpoints_and_nothing_of_it_is_made() -> None:
    found = written(external(), "cp1")
    endpoints = ",".join(EXTERNAL["endpoints"])
    assert flag(found, "kube-apiserver", "etcd-servers") == endpoints
    assert flag(found, "kube-apiserver", "etcd-cafile") == f"{paths.PKI}/etcd/ca.crt"
    assert static_pods.path("etcd") not in found
    assert f"{paths.PKI}/etcd/server.crt" not in found
    images = [step.reference for step in steps(external(), "cp1") if isinstance(step, Image)]
    assert not [reference for reference in images if "/etcd:" in reference]


def test_kubeadm_is_told_that_etcd_is_external_in_both_cases() -> None:
    files = {
        "caFile": f"{paths.PKI}/etcd/ca.crt",
        "certFile": f"{paths.PKI}/apiserver-etcd-client.crt",
        "keyFile": f"{paths.PKI}/apiserver-etcd-client.key",
    }
    told = upload_config.cluster_configuration(external())["etcd"]
    assert told == {"external": {"endpoints": EXTERNAL["endpoints"], **files}}
    told = upload_config.cluster_configuration(own_hosts())["etcd"]
    assert told == {"external": {"endpoints": ["https://192.0.2.51:2379", "https://192.0.2.52:2379"], **files}}


def test_where_the_control_plane_serves_etcds_hosts_are_changed_first_and_one_by_one() -> None:
    described = own_hosts()
    turns = [stage for stage in build(INIT, described, nodes=described.nodes, in_turn=True).stages if stage.turn]
    assert [stage.hosts for stage in turns] == [("etcd1",), ("etcd2",), ("cp1",)]


def test_what_the_inventory_has_for_an_etcd_hosts_own_kubelet_is_kept() -> None:
    given = node("etcd1", "etcd", address="192.0.2.51", kubelet={"config": {"enableServer": True, "port": 10251}})
    config = kubelet.standalone_config(own_hosts().cluster, given)
    assert (config["enableServer"], config["port"]) == (True, 10251)
