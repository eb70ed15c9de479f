"""`apply`: what is needed of `init` and of `join`, in one run.

Where there is no control plane yet, workers are prepared while it is formed, and join from the moment that the first
of its hosts serves. Where there is one, the two commands' work is done one after the other.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from bootstrap import kubeconfig, paths, phases, plan
from bootstrap.api import Api
from bootstrap.errors import BootstrapError, Problem
from bootstrap.events import Event, Listener, PhaseStarted
from bootstrap.gather import Request
from bootstrap.joining import DOING, Promise, Way, join, of_another_cluster, unpromised
from bootstrap.phases import bootstrap_token, kubelet
from bootstrap.run import Formation, Made, forming, work
from bootstrap.site import Joining, Node, Site
from bootstrap.spec import Cluster, Inventory

_MEANWHILE = "prepare"
"""What a worker can do before there is a cluster."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What it leaves with the operator, and the hosts that are in the cluster by this run."""

    made: Made
    joined: tuple[str, ...]


def apply(
    inventory: Inventory,
    request: Request,
    listener: Listener,
    warn: Callable[[Problem], None],
    way: Way = DOING,
) -> Applied:
    """Make the cluster of `inventory`, control plane and workers, or add and mend what it lacks.

    Raises what `init` and `join` raise. A worker that fails does not stop the others.
    """
    workers = [machine for machine in inventory.hosts if machine.is_worker]
    with forming(inventory, request, warn, way, "apply", workers) as formation:
        if not formation.stands and workers:
            return _together(inventory, request, listener, way, formation)
        known = {machine.name for machine in inventory.hosts}
        for problem in formation.outside:
            if problem.host not in known:  # hosts of the inventory join below
                warn(problem)
        todo = formation.planned(phases.INIT)
        request.secrets.learn(*todo.hidden)
        forms = {machine.name for machine in inventory.formed}
        failures = {name: error for name, error in formation.failures.items() if name in forms}
        work(todo, formation.means, way, listener, failures)
    made = formation.made(inventory, todo)
    if formation.stands:
        return Applied(made, join(inventory, request, listener, warn, way).hosts)
    return Applied(made, ())


def _together(inventory: Inventory, request: Request, listener: Listener, way: Way, formation: Formation) -> Applied:
    lead = formation.lead
    ca = formation.site.files[lead.name][f"{paths.PKI}/ca.crt"]
    wrong = of_another_cluster(formation.others, ca)
    workers = [node for node in formation.others if node.name not in wrong]

    def api() -> AbstractContextManager[Api]:
        return formation.means.api(lead.name)

    is_given = threading.Event()

    def hear(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase == bootstrap_token.BOOTSTRAP_TOKEN.name:
            is_given.set()
        listener(event)

    # Whose kubelets have certificates from the operator needs no token.
    with (unpromised if inventory.cluster.ca_directory else way.promise)(api, is_given.is_set) as promise:
        request.secrets.learn(str(promise.token).encode())
        todo = _planned(inventory.cluster, formation, workers, promise, ca)
        request.secrets.learn(*todo.hidden)
        failures: dict[str, BootstrapError] = {**formation.failures, **wrong}
        work(todo, formation.means, way, hear, failures)
    return Applied(formation.made(inventory, todo), tuple(node.name for node in workers))


def _planned(cluster: Cluster, formation: Formation, workers: Sequence[Node], promise: Promise, ca: bytes) -> plan.Plan:
    """Plan a control plane, and its workers beside it."""
    before = [promise.phase if phase is bootstrap_token.BOOTSTRAP_TOKEN else phase for phase in phases.INIT]
    held: Mapping[str, Mapping[str, bytes]] = {}
    if cluster.ca_directory:
        held = kubeconfig.kubelet_files(cluster, workers, ca, formation.kept, datetime.datetime.now(datetime.UTC))
    site = replace(
        formation.site,
        nodes=(*formation.site.nodes, *workers),
        files={**formation.site.files, **held},
        joining=Joining(
            server=kubeconfig.endpoint(cluster),
            ca=ca,
            token=promise.token,
            kubelet_config=kubelet.cluster_config(cluster),
            dns_domain=cluster.networking.dns_domain,
        ),
        endpoint_address=formation.lead.address,
    )
    meanwhile = plan.select(phases.JOIN, only=[_MEANWHILE])
    after = plan.select(phases.JOIN, skip=[_MEANWHILE])
    first, then = (_stage(workflow, site, workers) for workflow in (meanwhile, after))
    company = plan.Company(first, then, formation.lead.name, promise.phase.name)
    return replace(formation.planned(before), company=company)


def _stage(workflow: Sequence[plan.Phase], site: Site, workers: Sequence[Node]) -> plan.Stage:
    return plan.Stage(plan.build(workflow, site, nodes=workers).tasks)
