"""Growing a control plane that serves: its new hosts become members of etcd one by one, and all else of it at once.

The machines' locks do not do for that, as a run need not reach all of them: a Lease in the cluster is held meanwhile.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from bootstrap import kubeconfig, leases, lock, members, phases, plan, run, topology
from bootstrap.errors import BootstrapError, EtcdUnfit, HostError
from bootstrap.etcd.members import Member, identity
from bootstrap.events import HostFailed, Listener, Waiting
from bootstrap.execute import Means
from bootstrap.gather import Request
from bootstrap.members import Roster
from bootstrap.phases import etcd_join, static_pods
from bootstrap.site import Contents, InitialCluster, Node, Site
from bootstrap.spec import Inventory
from bootstrap.transport.base import Host

Exclusive = Callable[[run.ControlPlane, Listener], AbstractContextManager[Callable[[], None]]]
"""How a run is the only one that changes members: gives what raises where it may not be any more."""


@contextmanager
def exclusively(control_plane: run.ControlPlane, listener: Listener) -> Iterator[Callable[[], None]]:
    """Hold the cluster's Lease for changes of the control plane. Raises `LeaseHeld`."""

    def wait(what: str, elapsed: float, limit: float) -> None:
        listener(Waiting(control_plane.node.name, etcd_join.ETCD_JOIN.name, what, elapsed, limit))

    with leases.held(control_plane.api, lock.Owner.here("join"), wait) as holding:
        yield holding.check


def unhindered(_: run.ControlPlane, __: Listener) -> AbstractContextManager[Callable[[], None]]:
    """Hold nothing, for a look."""
    return nullcontext(lambda: None)


@dataclass(frozen=True, slots=True)
class Growth:
    """What came of it: the control plane's hosts now, those that joined, and why others did not."""

    nodes: tuple[Node, ...]
    joined: tuple[str, ...] = ()
    failures: Mapping[str, BootstrapError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ground:
    """What grows, and by which means. `seen` are the control-plane hosts of `inventory` that were looked at."""

    inventory: Inventory
    seen: Sequence[Node]
    control_plane: run.ControlPlane
    contents: Contents
    workflow: Sequence[plan.Phase]
    request: Request
    means: Means
    way: run.Way
    exclusive: Exclusive
    listener: Listener
    vet: Callable[[Sequence[Node]], Mapping[str, BootstrapError]]
    """Says which new machines may not join, and why; the others are admitted."""

    @property
    def hosts(self) -> Mapping[str, Host]:
        """The machines of `seen`, connected."""
        return {node.name: self.means.hosts[node.name] for node in self.seen}

    def roster(self, enrolled: Sequence[Member]) -> Roster:
        """Part the control plane's hosts by what etcd counts them as."""
        return topology.planes(self.inventory, self.seen, enrolled)

    def newcomers(self, roster: Roster, wanted: Sequence[str]) -> list[Node]:
        """Give the hosts in `wanted` that are to join, or that a run left unfinished."""
        names = {*roster.outside, *roster.unfinished} - {self.control_plane.node.name, *roster.removed}
        return [node for node in self.seen if node.name in names and node.name in wanted]

    def alone(self, roster: Roster, wanted: Sequence[str]) -> bool:
        """Say whether a run of ours was ended before it told the first member that there are others.

        The Lease stays where we added members. What only kubeadm made is no matter of `join`.
        """
        kept = members.initial_clusters(roster.nodes)
        seen = [node.name for node in self.seen if node in roster.nodes and node.name in wanted]
        if len(roster.nodes) == 1 or all(name in kept for name in seen):
            return False
        with self.control_plane.api() as api:
            return leases.exists(api)


def grow(ground: Ground, wanted: Sequence[str]) -> Growth:
    """Make members of the control-plane hosts in `wanted` that are none, and finish those that a run left unfinished.

    Whoever fails before its vote is no member afterwards, and those after it are left as they were. Where etcd was
    begun as one member, its manifest is changed to list the others. Raises `LeaseHeld`, and `EtcdUnfit` where etcd
    does not take members now.
    """
    roster = ground.roster(run.enrolled(ground.hosts, ground.inventory, ground.seen))
    refused = _told(ground, {name: _removed(name) for name in roster.removed if name in wanted})
    if not ground.newcomers(roster, wanted) and not ground.alone(roster, wanted):
        return Growth(roster.nodes, failures=refused)
    with ground.exclusive(ground.control_plane, ground.listener) as check:
        found = run.enrolment(ground.hosts, ground.seen)
        if found is None:
            why = "more than half of its members must run and reach each other"
            raise EtcdUnfit("etcd takes no new members now; nothing was done", [why])
        etcd, enrolled = found
        roster = ground.roster(enrolled)
        newcomers = ground.newcomers(roster, wanted)
        unfit = ground.vet(newcomers)
        refused |= _told(ground, unfit)
        newcomers = in_order([node for node in newcomers if node.name not in unfit], enrolled)
        site = _site(ground, roster, newcomers, enrolled)
        means = replace(ground.means, etcd=etcd, change=check)
        joined, failures = _do(ground, plan.build(ground.workflow, site, nodes=newcomers, in_turn=True), means)
        everyone = tuple(node for node in site.control_plane if node in roster.nodes or node.name in joined)
        told = [node for node in roster.nodes if node in ground.seen and _must_know(site, node)]
        if len(everyone) > 1 and told and etcd_join.ETCD_JOIN in ground.workflow:
            grown = replace(site, nodes=everyone)
            _, failed = _do(ground, plan.build(phases.GROWN, grown, nodes=told, in_turn=True), means)
            failures |= failed
    return Growth(everyone, tuple(joined), {**refused, **failures})


def _must_know(site: Site, node: Node) -> bool:
    return node.name not in site.initial_clusters or site.cluster.endpoint.kind == "vip"


def _site(ground: Ground, roster: Roster, newcomers: Sequence[Node], enrolled: Sequence[Member]) -> Site:
    by_name = {node.name: node for node in (*roster.nodes, *newcomers)}
    everyone = [by_name[machine.name] for machine in ground.inventory.control_plane if machine.name in by_name]
    lead = ground.control_plane.node.name
    now = datetime.datetime.now(datetime.UTC)
    seen = [node for node in everyone if node in ground.seen]
    kept = run.operators_cas(ground.inventory.cluster, seen, now, ground.way)
    ground.request.secrets.learn(*kept.values())
    files = kubeconfig.site_files(ground.inventory.cluster, seen, now, first="", kept=kept)
    for held in files.values():
        ground.request.secrets.learn(*held.values())
    return Site(
        ground.inventory.cluster,
        tuple(everyone),
        ground.contents,
        files,
        lead=lead,
        initial_clusters=initial_clusters(everyone, newcomers, enrolled, roster.lost),
        lost=roster.lost,
    )


def initial_clusters(
    everyone: Sequence[Node], newcomers: Sequence[Node], enrolled: Sequence[Member], lost: Mapping[str, int]
) -> dict[str, InitialCluster]:
    """Give, by host, what its etcd is told of the others; `newcomers` join in this order, `lost` data are worthless."""
    # What a member that has data is told does not matter any more.
    settled = [node for node in everyone if node.facts.etcd_data and node.name not in lost]
    urls = {node.name: static_pods.peer_url(node) for node in newcomers}
    return members.joining_clusters(enrolled, urls) | members.initial_clusters(settled)


def in_order(newcomers: Sequence[Node], enrolled: Sequence[Member]) -> list[Node]:
    """Give the hosts in the order in which they join: first the one that a run left as a learner.

    etcd has one learner at a time. Raises `EtcdUnfit` where that is none of these hosts.
    """
    urls = {node.name: static_pods.peer_url(node) for node in newcomers}
    learners = [member for member in enrolled if member.learner]
    strays = [member for member in learners if not set(member.peers) & set(urls.values())]
    if strays:
        what = "etcd has a learner already, and takes one at a time; nothing was done"
        told = [f"{member} (id {identity(member.id)}) is none of the hosts that join now" for member in strays]
        raise EtcdUnfit(what, told, "Join that one first, or take it out: `kubestrap prune`.")
    first = {url for member in learners for url in member.peers}
    return sorted(newcomers, key=lambda node: urls[node.name] not in first)


def _do(ground: Ground, todo: plan.Plan, means: Means) -> tuple[list[str], dict[str, BootstrapError]]:
    ground.request.secrets.learn(*todo.hidden)
    return run.worked(todo, means, ground.way, ground.listener, {})


def _told(ground: Ground, failures: Mapping[str, BootstrapError]) -> dict[str, BootstrapError]:
    for name, error in failures.items():
        ground.listener(HostFailed(name, etcd_join.ETCD_JOIN.name, error))
    return dict(failures)


def _removed(name: str) -> HostError:
    return HostError(
        name,
        "it was taken out of this cluster, and its machine still holds what it had as a member: "
        f"`kubestrap remove {name}` takes that away, then it can join again",
    )
