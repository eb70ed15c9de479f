"""Locks for real: sh, flock and processes of this machine, each host with a /run/kubestrap of its own."""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootstrap import batch, lock
from bootstrap.errors import BootstrapError, HostError, HostsFailed, Locked, LockLost
from bootstrap.events import Event
from bootstrap.execute import Means, execute
from bootstrap.plan import Phase, Plan, build
from bootstrap.site import Contents, Node, Site
from bootstrap.spec import Cluster
from bootstrap.spec import Host as Machine
from bootstrap.steps import Command, File, Step
from bootstrap.transport.base import Host
from tests.isolated import IsolatedHost

OWNER = lock.Owner("alice@desk (process 1)", "kubestrap init", "2026-01-02 03:04:05 UTC")
OTHER = lock.Owner("bob@laptop (process 2)", "kubestrap reset", "2026-01-02 03:04:06 UTC")
GENEROUS = 300.0


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "var-lib"
    folder.mkdir()
    return folder


@pytest.fixture(params=["dash", "bash", "busybox"])
def host(request: pytest.FixtureRequest, state: Path) -> Host:
    return IsolatedHost(state, shell=request.param)


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + GENEROUS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def dead(host: Host, *, lease: float) -> Iterator[lock.Lease]:
    """Have the lock of a run that took it and was never heard of again: nothing renews, nothing ends its input."""
    silent = lock.Lease(OTHER, lease=lease, beat=3600)
    try:
        silent.take(host).wait()
        yield silent
    finally:
        silent.stop()


def lines_of(state: Path) -> list[str]:
    return (state / ".run" / "lock").read_text().splitlines()


def test_a_lock_says_whose_it_is_and_is_gone_at_the_end(host: Host, state: Path) -> None:
    with lock.Lease(OWNER) as lease:
        lease.take(host).wait()
        held = lock.show(host)
        assert held is not None
        assert (held.run, held.owner) == (lease.run, OWNER)
        assert 0 < held.left <= lock.LEASE
        assert (state / ".run" / "lock").stat().st_mode & 0o777 == 0o600
    assert lock.show(host) is None
    assert not [path.name for path in (state / ".run").iterdir() if path.name != "mutex"]


def test_f28_a_second_operator_is_told_who_holds_a_lock_that_is_renewed(host: Host) -> None:
    with lock.Lease(OWNER, beat=0.1) as lease:
        lease.take(host).wait()
        with lock.Lease(OTHER) as second, pytest.raises(Locked) as raised:
            second.take(host).wait()
        assert raised.value.exit_code == 9
        assert "alice@desk (process 1) runs `kubestrap init` since 2026-01-02 03:04:05 UTC" in str(raised.value)
        assert "unlock" in str(raised.value)
        held = lock.show(host)
        assert held is not None
        assert held.run == lease.run


def test_f28_a_dead_owners_lock_falls_after_its_lease(host: Host) -> None:
    with dead(host, lease=2), lock.Lease(OWNER) as lease:
        lease.take(host).wait()
        held = lock.show(host)
        assert held is not None
        assert held.owner == OWNER


def test_f28_a_lock_that_a_second_dead_run_took_meanwhile_falls_too(host: Host, state: Path) -> None:
    # A command that waited for the lock takes it, though its run was killed while it waited.
    with dead(host, lease=3600) as first, lock.Lease(OWNER) as lease:
        holding = lease.take(host)
        time.sleep(1)  # it has seen the first one's lock
        content = (state / ".run" / "lock").read_text()
        uptime = int(float(Path("/proc/uptime").read_text().split()[0]))
        renamed = content.replace(first.run, "0" * 32).replace(content.splitlines()[1], str(uptime + 2))
        (state / ".run" / "second").write_text(renamed)
        (state / ".run" / "second").replace(state / ".run" / "lock")
        holding.wait()
        held = lock.show(host)
        assert held is not None
        assert held.run == lease.run


def test_a_lock_is_renewed_as_long_as_the_run_lasts(host: Host, state: Path) -> None:
    with lock.Lease(OWNER, lease=60, beat=0.1) as lease:
        lease.take(host).wait()
        first = int(lines_of(state)[1])
        eventually(lambda: int(lines_of(state)[1]) > first + 1)


def test_f28_taking_over_ends_what_the_dead_run_still_does(host: Host, state: Path, tmp_path: Path) -> None:
    begun, late = tmp_path / "begun", tmp_path / "late"
    steps = [Command("wait", f"timeout 600 sleep 600 >{begun}", "false", seconds=900), File(str(late), b"")]
    with dead(host, lease=3) as gone:
        guarded = gone.guard({"a": host})["a"]
        ended: list[int] = []
        script = threading.Thread(
            target=lambda: ended.append(
                guarded.run(batch.COMMAND, stdin=batch.compile_steps(steps), seconds=GENEROUS).status
            )
        )
        script.start()
        eventually(begun.exists)
        with lock.Lease(OWNER) as lease:
            lease.take(host).wait()
            script.join(GENEROUS)
            assert ended
            assert ended != [0]
            assert not late.exists()
            assert [path.name for path in (state / ".run").iterdir() if path.name.startswith("run.")] == []


def test_a_script_of_a_run_that_lost_its_lock_begins_nothing(host: Host, tmp_path: Path) -> None:
    with lock.Lease(OWNER) as lease:
        lease.take(host).wait()
        guarded = lease.guard({"a": host})["a"]
        tar = batch.compile_steps([File(str(tmp_path / "file"), b"")])
        assert guarded.run(batch.COMMAND, stdin=tar, seconds=GENEROUS).status == 0
        (tmp_path / "file").unlink()
        lock.free(host, lease.run)
        assert guarded.run(batch.COMMAND, stdin=tar, seconds=GENEROUS).status == 9
        assert guarded.run(batch.RECEIVE, seconds=GENEROUS).status == 9
    assert not (tmp_path / "file").exists()


def test_a_batch_ends_between_two_steps_when_its_lock_is_lost(host: Host, state: Path, tmp_path: Path) -> None:
    with lock.Lease(OWNER) as lease:
        lease.take(host).wait()
        guarded = lease.guard({"a": host})["a"]
        steps = [
            Command("lose it", f"echo held by another > {state}/.run/lock", f"grep -q another {state}/.run/lock"),
            File(str(tmp_path / "file"), b""),
        ]
        answers: list[batch.Answer] = []
        ran = guarded.run(
            batch.COMMAND,
            stdin=batch.compile_steps(steps),
            seconds=GENEROUS,
            on_line=lambda line: answers.append(batch.parse(line)),
        )
        assert ran.status == 3
        assert isinstance(answers[-1], batch.Failed)
        assert (answers[-1].step, answers[-1].kind) == (1, "lock")
    assert not (tmp_path / "file").exists()


def test_the_end_of_the_owners_process_frees_the_lock(host: Host, state: Path) -> None:
    """Its connection ends with it, and with that the input of the command that holds the lock."""
    arguments = ("hold", "f" * 32, "60", *("x",) * 3)
    command = lock._command(*arguments)
    inside = shlex.join(["sh", "-c", f"mount --bind {state}/.run /run/kubestrap && exec {command}"])
    (state / ".run").mkdir()
    Path("/run/kubestrap").mkdir(exist_ok=True)
    holder = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", inside], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with holder:
        assert holder.stdout
        assert holder.stdin
        assert holder.stdout.readline().startswith(b"taken")
        assert lines_of(state)[0] == f"held {'f' * 32}"
        holder.stdout.close()
        holder.stdin.close()
        assert holder.wait(GENEROUS) == 0
    assert not (state / ".run" / "lock").exists()


def test_what_a_killed_run_left_half_made_is_removed(host: Host, state: Path, tmp_path: Path) -> None:
    for name in (
        "kubestrap/blobs/sha256/00.part",
        "kubestrap/placed/x.new",
        "kubestrap/units/.x",
        "kubestrap/.receipt",
    ):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).touch()
    (tmp_path / "etc" / "manifests").mkdir(parents=True)
    staged = [tmp_path / "etc" / ".kubestrap.a", tmp_path / "etc" / ".kubestrap.pod.yaml"]
    theirs = [tmp_path / "etc" / ".other", tmp_path / "etc" / "manifests" / "pod.yaml"]
    for path in (*staged, *theirs):
        path.touch()
    (state / "kubestrap" / "receipt").write_text(f"file\t{tmp_path}/etc/a b\nfile\t{tmp_path}/etc/manifests/pod.yaml\n")
    (state / ".run" / "run.dead.12345678").mkdir(parents=True)
    with lock.Lease(OWNER) as lease:
        lease.take(host).wait()
        assert [path for path in staged if path.exists()] == []
        assert all(path.exists() for path in theirs)
        assert sorted(path.name for path in state.glob("kubestrap/**/*") if path.is_file()) == ["receipt"]
        assert not list((state / ".run").glob("run.*"))


def test_unlock_ends_the_run_and_the_run_notices(host: Host) -> None:
    with lock.Lease(OWNER, beat=0.1) as lease:
        holding = lease.take(host)
        holding.wait()
        lease.check(host.name)
        assert lock.free(host, lease.run) is None
        holding.join(GENEROUS)
        with pytest.raises(LockLost):
            lease.check(host.name)


def test_unlock_leaves_the_lock_of_a_run_that_was_not_shown(host: Host) -> None:
    with lock.Lease(OWNER) as lease:
        lease.take(host).wait()
        held = lock.free(host, "0" * 32)
        assert held is not None
        assert held.run == lease.run


def test_f14_a_machine_that_two_hosts_name_is_told_so(state: Path) -> None:
    with lock.Lease(OWNER) as lease:
        lease.take(IsolatedHost(state, "one")).wait()
        with pytest.raises(HostError, match=r"two: .* the machine of another host"):
            lease.take(IsolatedHost(state, "two")).wait()


def test_a_machine_without_flock_is_told_so(state: Path) -> None:
    class Without(IsolatedHost):
        def run(self, command: str, **options: object) -> object:  # type: ignore[override]
            return super().run(f"mount --bind /dev/null /usr/bin/flock && {command}", **options)  # type: ignore[arg-type]

    with lock.Lease(OWNER) as lease, pytest.raises(HostError, match="flock"):
        lease.take(Without(state)).wait()  # type: ignore[arg-type]


def test_an_owner_is_this_process() -> None:
    owner = lock.Owner.here("init")
    assert "@" in owner.who
    assert owner.command == "kubestrap init"
    assert owner.since.endswith(" UTC")


_INTERRUPTED = """
import sys, time
from pathlib import Path
from bootstrap import cli, lock
from bootstrap.execute import Means, execute
from tests.isolated import IsolatedHost
from tests.test_lock import OWNER, plan_of
from bootstrap.steps import Command, File
import typer

app = typer.Typer(add_completion=False)

@app.command()
def work() -> None:
    folder = Path({folder!r})
    host = IsolatedHost(folder / "var-lib", "one")
    with lock.Lease(OWNER) as lease:
        lease.take(host).wait()
        steps = [
            Command("wait", f"cd {{folder}}; echo >begun; {{wait}}; echo >done", f"test -e {{folder}}/done"),
            File(f"{{folder}}/late", b""),
        ]
        means = Means(lease.guard({{"one": host}}), lambda _: None, lambda _: None, lease)
        execute(plan_of("one", *steps), means, lambda event: print(event, file=sys.stderr))

cli.command = lambda: app
wait = sys.argv[1]
run = cli.run
cli.run = lambda _: run([])
cli.main()
"""


def plan_of(name: str, *steps: Step) -> Plan:
    """Give a plan of one phase for one host."""
    node = Node(Machine(name=name, address=name, roles=("control-plane",)), "10.0.0.1")
    site = Site(Cluster(), (node,), Contents("1.37.2", "linux/amd64", (), ()))
    return build([Phase("work", "all", lambda _site, _node: iter(steps))], site, nodes=(node,))


@pytest.mark.parametrize(("signal", "code"), [("INT", 130), ("TERM", 143)])
@pytest.mark.parametrize(
    ("takes", "finishes"),
    [("until grep -q stopping var-lib/.run/lock; do sleep 0.1; done", True), ("sleep 600", False)],
    ids=["a-step-that-finishes", "a-step-that-does-not"],
)
def test_f3_a_signal_stops_at_a_safe_point_and_frees_the_lock(
    state: Path, tmp_path: Path, signal: str, code: int, takes: str, finishes: bool
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED.format(folder=str(tmp_path)), takes],
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
        text=True,
    )
    with process:
        eventually((tmp_path / "begun").exists)
        subprocess.run(["kill", f"-{signal}", str(process.pid)], check=True)
        assert process.wait(GENEROUS) == code
        assert process.stderr
        said = process.stderr.read()
    assert "Traceback" not in said
    assert "run the same command again" in said
    assert (tmp_path / "done").exists() == finishes, said
    assert not (tmp_path / "late").exists()
    eventually(lambda: lock.show(IsolatedHost(state)) is None)


def test_a_run_whose_lock_is_taken_away_fails_with_the_exit_code_for_locks(state: Path, tmp_path: Path) -> None:
    host = IsolatedHost(state, "one")
    with lock.Lease(OWNER) as lease:
        lease.take(host).wait()

        def no(*_: object) -> object:
            raise AssertionError

        steps = (
            Command("lose it", f"echo > {state}/.run/lock", f"! grep -q held {state}/.run/lock"),
            File(str(tmp_path / "late"), b""),
        )
        events: list[Event] = []
        with pytest.raises(HostsFailed) as raised:
            execute(plan_of("one", *steps), Means(lease.guard({"one": host}), no, no, lease), events.append)  # type: ignore[arg-type]
    assert isinstance(raised.value.failures["one"], BootstrapError)
    assert raised.value.code == 9
    assert not (tmp_path / "late").exists()
