"""The checks of machines of the control plane and of etcd: docstrings are the texts, functions' names the ids."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509

from bootstrap import paths
from bootstrap.etcd import members
from bootstrap.phases import vip
from bootstrap.phases.static_pods import CONTROLLER_MANAGER, ETCD, SCHEDULER
from bootstrap.verify.asking import (
    KUBECTL,
    answers,
    certificate,
    components,
    decoded,
    etcd,
    has_virtual_address,
    kubeconfig,
    modes,
    names,
    own_certificates,
    plain,
    read,
    running,
    said,
    valid,
)
from bootstrap.verify.subject import Machine, Subject

KUBECONFIGS = (paths.ADMIN_CONF, paths.CONTROLLER_MANAGER_CONF, paths.SCHEDULER_CONF)


def certificates(machine: Machine, subject: Subject) -> Iterator[str]:
    """Every certificate is signed by its CA, and not about to expire; the API server's has its names."""
    for name, ca in own_certificates(subject).items():
        path = f"{paths.PKI}/{name}.crt"
        yield from certificate(path, read(machine, path), read(machine, f"{paths.PKI}/{ca}.crt"))
    if subject.cluster.etcd.external:
        # What others signed, by a CA that need not be that of their servers.
        path = f"{paths.PKI}/apiserver-etcd-client.crt"
        yield from valid(path, x509.load_pem_x509_certificate(read(machine, path).encode()))
    pem = read(machine, f"{paths.PKI}/apiserver.crt") if subject.host.is_control_plane else ""
    if pem:
        held = names(x509.load_pem_x509_certificate(pem.encode()))
        wanted = [subject.host.name, subject.cluster.endpoint_name, subject.cluster.networking.service_address(1)]
        wanted += [subject.cluster.virtual_address] if subject.cluster.virtual_address else []
        wanted += [str(subject.host.node_address)] if subject.host.node_address else []
        for name in wanted:
            if plain(name) not in held:
                yield f"{paths.PKI}/apiserver.crt is not for {name}"


def ca_certificates(machine: Machine, subject: Subject) -> Iterator[str]:
    """The CAs are CAs, signed by themselves, and not about to expire."""
    for ca in sorted(set(own_certificates(subject).values())):
        path = f"{paths.PKI}/{ca}.crt"
        pem = read(machine, path)
        yield from certificate(path, pem, pem)
        if pem:
            extensions = x509.load_pem_x509_certificate(pem.encode()).extensions
            if not any(isinstance(each.value, x509.BasicConstraints) and each.value.ca for each in extensions):
                yield f"{path} is no certificate of a CA"


def pki_files(machine: Machine, subject: Subject) -> Iterator[str]:
    """The files of the PKI have the modes that kubeadm gives them; no key can be read by others."""
    own = dict(own_certificates(subject))
    if subject.cluster.etcd.external:
        own["apiserver-etcd-client"] = "etcd/ca"
    wanted = {f"{paths.PKI}/{name}.crt": "644" for name in (*own, *own.values())}
    wanted |= {f"{paths.PKI}/{name}.key": "600" for name in own} | {paths.PKI: "755", f"{paths.PKI}/etcd": "755"}
    if subject.host.is_control_plane:
        wanted |= {f"{paths.PKI}/sa.key": "600", f"{paths.PKI}/sa.pub": "600"}
    yield from modes(machine, wanted)
    # The key of a CA may be kept elsewhere; where it is here, nobody else reads it.
    keys = machine.run(f"stat -c '%a %n' -- {paths.PKI}/*.key {paths.PKI}/etcd/*.key").stdout.splitlines()
    for mode, _, path in (line.partition(" ") for line in keys):
        if path not in wanted and mode != "600":
            yield f"{path} has mode {mode}, not 600"
        if path == f"{paths.PKI}/etcd/ca.key" and subject.host not in subject.inventory.etcd_members:
            yield f"{path} is here, where etcd does not run: whoever has it can sign members and clients"


def kubeconfig_files(machine: Machine, _: Subject) -> Iterator[str]:
    """The kubeconfigs of the control plane are root's alone, and their certificates good."""
    ca = read(machine, f"{paths.PKI}/ca.crt")
    # This one is made on one machine alone, and its owner may keep it elsewhere.
    more = () if machine.run(f"test -e {paths.SUPER_ADMIN_CONF}").rc else (paths.SUPER_ADMIN_CONF,)
    places = (*KUBECONFIGS, *more)
    yield from modes(machine, dict.fromkeys(places, "600"))
    for path in places:
        yield from certificate(path, decoded(kubeconfig(machine, path).get("client-certificate-data", "")), ca)


def kubeconfig_servers(machine: Machine, subject: Subject) -> Iterator[str]:
    """The kubeconfigs of the control plane ask this cluster's API servers, by its CA."""
    ca = read(machine, f"{paths.PKI}/ca.crt").strip()
    endpoint, port = f"https://{subject.cluster.control_plane_endpoint}", f":{subject.cluster.bind_port}"
    for path in KUBECONFIGS:
        held = kubeconfig(machine, path)
        server = held.get("server", "")
        # Those of the components on the machine ask its own API server, whose address the inventory need not name.
        if server != endpoint and (path == paths.ADMIN_CONF or not server.endswith(port)):
            yield f"{path} asks {server or 'nobody'}"
        if decoded(held.get("certificate-authority-data", "")).strip() != ca:
            yield f"{path}: its CA is not the cluster's"


def manifests(machine: Machine, subject: Subject) -> Iterator[str]:
    """The manifests of the control plane and of etcd are there, for root alone."""
    wanted = {f"{paths.MANIFESTS}/{component}.yaml": "600" for component in components(subject)}
    yield from modes(machine, {paths.MANIFESTS: "700", **wanted})


def static_pods(machine: Machine, subject: Subject) -> Iterator[str]:
    """The container of every component that is to be there runs."""
    for component in components(subject):
        if not running(machine, component):
            yield f"no container of {component} runs"


def etcd_data(machine: Machine, subject: Subject) -> Iterator[str]:
    """etcd's data are root's alone."""
    yield from modes(machine, {subject.cluster.etcd.local.data_dir: "700"})


def etcd_health(machine: Machine, subject: Subject) -> Iterator[str]:
    """The etcd member says that it is ready."""
    yield from answers(machine, subject.probes(ETCD).url(""), "/readyz")


def etcd_members(machine: Machine, subject: Subject) -> Iterator[str]:
    """etcd's members are the inventory's, all of them started, voting, and nobody else."""
    wanted = {host.name for host in subject.inventory.etcd_members}
    listed = etcd(machine, "/v3/cluster/member/list")["members"]
    for member in listed:
        name = member.get("name") or f"one that has not started ({', '.join(member.get('peerURLs', []))})"
        if name not in wanted:
            yield f"there is a member that the inventory does not name: {name}"
        elif member.get("isLearner"):
            yield f"{name} has no vote yet"
    for name in sorted(wanted - {member.get("name") for member in listed}):
        yield f"{name} is no member"


def etcd_alarms(machine: Machine, _: Subject) -> Iterator[str]:
    """etcd has raised no alarm, for space or for damaged data."""
    for alarm in etcd(machine, "/v3/maintenance/status").get("errors", []):
        known = [f"{members.identity(each.member)}: {members.advice(each.kind)}" for each in members.alarms([alarm])]
        yield from known or [str(alarm)]


def etcd_size(machine: Machine, _: Subject) -> Iterator[str]:
    """etcd's database is well below its quota, and the member follows a leader."""
    status = etcd(machine, "/v3/maintenance/status")
    # Numbers of 64 bits are text in etcd's JSON; without a flag the quota is 2 GiB.
    size, quota = int(status["dbSize"]), int(status.get("dbSizeQuota", 0)) or 2 * 1024**3
    if size * 100 > quota * members.FULL:
        yield f"it has {size >> 20} of {quota >> 20} MiB: `kubestrap etcd status` tells what to do"
    if not int(status.get("leader", 0)):
        yield "there is no leader"


def api_server_health(machine: Machine, _: Subject) -> Iterator[str]:
    """The API server says that it is ready."""
    asked = machine.run(f"{KUBECTL} --kubeconfig {paths.ADMIN_CONF} --request-timeout 10s get --raw /readyz?verbose")
    if asked.rc:
        yield said(asked.stderr)


def controller_manager_health(machine: Machine, subject: Subject) -> Iterator[str]:
    """The controller-manager says that it is well."""
    yield from answers(machine, subject.probes(CONTROLLER_MANAGER).url(""), "/healthz")


def scheduler_health(machine: Machine, subject: Subject) -> Iterator[str]:
    """The scheduler says that it is ready."""
    yield from answers(machine, subject.probes(SCHEDULER).url(""), "/readyz")


def keepalived(machine: Machine, subject: Subject) -> Iterator[str]:
    """keepalived runs where the endpoint is a virtual address, and knows every other control-plane host."""
    if not has_virtual_address(subject):
        return
    path, others = paths.VIP_CONFIG, {host.name: host for host in subject.inventory.control_plane}
    del others[subject.host.name]
    text = read(machine, path)
    peers = text.partition("unicast_peer {")[2].partition("}")[0]
    known = {name.strip(): address.strip() for address, _, name in (line.partition("#") for line in peers.splitlines())}
    if f"{subject.cluster.virtual_address}/32" not in text.split():
        yield f"{path} is not for {subject.cluster.virtual_address}: run `kubestrap init`"
    for name, host in others.items():
        if name not in known:
            yield f"{path} lacks {name}: run `kubestrap init`"
        elif host.node_address and known[name] != str(host.node_address):
            yield f"{path} has {known[name]} for {name}, whose address is {host.node_address}: run `kubestrap init`"
    if surplus := [name for name in known if name not in {*others, vip.NOBODY.name, ""}]:
        yield f"{path} names {', '.join(surplus)}, of which there is none: run `kubestrap init`"
    if not running(machine, vip.NAME):
        yield f"no container of {vip.NAME} runs"
