"""verify: whether machines and cluster are as they should be, asked of them and not of what was once written.

`catalogue` holds the checks of machines, by testinfra over our own connection; `smoke` uses the cluster.
"""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from bootstrap import spec
from bootstrap.connections import connected
from bootstrap.errors import UsageError
from bootstrap.parallel import attempt
from bootstrap.run import first_ready
from bootstrap.site import Contents
from bootstrap.transport.base import Host
from bootstrap.verify import in_cluster, smoke
from bootstrap.verify.catalogue import CATALOGUE, SETTLING
from bootstrap.verify.subject import Check, Machine, Remembering, Subject

AT_ONCE = 3
"""Checks that are made on a machine at the same time.

OpenSSH's server allows ten sessions on a connection, and counts one that has ended until it gets round to it.
"""
_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one check on one host. Without problems it passed."""

    host: str
    check: str
    problems: tuple[str, ...] = ()


def names() -> tuple[str, ...]:
    """List the ids of all checks, in the order they are made."""
    return (*(check.id for check in CATALOGUE), *smoke.TEXTS)


def verify(
    inventory: spec.Inventory,
    contents: Contents,
    *,
    only: Sequence[str] = (),
    limits: smoke.Limits | None = None,
    tell: Callable[[Outcome], None] = lambda _: None,
    on_wait: Callable[[str, str, float, float], None] = lambda *_: None,
) -> list[Outcome]:
    """Make every check (or those in `only`; `smoke` is all of the smoke test) on every host it is for.

    `tell` is given each outcome as it comes. In a cluster that was made or changed just now, checks that fail while its
    Pods start are made again, for a while: `on_wait` is told host, what is waited for, and how long of how many
    seconds. A host that is not reached fails the check `connection`. Raises `UsageError` for a name that no check has,
    and where testinfra is not installed.
    """
    unknown = [name for name in only if name not in {*names(), "smoke"}]
    if unknown:
        raise UsageError(f"no such check: {', '.join(unknown)}; `kubestrap verify --list` lists them")
    see = _testinfra()
    checks = [check for check in CATALOGUE if not only or check.id in only]
    parts = {name for name in smoke.TEXTS if not only or {name, "smoke"} & set(only)}
    machines = {host.name: host for host in inventory.hosts}
    limits = limits or smoke.Limits()
    outcomes: list[Outcome] = []

    def collect(outcome: Outcome) -> None:
        outcomes.append(outcome)
        tell(outcome)

    with connected(inventory, inventory.hosts) as connections:
        for name, error in connections.failures.items():
            collect(Outcome(name, "connection", (str(error),)))

        masters = [host.name for host in inventory.control_plane]
        reached = {name: connections.hosts[name] for name in masters if name in connections.hosts}
        lead = first_ready(reached, inventory.cluster) if reached else ""

        settles = bool(lead and SETTLING & {check.id for check in checks}) and _is_young(see(connections.hosts[lead]))
        patience = limits.start if settles else 0

        planes = {name: partial(see, host) for name, host in reached.items()}

        def work(name: str) -> list[Outcome]:
            subject = Subject(machines[name], inventory, contents, planes)
            wanted = [check for check in checks if check.applies(subject.host, inventory, lead)]
            return settled(lambda: see(connections.hosts[name]), subject, wanted, patience, on_wait)

        done, failures = attempt(list(connections.hosts), work)
        for found in done.values():
            for outcome in found:
                collect(outcome)
        for name, error in failures.items():
            collect(Outcome(name, "connection", (str(error),)))
        if parts and lead:
            image = contents.image("agnhost").reference
            test = smoke.Smoke(connections.hosts[lead], inventory, image, _namespace(), limits)
            for part in test.run():
                if part.id in parts:
                    collect(Outcome(lead, part.id, part.problems))
    return outcomes


def settled(
    see: Callable[[], Machine],
    subject: Subject,
    checks: Sequence[Check],
    patience: float,
    on_wait: Callable[[str, str, float, float], None],
) -> list[Outcome]:
    """Make `checks` on a machine; those that settle are made again and again for `patience` seconds where they fail."""
    began = time.monotonic()
    found: dict[str, Outcome] = {}
    again = list(checks)
    while again:
        machine = Remembering(see())
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found |= {outcome.check: outcome for outcome in pool.map(partial(made, machine, subject), again)}
        again = [check for check in again if found[check.id].problems and check.id in SETTLING]
        elapsed = time.monotonic() - began
        if elapsed >= patience:
            break
        if again:
            on_wait(subject.host.name, f"{', '.join(check.id for check in again)} to pass", elapsed, patience)
            time.sleep(_PAUSE)
    return [found[check.id] for check in checks]


def _is_young(machine: Machine) -> bool:
    try:
        return in_cluster.is_young(machine)
    except ValueError:
        return False  # the API does not answer, which checks tell


def _testinfra() -> Callable[[Host], Machine]:
    try:
        from bootstrap.verify.backend import machine
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'kubestrap[verify]'") from error
    return machine


def made(machine: Machine, subject: Subject, check: Check) -> Outcome:
    """Make one check on a machine. One that cannot read what the machine answers has failed; raises `HostError`."""
    try:
        problems = tuple(check.run(machine, subject))
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        problems = (f"could not be checked: {error or type(error).__name__}",)
    return Outcome(subject.host.name, check.id, problems)


def _namespace() -> str:
    return "kubestrap-verify-" + "".join(secrets.choice(string.ascii_lowercase) for _ in range(5))


def describe() -> list[tuple[str, str, str]]:
    """List every check: its id, where it is made, and what it says when it passes."""
    made: list[tuple[str, str, str]] = [(check.id, check.on, check.text) for check in CATALOGUE]
    return made + [(name, "cluster", text) for name, text in smoke.TEXTS.items()]
