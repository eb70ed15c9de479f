"""`join`: control-plane hosts become members one by one, then workers Nodes by a bootstrap token, all at once.

With admin rights on the cluster; workers also without, by an invitation.
"""

from __future__ import annotations

import datetime
import ipaddress
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

from bootstrap import ca_directory, discovery, kubeconfig, lock, paths, phases, plan, removed, run, tokens
from bootstrap.api import Api
from bootstrap.connections import Connections, connected
from bootstrap.departure import is_ready
from bootstrap.errors import BootstrapError, ConfigError, HostError, HostsFailed, Problem, words
from bootstrap.events import Listener, Waiting
from bootstrap.execute import Means
from bootstrap.gather import Gathered, Request, gather
from bootstrap.growing import Exclusive, Ground, exclusively, grow, unhindered
from bootstrap.parallel import attempt
from bootstrap.phases import bootstrap_token
from bootstrap.run import ControlPlane, bundle_of, control_plane_of, work, worked
from bootstrap.site import Joining, Node, Site, Token
from bootstrap.spec import Cluster, Inventory, seconds
from bootstrap.spec import Host as Machine

TOKEN_LIFETIME = datetime.timedelta(minutes=30)
"""How long the token of a run is valid at most. It is deleted when the run ends; this is for a run that is killed."""
_REACH_SECONDS = 15.0
_LAST_WORD_SECONDS = 3.0
RUN_DESCRIPTION = "kubestrap join: made for one run and deleted at its end"


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a user without admin rights holds of a cluster. `server` is `HOST:PORT` or a URL of that."""

    server: str
    ca_cert_hashes: tuple[str, ...]
    token: Token = field(repr=False)


@dataclass(frozen=True, slots=True)
class Joined:
    """The workers that are Nodes now, and what is left to somebody with admin rights."""

    hosts: tuple[str, ...]
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Promise:
    """A token, and the phase by which it becomes valid."""

    token: Token
    phase: plan.Phase


@dataclass(frozen=True, slots=True)
class Way(run.Way):
    """How a join goes about its plan, has a token for its time, if it needs one, and is the only one to add members.

    `admit` lets machines in again that were removed. `promise` gives a token that the plan itself makes valid; the
    second of its arguments says whether that may have been done.
    """

    token: Callable[[Api, bool], AbstractContextManager[Token | None]]
    exclusive: Exclusive
    admit: Callable[[Api, Sequence[str]], object]
    promise: Callable[[Callable[[], AbstractContextManager[Api]], Callable[[], bool]], AbstractContextManager[Promise]]


def join(
    inventory: Inventory,
    request: Request,
    listener: Listener,
    warn: Callable[[Problem], None],
    way: Way | None = None,
) -> Joined:
    """Join every host of `inventory` that has not joined yet, and mend workers that have.

    Control-plane hosts come first (`bootstrap.growing`). A worker that fails or is not reached does not stop the
    others; all failures are raised together as `HostsFailed` at the end. One control-plane host that serves is enough.
    Raises other `BootstrapError`s where nothing could be begun.
    """
    way = way or DOING
    wanted = [machine.name for machine in request.machines(inventory, inventory.hosts)]
    workflow = request.phases(phases.JOIN)
    bundle = bundle_of(inventory)
    masters = inventory.control_plane
    grows = any(machine.name in wanted for machine in masters)
    machines = [machine for machine in inventory.hosts if grows or machine.is_control_plane or machine.name in wanted]
    with (
        connected(inventory, machines) as connections,
        way.lease("join") as lease,
    ):
        if all(machine.name in connections.failures for machine in masters):
            raise HostsFailed(connections.failures, list(connections.hosts))
        # All locks of the control plane are taken, so that no two runs have but one of them each.
        idle = [machine.name for machine in machines if machine.is_worker and machine.name not in wanted]
        gathered = gather_joining(
            inventory, connections, request, warn, lease, proxied=inventory.is_proxied, only_looked_at=idle
        )
        seen = [node for node in gathered.nodes if node.host.is_control_plane]
        if not seen:
            raise HostsFailed(gathered.failures, [])
        control_plane = control_plane_of(inventory, connections.hosts, seen)
        means = Means(connections.hosts, control_plane.api, bundle.open, lease)

        def vet(new: Sequence[Node]) -> dict[str, BootstrapError]:
            with control_plane.api() as api:
                return vetted(api, new, control_plane.ca, way)

        ground = Ground(
            inventory, seen, control_plane, bundle.contents, workflow, request, means, way, way.exclusive, listener, vet
        )
        growth = grow(ground, wanted)
        unreached = {**connections.failures, **gathered.failures}
        members_now = [node.name for node in growth.nodes]
        failures: dict[str, BootstrapError] = {}
        for name, error in unreached.items():
            if name in members_now or name in idle:
                warn(_lost(name, error))
            else:
                failures[name] = error
        workers = [node for node in gathered.nodes if node.host.is_worker]
        with control_plane.api() as api:
            new = [node for node in workers if node.name in wanted]
            failures |= vetted(api, new, control_plane.ca, way)
            files = _kubelet_files(inventory, control_plane, [node for node in new if node.name not in failures])
            request.secrets.learn(*(data for held in files.values() for data in held.values()))
            with way.token(api, any(not _has_joined(node) and node.name not in files for node in new)) as token:
                request.secrets.learn(str(token or "").encode())
                failures |= _unreaching(connections, [node for node in new if node.name not in failures], control_plane)
                site = Site(
                    inventory.cluster,
                    (*growth.nodes, *workers),
                    bundle.contents,
                    files,
                    joining=_invited(api, inventory, control_plane, token),
                    endpoint_address=control_plane.node.address,
                )
                todo = _planned(request, workflow, site, [node for node in new if node.name not in failures])
                if growth.joined:
                    others = [node for node in workers if node.name in idle and _has_joined(node)]
                    todo = plan.Plan(todo.stages + _planned(request, phases.REDIRECTED, site, others).stages)
                done, failures = worked(todo, means, way, listener, failures)
    failures |= growth.failures
    if failures:
        raise HostsFailed(failures, [*growth.joined, *done])
    return Joined((*growth.joined, *done))


def join_invited(
    inventory: Inventory,
    invitation: Invitation,
    request: Request,
    listener: Listener,
    warn: Callable[[Problem], None],
    way: Way | None = None,
) -> Joined:
    """Join the workers of `inventory` to the cluster of `invitation`, without admin rights on it.

    Discovery is kubeadm's, made from each joining machine. What takes admin rights is left as commands.
    """
    way = way or DOING
    if inventory.cluster.ca_directory:
        raise ConfigError(
            "cluster.certificateAuthority.kind is operator: nobody in the cluster signs what a kubelet asks for by its "
            "token; join without --server, on the machine that holds the CA's key"
        )
    workers = _workers(inventory, request)
    workflow = request.phases(phases.JOIN)
    bundle = bundle_of(inventory)
    with connected(inventory, workers) as connections, way.lease("join") as lease:
        found, reached = discover(inventory, connections, invitation, listener)
        gathered = gather_joining(inventory, reached, request, warn, lease)
        failures = {**reached.failures, **gathered.failures}
        nodes = [node for node in gathered.nodes if node.name in found]
        joining = next(iter(found.values())).read.joining
        site = Site(
            inventory.cluster,
            tuple(nodes),
            bundle.contents,
            joining=joining,
            endpoint_address=_address(invitation.server, joining.server),
            admin=False,
        )
        means = Means(connections.hosts, _no_api, bundle.open, lease)
        done = work(_planned(request, workflow, site, nodes), means, way, listener, failures)
    return Joined(tuple(done), tuple(f"kubectl label node {name} node-role.kubernetes.io/worker=" for name in done))


class Found(NamedTuple):
    """A cluster that a host was led to by its invitation, and what it read there."""

    cluster: discovery.Discovered
    read: discovery.Joined


def discover(
    inventory: Inventory, connections: Connections, invitation: Invitation, listener: Listener
) -> tuple[dict[str, Found], Connections]:
    """Find the cluster of `invitation` from each host; give what they found, and those that did.

    Raises `HostsFailed` where none did.
    """
    timeouts, token = inventory.cluster.timeouts, invitation.token

    def find(name: str) -> Found:
        host = connections.hosts[name]
        cluster = discovery.discover(
            host,
            invitation.server,
            token,
            invitation.ca_cert_hashes,
            seconds=seconds(timeouts.discovery),
            on_wait=lambda what, elapsed, limit: listener(Waiting(name, "discovery", what, elapsed, limit)),
        )
        with discovery.connect(host, cluster, token, seconds=seconds(timeouts.kubernetes_api_call)) as api:
            read = discovery.read_cluster(api, cluster, token)
        _check_skew(name, inventory.cluster.kubernetes_version, read.kubernetes_version)
        return Found(cluster, read)

    found, refused = attempt(list(connections.hosts), find)
    failures = {**connections.failures, **refused}
    if not found:
        raise HostsFailed(failures, [])
    hosts = {name: host for name, host in connections.hosts.items() if name in found}
    return found, Connections(hosts, failures)


def _check_skew(host: str, ours: str, theirs: str) -> None:
    """Refuse a kubelet that is newer than the control plane (Kubernetes' version skew policy)."""
    if theirs and _minor(ours) > _minor(theirs):
        raise HostError(
            host,
            f"the cluster runs Kubernetes {theirs}, and a kubelet of {ours} would be newer than its control plane: "
            "set cluster.kubernetesVersion to the cluster's",
        )


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def gather_joining(
    inventory: Inventory,
    connections: Connections,
    request: Request,
    warn: Callable[[Problem], None],
    lease: lock.Lease | None,
    *,
    proxied: bool = False,
    only_looked_at: Sequence[str] = (),
) -> Gathered:
    """Look at the hosts of `connections` before they join, and tell of what is not quite right."""
    machines = [machine for machine in inventory.hosts if machine.name in connections.hosts]
    gathered = gather(
        machines,
        connections.hosts,
        inventory,
        request,
        workflow="join",
        lease=lease,
        proxied=proxied,
        only_looked_at=only_looked_at,
    )
    for problem in gathered.warnings:
        warn(problem)
    return gathered


def _workers(inventory: Inventory, request: Request) -> tuple[Machine, ...]:
    workers = [machine for machine in inventory.hosts if machine.is_worker]
    if not workers:
        raise ConfigError("the inventory has no workers: every host has the role control-plane")
    return request.machines(inventory, workers)


def _planned(request: Request, workflow: Sequence[plan.Phase], site: Site, nodes: Sequence[Node]) -> plan.Plan:
    todo = plan.build(workflow, site, nodes=nodes)
    request.secrets.learn(*todo.hidden)
    return todo


def _no_api(_: str) -> Api:
    raise ConfigError("this needs admin rights on the cluster, which a run with --server does not have")


def _lost(name: str, error: BootstrapError) -> Problem:
    return Problem(name, "Connection", "warning", words(error), "this run does without it")


def _has_joined(node: Node) -> bool:
    return node.facts.bootstrapped


def vetted(api: Api, nodes: Sequence[Node], ca: bytes, way: Way) -> dict[str, BootstrapError]:
    """Give why some machines may not join, and have the others admitted that were removed once."""
    wrong = removed.unclean(api, nodes) | _strangers(api, nodes, ca)
    way.admit(api, [node.name for node in nodes if node.name not in wrong])
    return wrong


def _strangers(api: Api, nodes: Sequence[Node], ca: bytes) -> dict[str, BootstrapError]:
    """Find hosts that belong to another cluster, and new ones whose name a Ready Node bears already."""
    wrong = of_another_cluster(nodes, ca)
    for node in nodes:
        if node.name not in wrong and not _has_joined(node):
            live = api.get_object("v1", "Node", node.name)
            info = (live or {}).get("status", {}).get("nodeInfo", {})
            # A running kubelet that lost the file of its certificate has it in memory still.
            itself = node.facts.machine and node.facts.machine == info.get("machineID")
            if not itself and is_ready(live):
                wrong[node.name] = HostError(
                    node.name,
                    "a Node of this name is in the cluster and Ready, and this machine is not it: "
                    "give the host another name, or delete the Node if its machine is gone",
                )
    return wrong


def of_another_cluster(nodes: Sequence[Node], ca: bytes) -> dict[str, BootstrapError]:
    """Find machines whose kubelet knows another CA than the PEM `ca`."""
    wrong: dict[str, BootstrapError] = {}
    for node in nodes:
        held = node.facts.files.get(f"{paths.PKI}/ca.crt")
        if paths.KUBELET_CONF in node.facts.files and held is not None and held.strip() != ca.strip():
            wrong[node.name] = HostError(
                node.name, "the machine belongs to another cluster (its ca.crt is another): reset it there first"
            )
    return wrong


@contextmanager
def _token(api: Api, needed: bool) -> Iterator[Token | None]:
    """Have a token for the time of a run, where one is needed; what earlier runs left behind goes too.

    The lock of the control plane proves that no other run is going on that could need its own.
    """
    for info in tokens.listing(api.list("v1", "Secret", tokens.NAMESPACE)):
        if info.description == RUN_DESCRIPTION:
            api.delete("v1", "Secret", tokens.secret_name(info.id), tokens.NAMESPACE)
    if not needed:
        yield None
        return
    token = tokens.make()
    api.create(secret_of(token))
    with _for_the_run(token, lambda: nullcontext(api), lambda: True):
        yield token


def secret_of(token: Token) -> dict[str, Any]:
    """Give the Secret that makes a run's token valid."""
    expires = datetime.datetime.now(datetime.UTC) + TOKEN_LIFETIME
    return tokens.secret_manifest(token, expires=expires, description=RUN_DESCRIPTION)


@contextmanager
def _for_the_run(
    token: Token, api: Callable[[], AbstractContextManager[Api]], is_given: Callable[[], bool]
) -> Iterator[None]:
    """Have `token` deleted at the end, however that comes. An error of the run's own is not hidden by one of that.

    No API server is asked, or waited for, to which it was not given.
    """

    def delete() -> None:
        if not is_given():
            return
        with api() as server:
            server.delete("v1", "Secret", tokens.secret_name(token.id), tokens.NAMESPACE)

    def try_to_delete() -> None:
        with suppress(BootstrapError):
            delete()

    try:
        yield
    except Exception:
        try_to_delete()
        raise
    except BaseException:
        # A signal does not wait for an API server that is slow to answer.
        last = threading.Thread(target=try_to_delete, daemon=True)
        last.start()
        last.join(_LAST_WORD_SECONDS)
        raise
    delete()


@contextmanager
def _promised(api: Callable[[], AbstractContextManager[Api]], is_given: Callable[[], bool]) -> Iterator[Promise]:
    """Have a token for the time of a run that makes the cluster, too; at its end it is deleted by `api`."""
    token = tokens.make()
    with _for_the_run(token, api, is_given):
        yield Promise(token, bootstrap_token.with_token(secret_of(token)))


def unpromised(_: Callable[[], AbstractContextManager[Api]], __: Callable[[], bool]) -> AbstractContextManager[Promise]:
    """Have something in the place of a token, where none is needed, or for a look."""
    return nullcontext(Promise(Token("", ""), bootstrap_token.BOOTSTRAP_TOKEN))


@contextmanager
def _no_token(_: Api, needed: bool) -> Iterator[Token | None]:
    """Have something in the place of a token, for a look: the cluster does not know it."""
    yield Token("", "") if needed else None


DOING = Way(run.DOING.walk, run.DOING.lease, run.DOING.keep, _token, exclusively, removed.admit, _promised)
LOOKING = Way(
    run.LOOKING.walk, run.LOOKING.lease, run.LOOKING.keep, _no_token, unhindered, lambda _, __: None, unpromised
)
"""The way of a dry run: nothing is changed, neither on machines nor in the cluster."""


def _invited(api: Api, inventory: Inventory, control_plane: ControlPlane, token: Token | None) -> Joining:
    """Give what workers need, read with admin rights over the control plane's own connection."""
    found = api.get_object("v1", "ConfigMap", "kubelet-config", "kube-system")
    if found is None:
        raise ConfigError(
            "the cluster has no ConfigMap kube-system/kubelet-config: run `kubestrap init` to its end first"
        )
    return Joining(
        server=kubeconfig.endpoint(inventory.cluster),
        ca=control_plane.ca,
        token=token or Token("", ""),
        kubelet_config=yaml.safe_load(found["data"]["kubelet"]),
        dns_domain=inventory.cluster.networking.dns_domain,
    )


def _kubelet_files(
    inventory: Inventory, control_plane: ControlPlane, nodes: Sequence[Node]
) -> Mapping[str, Mapping[str, bytes]]:
    """Give what kubelets need of the operator's CA, where nobody in the cluster signs their certificates."""
    cluster = inventory.cluster
    if not cluster.ca_directory:
        return {}
    kept = ca_directory.read(cluster)
    return kubeconfig.kubelet_files(cluster, nodes, control_plane.ca, kept, datetime.datetime.now(datetime.UTC))


def _unreaching(
    connections: Connections, nodes: Sequence[Node], control_plane: ControlPlane
) -> dict[str, BootstrapError]:
    """Try, from each worker, the way to the API server that its kubelet will take, and give who found none."""
    cluster = control_plane.inventory.cluster

    def reach(name: str) -> None:
        with Api.connect(
            connections.hosts[name],
            _first_hop(cluster, control_plane),
            cluster.endpoint.port,
            server_name=cluster.endpoint_name,
            ca=control_plane.ca,
            seconds=_REACH_SECONDS,
        ) as api:
            api.get("/version")

    _, failures = attempt([node.name for node in nodes if not _has_joined(node)], reach)
    return failures


def _first_hop(cluster: Cluster, control_plane: ControlPlane) -> str:
    """Give what a new machine can ask for the API server by: it does not have the endpoint's name in /etc/hosts yet."""
    match cluster.endpoint.kind:
        case "external":
            return cluster.endpoint_name
        case "vip":
            return cluster.virtual_address
        case "local-proxy":
            return control_plane.node.address


def _address(asked: str, server: str) -> str:
    """Give the address that the cluster's own name for its server leads to, where the user gave one."""
    given = urlsplit(asked if "://" in asked else f"https://{asked}").hostname or ""
    name = urlsplit(server).hostname or ""
    return given if _is_address(given) and not _is_address(name) else ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
