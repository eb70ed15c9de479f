"""What a run does before it plans: look at machines, all at once, and refuse those that are unfit."""

from __future__ import annotations

import contextlib
import datetime
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import resources

from bootstrap import lock, paths, preflight, reach, survey, tokens, virtual_address
from bootstrap.addresses import node_address
from bootstrap.connections import connected
from bootstrap.errors import (
    BootstrapError,
    HostsFailed,
    Locked,
    OtherCluster,
    Problem,
    RecoveryUnfinished,
    StepFailed,
    UsageError,
)
from bootstrap.etcd import external
from bootstrap.parallel import attempt, raise_failures
from bootstrap.plan import Phase, select
from bootstrap.redaction import Secrets
from bootstrap.site import Node
from bootstrap.spec import Host as Machine
from bootstrap.spec import Inventory
from bootstrap.transport.base import Host

_ASIDE_SECONDS = 300.0
_CA = f"{paths.PKI}/ca.crt"


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks of a run. `skip` names phases, `ignored` preflight checks; `secrets` learn what is not told.

    `only` names the phases that are done (all, where it is empty), `until` the last one, `limit` the hosts. With
    `force` what another cluster left on machines is moved aside.
    """

    skip: Sequence[str] = ()
    ignored: Sequence[str] = ()
    secrets: Secrets = field(default_factory=Secrets)
    only: Sequence[str] = ()
    until: str = ""
    limit: Sequence[str] = ()
    force: bool = False

    def phases(self, workflow: Sequence[Phase]) -> tuple[Phase, ...]:
        """Give the phases of `workflow` that are asked for. Raises `UsageError` for a name that there is not."""
        return select(workflow, only=self.only, skip=self.skip, until=self.until)

    def machines(self, inventory: Inventory, part: Sequence[Machine]) -> tuple[Machine, ...]:
        """Give those of `part`, the hosts that a command is about, that are asked for.

        Raises `UsageError` for a host that the inventory does not have, or that has no part in it.
        """
        known = [machine.name for machine in inventory.hosts]
        if unknown := [name for name in self.limit if name not in known]:
            guesses = [guess for name in unknown for guess in get_close_matches(name, known, 1)]
            hint = f"; did you mean {', '.join(guesses)}?" if guesses else ""
            raise UsageError(f"the inventory has no host {', '.join(unknown)}{hint}")
        names = [machine.name for machine in part]
        if idle := [name for name in self.limit if name not in names]:
            raise UsageError(f"nothing is done on {', '.join(idle)} by this command")
        return tuple(machine for machine in part if not self.limit or machine.name in self.limit)


@dataclass(frozen=True, slots=True)
class Gathered:
    """The machines that can be worked on, in the given order, and why the others can't be looked at."""

    nodes: tuple[Node, ...]
    warnings: tuple[Problem, ...]
    failures: Mapping[str, BootstrapError]


def gather(
    machines: Sequence[Machine],
    hosts: Mapping[str, Host],
    inventory: Inventory,
    request: Request,
    *,
    workflow: preflight.Workflow | None,
    lease: lock.Lease | None = None,
    only_looked_at: Sequence[str] = (),
    proxied: bool = False,
) -> Gathered:
    """Survey and examine the machines that are connected, two round trips each, and then the ways between them.

    Machines that are `only_looked_at` are not examined for what they are, only for the ways to and from them. With
    `proxied` workers are to have a proxy that leads to the control planes. `workflow` is what they are to go through,
    None where it is what machines of their role begin with.

    With `lease` their locks are taken meanwhile, and what they hold is read back under the lock. Raises `HostsFailed`
    with `Locked` errors where another run holds any, else `PreflightFailed` with every problem of every machine,
    unless the phase `preflight` is skipped.
    """
    cluster = inventory.cluster
    found = _examine(
        machines,
        hosts,
        inventory,
        request,
        workflow=workflow,
        platform=inventory.cluster.bundle.platform,
        lease=lease,
        only_looked_at=only_looked_at,
        proxied=proxied,
    )
    warnings = preflight.judge(found.problems, [*cluster.ignore_preflight_errors, *request.ignored])
    nodes = dict(found.nodes)
    if found.leftovers and lease:
        warnings += _move_aside(found.leftovers, lease.guard(hosts))
        for name in dict.fromkeys(left.host for left in found.leftovers):
            nodes[name] = _look(nodes[name].host, hosts[name], inventory)  # it does not hold any more what it held
    else:
        warnings += [_aside(left, f"{left.path} is there", "--force moves it aside") for left in found.leftovers]
    return Gathered(tuple(nodes.values()), tuple(warnings), found.failures)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What preflight found on machines that are not going to be changed: all of it, errors among it.

    `fit` are the hosts without any error, `failures` why others could not be looked at.
    """

    fit: tuple[str, ...]
    problems: tuple[Problem, ...]
    failures: Mapping[str, BootstrapError]


def inspect(inventory: Inventory, request: Request) -> Inspection:
    """Examine the machines of `inventory`, each for what its role asks for, and the ways between them.

    Takes no lock and changes nothing. Raises `UsageError` for a host in `request.limit` that there is not.
    """
    machines = request.machines(inventory, inventory.hosts)
    with connected(inventory, machines) as connections:
        found = _examine(
            machines,
            connections.hosts,
            inventory,
            request,
            workflow=None,
            platform=inventory.cluster.bundle.platform,
            lease=None,
            proxied=inventory.is_proxied,
        )
    problems = preflight.judged(found.problems, [*inventory.cluster.ignore_preflight_errors, *request.ignored])
    unfit = {problem.host for problem in problems if problem.level == "error"}
    fit = tuple(name for name in found.nodes if name not in unfit)
    return Inspection(fit, tuple(problems), {**connections.failures, **found.failures})


@dataclass(frozen=True, slots=True)
class _Leftover:
    host: str
    check: str
    path: str


@dataclass(frozen=True, slots=True)
class _Examined:
    """What was seen of machines, not judged yet; `leftovers` is what `--force` is to move aside."""

    nodes: Mapping[str, Node]
    problems: Sequence[Problem]
    failures: Mapping[str, BootstrapError]
    leftovers: Sequence[_Leftover]


def _examine(
    machines: Sequence[Machine],
    hosts: Mapping[str, Host],
    inventory: Inventory,
    request: Request,
    *,
    workflow: preflight.Workflow | None,
    platform: str,
    lease: lock.Lease | None,
    only_looked_at: Sequence[str] = (),
    proxied: bool,
) -> _Examined:
    cluster = inventory.cluster
    by_name = {machine.name: machine for machine in machines if machine.name in hosts}
    examined = "preflight" not in request.skip

    def look(name: str) -> tuple[Node, preflight.Examination | None]:
        machine, host = by_name[name], hosts[name]
        holding = lease.take(host) if lease else None
        known: Node | None = None
        if cluster.ca_cert_hash:
            if holding:
                holding.wait()
            known = _look(machine, host, inventory)
        examination = None
        if examined and name not in only_looked_at:
            own: preflight.Workflow = workflow or ("join" if machine.is_worker else "init")
            examination = preflight.examine(
                host,
                machine,
                cluster,
                workflow=own,
                platform=platform,
                proxied=proxied,
                stacked=inventory.is_stacked,
                adopted=known is not None and _CA in known.facts.files,
            )
        if holding:
            holding.wait()
        return known or _look(machine, host, inventory), examination

    looked, failures = attempt(list(by_name), look)
    locked = {name: error for name, error in failures.items() if isinstance(error, Locked)}
    if locked:
        raise HostsFailed(locked)
    nodes = {name: node for name, (node, _) in looked.items()}
    if lease and (unfinished := {name: _unfinished(name) for name, node in nodes.items() if node.facts.recovering}):
        raise HostsFailed(unfinished)
    for node in nodes.values():
        request.secrets.learn(*node.facts.files.values())
    examinations = [examination for _, examination in looked.values() if examination]
    borne = {name.lower() for name in (*cluster.ignore_preflight_errors, *request.ignored)}
    leftovers = [
        _Leftover(examination.host, check, path)
        for examination in examinations
        for check, path in examination.leftovers.items()
        if request.force and not borne & {check.lower(), "all"}
    ]
    forced = {(left.host, left.check) for left in leftovers}
    problems = [
        problem
        for examination in examinations
        for problem in examination.problems
        if (problem.host, problem.check) not in forced
    ]
    problems += preflight.across(examinations)
    if examined:
        seen = {examination.host: examination.seen for examination in examinations}
        problems += reach.check(tuple(nodes.values()), hosts, seen, cluster, stacked=inventory.is_stacked)
        problems += virtual_address.check(tuple(nodes.values()), hosts, cluster)
        planes = {name: hosts[name] for name, node in nodes.items() if node.host.is_control_plane and name in seen}
        if cluster.etcd.external and workflow != "join":
            problems += external.check(cluster.etcd.external, planes)
    return _Examined(nodes, problems, failures, leftovers)


def _unfinished(name: str) -> RecoveryUnfinished:
    what = "its etcd is being recovered, by a run that did not end: run `kubestrap etcd recover` again, to its end"
    return RecoveryUnfinished(name, what)


def _look(machine: Machine, host: Host, inventory: Inventory) -> Node:
    data = inventory.cluster.etcd.local.data_dir if machine in inventory.etcd_members else ""
    facts = survey.look(host, survey.read_back(machine), etcd_data=data)
    require_ca(machine.name, facts.files.get(_CA), inventory.cluster.ca_cert_hash)
    # Which machine has the virtual address changes.
    own = [address for address in facts.addresses if address != inventory.cluster.virtual_address]
    return Node(machine, node_address(machine, own, inventory.cluster.networking), facts)


def require_ca(name: str, ca: bytes | None, wanted: str | None) -> None:
    """Raise `OtherCluster` for a host that holds a CA whose hash is not the one that is wanted, if any is."""
    if ca is None or not wanted:
        return
    with contextlib.suppress(ValueError):
        if wanted in tokens.ca_cert_hashes(ca):
            return
    raise OtherCluster(
        name,
        f"it is in another cluster: its {_CA} is not the CA that cluster.caCertHash names. Take that cluster off the "
        "machine (reset), or correct the inventory",
    )


def _move_aside(leftovers: Sequence[_Leftover], hosts: Mapping[str, Host]) -> list[Problem]:
    """Move them, each machine's into a folder of this moment. Raises `HostsFailed`; what was moved then stays moved."""
    folder = f"{paths.ASIDE}/{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    script = resources.files("bootstrap").joinpath("aside.sh").read_bytes()

    def move(name: str) -> list[Problem]:
        own = {left.path: left for left in leftovers if left.host == name}
        result = hosts[name].run(shlex.join(["sh", "-s", folder, *own]), stdin=script, seconds=_ASIDE_SECONDS)
        if result.status:
            why = result.stderr.decode(errors="replace").strip() or f"status {result.status}"
            raise StepFailed(name, "preflight", "move aside what another cluster left", why)
        moved = [line.split("\t") for line in result.stdout.decode(errors="replace").splitlines()]
        return [
            _aside(own[path], f"{path} was moved to {where}", "delete it when nothing of it is needed")
            for _, path, where in moved
        ]

    done, failures = attempt(list(dict.fromkeys(left.host for left in leftovers)), move)
    raise_failures(failures, {})
    return [problem for some in done.values() for problem in some]


def _aside(leftover: _Leftover, what: str, fix: str) -> Problem:
    return Problem(leftover.host, leftover.check, "warning", what, fix)
