"""What reset makes of a machine's answers; machines are reset for real in tests/lab/test_reset.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import reset
from bootstrap.errors import NotSupported, StepFailed, UsageError
from bootstrap.events import Event, PhaseDone, PhaseStarted, StepDone
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
    with pytest.raises(NotSupported, match=r"\(m2 of m1, m2, m3\)"):
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


@pytest.mark.parametrize(("typed", "agreed"), [("blue", True), (" blue\n", True), ("Blue", False), ("", False)])
def test_the_clusters_name_is_asked_for(typed: str, agreed: bool) -> None:
    questions: list[str] = []

    def ask(question: str) -> str:
        questions.append(question)
        return typed

    assert reset.confirm(INVENTORY, INVENTORY.hosts, ask) is agreed
    assert "m1, w1" in questions[0]
