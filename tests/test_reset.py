"""What reset makes of a machine's answers; machines are reset for real in tests/lab/test_reset.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from bootstrap import reset
from bootstrap.errors import (
    ApiError,
    ApiUnreachable,
    BootstrapError,
    HostsFailed,
    NoControlPlane,
    StepFailed,
    Unreachable,
    UsageError,
)
from bootstrap.events import Event, Note, PhaseDone, PhaseStarted, StepDone
from bootstrap.options import confirm
from bootstrap.reset import Left
from bootstrap.spec import Cluster, Host, Inventory
from bootstrap.transport.base import Result
from bootstrap.transport.local import LocalHost

INVENTORY = Inventory(
    cluster=Cluster(name="blue"),
    hosts=(
        Host(name="m1", address="192.0.2.1", roles=("control-plane",)),
        Host(name="w1", address="192.0.2.2", roles=("worker",)),
    ),
)


def test_a_part_of_a_control_plane_is_refused_before_anything_is_connected_to() -> None:
    masters = tuple(Host(name=f"m{n}", address=f"192.0.2.1{n}", roles=("control-plane",)) for n in (1, 2, 3))
    with pytest.raises(UsageError, match=r"\(m2 of m1, m2, m3\): `kubestrap remove m2`"):
        reset.reset(Inventory(hosts=masters), lambda _: None, only=["m2"])


def test_what_was_done_and_what_stays_is_read() -> None:
    report = reset.read("m1", ["did\t/etc/x", "left\t/etc/y\tnot of kubestrap", "did\tkubelet.service (stopped)"])
    assert report.done == ("/etc/x", "kubelet.service (stopped)")
    assert report.left == (Left("/etc/y", "not of kubestrap"),)
    assert not report.nothing


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("refused\tsomething is mounted at /x", "m1: phase reset: .*mounted at /x.*Nothing was changed"),
        ("failed\tcannot unmount /y", "cannot unmount /y.*again goes on"),
        ("sh: 1: syntax error", "unexpected answer"),
    ],
)
def test_what_kept_it_from_its_work_is_an_error(answer: str, told: str) -> None:
    with pytest.raises(StepFailed, match=told):
        reset.read("m1", ["did\t/etc/x", answer])


def test_a_machine_without_a_receipt_has_nothing_to_do(tmp_path: Path) -> None:
    script = reset.script(Cluster(), receipt=f"{tmp_path}/receipt")
    result = LocalHost("m1").run("sh -s", stdin=script, seconds=60)
    report = reset.read("m1", result.stdout.decode().splitlines())
    assert (report.nothing, report.done, report.left) == (True, (), ())


def test_each_thing_taken_off_is_an_event() -> None:
    class Machine(LocalHost):
        def run(self, command: str, *, on_line: object = None, **_: object) -> Result:  # type: ignore[override]
            on_line(b"did\t/etc/x")  # type: ignore[operator]
            return Result(0, b"", b"")

    events: list[Event] = []
    reset.clean(Machine("m1"), Cluster(), events.append)
    assert [type(event) for event in events] == [PhaseStarted, StepDone, PhaseDone]
    assert events[1] == StepDone("m1", "reset", "/etc/x", "changed", "removed")


def test_only_the_hosts_named_are_chosen() -> None:
    assert [host.name for host in reset.chosen(INVENTORY, ["w1"])] == ["w1"]
    assert [host.name for host in reset.chosen(INVENTORY, [])] == ["m1", "w1"]
    with pytest.raises(UsageError, match="no such host: w2; the inventory has m1, w1"):
        reset.chosen(INVENTORY, ["w2"])


def test_the_consequence_names_hosts_and_whether_pods_move() -> None:
    whole = reset.consequence(INVENTORY, INVENTORY.hosts)
    assert "m1, w1" in whole
    assert "other machines" not in whole
    assert "Pods move to other machines first" in reset.consequence(INVENTORY, INVENTORY.hosts[1:])


@pytest.mark.parametrize(("typed", "agreed"), [("blue", True), (" blue ", True), ("Blue", False), ("", False)])
def test_the_clusters_name_is_asked_for(monkeypatch: pytest.MonkeyPatch, typed: str, agreed: bool) -> None:
    questions: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda question, **_: questions.append(question) or typed)
    with nullcontext() if agreed else pytest.raises(UsageError, match="not the cluster's name"):
        confirm("reset", "This takes all away.", "blue")
    assert questions == ["This takes all away.\nType the cluster's name (blue) to go on"]


def test_without_a_terminal_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(UsageError, match=r"reset asks .* give --yes"):
        confirm("reset", "", "blue")


@contextmanager
def failing(error: BootstrapError) -> Iterator[None]:
    """A control plane that cannot be asked."""
    raise error
    yield


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ApiUnreachable("m1", "the API server does not answer"), 5),
        (HostsFailed({"m1": Unreachable("m1", "no route to it")}), 5),
        (ApiError("it is forbidden", status=403), 1),
    ],
)
def test_a_node_that_cannot_leave_keeps_its_machine_unless_forced(
    monkeypatch: pytest.MonkeyPatch, error: BootstrapError, code: int
) -> None:
    monkeypatch.setattr("bootstrap.run.reached_control_plane", lambda *_, **__: failing(error))
    events: list[Event] = []
    leaving = [INVENTORY.hosts[1]]
    failures = reset.depart(INVENTORY, {"w1": "id"}, leaving, events.append, force=False)
    assert failures["w1"].exit_code == code
    assert "The machine was not changed" in str(failures["w1"])
    assert events == []
    assert reset.depart(INVENTORY, {"w1": "id"}, leaving, events.append, force=True) == {}
    (note,) = events
    assert isinstance(note, Note)
    assert "w1: its Node stays in the cluster, and the machine is reset all the same: " in note.text


def test_a_cluster_that_is_gone_is_left_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = failing(NoControlPlane("m1: there is no control plane"))
    monkeypatch.setattr("bootstrap.run.reached_control_plane", lambda *_, **__: gone)
    events: list[Event] = []
    assert reset.depart(INVENTORY, {"w1": "id"}, [INVENTORY.hosts[1]], events.append, force=False) == {}
    assert [event.text for event in events if isinstance(event, Note)] == [
        "There is no cluster that w1 would have to leave first (m1: there is no control plane)"
    ]


def test_a_cluster_that_ends_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("bootstrap.run.reached_control_plane")
    assert reset.depart(INVENTORY, {"m1": "id", "w1": "id"}, INVENTORY.hosts, lambda _: None, force=False) == {}


def test_what_would_be_refused_is_found_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class Machine(LocalHost):
        said = b"machine\tid\n"

        def run(self, _: str, **__: object) -> Result:  # type: ignore[override]
            return Result(0, self.said, b"")

    assert reset.check(Machine("m1"), Cluster()) == "id"
    monkeypatch.setattr(Machine, "said", b"machine\t\nnothing\n")
    assert reset.check(Machine("m1"), Cluster()) == ""
    monkeypatch.setattr(Machine, "said", b"machine\tid\nrefused\tsomething is mounted at /x\n")
    with pytest.raises(StepFailed, match=r"mounted at /x.*Nothing was changed"):
        reset.check(Machine("m1"), Cluster())
