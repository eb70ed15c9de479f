from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bootstrap import patching, paths
from bootstrap.errors import PatchesRefused
from bootstrap.patching import Patches
from bootstrap.phases import addons, kubelet, runtime, static_pods, upload_config, wait_control_plane
from bootstrap.site import Node, Site
from bootstrap.steps import ApiObject, File, Wait
from tests.builders import node, patches, site

VERBOSE = "- {op: add, path: /spec/containers/0/command/-, value: --v=4}\n"


def given(folder: Path, **files: str) -> Patches:
    """Write files named by their targets, with _ for -, and what follows __ after a +."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name.replace('__', '+').replace('_', '-')}.yaml").write_text(text)
    return patches(folder)


def written(steps: Any, path: str) -> Any:
    (data,) = [step.data for step in steps if isinstance(step, File) and step.path == path]
    return yaml.safe_load(data)


def made(described: Site, component: str, member: Node | None = None) -> dict[str, Any]:
    where = member or described.nodes[0]
    (pod,) = [pod for pod in static_pods.pods(described, where) if pod.name == component]
    return static_pods.manifest(described, where, pod)


def asked(steps: Any) -> str:
    (wait,) = [step.until for step in steps if isinstance(step, Wait) and "run steadily" in step.what]
    return str(wait)


@pytest.mark.parametrize("component", patching.PODS)
def test_the_manifest_is_written_with_the_patches_of_its_component_alone(component: str, tmp_path: Path) -> None:
    described = site(cluster={"patches": given(tmp_path, **{f"{component.replace('-', '_')}__json": VERBOSE})})
    plain = site()
    for name in patching.PODS:
        before, after = made(plain, name), made(described, name)
        if name == component:
            before["spec"]["containers"][0]["command"].append("--v=4")
        assert after == before


def test_patches_of_a_host_come_after_those_of_the_cluster_and_are_its_own(tmp_path: Path) -> None:
    own = given(tmp_path / "own", kube_scheduler="metadata: {annotations: {from: host, own: 'yes'}}\n")
    shared = given(tmp_path / "all", kube_scheduler="metadata: {annotations: {from: cluster, shared: 'yes'}}\n")
    described = site(node("one", patches=own), node("two", address="192.0.2.12"), cluster={"patches": shared})
    first, second = (made(described, "kube-scheduler", member)["metadata"]["annotations"] for member in described.nodes)
    assert first == {"from": "host", "own": "yes", "shared": "yes"}
    assert second == {"from": "cluster", "shared": "yes"}


def test_the_components_own_container_stays_the_first(tmp_path: Path) -> None:
    """What looks into a manifest on a machine (recovery of etcd, diagnosis) finds it there."""
    sidecar = "spec: {containers: [{name: a-sidecar, image: registry.k8s.io/pause}]}\n"
    pod = made(site(cluster={"patches": given(tmp_path, etcd=sidecar)}), "etcd")
    assert [container["name"] for container in pod["spec"]["containers"]] == ["etcd", "a-sidecar"]


def test_the_wait_for_the_control_plane_asks_where_patched_components_answer(tmp_path: Path) -> None:
    patch = """
spec:
  containers:
    - name: kube-scheduler
      ports: [{name: probe-port, containerPort: 10259, $patch: delete}, {name: other, containerPort: 20259}]
      livenessProbe: {httpGet: {port: other, host: 192.0.2.10}}
      readinessProbe: {httpGet: {port: other, host: 192.0.2.10}}
      startupProbe: {httpGet: {port: 20259, host: 192.0.2.10}}
"""
    held = given(tmp_path, kube_scheduler=patch)
    described = site(cluster={"patches": held})
    script = asked(wait_control_plane.steps(described, described.nodes[0]))
    assert "--server https://192.0.2.10:20259" in script
    assert ":10259" not in script
    assert ":10259" in asked(wait_control_plane.steps(site(), site().nodes[0]))


def test_another_certificate_of_the_api_server_is_not_taken_for_ours(tmp_path: Path) -> None:
    container = made(site(), "kube-apiserver")["spec"]["containers"][0]
    at = next(at for at, word in enumerate(container["command"]) if word.startswith("--tls-cert-file="))
    patch = f"- {{op: replace, path: /spec/containers/0/command/{at}, value: --tls-cert-file=/etc/mine.crt}}\n"
    described = site(cluster={"patches": given(tmp_path, kube_apiserver__json=patch)})
    served = f"--certificate-authority {paths.PKI}/apiserver.crt"
    assert served in asked(wait_control_plane.steps(site(), site().nodes[0]))
    assert served not in asked(wait_control_plane.steps(described, described.nodes[0]))


def test_every_kubelet_gets_its_configuration_patched_and_the_cluster_keeps_the_plain_one(tmp_path: Path) -> None:
    """As with kubeadm: what is stored for joining nodes is not patched, each patches it for itself."""
    own = given(tmp_path / "own", kubeletconfiguration="healthzPort: 10999\n")
    shared = given(tmp_path / "all", kubeletconfiguration__merge="{maxPods: 42, clusterDNS: null}\n")
    described = site(node(), node("worker", "worker", patches=own), cluster={"patches": shared})
    master, worker = described.nodes
    assert written(kubelet.start_steps(described, master), paths.KUBELET_CONFIG)["maxPods"] == 42
    config = written(kubelet.join_steps(described, worker), paths.KUBELET_CONFIG)
    assert (config["maxPods"], config["healthzPort"], "clusterDNS" in config) == (42, 10999, False)
    assert "127.0.0.1:10999" in kubelet.answers(described.cluster, worker, kubelet.cluster_config(described.cluster))
    (stored,) = [
        step.manifest["data"]["kubelet"]
        for step in upload_config.kubelet_steps(described, master)
        if isinstance(step, ApiObject) and step.manifest["kind"] == "ConfigMap"
    ]
    assert "maxPods" not in stored


def test_what_only_a_machine_knows_of_its_kubelet_can_be_patched_too(tmp_path: Path) -> None:
    held = given(tmp_path, kubeletconfiguration__json="- {op: replace, path: /resolvConf, value: /etc/mine}\n")
    assert kubelet.host_config(site(cluster={"patches": held}).cluster, node().host)["resolvConf"] == "/etc/mine"
    assert "resolvConf" not in kubelet.host_config(site().cluster, node().host)


def test_the_add_ons_of_the_cluster_are_patched(tmp_path: Path) -> None:
    held = given(
        tmp_path,
        corednsdeployment="spec: {template: {spec: {containers: [{name: coredns, env: [{name: A, value: b}]}]}}}\n",
        kubeproxydaemonset__json="- {op: add, path: /metadata/labels/patched, value: 'yes'}\n",
    )
    described = site(cluster={"patches": held})

    def object_of(steps: Any, kind: str) -> Any:
        (found,) = [step.manifest for step in steps if isinstance(step, ApiObject) and step.manifest["kind"] == kind]
        return found

    dns = object_of(addons.coredns_steps(described, described.nodes[0]), "Deployment")
    assert dns["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "A", "value": "b"}]
    proxy = object_of(addons.kube_proxy_steps(described, described.nodes[0]), "DaemonSet")
    assert proxy["metadata"]["labels"]["patched"] == "yes"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("kube_apiserver", "metadata:\n  namespace: default\n", ":2:3: it changes metadata.namespace"),
        ("kube_apiserver__merge", "kind: Deployment\n", ":1:1: it changes kind"),
        (
            "kube_scheduler__json",
            "- {op: replace, path: /metadata/name, value: x}\n",
            ":1:17: it changes metadata.name",
        ),
        (
            "etcd",
            "spec:\n  containers:\n    - {name: etcd, $patch: delete}\n",
            ":2:3: it leaves no container etcd",
        ),
        ("etcd__merge", "spec: null\n", ":1:1: it changes spec.hostNetwork"),
        ("etcd", "spec: {hostNetwork: false}\n", ":1:8: it changes spec.hostNetwork"),
        (
            "etcd",
            "spec:\n  containers:\n    - {name: etcd, command: [etcd, --data-dir=/srv]}\n",
            ":2:3: it changes etcd's --data-dir: the data are looked for there: set cluster.etcd.local.dataDir",
        ),
        (
            "etcd",
            "spec:\n  volumes:\n    - {name: etcd-data, hostPath: {path: /srv}}\n",
            ":2:3: it changes etcd's volume etcd-data",
        ),
        (
            "kube_scheduler",
            "spec: {containers: [{name: kube-scheduler, command: run}]}\n",
            ":1:8: it leaves the container kube-scheduler no command that is a list of text",
        ),
    ],
)
def test_what_would_make_a_component_unusable_is_refused_at_its_place(
    name: str, text: str, told: str, tmp_path: Path
) -> None:
    described = site(cluster={"patches": given(tmp_path, **{name: text})})
    component = name.partition("__")[0].replace("_", "-")
    with pytest.raises(PatchesRefused) as refused:
        made(described, component)
    assert told in str(refused.value)


@pytest.mark.parametrize("key", ["staticPodPath", "containerRuntimeEndpoint", "cgroupDriver", "kind"])
def test_a_kubelet_keeps_what_the_rest_goes_by(key: str, tmp_path: Path) -> None:
    described = site(cluster={"patches": given(tmp_path, kubeletconfiguration=f"{key}: other\n")})
    with pytest.raises(PatchesRefused, match=f":1:1: it changes {key}"):
        kubelet.host_config(described.cluster, described.nodes[0].host)


def test_add_ons_keep_their_selector_and_container(tmp_path: Path) -> None:
    held = given(tmp_path, corednsdeployment="spec: {selector: {matchLabels: {a: b}}}\n")
    described = site(cluster={"patches": held})
    with pytest.raises(PatchesRefused, match=r"it changes spec\.selector"):
        list(addons.coredns_steps(described, described.nodes[0]))


def test_every_misfit_of_a_component_is_told_at_once(tmp_path: Path) -> None:
    held = given(
        tmp_path,
        kube_scheduler0__json="- {op: remove, path: /spec/nothing}\n",
        kube_scheduler1="metadata: {name: other}\n",
        kube_scheduler2__json=VERBOSE,
    )
    with pytest.raises(PatchesRefused) as refused:
        made(site(cluster={"patches": held}), "kube-scheduler")
    assert [Path(misfit.file).name for misfit in refused.value.misfits] == [
        "kube-scheduler0+json.yaml",
        "kube-scheduler1.yaml",
    ]


# --- settings of one host


@pytest.mark.parametrize(
    ("key", "steps", "component"),
    [
        ("apiServer", static_pods.apiserver_steps, "kube-apiserver"),
        ("controllerManager", static_pods.controller_manager_steps, "kube-controller-manager"),
        ("scheduler", static_pods.scheduler_steps, "kube-scheduler"),
        ("etcd", static_pods.etcd_steps, "etcd"),
    ],
)
def test_flags_and_variables_of_one_host_are_put_upon_the_clusters(key: str, steps: Any, component: str) -> None:
    def settings(*pairs: tuple[str, str]) -> dict[str, Any]:
        named = [{"name": name, "value": value} for name, value in pairs]
        inner = {"extraArgs": named, "extraEnvs": named}
        return {key: {"local": inner} if key == "etcd" else inner}

    one = node("one", **settings(("v", "4"), ("own", "1")))
    two = node("two", address="192.0.2.12")
    described = site(one, two, cluster=settings(("v", "2"), ("shared", "1")))

    def told(member: Node) -> tuple[list[str], dict[str, str]]:
        container = written(steps(described, member), static_pods.path(component))["spec"]["containers"][0]
        return container["command"][-3:], {variable["name"]: variable["value"] for variable in container["env"]}

    assert told(one) == (["--shared=1", "--v=4", "--own=1"], {"shared": "1", "v": "4", "own": "1"})
    assert told(two)[0][-2:] == ["--v=2", "--shared=1"]
    assert told(two)[1] == {"v": "2", "shared": "1"}


def test_a_volume_of_one_host_takes_the_place_of_the_clusters() -> None:
    def volume(path: str) -> dict[str, Any]:
        return {"scheduler": {"extraVolumes": [{"name": "data", "hostPath": path, "mountPath": "/data"}]}}

    described = site(node("one", **volume("/own")), node("two"), cluster=volume("/shared"))
    found = [
        volume["hostPath"]["path"]
        for member in described.nodes
        for volume in made(described, "kube-scheduler", member)["spec"]["volumes"]
        if volume["name"] == "data"
    ]
    assert found == ["/own", "/shared"]


def test_containerd_of_one_host_is_told_its_own() -> None:
    own = {"containerd": {"config": {"plugins": {"a": {"x": 1}}}}}
    described = site(node("one", **own), node("two"), cluster={"containerd": {"config": {"plugins": {"a": {"y": 2}}}}})
    one, two = (runtime.config(described, member.host)["plugins"]["a"] for member in described.nodes)
    assert (one, two) == ({"x": 1, "y": 2}, {"y": 2})
