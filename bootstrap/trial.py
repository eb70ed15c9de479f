"""What an inventory says of phases and of what they write, tried on them before any machine is asked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator

from bootstrap import outline
from bootstrap.errors import Misfit, PatchesRefused
from bootstrap.inventory import InventoryError, Problem
from bootstrap.outline import WORKFLOWS
from bootstrap.phases import addons, kubelet, static_pods
from bootstrap.plan import names
from bootstrap.site import Node, Site
from bootstrap.spec import Cluster, Inventory
from bootstrap.values import shown


def require_fitting(inventory: Inventory) -> None:
    """Look for the phase of every hook of `inventory`, and try every patch on every host.

    Raises `InventoryError` with each that does not fit.

    What only machines tell (how many volumes there are, which address a flag has) is left for the time when they were
    looked at: `PatchesRefused` is raised then, still before any of them is changed.
    """
    problems = [*_unknown_phases(inventory.cluster), *_misfits(inventory)]
    if problems:
        raise InventoryError(problems)


def _unknown_phases(cluster: Cluster) -> Iterator[Problem]:
    known = list(dict.fromkeys(name for phases in WORKFLOWS.values() for name in names(phases)))
    for index, hook in enumerate(cluster.hooks):
        if hook.phase not in known:
            file, _, line = hook.run.place.rpartition(":")
            path = f"cluster.hooks[{index}].{'before' if hook.before else 'after'}"
            near = difflib.get_close_matches(hook.phase, known, 1)
            fix = f"did you mean {near[0]}?" if near else "kubestrap phases ls lists the phases"
            what = f"{shown(hook.phase)} is no phase"
            yield Problem("inventory-bad-hook", file, int(line), 1, path, what, "the hook would never be run", fix)


def _misfits(inventory: Inventory) -> list[Problem]:
    if inventory.cluster.patches is None and all(host.patches is None for host in inventory.hosts):
        return []
    site = outline.unseen(inventory)
    misfits: dict[Misfit, None] = {}
    for node in map(outline.node, inventory.hosts):
        for attempt in _attempts(site, node):
            try:
                attempt()
            except PatchesRefused as refused:
                misfits |= dict.fromkeys(misfit for misfit in refused.misfits if not misfit.depends)
    return [_problem(misfit) for misfit in misfits]


def _attempts(site: Site, node: Node) -> Iterator[Callable[[], object]]:
    for pod in static_pods.pods(site, node):
        yield lambda pod=pod: static_pods.manifest(site, node, pod)  # type: ignore[misc]
    yield lambda: kubelet.host_config(site.cluster, node.host)
    if node.name == site.leader:
        yield lambda: list(addons.coredns_steps(site, node))
        yield lambda: list(addons.kube_proxy_steps(site, node))


def _problem(misfit: Misfit) -> Problem:
    what, _, fix = misfit.what.partition("; ")
    return Problem("inventory-bad-patch", misfit.file, misfit.line, misfit.column, "", what, fix=fix)
