"""Which control-plane host a command takes: an API server that is ready, of hosts that are of one cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootstrap import paths, run
from bootstrap.errors import ConfigError, PkiRefused
from bootstrap.site import Facts, Node
from bootstrap.spec import Inventory
from bootstrap.transport.local import LocalHost
from tests import apiserver

CA = f"{paths.PKI}/ca.crt"
HELD = {CA: b"ca", paths.ADMIN_CONF: b"conf"}


def inventory(port: int = 6443) -> Inventory:
    hosts = [{"name": f"cp{number}", "address": f"192.0.2.{number}", "roles": ["control-plane"]} for number in (1, 2)]
    return Inventory.model_validate({"cluster": {"endpoint": {"kind": "local-proxy", "port": port}}, "hosts": hosts})


def nodes(*held: dict[str, bytes]) -> list[Node]:
    hosts = inventory().hosts
    return [Node(host, str(host.address), Facts(files=files)) for host, files in zip(hosts, held, strict=True)]


@contextmanager
def ready_on(folder: Path, *names: str) -> Iterator[tuple[Inventory, dict[str, LocalHost]]]:
    """An API server that is ready, which only the named hosts lead to."""

    class Unable(LocalHost):
        def dial(self, address: str, port: int, *, seconds: float) -> object:  # type: ignore[override]
            raise ConnectionRefusedError(f"{address}:{port} refuses")

    with apiserver.serving(folder) as api:
        api.objects["/readyz"] = {"metadata": {}}
        yield inventory(api.port), {name: (LocalHost if name in names else Unable)(name) for name in ("cp1", "cp2")}


def test_the_first_whose_api_server_is_ready_is_taken(tmp_path: Path) -> None:
    for names, taken in ((("cp1", "cp2"), "cp1"), (("cp2",), "cp2")):
        with ready_on(tmp_path, *names) as (described, hosts):
            assert run.control_plane_of(described, hosts, nodes(HELD, HELD)).node.name == taken


def test_one_that_holds_nothing_is_passed_over() -> None:
    hosts = {"cp1": LocalHost("cp1"), "cp2": LocalHost("cp2")}
    assert run.control_plane_of(inventory(), hosts, nodes({}, HELD)).node.name == "cp2"
    with pytest.raises(ConfigError, match="cp1: there is no control plane yet"):
        run.control_plane_of(inventory(), hosts, nodes({}, {}))


def test_hosts_of_two_clusters_are_named_both() -> None:
    hosts = {"cp1": LocalHost("cp1"), "cp2": LocalHost("cp2")}
    with pytest.raises(PkiRefused) as refused:
        run.control_plane_of(inventory(), hosts, nodes(HELD, {**HELD, CA: b"other"}))
    assert "cp2: /etc/kubernetes/pki/ca.crt differs from that on cp1" in str(refused.value)
