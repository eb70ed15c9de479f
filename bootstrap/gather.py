"""What a run does before it plans: look at machines, all at once, and refuse those that are unfit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from bootstrap import lock, preflight, survey
from bootstrap.addresses import node_address
from bootstrap.errors import BootstrapError, HostsFailed, Locked, Problem, UsageError
from bootstrap.parallel import attempt
from bootstrap.plan import Phase, select
from bootstrap.redaction import Secrets
from bootstrap.site import Facts, Node
from bootstrap.spec import Cluster, Inventory
from bootstrap.spec import Host as Machine
from bootstrap.transport.base import Host


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks of a run. `skip` names phases, `ignored` preflight checks; `secrets` learn what is not told.

    `only` names the phases that are done (all, where it is empty), `until` the last one, `limit` the hosts.
    """

    skip: Sequence[str] = ()
    ignored: Sequence[str] = ()
    secrets: Secrets = field(default_factory=Secrets)
    only: Sequence[str] = ()
    until: str = ""
    limit: Sequence[str] = ()

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
    cluster: Cluster,
    request: Request,
    *,
    workflow: preflight.Workflow,
    platform: str,
    lease: lock.Lease | None = None,
    only_looked_at: Sequence[str] = (),
) -> Gathered:
    """Survey and examine the machines that are connected, two round trips each; some are `only_looked_at`.

    With `lease` their locks are taken meanwhile, and what they hold is read back under the lock. Raises `HostsFailed`
    with `Locked` errors where another run holds any, else `PreflightFailed` with every problem of every machine,
    unless the phase `preflight` is skipped.
    """
    by_name = {machine.name: machine for machine in machines if machine.name in hosts}
    examined = "preflight" not in request.skip

    def look(name: str) -> tuple[Node, preflight.Examination | None]:
        machine, host = by_name[name], hosts[name]
        holding = lease.take(host) if lease else None
        examination = None
        if examined and name not in only_looked_at:
            examination = preflight.examine(host, machine, cluster, workflow=workflow, platform=platform)
        if holding:
            holding.wait()
        wanted = survey.READ_BACK if machine.is_control_plane else survey.READ_BACK_WORKER
        data = cluster.etcd.local.data_dir if machine.is_control_plane else ""
        return _node(machine, survey.look(host, wanted, etcd_data=data), cluster), examination

    looked, failures = attempt(list(by_name), look)
    locked = {name: error for name, error in failures.items() if isinstance(error, Locked)}
    if locked:
        raise HostsFailed(locked)
    for node, _ in looked.values():
        request.secrets.learn(*node.facts.files.values())
    examinations = [examination for _, examination in looked.values() if examination]
    problems = [problem for examination in examinations for problem in examination.problems]
    problems += preflight.across(examinations)
    ignored = [*cluster.ignore_preflight_errors, *request.ignored]
    warnings = preflight.judge(problems, ignored)
    return Gathered(tuple(node for node, _ in looked.values()), tuple(warnings), failures)


def _node(machine: Machine, facts: Facts, cluster: Cluster) -> Node:
    return Node(machine, node_address(machine, facts.addresses, cluster.networking), facts)
