"""Joining of control planes by a certificate key: what is refused before anything is done, and how etcd is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bootstrap import certificate_key, cli, inviting, uploading
from bootstrap.api import Api
from bootstrap.errors import CertificateKeyWrong, ConfigError, TokenRefused
from bootstrap.etcd import asking
from bootstrap.spec import Cluster
from bootstrap.transport.base import Result
from bootstrap.transport.local import LocalHost
from tests import apiserver
from tests.apiserver import ApiServer, status

KEY = certificate_key.make()
SECRET = "/api/v1/namespaces/kube-system/secrets/kubeadm-certs"
FILES = {path: f"what is in {path}\n".encode() for path in certificate_key.FILES.values()}
OURS = Cluster.model_validate({"name": "prod", "endpoint": {"kind": "external", "name": "api.example.com"}})
THEIRS: dict[str, Any] = {
    "clusterName": "prod",
    "controlPlaneEndpoint": "api.example.com:6443",
    "kubernetesVersion": "v1.37.2",
    "networking": {"dnsDomain": "cluster.local", "serviceSubnet": "10.96.0.0/12", "podSubnet": "10.244.0.0/16"},
    "certificatesDir": "/etc/kubernetes/pki",
}


@pytest.mark.parametrize(
    "configuration",
    [
        THEIRS,
        THEIRS | {"controlPlaneEndpoint": "api.example.com"},
        THEIRS | {"networking": {}},
        {key: value for key, value in THEIRS.items() if key != "certificatesDir"},
    ],
)
def test_an_inventory_may_say_what_the_cluster_does(configuration: dict[str, Any]) -> None:
    inviting.require_same(OURS, configuration)


def test_everything_in_which_an_inventory_differs_from_the_cluster_is_told_at_once() -> None:
    other = {
        "controlPlaneEndpoint": "other.example.com:443",
        "kubernetesVersion": "v1.37.1",
        "networking": {"dnsDomain": "corp", "serviceSubnet": "172.20.0.0/16", "podSubnet": "10.1.0.0/16"},
        "certificatesDir": "/srv/pki",
        "etcd": {"external": {"endpoints": ["https://192.0.2.1:2379"]}},
    }
    with pytest.raises(ConfigError) as refused:
        inviting.require_same(OURS, other)
    lines = str(refused.value).splitlines()
    assert [line.strip().partition(":")[0].partition(",")[0] for line in lines[1:]] == [
        "cluster.name",
        "cluster.endpoint",
        "cluster.kubernetesVersion",
        "cluster.networking.dnsDomain",
        "cluster.networking.serviceSubnet",
        "cluster.networking.podSubnet",
        "the folder of certificates",
        "cluster.etcd",
    ]
    assert "'prod', and the cluster has 'kubernetes'" in lines[1]


def test_a_virtual_address_is_not_shared_with_hosts_that_are_not_known() -> None:
    endpoint = {"kind": "vip", "name": "api.example.com", "address": "192.0.2.9", "port": 6443}
    cluster = OURS.model_copy(update={"endpoint": Cluster.model_validate({"endpoint": endpoint}).endpoint})
    with pytest.raises(ConfigError, match="must know all the others"):
        inviting.require_same(cluster, THEIRS)


def test_a_cluster_without_an_endpoint_takes_no_second_control_plane() -> None:
    with pytest.raises(ConfigError, match="can have no second control plane"):
        inviting.require_same(OURS, THEIRS | {"controlPlaneEndpoint": ""})


@pytest.fixture
def api(server: ApiServer) -> Iterator[Api]:
    """From the machine that joins."""
    conf = apiserver.files()["/etc/kubernetes/admin.conf"]
    with Api.from_kubeconfig(LocalHost("cp2"), conf, address="127.0.0.1", port=server.port, seconds=10) as opened:
        yield opened


def test_what_was_uploaded_is_downloaded(server: ApiServer, api: Api) -> None:
    owner = {"metadata": {"name": "bootstrap-token-abcdef", "uid": "1"}}
    server.put(SECRET, certificate_key.secret_manifest(FILES, KEY, owner=owner))
    assert uploading.download(api, KEY) == FILES
    with pytest.raises(CertificateKeyWrong):
        uploading.download(api, certificate_key.make())


def test_each_way_of_getting_nothing_says_what_to_do(server: ApiServer, api: Api) -> None:
    with pytest.raises(ConfigError, match="two hours are over; upload it"):
        uploading.download(api, KEY)
    server.before = lambda _: status(403, "Forbidden", "cannot get secrets")
    with pytest.raises(TokenRefused, match=r"cp2: the token may not read .* upload it"):
        uploading.download(api, KEY)


class Machine(LocalHost):
    """Notes what it is told to run."""

    def __init__(self) -> None:
        super().__init__("cp2")
        self.commands: list[str] = []

    def run(self, command: str, *, on_line: Callable[[bytes], None] | None = None, **_: Any) -> Result:
        self.commands.append(command)
        if on_line:
            on_line(b'{"members": []}')
        return Result(0, b"", b"")


def test_a_member_elsewhere_is_asked_at_its_own_address_from_the_machine() -> None:
    machine = Machine()
    for host in (machine, asking.Elsewhere(machine, "https://192.0.2.9:2379")):
        assert asking.call(host, "/v3/cluster/member/list") == {"members": []}
        assert host.name == "cp2"
    assert "--server https://127.0.0.1:2379" in machine.commands[0]
    assert "--server https://192.0.2.9:2379" in machine.commands[1]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--control-plane"], "--control-plane goes with --server"),
        (["--certificate-key-file", "key"], "--certificate-key-file goes with --control-plane"),
        (["--server", "a:1", "--control-plane", "--dry-run"], "leave --control-plane out"),
        (
            ["--server", "a:1", "--control-plane", "--token-file", "-", "--certificate-key-file", "-"],
            "--token-file and --certificate-key-file cannot both be standard input",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["join", *arguments]) == 2
    assert why in capsys.readouterr().err


def test_a_malformed_certificate_key_is_refused_without_repeating_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "inventory.yaml").write_text(
        "apiVersion: kubestrap.io/v1alpha1\nkind: Inventory\n"
        "hosts:\n  - {name: cp2, address: 192.0.2.1, roles: [control-plane]}\n"
    )
    (tmp_path / "key").write_text("ab" * 31)
    (tmp_path / "token").write_text("abcdef.0123456789abcdef")
    by = ["--server", "192.0.2.1:6443", "--ca-cert-hash", f"sha256:{'0' * 64}", "--token-file", str(tmp_path / "token")]
    key = ["--control-plane", "--certificate-key-file", str(tmp_path / "key")]
    assert cli.run(["join", "-i", str(tmp_path / "inventory.yaml"), *by, *key]) == 2
    told = capsys.readouterr().err
    assert "64 hexadecimal digits" in told
    assert "abab" not in told
