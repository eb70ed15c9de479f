"""What `init` finds out before anything is planned, by real TLS."""

from __future__ import annotations

import datetime
import socket
from pathlib import Path

import pytest

from bootstrap import kubeconfig, paths
from bootstrap.errors import HostError
from bootstrap.run import operators_kubeconfig, strangers_at_the_endpoint
from bootstrap.site import Node
from bootstrap.spec import Cluster, Inventory
from bootstrap.spec import Host as Machine
from bootstrap.transport.local import LocalHost
from tests import apiserver

HOSTS = {"cp1": LocalHost("cp1")}


def at(port: int) -> Cluster:
    return Cluster.model_validate({"endpoint": {"kind": "external", "name": "127.0.0.1", "port": port}})


def test_f35_an_endpoint_at_which_another_cluster_answers_is_refused(tmp_path: Path) -> None:
    node = Node(Machine(name="cp1", address="127.0.0.1", roles=("control-plane",)), "127.0.0.1")
    another = kubeconfig.site_files(Cluster(), [node], datetime.datetime.now(datetime.UTC))
    with apiserver.serving(tmp_path) as server:
        assert strangers_at_the_endpoint(HOSTS, at(server.port), {"cp1": apiserver.files()}) == {}
        found = strangers_at_the_endpoint(HOSTS, at(server.port), another)
        assert isinstance(found["cp1"], HostError)
        assert f"another cluster answers at the endpoint 127.0.0.1:{server.port}" in str(found["cp1"])
        local = Cluster.model_validate({"endpoint": {"kind": "local-proxy", "port": server.port}})
        assert strangers_at_the_endpoint(HOSTS, local, another) == {}


def test_f35_an_endpoint_at_which_nobody_answers_yet_is_none(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert strangers_at_the_endpoint(HOSTS, at(port), {"cp1": {f"{paths.PKI}/ca.crt": apiserver.pki("ca.crt")}}) == {}


@pytest.mark.parametrize(
    ("endpoint", "server"),
    [
        ({"kind": "local-proxy"}, "https://192.0.2.1:6443"),
        ({"kind": "external", "name": "api.example.com"}, "https://api.example.com:6443"),
        ({"kind": "vip", "address": "192.0.2.100"}, "https://192.0.2.100:8443"),
    ],
)
def test_the_operators_kubeconfig_names_what_he_can_reach(endpoint: dict[str, str], server: str) -> None:
    host = Machine.model_validate({"name": "cp1", "address": "192.0.2.1", "roles": ["control-plane"]})
    inventory = Inventory.model_validate({"cluster": {"endpoint": endpoint}, "hosts": [host]})
    made = operators_kubeconfig(inventory, Node(host, "192.0.2.1"), apiserver.files()[paths.ADMIN_CONF])
    assert kubeconfig.parse(made, "made").server == server
