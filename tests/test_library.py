"""The library, as a program of a user's has it: `from bootstrap import Cluster`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

import bootstrap
from bootstrap import Cluster, HostsFailed, InventoryError, Request, cli
from bootstrap.errors import ConfigError, NotSupported, Unreachable, UsageError
from bootstrap.events import Event, HostState, Note, Recap, Result, Started
from bootstrap.library import events
from tests.bundle.fake_bundle import write_bundle

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "cluster.py"


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    return written(tmp_path, 9)


def written(folder: Path, port: int) -> Path:
    """Write an inventory whose machines are said to be on this one, with a bundle that is enough to begin with."""
    write_bundle(folder / "bundle")
    roles = {"cp1": "control-plane", "w1": "worker", "w2": "worker"}
    hosts = [
        {"name": name, "address": f"127.0.0.{number}", "roles": [role]}
        for number, (name, role) in enumerate(roles.items(), start=1)
    ]
    data = {
        "apiVersion": "kubestrap.io/v1alpha1",
        "kind": "Inventory",
        "ssh": {"port": port, "connectTimeout": "10m"},
        "cluster": {"bundle": {"path": "bundle"}},
        "hosts": hosts,
    }
    path = folder / "inventory.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_importing_the_package_loads_nothing_more() -> None:
    script = "import sys, bootstrap; print(*sorted(name for name in sys.modules if name.startswith('bootstrap')))"
    assert python("-c", script).stdout.split() == ["bootstrap"]


def test_every_name_of_the_library_is_there_and_no_other() -> None:
    assert all(getattr(bootstrap, name) for name in bootstrap.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Clusters'"):
        bootstrap.Clusters  # noqa: B018


def test_an_inventory_that_cannot_be_used_is_refused_by_a_typed_error(inventory: Path) -> None:
    data = yaml.safe_load(inventory.read_text())
    data["cluster"]["networking"] = {"podSubnet": "fd00:1::/56", "serviceSubnet": "fd00:2::/112"}
    inventory.write_text(yaml.safe_dump(data))
    with pytest.raises(NotSupported):
        Cluster.load(inventory)
    inventory.write_text("hosts: []\n")
    with pytest.raises(InventoryError) as raised:
        Cluster.load(inventory)
    assert {problem.line for problem in raised.value.problems} == {1}


@pytest.mark.parametrize("workflow", ["init", "join"])
def test_a_plan_is_what_the_command_shows(workflow: str, inventory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = Cluster.load(inventory).plan(workflow)  # type: ignore[arg-type]
    assert cli.run(["plan", workflow, "-i", str(inventory)]) == 0
    assert capsys.readouterr().out == f"{plan}\n"
    hosts = [host for outline in plan.outlines for host in outline.hosts]
    assert hosts == {"init": ["cp1"], "join": ["w1", "w2"]}[workflow]


def test_a_request_chooses_hosts_and_phases(inventory: Path) -> None:
    cluster = Cluster.load(inventory)
    (outline,) = cluster.plan("join", Request(limit=["w2"], until="prepare")).outlines
    assert outline.hosts == ("w2",)
    assert {task.phase.name.partition("/")[0] for task in outline.tasks} == {"prepare"}
    with pytest.raises(UsageError, match="did you mean w1"):
        cluster.plan("join", Request(limit=["w11"]))


def test_a_run_begins_when_its_first_event_is_asked_for_and_ends_with_a_typed_error(inventory: Path) -> None:
    run = Cluster.load(inventory).apply("init")
    assert "kubestrap" not in {thread.name for thread in threading.enumerate()}
    seen: list[Event] = []
    with pytest.raises(HostsFailed) as raised:
        seen.extend(run)
    assert isinstance(raised.value.failures["cp1"], Unreachable)
    assert raised.value.code == 5
    assert seen[0] == Started("init", "kubernetes", ("cp1",), bootstrap.__version__)
    assert isinstance(seen[-1], Recap)
    assert seen[-1].hosts == (HostState("cp1", "unreachable"),)
    assert "kubestrap" not in {thread.name for thread in threading.enumerate()}


def test_a_run_of_no_workflow_is_about_the_whole_cluster(inventory: Path) -> None:
    cluster = Cluster.load(inventory)
    run = cluster.apply()
    assert next(run) == Started("apply", "kubernetes", ("cp1", "w1", "w2"), bootstrap.__version__)
    with pytest.raises(HostsFailed, match="cp1: "):
        list(run)
    for request in (Request(limit=["w1"]), Request(until="certs"), Request(skip=["certs"]), Request(only=["certs"])):
        with pytest.raises(UsageError, match="init or join"):
            cluster.apply(request=request)
        with pytest.raises(UsageError, match="init or join"):
            cluster.diff(request=request)


def test_a_run_is_about_the_hosts_that_it_is_asked_for(inventory: Path) -> None:
    run = Cluster.load(inventory).apply("join", Request(limit=["w2"]))
    started = next(run)
    run.close()
    assert isinstance(started, Started)
    assert started.hosts == ("w2",)


def test_what_cannot_be_begun_is_told_as_by_the_command(inventory: Path) -> None:
    (inventory.parent / "bundle" / "manifest.json").unlink()
    with pytest.raises(ConfigError):
        list(Cluster.load(inventory).apply("init"))
    with pytest.raises(ConfigError):
        Cluster.load(inventory).diff("init")


def test_a_run_that_is_closed_does_not_wait_for_machines(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it never says that it speaks SSH, for ten minutes
        run = Cluster.load(written(tmp_path, silent.getsockname()[1])).apply("init")
        assert isinstance(next(run), Started)
        run.close()
        assert "kubestrap" not in {thread.name for thread in threading.enumerate()}
        with pytest.raises(StopIteration):
            next(run)


def test_work_goes_on_while_events_are_not_taken() -> None:
    done = threading.Event()

    def work(listener: object) -> None:
        assert callable(listener)
        for number in range(1000):
            listener(Note(str(number)))
        listener(Result(1000))
        done.set()

    run = events(work)
    first = next(run)
    assert done.wait(60)
    assert [first, *run] == [*(Note(str(number)) for number in range(1000)), Result(1000)]


def test_a_bug_in_a_run_is_raised_where_its_events_are_taken() -> None:
    def work(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        next(events(work))


def test_the_example_plans(inventory: Path) -> None:
    done = python(EXAMPLE, "plan", inventory)
    assert done.returncode == 0, done.stderr
    cluster = Cluster.load(inventory)
    assert done.stdout == f"{cluster.plan('init')}\n{cluster.plan('join')}\n"


def test_the_example_ends_with_the_exit_code_of_the_error(inventory: Path) -> None:
    done = python(EXAMPLE, "apply", inventory, inventory.parent / "kubeconfig")
    assert (done.returncode, done.stdout) == (5, "")
    assert "cp1: " in done.stderr
    inventory.write_text("hosts: []\n")
    done = python(EXAMPLE, "diff", inventory)
    assert done.returncode == 3
    assert done.stderr.startswith(f"{inventory}:1:")
