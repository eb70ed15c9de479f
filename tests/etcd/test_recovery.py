"""In what order hosts are recovered, and what becomes of a run that stops; the machines' part is in tests/lab."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from bootstrap.errors import HostError, HostsFailed, StepFailed, WaitTimedOut
from bootstrap.etcd import recovery, snapshots
from bootstrap.etcd.survivors import SURVIVOR, Choice, Machine
from bootstrap.spec import Cluster
from bootstrap.transport.base import Result
from bootstrap.transport.local import LocalHost
from tests.etcd.members import DATABASE, SNAPSHOT

FLAGS = {
    "name": "cp1",
    "data-dir": "/var/lib/etcd",
    "initial-advertise-peer-urls": "https://192.0.2.1:2380",
    "advertise-client-urls": "https://192.0.2.1:2379",
}
SOURCE = Machine("cp1", FLAGS, "registry.example/etcd:1", data=True)


class Machines:
    """What is done on which host, in order. `answers` are what the script says, by action."""

    def __init__(self, **answers: str) -> None:
        self.done: list[tuple[str, str]] = []
        self.values: dict[str, str] = {}
        self.received = b""
        self.answers = answers
        self.broken: set[tuple[str, str]] = set()

    @property
    def hosts(self) -> dict[str, LocalHost]:
        return {name: _Host(name, self) for name in ("cp1", "cp2", "cp3")}


class _Host(LocalHost):
    def __init__(self, name: str, machines: Machines) -> None:
        super().__init__(name)
        self.machines = machines

    def run(
        self,
        command: str,
        *,
        stdin: bytes | Iterable[bytes] = b"",
        seconds: float,
        on_line: Callable[[bytes], None] | None = None,
    ) -> Result:
        if "cat >" in command:
            assert not isinstance(stdin, bytes)
            self.machines.received = b"".join(stdin)
            self.machines.done.append((self.name, "send"))
            return Result(0, b"", b"")
        assert isinstance(stdin, bytes)
        values = dict(re.findall(r"^(\w+)=(.*)$", stdin.decode().partition("\n#")[0], re.MULTILINE))
        action = values.pop("action")
        self.machines.values |= {f"{self.name} {name}": value for name, value in values.items()}
        self.machines.done.append((self.name, action))
        if (self.name, action) in self.machines.broken:
            return Result(1, b"", b"the disk is full\n")
        return Result(0, self.machines.answers.get(action, "").encode(), b"")


@pytest.fixture(autouse=True)
def well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_PAUSE", 0.001)
    monkeypatch.setattr("bootstrap.etcd.asking.require_health", lambda _: None)
    monkeypatch.setattr("bootstrap.run.serves", lambda *_: True)


def recover(machines: Machines, choice: Choice, snapshot: snapshots.Snapshot | None = None) -> recovery.Recovered:
    return recovery.recover(machines.hosts, choice, Cluster(), snapshot, lambda _: None)


def choice(**fields: Any) -> Choice:
    return Choice(
        **{"source": SOURCE, "others": ("cp2",), "lost": {"cp3": "off"}, "request": SURVIVOR, "why": "", **fields}
    )


def test_all_are_stopped_before_data_are_made_and_others_are_emptied_once_etcd_is_well() -> None:
    machines = Machines(make="aside\t/a\n", empty="aside\t/b\n")
    done = recover(machines, choice())
    assert sorted(machines.done[:2]) == [("cp1", "stop"), ("cp2", "stop")]
    assert machines.done[2:] == [("cp1", "begin"), ("cp1", "make"), ("cp1", "etcd"), ("cp2", "empty"), ("cp1", "rest")]
    assert done.aside == {"cp1": "/a", "cp2": "/b"}
    assert machines.values["cp1 request"] == SURVIVOR
    assert machines.values["cp2 request"] == "''"  # it is marked as none that goes on
    assert machines.values["cp1 peer"] == "https://192.0.2.1:2380"


def test_data_that_are_in_place_are_not_made_again() -> None:
    machines = Machines(begin="replaced\tyes\n")
    recover(machines, choice(others=()))
    assert [action for _, action in machines.done] == ["stop", "begin", "etcd", "rest"]


def test_where_only_others_are_left_the_one_that_serves_is_not_touched() -> None:
    machines = Machines()
    recover(machines, choice(done=True))
    assert machines.done == [("cp2", "stop"), ("cp2", "empty")]


def test_a_snapshot_is_brought_to_the_machine_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(SNAPSHOT)
    machines = Machines()
    snapshot = snapshots.check(path)
    assert snapshot.database == len(DATABASE)
    recover(machines, choice(request=snapshot.sha256, others=()), snapshot)
    assert machines.received == SNAPSHOT
    assert [action for _, action in machines.done] == ["stop", "begin", "send", "make", "etcd", "rest"]


def test_nothing_is_made_while_another_member_may_still_run() -> None:
    machines = Machines()
    machines.broken = {("cp2", "stop")}
    with pytest.raises(HostsFailed, match="the disk is full") as caught:
        recover(machines, choice())
    assert isinstance(caught.value.failures["cp2"], StepFailed)
    assert {action for _, action in machines.done} == {"stop"}


def test_a_member_that_could_not_be_emptied_is_told_when_all_else_is_done() -> None:
    machines = Machines()
    machines.broken = {("cp2", "empty")}
    with pytest.raises(HostsFailed) as caught:
        recover(machines, choice())
    assert (list(caught.value.failures), caught.value.succeeded) == (["cp2"], ("cp1",))
    assert machines.done[-1] == ("cp1", "rest")


def test_an_etcd_that_does_not_get_well_leaves_the_others_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwell(_: object) -> None:
        raise HostError("cp1", "no answer")

    monkeypatch.setattr(recovery, "HEALTH_SECONDS", 0.01)
    monkeypatch.setattr("bootstrap.etcd.asking.require_health", unwell)
    machines = Machines()
    with pytest.raises(WaitTimedOut, match="etcd to be well, alone"):
        recover(machines, choice())
    assert ("cp2", "empty") not in machines.done
