from __future__ import annotations

import base64
import datetime
import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml
from cryptography import x509

from bootstrap import kubeconfig, paths
from bootstrap.errors import ConfigError, PkiRefused
from bootstrap.site import Facts, Node, Token
from bootstrap.spec import ApiServer, Cluster, ExternalEndpoint, Host

NOW = datetime.datetime(2026, 5, 17, 12, 0, tzinfo=datetime.UTC)
CLUSTER = Cluster(name="prod")
CA = f"{paths.PKI}/ca.crt"


def node(name: str = "cp1", address: str = "192.0.2.11", files: Mapping[str, bytes] | None = None) -> Node:
    host = Host.model_validate({"name": name, "address": address, "roles": ["control-plane"]})
    return Node(host, address, Facts(files=files or {}))


@functools.cache
def fresh() -> Mapping[str, bytes]:
    return kubeconfig.site_files(CLUSTER, [node()], NOW)["cp1"]


def again(
    files: Mapping[str, bytes], cluster: Cluster = CLUSTER, now: datetime.datetime = NOW, *, bootstrapped: bool = True
) -> set[str]:
    """Which files a host that holds `files`, and its kubelet a certificate of its own, gets anew."""
    held = node(files=files)
    held = replace(held, facts=replace(held.facts, bootstrapped=bootstrapped))
    made = kubeconfig.site_files(cluster, [held], now)["cp1"]
    return {path for path in made if made[path] != files.get(path)}


def leaf(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(kubeconfig.parse(fresh()[path], path).certificate)


@pytest.mark.parametrize(
    ("path", "user", "subject", "server"),
    [
        (
            paths.ADMIN_CONF,
            "kubernetes-admin",
            "CN=kubernetes-admin,O=kubeadm:cluster-admins",
            "api.prod.cluster.local",
        ),
        (
            paths.SUPER_ADMIN_CONF,
            "kubernetes-super-admin",
            "CN=kubernetes-super-admin,O=system:masters",
            "api.prod.cluster.local",
        ),
        (paths.KUBELET_CONF, "system:node:cp1", "CN=system:node:cp1,O=system:nodes", "192.0.2.11"),
        (
            paths.CONTROLLER_MANAGER_CONF,
            "system:kube-controller-manager",
            "CN=system:kube-controller-manager",
            "192.0.2.11",
        ),
        (paths.SCHEDULER_CONF, "system:kube-scheduler", "CN=system:kube-scheduler", "192.0.2.11"),
    ],
)
def test_kubeconfigs_are_what_kubeadm_makes(path: str, user: str, subject: str, server: str) -> None:
    config = yaml.safe_load(fresh()[path])
    assert config["current-context"] == f"{user}@prod"
    assert config["contexts"] == [{"name": f"{user}@prod", "context": {"cluster": "prod", "user": user}}]
    assert [entry["name"] for entry in config["clusters"]] == ["prod"]
    assert [entry["name"] for entry in config["users"]] == [user]
    assert config["clusters"][0]["cluster"]["server"] == f"https://{server}:6443"
    assert base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]) == fresh()[CA]
    certificate = leaf(path)
    assert certificate.subject.rfc4514_string() == subject
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(fresh()[CA]))


def test_what_a_host_holds_stays_byte_for_byte() -> None:
    assert again(fresh()) == set()


def test_a_missing_kubeconfig_is_made_and_no_other() -> None:
    held = {path: data for path, data in fresh().items() if path != paths.SCHEDULER_CONF}
    assert again(held) == {paths.SCHEDULER_CONF}


@pytest.mark.parametrize("data", [b"", b"{", b"a: b", b"\xff\xfe", b"kind: Config\ncurrent-context: x\n"])
def test_a_broken_kubeconfig_is_made_again(data: bytes) -> None:
    assert again({**fresh(), paths.ADMIN_CONF: data}) == {paths.ADMIN_CONF}


def test_another_endpoint_makes_the_kubeconfigs_that_name_it_again() -> None:
    moved = CLUSTER.model_copy(update={"endpoint": ExternalEndpoint(kind="external", name="lb.example.com")})
    assert again(fresh(), moved) == {paths.ADMIN_CONF, paths.SUPER_ADMIN_CONF, f"{paths.PKI}/apiserver.crt"}


def test_expired_kubeconfigs_are_made_again() -> None:
    made = again(fresh(), now=NOW + datetime.timedelta(days=366))
    assert {row.path for row in kubeconfig.ROWS} <= made


def test_a_kubeconfig_of_another_user_is_made_again() -> None:
    assert again({**fresh(), paths.ADMIN_CONF: fresh()[paths.SUPER_ADMIN_CONF]}) == {paths.ADMIN_CONF}


def test_a_kubeconfig_of_another_cluster_is_made_again() -> None:
    foreign = kubeconfig.site_files(CLUSTER, [node()], NOW)["cp1"][paths.ADMIN_CONF]
    assert again({**fresh(), paths.ADMIN_CONF: foreign}) == {paths.ADMIN_CONF}


def test_a_finalized_kubelet_conf_is_kept() -> None:
    finalized = kubeconfig.kubelet_finalized(CLUSTER, node(), fresh()[CA])
    assert again({**fresh(), paths.KUBELET_CONF: finalized}) == set()
    config = kubeconfig.parse(finalized, "kubelet.conf")
    assert config.certificate_file == config.key_file == "/var/lib/kubelet/pki/kubelet-client-current.pem"
    assert config.server == "https://192.0.2.11:6443"


def test_a_finalized_kubelet_conf_that_points_to_nothing_is_made_again() -> None:
    finalized = kubeconfig.kubelet_finalized(CLUSTER, node(), fresh()[CA])
    assert again({**fresh(), paths.KUBELET_CONF: finalized}, bootstrapped=False) == {paths.KUBELET_CONF}
    assert again(fresh(), bootstrapped=False) == set()


def test_only_the_first_control_plane_gets_super_admin_conf_anew() -> None:
    made = kubeconfig.site_files(CLUSTER, [node(), node("cp2", "192.0.2.12")], NOW)
    assert paths.SUPER_ADMIN_CONF in made["cp1"]
    assert paths.SUPER_ADMIN_CONF not in made["cp2"]
    assert kubeconfig.parse(made["cp2"][paths.SCHEDULER_CONF], "").server == "https://192.0.2.12:6443"


def test_another_control_plane_gets_no_super_admin_conf_while_the_first_is_away() -> None:
    held = dict(kubeconfig.site_files(CLUSTER, [node(), node("cp2", "192.0.2.12")], NOW)["cp2"])
    for first in ("cp1", ""):
        made = kubeconfig.site_files(CLUSTER, [node("cp2", "192.0.2.12", files=held)], NOW, first=first)
        assert made["cp2"] == held


def test_without_the_cas_key_a_missing_kubeconfig_is_a_problem_beside_all_others() -> None:
    held = {path: data for path, data in fresh().items() if path not in (paths.ADMIN_CONF, f"{paths.PKI}/ca.key")}
    with pytest.raises(PkiRefused) as refused:
        kubeconfig.site_files(
            CLUSTER.model_copy(update={"api_server": ApiServer(cert_sans=("new.example.com",))}),
            [node(files=held)],
            NOW,
        )
    assert [problem.path for problem in refused.value.problems] == [f"{paths.PKI}/apiserver.crt", paths.ADMIN_CONF]


def test_ipv6_servers_stand_in_brackets() -> None:
    assert kubeconfig.own_server(CLUSTER, node(address="2001:db8::11")) == "https://[2001:db8::11]:6443"
    assert kubeconfig.Kubeconfig("https://[2001:db8::11]:6443", b"").name == "2001:db8::11"


def test_a_joining_kubelet_begins_with_the_token() -> None:
    data = kubeconfig.bootstrap_kubelet("https://api.prod:6443", b"CA", Token("abcdef", "0123456789abcdef"))
    config = yaml.safe_load(data)
    assert config["current-context"] == "tls-bootstrap-token-user@kubernetes"
    assert config["users"] == [{"name": "tls-bootstrap-token-user", "user": {"token": "abcdef.0123456789abcdef"}}]
    parsed = kubeconfig.parse(data, "bootstrap-kubelet.conf")
    assert (parsed.server, parsed.port, parsed.ca) == ("https://api.prod:6443", 6443, b"CA")


def test_a_kubeconfig_does_not_show_its_secrets_when_printed_as_a_value() -> None:
    assert "KEY" not in repr(kubeconfig.Kubeconfig("https://x:1", b"", b"CERT", b"KEY", "TOKEN"))


def test_the_operators_copy_is_called_by_the_clusters_name() -> None:
    data = kubeconfig.for_operator(fresh()[paths.ADMIN_CONF], "prod", server="https://192.0.2.99:6443")
    config = yaml.safe_load(data)
    assert config["current-context"] == "prod"
    assert config["contexts"] == [{"name": "prod", "context": {"cluster": "prod", "user": "prod"}}]
    ours, admin = kubeconfig.parse(data, ""), kubeconfig.parse(fresh()[paths.ADMIN_CONF], "")
    assert (ours.ca, ours.certificate, ours.key) == (admin.ca, admin.certificate, admin.key)
    assert ours.server == "https://192.0.2.99:6443"


def entries(*names: str, server: str = "https://x:6443") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server}} for name in names],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in names],
        "users": [{"name": name, "user": {"token": "t"}} for name in names],
        "current-context": names[0],
    }


def test_merging_replaces_ours_and_keeps_the_others() -> None:
    theirs = {**entries("a", "prod", server="https://old:6443"), "preferences": {"colors": True}}
    merged = yaml.safe_load(kubeconfig.merge(yaml.safe_dump(theirs).encode(), yaml.safe_dump(entries("prod")).encode()))
    assert [entry["name"] for entry in merged["clusters"]] == ["a", "prod"]
    assert [entry["cluster"]["server"] for entry in merged["clusters"]] == ["https://old:6443", "https://x:6443"]
    assert [len(merged[kind]) for kind in ("contexts", "users")] == [2, 2]
    assert merged["current-context"] == "prod"
    assert merged["preferences"] == {"colors": True}


def test_merging_twice_is_merging_once() -> None:
    ours = yaml.safe_dump(entries("prod")).encode()
    once = kubeconfig.merge(yaml.safe_dump(entries("a")).encode(), ours)
    assert kubeconfig.merge(once, ours) == once


@pytest.mark.parametrize("existing", [b"", b"\n"])
def test_merging_into_nothing_gives_ours(existing: bytes) -> None:
    ours = yaml.safe_dump(entries("prod")).encode()
    assert kubeconfig.merge(existing, ours) == ours


@pytest.mark.parametrize("existing", [b"{", b"[]", b"kind: Pod", b"clusters: 7", b"users: [x]", b"\xff\xfe\xfd"])
def test_merging_into_what_is_no_kubeconfig_is_refused_by_name(existing: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^/home/me/\.kube/config is not a kubeconfig"):
        kubeconfig.merge(existing, yaml.safe_dump(entries("prod")).encode(), source="/home/me/.kube/config")
