"""Doing a plan: the one loop in which machines and the cluster are changed.

Hosts go on freely beside each other within a stage; a host's consecutive steps on the machine go there at once. A
host that fails does nothing more, the others go on, and the failures are raised together at the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import BinaryIO

from bootstrap import batch, cluster, diagnosis, lock, operators
from bootstrap.api import Api
from bootstrap.errors import (
    ApiError,
    BootstrapError,
    HostError,
    HostsFailed,
    StepFailed,
    WaitTimedOut,
    words,
)
from bootstrap.etcd import learners
from bootstrap.events import (
    Event,
    HostFailed,
    Listener,
    Note,
    PhaseDone,
    PhaseStarted,
    Sending,
    State,
    StepDone,
    Waiting,
)
from bootstrap.parallel import pool, settle
from bootstrap.plan import Company, Phase, Plan, Stage, Task
from bootstrap.steps import (
    ApiStep,
    Binary,
    Command,
    EtcdStep,
    Fallback,
    File,
    Hook,
    HostStep,
    Image,
    Learner,
    OperatorHook,
    Step,
    Unit,
    Wait,
    title,
)
from bootstrap.transport.base import Host

_STEP_SECONDS = 120.0  # what a step without a limit of its own may take
_ASK_SECONDS = 65.0  # what asking once whether all is well may take
_UPLOAD_SECONDS = 60.0
_UPLOAD_BYTES_A_SECOND = 256 * 1024  # slower than this is taken for a dead link
_Pending = Future[BootstrapError | None]


@dataclass(frozen=True, slots=True)
class Means:
    """What a plan is done with. `api` opens a connection to an API server; it is called once a host that needs it.

    It is given the host's name, as a control-plane host has an API server of its own.

    `lease` are the locks under which the work is done; `hosts` are guarded by it. `etcd` is a control-plane host whose
    etcd member serves, where members are added, and `change` raises where another run may be changing them.
    """

    hosts: Mapping[str, Host]
    api: Callable[[str], AbstractContextManager[Api]]
    open_blob: Callable[[str], BinaryIO]
    lease: lock.Lease | None = None
    etcd: Host | None = None
    change: Callable[[], None] = lambda: None


def execute(plan: Plan, means: Means, listener: Listener) -> None:
    """Do `plan`. Every step ends as an event; a step that finds everything right changes nothing.

    Raises `HostsFailed` with each failed host's error, after the others are done. A host that failed goes no further,
    and where hosts go in turn, none after it begins. Where a signal ends it, nothing new is begun, and nothing is
    waited for.
    """
    talking = threading.Lock()
    stop = threading.Event()
    gate = _Gate(plan.company)

    def tell(event: Event) -> None:
        with talking:
            if not stop.is_set():
                listener(event)
        gate.see(event)

    company = plan.company
    with pool(len(company.hosts) if company else 0) as threads:
        beside: dict[str, _Pending] = {}
        if company:
            for host in company.hosts:
                run = _Run(host, means, tell, stop)
                beside[host] = threads.submit(run.accompany, company, gate)
        try:
            failures = _in_stages(plan, means, tell, stop)
        finally:
            gate.close()
        failures |= _settled(beside, means, stop)
    if failures:
        succeeded = {task.node.name for task in plan.tasks} - failures.keys()
        raise HostsFailed(failures, sorted(succeeded))


def _in_stages(plan: Plan, means: Means, tell: Listener, stop: threading.Event) -> dict[str, BootstrapError]:
    """Do one stage after the other, and give the errors of hosts that failed or were not begun."""
    failures: dict[str, BootstrapError] = {}
    done = 0
    for stage in plan.stages:
        hosts = [host for host in stage.hosts if host not in failures]
        if not hosts or (stage.turn and failures):
            break
        failures |= _side_by_side(stage, hosts, means, tell, stop)
        done += 1
    if failures:
        what = f"it is left as it was: hosts go in turn, and {', '.join(failures)} failed"
        for host in dict.fromkeys(host for stage in plan.stages[done:] if stage.turn for host in stage.hosts):
            if host not in failures:
                failures[host] = HostError(host, what)
                tell(HostFailed(host, "", failures[host]))
    return failures


def _side_by_side(
    stage: Stage, hosts: Sequence[str], means: Means, tell: Listener, stop: threading.Event
) -> dict[str, BootstrapError]:
    """Do a stage on `hosts`, and give the errors of those that failed."""
    with pool(len(hosts)) as workers:
        runs = {host: workers.submit(_Run(host, means, tell, stop).tasks, stage.of(host)) for host in hosts}
        return _settled(runs, means, stop)


def _settled(runs: Mapping[str, _Pending], means: Means, stop: threading.Event) -> dict[str, BootstrapError]:
    """Wait for hosts, and give the errors of those that failed. A signal stops them all."""
    failures: dict[str, BootstrapError] = {}
    try:
        for host, run in runs.items():
            settle(run)
            if error := run.result():
                failures[host] = error
    except BaseException:
        stop.set()
        if means.lease:
            means.lease.stop()
        raise
    return failures


class _Gate:
    """What the company of a plan waits at: it opens as the lead is done with a phase, or is closed for good."""

    def __init__(self, company: Company | None) -> None:
        self._company = company
        self._settled = threading.Event()
        self._is_open = False

    def see(self, event: Event) -> None:
        """Take notice of an event: the one that opens it, or the lead's failure."""
        if self._company is None:
            return
        lead, after = self._company.lead, self._company.after
        match event:
            case PhaseDone(host=host, phase=phase) if (host, phase) == (lead, after):
                self._is_open = True
                self._settled.set()
            case HostFailed(host=host) if host == lead:
                self.close()
            case _:
                pass

    def close(self) -> None:
        """Let nobody through any more, where it has not been opened."""
        self._settled.set()

    def passes(self) -> bool:
        """Wait until it is opened or closed, and say which. The steps of the lead's have their limits."""
        self._settled.wait()
        return self._is_open


class _Run:
    """One host's way through a stage."""

    def __init__(self, name: str, means: Means, tell: Listener, stop: threading.Event) -> None:
        self._stop = stop
        self._name = name
        self._means = means
        self._tell = tell
        self._phase: Phase | None = None
        self._began = 0.0
        self._changed = 0
        self._steps = 0
        self._learner: Learner | None = None

    def tasks(self, tasks: Sequence[Task]) -> BootstrapError | None:
        """Do the tasks. Gives the error that ended them early."""
        try:
            with ExitStack() as stack:
                api: Api | None = None
                for group in _groups(tasks):
                    if self._stop.is_set():
                        return None
                    if isinstance(group, _Elsewhere):
                        self._enter(group.phase)
                        if isinstance(group.steps[0], EtcdStep):
                            self._etcd(group)
                            continue
                        if isinstance(group.steps[0], OperatorHook):
                            self._on_operators(group)
                            continue
                        api = api or stack.enter_context(self._means.api(self._name))
                        self._api(group, api)
                    else:
                        self._batch(group)
                self._leave()
        except BootstrapError as error:
            failure = self._withdraw(error)
            self._tell(HostFailed(self._name, self._phase.name if self._phase else "", failure))
            return failure
        return None

    def accompany(self, company: Company, gate: _Gate) -> BootstrapError | None:
        """Do the host's tasks of a company. Gives the error that ended them early."""
        if error := self.tasks(company.first.of(self._name)):
            return error
        then = company.then.of(self._name)
        if not then:
            return None
        if gate.passes():
            return self.tasks(then)
        if self._stop.is_set():
            return None
        what = f"it went no further: {company.lead} was not done with the phase {company.after}"
        failure = HostError(self._name, what)
        self._tell(HostFailed(self._name, then[0].phase.name, failure))
        return failure

    def _enter(self, phase: Phase) -> None:
        if phase is self._phase:
            return
        self._leave()
        self._phase, self._began, self._changed, self._steps = phase, time.monotonic(), 0, 0
        self._tell(PhaseStarted(self._name, phase.name))

    def _leave(self) -> None:
        if self._phase:
            seconds = time.monotonic() - self._began
            self._tell(PhaseDone(self._name, self._phase.name, seconds, self._changed, self._steps))
        self._phase = None

    def _done(self, step: Step, how: str | None) -> None:
        assert self._phase
        self._steps += 1
        self._changed += how is not None
        state: State = "same" if how is None else "changed"
        self._tell(StepDone(self._name, self._phase.name, title(step), state, how or ""))

    def _api(self, group: _Elsewhere, api: Api) -> None:
        for step in group.steps:
            assert isinstance(step, ApiStep)
            if self._may_not_go_on():
                return
            try:
                how = cluster.do(step, api, on_wait=self._waiting)
            except HostError:
                raise
            except (ApiError, OSError) as error:
                raise StepFailed(self._name, group.phase.name, title(step), str(error)) from error
            self._done(step, how)

    def _on_operators(self, group: _Elsewhere) -> None:
        for step in group.steps:
            assert isinstance(step, OperatorHook)
            if self._may_not_go_on():
                return
            try:
                said = operators.run(step, self._stop)
            except operators.HookFailed as error:
                if error.is_late:
                    what = f"phase {group.phase.name}: waited {step.seconds:g} s for {title(step)}, in vain\n{error}"
                    raise WaitTimedOut(self._name, what.strip()) from error
                raise StepFailed(self._name, group.phase.name, title(step), str(error)) from error
            self._ran(step, said)

    def _ran(self, step: Step, said: str) -> None:
        """Tell that a hook ran, and what it said: what it changed, nobody knows."""
        assert self._phase
        self._steps += 1
        self._tell(StepDone(self._name, self._phase.name, title(step), "same", "ran"))
        if said:
            lines = "".join(f"\n    {line}" for line in said.splitlines())
            self._tell(Note(f"{self._name}: {title(step)}:{lines}"))

    def _etcd(self, group: _Elsewhere) -> None:
        assert self._means.etcd
        for step in group.steps:
            assert isinstance(step, EtcdStep)
            if self._may_not_go_on():
                return
            self._means.change()
            if isinstance(step, Learner):
                self._learner = step
            try:
                how = learners.do(step, self._means.etcd, on_wait=self._waiting)
            except HostError as error:
                if error.host == self._name:
                    raise
                raise StepFailed(self._name, group.phase.name, title(step), str(error)) from error
            if not isinstance(step, Learner):
                self._learner = None
            self._done(step, how)

    def _withdraw(self, error: BootstrapError) -> BootstrapError:
        """Undo what of a new etcd member is there, where its host failed before it had a vote; give what is told."""
        if self._learner is None or self._means.etcd is None:
            return error
        name, phase = self._name, self._phase.name if self._phase else ""
        try:
            self._means.change()
            if not learners.withdraw(self._learner, self._means.etcd):
                return error
            left = self._clear(self._learner.withdrawn)
        except BootstrapError as other:
            return HostError(name, f"{words(error)}\nIts etcd member is a learner still ({words(other)}): join again")
        self._tell(StepDone(name, phase, title(self._learner), "changed", "taken out again"))
        what = f"{words(error)}\nIts etcd member was taken out of the cluster again{left}: mend it, and join again"
        return HostError(name, what)

    def _clear(self, steps: Sequence[HostStep]) -> str:
        """Do `steps`, and tell what is left where one of them fails: the next join sees to it."""
        failed: list[str] = []

        def hear(line: bytes) -> None:
            if isinstance(answer := batch.parse(line), batch.Failed):
                failed.append(f"{title(steps[answer.step])}: {answer.text.strip()}")

        stdin = batch.compile_steps(steps)
        result = self._means.hosts[self._name].run(batch.COMMAND, stdin=stdin, seconds=_limit(steps), on_line=hear)
        if result.status and not failed:
            failed.append(result.stderr.decode(errors="replace").strip() or f"status {result.status}")
        return f", but the machine was not cleared ({failed[0]})" if failed else ""

    def _may_not_go_on(self) -> bool:
        if not self._stop.is_set() and self._means.lease:
            self._means.lease.check(self._name)
        return self._stop.is_set()

    def _waiting(self, what: str, elapsed: float, limit: float) -> None:
        assert self._phase
        self._tell(Waiting(self._name, self._phase.name, what, elapsed, limit))

    def _batch(self, group: _Batch) -> None:
        host = self._means.hosts[self._name]
        steps = [step for _, step in group]
        self._enter(group[0][0])
        self._send(host, steps)
        failed: list[batch.Failed] = []
        restored: list[batch.Restored] = []

        def hear(line: bytes) -> None:
            match batch.parse(line):
                case batch.Same(number):
                    self._step_done(group, number, None)
                case batch.Changed(number, how):
                    self._step_done(group, number, how)
                case batch.Ran(number, said):
                    self._step_done(group, number, None, said)
                case batch.StillWaiting(number, elapsed):
                    phase, step = group[number]
                    limit = step.seconds if isinstance(step, Wait) else 0.0
                    self._tell(Waiting(self._name, phase.name, title(step), elapsed, limit))
                case batch.Restored() as answer:
                    restored.append(answer)
                case batch.Failed() as answer:
                    failed.append(answer)
                case batch.Needed():
                    pass

        stdin = batch.compile_steps(steps)
        result = host.run(batch.COMMAND, stdin=stdin, seconds=_limit(steps), on_line=hear)
        if failed:
            raise self._error(group, failed[0], restored)
        if result.status != 0:
            text = result.stderr.decode(errors="replace").strip()
            phase, step = group[min(self._number, len(group) - 1)]
            what = f"the script on the machine ended with {result.status}: {text or 'it said nothing'}"
            raise StepFailed(self._name, phase.name, title(step), what)

    _number = 0

    def _step_done(self, group: _Batch, number: int, how: str | None, said: str = "") -> None:
        phase, step = group[number]
        self._enter(phase)
        if isinstance(step, Hook):
            self._ran(step, said)
        else:
            self._done(step, how)
        self._number = number + 1
        if number + 1 < len(group):
            self._enter(group[number + 1][0])

    def _error(self, group: _Batch, failed: batch.Failed, restored: Sequence[batch.Restored]) -> HostError:
        phase, step = group[failed.step]
        self._enter(phase)
        if failed.kind == "lock":
            return lock.lost(self._name)
        text = diagnosis.explained(failed.text) if isinstance(step, Wait) and step.evidence else failed.text
        text = "\n".join([text, *(_told(each, step) for each in restored)]).strip()
        if failed.kind != "time":
            what = f"it cannot come about\n{text}" if isinstance(step, Wait) else text
            return StepFailed(self._name, phase.name, title(step), what.strip())
        limit = step.seconds if isinstance(step, Wait | Command | Hook) else _STEP_SECONDS
        what = f"phase {phase.name}: waited {limit:g} s for {title(step)}, in vain"
        return WaitTimedOut(self._name, f"{what}\n{text}".strip())

    def _send(self, host: Host, steps: Sequence[HostStep]) -> None:
        """Bring the blobs that `steps` use and the machine lacks."""
        asking = batch.compile_needs(steps)
        if asking is None:
            return
        needed: set[str] = set()

        def hear(line: bytes) -> None:
            answer = batch.parse(line)
            if isinstance(answer, batch.Needed):
                needed.add(answer.digest)

        result = host.run(batch.COMMAND, stdin=asking, seconds=_limit(steps), on_line=hear)
        self._must(result.status, result.stderr, steps)
        blobs = {step.digest: step.size for step in steps if isinstance(step, Binary | Image)}
        sending = [(digest, size) for digest, size in blobs.items() if digest in needed]
        if not sending:
            return
        total = sum(size for _, size in sending)
        seconds = _UPLOAD_SECONDS + total / _UPLOAD_BYTES_A_SECOND
        pieces = self._counted(batch.stream(sending, self._means.open_blob), total)
        result = host.run(batch.RECEIVE, stdin=pieces, seconds=seconds)
        self._must(result.status, result.stderr, steps)

    def _must(self, status: int, stderr: bytes, steps: Sequence[HostStep]) -> None:
        if status != 0:
            assert self._phase
            first = next(step for step in steps if isinstance(step, Binary | Image))
            text = stderr.decode(errors="replace").strip() or f"status {status}"
            raise StepFailed(self._name, self._phase.name, title(first), f"files did not reach the machine: {text}")

    def _counted(self, pieces: Iterator[bytes], total: int) -> Iterator[bytes]:
        assert self._phase
        sent = 0
        told = time.monotonic()
        for piece in pieces:
            yield piece
            sent += len(piece)
            if time.monotonic() - told > 1:
                told = time.monotonic()
                self._tell(Sending(self._name, self._phase.name, min(sent, total), total))


_Batch = list[tuple[Phase, HostStep]]


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """Steps of a phase that are done at the API server, or all by etcd's members, or all on the operator's machine."""

    phase: Phase
    steps: Sequence[ApiStep | EtcdStep | OperatorHook]


def _groups(tasks: Sequence[Task]) -> Iterator[_Batch | _Elsewhere]:
    """Part a host's steps into what goes to the machine at once, and what is done elsewhere, in order."""
    pending: _Batch = []
    for task in tasks:
        for kind, steps in groupby(task.steps, _where):
            if kind == "machine":
                pending += [(task.phase, step) for step in steps if isinstance(step, HostStep)]
                continue
            if pending:
                yield pending
                pending = []
            yield _Elsewhere(task.phase, [step for step in steps if not isinstance(step, HostStep)])
    if pending:
        yield pending


def _told(restored: batch.Restored, step: HostStep) -> str:
    """Say what became of the files that were there before."""
    files = ", ".join(restored.files)
    if not files:
        return f"The former files could not be put back: {restored.ill}"
    if not restored.ill:
        return f"The former {files} {_are(restored)} back, and all is well again; correct the inventory"
    assert isinstance(step, Wait)
    assert step.fallback
    ill = "\n".join(diagnosis.read(restored.ill).said[:2])
    return f"The former {files} {_are(restored)} back, but not all was well within {step.fallback.seconds:g} s: {ill}"


def _are(restored: batch.Restored) -> str:
    return "are" if len(restored.files) > 1 else "is"


def _where(step: Step) -> str:
    if isinstance(step, HostStep):
        return "machine"
    if isinstance(step, OperatorHook):
        return "operator"
    return "etcd" if isinstance(step, EtcdStep) else "api"


def _limit(steps: Sequence[HostStep]) -> float:
    """Give the seconds that a batch may take at most: the sum of what its steps may."""
    return 60 + sum(_seconds(step) for step in steps)


def _fetching(step: Binary | Image) -> float:
    return _UPLOAD_SECONDS + step.size / _UPLOAD_BYTES_A_SECOND if step.server else 0.0


def _seconds(step: HostStep) -> float:
    match step:
        case Wait(seconds=seconds, fallback=fallback):
            return seconds + 100 + (fallback.seconds + 2 * _STEP_SECONDS if fallback else 0)
        case File(fallback=Fallback()):
            return 5 + _ASK_SECONDS
        case Command(seconds=seconds):
            return 3 * seconds + 15
        case Hook(seconds=seconds):
            return seconds + 15
        case Image():
            return 720 + _fetching(step)
        case Unit():
            return 2 * _STEP_SECONDS
        case Binary():
            return _STEP_SECONDS + _fetching(step)
        case _:
            return 5
