"""replace: another host in the place of one, with etcd's majority in mind.

While the old host is well the new one joins first, so that there are never less members than before. A lost one goes
first: it counts for the majority, and does nothing for it. Both halves look first, so that a run that was killed
anywhere is finished by another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from bootstrap import joining, removal, spec
from bootstrap.connections import connected
from bootstrap.errors import Problem, UsageError
from bootstrap.events import Listener
from bootstrap.gather import Request
from bootstrap.standing import seen_from


@dataclass(frozen=True, slots=True)
class Replaced:
    """What came of it: the hosts that joined, and what came of the removal."""

    joined: tuple[str, ...]
    removal: removal.Outcome


def replace(
    inventory: spec.Inventory,
    old: str,
    new: str,
    request: Request,
    listener: Listener,
    warn: Callable[[Problem], None],
    choice: removal.Choice,
) -> Replaced:
    """Have the host `new` of `inventory` join, and take `old` out, which need not be in the inventory any more.

    Raises `UsageError` for names that cannot be meant, and what `joining.join` and `removal.remove` raise. Where the
    first half fails, the second is not begun.
    """
    require_names(inventory, old, new)
    request = dataclasses.replace(request, limit=(new,))

    def remove() -> removal.Outcome:
        return removal.remove(inventory, [old], listener, warn, choice, "replace")

    if _is_well(inventory, old):
        joined = joining.join(inventory, request, listener, warn)
        return Replaced(joined.hosts, remove())
    outcome = remove()
    joined = joining.join(removal.without(inventory, [old]), request, listener, warn)
    return Replaced(joined.hosts, outcome)


def require_names(inventory: spec.Inventory, old: str, new: str) -> None:
    """Raise `UsageError` for names that cannot be meant."""
    if new == old:
        raise UsageError(
            f"{new} cannot take its own place: `kubestrap remove {old}`, and then `kubestrap join` with the new machine"
        )
    if new not in {host.name for host in inventory.hosts}:
        raise UsageError(f"the inventory has no host {new}: put it there first, with its role, to replace {old}")


def _is_well(inventory: spec.Inventory, old: str) -> bool:
    """Say whether a host's machine is reached, and its member of etcd, if it has one, is well."""
    machines = [host for host in inventory.hosts if not host.is_worker or host.name == old]
    with connected(inventory, machines) as connections, seen_from(inventory, connections, None) as standing:
        quorum = standing.ask_etcd()
    member = quorum.members.get(old) if quorum else None
    return old in connections.hosts and (member is None or quorum is None or member.id in quorum.well)
