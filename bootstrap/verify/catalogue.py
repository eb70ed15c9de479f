"""The catalogue of checks: each a small function over a testinfra `Host`, which tells what is not as it should be.

Nothing here changes a machine or the cluster. A function's docstring is the check's text, its name the check's id.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from bootstrap import paths
from bootstrap.joining import RUN_DESCRIPTION
from bootstrap.phases.local_proxy import CONFIG, NAME
from bootstrap.verify.subject import Check, Machine, On, Subject

KUBECTL = f"{paths.BINARIES}/kubectl"
CTR = f"{paths.BINARIES}/ctr --namespace k8s.io"
NOTICE = datetime.timedelta(days=30)
"""How long a certificate must still be valid, or a third of its whole life where that is less."""


# --- every machine


def containerd_service(machine: Machine, _: Subject) -> Iterator[str]:
    """containerd runs, and is started at boot."""
    yield from _service(machine, "containerd")


def kubelet_service(machine: Machine, _: Subject) -> Iterator[str]:
    """The kubelet runs, and is started at boot."""
    yield from _service(machine, "kubelet")


def kubelet_health(machine: Machine, subject: Subject) -> Iterator[str]:
    """The kubelet says that it is well."""
    config = {"healthzBindAddress": "127.0.0.1", "healthzPort": 10248, **subject.kubelet}
    if config["healthzPort"]:
        yield from _answers(machine, f"http://{config['healthzBindAddress']}:{config['healthzPort']}", "/healthz")


def runtime_health(machine: Machine, _: Subject) -> Iterator[str]:
    """containerd answers, and its CRI plug-in is in order."""
    listed = machine.run(f"timeout 30 {CTR} plugins ls")
    if listed.rc:
        yield f"ctr: {_said(listed.stderr)}"
        return
    rows = [line.split() for line in listed.stdout.splitlines()]
    states = [row[-1] for row in rows if row[:2] == ["io.containerd.grpc.v1", "cri"]]
    if states != ["ok"]:
        yield f"the CRI plug-in is {', '.join(states) or 'not there'}"


def kubelet_version(machine: Machine, subject: Subject) -> Iterator[str]:
    """The kubelet is of the cluster's version."""
    said = machine.run(f"{paths.BINARIES}/kubelet --version").stdout.strip()
    if said != f"Kubernetes v{subject.cluster.kubernetes_version}":
        yield f"it is {said or 'not there'}, not v{subject.cluster.kubernetes_version}"


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
    yield from _modes(machine, dict.fromkeys(sums, "755"))


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


def swap(machine: Machine, subject: Subject) -> Iterator[str]:
    """No swap is in use, unless kubelets are told to bear it."""
    used = machine.run("cat /proc/swaps").stdout.splitlines()[1:]
    if used and subject.kubelet.get("failSwapOn", True):
        yield f"in use: {', '.join(line.split()[0] for line in used)}"


def sysctls(machine: Machine, _: Subject) -> Iterator[str]:
    """The kernel forwards packets, and shows bridged ones to iptables."""
    for name in ("net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"):
        value = machine.run(f"cat /proc/sys/{name.replace('.', '/')}").stdout.strip()
        if value != "1":
            yield f"{name} is {value or 'not there'}, not 1"


def kubelet_files(machine: Machine, _: Subject) -> Iterator[str]:
    """The files of the kubelet have the modes that kubeadm gives them."""
    yield from _modes(
        machine,
        {
            paths.KUBELET_CONF: "600",
            paths.KUBELET_CONFIG: "644",
            paths.KUBELET_FLAGS: "644",
            paths.KUBELET_INSTANCE_CONFIG: "644",
            paths.KUBELET_UNIT: "644",
            paths.KUBELET_DROP_IN: "644",
            f"{paths.PKI}/ca.crt": "644",
        },
    )


def kubelet_certificate(machine: Machine, subject: Subject) -> Iterator[str]:
    """The kubelet's client certificate is its own, of the cluster's CA, and not about to expire."""
    pem = machine.run(f"sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p' {paths.KUBELET_CLIENT_CERT}").stdout
    yield from _certificate(paths.KUBELET_CLIENT_CERT, pem, _read(machine, f"{paths.PKI}/ca.crt"))
    if pem:
        name = x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string()
        if f"CN=system:node:{subject.host.name}" not in name.split(","):
            yield f"{paths.KUBELET_CLIENT_CERT} is for {name}"
    yield from _modes(machine, {paths.KUBELET_CLIENT_CERT: "600"})


def bootstrap_kubeconfig(machine: Machine, _: Subject) -> Iterator[str]:
    """The kubeconfig with the bootstrap token is gone from the machine."""
    if machine.run(f"test -e {paths.BOOTSTRAP_KUBELET_CONF}").rc == 0:
        yield f"{paths.BOOTSTRAP_KUBELET_CONF} is still there"


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


def endpoint_name(machine: Machine, subject: Subject) -> Iterator[str]:
    """The API server's name can be resolved, and it answers there with the cluster's certificate."""
    name = subject.cluster.endpoint_name
    if machine.run("getent ahosts %s", name).rc:
        yield f"{name} cannot be resolved"
        return
    server = f"https://{subject.cluster.control_plane_endpoint}"
    asked = machine.run(
        f"{KUBECTL} --kubeconfig {paths.KUBELET_CONF} --server %s --request-timeout 10s get --raw /version", server
    )
    if asked.rc:
        yield f"{server}: {_said(asked.stderr)}"


def ports(machine: Machine, subject: Subject) -> Iterator[str]:
    """Somebody listens where the components of the host should."""
    wanted = [10250]
    if _is_proxied(subject):
        wanted.append(subject.cluster.endpoint.port)
    if subject.host.is_control_plane:
        wanted += [subject.cluster.bind_port, 10257, 10259]
        if not subject.cluster.etcd.external:
            wanted += [2379, 2380]
    rows = [line.split() for line in machine.run("cat /proc/net/tcp /proc/net/tcp6").stdout.splitlines()]
    listening = {int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 3 and row[3] == "0A"}
    for port in sorted(set(wanted) - listening):
        yield f"nobody listens on TCP port {port}"


def local_proxy(machine: Machine, subject: Subject) -> Iterator[str]:
    """The worker's proxy runs where it needs one, and knows every control-plane host."""
    if not _is_proxied(subject):
        return
    lines = [line.split() for line in _read(machine, CONFIG).splitlines()]
    known = {line[1]: line[2] for line in lines if line[:1] == ["server"] and len(line) > 2}
    masters = {host.name: host.node_address for host in subject.inventory.hosts if host.is_control_plane}
    if missing := [name for name in masters if name not in known]:
        yield f"{CONFIG} lacks {', '.join(missing)}: run `kubestrap join`"
    if surplus := [name for name in known if name not in masters]:
        yield f"{CONFIG} names {', '.join(surplus)}, of which there is none: run `kubestrap join`"
    for name, address in masters.items():
        if address and name in known and known[name] != f"{address}:{subject.cluster.endpoint.port}":
            yield f"{CONFIG} has {known[name]} for {name}, whose address is {address}: run `kubestrap join`"
    if not _runs(machine, NAME):
        yield f"no container of {NAME} runs"


def receipt(machine: Machine, _: Subject) -> Iterator[str]:
    """The receipt is there, by which reset finds what is ours."""
    if machine.run(f"test -s {paths.RECEIPT}").rc:
        yield f"{paths.RECEIPT} is missing or empty"


# --- the control plane


_SIGNED = {
    "apiserver": "ca",
    "apiserver-kubelet-client": "ca",
    "front-proxy-client": "front-proxy-ca",
    "etcd/server": "etcd/ca",
    "etcd/peer": "etcd/ca",
    "etcd/healthcheck-client": "etcd/ca",
    "apiserver-etcd-client": "etcd/ca",
}


def certificates(machine: Machine, subject: Subject) -> Iterator[str]:
    """Every certificate is signed by its CA, and not about to expire; the API server's has its names."""
    for name, ca in _own_certificates(subject).items():
        path = f"{paths.PKI}/{name}.crt"
        yield from _certificate(path, _read(machine, path), _read(machine, f"{paths.PKI}/{ca}.crt"))
    for ca in sorted(set(_own_certificates(subject).values())):
        path = f"{paths.PKI}/{ca}.crt"
        pem = _read(machine, path)
        yield from _certificate(path, pem, pem)
    pem = _read(machine, f"{paths.PKI}/apiserver.crt")
    if pem:
        yield from _api_names(pem, subject)


def pki_files(machine: Machine, subject: Subject) -> Iterator[str]:
    """The files of the PKI have the modes that kubeadm gives them; no key can be read by others."""
    own = _own_certificates(subject)
    modes = {f"{paths.PKI}/{name}.crt": "644" for name in (*own, *own.values())}
    modes |= {f"{paths.PKI}/{name}.key": "600" for name in (*own, "sa")} | {f"{paths.PKI}/sa.pub": "600"}
    modes |= {paths.PKI: "755"} | ({} if subject.cluster.etcd.external else {f"{paths.PKI}/etcd": "755"})
    yield from _modes(machine, modes)
    # The key of a CA may be kept elsewhere; where it is here, nobody else reads it.
    keys = machine.run(f"stat -c '%a %n' -- {paths.PKI}/*.key {paths.PKI}/etcd/*.key").stdout.splitlines()
    for mode, _, path in (line.partition(" ") for line in keys):
        if path not in modes and mode != "600":
            yield f"{path} has mode {mode}, not 600"


def kubeconfig_files(machine: Machine, _: Subject) -> Iterator[str]:
    """The kubeconfigs of the control plane are root's alone, and their certificates good."""
    ca = _read(machine, f"{paths.PKI}/ca.crt")
    whole = (paths.ADMIN_CONF, paths.CONTROLLER_MANAGER_CONF, paths.SCHEDULER_CONF)
    yield from _modes(machine, dict.fromkeys(whole, "600"))
    for path in whole:
        # Only the certificate leaves the machine, not the key beside it.
        data = machine.run(f"sed -n 's/^ *client-certificate-data: *//p' {path}").stdout.strip()
        yield from _certificate(path, b64decode(data).decode() if data else "", ca)


def manifests(machine: Machine, subject: Subject) -> Iterator[str]:
    """The manifests of the control plane are there, for root alone."""
    modes = {f"{paths.MANIFESTS}/{component}.yaml": "600" for component in _components(subject)}
    yield from _modes(machine, {paths.MANIFESTS: "700", **modes})


def static_pods(machine: Machine, subject: Subject) -> Iterator[str]:
    """The container of every control-plane component runs."""
    for component in _components(subject):
        if not _runs(machine, component):
            yield f"no container of {component} runs"


def etcd_data(machine: Machine, subject: Subject) -> Iterator[str]:
    """etcd's data are root's alone."""
    if not subject.cluster.etcd.external:
        yield from _modes(machine, {subject.cluster.etcd.local.data_dir: "700"})


def etcd_health(machine: Machine, subject: Subject) -> Iterator[str]:
    """The etcd member says that it is ready."""
    if not subject.cluster.etcd.external:
        yield from _answers(machine, "http://127.0.0.1:2381", "/readyz")


def api_server_health(machine: Machine, _: Subject) -> Iterator[str]:
    """The API server says that it is ready."""
    asked = machine.run(f"{KUBECTL} --kubeconfig {paths.ADMIN_CONF} --request-timeout 10s get --raw /readyz?verbose")
    if asked.rc:
        yield _said(asked.stderr)


def controller_manager_health(machine: Machine, _: Subject) -> Iterator[str]:
    """The controller-manager says that it is well."""
    yield from _answers(machine, "https://127.0.0.1:10257", "/healthz")


def scheduler_health(machine: Machine, _: Subject) -> Iterator[str]:
    """The scheduler says that it is well."""
    yield from _answers(machine, "https://127.0.0.1:10259", "/livez")


# --- the cluster


def nodes(machine: Machine, subject: Subject) -> Iterator[str]:
    """Every host of the inventory is a Ready Node of the right version, with its labels and taints."""
    held = {node["metadata"]["name"]: node for node in _get(machine, "nodes")["items"]}
    for host in subject.inventory.hosts:
        if host.name not in held:
            yield f"{host.name} is no Node"
            continue
        node = held[host.name]
        conditions = {condition["type"]: condition for condition in node["status"]["conditions"]}
        ready = conditions.get("Ready", {})
        if ready.get("status") != "True":
            yield f"{host.name} is not Ready: {ready.get('message', 'no word of its kubelet')}"
        version = node["status"]["nodeInfo"]["kubeletVersion"]
        if version != f"v{subject.cluster.kubernetes_version}":
            yield f"{host.name} runs {version}"
        labels = dict(host.labels)
        if host.is_control_plane:
            labels["node-role.kubernetes.io/control-plane"] = ""
        for key, value in labels.items():
            if node["metadata"]["labels"].get(key) != value:
                yield f"{host.name} lacks the label {key}={value}"
        taints = {(taint["key"], taint["effect"]) for taint in node["spec"].get("taints", [])}
        for taint in host.registration_taints:
            if (taint.key, taint.effect) not in taints:
                yield f"{host.name} lacks the taint {taint}"


def system_pods(machine: Machine, _: Subject) -> Iterator[str]:
    """Every Pod of the system's namespaces is ready."""
    for namespace in ("kube-system", "kube-flannel"):
        for pod in _get(machine, "pods", namespace)["items"]:
            status = pod["status"]
            ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", []))
            if not ready and status.get("phase") != "Succeeded":
                reasons = [
                    state["waiting"].get("reason", "waiting")
                    for state in (each.get("state", {}) for each in status.get("containerStatuses", []))
                    if "waiting" in state
                ]
                yield f"{namespace}/{pod['metadata']['name']}: {', '.join(reasons) or status.get('phase', 'unknown')}"


def coredns(machine: Machine, subject: Subject) -> Iterator[str]:
    """CoreDNS is rolled out, and its Service has the address that Pods are told."""
    addon = subject.cluster.addons.coredns
    if addon.disabled:
        return
    status = _get(machine, "deployments/coredns", "kube-system").get("status", {})
    for count in ("availableReplicas", "updatedReplicas"):
        if status.get(count, 0) < addon.replicas:
            yield f"{status.get(count, 0)} {count} of {addon.replicas}"
    address = _get(machine, "services/kube-dns", "kube-system")["spec"]["clusterIP"]
    if address != subject.cluster.networking.service_address(10):
        yield f"kube-dns has the address {address}"


def kube_proxy(machine: Machine, subject: Subject) -> Iterator[str]:
    """kube-proxy is rolled out on every Node."""
    if not subject.cluster.kube_proxy.disabled:
        yield from _on_every_node(machine, "kube-system", "kube-proxy")


def flannel(machine: Machine, subject: Subject) -> Iterator[str]:
    """flannel is rolled out on every Node."""
    if subject.cluster.addons.cni == "flannel":
        yield from _on_every_node(machine, "kube-flannel", "kube-flannel-ds")


def bootstrap_tokens(machine: Machine, _: Subject) -> Iterator[str]:
    """No token that was made for a run is left over."""
    secrets = _get(machine, "secrets?fieldSelector=type=bootstrap.kubernetes.io/token", "kube-system")["items"]
    for secret in secrets:
        description = b64decode(secret.get("data", {}).get("description", "")).decode(errors="replace")
        if description == RUN_DESCRIPTION:
            yield f"Secret {secret['metadata']['name']}: delete it with `kubestrap token delete`"


def cluster_info(machine: Machine, subject: Subject) -> Iterator[str]:
    """What joining machines are told names the endpoint and the CA of this cluster."""
    data = _get(machine, "configmaps/cluster-info", "kube-public")["data"]
    cluster = yaml.safe_load(data["kubeconfig"])["clusters"][0]["cluster"]
    if cluster["server"] != f"https://{subject.cluster.control_plane_endpoint}":
        yield f"it names {cluster['server']}"
    if (
        b64decode(cluster["certificate-authority-data"]).decode().strip()
        != _read(machine, f"{paths.PKI}/ca.crt").strip()
    ):
        yield "its CA is not the cluster's"


def kubeadm_config(machine: Machine, subject: Subject) -> Iterator[str]:
    """The configuration for kubeadm and kubelets is in the cluster, and of its version."""
    data = _get(machine, "configmaps/kubeadm-config", "kube-system")["data"]
    version = yaml.safe_load(data["ClusterConfiguration"])["kubernetesVersion"]
    if version != f"v{subject.cluster.kubernetes_version}":
        yield f"kubeadm-config says {version}"
    if "kubelet" not in _get(machine, "configmaps/kubelet-config", "kube-system")["data"]:
        yield "kubelet-config has no key kubelet"


# --- what checks are made of


def _service(machine: Machine, name: str) -> Iterator[str]:
    service = machine.service(name)
    if not service.is_running:
        yield f"{name} does not run"
    if not service.is_enabled:
        yield f"{name} is not started at boot"


def _runs(machine: Machine, component: str) -> bool:
    tasks = machine.run(f"timeout 30 {CTR} tasks ls").stdout.splitlines()
    running = {row[0] for row in (line.split() for line in tasks) if row[-1:] == ["RUNNING"]}
    labels = f'labels."io.kubernetes.pod.namespace"==kube-system,labels."io.kubernetes.container.name"=={component}'
    return bool(running & set(machine.run(f"timeout 30 {CTR} containers ls --quiet %s", labels).stdout.split()))


def _is_proxied(subject: Subject) -> bool:
    several = sum(host.is_control_plane for host in subject.inventory.hosts) > 1
    return several and not subject.host.is_control_plane and subject.cluster.endpoint.kind == "local-proxy"


def _answers(machine: Machine, server: str, path: str) -> Iterator[str]:
    # kubectl, as it is there while curl may not be; without credentials it would ask for a user where TLS is spoken.
    # Who answers on a loopback address is not checked (as with kubeadm): nobody signed those certificates.
    who = paths.ADMIN_CONF if server.startswith("https:") else "/dev/null"
    options = f"--kubeconfig {who} --insecure-skip-tls-verify --request-timeout 10s"
    asked = machine.run(f"timeout 20 {KUBECTL} {options} --server {server} get --raw {path}")
    if asked.rc:
        yield f"{server}{path}: {_said(asked.stderr)}"


def _said(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no answer"


def _read(machine: Machine, path: str) -> str:
    return machine.run("cat -- %s", path).stdout


def _modes(machine: Machine, wanted: Mapping[str, str]) -> Iterator[str]:
    """Tell which of the paths (or what links point to) are missing, of others, or of another mode."""
    places = " ".join(["%s"] * len(wanted))
    seen = machine.run(f"stat -L -c '%%a %%U %%n' -- {places}", *wanted).stdout.splitlines()
    held = {path: (mode, owner) for mode, owner, path in (line.split(" ", 2) for line in seen)}
    for path, mode in wanted.items():
        if path not in held:
            yield f"{path} is not there"
        elif held[path] != (mode, "root"):
            yield f"{path} has mode {held[path][0]} and is {held[path][1]}'s, not {mode} and root's"


def _certificate(path: str, pem: str, ca_pem: str) -> Iterator[str]:
    if not pem or not ca_pem:
        yield f"{path} or its CA is not there"
        return
    certificate, ca = (x509.load_pem_x509_certificate(text.encode()) for text in (pem, ca_pem))
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError):
        yield f"{path} is not signed by its CA ({ca.subject.rfc4514_string()})"
    end, begin = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    now = datetime.datetime.now(datetime.UTC)
    if now > end:
        yield f"{path} expired on {end:%Y-%m-%d}"
    elif end - now < min(NOTICE, (end - begin) / 3):
        yield f"{path} expires on {end:%Y-%m-%d}"


def _api_names(pem: str, subject: Subject) -> Iterator[str]:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    held = {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
    wanted = [subject.host.name, subject.cluster.endpoint_name, subject.cluster.networking.service_address(1)]
    wanted += [str(subject.host.node_address)] if subject.host.node_address else []
    for name in wanted:
        if _plain(name) not in held:
            yield f"{paths.PKI}/apiserver.crt is not for {name}"


def _plain(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


def _own_certificates(subject: Subject) -> Mapping[str, str]:
    if not subject.cluster.etcd.external:
        return _SIGNED
    return {name: ca for name, ca in _SIGNED.items() if ca != "etcd/ca"}


def _components(subject: Subject) -> Sequence[str]:
    etcd = () if subject.cluster.etcd.external else ("etcd",)
    return (*etcd, "kube-apiserver", "kube-controller-manager", "kube-scheduler")


def _images(subject: Subject) -> Iterator[str]:
    yield "pause"
    if _is_proxied(subject):
        yield "haproxy"
    if subject.host.is_control_plane:
        yield from _components(subject)
    if not subject.cluster.kube_proxy.disabled:
        yield "kube-proxy"
    if not subject.cluster.addons.coredns.disabled:
        yield "coredns"
    if subject.cluster.addons.cni == "flannel":
        yield "flannel"
    yield "agnhost"


def _get(machine: Machine, path: str, namespace: str = "") -> Any:
    """Read from the API, without leaving kubectl's cache behind. Raises `ValueError` with its words on failure."""
    api = "/apis/apps/v1" if path.startswith(("deployments", "daemonsets")) else "/api/v1"
    where = f"{api}/namespaces/{namespace}/{path}" if namespace else f"{api}/{path}"
    asked = machine.run(f"{KUBECTL} --kubeconfig {paths.ADMIN_CONF} --request-timeout 20s get --raw %s", where)
    if asked.rc:
        raise ValueError(_said(asked.stderr))
    return json.loads(asked.stdout)


def _on_every_node(machine: Machine, namespace: str, name: str) -> Iterator[str]:
    status = _get(machine, f"daemonsets/{name}", namespace).get("status", {})
    count = len(_get(machine, "nodes")["items"])
    for kind in ("desiredNumberScheduled", "updatedNumberScheduled", "numberReady"):
        if status.get(kind, 0) != count:
            yield f"{kind} is {status.get(kind, 0)} of {count} Nodes"


def _checks(on: On, *functions: Callable[[Machine, Subject], Iterator[str]]) -> tuple[Check, ...]:
    return tuple(
        Check(
            function.__name__.replace("_", "-"),
            on,
            (function.__doc__ or "").strip().partition("\n")[0].removesuffix("."),
            function,
        )
        for function in functions
    )


CATALOGUE = (
    *_checks(
        "all",
        containerd_service,
        kubelet_service,
        kubelet_health,
        runtime_health,
        kubelet_version,
        binaries,
        images,
        swap,
        sysctls,
        kubelet_files,
        kubelet_certificate,
        bootstrap_kubeconfig,
        cni_configuration,
        endpoint_name,
        ports,
        receipt,
    ),
    *_checks("worker", local_proxy),
    *_checks(
        "control-plane",
        certificates,
        pki_files,
        kubeconfig_files,
        manifests,
        static_pods,
        etcd_data,
        etcd_health,
        api_server_health,
        controller_manager_health,
        scheduler_health,
    ),
    *_checks(
        "cluster",
        nodes,
        system_pods,
        coredns,
        kube_proxy,
        flannel,
        bootstrap_tokens,
        cluster_info,
        kubeadm_config,
    ),
)
"""Every check, in the order they are made."""
