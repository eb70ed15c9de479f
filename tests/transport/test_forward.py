"""What comes through an SSH server's forwarding behaves as a socket, for a client as demanding as TLS."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Server, inventory

from bootstrap.api import Api
from bootstrap.errors import ApiUnreachable, ConnectionLost
from bootstrap.transport.base import Host
from bootstrap.transport.ssh import connect
from tests.apiserver import ApiServer, pki, serving


@pytest.fixture
def api_server(tmp_path: Path) -> Iterator[ApiServer]:
    with serving(tmp_path) as running:
        yield running


def client(host: Host, port: int, seconds: float = 60) -> Api:
    return Api.connect(host, "127.0.0.1", port, server_name="kubernetes", ca=pki("ca.crt"), seconds=seconds)


def config_map(text: str) -> dict[str, object]:
    metadata = {"name": "a", "namespace": "kube-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"text": text}}


def test_the_api_server_is_asked_from_the_machine(host: Host, api_server: ApiServer) -> None:
    text = "0123456789abcdef" * 60_000
    with client(host, api_server.port) as api:
        api.apply(config_map(text))
        found = api.get_object("v1", "ConfigMap", "a", "kube-system")
    assert found is not None
    assert found["data"] == {"text": text}
    assert api_server.connections == 1


def test_an_api_server_that_the_machine_cannot_reach_is_told_so(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with client(host, port, 0.5) as api, pytest.raises(ApiUnreachable, match=f"{host.name}: .*127.0.0.1:{port}"):
        api.get("/version")


def test_a_lost_machine_is_told_apart_from_a_silent_api_server(server: Server, api_server: ApiServer) -> None:
    target = server.host()
    with connect(inventory(target), target) as host, client(host, api_server.port) as api:
        assert api.get_object("v1", "Node", "n1") is None
        host.close()
        with pytest.raises(ConnectionLost):
            api.get_object("v1", "Node", "n1")
