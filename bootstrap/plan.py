"""A plan: which steps of which phase are done where, in which order. Made from a site, without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby
from typing import Literal

from bootstrap.errors import UsageError
from bootstrap.site import Node, Site
from bootstrap.spec import Hook as Wanted
from bootstrap.spec import seconds
from bootstrap.steps import Hook, OperatorHook, Step, hidden

On = Literal["all", "control-plane", "control-plane, etcd", "etcd", "worker", "cluster"]
"""Where a phase is done: on every host of the run, on those of a kind (`etcd`: its members), or once, from the lead."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a workflow. `name` is kubeadm's where kubeadm has it, `group/sub-phase` for a part of one.

    `steps` says what should be true on a node; its docstring is the phase's help. With `barrier`, no host begins it
    before all hosts of the phases before it are done with them, or have failed. Phases `in_turn` may take a host's
    part of a control plane away for a moment: where one serves, host goes after host through all of them.
    """

    name: str
    on: On
    steps: Callable[[Site, Node], Iterator[Step]]
    barrier: bool = False
    in_turn: bool = False

    @property
    def help(self) -> str:
        """The first line of what the phase does."""
        return (self.steps.__doc__ or "").strip().partition("\n")[0]


@dataclass(frozen=True, slots=True)
class Task:
    """One phase on one host: the steps in their order."""

    phase: Phase
    node: Node
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """What may go on at the same time: for each host its tasks, in order. Stages follow each other.

    One that is a `turn` is only begun where no host has failed before it; where it is not, nothing after it is.
    """

    tasks: tuple[Task, ...]
    turn: bool = False

    def of(self, host: str) -> tuple[Task, ...]:
        """Give the tasks of one host, in order."""
        return tuple(task for task in self.tasks if task.node.name == host)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that have something to do, in order."""
        return tuple(dict.fromkeys(task.node.name for task in self.tasks))


@dataclass(frozen=True, slots=True)
class Company:
    """Hosts that go their own ways beside the stages of a plan, none of which waits for them.

    Each does `first`, and then, from when the host `lead` is done with the phase `after`, also `then`; where that
    never comes, it fails.
    """

    first: Stage
    then: Stage
    lead: str
    after: str

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that have something to do, in order."""
        return tuple(dict.fromkeys((*self.first.hosts, *self.then.hosts)))


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in their order; each is done when all of its hosts are. `company` is what goes on beside them."""

    stages: tuple[Stage, ...]
    company: Company | None = None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Every task, in order; those of the company are last."""
        beside = (self.company.first, self.company.then) if self.company else ()
        return tuple(task for stage in (*self.stages, *beside) for task in stage.tasks)

    @property
    def hidden(self) -> tuple[bytes, ...]:
        """What its steps carry that must not be told: the contents of secret files, and input of commands."""
        return hidden([step for task in self.tasks for step in task.steps])


PREFLIGHT = "preflight"
"""The phase before all others: every workflow has it, and it has no steps. Machines are looked at in it."""


def build(
    workflow: Sequence[Phase],
    site: Site,
    *,
    nodes: Sequence[Node],
    skip: Sequence[str] = (),
    in_turn: bool = False,
) -> Plan:
    """Plan `workflow` for `nodes`, without the phases (or groups of phases) named in `skip`.

    With `in_turn` the hosts go through the phases that are so one after the other, each only where all before it got
    to their end. Around phases stand the cluster's hooks. Raises `UsageError` for a name in `skip` that no phase has.
    """
    stages: list[Stage] = []
    chosen = select(workflow, skip=skip)
    for turn, group in groupby(chosen, lambda phase: phase.in_turn and in_turn):
        parts: list[list[Task]] = [[]]
        for phase in group:
            if phase.barrier and not turn and len(nodes) > 1:
                parts.append([])
            parts[-1] += [_task(phase, site, node, chosen) for node in _where(phase, site, nodes)]
        if turn:
            hosts = dict.fromkeys(task.node.name for task in parts[0])
            parts = [[task for task in parts[0] if task.node.name == host] for host in hosts]
        stages += [Stage(tuple(part), turn) for part in parts if part]
    return Plan(tuple(stages))


def select(
    workflow: Sequence[Phase], *, only: Sequence[str] = (), skip: Sequence[str] = (), until: str = ""
) -> tuple[Phase, ...]:
    """Give the phases of `workflow` that are named in `only` (all, where it is empty), but not in `skip`, in order.

    Names are of phases or of groups of them. With `until` no phase after that one (or the last of that group) is
    among them. Raises `UsageError` for a name that no phase has, with the nearest one.
    """
    known = [PREFLIGHT, *names(workflow)]
    unknown = [name for name in (*only, *skip, *([until] if until else [])) if name not in known]
    if unknown:
        guesses = [guess for name in unknown for guess in get_close_matches(name, known, 1)]
        hint = f"did you mean {', '.join(guesses)}?" if guesses else "see `kubestrap phases ls`"
        raise UsageError(f"no such phase: {', '.join(unknown)}; {hint}")
    chosen = [phase for phase in workflow if not skipped(phase, skip) and (not only or skipped(phase, only))]
    if until:
        last = max((at for at, phase in enumerate(workflow) if skipped(phase, (until,))), default=-1)
        chosen = [phase for phase in chosen if phase in workflow[: last + 1]]
    return tuple(chosen)


def names(workflow: Sequence[Phase]) -> list[str]:
    """List every name that selects phases of `workflow`: groups and phases, in order."""
    found: dict[str, None] = {}
    for phase in workflow:
        group, slash, _ = phase.name.partition("/")
        if slash:
            found[group] = None
        found[phase.name] = None
    return list(found)


def skipped(phase: Phase, skip: Sequence[str]) -> bool:
    """Say whether `skip` names the phase or its group."""
    return phase.name in skip or phase.name.partition("/")[0] in skip


def _task(phase: Phase, site: Site, node: Node, workflow: Sequence[Phase]) -> Task:
    steps = tuple(phase.steps(site, node))
    if not site.cluster.hooks:
        return Task(phase, node, steps)
    own = [each for each in workflow if node in _where(each, site, (node,))]
    before: list[Step] = []
    after: list[Step] = []
    for hook in site.cluster.hooks:
        of = [each for each in own if skipped(each, (hook.phase,))]
        if not of or not _is_for(hook, node):
            continue
        if hook.before and phase is of[0]:
            before.append(_hook(hook, site, node, phase))
        elif hook.after and phase is of[-1]:
            after.append(_hook(hook, site, node, phase))
    return Task(phase, node, (*before, *steps, *after))


def _is_for(hook: Wanted, node: Node) -> bool:
    match hook.where:
        case "control-plane":
            return node.host.is_control_plane
        case "workers":
            return node.host.is_worker
        case "hosts" | "operator":
            return True


def _hook(hook: Wanted, site: Site, node: Node, phase: Phase) -> Hook | OperatorHook:
    told = {"HOST": node.name, "PHASE": phase.name, "CLUSTER": site.cluster.name}
    environment = tuple((f"KUBESTRAP_{name}", value) for name, value in told.items())
    limit, program = seconds(hook.timeout), hook.run
    if hook.where == "operator":
        argv = (*program.words, program.path) if program.path else program.words
        return OperatorHook(program.name, argv, environment, limit)
    return Hook(program.name, program.words, environment, limit, program.script)


def _where(phase: Phase, site: Site, nodes: Sequence[Node]) -> Sequence[Node]:
    match phase.on:
        case "all":
            return nodes
        case "control-plane":
            return [node for node in nodes if node.host.is_control_plane]
        case "control-plane, etcd":
            return [node for node in nodes if not node.host.is_worker]
        case "etcd":
            return [node for node in nodes if site.runs_etcd(node)]
        case "worker":
            return [node for node in nodes if node.host.is_worker]
        case "cluster":
            return [node for node in nodes if node.name == site.leader]
