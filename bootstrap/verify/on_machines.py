"""The checks of every machine: a function's docstring is the check's text, its name the check's id.

Each is a small function over a testinfra `Host`, which tells what is not as it should be, and changes nothing.
"""

from __future__ import annotations

import ipaddress
import json
import time
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from cryptography import x509

from bootstrap import paths
from bootstrap.phases import local_proxy as proxy
from bootstrap.phases import prepare, runtime, vip
from bootstrap.phases.static_pods import CONTROLLER_MANAGER, ETCD, SCHEDULER
from bootstrap.preflight import clock as judged
from bootstrap.site import Site
from bootstrap.verify.asking import (
    CTR,
    KUBECTL,
    answers,
    certificate,
    components,
    decoded,
    has_virtual_address,
    is_proxied,
    kubeconfig,
    listeners,
    modes,
    names,
    now,
    plain,
    read,
    read_certificate,
    refuses,
    running,
    said,
    unit,
    unlike,
    valid,
)
from bootstrap.verify.subject import Machine, Subject

RENEWED = 0.95
"""The part of its life at which a kubelet's certificate is long renewed: kubelets do so between 0.7 and 0.9."""


# --- services


def containerd_service(machine: Machine, _: Subject) -> Iterator[str]:
    """containerd runs, and is started at boot."""
    yield from _service(machine, "containerd")


def kubelet_service(machine: Machine, _: Subject) -> Iterator[str]:
    """The kubelet runs, and is started at boot."""
    yield from _service(machine, "kubelet")


def services_current(machine: Machine, _: Subject) -> Iterator[str]:
    """containerd and the kubelet run the programs, units and settings that are on disk."""
    files = {
        "containerd": (paths.CONTAINERD_CONFIG, paths.CONTAINERD_UNIT),
        "kubelet": (paths.KUBELET_CONFIG, paths.KUBELET_FLAGS, paths.KUBELET_UNIT, paths.KUBELET_DROP_IN),
    }
    for name, places in files.items():
        if unit(machine, name).get("NeedDaemonReload") == "yes":
            yield f"{name}: systemd has not read its unit again; systemctl daemon-reload, and restart it"
        # Of a file that was changed and changed back since, nothing has to be read anew.
        look = (
            f"set -- $(systemctl show --property MainPID,ActiveEnterTimestampMonotonic {name}.service | "
            "sort | sed 's/.*=//'); "
            'echo "$1 $(cut -d " " -f 1 /proc/uptime) $(date +%s)"; echo "$(readlink "/proc/$2/exe")"; '
            f"for file in {' '.join(places)}; do "
            f'cksum "$file" | grep -q -s -x -F -f - {paths.STARTED_WITH}/{name}.service || '
            "stat -c '%Y %n' -- \"$file\"; done"
        )
        times, program, *changed = machine.run(look).stdout.splitlines()
        if program.endswith("(deleted)"):
            yield f"{name} runs a program that is no longer on disk; restart it"
        since, up, seconds = map(float, times.split())
        started = seconds - (up - since / 1e6)
        for line in changed:
            changed_at, path = line.split(" ", 1)
            if float(changed_at) > started + 2:
                yield f"{path} was changed after {name} had started; restart it"


def kubelet_health(machine: Machine, subject: Subject) -> Iterator[str]:
    """The kubelet says that it is well."""
    config = {"healthzBindAddress": "127.0.0.1", "healthzPort": 10248, **subject.kubelet}
    if config["healthzPort"]:
        yield from answers(machine, f"http://{config['healthzBindAddress']}:{config['healthzPort']}", "/healthz")


def kube_proxy_health(machine: Machine, subject: Subject) -> Iterator[str]:
    """kube-proxy says that it is well."""
    if not subject.cluster.kube_proxy.disabled and "healthzBindAddress" not in subject.cluster.kube_proxy.config:
        yield from answers(machine, "http://127.0.0.1:10256", "/healthz")


def runtime_health(machine: Machine, _: Subject) -> Iterator[str]:
    """containerd answers, and its CRI plug-in is in order."""
    listed = machine.run(f"timeout 30 {CTR} plugins ls")
    if listed.rc:
        yield f"ctr: {said(listed.stderr)}"
        return
    rows = [line.split() for line in listed.stdout.splitlines()]
    states = [row[-1] for row in rows if row[:2] == ["io.containerd.grpc.v1", "cri"]]
    if states != ["ok"]:
        yield f"the CRI plug-in is {', '.join(states) or 'not there'}"


def runtime_configuration(machine: Machine, subject: Subject) -> Iterator[str]:
    """containerd's settings are the inventory's: cgroup driver, sandbox image, CNI folders, registries."""
    shown = machine.run(f"timeout 30 {paths.BINARIES}/containerd config dump")
    if shown.rc:
        yield said(shown.stderr)
        return
    wanted = runtime.config(Site(subject.cluster, (), subject.contents), subject.host)
    del wanted["version"]  # containerd shows all in the newest form that it knows
    yield from unlike(wanted, tomllib.loads(shown.stdout))


# --- programs and images


def kubelet_version(machine: Machine, subject: Subject) -> Iterator[str]:
    """The kubelet on disk is of the cluster's version."""
    version = machine.run(f"{paths.BINARIES}/kubelet --version").stdout.strip()
    if version != f"Kubernetes v{subject.cluster.kubernetes_version}":
        yield f"it is {version or 'not there'}, not v{subject.cluster.kubernetes_version}"


def binaries(machine: Machine, subject: Subject) -> Iterator[str]:
    """Every program is the bundle's, to the last byte, and can be run."""
    wanted = {binary.path: binary.digest for binary in subject.contents.binaries}
    summed = machine.run(f"sha256sum -- {' '.join(['%s'] * len(wanted))}", *wanted).stdout
    sums = {path: digest for digest, _, path in (line.partition("  ") for line in summed.splitlines())}
    for path, digest in wanted.items():
        if path not in sums:
            yield f"{path} is not there"
        elif sums[path] != digest:
            yield f"{path} is not the bundle's"
    yield from modes(machine, dict.fromkeys(sums, "755"))


def images(machine: Machine, subject: Subject) -> Iterator[str]:
    """The images that Pods of the host need are the bundle's, and pinned."""
    rows = [line.split() for line in machine.run(f"timeout 30 {CTR} images ls").stdout.splitlines()]
    held = {row[0]: row for row in rows if len(row) > 2}
    for name in _images(subject):
        image = subject.contents.image(name)
        row = held.get(image.reference, [])
        if image.target not in row:
            yield f"{image.reference} is not there as {image.target}"
        elif "io.cri-containerd.pinned=pinned" not in " ".join(row):
            yield f"{image.reference} is not pinned: kubelets remove it when disk space is short"


def cni_configuration(machine: Machine, _: Subject) -> Iterator[str]:
    """There is a configuration of the Pod network, and every plug-in that it names."""
    configurations = machine.run(f"cat {paths.CNI_CONFIG}/*.conflist").stdout
    if not configurations:
        yield f"no *.conflist in {paths.CNI_CONFIG}"
        return
    decoder = json.JSONDecoder()
    while configurations:
        configuration, end = decoder.raw_decode(configurations)
        configurations = configurations[end:].lstrip()
        for plugin in configuration["plugins"]:
            if machine.run(f"test -x {paths.CNI_BINARIES}/%s", plugin["type"]).rc:
                yield f"{configuration['name']} names {plugin['type']}, which is not in {paths.CNI_BINARIES}"


# --- kernel, clock and disks


def swap(machine: Machine, subject: Subject) -> Iterator[str]:
    """No swap is in use, unless kubelets are told to bear it."""
    used = machine.run("cat /proc/swaps").stdout.splitlines()[1:]
    if used and subject.kubelet.get("failSwapOn", True):
        yield f"in use: {', '.join(line.split()[0] for line in used)}"


def swap_at_boot(machine: Machine, subject: Subject) -> Iterator[str]:
    """No swap is turned on at boot, unless kubelets are told to bear it."""
    if subject.kubelet.get("failSwapOn", True):
        look = (
            r"""awk '$1 !~ /^#/ && $3 == "swap" { print "/etc/fstab: " $1 }' /etc/fstab 2>/dev/null; """
            r"""systemctl list-unit-files --type=swap --no-legend | awk '$2 != "masked" { print $1 }'"""
        )
        yield from machine.run(look).stdout.splitlines()


def sysctls(machine: Machine, _: Subject) -> Iterator[str]:
    """The kernel forwards packets, and shows bridged ones to iptables."""
    for name, wanted in prepare.SYSCTLS.items():
        value = machine.run(f"cat /proc/sys/{name.replace('.', '/')}").stdout.strip()
        if value != wanted:
            yield f"{name} is {value or 'not there'}, not {wanted}"


def sysctls_at_boot(machine: Machine, _: Subject) -> Iterator[str]:
    """The kernel's settings are made again at boot, and no other file undoes them."""
    set_to: dict[str, str] = {}
    for line in machine.run("systemd-analyze cat-config sysctl.d").stdout.splitlines():
        name, separator, value = line.partition("=")
        if separator and not name.lstrip().startswith(("#", ";")):
            set_to[name.strip().lstrip("-").replace("/", ".")] = value.strip()
    for name, wanted in prepare.SYSCTLS.items():
        if set_to.get(name) != wanted:
            yield f"{name} will be {set_to.get(name, 'what the kernel chooses')}, not {wanted}"


def kernel_modules(machine: Machine, _: Subject) -> Iterator[str]:
    """overlay and br_netfilter are there, and are loaded at boot."""
    loaded = machine.run("cat /proc/filesystems").stdout.split()
    if "overlay" not in loaded:
        yield "the kernel has no overlay"
    if machine.run("test -e /proc/sys/net/bridge").rc:
        yield "the kernel has no br_netfilter"
    at_boot = read(machine, prepare.MODULES_FILE).split()
    for module in ("overlay", "br_netfilter"):
        if module not in at_boot:
            yield f"{module} is not in {prepare.MODULES_FILE}"


def clock(machine: Machine, _: Subject) -> Iterator[str]:
    """The machine's clock agrees with the operator's."""
    sent = time.time()
    theirs = float(machine.run("date +%s.%N").stdout)
    for problem in judged("", theirs, sent, time.time()):
        yield problem.what


def disk_space(machine: Machine, subject: Subject) -> Iterator[str]:
    """Disks have room: more than the kubelet's limits for evicting Pods."""
    yield from _room(machine, subject, "df -P -k", {"nodefs.available": 10, "imagefs.available": 15})


def inodes(machine: Machine, subject: Subject) -> Iterator[str]:
    """Disks have inodes: more than the kubelet's limits for evicting Pods."""
    yield from _room(machine, subject, "df -P -i", {"nodefs.inodesFree": 5, "imagefs.inodesFree": 5})


# --- files


def kubelet_files(machine: Machine, subject: Subject) -> Iterator[str]:
    """The files of the kubelet have the modes that kubeadm gives them."""
    wanted = {
        paths.KUBELET_CONFIG: "644",
        paths.KUBELET_FLAGS: "644",
        paths.KUBELET_INSTANCE_CONFIG: "644",
        paths.KUBELET_UNIT: "644",
        paths.KUBELET_DROP_IN: "644",
    }
    of_nodes = {} if subject.host.is_etcd else {paths.KUBELET_CONF: "600", f"{paths.PKI}/ca.crt": "644"}
    yield from modes(machine, wanted | of_nodes)


def runtime_files(machine: Machine, subject: Subject) -> Iterator[str]:
    """The files of containerd and of the kernel's settings can be changed by root alone."""
    of_nodes = () if subject.host.is_etcd else (prepare.MODULES_FILE, prepare.SYSCTL_FILE)
    yield from modes(machine, dict.fromkeys((paths.CONTAINERD_CONFIG, paths.CONTAINERD_UNIT, *of_nodes), "644"))


def manifest_strangers(machine: Machine, subject: Subject) -> Iterator[str]:
    """The folder of static Pods holds ours and nothing else."""
    ours = {f"{component}.yaml" for component in components(subject)}
    if is_proxied(subject):
        ours.add(f"{proxy.NAME}.yaml")
    if has_virtual_address(subject):
        ours.add(f"{vip.NAME}.yaml")
    for name in machine.run(f"ls -A -- {paths.MANIFESTS}").stdout.splitlines():
        if name not in ours:
            yield f"{paths.MANIFESTS}/{name}"


def receipt(machine: Machine, _: Subject) -> Iterator[str]:
    """The receipt is there, by which reset finds what is ours."""
    if machine.run(f"test -s {paths.RECEIPT}").rc:
        yield f"{paths.RECEIPT} is missing or empty"


def bootstrap_kubeconfig(machine: Machine, _: Subject) -> Iterator[str]:
    """The kubeconfig with the bootstrap token is gone from the machine."""
    if machine.run(f"test -e {paths.BOOTSTRAP_KUBELET_CONF}").rc == 0:
        yield f"{paths.BOOTSTRAP_KUBELET_CONF} is still there"


def leftovers(machine: Machine, _: Subject) -> Iterator[str]:
    """No run has left anything half-made."""
    # While a run holds the machine's lock, what it works with is no leftover.
    look = (
        "[ -e /run/kubestrap/lock ] || ls -d /run/kubestrap/run.* /etc/.*.kubestrap "
        f"{paths.BLOBS}/*.part {paths.KUBERNETES}/.kubestrap.* {paths.KUBELET}/.kubestrap.* 2>/dev/null"
    )
    for path in machine.run(look).stdout.splitlines():
        yield f"{path} is of a run that did not end"


# --- certificates and rights of the kubelet


def kubelet_certificate(machine: Machine, subject: Subject) -> Iterator[str]:
    """The kubelet's client certificate is its own, of the cluster's CA, and not about to expire."""
    path = paths.KUBELET_CLIENT_CERT
    pem = read_certificate(machine, path)
    yield from certificate(path, pem, read(machine, f"{paths.PKI}/ca.crt"))
    if pem:
        name = x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string()
        if f"CN=system:node:{subject.host.name}" not in name.split(","):
            yield f"{path} is for {name}"
    yield from modes(machine, {path: "600"})


def kubelet_rotation(machine: Machine, subject: Subject) -> Iterator[str]:
    """The kubelet renews its client certificate by itself, and is not late."""
    config = _kubelet_config(machine)
    if subject.cluster.ca_directory:
        return  # nobody would sign a new one; when the one it has must be issued anew, `kubelet_certificate` tells
    if subject.kubelet.get("rotateCertificates", True) and not config.get("rotateCertificates"):
        yield f"rotateCertificates is not set in {paths.KUBELET_CONFIG}"
    pem = read_certificate(machine, paths.KUBELET_CLIENT_CERT)
    if not pem:
        yield f"{paths.KUBELET_CLIENT_CERT} is not there"
        return
    own = x509.load_pem_x509_certificate(pem.encode())
    begin, end = own.not_valid_before_utc, own.not_valid_after_utc
    if now() > begin + (end - begin) * RENEWED:
        yield f"{paths.KUBELET_CLIENT_CERT} is valid until {end:%Y-%m-%d %H:%M} and was not renewed"


def kubelet_serving_certificate(machine: Machine, subject: Subject) -> Iterator[str]:
    """The certificate that the kubelet serves with is the host's, and not about to expire; its key is root's alone."""
    folder = f"{paths.KUBELET}/pki"
    if subject.kubelet.get("serverTLSBootstrap"):
        path, keys = f"{folder}/kubelet-server-current.pem", {f"{folder}/kubelet-server-current.pem": "600"}
    else:
        path, keys = f"{folder}/kubelet.crt", {f"{folder}/kubelet.key": "600"}
    pem = read_certificate(machine, path)
    if not pem:
        yield f"{path} is not there"
        return
    own = x509.load_pem_x509_certificate(pem.encode())
    yield from valid(path, own)
    if plain(subject.host.name) not in names(own):
        yield f"{path} is not for {subject.host.name}"
    yield from modes(machine, keys)


def kubelet_kubeconfig(machine: Machine, subject: Subject) -> Iterator[str]:
    """The kubelet asks this cluster, by its CA, and with the certificate that it renews."""
    held = kubeconfig(machine, paths.KUBELET_CONF)
    server, endpoint = held.get("server", ""), f"https://{subject.cluster.control_plane_endpoint}"
    # On the control plane it asks its own API server, whose address the inventory need not name.
    own = subject.host.is_control_plane and server.endswith(f":{subject.cluster.bind_port}")
    if server != endpoint and not own:
        yield f"it asks {server or 'nobody'}, not {endpoint}"
    if decoded(held.get("certificate-authority-data", "")).strip() != read(machine, f"{paths.PKI}/ca.crt").strip():
        yield "its CA is not the cluster's"
    if held.get("client-certificate") != paths.KUBELET_CLIENT_CERT:
        yield f"its certificate is not {paths.KUBELET_CLIENT_CERT}, which the kubelet renews"


def kubelet_access(machine: Machine, subject: Subject) -> Iterator[str]:
    """The kubelet shows Pods to nobody without credentials."""
    if subject.kubelet.get("port", 10250):
        yield from refuses(machine, f"https://127.0.0.1:{subject.kubelet.get('port', 10250)}", "/pods")


# --- names, addresses and ports


def endpoint_name(machine: Machine, subject: Subject) -> Iterator[str]:
    """The API server's name can be resolved, and it answers there with the cluster's certificate."""
    name = subject.cluster.endpoint_name
    if machine.run("getent ahosts %s", name).rc:
        yield f"{name} cannot be resolved"
        return
    yield from _api_answers(machine, f"https://{subject.cluster.control_plane_endpoint}")


def endpoint_entry(machine: Machine, subject: Subject) -> Iterator[str]:
    """/etc/hosts names one address for the API server's name, and no stale one."""
    name = subject.cluster.endpoint_name
    rows = [line.partition("#")[0].split() for line in read(machine, "/etc/hosts").splitlines()]
    found = {plain(row[0]) for row in rows if name in row[1:]}
    if subject.host.is_control_plane:
        wanted = str(subject.host.node_address or "")
    elif is_proxied(subject):
        wanted = proxy.ADDRESS
    else:
        first = subject.inventory.control_plane[0]
        wanted = subject.cluster.virtual_address or str(first.node_address or "")
    if subject.cluster.endpoint.kind != "external" and not found:
        yield f"{name} is not in it"
    if len(found) > 1:
        yield f"{name} is in it with {', '.join(sorted(found))}"
    # Where another load balancer is, an inventory does not say.
    if subject.cluster.endpoint.kind != "external" and found and wanted and found != {wanted}:
        yield f"{name} is {', '.join(sorted(found))} there, not {wanted}"


def local_proxy(machine: Machine, subject: Subject) -> Iterator[str]:
    """The machine's proxy runs where it needs one, and knows every control-plane host."""
    if not is_proxied(subject):
        return
    lines = [line.split() for line in read(machine, proxy.CONFIG).splitlines()]
    known = {line[1]: line[2] for line in lines if line[:1] == ["server"] and len(line) > 2}
    masters = {host.name: host.node_address for host in subject.inventory.control_plane}
    mend = f"run `kubestrap {'init' if subject.host.is_control_plane else 'join'}`"
    if missing := [name for name in masters if name not in known]:
        yield f"{proxy.CONFIG} lacks {', '.join(missing)}: {mend}"
    if surplus := [name for name in known if name not in masters]:
        yield f"{proxy.CONFIG} names {', '.join(surplus)}, of which there is none: {mend}"
    for name, address in masters.items():
        if address and name in known and known[name] != f"{address}:{subject.cluster.bind_port}":
            yield f"{proxy.CONFIG} has {known[name]} for {name}, whose address is {address}: {mend}"
    if not running(machine, proxy.NAME):
        yield f"no container of {proxy.NAME} runs"
    if machine.run(proxy.IS_READ).rc:
        yield f"{proxy.NAME} has not read {proxy.CONFIG} since it was changed: {mend}"


def resolver(machine: Machine, _: Subject) -> Iterator[str]:
    """The name servers that Pods and CoreDNS are given can be asked from Pods."""
    path = _kubelet_config(machine).get("resolvConf") or "/etc/resolv.conf"
    rows = [line.split() for line in read(machine, path).splitlines()]
    for row in rows:
        if row[:1] == ["nameserver"] and ipaddress.ip_address(row[1].partition("%")[0]).is_loopback:
            yield f"{path} names {row[1]}, which is the Pod itself when a Pod asks: CoreDNS would ask itself for ever"


def api_service(machine: Machine, subject: Subject) -> Iterator[str]:
    """The API server is reached from the machine by its Service address."""
    if not subject.cluster.kube_proxy.disabled:
        address = subject.cluster.networking.service_address(1)
        yield from _api_answers(machine, f"https://[{address}]:443" if ":" in address else f"https://{address}:443")


def ports(machine: Machine, subject: Subject) -> Iterator[str]:
    """Somebody listens where the components of the host should."""
    listening = listeners(machine)
    for port in _ports(subject):
        if port not in listening:
            yield f"nobody listens on TCP port {port}"


def port_owners(machine: Machine, subject: Subject) -> Iterator[str]:
    """Nobody but the components of the host listens on their ports."""
    listening = listeners(machine)
    for port, program in _ports(subject).items():
        for other in sorted(listening.get(port, set()) - {program[:15]}):
            yield f"TCP port {port} is {other or 'a process out of sight'}'s, not {program}'s"


def pod_network(machine: Machine, subject: Subject) -> Iterator[str]:
    """flannel has given the machine a part of the cluster's Pod network."""
    if subject.cluster.addons.cni != "flannel":
        return
    path, whole = "/run/flannel/subnet.env", subject.cluster.networking.pod_subnet
    settings = dict(line.split("=", 1) for line in read(machine, path).splitlines() if "=" in line)
    own = settings.get("FLANNEL_SUBNET") or settings.get("FLANNEL_IPV6_SUBNET")
    if not own:
        yield f"{path} names no part"
    elif ipaddress.ip_interface(own).ip not in whole:
        yield f"{path} names {own}, which is outside of {whole}"


# --- what these are made of


def _service(machine: Machine, name: str) -> Iterator[str]:
    state = unit(machine, name)
    if state.get("ActiveState") != "active":
        yield f"{name} does not run: it is {state.get('ActiveState', 'not there')}"
    if state.get("UnitFileState") != "enabled":
        yield f"{name} is not started at boot"


def _images(subject: Subject) -> Iterator[str]:
    yield "pause"
    if is_proxied(subject):
        yield "haproxy"
    if has_virtual_address(subject):
        yield "keepalived"
    yield from components(subject)
    if subject.host.is_etcd:
        return
    if not subject.cluster.kube_proxy.disabled:
        yield "kube-proxy"
    if not subject.cluster.addons.coredns.disabled:
        yield "coredns"
    if subject.cluster.addons.cni == "flannel":
        yield "flannel"
    yield "agnhost"


def _kubelet_config(machine: Machine) -> Mapping[str, Any]:
    config = yaml.safe_load(read(machine, paths.KUBELET_CONFIG))
    return config if isinstance(config, dict) else {}


def _api_answers(machine: Machine, server: str) -> Iterator[str]:
    options = f"--kubeconfig {paths.KUBELET_CONF} --request-timeout 10s"
    asked = machine.run(f"{KUBECTL} {options} --server %s get --raw /version", server)
    if asked.rc:
        yield f"{server}: {said(asked.stderr)}"


def _ports(subject: Subject) -> Mapping[int, str]:
    """Give the TCP ports on which components of the host listen, as far as nothing else was chosen for them."""
    cluster = subject.cluster
    wanted = {} if subject.host.is_etcd else {int(subject.kubelet.get("port", 10250)): "kubelet"}
    if subject.kubelet.get("healthzPort", 10248):
        wanted[int(subject.kubelet.get("healthzPort", 10248))] = "kubelet"
    is_node = not subject.host.is_etcd
    if is_node and not cluster.kube_proxy.disabled and "healthzBindAddress" not in cluster.kube_proxy.config:
        wanted[10256] = "kube-proxy"
    if is_proxied(subject):
        wanted[cluster.endpoint.port] = "haproxy"
    if has_virtual_address(subject):
        wanted[int(proxy.HEALTH.rpartition(":")[2])] = "haproxy"
    if subject.host.is_control_plane:
        wanted |= {
            cluster.bind_port: "kube-apiserver",
            subject.probes(CONTROLLER_MANAGER).port: CONTROLLER_MANAGER,
            subject.probes(SCHEDULER).port: SCHEDULER,
        }
    if subject.host in subject.inventory.etcd_members:
        wanted |= dict.fromkeys((2379, 2380, subject.probes(ETCD).port), ETCD)
    return {port: wanted[port] for port in sorted(wanted)}


def _room(machine: Machine, subject: Subject, command: str, kept: Mapping[str, int]) -> Iterator[str]:
    """Tell which file systems have less left than is to be kept, in percent by the kubelet's name for each."""
    given = subject.kubelet.get("evictionHard") or {}
    of_nodes, of_images = (_percent(given.get(signal), default) for signal, default in kept.items())
    places = dict.fromkeys(("/", "/var/log", paths.KUBELET, paths.STATE), of_nodes) | {"/var/lib/containerd": of_images}
    if subject.host in subject.inventory.etcd_members:
        places[subject.cluster.etcd.local.data_dir] = of_nodes
    told = set()
    # One call for each: what df shows of a path is its file system.
    look = f'for place in {" ".join(places)}; do echo "$({command} -- $place | tail -n 1)"; done'
    for (place, percent), row in zip(places.items(), machine.run(look).stdout.splitlines(), strict=True):
        if not row:
            yield f"{place} is not there"
            continue
        source, total, _, left, _, mount = row.split(None, 5)
        if total.isdigit() and int(total) and int(left) * 100 < int(total) * percent and mount not in told:
            told.add(mount)
            yield f"{mount} ({source}), which holds {place}: {int(left) * 100 // int(total)} % left, under {percent} %"


def _percent(given: object, default: int) -> int:
    text = str(given or "").strip()
    return int(float(text[:-1])) if text.endswith("%") else default
