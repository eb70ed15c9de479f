"""Mirrors, logins and proxies on a machine: there with `init`, gone with the inventory's. One machine, about 60 s."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from bootstrap import paths
from tests.apiserver import pki
from tests.lab.clusters import Cluster, changes

LOGIN = '{"auths": {"mirror.example.com": {"username": "me", "password": "pass-word"}}}'
SENT = "bWU6cGFzcy13b3Jk"
"""The login as it is sent."""

FILES = f"find {paths.REGISTRIES} -name hosts.toml -printf '%m %P\\n' | sort"
ENVIRONMENT = "tr '\\0' '\\n' <\"/proc/$(systemctl show --property=MainPID --value containerd)/environ\""


@pytest.fixture(scope="module")
def machine(new_cluster: Callable[[str, int], AbstractContextManager[Cluster]]) -> Iterator[Cluster]:
    """A machine that is prepared."""
    with new_cluster("registries", 1) as made:
        yield made


def with_registries(data: dict[str, Any]) -> None:
    data.setdefault("cluster", {})["registries"] = {
        "mirrors": {"docker.io": ["https://mirror.example.com/hub"], "*": ["https://other.example.com"]},
        "authFile": "logins.json",
        "caFile": "ca.pem",
        "httpsProxy": "http://proxy.example.com:3128",
    }


def test_registries_come_and_go_with_the_inventory(machine: Cluster) -> None:
    folder = machine.inventory.parent
    (folder / "logins.json").write_text(LOGIN)
    (folder / "ca.pem").write_bytes(pki("ca.crt"))
    machine.write_inventory(["cp1"], with_registries)

    for arguments in (("init", "--until", "prepare", "--dry-run"), ("init", "--until", "prepare")):
        said = machine.kubestrap(*arguments)
        assert "hosts.toml" in said.stdout + said.stderr
        assert SENT not in said.stdout + said.stderr
    assert machine.on("cp1", FILES).splitlines() == [
        "600 docker.io/hosts.toml",
        "600 mirror.example.com/hosts.toml",
        "644 _default/hosts.toml",
    ]
    assert machine.on("cp1", f"cat {paths.REGISTRIES_CA}").encode() == pki("ca.crt")
    assert "HTTPS_PROXY=http://proxy.example.com:3128" in machine.on("cp1", ENVIRONMENT).splitlines()
    assert changes(machine.kubestrap("init", "--until", "prepare").stderr) == []

    machine.write_inventory(["cp1"])
    machine.kubestrap("init", "--until", "prepare")
    assert machine.on("cp1", FILES) == ""
    assert machine.on("cp1", f"ls {paths.REGISTRIES_CA} {paths.CONTAINERD_PROXY} 2>/dev/null || true") == ""
    assert "HTTPS_PROXY" not in machine.on("cp1", ENVIRONMENT)
    assert changes(machine.kubestrap("init", "--until", "prepare").stderr) == []
