"""Phases whose steps are done at the API server: what the golden files do not show."""

from __future__ import annotations

import json
from base64 import b64decode
from hashlib import sha256
from typing import Any

import pytest
import yaml

from bootstrap.phases import addons, bootstrap_token, marks, upload_config
from bootstrap.site import Contents, ImageArtifact, Site
from bootstrap.steps import ApiObject, ApiWait, NodeMarks, Step
from tests.builders import contents, node, site


def objects(steps: list[Step]) -> dict[tuple[str, str], Any]:
    return {
        (step.manifest["kind"], step.manifest["metadata"]["name"]): step.manifest
        for step in steps
        if isinstance(step, ApiObject)
    }


def with_images(described: Site, **references: str) -> Site:
    images = tuple(
        ImageArtifact(
            image.name, references.get(image.name.replace("-", "_"), image.reference), image.target, image.digest, 1
        )
        for image in contents().images
    )
    bundle = Contents("1.37.2", "linux/amd64", contents().binaries, images)
    return Site(described.cluster, described.nodes, bundle, described.files, described.joining)


def test_administrators_get_their_rights_before_anything_else() -> None:
    first = next(upload_config.kubeadm_steps(site(), node()))
    assert isinstance(first, ApiObject)
    assert first.manifest["metadata"]["name"] == "kubeadm:cluster-admins"


def test_tags_of_our_images_are_what_a_joining_kubeadm_will_ask_for() -> None:
    made = upload_config.cluster_configuration(site())
    assert made["imageRepository"] == "registry.k8s.io"
    assert made["etcd"]["local"]["imageTag"] == "3.7.3-0"
    assert made["dns"] == {"imageTag": "v1.14.6"}


def test_images_of_another_repository_are_named_with_it() -> None:
    described = with_images(
        site(), kube_apiserver="mirror.example.com/k8s/kube-apiserver:v1.37.2", etcd="quay.io/coreos/etcd:v3.7.3"
    )
    made = upload_config.cluster_configuration(described)
    assert made["imageRepository"] == "mirror.example.com/k8s"
    assert made["etcd"]["local"]["imageRepository"] == "quay.io/coreos"
    assert made["dns"]["imageRepository"] == "registry.k8s.io/coredns"


def test_what_is_not_installed_is_said_to_be_disabled() -> None:
    described = site(cluster={"kubeProxy": {"disabled": True}, "addons": {"coredns": {"disabled": True}}})
    made = upload_config.cluster_configuration(described)
    assert made["proxy"] == {"disabled": True}
    assert made["dns"] == {"disabled": True}


@pytest.mark.parametrize(
    ("written", "uploaded"), [("8760h", "8760h0m0s"), ("90m", "1h30m0s"), ("61s", "1m1s"), ("30s", "30s")]
)
def test_durations_are_written_as_kubeadm_writes_them(written: str, uploaded: str) -> None:
    made = upload_config.cluster_configuration(site(cluster={"certificateValidityPeriod": written}))
    assert made["certificateValidityPeriod"] == uploaded


def test_a_kubelet_configuration_that_nobody_changed_carries_its_hash() -> None:
    made = objects(list(upload_config.kubelet_steps(site(), node())))[("ConfigMap", "kubelet-config")]
    digest = sha256(made["data"]["kubelet"].encode()).hexdigest()
    assert made["metadata"]["annotations"] == {"kubeadm.kubernetes.io/component-config.hash": f"sha256:{digest}"}


def test_a_kubelet_configuration_of_the_users_carries_none() -> None:
    described = site(cluster={"kubelet": {"config": {"maxPods": 50}}})
    made = objects(list(upload_config.kubelet_steps(described, node())))[("ConfigMap", "kubelet-config")]
    assert "annotations" not in made["metadata"]


def test_cluster_info_tells_the_endpoint_and_the_ca_and_nothing_else() -> None:
    described = site()
    info = yaml.safe_load(bootstrap_token.cluster_info(described, described.nodes[0]))
    (cluster,) = info["clusters"]
    assert cluster["name"] == ""
    assert cluster["cluster"]["server"] == "https://api.kubernetes.cluster.local:6443"
    authority = b64decode(cluster["cluster"]["certificate-authority-data"])
    assert authority == described.files["master"]["/etc/kubernetes/pki/ca.crt"]
    assert info["users"] is None
    assert info["contexts"] is None


def marked(described: Site) -> list[NodeMarks]:
    return [step for step in marks.control_plane_steps(described, described.nodes[0]) if isinstance(step, NodeMarks)]


def test_a_control_plane_node_is_tainted() -> None:
    (mark,) = marked(site())
    assert mark.taints == (("node-role.kubernetes.io/control-plane", "", "NoSchedule"),)
    assert not mark.absent_taints


def test_a_node_of_both_roles_has_no_taint_and_both_labels() -> None:
    (mark,) = marked(site(node("both", "control-plane", "worker")))
    assert mark.taints == ()
    assert mark.absent_taints == (("node-role.kubernetes.io/control-plane", "NoSchedule"),)
    assert {"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/worker"} <= set(dict(mark.labels))


def test_given_taints_take_the_place_of_the_usual_one() -> None:
    given = [{"key": "example.com/own", "value": "x", "effect": "NoExecute"}]
    (mark,) = marked(site(node(taints=given)))
    assert mark.taints == (("example.com/own", "x", "NoExecute"),)


def test_a_node_is_marked_when_it_is_there() -> None:
    described = site()
    wait, _ = marks.control_plane_steps(described, described.nodes[0])
    assert isinstance(wait, ApiWait)
    assert wait.until({"kind": "Node"}) is True
    assert wait.until(None) == "there is no such Node yet"


def test_a_worker_gets_its_role_and_all_that_its_kubelet_gave_it_when_it_registered() -> None:
    labels = {"node-role.kubernetes.io/edge": "", "example.com/rack": "r1"}
    worker = node("worker", "worker", labels=labels, taints=[{"key": "gpu", "value": "a", "effect": "NoSchedule"}])
    (mark,) = marks.worker_steps(site(worker), worker)
    assert isinstance(mark, NodeMarks)
    assert dict(mark.labels) == {**labels, "node-role.kubernetes.io/worker": ""}
    assert mark.taints == (("gpu", "a", "NoSchedule"),)
    assert mark.remembered == ("example.com/rack", "gpu:NoSchedule", "node-role.kubernetes.io/edge")


def test_a_control_plane_that_is_a_worker_no_more_is_known_by_what_is_remembered() -> None:
    both, alone = (node("cp", "control-plane", *more) for more in (("worker",), ()))
    (_, first), (_, then) = (tuple(marks.control_plane_steps(site(each), each)) for each in (both, alone))
    assert isinstance(first, NodeMarks)
    assert isinstance(then, NodeMarks)
    assert first.remembered == ("node-role.kubernetes.io/worker",)
    assert then.remembered == ()
    assert "node-role.kubernetes.io/worker" not in dict(then.labels)


def test_without_rights_a_worker_is_not_marked() -> None:
    worker = node("worker", "worker")
    assert not list(marks.worker_steps(site(worker, admin=False), worker))


@pytest.mark.parametrize(
    ("cluster", "steps"),
    [
        ({"addons": {"cni": "none"}}, addons.flannel_steps),
        ({"addons": {"coredns": {"disabled": True}}}, addons.coredns_steps),
        ({"kubeProxy": {"disabled": True}}, addons.kube_proxy_steps),
    ],
    ids=["flannel", "coredns", "kube-proxy"],
)
def test_an_addon_that_is_not_wanted_is_not_installed(cluster: dict[str, Any], steps: Any) -> None:
    assert not list(steps(site(cluster=cluster), node()))


def daemon_set(steps: list[Step]) -> dict[str, Any]:
    (found,) = [manifest for (kind, _), manifest in objects(steps).items() if kind == "DaemonSet"]
    template: dict[str, Any] = found["spec"]["template"]
    return template


@pytest.mark.parametrize(
    ("cluster", "steps"),
    [
        ({"kubeProxy": {"config": {"mode": "nftables"}}}, addons.kube_proxy_steps),
        ({"addons": {"flannel": {"backend": "host-gw"}}}, addons.flannel_steps),
        ({"networking": {"podSubnet": "10.100.0.0/16"}}, addons.flannel_steps),
    ],
    ids=["mode", "backend", "network"],
)
def test_pods_are_rolled_when_their_configuration_changes(cluster: dict[str, Any], steps: Any) -> None:
    before, after = (daemon_set(list(steps(each, node()))) for each in (site(), site(cluster=cluster)))
    assert before["metadata"]["annotations"] != after["metadata"]["annotations"]
    assert before["spec"] == after["spec"]


def test_the_networks_configuration_is_json_with_the_pod_subnet() -> None:
    data = objects(list(addons.flannel_steps(site(), node())))[("ConfigMap", "kube-flannel-cfg")]["data"]
    assert json.loads(data["net-conf.json"]) == {
        "Network": "10.244.0.0/16",
        "EnableNFTables": False,
        "Backend": {"Type": "vxlan", "Port": 8472},
    }
    assert [plugin["type"] for plugin in json.loads(data["cni-conf.json"])["plugins"]] == ["flannel", "portmap"]


def test_flannel_asks_the_endpoint_and_not_the_service() -> None:
    described = site(cluster={"endpoint": {"kind": "external", "name": "api.example.com", "port": 443}})
    (container,) = daemon_set(list(addons.flannel_steps(described, node())))["spec"]["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert variables["KUBERNETES_SERVICE_HOST"] == "api.example.com"
    assert variables["KUBERNETES_SERVICE_PORT"] == "443"


def test_an_edited_corefile_stays() -> None:
    kept = [
        step.manifest["metadata"]["name"]
        for step in addons.coredns_steps(site(), node())
        if isinstance(step, ApiObject) and step.unless_exists
    ]
    assert kept == ["coredns"]
