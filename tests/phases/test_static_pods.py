from __future__ import annotations

from typing import Any

import pytest

from bootstrap.phases import static_pods
from bootstrap.site import Facts, Site
from tests.builders import node, site


def pod(name: str, described: Site) -> dict[str, Any]:
    (found,) = [each for each in static_pods.pods(described, described.nodes[0]) if each.name == name]
    return static_pods.manifest(described, described.nodes[0], found)


def command(name: str, described: Site) -> list[str]:
    arguments: list[str] = pod(name, described)["spec"]["containers"][0]["command"]
    return arguments


def cluster(key: str, **settings: Any) -> Site:
    return site(cluster={key: {"local": settings} if key == "etcd" else settings})


COMPONENTS = {
    "etcd": "etcd",
    "apiServer": "kube-apiserver",
    "controllerManager": "kube-controller-manager",
    "scheduler": "kube-scheduler",
}
EACH = pytest.mark.parametrize(("key", "name"), COMPONENTS.items(), ids=COMPONENTS.values())


@EACH
def test_given_arguments_come_last_in_their_order_and_take_the_place_of_defaults(key: str, name: str) -> None:
    defaults = command(name, site())
    taken = defaults[1].partition("=")[0].removeprefix("--")
    given = [{"name": "zz", "value": "2"}, {"name": taken, "value": "mine"}, {"name": "zz", "value": "1"}]
    assert command(name, cluster(key, extraArgs=given)) == [
        *(argument for argument in defaults if not argument.startswith(f"--{taken}=")),
        "--zz=2",
        f"--{taken}=mine",
        "--zz=1",
    ]


@EACH
def test_default_arguments_are_in_order_of_their_names(key: str, name: str) -> None:
    flags = [argument.partition("=")[0] for argument in command(name, site())[1:]]
    assert flags == sorted(flags)


@EACH
def test_given_variables_are_set(key: str, name: str) -> None:
    container = pod(name, cluster(key, extraEnvs=[{"name": "A", "value": "true"}]))["spec"]["containers"][0]
    assert container["env"] == [{"name": "A", "value": "true"}]


@EACH
def test_the_image_is_the_bundles(key: str, name: str) -> None:
    assert pod(name, site())["spec"]["containers"][0]["image"] == site().image(name)


@EACH
def test_values_that_yaml_would_read_otherwise_stay_texts(key: str, name: str) -> None:
    value = "{#: yes, \"no\" \\ 'x' - *a"
    assert command(name, cluster(key, extraArgs=[{"name": "zz", "value": value}]))[-1] == f"--zz={value}"


def test_a_given_volume_takes_the_place_of_ours_of_the_same_name() -> None:
    given = {"name": "ca-certs", "hostPath": "/srv/ca", "mountPath": "/etc/ssl/certs", "readOnly": True}
    made = pod("kube-apiserver", cluster("apiServer", extraVolumes=[given]))["spec"]
    assert [each for each in made["volumes"] if each["name"] == "ca-certs"] == [
        {"name": "ca-certs", "hostPath": {"path": "/srv/ca", "type": ""}}
    ]
    mounts = made["containers"][0]["volumeMounts"]
    assert [each["name"] for each in mounts] == ["ca-certs", "k8s-certs"]


def test_etcds_volumes_are_mounted_in_kubeadms_order_since_another_one_restarts_it() -> None:
    made = pod("etcd", site())["spec"]
    assert [each["name"] for each in made["volumes"]] == ["etcd-certs", "etcd-data"]
    assert [each["name"] for each in made["containers"][0]["volumeMounts"]] == ["etcd-data", "etcd-certs"]


def test_folders_of_certificates_that_a_machine_has_are_mounted() -> None:
    host = node(facts=Facts(hostname="master", ca_folders=("/usr/share/ca-certificates",)))
    for name in ("kube-apiserver", "kube-controller-manager"):
        volumes = {each["name"]: each["hostPath"] for each in pod(name, site(host))["spec"]["volumes"]}
        assert volumes["usr-share-ca-certificates"] == {
            "path": "/usr/share/ca-certificates",
            "type": "DirectoryOrCreate",
        }
    assert len(pod("kube-scheduler", site(host))["spec"]["volumes"]) == 1


def test_an_authorization_config_takes_the_place_of_the_modes() -> None:
    described = cluster("apiServer", extraArgs=[{"name": "authorization-config", "value": "/etc/authz.yaml"}])
    assert not any(argument.startswith("--authorization-mode") for argument in command("kube-apiserver", described))


@pytest.mark.parametrize(
    ("address", "host"), [("192.0.2.10", "192.0.2.10"), ("0.0.0.0", None), ("::", None)], ids=["one", "all", "all-6"]
)
def test_probes_ask_where_the_component_listens(address: str, host: str | None) -> None:
    given = [{"name": "bind-address", "value": address}]
    container = pod("kube-scheduler", cluster("scheduler", extraArgs=given))["spec"]["containers"][0]
    assert container["livenessProbe"]["httpGet"].get("host") == host


def test_probes_of_etcd_ask_the_first_address_for_metrics() -> None:
    given = [{"name": "listen-metrics-urls", "value": "http://192.0.2.10:3381,http://127.0.0.1:2381"}]
    container = pod("etcd", cluster("etcd", extraArgs=given))["spec"]["containers"][0]
    assert container["ports"][0]["containerPort"] == 3381
    assert container["startupProbe"]["httpGet"]["host"] == "192.0.2.10"


def test_the_startup_probe_lasts_as_long_as_the_limit_for_healthy_components() -> None:
    described = site(cluster={"timeouts": {"controlPlaneComponentHealthCheck": "95s"}})
    assert pod("etcd", described)["spec"]["containers"][0]["startupProbe"]["failureThreshold"] == 10


def test_a_ca_without_its_key_signs_nothing() -> None:
    whole = site()
    files = {path: data for path, data in whole.files["master"].items() if not path.endswith("pki/ca.key")}
    described = Site(whole.cluster, whole.nodes, whole.contents, {"master": files})
    arguments = command("kube-controller-manager", described)
    assert "--cluster-signing-key-file=" in arguments
    assert "--cluster-signing-cert-file=" in arguments


def test_another_port_of_the_endpoint_is_what_the_api_server_listens_on() -> None:
    described = site(cluster={"endpoint": {"kind": "local-proxy", "port": 7443}})
    made = pod("kube-apiserver", described)
    assert "--secure-port=7443" in made["spec"]["containers"][0]["command"]
    assert made["metadata"]["annotations"].popitem()[1] == "192.0.2.10:7443"


def test_a_load_balancers_port_is_not_the_api_servers() -> None:
    described = site(cluster={"endpoint": {"kind": "external", "name": "api.example.com", "port": 443}})
    assert "--secure-port=6443" in command("kube-apiserver", described)
