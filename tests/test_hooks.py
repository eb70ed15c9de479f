"""Hooks: read with the inventory, put into plans, and run for real, on hosts of this machine and on the operator's."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bootstrap import batch, cli, operators, phases
from bootstrap.api import Api
from bootstrap.errors import HostsFailed, StepFailed, WaitTimedOut
from bootstrap.events import Event, HostFailed, Note, StepDone
from bootstrap.execute import Means, execute
from bootstrap.hooks import Program, interpreter
from bootstrap.inventory import InventoryError, dump, load
from bootstrap.plan import Phase, Plan, build
from bootstrap.site import Node, Site
from bootstrap.steps import Command, File, Hook, OperatorHook, Step, title
from bootstrap.trial import require_fitting
from tests.builders import node, site
from tests.isolated import IsolatedHost

ROOT = Path(__file__).resolve().parent.parent
HEAD = """apiVersion: kubestrap.io/v1alpha1
kind: Inventory
hosts:
  - {name: cp1, address: 192.0.2.10, roles: [control-plane]}
  - {name: w1, address: 192.0.2.11, roles: [worker]}
cluster:
  hooks:
"""
NODES = (node("cp1"), node("w1", "worker", address="192.0.2.11"))


def hook(**settings: Any) -> dict[str, Any]:
    return {"run": Program(("true",), place="inventory.yaml:9"), **settings}


def of(plan: Plan, name: str = "") -> list[tuple[str, str]]:
    """List the hooks of a plan by phase and title; of one host, where it is named."""
    return [
        (task.phase.name, title(step))
        for task in plan.tasks
        for step in task.steps
        if isinstance(step, Hook | OperatorHook) and name in {"", task.node.name}
    ]


def planned(*hooks: dict[str, Any], workflow: tuple[Phase, ...] = phases.JOIN) -> Plan:
    described = site(*NODES, cluster={"hooks": list(hooks)})
    return build(workflow, described, nodes=described.nodes)


# --- in the inventory


def test_a_script_is_read_with_the_inventory_and_is_told_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "fence.sh").write_text("#!/usr/bin/env python3\nprint()\n")
    path = tmp_path / "inventory.yaml"
    path.write_text(f"{HEAD}    - {{before: certs, run: fence.sh}}\n    - {{after: certs, run: [logger, done]}}\n")
    script, command = (each.run for each in load(path).cluster.hooks)
    assert script.script == b"#!/usr/bin/env python3\nprint()\n"
    assert script.name == f"{path}:8 (fence.sh)"
    assert command.name == f"{path}:9 (logger)"
    (tmp_path / "again.yaml").write_text(dump(load(path)))
    assert load(tmp_path / "again.yaml") == load(path)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (b"echo\n", ("/bin/sh",)),
        (b"#!/bin/bash -eu -x\n", ("/bin/bash", "-eu -x")),
        (b"#! /usr/bin/python3\r\n", ("/usr/bin/python3",)),
        (b"#!\n", ("/bin/sh",)),
    ],
)
def test_the_first_line_of_a_script_says_by_what_it_is_run(script: bytes, words: tuple[str, ...]) -> None:
    assert interpreter(script) == words


def test_a_hook_around_no_phase_is_refused_before_any_machine_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("inventory.yaml")
    path.write_text(f"{HEAD}    - {{before: cert, run: [x]}}\n    - {{after: preflight, run: [x]}}\n")
    with pytest.raises(InventoryError) as refused:
        require_fitting(load(path))
    first, second = map(str, refused.value.problems)
    assert first.startswith('inventory.yaml:8:1: cluster.hooks[0].before: "cert" is no phase; ')
    assert "did you mean certs?" in first
    assert second.startswith('inventory.yaml:9:1: cluster.hooks[1].after: "preflight" is no phase; ')
    assert cli.run(["init"]) == 3
    assert '"cert" is no phase' in capsys.readouterr().err


# --- in plans


def test_a_hook_stands_around_its_phase_on_every_host_that_does_it() -> None:
    plan = planned(hook(before="kubelet-start"), hook(after="kubelet-start"))
    (task,) = [task for task in plan.tasks if (task.phase.name, task.node.name) == ("kubelet-start", "w1")]
    assert isinstance(task.steps[0], Hook)
    assert isinstance(task.steps[-1], Hook)
    assert len(task.steps) > 2
    assert of(plan) == 4 * [("kubelet-start", "hook inventory.yaml:9 (true)")]


def test_of_a_group_it_stands_before_the_first_phase_and_after_the_last_that_the_host_does() -> None:
    plan = planned(hook(before="prepare"), hook(after="prepare"), hook(after="control-plane"))
    assert [phase for phase, _ in of(plan, "w1")] == ["prepare/modules", "prepare/images"]
    assert [phase for phase, _ in of(plan, "cp1")] == [
        "prepare/modules",
        "prepare/images",
        "control-plane/scheduler",
    ]


@pytest.mark.parametrize(
    ("where", "hosts"),
    [("hosts", ["cp1", "w1"]), ("control-plane", ["cp1"]), ("workers", ["w1"]), ("operator", ["cp1", "w1"])],
)
def test_it_is_for_the_hosts_that_it_says(where: str, hosts: list[str]) -> None:
    plan = planned(hook(before="prepare/swap", where=where))
    assert [name for name in ("cp1", "w1") if of(plan, name)] == hosts


def test_the_plan_shows_hooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    hooks = ("{before: addon/coredns, where: operator, run: [./ask, it]}", "{after: prepare, run: [sync]}")
    Path("inventory.yaml").write_text(HEAD + "".join(f"    - {each}\n" for each in hooks))
    assert cli.run(["plan", "init"]) == 0
    shown = capsys.readouterr().out
    assert "  addon/coredns\n    run hook inventory.yaml:8 (ask) on your machine\n    object " in shown
    assert "    run hook inventory.yaml:9 (sync)\n  certs/ca\n" in shown


def test_a_look_sends_no_hook_to_the_machine() -> None:
    told = batch.compile_looks([Hook("x", ("touch", "/tmp/never-touched"), (), 5, b"a script")])
    assert b"never-touched" not in told
    assert b"a script" not in told


# --- run


class Run:
    """One host of this machine, with a /var/lib of its own, and what was told of it."""

    def __init__(self, folder: Path) -> None:
        self.events: list[Event] = []
        self.folder = folder
        self.node = node("one", facts=None)
        host = IsolatedHost(folder, "one")
        self.means = Means({"one": host}, _no_api, lambda _: io.BytesIO(b""))

    def do(self, *hooks: dict[str, Any], phase: Phase | None = None) -> None:
        self.events.clear()
        described = site(self.node, cluster={"name": "garden", "hooks": list(hooks)})
        work = phase or Phase("work", "all", _touching(self.folder / "made"))
        execute(build([work], described, nodes=described.nodes), self.means, self.events.append)

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]


def _no_api(_: str) -> Api:
    raise AssertionError("no step here needs the API server")


def _touching(path: Path) -> Any:
    def steps(_: Site, __: Node) -> Iterator[Step]:
        """Make a file."""
        yield File(str(path), b"")

    return steps


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


WHERE = pytest.mark.parametrize("where", ["hosts", "operator"])


@WHERE
def test_hooks_are_run_in_order_each_time_and_are_no_change(where: str, run: Run) -> None:
    log = run.folder / "log"
    look = Program(("sh", "-c", f'[ -e {run.folder}/made ]; echo "$1 $?" >> {log}', "x", "before"))
    after = Program(("sh", "-c", f'[ -e {run.folder}/made ]; echo "$1 $?" >> {log}', "x", "after"))
    hooks = hook(before="work", where=where, run=look), hook(after="work", where=where, run=after)
    run.do(*hooks)
    assert log.read_text() == "before 1\nafter 0\n"
    run.do(*hooks)
    assert log.read_text() == "before 1\nafter 0\nbefore 0\nafter 0\n"
    done = [(event.state, event.what) for event in run.events if isinstance(event, StepDone)]
    assert done == [("same", "ran"), ("same", ""), ("same", "ran")]


@WHERE
def test_it_is_told_host_phase_and_cluster_and_what_it_says_is_told(where: str, run: Run) -> None:
    told = 'echo "$KUBESTRAP_HOST $KUBESTRAP_PHASE $KUBESTRAP_CLUSTER"; echo odd >&2; cat'
    run.do(hook(after="work", where=where, run=Program(("sh", "-c", told), place="i.yaml:3")))
    assert run.notes == ["one: hook i.yaml:3 (sh):\n    one work garden\n    odd"]


@WHERE
def test_a_script_is_run_by_its_own_interpreter(where: str, run: Run) -> None:
    path = run.folder / "hook.py"
    path.write_text(f"#!{sys.executable}\nimport os\nprint('of', os.environ['KUBESTRAP_HOST'])\n")
    run.do(hook(before="work", where=where, run=Program(path=str(path), script=path.read_bytes(), place="i.yaml:3")))
    assert run.notes == ["one: hook i.yaml:3 (hook.py):\n    of one"]


@WHERE
def test_one_that_fails_fails_its_host_with_its_place_and_last_words(where: str, run: Run) -> None:
    broken = Program(("sh", "-c", "echo why; exit 3"), place="i.yaml:3")
    with pytest.raises(HostsFailed) as failed:
        run.do(hook(before="work", where=where, run=broken))
    error = failed.value.failures["one"]
    assert isinstance(error, StepFailed)
    assert str(error) == "one: phase work: hook i.yaml:3 (sh): it exited with 3\nwhy"
    assert not (run.folder / "made").exists()
    assert [event.phase for event in run.events if isinstance(event, HostFailed)] == ["work"]


@WHERE
def test_one_that_is_not_there_says_so(where: str, run: Run) -> None:
    with pytest.raises(HostsFailed, match=r"hook i\.yaml:3 \(nothing-such\): it exited with 127\n.*not found"):
        run.do(hook(before="work", where=where, run=Program(("nothing-such",), place="i.yaml:3")))


@WHERE
def test_one_that_takes_too_long_is_ended_with_all_that_it_started(where: str, run: Run) -> None:
    late = run.folder / "late"
    hanging = Program(("sh", "-c", f"echo begun; sh -c 'sleep 4; touch {late}'; true"), place="i.yaml:3")
    with pytest.raises(HostsFailed) as failed:
        run.do(hook(before="work", where=where, run=hanging, timeout="1s"))
    error = failed.value.failures["one"]
    assert isinstance(error, WaitTimedOut)
    assert str(error).startswith("one: phase work: waited 1 s for hook i.yaml:3 (sh), in vain")
    assert "begun" in str(error)
    time.sleep(4)
    assert not late.exists()


def test_an_operators_hook_ends_with_the_process_that_runs_it(tmp_path: Path) -> None:
    begun, late = tmp_path / "begun", tmp_path / "late"
    program = (
        "from threading import Event\nfrom bootstrap.operators import run\nfrom bootstrap.steps import OperatorHook\n"
        f"run(OperatorHook('x', ('sh', '-c', 'touch {begun}; sleep 3; touch {late}'), (), 60), Event())\n"
    )
    running = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < deadline, "the hook did not begin"
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait(60)
    time.sleep(3.5)
    assert not late.exists()


def test_an_operators_hook_ends_when_nobody_wants_the_run_any_more(tmp_path: Path) -> None:
    begun, late = tmp_path / "begun", tmp_path / "late"
    script = f"trap '' TERM INT; touch {begun}; sleep 3; touch {late}"
    stop = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(operators.run, OperatorHook("x", ("sh", "-c", script), (), 60), stop)
        deadline = time.monotonic() + 60
        while not begun.exists():
            assert time.monotonic() < deadline, "the hook did not begin"
            time.sleep(0.05)
        stop.set()
        with pytest.raises(operators.HookFailed):
            running.result(2)
    time.sleep(3.5)
    assert not late.exists()


def test_a_hook_of_a_phase_in_the_cluster_is_run_on_the_host_that_leads(run: Run) -> None:
    """Its steps are no steps on the machine; a hook's is."""
    run.do(
        hook(after="work", run=Program(("true",), place="i.yaml:3")),
        phase=Phase("work", "cluster", lambda _, __: iter([Command("c", "true", "true")])),
    )
    assert [event.step for event in run.events if isinstance(event, StepDone)] == ["c", "hook i.yaml:3 (true)"]
