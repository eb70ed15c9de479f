"""`init`: from an inventory to a control plane, and the way to an API server that every later command takes."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from bootstrap import ca_directory, kubeconfig, lock, members, paths, phases, pki, plan, topology
from bootstrap.api import Api
from bootstrap.bundle import Bundle, open_bundle
from bootstrap.connections import connected
from bootstrap.errors import (
    ApiError,
    ApiUnreachable,
    ApiUntrusted,
    BootstrapError,
    ConfigError,
    HostError,
    HostsFailed,
    NoControlPlane,
    PkiRefused,
    Problem,
)
from bootstrap.etcd import external, learners, quorum
from bootstrap.etcd.members import Member
from bootstrap.events import HostFailed, Listener
from bootstrap.execute import Means, execute
from bootstrap.gather import Request, gather
from bootstrap.look import look
from bootstrap.members import MANIFEST
from bootstrap.parallel import attempt, raise_failures
from bootstrap.site import Node, Site
from bootstrap.spec import Cluster, Inventory, seconds
from bootstrap.spec import Host as Machine
from bootstrap.steps import File
from bootstrap.transport.base import Host

_ENDPOINT_SECONDS = 3.0
_PROBE_SECONDS = 5.0  # for an API server to say that it is ready, where there are others to ask


@dataclass(frozen=True, slots=True)
class Made:
    """What `init` leaves with the operator: the admin's kubeconfig, which is a secret; empty where none was made."""

    kubeconfig: bytes

    def __repr__(self) -> str:
        """Tell nothing of it."""
        return "Made()"


@dataclass(frozen=True, slots=True)
class Way:
    """How a command goes about its plan: `walk` takes the plan, `lease` holds the machines' locks for the command.

    `keep` puts the CAs that the operator keeps into his folder.
    """

    walk: Callable[[plan.Plan, Means, Listener], None]
    lease: Callable[[str], AbstractContextManager[lock.Lease | None]]
    keep: Callable[[Cluster, Mapping[str, bytes]], None]


def _locked(command: str) -> AbstractContextManager[lock.Lease | None]:
    return lock.Lease(lock.Owner.here(command))


def _unlocked(_: str) -> AbstractContextManager[lock.Lease | None]:
    return nullcontext()


def _not_kept(_: Cluster, __: Mapping[str, bytes]) -> None:
    pass


DOING = Way(execute, _locked, ca_directory.write)
LOOKING = Way(look, _unlocked, _not_kept)
"""The way of a dry run: nothing is changed, and nobody is kept from changing anything."""


@dataclass(frozen=True, slots=True)
class Formation:
    """A control plane that is about to be made or mended: everything was checked, and nothing has been changed yet.

    `nodes` are the hosts that are worked on, `stands` says whether there was a control plane already, and `serves`
    whether it answers. `others` are the machines beside the control plane that were looked at. `failures` are of hosts
    that cannot be worked on, `outside` tells of members that the inventory does not have, and of hosts that have yet to
    become some. `kept` are the CAs that the operator keeps.
    """

    site: Site
    nodes: tuple[Node, ...]
    others: tuple[Node, ...]
    means: Means
    failures: Mapping[str, BootstrapError]
    kept: Mapping[str, bytes]
    outside: tuple[Problem, ...]
    stands: bool
    serves: bool

    @property
    def lead(self) -> Node:
        """The control-plane host from which is done what concerns the whole cluster."""
        return next(node for node in self.site.control_plane if node.name == self.site.leader)

    def planned(self, workflow: Sequence[plan.Phase]) -> plan.Plan:
        """Plan `workflow` for it. What serves goes on serving, so no two of its machines are changed at once."""
        return plan.build(workflow, self.site, nodes=self.nodes, in_turn=self.serves)

    def made(self, inventory: Inventory, todo: plan.Plan) -> Made:
        """Give what it leaves with the operator once `todo` is done."""
        admin_conf = self.site.files[self.lead.name][paths.ADMIN_CONF]
        steps = (step for task in todo.tasks for step in task.steps)
        written = any(isinstance(step, File) and step.path == paths.ADMIN_CONF for step in steps)
        if not written and self.lead.facts.files.get(paths.ADMIN_CONF) != admin_conf:
            return Made(b"")
        return Made(operators_kubeconfig(inventory, self.lead, admin_conf))


def init(
    inventory: Inventory,
    request: Request,
    listener: Listener,
    warn: Callable[[Problem], None],
    way: Way = DOING,
) -> Made:
    """Make the control plane of `inventory`, or find that all of it is right already.

    Everything is checked before the first machine is changed: the bundle, all machines, what they hold. Where the
    control plane stands, machines of it that are not reached do not stop the others. Raises `BootstrapError`s of all
    kinds, `HostsFailed` where a machine failed in the work itself or was not reached.
    """
    workflow = request.phases(phases.INIT)
    with forming(inventory, request, warn, way, "init") as formation:
        for problem in formation.outside:
            warn(problem)
        todo = formation.planned(workflow)
        request.secrets.learn(*todo.hidden)
        work(todo, formation.means, way, listener, formation.failures)
    return formation.made(inventory, todo)


@contextmanager
def forming(
    inventory: Inventory,
    request: Request,
    warn: Callable[[Problem], None],
    way: Way,
    command: str,
    others: Sequence[Machine] = (),
) -> Iterator[Formation]:
    """Look at the control plane's hosts, and at `others`, under their locks, and check all that `init` checks.

    Raises what `init` raises before it begins. Of `others` those that are not reached, or cannot be looked at, are
    among the failures.
    """
    cluster = inventory.cluster
    machines = (*inventory.formed, *others)
    wanted = [machine.name for machine in request.machines(inventory, machines)]
    given = external.read(cluster.etcd.external) if cluster.etcd.external else {}
    bundle = bundle_of(inventory)
    with connected(inventory, machines) as connections, way.lease(command) as lease:
        gathered = gather(
            machines,
            connections.hosts,
            inventory,
            request,
            workflow=None,
            lease=lease,
            only_looked_at=[machine.name for machine in machines if machine.name not in wanted],
            proxied=bool(others) and inventory.is_proxied,
        )
        for problem in (*_even(inventory), *gathered.warnings):
            warn(problem)
        failures = {**connections.failures, **gathered.failures}
        found = [node for node in gathered.nodes if not node.host.is_worker]
        nodes = [node for node in found if node.name in wanted]
        # Who is not reached may hold the only CA, or be a member of another cluster.
        stands = topology.stands(inventory, found)
        forms = {machine.name for machine in inventory.formed}
        unseen = {name: error for name, error in failures.items() if name in forms}
        if not nodes or not stands:
            raise_failures(unseen, connections.hosts)
        if not stands and cluster.ca_cert_hash:
            raise NoControlPlane(
                "no control-plane host holds the cluster that cluster.caCertHash names: correct the hosts, or remove "
                "caCertHash to make a new cluster of them"
            )
        asked = {node.name: connections.hosts[node.name] for node in found}
        roster = topology.settled(inventory, found, enrolled(asked, inventory, found))
        wanted = [name for name in wanted if name not in roster.outside]
        nodes = [node for node in nodes if node.name in wanted]
        failures = {name: error for name, error in failures.items() if name in wanted}
        _require_quorum(asked, unseen, found, inventory)
        if not nodes:
            raise_failures(failures, connections.hosts)
            raise ConfigError(f"{', '.join(roster.outside)}: `kubestrap join` makes them members of the control plane")
        now = datetime.datetime.now(datetime.UTC)
        known = [node for node in found if node.name not in roster.outside]
        kept = operators_cas(cluster, known, now, way)
        request.secrets.learn(*kept.values())
        files = kubeconfig.site_files(
            cluster,
            known,
            now,
            # super-admin.conf is of the host that began the cluster: where it is gone, it is meant to be.
            first="" if stands else inventory.control_plane[0].name,
            kept=kept,
            stacked=inventory.is_stacked,
            given=given,
        )
        for held in files.values():
            request.secrets.learn(*held.values())
        masters = [node for node in known if node.host.is_control_plane]
        planes = {node.name: connections.hosts[node.name] for node in masters}
        asked = {name: host for name, host in planes.items() if name in wanted}
        raise_failures(strangers_at_the_endpoint(asked, cluster, files), connections.hosts)
        lead = next((node for node in masters if node in nodes), masters[0])
        initial = members.initial_clusters(nodes, adopted=bool(cluster.ca_cert_hash))
        site = Site(cluster, roster.nodes, bundle.contents, files, lead=lead.name, initial_clusters=initial)
        # Only this one may do anything before the cluster's roles are there.
        super_admins = [held[paths.SUPER_ADMIN_CONF] for held in files.values() if paths.SUPER_ADMIN_CONF in held]
        conf = next(iter(super_admins), files[lead.name][paths.ADMIN_CONF])
        by_name = {node.name: node for node in nodes}

        def api(name: str) -> Api:
            node = by_name.get(name, lead)
            return open_api(connections.hosts[node.name], node, conf, inventory)

        yield Formation(
            site,
            tuple(nodes),
            tuple(node for node in gathered.nodes if node.host.is_worker),
            Means(connections.hosts, api, bundle.open, lease),
            failures,
            kept,
            tuple(outsiders(roster)),
            stands,
            serves=len(nodes) > 1 and serves(planes, cluster),
        )


def operators_cas(cluster: Cluster, nodes: Sequence[Node], now: datetime.datetime, way: Way) -> Mapping[str, bytes]:
    """Give the CAs that the operator keeps, new ones where nobody has any; nothing where the machines keep them.

    They are in his folder before any machine is changed, where the run changes anything at all.
    """
    if not cluster.ca_directory:
        return {}
    kept = pki.operators(cluster, nodes, now, ca_directory.read(cluster))
    way.keep(cluster, kept)
    return kept


def work(
    todo: plan.Plan, means: Means, way: Way, listener: Listener, failures: Mapping[str, BootstrapError]
) -> list[str]:
    """Do the plan, give the hosts that are done, and raise its failures with those from before."""
    done, failed = worked(todo, means, way, listener, failures)
    if failed:
        raise HostsFailed(failed, done)
    return done


def worked(
    todo: plan.Plan, means: Means, way: Way, listener: Listener, failures: Mapping[str, BootstrapError]
) -> tuple[list[str], dict[str, BootstrapError]]:
    """Do the plan, and give the hosts that are done and its failures with those from before, which are told first."""
    for name, error in failures.items():
        listener(HostFailed(name, "", error))
    failed = dict(failures)
    guarded = means.lease.guard(means.hosts) if means.lease else means.hosts
    try:
        way.walk(todo, replace(means, hosts=guarded), listener)
    except HostsFailed as error:
        failed |= error.failures
    return [name for name in dict.fromkeys(task.node.name for task in todo.tasks) if name not in failed], failed


def _require_quorum(
    reached: Mapping[str, Host], unseen: Mapping[str, BootstrapError], nodes: Sequence[Node], inventory: Inventory
) -> None:
    """Raise `QuorumLost` where the control plane stands, and the members on its reached hosts are too few to serve."""
    wanted = {machine.name for machine in inventory.etcd_members}
    members = [node for node in nodes if node.name in wanted and MANIFEST in node.facts.files]
    hosts = {node.name: reached[node.name] for node in members}
    planes = {node.name: reached[node.name] for node in nodes if node.host.is_control_plane}
    if len(wanted) > 1 and hosts and not serves(planes, inventory.cluster):
        silent = {name: error for name, error in unseen.items() if name in wanted}
        # Members that only do not run are what `init` mends.
        quorum.require(hosts, silent, startable=[node.name for node in members if node.facts.etcd_data])


def _even(inventory: Inventory) -> list[Problem]:
    members = len(inventory.etcd_members)
    if members % 2 or not members:
        return []
    kind = "control-plane" if inventory.is_stacked else "etcd"
    what = f"{members} {kind} hosts bear the loss of no more of them than {members - 1}"
    return [Problem("", "", "warning", what, "give the role to one more, or to one less")]


def enrolled(hosts: Mapping[str, Host], inventory: Inventory, nodes: Sequence[Node]) -> tuple[Member, ...]:
    """Give etcd's members, as a majority knows them; none where manifests tell enough, or no etcd serves there."""
    if not inventory.is_stacked or not members.stands(nodes) or not members.doubtful(inventory.control_plane, nodes):
        return ()
    found = enrolment(hosts, nodes)
    return found[1] if found else ()


def enrolment(hosts: Mapping[str, Host], nodes: Sequence[Node]) -> tuple[Host, tuple[Member, ...]] | None:
    """Give a host whose etcd member serves, and the members as a majority knows them; None where none serves."""
    held = [node.name for node in nodes if members.MANIFEST in node.facts.files and node.facts.etcd_data]
    found, _ = attempt(held, lambda name: learners.enrolled(hosts[name]))
    return next(((hosts[name], found[name]) for name in held if name in found), None)


def outsiders(roster: members.Roster) -> Iterator[Problem]:
    """Tell of the control-plane hosts that etcd does not count, and of members that the inventory does not have."""
    for name in roster.outside:
        gone = "the data of its etcd member are gone" if roster.lost.get(name) else ""
        what = gone or "it is not a member of the control plane"
        yield Problem(name, "ControlPlane", "warning", what, f"`kubestrap join` makes it one{' again' * bool(gone)}")
    for name in roster.strangers:
        what = f"etcd has a member {name}, which the inventory does not have"
        yield Problem(name, "ControlPlane", "warning", what, "put it back into the inventory, or remove it")


def strangers_at_the_endpoint(
    hosts: Mapping[str, Host], cluster: Cluster, files: Mapping[str, Mapping[str, bytes]]
) -> dict[str, BootstrapError]:
    """Ask, from each of `hosts`, who answers at a load balancer's or virtual address; an error for another cluster.

    Nobody need answer: before the first control plane stands a load balancer has nothing behind it.
    """

    def ask(name: str) -> None:
        endpoint, port, ca = cluster.endpoint_name, cluster.endpoint.port, files[name][f"{paths.PKI}/ca.crt"]
        there = cluster.virtual_address or endpoint
        with Api.connect(hosts[name], there, port, server_name=endpoint, ca=ca, seconds=_ENDPOINT_SECONDS) as api:
            try:
                api.get("/version")
            except (ApiUnreachable, ApiError):
                return
            except ApiUntrusted as error:
                what = f"another cluster answers at the endpoint {cluster.control_plane_endpoint}: {error.what}"
                raise HostError(name, f"{what}; correct cluster.endpoint, or what its name leads to") from error

    if cluster.endpoint.kind == "local-proxy":
        return {}
    return attempt([name for name in hosts if name in files], ask)[1]


def bundle_of(inventory: Inventory) -> Bundle:
    """Open the bundle that the inventory names, or else the one that `bundle build` made. Raises `ConfigError`."""
    cluster = inventory.cluster
    path = Path(cluster.bundle.path) if cluster.bundle.path else None
    return open_bundle(path, kubernetes_version=cluster.kubernetes_version, platform=cluster.bundle.platform)


def open_api(host: Host, node: Node, conf: bytes, inventory: Inventory) -> Api:
    """Open a connection to the API server on `node`, through its SSH connection, as the kubeconfig `conf` says."""
    cluster = inventory.cluster
    limit = seconds(cluster.timeouts.kubernetes_api_call)
    return Api.from_kubeconfig(host, conf, address=node.address, port=cluster.bind_port, seconds=limit)


def operators_kubeconfig(inventory: Inventory, node: Node, admin_conf: bytes) -> bytes:
    """Give the operator's own copy of admin.conf: named after the cluster, and asking a server that he can reach."""
    cluster = inventory.cluster
    match cluster.endpoint.kind:
        case "external":
            server = kubeconfig.endpoint(cluster)
        case "vip":  # its name is known to the cluster's machines alone
            server = f"https://{cluster.virtual_address}:{cluster.endpoint.port}"
        case "local-proxy":
            server = kubeconfig.own_server(cluster, node)
    return kubeconfig.for_operator(admin_conf, cluster.name, server=server)


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A control plane that stands: a machine of it that serves, and what it holds of the cluster."""

    node: Node
    host: Host
    files: Mapping[str, bytes]
    inventory: Inventory
    require_quorum: Callable[[], None] = lambda: None

    def api(self, _: str = "") -> Api:
        """Open a connection to its API server with admin rights, from whichever host it is for.

        Raises `QuorumLost` where no API server is ready, for etcd has no quorum.
        """
        self.require_quorum()
        return open_api(self.host, self.node, self.files[paths.ADMIN_CONF], self.inventory)

    @property
    def ca(self) -> bytes:
        """The cluster's CA certificate (PEM)."""
        return self.files[f"{paths.PKI}/ca.crt"]


def control_plane_of(inventory: Inventory, hosts: Mapping[str, Host], nodes: Sequence[Node]) -> ControlPlane:
    """Give the control plane that `nodes` (one at least) run: the first of them whose API server is ready.

    Where none is, the first that could be. Raises `NoControlPlane` where there is none yet, and `PkiRefused`
    where they are not of one.
    """
    needed = (f"{paths.PKI}/ca.crt", paths.ADMIN_CONF)
    able = [node for node in nodes if all(path in node.facts.files for path in needed)]
    if not able:
        lacking = ", ".join(path for path in needed if path not in nodes[0].facts.files)
        raise NoControlPlane(
            f"{nodes[0].name}: there is no control plane yet (no {lacking}): run `kubestrap init` first"
        )
    if problems := pki.strangers(able):
        raise PkiRefused(problems)
    asked = {node.name: hosts[node.name] for node in able}
    several = len(inventory.control_plane) > 1
    ready = _ready(asked, inventory.cluster) if several else list(asked)
    node = next(node for node in able if node.name == next(iter([*ready, *asked])))
    found = ControlPlane(node, hosts[node.name], node.facts.files, inventory)
    if ready or not inventory.is_stacked:
        return found
    silent = [machine.name for machine in inventory.control_plane if machine.name not in asked]
    unreached = {name: HostError(name, "it cannot be reached") for name in silent}
    return replace(found, require_quorum=lambda: quorum.require(asked, unreached))


def first_ready(hosts: Mapping[str, Host], cluster: Cluster) -> str:
    """Give the first of the control-plane `hosts` whose API server is ready; where none is, just the first."""
    if len(hosts) == 1:
        return next(iter(hosts))
    return next(iter([*_ready(hosts, cluster), *hosts]))


def serves(hosts: Mapping[str, Host], cluster: Cluster) -> bool:
    """Say whether an API server is ready on any of the control-plane `hosts`."""
    return bool(_ready(hosts, cluster))


def _ready(hosts: Mapping[str, Host], cluster: Cluster) -> list[str]:
    answers, _ = attempt(list(hosts), lambda name: _is_ready(hosts[name], cluster))
    return [name for name in hosts if answers.get(name)]


def _is_ready(host: Host, cluster: Cluster) -> bool:
    # In public: whoever answers there is asked again, with its certificate checked, before it is told anything.
    try:
        # Where nobody listens there is nothing to wait for.
        host.dial("127.0.0.1", cluster.bind_port, seconds=_PROBE_SECONDS).close()
        with Api.connect(
            host,
            "127.0.0.1",
            cluster.bind_port,
            server_name=cluster.endpoint_name,
            ca=None,
            seconds=_PROBE_SECONDS,
        ) as api:
            api.get("/readyz")
    except (BootstrapError, OSError):
        return False
    return True


@contextmanager
def reached_control_plane(inventory: Inventory, *, but: Collection[str] = ()) -> Iterator[ControlPlane]:
    """Connect to the control-plane hosts of `inventory` that are not in `but`, and give the control plane there.

    Raises `HostsFailed` where none of them is reached.
    """
    machines = [machine for machine in inventory.control_plane if machine.name not in but]
    with connected(inventory, machines) as connections:
        if not connections.hosts:
            raise_failures(connections.failures, connections.hosts)
        request = Request(skip=("preflight",))
        gathered = gather(machines, connections.hosts, inventory, request, workflow="join")
        if not gathered.nodes:
            raise_failures(gathered.failures, {})
        yield control_plane_of(inventory, connections.hosts, gathered.nodes)
