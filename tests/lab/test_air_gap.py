"""A cluster made of bare machines where nothing but the operator's machine and they can be reached.

What the first machine needs is sent to it, from a bundle that was carried there as one file; the second fetches it from
a server. Costs about 2 min, and 1 GB of disk for a while.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bootstrap.bundle import cache, catalog
from bootstrap.lab import Lab, network
from bootstrap.lab.calls import call
from tests.lab.clusters import Cluster, changes
from tests.lab.conftest import lab_of

ISLAND = "ks-air-gap"
BUNDLE = cache.bundle(catalog.kubernetes_version(), catalog.PLATFORM)
PROBE = "import errno, socket; print(errno.errorcode[socket.socket().connect_ex(('192.0.2.1', 443))])"


def _run(*words: str, stdin: str = "", any_status: bool = False) -> str:
    return call(*words, stdin=stdin, seconds=60, any_status=any_status).stdout


def _remove_island() -> None:
    _run("ip", "netns", "delete", ISLAND, any_status=True)
    _run("nft", "delete", "table", "inet", ISLAND, any_status=True)


@contextmanager
def _island(lab: Lab) -> Iterator[tuple[str, ...]]:
    """Have a network with nothing in it but the lab's machines; give what a command there begins with.

    What the machines send elsewhere, which no lab lets out, is counted.
    """
    there = network.find(lab.name)
    assert there
    _remove_island()
    try:
        _run("ip", "netns", "add", ISLAND)
        _run("ip", "link", "add", "ks-gap", "type", "veth", "peer", "name", "eth0", "netns", ISLAND)
        _run("ip", "link", "set", "ks-gap", "master", there.bridge, "up")
        _run("ip", "-n", ISLAND, "address", "add", f"{_operator(lab)}/{there.subnet.prefixlen}", "dev", "eth0")
        for link in ("lo", "eth0"):
            _run("ip", "-n", ISLAND, "link", "set", link, "up")
        leaving = f'iifname "{there.bridge}" oifname != "{there.bridge}" counter'
        hook = "type filter hook forward priority -300;"
        _run("nft", "-f", "-", stdin=f"table inet {ISLAND} {{\nchain leaving {{\n{hook}\n{leaving}\n}}\n}}\n")
        yield "/usr/sbin/ip", "netns", "exec", ISLAND
    finally:
        _remove_island()


def _operator(lab: Lab) -> str:
    return str(lab.subnet[250])


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two bare machines, an operator on their island, and the bundle as one file beside the inventory."""
    with lab_of("gap", machines=2) as lab, _island(lab) as within:
        cluster = Cluster(lab, tmp_path_factory.mktemp("gap"), within)
        cluster.kubestrap("bundle", "build", "--from", BUNDLE, "--to", "kubernetes.tar")
        yield cluster
        (cluster.home / "kubernetes.tar").unlink()


def _from_a_file(data: dict[str, Any]) -> None:
    data.setdefault("cluster", {})["bundle"] = {"path": "kubernetes.tar"}


def test_a_control_plane_is_made_from_one_file_where_nothing_else_can_be_reached(cut_off: Cluster) -> None:
    assert "default" not in _run("ip", "-n", ISLAND, "route")
    assert cut_off.python("-c", PROBE).stdout == "ENETUNREACH\n"
    cut_off.write_inventory(["cp1"], _from_a_file)
    cut_off.kubestrap("init")


def test_a_machine_fetches_from_a_server_what_the_bundle_has(cut_off: Cluster) -> None:
    def from_a_server(data: dict[str, Any]) -> None:
        _from_a_file(data)
        data["cluster"]["bundle"]["url"] = f"http://{_operator(cut_off.lab)}:8000/bundle"

    cut_off.write_inventory([machine.name for machine in cut_off.lab.machines], from_a_server)
    told = cut_off.kubestrap("join", status=1).stderr
    assert f"worker1: phase prepare/runtime: /usr/local/bin/containerd: http://{_operator(cut_off.lab)}:8000" in told
    assert "could not be fetched: curl: (7)" in told

    (cut_off.home / "served").mkdir()
    (cut_off.home / "served/bundle").symlink_to(BUNDLE)
    words = ("-m", "http.server", "--directory", str(cut_off.home / "served"), "--bind", _operator(cut_off.lab), "8000")
    with subprocess.Popen([*cut_off.within, sys.executable, *words], stderr=subprocess.PIPE, text=True) as server:
        try:
            assert any("containerd" in line for line in changes(cut_off.kubestrap("join").stderr))
        finally:
            server.terminate()
        assert server.stderr
        fetched = [line for line in server.stderr.read().splitlines() if '"GET /bundle/blobs/sha256/' in line]
    assert len(fetched) > 15
    assert all(" 200 " in line for line in fetched)
    cut_off.kubestrap("verify")
    cut_off.kubestrap("status")
    counted = _run("nft", "list", "chain", "inet", ISLAND, "leaving")
    assert "counter packets 0 bytes 0" in counted, counted
