"""Patches tried on what would be written, from the inventory alone: those that do not fit are refused at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bootstrap import outline
from bootstrap.errors import Misfit, PatchesRefused
from bootstrap.inventory import InventoryError, Problem
from bootstrap.phases import addons, kubelet, static_pods
from bootstrap.site import Node, Site
from bootstrap.spec import Inventory


def require_patches(inventory: Inventory) -> None:
    """Try every patch of `inventory` on every host. Raises `InventoryError` with each that does not fit.

    What only machines tell (how many volumes there are, which address a flag has) is left for the time when they were
    looked at: `PatchesRefused` is raised then, still before any of them is changed.
    """
    if inventory.cluster.patches is None and all(host.patches is None for host in inventory.hosts):
        return
    site = outline.unseen(inventory)
    misfits: dict[Misfit, None] = {}
    for node in map(outline.node, inventory.hosts):
        for attempt in _attempts(site, node):
            try:
                attempt()
            except PatchesRefused as refused:
                misfits |= dict.fromkeys(misfit for misfit in refused.misfits if not misfit.depends)
    if misfits:
        raise InventoryError([_problem(misfit) for misfit in misfits])


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
