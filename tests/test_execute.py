"""Plans done for real on this machine, each host with a /var/lib of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.api import Api
from bootstrap.errors import EtcdRefused, HostError, HostsFailed, StepFailed, WaitTimedOut
from bootstrap.etcd import learners
from bootstrap.events import Event, HostFailed, PhaseDone, PhaseStarted, StepDone, Waiting
from bootstrap.execute import Means, execute
from bootstrap.plan import Company, Phase, Plan, Stage, build
from bootstrap.site import Contents, Node, Site
from bootstrap.spec import Cluster, Host
from bootstrap.steps import (
    Absent,
    Binary,
    Command,
    EtcdStep,
    Fallback,
    File,
    Learner,
    Step,
    Unit,
    Voter,
    Wait,
)
from tests.isolated import IsolatedHost

BLOB = b"blob" * 1000


def _no_api(_: str) -> Api:
    raise AssertionError("no step here needs the API server")


class Run:
    """Hosts of a test, what they were asked to do, and what they told."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self.events: list[Event] = []
        self.folder = folder
        self.nodes = tuple(
            Node(Host(name=name, address=name, roles=("control-plane",)), f"10.0.0.{number}")
            for number, name in enumerate(names, 1)
        )
        for name in names:
            (folder / name).mkdir()
        hosts = {name: IsolatedHost(folder / name, name) for name in names}
        self.means = Means(hosts, _no_api, lambda _: io.BytesIO(BLOB))

    def do(self, *phases: Phase, in_turn: bool = False) -> None:
        self.events.clear()
        execute(self.plan(*phases, in_turn=in_turn), self.means, self.events.append)

    def plan(self, *phases: Phase, in_turn: bool = False) -> Plan:
        site = Site(Cluster(), self.nodes, Contents("1.37.2", "linux/amd64", (), ()))
        return build(phases, site, nodes=self.nodes, in_turn=in_turn)

    def changes(self) -> list[tuple[str, str, str]]:
        return [
            (event.host, event.phase, event.what)
            for event in self.events
            if isinstance(event, StepDone) and event.state == "changed"
        ]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, ("one", "two"))


def _phase(name: str, *steps: Step, barrier: bool = False) -> Phase:
    def make(_: Site, node: Node) -> Iterator[Step]:
        for step in steps:
            yield File(step.path.replace("NAME", node.name), step.data) if isinstance(step, File) else step

    return Phase(name, "all", make, barrier=barrier)


def test_the_second_run_changes_nothing(run: Run) -> None:
    phases = [_phase("first", File(f"{run.folder}/a-NAME", b"a")), _phase("second", File(f"{run.folder}/b-NAME", b"b"))]
    run.do(*phases)
    assert sorted(run.changes()) == [
        ("one", "first", "created"),
        ("one", "second", "created"),
        ("two", "first", "created"),
        ("two", "second", "created"),
    ]
    run.do(*phases)
    assert run.changes() == []
    assert sum(isinstance(event, StepDone) for event in run.events) == 4


def test_each_phase_of_each_host_begins_and_ends_once_in_order(run: Run) -> None:
    run.do(_phase("first", File(f"{run.folder}/f-NAME", b"")), _phase("second", Wait("it", "true", 60)))
    seen = [
        (type(event).__name__, event.phase)
        for event in run.events
        if isinstance(event, PhaseStarted | PhaseDone) and event.host == "one"
    ]
    assert seen == [
        ("PhaseStarted", "first"),
        ("PhaseDone", "first"),
        ("PhaseStarted", "second"),
        ("PhaseDone", "second"),
    ]


def test_f29_a_host_that_fails_goes_no_further_and_the_other_does(run: Run) -> None:
    unlucky = run.folder / "x-one"
    unlucky.mkdir()
    phases = [_phase("first", File(f"{run.folder}/x-NAME", b"")), _phase("last", File(f"{run.folder}/y-NAME", b""))]
    with pytest.raises(HostsFailed) as raised:
        run.do(*phases)
    error = raised.value.failures["one"]
    assert isinstance(error, StepFailed)
    assert (error.phase, error.step) == ("first", str(unlucky))
    assert "is a directory" in str(error)
    assert raised.value.succeeded == ("two",)
    assert raised.value.code == 8
    assert [path.name for path in run.folder.glob("y-*")] == ["y-two"]
    assert [event.phase for event in run.events if isinstance(event, HostFailed)] == ["first"]


def test_a_barrier_waits_for_every_host(run: Run) -> None:
    """The second phase asks for what the first one leaves on all hosts."""
    both = f"test -e {run.folder}/done-one && test -e {run.folder}/done-two"
    run.do(
        _phase("first", Command("slowly", "sleep 0.3", "false; [ $? = 1 ]"), File(f"{run.folder}/done-NAME", b"")),
        _phase("second", Command("both are there", "false", both), barrier=True),
    )
    assert not any(isinstance(event, HostFailed) for event in run.events)


def test_hosts_that_go_in_turn_go_through_such_phases_one_after_the_other(run: Run) -> None:
    """The second host must find that the first one is through; then all go on together."""
    first, second = (f"{run.folder}/end-{name}" for name in ("one", "two"))
    nobody = f"case $(ls {run.folder}) in *end-one*) ;; *two-begun*) false ;; esac"
    end = _phase("end", Wait("nobody else", nobody, 1), File(f"{run.folder}/end-NAME", b""))
    phases = [
        _phase("before", File(f"{run.folder}/before-NAME", b"")),
        dataclasses.replace(_phase("begin", File(f"{run.folder}/NAME-begun", b"")), in_turn=True),
        dataclasses.replace(end, in_turn=True),
        _phase("after", Wait("both", f"test -e {first} && test -e {second}", 5)),
    ]
    run.do(*phases, in_turn=True)
    done = [(event.host, event.phase) for event in run.events if isinstance(event, PhaseDone)]
    assert done[2:6] == [("one", "begin"), ("one", "end"), ("two", "begin"), ("two", "end")]


def test_f5_where_one_fails_in_its_turn_those_after_it_are_left_as_they_were(run: Run) -> None:
    turn = dataclasses.replace(_phase("turn", File(f"{run.folder}/x-NAME", b"")), in_turn=True)
    after = _phase("after", File(f"{run.folder}/y-NAME", b""))
    (run.folder / "x-one").mkdir()
    with pytest.raises(HostsFailed) as raised:
        run.do(turn, after, in_turn=True)
    assert "left as it was: hosts go in turn, and one failed" in str(raised.value.failures["two"])
    assert raised.value.succeeded == ()
    assert sorted(path.name for path in run.folder.glob("[xy]-*")) == ["x-one"]
    assert [event.host for event in run.events if isinstance(event, HostFailed)] == ["one", "two"]


def _accompanied(run: Run, *phases: Phase) -> Plan:
    """Plan `phases` for one, and beside them for two: `meanwhile`, and `joined` as soon as one has done the first."""
    lead, beside = run.nodes
    site = Site(Cluster(), run.nodes, Contents("1.37.2", "linux/amd64", (), ()))

    def stage(phase: Phase) -> Stage:
        return Stage(build([phase], site, nodes=[beside]).tasks)

    first = stage(_phase("meanwhile", File(f"{run.folder}/meanwhile", b"")))
    then = stage(_phase("joined", File(f"{run.folder}/joined", b"")))
    return dataclasses.replace(
        build(phases, site, nodes=[lead]), company=Company(first, then, lead.name, phases[0].name)
    )


def test_company_goes_on_from_when_the_lead_is_done_with_a_phase_and_waits_for_no_other(run: Run) -> None:
    serves = _phase("serves", Wait("it to be prepared", f"[ -e {run.folder}/meanwhile ]", 60))
    # Were it not beside this one, that would be waited for in vain.
    later = _phase("later", Wait("another to have joined", f"[ -e {run.folder}/joined ]", 60))
    execute(_accompanied(run, serves, later), run.means, run.events.append)
    ended = [(event.host, event.phase) for event in run.events if isinstance(event, PhaseDone)]
    assert sorted(ended) == [("one", "later"), ("one", "serves"), ("two", "joined"), ("two", "meanwhile")]
    assert ended.index(("one", "serves")) < ended.index(("two", "joined"))


@pytest.mark.parametrize("lead_fails_before", [True, False])
def test_company_whose_lead_fails_goes_no_further_and_one_that_got_on_is_not_held_back(
    run: Run, lead_fails_before: bool
) -> None:
    fails = _phase("fails", Command("it", run="exit 3", unless="false"))
    phases = [fails] if lead_fails_before else [_phase("serves", Wait("it", "true", 60)), fails]
    with pytest.raises(HostsFailed) as raised:
        execute(_accompanied(run, *phases), run.means, run.events.append)
    assert (run.folder / "meanwhile").exists()
    assert (run.folder / "joined").exists() is not lead_fails_before
    assert list(raised.value.failures) == (["one", "two"] if lead_fails_before else ["one"])
    if lead_fails_before:
        assert "one was not done with the phase fails" in str(raised.value.failures["two"])
        assert ("two", "joined") in [(e.host, e.phase) for e in run.events if isinstance(e, HostFailed)]


def test_a_wait_in_vain_names_what_it_waited_for_and_its_limit(run: Run) -> None:
    with pytest.raises(HostsFailed) as raised:
        run.do(_phase("wait", Wait("the moon", "echo it is day; false", seconds=1.2)))
    error = raised.value.failures["two"]
    assert isinstance(error, WaitTimedOut)
    assert "waited 1.2 s for the moon" in str(error)
    assert "it is day" in str(error)
    assert raised.value.code == 10
    assert {event.limit for event in run.events if isinstance(event, Waiting)} <= {1.2}


def test_f5_a_failure_tells_that_the_former_file_is_back(run: Run) -> None:
    path = run.folder / "conf"
    well = f"! grep bad {path}"
    former = Fallback((str(path),), well, 5, Unit("none.service"))
    for text in ("good", "bad"):
        steps = (File(str(path), text.encode(), fallback=former), Wait("it", well, 0.2, fallback=former, last=True))
        phase = Phase("turn", "control-plane", lambda _, __, steps=steps: iter(steps), in_turn=True)
        if text == "good":
            run.do(phase, in_turn=True)
    with pytest.raises(HostsFailed) as raised:
        run.do(phase, in_turn=True)
    told = str(raised.value.failures["one"])
    assert f"waited 0.2 s for it, in vain\nbad\nThe former {path} is back, and all is well again" in told
    assert "left as it was" in str(raised.value.failures["two"])
    assert path.read_text() == "good"


def test_blobs_are_sent_to_a_machine_that_lacks_them(tmp_path: Path) -> None:
    run = Run(tmp_path, ("one",))
    path = run.folder / "bin"
    step = Binary(str(path), hashlib.sha256(BLOB).hexdigest(), len(BLOB))
    run.do(_phase("binaries", step))
    assert path.read_bytes() == BLOB
    run.do(_phase("binaries", step))
    assert run.changes() == []


def test_a_blob_that_is_not_what_its_digest_says_is_refused_on_the_machine(run: Run) -> None:
    step = Binary(str(run.folder / "bin"), hashlib.sha256(b"other").hexdigest(), len(BLOB))
    with pytest.raises(HostsFailed) as raised:
        run.do(_phase("binaries", step))
    assert "arrived altered" in str(raised.value)
    assert not (run.folder / "bin").exists()


def test_a_secret_of_a_step_is_in_no_event_and_no_error(run: Run) -> None:
    secret = b"hunter2-hunter2"
    with pytest.raises(HostsFailed) as raised:
        run.do(_phase("s", File(f"{run.folder}/s", secret, secret=True), Command("use it", "exit 1", "false", secret)))
    assert b"hunter2" not in repr([*run.events, raised.value]).encode()


def test_evidence_of_a_wait_is_told_as_a_verdict(run: Run) -> None:
    gathered = "printf 'component\\tetcd\\texited\\t2\\t2\\t/0.log\\nlog\\tetcd\\tflag provided but not defined: -x\\n'"
    until = "printf 'guilty\\tetcd\\n'; exit 2"
    with pytest.raises(HostsFailed) as raised:
        run.do(_phase("wait", Wait("it", until, seconds=600, explain=gathered, evidence=True)))
    error = raised.value.failures["two"]
    assert isinstance(error, StepFailed)
    assert "it cannot come about\netcd does not run: it exited with 2 (2 times" in str(error)
    assert "it does not know the flag --x" in str(error)


class Etcd:
    """What etcd's members would be told, in order; `refuses` is what fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, refuses: type[EtcdStep] | None = None) -> None:
        self.calls: list[str] = []
        self.learners: set[str] = set()
        self.refuses = refuses
        monkeypatch.setattr(learners, "do", self.do)
        monkeypatch.setattr(learners, "withdraw", self.withdraw)

    def do(self, step: EtcdStep, host: object, *, on_wait: object) -> str | None:
        self.calls.append(f"{type(step).__name__} {step.name}")
        if self.refuses is type(step):
            raise EtcdRefused("other", "not now")
        (self.learners.add if isinstance(step, Learner) else self.learners.discard)(step.name)
        return "done"

    def withdraw(self, step: Learner, host: object) -> bool:
        self.calls.append(f"withdraw {step.name}")
        return step.name in self.learners


def _member(run: Run, *, fails: bool = False) -> Phase:
    manifest = f"{run.folder}/manifest-NAME"

    def make(_: Site, node: Node) -> Iterator[Step]:
        path = manifest.replace("NAME", node.name)
        yield Learner(node.name, "https://10.0.0.1:2380", withdrawn=(Absent(path),))
        yield File(path, b"etcd")
        yield Command("etcd", run="echo it does not start >&2; exit 1", unless="false" if fails else "true")
        yield Voter(node.name, "https://10.0.0.1:2380", 60)

    return Phase("etcd-join", "all", make, in_turn=True)


def test_a_member_that_failed_before_its_vote_is_taken_out_and_its_machine_cleared(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    etcd = Etcd(monkeypatch)
    run.means = dataclasses.replace(run.means, etcd=run.means.hosts["two"])
    with pytest.raises(HostsFailed) as failed:
        run.do(_member(run, fails=True), in_turn=True)
    assert etcd.calls == ["Learner one", "withdraw one"]
    assert "it does not start" in str(failed.value.failures["one"])
    assert "was taken out of the cluster again" in str(failed.value.failures["one"])
    assert "it is left as it was" in str(failed.value.failures["two"])
    assert not list(run.folder.glob("manifest-*"))


def test_a_member_that_votes_stays_whatever_fails_later(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    etcd = Etcd(monkeypatch)
    run.means = dataclasses.replace(run.means, etcd=run.means.hosts["two"])
    with pytest.raises(HostsFailed):
        run.do(_member(run), _phase("later", Command("it", run="exit 1", unless="false")), in_turn=True)
    assert etcd.calls == ["Learner one", "Voter one", "Learner two", "Voter two"]
    assert len(list(run.folder.glob("manifest-*"))) == 2


def test_what_etcd_refuses_is_told_of_the_host_that_joins(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    etcd = Etcd(monkeypatch, refuses=Learner)
    run.means = dataclasses.replace(run.means, etcd=run.means.hosts["two"])
    with pytest.raises(HostsFailed) as failed:
        run.do(_member(run), in_turn=True)
    assert etcd.calls == ["Learner one", "withdraw one"], "etcd may have taken it before the answer was lost"
    assert failed.value.failures["one"].host == "one"  # type: ignore[attr-defined]
    assert "other: not now" in str(failed.value.failures["one"])


def test_nothing_is_asked_of_etcd_where_another_run_may_change_members(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    etcd = Etcd(monkeypatch)

    def lost() -> None:
        raise HostError("one", "another run holds the Lease")

    run.means = dataclasses.replace(run.means, etcd=run.means.hosts["two"], change=lost)
    with pytest.raises(HostsFailed, match="another run holds the Lease"):
        run.do(_member(run), in_turn=True)
    assert etcd.calls == []
