"""remove: take hosts out of a cluster that goes on, whether their machines are there or lost.

Workers' proxies first, so that no client is led to an API server that goes; then for each host its Pods, its etcd
member, its Node, and at last what is on the machine. Where the machine is not reached, the API server refuses it
from then on (`removed`). Each step looks first, so that a run that was killed anywhere is finished by another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bootstrap import departure, leases, lock, phases, plan, removed, reset, spec
from bootstrap.api import Api
from bootstrap.connections import connected
from bootstrap.errors import BootstrapError, EtcdUnfit, HostError, HostsFailed, Problem, UsageError, words
from bootstrap.etcd import membership
from bootstrap.etcd.members import Member
from bootstrap.etcd.membership import Quorum
from bootstrap.events import HostFailed, Listener, PhaseDone, PhaseStarted, State, StepDone, Waiting
from bootstrap.execute import Means, execute
from bootstrap.parallel import attempt
from bootstrap.run import bundle_of
from bootstrap.site import Node, Site
from bootstrap.standing import Standing, seen_from
from bootstrap.transport.base import Host

PHASE = "remove"
SILENCE_SECONDS = 75.0
"""How long it is waited for that the cluster, too, takes a machine for lost, which it does after 50 s."""
UNLED_SECONDS = 60.0
"""How long it is waited for that Pods are led no more to an API server that has gone."""
_DEAD_DRAIN_SECONDS = 10.0
_PAUSE = 2.0
_PROXIES = ("prepare/hosts", "local-proxy", "wait-local-proxy")


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user allows. `dead`: hosts that are not reached may go. `force`: in spite of what speaks against it."""

    dead: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The hosts that were taken out, those that were out already, and what `reset` did on machines."""

    removed: tuple[str, ...]
    gone: tuple[str, ...]
    reports: tuple[reset.Report, ...]


@dataclass(frozen=True, slots=True)
class Leaving:
    """A host that is to go, as it was found. `host` is the way to its machine, None where it is not reached."""

    name: str
    host: Host | None
    unreached: BootstrapError | None
    node: Mapping[str, Any] | None
    member: Member | None
    is_ours: bool

    @property
    def is_in(self) -> bool:
        """Whether the cluster knows it."""
        return self.node is not None or self.member is not None

    @property
    def addresses(self) -> frozenset[str]:
        """Its Node's addresses; none where there is no Node."""
        return frozenset(_addresses(self.node))

    @property
    def machine(self) -> str:
        """The machine's id as its Node tells it; empty where nobody knows."""
        return str(((self.node or {}).get("status") or {}).get("nodeInfo", {}).get("machineID", ""))


def remove(
    inventory: spec.Inventory,
    names: Sequence[str],
    listener: Listener,
    warn: Callable[[Problem], None],
    choice: Choice,
    command: str = "remove",
) -> Outcome:
    """Take the hosts `names` out of the cluster, and kubestrap's work off those machines that are reached.

    They need not be in the inventory. What speaks against it is found before anything is changed. Raises
    `UsageError` for a name that nothing knows, `EtcdUnfit` where etcd would lose its quorum, `LeaseHeld` where another
    run changes the control plane, and `HostsFailed`: where hosts failed in the middle, after the others are done.
    """
    names = list(dict.fromkeys(names))
    owner = lock.Owner.here(command)
    workers = {host.name for host in inventory.hosts if host.is_worker}
    only_workers = workers.issuperset(names)
    # Workers that stay have to do with it where their API servers change.
    machines = [host for host in inventory.hosts if host.name in names or not (host.is_worker and only_workers)]
    with (
        connected(inventory, machines) as connections,
        lock.Lease(owner) as lease,
        seen_from(without(inventory, names), connections, lease) as standing,
        nullcontext(_unheld) if only_workers else _held(standing, owner, names[0], listener) as check,
    ):
        quorum = standing.ask_etcd()
        known = {host.name: host for host in inventory.hosts}
        everybody = [_found(standing, quorum, name, known.get(name)) for name in names]
        _require_known(standing, known, everybody)
        _require_fit(standing, quorum, everybody, listener, choice)
        hosts = lease.guard(connections.hosts)
        tell = Telling(standing, quorum, hosts, lease, listener, warn)
        if not only_workers:
            tell.workers(names)
        failures = _take_out(Taking(standing, quorum, hosts, everybody, listener, choice, check))
        fit = [each.name for each in everybody if each.host and each.name not in failures]
        done, failed = attempt(fit, lambda name: reset.clean(hosts[name], inventory.cluster, listener))
        removed.admit(standing.api, list(done))
        if not only_workers:
            tell.holders_of_the_address()
            tell.clients_in_the_cluster([each for each in everybody if each.name not in failures])
    failures |= failed
    out = [each.name for each in everybody if each.name not in failures and (each.is_in or not _is_bare(done, each))]
    for name, error in failures.items():
        listener(HostFailed(name, PHASE, error))
    if failures:
        raise HostsFailed(failures, out)
    return Outcome(tuple(out), tuple(name for name in names if name not in out), tuple(done.values()))


def _is_bare(done: Mapping[str, reset.Report], each: Leaving) -> bool:
    return each.name not in done or done[each.name].nothing


@contextmanager
def _held(standing: Standing, owner: lock.Owner, name: str, listener: Listener) -> Iterator[Callable[[], None]]:
    """Hold the Lease of changes of the control plane; gives what raises where it is lost."""

    def on_wait(what: str, elapsed: float, limit: float) -> None:
        listener(Waiting(name, PHASE, what, elapsed, limit))

    with leases.held(standing.control_plane.api, owner, on_wait) as holding:
        yield holding.check


def _unheld() -> None:
    """Nothing can be lost."""


def still_led_to(
    api: Api, addresses: Mapping[str, Collection[str]], listener: Listener, *, seconds: float = UNLED_SECONDS
) -> list[str]:
    """Wait until the Service kubernetes leads to none of `addresses`, which are by host; give whom it leads to still.

    An API server that has ended leaves it when its lease is over and another one looks: after 25 s at most
    (pkg/controlplane/reconcilers/lease.go).
    """
    began = time.monotonic()
    labels = "kubernetes.io/service-name=kubernetes"
    while True:
        slices = api.list("discovery.k8s.io/v1", "EndpointSlice", "default", labels=labels)
        led = {address for each in slices for one in each["endpoints"] or () for address in one["addresses"]}
        left = [name for name, own in addresses.items() if not led.isdisjoint(own)]
        elapsed = time.monotonic() - began
        if not left or elapsed >= seconds:
            return left
        for name in left:
            listener(Waiting(name, PHASE, "the Service kubernetes to lead there no more", elapsed, seconds))
        time.sleep(min(_PAUSE, seconds - elapsed))


def without(inventory: spec.Inventory, names: Collection[str]) -> spec.Inventory:
    """Give `inventory` without these hosts. Raises `UsageError` where no control-plane host is left."""
    hosts = tuple(host for host in inventory.hosts if host.name not in names)
    if not any(host.is_control_plane for host in hosts):
        raise UsageError(
            "no control-plane host would be left, and with it no cluster: `kubestrap reset` takes a whole cluster away"
        )
    return inventory.model_copy(update={"hosts": hosts})


def _found(standing: Standing, quorum: Quorum | None, name: str, known: spec.Host | None) -> Leaving:
    node = standing.api.get_object("v1", "Node", name)
    member = _member(quorum, name, known, node) if quorum else None
    hosts, failures = standing.connections.hosts, standing.connections.failures
    return Leaving(name, hosts.get(name), failures.get(name), node, member, known is not None)


def _member(quorum: Quorum, name: str, known: spec.Host | None, node: Mapping[str, Any] | None) -> Member | None:
    """Find the host's member: by its name, or by its address where it never started."""
    if found := quorum.members.get(name):
        return found
    addresses = _addresses(node)
    if known:
        addresses |= {str(known.address), str(known.node_address)}
    nameless = (member for member in quorum.members.values() if not member.name)
    return next((each for each in nameless if {urlsplit(url).hostname for url in each.peers} & addresses), None)


def _addresses(node: Mapping[str, Any] | None) -> set[str]:
    return {each["address"] for each in ((node or {}).get("status") or {}).get("addresses") or []}


def _members(everybody: Sequence[Leaving]) -> dict[str, Member]:
    return {each.name: each.member for each in everybody if each.member}


def _require_known(standing: Standing, known: Collection[str], everybody: Sequence[Leaving]) -> None:
    refused = removed.listed(standing.api)
    unknown = [each.name for each in everybody if not each.is_in and not each.is_ours and each.name not in refused]
    if unknown:
        nodes = ", ".join(node["metadata"]["name"] for node in standing.api.list("v1", "Node"))
        raise UsageError(
            f"no such host: {', '.join(unknown)}; the inventory has {', '.join(known)}, and the cluster {nodes}"
        )


def _require_fit(
    standing: Standing, quorum: Quorum | None, everybody: Sequence[Leaving], listener: Listener, choice: Choice
) -> None:
    """Find all that speaks against it. Raises `HostsFailed` for hosts, `EtcdUnfit` for the quorum."""
    by_name = {each.name: each for each in everybody}

    def in_touch(each: Leaving) -> bool:
        hosts = standing.connections.hosts
        return bool(quorum and each.member and membership.is_in_touch(hosts, quorum, each.member))

    def require_fit(name: str) -> None:
        each = by_name[name]
        if each.host:
            machine = reset.check(each.host, standing.inventory.cluster)
            if machine and each.machine and machine != each.machine:
                raise HostError(
                    name,
                    f"the Node of this name is another machine (machine id {each.machine}) than the one that is "
                    f"reached ({machine}): take it out of the inventory, and reset it on its own. Nothing was changed",
                )
        elif each.is_in:
            require_dead(standing.api, each, lambda: in_touch(each), listener, choice)

    _, failures = attempt(list(by_name), require_fit)
    if failures:
        raise HostsFailed(failures)
    ids = [member.id for member in _members(everybody).values()]
    if quorum and ids and (reasons := membership.hindrances(quorum, ids)):
        raise EtcdUnfit("etcd's members cannot be removed; nothing was changed", reasons)


def require_dead(api: Api, each: Leaving, is_in_touch: Callable[[], bool], listener: Listener, choice: Choice) -> None:
    """Raise `HostError` unless a host that is not reached may be taken for lost: by the user, and by the cluster.

    `is_in_touch` says whether its member of etcd is connected to others.
    """
    why = f"it is not reached ({words(each.unreached)})" if each.unreached else "it is not in the inventory"
    if not choice.dead:
        raise HostError(
            each.name,
            f"{why}, so its machine cannot be cleaned. If the machine is lost, or is to go as it is, give --dead; "
            "nothing was changed",
        )
    began = time.monotonic()
    first = None
    while not choice.force:
        found = api.get_object("coordination.k8s.io/v1", "Lease", each.name, "kube-node-lease") or {}
        beat = (found.get("spec") or {}).get("renewTime")
        first = first or beat
        ready = departure.is_ready(api.get_object("v1", "Node", each.name))
        if not ready and not is_in_touch():
            return
        elapsed = time.monotonic() - began
        if beat != first or elapsed >= SILENCE_SECONDS:
            sign = "its kubelet tells the cluster that it is Ready" if ready else "its etcd member talks to the others"
            raise HostError(
                each.name,
                f"{why}, but {sign}: it is alive. Shut the machine down, or give --force; nothing was changed",
            )
        listener(Waiting(each.name, PHASE, "the cluster to know that it is lost", elapsed, SILENCE_SECONDS))
        time.sleep(_PAUSE)


@dataclass(frozen=True, slots=True)
class Telling:
    """How hosts that stay are told who serves the API from now on. Those that cannot be are warned of."""

    standing: Standing
    quorum: Quorum | None
    hosts: Mapping[str, Host]
    lease: lock.Lease
    listener: Listener
    warn: Callable[[Problem], None]

    def workers(self, leaving: Sequence[str]) -> None:
        """Tell the workers, before anything goes that a client might be led to."""
        nodes = [node for node in self.standing.nodes if node.host.is_worker]
        unreached = {host.name for host in self.standing.inventory.hosts if host.is_worker} - {n.name for n in nodes}
        failures = self._do(phases.JOIN, _PROXIES, [node for node in nodes if node.facts.bootstrapped])
        failures |= {name: why for name, why in self.standing.failures.items() if name in unreached}
        for name, why in failures.items():
            fix = f"it may ask {', '.join(leaving)} in vain until `kubestrap join` reaches it"
            self.warn(Problem(name, "local-proxy", "warning", words(why), fix))

    def holders_of_the_address(self) -> None:
        """Tell those that hold a virtual address in turn, after whoever held it has gone."""
        if self.standing.inventory.cluster.endpoint.kind != "vip":
            return
        serving = {node.name for node in self.standing.serving(self.quorum)}
        nodes = [node for node in self.standing.nodes if node.name in serving]
        for name, why in self._do(phases.INIT, ("vip",), nodes).items():
            self.warn(Problem(name, "vip", "warning", words(why), "`kubestrap init` tells it who is left"))

    def clients_in_the_cluster(self, gone: Sequence[Leaving]) -> None:
        """Wait until Pods are not led to those that have gone, by the Service kubernetes."""
        addresses = {each.name: each.addresses for each in gone}
        for name in still_led_to(self.standing.api, addresses, self.listener):
            what = "Pods are led to its API server still, by the Service kubernetes"
            self.warn(Problem(name, PHASE, "warning", what, "see who renews the EndpointSlice default/kubernetes"))

    def _do(
        self, workflow: Sequence[plan.Phase], only: Sequence[str], nodes: Sequence[Node]
    ) -> dict[str, BootstrapError]:
        inventory, serving = self.standing.inventory, self.standing.serving(self.quorum)
        bundle = bundle_of(inventory)
        others = [node for node in nodes if node not in serving]
        address = self.standing.control_plane.node.address
        site = Site(inventory.cluster, (*serving, *others), bundle.contents, endpoint_address=address)
        todo = plan.build(plan.select(workflow, only=only), site, nodes=nodes, in_turn=True)
        try:
            execute(todo, Means(self.hosts, self.standing.control_plane.api, bundle.open, self.lease), self.listener)
        except HostsFailed as error:
            return dict(error.failures)
        return {}


@dataclass(frozen=True, slots=True)
class Taking:
    """What hosts are taken out with. `check` raises where the Lease is lost."""

    standing: Standing
    quorum: Quorum | None
    hosts: Mapping[str, Host]
    everybody: Sequence[Leaving]
    listener: Listener
    choice: Choice
    check: Callable[[], None]


def _take_out(taking: Taking) -> dict[str, BootstrapError]:
    """Take hosts out of the cluster: members of etcd one after the other, others at once; give why some are in."""
    by_name = {each.name: each for each in taking.everybody}
    members = _members(taking.everybody)
    _refuse(taking)
    _, failures = attempt([name for name in by_name if name not in members], lambda name: _take(taking, by_name[name]))
    first = ""
    for name in membership.in_order(taking.quorum, members) if taking.quorum else ():
        if first:
            failures[name] = HostError(name, f"it was left as it was: {first} failed before it")
            continue
        failed = attempt([name], lambda name: _take(taking, by_name[name]))[1]
        failures |= failed
        first = next(iter(failed), "")
    return failures


def _take(taking: Taking, each: Leaving) -> None:
    api, name = taking.standing.api, each.name
    dead = not each.host and not departure.is_ready(api.get_object("v1", "Node", name))
    drain = spec.seconds(taking.standing.inventory.cluster.timeouts.drain)

    def expel() -> None:
        taking.check()
        if each.member and taking.quorum:
            leaving = [member.id for member in _members(taking.everybody).values()]
            membership.expel(taking.hosts, taking.quorum, each.member, leaving, name, taking.listener)

    failed = departure.depart(
        api,
        {name: each.machine},
        taking.listener,
        seconds=_DEAD_DRAIN_SECONDS if dead else drain,
        force=dead or taking.choice.force,
        emptied=lambda _: expel(),
    )
    if failed:
        raise failed[name]
    if each.node is None:
        expel()


def _refuse(taking: Taking) -> None:
    """Have the API server refuse the machines that cannot be cleaned, should they come back."""
    machines = {each.name: each.machine for each in taking.everybody if each.is_in and not each.host}
    for name in machines:
        taking.listener(PhaseStarted(name, PHASE))
    began = time.monotonic()
    new = removed.refuse(taking.standing.api, machines) if machines else set()
    for name in machines:
        state: State = "changed" if name in new else "same"
        taking.listener(StepDone(name, PHASE, f"Node {name}", state, "refused from now on" * (name in new)))
        taking.listener(PhaseDone(name, PHASE, time.monotonic() - began, int(name in new), 1))
