"""The commands as a user types them, on three members that answer as real ones do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bootstrap import cli, connections, inventory
from bootstrap.connections import Connections
from bootstrap.errors import Unreachable
from tests.etcd.members import DATABASE, SNAPSHOT, Etcd, streamed

NAMES = ("cp1", "cp2", "cp3")
INVENTORY = "apiVersion: kubestrap.io/v1alpha1\nkind: Inventory\nhosts:\n" + "".join(
    f"  - {{name: {name}, address: 192.0.2.{number}, roles: [control-plane]}}\n" for number, name in enumerate(NAMES, 1)
)


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Etcd:
    """Three members, of which `cp1` leads; `cp3` cannot be reached."""
    etcd = Etcd(NAMES)

    @contextmanager
    def connected(_: object, machines: Any) -> Iterator[Connections]:
        assert [machine.name for machine in machines] == list(NAMES)
        reached = {name: host for name, host in etcd.hosts.items() if name != "cp3"}
        yield Connections(reached, {"cp3": Unreachable("cp3", "no route to 192.0.2.3")})

    monkeypatch.setattr(connections, "connected", connected)
    monkeypatch.setattr(inventory, "require_supported", lambda _: None)
    monkeypatch.chdir(tmp_path)
    Path("inventory.yaml").write_text(INVENTORY)
    return etcd


def test_members_that_answer_are_shown_and_the_host_that_does_not_is_named(
    etcd: Etcd, capsys: pytest.CaptureFixture[str]
) -> None:
    etcd.states["cp2"]["errors"] = ["memberID:2 alarm:NOSPACE "]
    assert cli.run(["etcd", "status"]) == 8
    told = capsys.readouterr()
    rows = [line.split() for line in told.out.splitlines()[1:]]
    assert [(row[0], row[1], row[-4], row[-1]) for row in rows] == [
        ("cp1", "1", "leader", "none"),
        ("cp2", "2", "follower", "NOSPACE"),
    ]
    assert "cp3: no route to 192.0.2.3" in told.err
    assert "Warning: cp2: alarm NOSPACE" in told.err


def test_programs_get_the_same_as_data(etcd: Etcd, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["etcd", "status", "--output", "json"]) == 8
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (data,) = [line["data"] for line in lines if line["event"] == "result"]
    assert [(member["name"], member["leader"], member["size"]) for member in data["members"]] == [
        ("cp1", True, 8192),
        ("cp2", False, 8192),
    ]
    assert [error["host"] for error in lines[-1]["errors"]] == ["cp3"]


def test_a_snapshot_comes_from_a_follower_though_a_host_is_not_reached(
    etcd: Etcd, capsys: pytest.CaptureFixture[str]
) -> None:
    etcd.on = lambda name, path, body: streamed(SNAPSHOT, total=len(DATABASE)) if path.endswith("/snapshot") else None
    assert cli.run(["etcd", "snapshot", "save", "a.db"]) == 0
    assert etcd.calls("/v3/maintenance/snapshot") == ["cp2"]
    assert "Warning: cp3: no route" in capsys.readouterr().err
    assert cli.run(["etcd", "snapshot", "status", "a.db"]) == 0
    assert Path("a.db").read_bytes() == SNAPSHOT


def test_no_snapshot_is_taken_where_nobody_knows_which_cluster_it_would_be_of(
    etcd: Etcd, capsys: pytest.CaptureFixture[str]
) -> None:
    etcd.states["cp2"]["header"]["cluster_id"] = "99"
    assert cli.run(["etcd", "snapshot", "save", "a.db"]) == 1
    assert "the members are in different clusters: cp1 in c1, cp2 in 63" in capsys.readouterr().err
    assert not Path("a.db").exists()
