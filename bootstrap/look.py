"""Looking what a plan would do: the counterpart of `bootstrap.execute` that changes nothing.

Every step of a host is asked for in one round trip, then those at the API server one by one. Where an earlier step
must be done first before anything can be said of one, that is said.
"""

from __future__ import annotations

from collections.abc import Sequence

from bootstrap import batch, cluster, differences
from bootstrap.api import Api
from bootstrap.errors import (
    ApiError,
    ApiUnreachable,
    ApiUntrusted,
    BootstrapError,
    HostError,
    HostsFailed,
    StepFailed,
)
from bootstrap.etcd import learners
from bootstrap.events import Depends, Drift, Event, HostFailed, Listener, StepDone
from bootstrap.execute import Means
from bootstrap.parallel import pool
from bootstrap.plan import Phase, Plan, Task
from bootstrap.site import Node
from bootstrap.steps import (
    ApiStep,
    Binary,
    Command,
    EtcdStep,
    File,
    HostStep,
    Image,
    OperatorHook,
    Step,
    Unit,
    Wait,
    title,
)

_PROBE_SECONDS = 5.0  # for the first answer of an API server that may not be there yet


def look(plan: Plan, means: Means, listener: Listener) -> None:
    """Find out what `execute` would do, and change nothing. Every step ends as one event.

    `StepDone` says that it is right; `Drift` how it would be changed, `Depends` that this depends on another one. All
    events of a host come together, in the order of its steps, the hosts in the order of the plan.

    Raises `HostsFailed` for hosts that could not be looked at, or where a run would fail for certain.
    """
    hosts = list(dict.fromkeys(task.node.name for task in plan.tasks))
    failures: dict[str, BootstrapError] = {}
    if hosts:
        with pool(len(hosts)) as workers:
            tasks = {host: [task for task in plan.tasks if task.node.name == host] for host in hosts}
            looks = [workers.submit(_Look(host, tasks[host], means).events) for host in hosts]
            for host, pending in zip(hosts, looks, strict=True):
                events, error = pending.result()
                for event in events:
                    listener(event)
                if error:
                    failures[host] = error
    if failures:
        raise HostsFailed(failures, [host for host in hosts if host not in failures])


class _Look:
    """What is found of one host's steps, numbered through all of its tasks."""

    def __init__(self, name: str, tasks: Sequence[Task], means: Means) -> None:
        self._name = name
        self._means = means
        self._node: Node = tasks[0].node
        self._all: list[tuple[Phase, Step]] = [(task.phase, step) for task in tasks for step in task.steps]
        self._events: dict[int, Event] = {}

    def events(self) -> tuple[list[Event], BootstrapError | None]:
        """Look at every step. Gives what was found, and the error that ended it early."""
        error: BootstrapError | None = None
        number = 0
        try:
            acting = self._look_at_machine()
            self._look_elsewhere()
            self._look_at_cluster(acting)
        except BootstrapError as raised:
            error = raised
            number = max(self._events, default=-1) + 1
        found = [self._events[number] for number in sorted(self._events)]
        if error:
            phase = self._all[min(number, len(self._all) - 1)][0].name if self._all else ""
            found.append(HostFailed(self._name, error.phase if isinstance(error, StepFailed) else phase, error))
        return found, error

    def _look_at_machine(self) -> list[int]:
        """Look at the steps on the machine. Gives the numbers of those that would change something."""
        mine = [(number, phase, step) for number, (phase, step) in enumerate(self._all) if isinstance(step, HostStep)]
        if not mine:
            return []
        steps = [step for _, _, step in mine]
        begins = [at for at, (_, phase, _) in enumerate(mine) if at == 0 or mine[at - 1][1] is not phase]
        changing: list[int] = []
        failed: list[batch.Failed] = []

        def hear(line: bytes) -> None:
            answer = batch.parse(line)
            if isinstance(answer, batch.Failed):
                failed.append(answer)
                return
            assert isinstance(answer, batch.Same | batch.Would | batch.After | batch.Unmet)
            number = mine[answer.step][0]
            self._events[number] = self._of_machine(number, answer, [at for at, _, _ in mine])
            if isinstance(answer, batch.Would) or (isinstance(answer, batch.After) and answer.how):
                changing.append(number)

        host = self._means.hosts[self._name]
        stdin = batch.compile_looks(steps, begins)
        result = host.run(batch.COMMAND, stdin=stdin, seconds=_limit(steps), on_line=hear)
        if failed:
            number, phase, step = mine[failed[0].step]
            self._events.pop(number, None)
            raise StepFailed(self._name, phase.name, title(step), failed[0].text)
        if result.status != 0:
            _, phase, step = mine[min(len(self._events), len(mine) - 1)]
            text = result.stderr.decode(errors="replace").strip() or "it said nothing"
            what = f"the script on the machine ended with {result.status}: {text}"
            raise StepFailed(self._name, phase.name, title(step), what)
        return changing

    def _of_machine(
        self, number: int, answer: batch.Same | batch.Would | batch.After | batch.Unmet, numbers: Sequence[int]
    ) -> Event:
        phase, step = self._all[number]
        match answer:
            case batch.Same():
                return StepDone(self._name, phase.name, title(step), "same")
            case batch.Would(_, how, present):
                held = self._node.facts.files
                return Drift(self._name, phase.name, title(step), how, differences.of_step(step, present, held))
            case batch.Unmet(_, text):
                return Drift(self._name, phase.name, title(step), "", text)
            case batch.After(_, on, how):
                return self._depends(number, numbers[on], how)

    def _depends(self, number: int, on: int, how: str = "") -> Depends:
        phase, step = self._all[number]
        on_phase, on_step = self._all[on]
        return Depends(self._name, phase.name, title(step), on_phase.name, title(on_step), how)

    def _look_elsewhere(self) -> None:
        for number, (phase, step) in enumerate(self._all):
            if isinstance(step, OperatorHook):
                # What it would do only it knows.
                self._events[number] = StepDone(self._name, phase.name, title(step), "same")
            elif isinstance(step, EtcdStep):
                assert self._means.etcd
                how = learners.preview(step, self._means.etcd)
                self._events[number] = (
                    Drift(self._name, phase.name, title(step), how, "")
                    if how
                    else StepDone(self._name, phase.name, title(step), "same")
                )

    def _look_at_cluster(self, changing: Sequence[int]) -> None:
        steps = [(number, step) for number, (_, step) in enumerate(self._all) if isinstance(step, ApiStep)]
        if not steps:
            return
        try:
            with self._means.api(self._name) as api:
                api.get("/readyz", seconds=_PROBE_SECONDS)
                undone: list[int] = list(changing)
                for number, step in steps:
                    try:
                        self._look_at_object(number, step, api, undone)
                    except HostError:
                        raise
                    except (ApiError, OSError) as error:
                        phase = self._all[number][0].name
                        raise StepFailed(self._name, phase, title(step), str(error)) from error
        except (ApiUnreachable, ApiUntrusted, ApiError):
            # A cluster that is not made yet cannot be asked; one that no step would mend is an error.
            first = steps[0][0]
            before = [number for number in changing if number < first]
            if not before:
                raise
            for number, _ in steps:
                if number not in self._events:
                    self._events[number] = self._depends(number, before[-1])

    def _look_at_object(self, number: int, step: ApiStep, api: Api, undone: list[int]) -> None:
        phase = self._all[number][0].name
        found = cluster.look(step, api)
        before = [other for other in undone if other < number]
        if found.unmet and before:
            self._events[number] = self._depends(number, before[-1])
        elif found.unmet:
            self._events[number] = Drift(self._name, phase, title(step), "", found.unmet)
        elif found.how is None:
            self._events[number] = StepDone(self._name, phase, title(step), "same")
        else:
            text = differences.of_objects(found.before, found.after)
            self._events[number] = Drift(self._name, phase, title(step), found.how, text)
            undone.append(number)


def _limit(steps: Sequence[HostStep]) -> float:
    return 60 + sum(_seconds(step) for step in steps)


def _seconds(step: HostStep) -> float:
    match step:
        case Wait():
            return 35
        case Command(seconds=seconds):
            return seconds + 5
        case Image() | Unit():
            return 65
        case Binary():
            return 120
        case File():
            return 5
        case _:
            return 2
